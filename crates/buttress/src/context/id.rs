//! Trace ids and span ids: non-zero by type.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use super::hex;
use crate::random::next_u64;

/// The id of a trace: 16 bytes, not all zero (W3C Trace Context, section 3.2.2.3).
///
/// Written and read as 32 lower-case hex digits.
///
/// ```
/// use buttress::context::TraceId;
///
/// let id: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse()?;
/// assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!("4BF92F3577B34DA6A3CE929D0E0E4736".parse::<TraceId>().is_err());
/// # Ok::<(), buttress::context::ParseIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(NonZeroU128);

/// The id of a span: 8 bytes, not all zero (W3C Trace Context, section 3.2.2.4).
///
/// Written and read as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

macro_rules! id {
    ($id:ident, $non_zero:ident, $word:ident, $bytes:literal, $draw:expr) => {
        impl $id {
            /// A fresh random id; every bit is random.
            pub fn random() -> Self {
                loop {
                    if let Some(id) = $non_zero::new($draw()) {
                        return Self(id);
                    }
                }
            }

            /// The id with these big-endian bytes; `None` when all of them are zero.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                match $non_zero::new($word::from_be_bytes(bytes)) {
                    Some(id) => Some(Self(id)),
                    None => None,
                }
            }

            /// The big-endian bytes.
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0.get().to_be_bytes()
            }

            /// The lower-case hex digits, as ASCII.
            pub fn to_hex(self) -> [u8; 2 * $bytes] {
                let mut digits = [0; 2 * $bytes];
                hex::encode(&self.to_bytes(), &mut digits);
                digits
            }

            /// Reads exactly the lower-case hex digits of one id.
            pub fn from_hex(digits: &[u8]) -> Result<Self, ParseIdError> {
                hex::decode(digits)
                    .and_then(Self::from_bytes)
                    .ok_or(ParseIdError { kind: stringify!($id), digits: 2 * $bytes })
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(std::str::from_utf8(&self.to_hex()).expect("hex digits are ASCII"))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self)
            }
        }

        impl FromStr for $id {
            type Err = ParseIdError;

            fn from_str(digits: &str) -> Result<Self, ParseIdError> {
                Self::from_hex(digits.as_bytes())
            }
        }
    };
}

id!(TraceId, NonZeroU128, u128, 16, || (u128::from(next_u64()) << 64) | u128::from(next_u64()));
id!(SpanId, NonZeroU64, u64, 8, next_u64);

impl TraceId {
    /// The last seven bytes, the 56 bits that W3C level 2 calls the random part.
    pub fn random_part(self) -> u64 {
        (self.0.get() as u64) & 0x00ff_ffff_ffff_ffff
    }
}

/// The text was not an id: wrong length, a digit that is not lower-case hex, or all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError {
    kind: &'static str,
    digits: usize,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a {}: expected {} lower-case hex digits, not all zero", self.kind, self.digits)
    }
}

impl std::error::Error for ParseIdError {}
