use std::time::Duration;

/// A part of the business, as an alias of what its functions have in common: attributes, the prefix of their fields, limits.
///
/// `#[observe(domain = payment)]` is [`Domain::PAYMENT`], `domain = "shipping"` a [`Domain::new`], and any path to a constant
/// is that one. Spans and metrics of its functions have `buttress.domain`; a field whose name has no dot begins with the
/// name of the domain: `amount` becomes `payment.amount`.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    pub(super) name: &'static str,
    pub(super) attributes: &'static [(&'static str, &'static str)],
    pub(super) slow: Option<Duration>,
    pub(super) slo: Option<Duration>,
}

impl Domain {
    /// `billing`. Like the other three it has no attributes and no limits.
    pub const BILLING: Self = Self::new("billing");
    /// `payment`
    pub const PAYMENT: Self = Self::new("payment");
    /// `document`
    pub const DOCUMENT: Self = Self::new("document");
    /// `user`
    pub const USER: Self = Self::new("user");

    /// A domain of this name; one of few.
    pub const fn new(name: &'static str) -> Self {
        Self { name, attributes: &[], slow: None, slo: None }
    }

    /// Attributes of every span.
    #[must_use]
    pub const fn attributes(mut self, attributes: &'static [(&'static str, &'static str)]) -> Self {
        self.attributes = attributes;
        self
    }

    /// What takes longer is slow, where a function says nothing else.
    #[must_use]
    pub const fn slow(mut self, longer_than: Duration) -> Self {
        self.slow = Some(longer_than);
        self
    }

    /// The objective, where a function says nothing else.
    #[must_use]
    pub const fn slo(mut self, within: Duration) -> Self {
        self.slo = Some(within);
        self
    }

    /// The key of a field in this domain; made once for each place in the code, and kept.
    pub(super) fn key(&self, field: &'static str) -> &'static str {
        match field.contains('.') {
            true => field,
            false => String::leak(format!("{}.{field}", self.name)),
        }
    }
}
