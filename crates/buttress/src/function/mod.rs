//! Functions that are observed: what [`#[observe]`](macro@crate::observe) records of them, and by which words.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::function::Domain;
//! use buttress::{Telemetry, observe};
//!
//! const SHIPPING: Domain = Domain::new("shipping").attributes(&[("team", "logistics")]).slow(Duration::from_secs(1));
//!
//! #[observe(domain = SHIPPING, fields(parcel), slo = "2s")]
//! fn dispatch(parcel: u64) -> Result<(), std::num::TryFromIntError> {
//!     u32::try_from(parcel).map(drop)
//! }
//!
//! let telemetry = Telemetry::from_env("storefront")?;
//! telemetry.install()?;
//! dispatch(17)?;
//! let span = &telemetry.latest_spans(1)[0];
//! assert_eq!(span.attribute("buttress.domain").unwrap().to_string(), "shipping");
//! assert_eq!(span.attribute("shipping.parcel").unwrap().to_string(), "17");
//! assert_eq!(span.attribute("team").unwrap().to_string(), "logistics");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `domain` | [`Domain`]: the words and limits of a part of the business |
//! | `field` | [`FieldValue`]: what can be recorded as it is |
//! | `judged` | whether what came out is an error, whatever its type |
//! | `site` | what the macro puts before a function; not for other callers |

mod domain;
mod field;
mod judged;
#[cfg(doctest)]
#[doc = include_str!("misuse.md")]
mod misuse {}
mod site;

pub use domain::Domain;
pub use field::FieldValue;
#[doc(hidden)]
pub use judged::{AnyOutput, DisplayedError, Judged, OtherError, error_type};
#[doc(hidden)]
pub use site::{Observed, Site, never};
