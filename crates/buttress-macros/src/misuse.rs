//! What is said of each misuse, and where it points. That they do not compile is proved by `buttress`, which has them as doctests.

use proc_macro2::TokenStream;

use crate::expand::expand;

/// The message, and what it points at.
fn said(args: &str, item: &str) -> (String, String) {
    let tokens = |text: &str| text.parse::<TokenStream>().expect("it is made of tokens");
    let error = expand(tokens(args), tokens(item)).expect_err("it is a misuse");
    (error.to_string(), error.span().source_text().unwrap_or_default())
}

#[track_caller]
fn refuses(args: &str, item: &str, message: &str, culprit: &str) {
    let (said, at) = said(args, item);
    assert!(said.contains(message), "said: {said}");
    assert_eq!(at, culprit, "{said}");
}

#[track_caller]
fn refuses_args(args: &str, message: &str, culprit: &str) {
    refuses(args, "fn charge(cents: u64, (a, b): (u8, u8)) {}", message, culprit);
}

#[test]
fn only_functions_with_a_body_that_run_in_the_program_are_observed() {
    refuses("", "pub struct Order;", "stands on a function", "struct");
    refuses("", "impl Order { fn new() {} }", "stands on a function", "impl");
    refuses("", "const LIMIT: u8 = 1;", "stands on a function", "const");
    refuses("", "fn charge(&self);", "without a body", "charge");
    refuses("", "const fn charge() {}", "may run in the compiler", "const");
    refuses("", "extern \"C\" fn charge() {}", "Rust function", "extern");
}

#[test]
fn a_key_that_is_not_there_is_told_with_what_to_do() {
    refuses_args("nmae = \"x\"", "unknown key `nmae`; the keys are name, fields", "nmae");
    refuses_args("skip(cents)", "not needed: no argument is recorded", "skip");
    refuses_args("skip_all", "not needed: no argument is recorded", "skip_all");
    refuses_args("err", "is told anyway", "err");
    refuses_args("ret", "not recorded", "ret");
    refuses_args("level = \"info\"", "a key of `tracing`", "level");
    refuses_args("\"charge\"", "expected one of name, fields", "\"charge\"");
}

#[test]
fn a_key_stands_once_and_has_its_kind_of_value() {
    refuses_args("event, event", "`event` is there twice", "event");
    refuses_args("name = \"a\", slow = \"1s\", name = \"b\"", "`name` is there twice", "name");
    refuses_args("name", "needs a value: `name = \"charge\"`", "name");
    refuses_args("name = charge", "`name` is a text", "charge");
    refuses_args("name = \" \"", "`name` is empty", "\" \"");
    refuses_args("error_type = \"x\"", "the path of a function", "\"x\"");
    refuses_args("event = 7", "`event` is a text", "7");
    refuses_args("event name = \"x\"", "expected `,`", "name");
}

#[test]
fn a_field_has_a_name_and_stands_once() {
    refuses_args("fields", "`fields` needs names in parentheses", "fields");
    refuses_args("fields(cents * 100)", "a field is an argument or has a name", "cents * 100");
    refuses_args("fields(7)", "a field is an argument or has a name", "7");
    refuses_args("fields(cents == 1)", "a field is an argument or has a name", "cents == 1");
    refuses_args("fields(total(cents))", "a field is an argument or has a name", "total(cents)");
    refuses_args("fields(\"cents\")", "a field is an argument or has a name", "\"cents\"");
    refuses_args("fields(cents, cents = 7)", "the field `cents` is there twice", "cents");
    refuses_args("fields(cnets)", "`cnets` is no argument of `charge`", "cnets");
    refuses_args("fields(self.id)", "`self` is no argument of `charge`", "self");
    refuses_args("fields(a, b, c)", "`c` is no argument", "c");
    refuses("fields(self)", "fn charge(&self) {}", "a field is an argument or has a name", "self");
}

#[test]
fn a_period_has_a_number_and_a_unit() {
    refuses_args("slow = \"250\"", "it has no unit", "\"250\"");
    refuses_args("slow = 250", "`slow` is a text: `slow = \"250ms\"`", "250");
    refuses_args("slo = \"2 parsecs\"", "not `parsecs`", "\"2 parsecs\"");
    refuses_args("slo = \"0ms\"", "longer than nothing", "\"0ms\"");
}

#[test]
fn a_domain_is_known_a_text_or_a_constant() {
    refuses_args("domain = shipping", "`domain = \"shipping\"` or the path of a `Domain`", "shipping");
    refuses_args("domain = \"\"", "`domain` is empty", "\"\"");
    refuses_args("domain = 7", "a text or the path of a constant", "7");
    refuses_args("domain", "needs a value: `domain = payment`", "domain");
}
