//! A signed header that makes one request traced, whatever the sampler says.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

/// Verifies `<expiry in Unix seconds>.<hex HMAC-SHA256 of that number>`, so that only who has the key can force a trace,
/// and only for a while.
///
/// ```
/// use std::time::Duration;
///
/// use buttress::trace::DebugHeader;
/// use http::{HeaderMap, HeaderName};
///
/// let name = HeaderName::from_static("x-trace-debug");
/// let header = DebugHeader::new(name.clone(), b"sixteen bytes or more".to_vec())?;
/// let mut headers = HeaderMap::new();
/// headers.insert(name, header.sign(Duration::from_secs(60)));
/// assert!(header.is_signed(&headers));
/// # Ok::<(), buttress::trace::DebugHeaderError>(())
/// ```
#[derive(Clone)]
pub struct DebugHeader {
    name: HeaderName,
    mac: Hmac<Sha256>,
}

impl DebugHeader {
    /// Signatures are good for at most this long.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
    const MIN_KEY: usize = 16;

    /// A header of this name, signed with this key.
    ///
    /// # Errors
    ///
    /// [`DebugHeaderError`] for a key of less than 16 bytes.
    pub fn new(name: HeaderName, key: Vec<u8>) -> Result<Self, DebugHeaderError> {
        if key.len() < Self::MIN_KEY {
            return Err(DebugHeaderError { key_length: key.len() });
        }
        let mac = Hmac::new_from_slice(&key).map_err(|_| DebugHeaderError { key_length: key.len() })?;
        Ok(Self { name, mac })
    }

    /// A value that is good from now on for so long, at most a day.
    pub fn sign(&self, lifetime: Duration) -> HeaderValue {
        let expiry = unix_seconds() + lifetime.min(Self::MAX_LIFETIME).as_secs();
        let signature = self.mac_of(expiry).finalize().into_bytes();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::from_str(&format!("{expiry}.{hex}")).expect("digits are valid in a header")
    }

    /// Whether the request carries a signature that is good now.
    pub fn is_signed(&self, headers: &HeaderMap) -> bool {
        headers.get(&self.name).and_then(|value| value.to_str().ok()).is_some_and(|value| self.verify(value).is_some())
    }

    fn verify(&self, value: &str) -> Option<()> {
        let (expiry, hex) = value.split_once('.')?;
        let expiry: u64 = expiry.parse().ok()?;
        let now = unix_seconds();
        if !(now..=now + Self::MAX_LIFETIME.as_secs()).contains(&expiry) || hex.len() != 64 {
            return None;
        }
        let mut signature = [0; 32];
        for (byte, pair) in signature.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| (pair[at] as char).to_digit(16);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        self.mac_of(expiry).verify_slice(&signature).ok()
    }

    fn mac_of(&self, expiry: u64) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(expiry.to_string().as_bytes());
        mac
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl fmt::Debug for DebugHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugHeader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The key is too short to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugHeaderError {
    key_length: usize,
}

impl fmt::Display for DebugHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a debug header key has at least {} bytes, not {}", DebugHeader::MIN_KEY, self.key_length)
    }
}

impl std::error::Error for DebugHeaderError {}
