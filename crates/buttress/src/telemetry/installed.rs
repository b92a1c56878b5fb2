//! The telemetry of the process, for functions, which have no handle.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Telemetry;
use super::operations::PlaceMetrics;
use crate::trace::Operation;
use crate::trace::operation::Report;

static INSTALLED: OnceLock<Telemetry> = OnceLock::new();

#[inline]
pub(crate) fn installed() -> Option<&'static Telemetry> {
    INSTALLED.get()
}

impl Telemetry {
    /// Makes this the telemetry of the functions with [`#[observe]`](macro@crate::observe) in this process. Functions that
    /// were called before ran untouched.
    ///
    /// # Errors
    ///
    /// [`AlreadyInstalled`] when there is one already; the first one stays.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        INSTALLED.set(self.clone()).map_err(|_| AlreadyInstalled)
    }

    /// The operation of a function, whose series are resolved.
    pub(crate) fn observed(&self, name: &'static str, domain: Option<&'static str>) -> Operation {
        let report = |metrics: &Arc<_>| Arc::new(PlaceMetrics::new(metrics, name, domain)) as Arc<dyn Report>;
        self.operation(name).reported_to(self.report.as_ref().map(report))
    }
}

/// Another telemetry was installed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyInstalled;

impl fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a telemetry is already installed in this process; there can be one")
    }
}

impl std::error::Error for AlreadyInstalled {}
