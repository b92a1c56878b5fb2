use std::sync::{Arc, LazyLock};

use buttress::observe;

use crate::{TELEMETRY, last, told};

#[derive(Debug)]
struct User {
    id: u64,
    name: String,
}

#[observe(name = "fields.none")]
fn nothing(_user: &User, _token: &str) {}

#[observe(name = "fields.some", fields(order, user.id, user.name, cents = euros * 100, note, "http.route" = "/x", shown = %user.id, whole = ?user, %colour))]
fn some(order: &str, user: &User, euros: i64, note: Option<bool>, colour: impl std::fmt::Display) -> usize {
    order.len() + user.name.len() + euros as usize
}

struct Region {
    region: String,
}

impl Region {
    #[observe(name = "fields.self", fields(self.region))]
    fn region(&self) -> &str {
        &self.region
    }

    #[observe(name = "fields.arc", fields(order, self.region))]
    async fn of_arc(self: Arc<Self>, order: String) -> String {
        order + &self.region
    }
}

#[test]
fn nothing_is_recorded_that_is_not_named() {
    LazyLock::force(&TELEMETRY);
    nothing(&User { id: 7, name: "ada".into() }, "hunter2");
    assert!(last("fields.none").attributes.is_empty());
    some("o-1", &User { id: 7, name: "ada".into() }, 3, None, 'x');
    let span = last("fields.some");
    let keys = ["order", "user.id", "user.name", "cents", "http.route", "shown", "whole", "colour"];
    let values = keys.map(|key| told(&span, key));
    assert_eq!(values, ["o-1", "7", "ada", "300", "/x", "7", "User { id: 7, name: \"ada\" }", "x"]);
    assert_eq!(span.attributes.len(), keys.len());
}

#[tokio::test]
async fn what_is_moved_into_a_future_can_be_a_field() {
    LazyLock::force(&TELEMETRY);
    let eu = Arc::new(Region { region: "eu".into() });
    assert_eq!(eu.region(), "eu");
    assert_eq!(told(&last("fields.self"), "region"), "eu");
    assert_eq!(eu.of_arc("o-".into()).await, "o-eu");
    assert_eq!((told(&last("fields.arc"), "order"), told(&last("fields.arc"), "region")), ("o-".into(), "eu".into()));
}

#[observe(name = "fields.secret", fields(api_key, url, long))]
fn secrets(api_key: &str, url: &str, long: &str) {}

#[test]
fn fields_are_redacted_and_cut_as_attributes_are() {
    LazyLock::force(&TELEMETRY);
    secrets("hunter2", "https://x/?token=hunter2", &"x".repeat(1000));
    let span = last("fields.secret");
    assert_eq!(told(&span, "api_key"), "REDACTED");
    assert!(!format!("{span:?}").contains("hunter2"));
    assert_eq!(told(&span, "long").len(), 256);
}
