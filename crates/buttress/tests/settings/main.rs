//! Every variable, who wins, and what is said about it.
#![cfg(feature = "telemetry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod definitions;
mod export;
mod told;
mod variables;

use buttress::settings::{Settings, SettingsError, Source};

fn try_read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Settings::read("shop", find)
}

fn read(variables: &[(&str, &str)]) -> Settings {
    try_read(variables).expect("these values are accepted")
}

/// What the variables come to, by this view, for each variable alone.
fn each<T: PartialEq + std::fmt::Debug>(
    variables: &[(&'static str, &str)],
    view: impl Fn(&Settings) -> (&T, Source),
    expected: &T,
) {
    for (name, value) in variables {
        let settings = read(&[(name, value)]);
        let (found, source) = view(&settings);
        assert_eq!((found, source), (expected, Source::Variable(name)), "{name}={value}");
    }
}
