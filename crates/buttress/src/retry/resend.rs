//! The repeat tells its span which attempt it is, and which span the attempt before had.

pub(super) use kept::Previous;

#[cfg(feature = "trace")]
mod kept {
    use http::Extensions;

    use crate::context::{TraceContext, take_recorded};
    use crate::trace::Resend;

    /// The span of the attempt before, when one was recorded.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct Previous(Option<TraceContext>);

    impl Previous {
        pub(in super::super) const NONE: Self = Self(None);

        /// Before the inner service is called.
        pub(in super::super) fn forget() {
            take_recorded();
        }

        /// The span that the inner service has begun since.
        pub(in super::super) fn recorded() -> Self {
            Self(take_recorded())
        }

        pub(in super::super) fn tell(self, extensions: &mut Extensions, count: u32) {
            extensions.insert(Resend { count, previous: self.0 });
        }
    }
}

#[cfg(not(feature = "trace"))]
mod kept {
    use http::Extensions;

    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct Previous;

    impl Previous {
        pub(in super::super) const NONE: Self = Self;

        pub(in super::super) fn forget() {}

        pub(in super::super) fn recorded() -> Self {
            Self
        }

        pub(in super::super) fn tell(self, _: &mut Extensions, _: u32) {}
    }
}
