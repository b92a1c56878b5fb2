use std::sync::LazyLock;
use std::time::Duration;

use buttress::function::Domain;
use buttress::observe;

use crate::{TELEMETRY, counted, last, told};

const SHIPPING: Domain =
    Domain::new("shipping").attributes(&[("team", "logistics")]).slow(Duration::from_millis(1)).slo(Duration::MAX);

#[observe(name = "domain.known", domain = payment, fields(id, app.version = 2))]
fn charge(id: u64) {}

#[observe(name = "domain.text", domain = "shipping")]
fn by_text() {}

#[observe(name = "domain.own", domain = SHIPPING, fields(parcel))]
async fn dispatch(parcel: u8) {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[observe(name = "domain.over", domain = self::SHIPPING, slow = "1h")]
async fn patient() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_domain_gives_attributes_a_prefix_and_limits() {
    LazyLock::force(&TELEMETRY);
    charge(7);
    let span = last("domain.known");
    let keys = ["buttress.domain", "payment.id", "app.version"];
    assert_eq!(keys.map(|key| told(&span, key)), ["payment", "7", "2"]);
    let labels = [("operation.name", "domain.known"), ("buttress.domain", "payment"), ("buttress.outcome", "ok")];
    assert_eq!(counted(labels), 1);
    by_text();
    assert_eq!(told(&last("domain.text"), "buttress.domain"), "shipping");
    dispatch(3).await;
    let span = last("domain.own");
    let keys = ["buttress.domain", "team", "shipping.parcel", "operation.slow", "operation.slo_met"];
    assert_eq!(keys.map(|key| told(&span, key)), ["shipping", "logistics", "3", "true", "true"]);
    patient().await;
    assert_eq!(told(&last("domain.over"), "operation.slow"), "");
}
