use std::any::{Any, type_name};
use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

use super::GrpcCode;
use super::wrapper::{Layered, unwrap};

/// The name of an error of a circuit that let nobody through.
pub(crate) const REFUSED: &str = "circuit_open";

type BoxError = Box<dyn Error + Send + Sync>;

/// An error of the inner service or body, of whatever type, while it passes by.
///
/// Services answer with errors that are no `std::error::Error` (tower's `BoxError` among them), so this asks for
/// `Display` and `'static` only and finds out the rest by downcasting.
#[derive(Clone, Copy)]
pub struct Fault<'a> {
    any: &'a dyn Any,
    text: &'a dyn fmt::Display,
    type_name: &'static str,
}

impl<'a> Fault<'a> {
    pub(crate) fn new<E: fmt::Display + 'static>(error: &'a E) -> Self {
        Self { any: error, text: error, type_name: type_name::<E>() }
    }

    /// The error that layers of this crate have around them, or what such a layer says of itself.
    fn innermost(self) -> Result<Self, Own> {
        match unwrap(self.any) {
            Some(Layered::Inner(inner)) => inner.innermost(),
            Some(Layered::Own { name, is_refusal }) => Err(Own { name, is_refusal }),
            None => Ok(self),
        }
    }

    /// Whether nobody was called: a circuit was open, a budget was spent, there was no room.
    pub fn is_refusal(&self) -> bool {
        self.innermost().map_or_else(|own| own.is_refusal, |inner| inner.chain().any(is_refusal))
    }

    /// The error, if it is of this type.
    pub fn downcast_ref<E: 'static>(&self) -> Option<&'a E> {
        self.any.downcast_ref()
    }

    /// The error and its sources, as far as its type is known here; layers of this crate around it are left out.
    pub fn chain(&self) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
        let innermost = self.innermost().ok();
        std::iter::successors(innermost.and_then(|inner| inner.as_error()), |error: &&'a (dyn Error + 'static)| {
            (*error).source()
        })
    }

    /// A name of few values for `error.type`: what the error or one of its sources is (`timeout`, `connection_refused`),
    /// else the name of its type.
    pub fn name(&self) -> &'static str {
        let innermost = match self.innermost() {
            Ok(innermost) => innermost,
            Err(own) => return own.name,
        };
        match innermost.chain().find_map(known_name) {
            Some(name) => name,
            None if innermost.is_boxed() => "_OTHER",
            None => innermost.type_name,
        }
    }

    /// The code of a gRPC status that is the error or one of its sources; needs the feature `tonic`.
    pub fn grpc_code(&self) -> Option<GrpcCode> {
        #[cfg(feature = "tonic")]
        return self.chain().find_map(|error| {
            let code = i32::from(error.downcast_ref::<tonic::Status>()?.code());
            Some(GrpcCode::from_number(u8::try_from(code).unwrap_or(u8::MAX)))
        });
        #[cfg(not(feature = "tonic"))]
        None
    }

    fn as_error(&self) -> Option<&'a (dyn Error + 'static)> {
        if let Some(error) = self.downcast_ref::<BoxError>() {
            return Some(&**error);
        }
        if let Some(error) = self.downcast_ref::<std::io::Error>() {
            return Some(error);
        }
        if let Some(error) = self.downcast_ref::<tokio::time::error::Elapsed>() {
            return Some(error);
        }
        #[cfg(feature = "axum")]
        if let Some(error) = self.downcast_ref::<::axum::Error>() {
            return Some(error);
        }
        #[cfg(feature = "hyper")]
        if let Some(error) = self.downcast_ref::<hyper_util::client::legacy::Error>() {
            return Some(error);
        }
        #[cfg(feature = "hyper")]
        if let Some(error) = self.downcast_ref::<hyper::Error>() {
            return Some(error);
        }
        #[cfg(feature = "tonic")]
        if let Some(error) = self.downcast_ref::<tonic::transport::Error>() {
            return Some(error);
        }
        #[cfg(feature = "tonic")]
        if let Some(error) = self.downcast_ref::<tonic::Status>() {
            return Some(error);
        }
        #[cfg(feature = "circuit-breaker")]
        if let Some(error) = self.downcast_ref::<crate::circuit_breaker::Rejected>() {
            return Some(error);
        }
        #[cfg(feature = "retry")]
        if let Some(error) = self.downcast_ref::<crate::retry::NotRetryable>() {
            return Some(error);
        }
        #[cfg(feature = "retry")]
        if let Some(error) = self.downcast_ref::<crate::retry::AttemptError>() {
            return Some(error);
        }
        #[cfg(feature = "retry")]
        if let Some(error) = self.downcast_ref::<crate::retry::TimedOut>() {
            return Some(error);
        }
        #[cfg(feature = "retry")]
        if let Some(error) = self.downcast_ref::<tower::timeout::error::Elapsed>() {
            return Some(error);
        }
        None
    }

    /// Whether its type says nothing about it.
    fn is_boxed(&self) -> bool {
        #[cfg(feature = "retry")]
        if self.any.is::<crate::retry::AttemptError>() {
            return true;
        }
        self.any.is::<BoxError>()
    }
}

/// What a layer of this crate says of itself.
struct Own {
    name: &'static str,
    is_refusal: bool,
}

fn known_name(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        // The source of an `io::Error` is the source of what it wraps, and so skips what it wraps.
        return io_name(error.kind()).or_else(|| known_name(error.get_ref()?));
    }
    if error.is::<tokio::time::error::Elapsed>() {
        return Some("timeout");
    }
    #[cfg(feature = "retry")]
    if error.is::<crate::retry::TimedOut>() || error.is::<tower::timeout::error::Elapsed>() {
        return Some("timeout");
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return hyper_name(error);
    }
    is_refusal(error).then_some(REFUSED)
}

/// The source of a boxed error of a layer that refused to call.
fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "circuit-breaker")]
    if error.is::<crate::circuit_breaker::Rejected>() {
        return true;
    }
    #[cfg(feature = "retry")]
    if error.is::<crate::retry::NotRetryable>() {
        return true;
    }
    let _ = error;
    false
}

fn io_name(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::ConnectionRefused => "connection_refused",
        ErrorKind::ConnectionReset => "connection_reset",
        ErrorKind::ConnectionAborted => "connection_aborted",
        ErrorKind::NotConnected => "not_connected",
        ErrorKind::BrokenPipe => "broken_pipe",
        ErrorKind::HostUnreachable => "host_unreachable",
        ErrorKind::NetworkUnreachable => "network_unreachable",
        ErrorKind::AddrNotAvailable => "address_not_available",
        ErrorKind::TimedOut => "timeout",
        ErrorKind::UnexpectedEof => "unexpected_eof",
        ErrorKind::PermissionDenied => "permission_denied",
        _ => return None,
    })
}

#[cfg(feature = "hyper")]
fn hyper_name(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        Some("timeout")
    } else if error.is_incomplete_message() {
        Some("incomplete_message")
    } else if error.is_canceled() || error.is_closed() {
        Some("connection_closed")
    } else if error.is_parse() {
        Some("malformed_message")
    } else {
        None
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Debug for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({})", self.type_name)
    }
}
