//! Who watches the attempts, besides the breaker.

/// Who watches the attempts of a [`ClientStack`](super::ClientStack): nobody, or the telemetry's layers.
pub trait Observers: Clone + sealed::Sealed {
    /// What the breaker shares its look with.
    type Observer: Clone;

    #[doc(hidden)]
    fn observer(&self) -> Self::Observer;
}

/// Nobody.
impl Observers for () {
    type Observer = ();

    fn observer(&self) {}
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else may implement Observers")]
    pub trait Sealed {}

    impl Sealed for () {}
    #[cfg(feature = "telemetry")]
    impl Sealed for crate::telemetry::ClientLayer {}
}
