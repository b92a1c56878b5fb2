//! Which circuit a request goes through.

use std::borrow::Cow;
use std::fmt;

use http::Request;

use super::{Circuit, Circuits, Permit, Rejected};
use crate::clock::Instant;
use crate::observe::RequestHead;

/// Which circuit a request goes through.
///
/// [`Circuit`] and [`Keyed`] are all there are.
pub trait Choose: Clone + sealed::Sealed {
    #[doc(hidden)]
    fn admit<B>(&self, request: &Request<B>, now: Instant) -> Result<Permit, Rejected>;

    #[doc(hidden)]
    fn chosen(&self) -> Chosen<'_>;
}

/// What there is to choose from.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Chosen<'a> {
    One(&'a Circuit),
    Many(&'a Circuits),
}

/// A circuit for each key; of [`CircuitBreakerLayer::keyed`](super::CircuitBreakerLayer::keyed).
#[derive(Clone)]
pub struct Keyed<F> {
    pub(super) circuits: Circuits,
    pub(super) key: F,
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else may implement Choose")]
    pub trait Sealed {}

    impl Sealed for super::Circuit {}
    impl<F> Sealed for super::Keyed<F> {}
}

/// One for all.
impl Choose for Circuit {
    #[inline(always)]
    fn admit<B>(&self, _request: &Request<B>, now: Instant) -> Result<Permit, Rejected> {
        Self::admit(self, now)
    }

    fn chosen(&self) -> Chosen<'_> {
        Chosen::One(self)
    }
}

impl<F> Choose for Keyed<F>
where
    F: for<'a> Fn(&RequestHead<'a>) -> Cow<'a, str> + Clone,
{
    fn admit<B>(&self, request: &Request<B>, now: Instant) -> Result<Permit, Rejected> {
        let key = (self.key)(&RequestHead::of(request));
        self.circuits.visit(&key, now, |circuit| circuit.admit(now))
    }

    fn chosen(&self) -> Chosen<'_> {
        Chosen::Many(&self.circuits)
    }
}

impl<F> fmt::Debug for Keyed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("circuits", &self.circuits).finish_non_exhaustive()
    }
}
