use buttress::Telemetry;
use buttress::settings::Exporter;

use crate::otlp::{OtlpError, otlp};

/// Adds the OTLP exporters that the settings ask for (`OTEL_TRACES_EXPORTER=otlp`, `OTEL_METRICS_EXPORTER=otlp`), and
/// installs the context bridge.
///
/// # Errors
///
/// [`OtlpError`] when an exporter cannot be made of the settings.
///
/// # Panics
///
/// Outside a tokio runtime, when an exporter is asked for.
pub fn connect(telemetry: Telemetry) -> Result<Telemetry, OtlpError> {
    if !telemetry.settings().enabled.value {
        return Ok(telemetry);
    }
    // A second service of the process finds the bridge there already.
    let _ = crate::install_bridge();
    let telemetry = match telemetry.settings().traces_exporter.value {
        Exporter::Otlp => {
            let sink = otlp(telemetry.settings())?;
            sink.report(telemetry.metrics());
            telemetry.with_sink(sink)
        }
        _ => telemetry,
    };
    let metrics = crate::metrics::connect(telemetry.metrics(), telemetry.settings())?;
    Ok(match metrics {
        Some(exporter) => telemetry.with_flush(exporter),
        None => telemetry,
    })
}
