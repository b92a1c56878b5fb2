//! `#[observe]` with a telemetry that is switched off.
#![cfg(feature = "macros")]

use buttress::settings::Settings;
use buttress::{Telemetry, context, observe};

#[observe(fields(id))]
async fn charge(id: u64) -> bool {
    context::current().is_some()
}

#[tokio::test]
async fn a_function_runs_untouched_where_telemetry_is_off() {
    let off = Settings::read("test", |name| (name == "BUTTRESS_ENABLED").then(|| "false".to_owned()));
    let telemetry = Telemetry::new(off.expect("the settings are fine"));
    telemetry.install().expect("it is the first");
    assert!(!charge(7).await);
    assert_eq!(telemetry.spans().stats().recorded, 0);
    assert!(
        telemetry.metrics().snapshot().families.iter().all(|family| !family.name.starts_with("buttress.operation"))
    );
}
