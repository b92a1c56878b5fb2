//! All of them, by their definitions.

use buttress::settings::{DEFINITIONS, Definition, Settings, WITHOUT_EFFECT, WithoutEffect, tables};

use crate::{read, try_read};

/// A value that the setting accepts.
fn sample(definition: &Definition) -> &'static str {
    match definition.name {
        "service_name" => "store",
        name if name.ends_with("_endpoint") => "http://collector",
        _ if definition.default.is_empty() => "team=shop",
        _ => definition.default,
    }
}

/// The line of the explanation, without its name.
fn line(settings: &Settings, definition: &Definition) -> String {
    let explained = settings.explain();
    let start = format!("{} = ", definition.name);
    explained.lines().find_map(|line| line.strip_prefix(&start)).expect("each setting has a line").to_owned()
}

#[test]
fn the_tables_of_the_documentation_are_those_of_the_code() {
    let written = include_str!("../../docs/settings.md");
    assert_eq!(written, tables(), "write them by `cargo test -p buttress --all-features --test settings -- --ignored`");
}

#[test]
#[ignore = "writes the tables of the documentation"]
fn write_the_tables_of_the_documentation() {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md"), tables()).unwrap();
}

#[test]
fn what_is_defined_is_what_is_explained() {
    let explained = read(&[]).explain();
    let names: Vec<_> = explained.lines().map(|line| line.split_once(" = ").unwrap().0).collect();
    assert_eq!(names, DEFINITIONS.iter().map(|definition| definition.name).collect::<Vec<_>>());
}

#[test]
fn each_default_is_what_its_text_comes_to() {
    for definition in DEFINITIONS.iter().filter(|definition| !definition.default.is_empty()) {
        let [variable, ..] = definition.variables else { panic!("each has a variable") };
        let written = line(&read(&[(variable, definition.default)]), definition);
        let expected = line(&read(&[]), definition).replace("(default)", &format!("({variable})"));
        assert_eq!(written, expected, "{}", definition.name);
    }
}

#[test]
fn each_variable_alone_is_the_source_of_its_setting() {
    for definition in DEFINITIONS {
        for variable in definition.variables {
            let settings = read(&[(variable, sample(definition))]);
            assert!(line(&settings, definition).ends_with(&format!(" ({variable})")), "{variable}");
            assert!(settings.warnings().next().is_none(), "{variable}");
        }
    }
}

#[test]
fn of_two_variables_the_first_counts_and_the_other_is_told() {
    // Those of OTLP for all signals count for another signal; they have a test of their own.
    let for_one = |definition: &&Definition| !definition.variables[0].starts_with("OTEL_EXPORTER_OTLP_");
    for definition in DEFINITIONS.iter().filter(for_one) {
        for pair in definition.variables.windows(2) {
            let settings = read(&[(pair[1], sample(definition)), (pair[0], sample(definition))]);
            assert!(line(&settings, definition).ends_with(&format!(" ({})", pair[0])), "{pair:?}");
            let told = format!("{} is set but not used, because {} is set too", pair[1], pair[0]);
            assert_eq!(settings.warnings().collect::<Vec<_>>(), [told]);
        }
    }
}

#[test]
fn every_variable_refuses_nonsense_by_name() {
    // Any name will do for a service.
    for definition in DEFINITIONS.iter().filter(|definition| definition.name != "service_name") {
        for variable in definition.variables {
            let error = try_read(&[(variable, "?")]).expect_err(variable);
            assert_eq!((error.variable(), error.accepted()), (*variable, definition.accepted));
        }
    }
}

#[test]
fn a_variable_without_effect_is_told_with_the_reason_and_refused_no_value() {
    for WithoutEffect { variable, why, .. } in WITHOUT_EFFECT {
        let settings = read(&[(variable, "?")]);
        assert_eq!(settings.warnings().collect::<Vec<_>>(), [format!("{variable} is set but not used: {why}")]);
        assert!(settings.explain().ends_with(&format!("{variable} is set but not used: {why}\n")));
    }
    assert!(read(&[("OTEL_LOGS_EXPORTER", "none")]).warnings().next().is_none(), "that is what happens");
}

#[test]
fn every_name_that_services_know_is_a_setting_or_said_to_be_none() {
    let known: Vec<&str> = DEFINITIONS.iter().flat_map(|definition| definition.variables).copied().collect();
    let none: Vec<&str> = WITHOUT_EFFECT.iter().map(|without| without.variable).collect();
    assert!(!none.iter().any(|name| known.contains(name)), "not both");
    for name in [
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_PROPAGATORS",
        "OTEL_TRACES_EXPORTER",
        "OTEL_METRICS_EXPORTER",
        "OTEL_LOGS_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "TELEMETRY_ENABLED",
        "METRICS_ENABLED",
        "EVENTS_ENABLED",
        "PERFORMANCE_MONITORING_ENABLED",
        "DISTRIBUTED_TRACING_ENABLED",
        "ALERTS_ENABLED",
        "METRICS_MAX_DATA_POINTS",
        "EVENTS_MAX_EVENTS",
        "TRACING_MAX_TRACES",
        "TRACING_SAMPLING_RATE",
        "METRICS_RETENTION_HOURS",
        "EVENTS_RETENTION_HOURS",
        "ALERTS_MAX_ALERTS",
        "METRICS_WINDOW_SIZE_SECONDS",
        "METRICS_MAX_SAMPLES",
        "METRICS_PROMETHEUS_ENABLED",
        "METRICS_EVENT_LOOP_MONITORING",
        "METRICS_HISTOGRAM_BUCKETS",
    ] {
        assert!(known.contains(&name) || none.contains(&name), "{name}");
    }
}
