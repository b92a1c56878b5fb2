//! What tells one series of requests from another, in one word.

use http::{StatusCode, Version};

use super::intern::Interned;
use crate::classify::{ErrorType, GrpcCode};
use crate::observe::methods::OTHER;
use crate::observe::protocol::{METHODS, version_text};

const BITS_OF_METHOD: u32 = 6;
const BITS_OF_FAILURE: u32 = 10;

/// A method of [`METHODS`], `_OTHER`, or the number of one that a layer was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) struct KnownMethod(u8);

impl KnownMethod {
    /// Those that have numbers of their own: the others are few, and come later.
    pub(in crate::metrics) const USUAL: usize = METHODS.len() + 1;
    /// As many as there are numbers.
    pub(super) const MOST: usize = 1 << BITS_OF_METHOD;
    pub(in crate::metrics) const OTHER: Self = Self(METHODS.len() as u8);

    /// One of [`METHODS`], by its place there.
    #[inline]
    pub(in crate::metrics) fn standard(nth: usize) -> Self {
        Self(nth as u8)
    }

    pub(super) fn interned(method: Interned) -> Self {
        match method {
            Interned::NONE | Interned::OTHER => Self::OTHER,
            Interned(nth) => Self((Self::USUAL - Interned::FIRST) as u8 + nth as u8),
        }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::MOST as u8).map(Self)
    }

    #[inline]
    pub(in crate::metrics) fn index(self) -> usize {
        self.0.into()
    }

    /// The name, or the number that it was interned as.
    pub(super) fn name(self) -> Result<&'static str, Interned> {
        match self.index() {
            nth if nth < METHODS.len() => Ok(METHODS[nth]),
            nth if nth < Self::USUAL => Ok(OTHER),
            nth => Err(Interned((nth - Self::USUAL + Interned::FIRST) as u16)),
        }
    }
}

/// `url.scheme`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) enum Scheme {
    Http,
    Https,
    Other,
}

impl Scheme {
    pub(in crate::metrics) const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Other];

    pub(in crate::metrics) fn of(scheme: &str) -> Self {
        match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Self::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Self::Https,
            _ => Self::Other,
        }
    }

    pub(in crate::metrics) fn as_str(self) -> &'static str {
        ["http", "https", "_OTHER"][self as usize]
    }
}

/// `error.type`: an HTTP or gRPC status says it again, so that only names need a number of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) enum Failure {
    None,
    Status,
    Named(Interned),
}

/// Everything that the labels of a request are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) struct Key {
    pub(in crate::metrics) is_grpc: bool,
    pub(in crate::metrics) method: KnownMethod,
    pub(in crate::metrics) scheme: Scheme,
    pub(in crate::metrics) version: Version,
    /// The template, or gRPC's service and method.
    pub(in crate::metrics) route: Interned,
    pub(in crate::metrics) host: Interned,
    pub(in crate::metrics) status: Option<StatusCode>,
    pub(in crate::metrics) grpc_code: Option<GrpcCode>,
    pub(in crate::metrics) failure: Failure,
}

/// What is known of a request when it begins, and is the same when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) struct Beginning {
    pub(in crate::metrics) method: KnownMethod,
    pub(in crate::metrics) scheme: Scheme,
    pub(in crate::metrics) host: Interned,
}

impl Beginning {
    pub(super) fn packed(self) -> u64 {
        u64::from(self.host.0) << 16 | u64::from(self.method.0) << 8 | self.scheme as u64
    }
}

impl Key {
    #[inline]
    pub(in crate::metrics) fn beginning(&self) -> Beginning {
        Beginning { method: self.method, scheme: self.scheme, host: self.host }
    }

    /// One bit for gRPC, six for the method, two for the scheme, three for the version, ten for the status, ten for the
    /// failure, sixteen each for route and host: 64.
    #[inline]
    pub(in crate::metrics) fn packed(&self) -> u64 {
        let status = match self.is_grpc {
            // gRPC's statuses are told by their own code.
            true => self.grpc_code.map_or(0, |code| u64::from(code.number()) + 1),
            false => self.status.map_or(0, |status| u64::from(status.as_u16())),
        };
        let failure = match self.failure {
            Failure::None => 0,
            Failure::Status => 1,
            Failure::Named(name) => 1 + u64::from(name.0),
        };
        let version = match self.version {
            Version::HTTP_09 => 1,
            Version::HTTP_10 => 2,
            Version::HTTP_11 => 3,
            Version::HTTP_2 => 4,
            Version::HTTP_3 => 5,
            _ => 0,
        };
        [
            (1, u64::from(self.is_grpc)),
            (BITS_OF_METHOD, self.method.0.into()),
            (2, self.scheme as u64),
            (3, version),
            (10, status),
            (BITS_OF_FAILURE, failure),
            (16, self.route.0.into()),
            (16, self.host.0.into()),
        ]
        .into_iter()
        .fold(0, |packed, (bits, value)| packed << bits | value & ((1 << bits) - 1))
    }

    pub(in crate::metrics) fn version_text(&self) -> Option<&'static str> {
        version_text(self.version)
    }

    /// `error.type` when the status says it.
    pub(in crate::metrics) fn status_text(&self) -> Option<String> {
        match (self.failure, self.grpc_code) {
            (Failure::Status, Some(code)) if self.is_grpc => Some(code.as_str().to_owned()),
            (Failure::Status, _) => self.status.map(|status| status.as_str().to_owned()),
            _ => None,
        }
    }
}

impl Failure {
    /// Besides none, a status and the name that stands for all others.
    pub(super) const MOST_NAMES: usize = (1 << BITS_OF_FAILURE) - 3;

    pub(in crate::metrics) fn of(error_type: Option<ErrorType>, intern: impl FnOnce(&'static str) -> Interned) -> Self {
        match error_type {
            None => Self::None,
            Some(ErrorType::Name(name)) => Self::Named(intern(name)),
            Some(_) => Self::Status,
        }
    }
}
