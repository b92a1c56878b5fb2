use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use buttress::redact;

/// Why something went wrong with a job, for people and for dead letters. Kept to [`Reason::LONGEST`]
/// bytes, and without the secrets that URLs and query strings may have in them ([`redact::text`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// Longest reason that is kept, in bytes; the rest is cut.
    pub const LONGEST: usize = 1024;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Reason {
    fn from(text: T) -> Self {
        let text = text.into();
        let mut text = match redact::text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(redacted) => Cow::Owned(redacted),
        };
        if text.len() > Self::LONGEST {
            let end = (0..=Self::LONGEST).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
            text = Cow::Owned(text[..end].to_owned());
        }
        Self(text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a processor says of a job: its `Service::Response`. Complete by nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Ack,
    /// It failed and is to be tried again, after this time or after the worker's backoff. Uses an attempt; the last one
    /// makes a dead letter of it.
    Retry {
        /// How long to wait; by the worker's backoff when nothing is said.
        after: Option<Duration>,
        /// What went wrong.
        reason: Reason,
    },
    /// It was not tried and is to be tried later: the breaker is open, the receiver said 429. Uses no attempt.
    Defer {
        /// How long to wait.
        after: Duration,
        /// What stood in the way.
        reason: Reason,
    },
    /// It can never succeed: a dead letter at once.
    Bury {
        /// Why not.
        reason: Reason,
    },
}

impl Outcome {
    /// To be tried again after the worker's backoff.
    pub fn retry(reason: impl Into<Reason>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    /// To be tried again after this time.
    pub fn retry_after(after: Duration, reason: impl Into<Reason>) -> Self {
        Self::Retry { after: Some(after), reason: reason.into() }
    }

    /// To be tried after this time, without using an attempt.
    pub fn defer(after: Duration, reason: impl Into<Reason>) -> Self {
        Self::Defer { after, reason: reason.into() }
    }

    /// Never to be tried again.
    pub fn bury(reason: impl Into<Reason>) -> Self {
        Self::Bury { reason: reason.into() }
    }

    /// As a label: `ack`, `retry`, `defer`, `bury`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry { .. } => "retry",
            Self::Defer { .. } => "defer",
            Self::Bury { .. } => "bury",
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Ack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_no_secret_of_a_url() {
        let reason = Reason::from("https://bob:pw@hooks.example.com/in?token=t0k refused it");
        assert!(!reason.as_str().contains("pw@") && !reason.as_str().contains("t0k"), "{reason}");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::from("ä".repeat(1000));
        assert_eq!(reason.as_str().len(), 1024);
        let odd = Reason::from(format!("x{}", "ä".repeat(1000)));
        assert_eq!(odd.as_str().len(), 1023);
    }
}
