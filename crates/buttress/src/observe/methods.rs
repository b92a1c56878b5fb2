//! Which methods are told by name.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::protocol::{METHODS, known_method};

/// The methods that spans and metrics tell by name; every other is `_OTHER`.
///
/// By default those of RFC 9110, `PATCH` and `QUERY`. A list replaces them all, as OpenTelemetry's HTTP conventions have it
/// for `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`; names are case-sensitive.
///
/// ```
/// use buttress::observe::KnownMethods;
/// use http::Method;
///
/// let webdav = KnownMethods::new(["GET", "PUT", "PROPFIND"])?;
/// assert!(webdav.contains(&Method::from_bytes(b"PROPFIND").unwrap()));
/// assert!(!webdav.contains(&Method::POST));
/// assert_eq!(
///     KnownMethods::new(["GET", "no method"]).unwrap_err().to_string(),
///     "\"no method\" is no method; accepted are 1 to 31 names of methods, up to 64 characters each"
/// );
/// # Ok::<(), buttress::observe::KnownMethodsError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KnownMethods {
    /// One bit for each of [`METHODS`].
    standard: u16,
    others: Arc<[Method]>,
}

/// With `_OTHER` they are as many as a series' key has room for, twice over.
const MOST: usize = 31;
const LONGEST: usize = 64;
pub(crate) const OTHER: &str = "_OTHER";

impl KnownMethods {
    /// These and no others. Doubles and `_OTHER` itself change nothing.
    ///
    /// # Errors
    ///
    /// [`KnownMethodsError`] for a name that no method can have, for none and for more than 31.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, KnownMethodsError> {
        let (mut standard, mut others) = (0, Vec::new());
        for name in names {
            let name = name.as_ref();
            let method = Method::from_bytes(name.as_bytes()).ok().filter(|_| name.len() <= LONGEST);
            let method = method.ok_or_else(|| KnownMethodsError::Name(name.to_owned()))?;
            match known_method(&method) {
                Some(nth) => standard |= 1 << nth,
                None if name == OTHER || others.contains(&method) => {}
                None => others.push(method),
            }
        }
        match others.len() + u16::count_ones(standard) as usize {
            1..=MOST => Ok(Self { standard, others: others.into() }),
            count => Err(KnownMethodsError::Count(count)),
        }
    }

    /// Whether this one is told by name.
    pub fn contains(&self, method: &Method) -> bool {
        known_method(method).map_or_else(|| self.others.contains(method), |nth| self.has_standard(nth))
    }

    /// Whether it contains this one of [`METHODS`].
    #[inline]
    pub(crate) fn has_standard(&self, nth: usize) -> bool {
        self.standard >> nth & 1 == 1
    }
}

impl Default for KnownMethods {
    fn default() -> Self {
        Self { standard: (1 << METHODS.len()) - 1, others: Arc::default() }
    }
}

impl fmt::Debug for KnownMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standard = METHODS.iter().enumerate().filter(|(nth, _)| self.has_standard(*nth)).map(|(_, name)| *name);
        f.debug_list().entries(standard.chain(self.others.iter().map(Method::as_str))).finish()
    }
}

/// Names that make no [`KnownMethods`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KnownMethodsError {
    /// This can be the name of no method, or is too long.
    Name(String),
    /// So many are none, or too many.
    Count(usize),
}

impl fmt::Display for KnownMethodsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is no method")?,
            Self::Count(count) => write!(f, "{count} methods")?,
        }
        write!(f, "; accepted are 1 to {MOST} names of methods, up to {LONGEST} characters each")
    }
}

impl std::error::Error for KnownMethodsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_replaces_the_default_and_minds_the_case() {
        let list = KnownMethods::new(["GET", "Purge", "GET", "_OTHER"]).unwrap();
        let names = ["GET", "POST", "Purge", "PURGE", "get"];
        let known = names.map(|name| list.contains(&Method::from_bytes(name.as_bytes()).unwrap()));
        assert_eq!(
            (known, format!("{list:?}")),
            ([true, false, true, false, false], "[\"GET\", \"Purge\"]".to_owned())
        );
        let default = KnownMethods::default();
        assert!(METHODS.iter().all(|name| default.contains(&Method::from_bytes(name.as_bytes()).unwrap())));
    }

    #[test]
    fn a_list_that_is_empty_or_too_long_is_refused_by_its_length() {
        let names = |count: usize| (0..count).map(|nth| format!("M{nth}"));
        assert!(KnownMethods::new(names(31)).is_ok());
        let error = |count| KnownMethods::new(names(count)).unwrap_err().to_string();
        assert!(error(32).starts_with("32 methods; accepted are 1 to 31 names"), "{}", error(32));
        assert!(error(0).starts_with("0 methods"));
        assert!(KnownMethods::new(["M".repeat(65)]).is_err());
    }
}
