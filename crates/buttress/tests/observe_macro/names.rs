use std::sync::LazyLock;

use buttress::observe;
use buttress::trace::SpanKind;

use crate::{TELEMETRY, last, spans};

#[observe]
fn by_its_path() -> usize {
    7
}

struct Gateway;

impl Gateway {
    #[observe]
    fn r#match(&self) {}
}

#[test]
fn the_name_is_the_end_of_the_path_unless_it_is_given() {
    LazyLock::force(&TELEMETRY);
    assert_eq!(by_its_path(), 7);
    assert_eq!(last("names::by_its_path").kind, SpanKind::Internal);
    Gateway.r#match();
    assert_eq!(spans("names::match").len(), 1);
}
