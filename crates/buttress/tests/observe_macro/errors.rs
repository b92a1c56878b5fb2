use std::sync::LazyLock;

use buttress::observe;

use crate::{TELEMETRY, last, told};

type Fallible = std::result::Result<u8, fmt::NotDisplayed>;

mod fmt {
    #[derive(Debug)]
    pub(super) struct NotDisplayed;
}

#[observe(name = "error.alias")]
fn by_an_alias() -> Fallible {
    Err(fmt::NotDisplayed)
}

#[derive(Debug)]
enum Charge<'a> {
    Declined(&'a str),
    Late,
}

fn name(error: &Charge<'_>) -> &'static str {
    match error {
        Charge::Declined("") => "silent",
        Charge::Declined(_) => "declined",
        Charge::Late => "timeout",
    }
}

#[observe(name = "error.named", error_type = name)]
fn named(why: &str) -> Result<(), Charge<'_>> {
    Err(if why.is_empty() { Charge::Late } else { Charge::Declined(why) })
}

#[observe(name = "error.none")]
fn no_result() -> Option<Result<(), ()>> {
    Some(Err(()))
}

#[test]
fn errors_are_known_by_type_and_named_by_whom_they_are_given_to() {
    LazyLock::force(&TELEMETRY);
    by_an_alias().unwrap_err();
    assert!(told(&last("error.alias"), "error.type").ends_with("NotDisplayed"));
    named("no money").unwrap_err();
    assert_eq!(told(&last("error.named"), "error.type"), "declined");
    named("").unwrap_err();
    assert_eq!(last("error.named").outcome.as_str(), "timeout");
    no_result();
    assert_eq!(last("error.none").outcome.as_str(), "ok");
}
