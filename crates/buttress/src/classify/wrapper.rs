//! Errors of this crate's own layers around those of others, of whatever type.
//!
//! An error passes by as `Any`, and nobody can ask a generic type that is not known by name what it wraps. So a layer makes
//! its error type known before it first answers with one; that is the only moment at which the type is at hand.

use std::any::{Any, TypeId};
#[cfg(feature = "circuit-breaker")]
use std::fmt;
use std::sync::OnceLock;

use super::Fault;

/// What a layer of this crate has made of an error.
#[cfg_attr(not(feature = "circuit-breaker"), expect(dead_code, reason = "no layer has errors"))]
pub(crate) enum Layered<'a> {
    /// The error of the service inside.
    Inner(Fault<'a>),
    /// An error of the layer's own: its name for `error.type`.
    Own {
        name: &'static str,
        /// Nobody was called.
        is_refusal: bool,
    },
}

/// An error type of a layer.
#[cfg(feature = "circuit-breaker")]
pub(crate) trait Wrapper: fmt::Display + 'static {
    fn layered(&self) -> Layered<'_>;
}

type Unwrap = fn(&dyn Any) -> Option<Layered<'_>>;

/// Error types of layers in one program: a handful. Those beyond go by the name of their type.
static KNOWN: [OnceLock<(TypeId, Unwrap)>; 64] = [const { OnceLock::new() }; 64];

/// Makes an error type known; called before each answer with one.
#[cfg(feature = "circuit-breaker")]
pub(crate) fn know<W: Wrapper>() {
    let unwrap: Unwrap = |any| any.downcast_ref::<W>().map(W::layered);
    let id = TypeId::of::<W>();
    for slot in &KNOWN {
        if slot.get_or_init(|| (id, unwrap)).0 == id {
            return;
        }
    }
}

pub(super) fn unwrap(any: &dyn Any) -> Option<Layered<'_>> {
    let id = any.type_id();
    let known = KNOWN.iter().map_while(OnceLock::get).find(|(known, _)| *known == id)?;
    known.1(any)
}

#[cfg(all(test, feature = "circuit-breaker"))]
mod tests {
    use super::*;

    struct Around<E>(Option<E>);

    impl<E: fmt::Display> fmt::Display for Around<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("around")
        }
    }

    impl<E: fmt::Display + 'static> Wrapper for Around<E> {
        fn layered(&self) -> Layered<'_> {
            match &self.0 {
                Some(inner) => Layered::Inner(Fault::new(inner)),
                None => Layered::Own { name: "nothing", is_refusal: true },
            }
        }
    }

    #[test]
    fn an_error_within_layers_of_ours_keeps_its_name() {
        know::<Around<std::io::Error>>();
        know::<Around<Around<std::io::Error>>>();
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Around(Some(Around(Some(refused))));
        assert_eq!(Fault::new(&error).name(), "connection_refused");
        assert!(!Fault::new(&error).is_refusal());
    }

    #[test]
    fn a_refusal_is_one_in_whatever_layers_it_comes() {
        know::<Around<Around<fmt::Error>>>();
        know::<Around<fmt::Error>>();
        let error: Around<Around<fmt::Error>> = Around(Some(Around(None)));
        assert_eq!(Fault::new(&error).name(), "nothing");
        assert!(Fault::new(&error).is_refusal());
    }
}
