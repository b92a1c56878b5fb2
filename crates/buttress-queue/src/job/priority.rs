use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How urgent a job is, the most urgent first. Complete by nature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before everything else, and never thrown away for something else.
    Critical,
    /// Before what is normal.
    High,
    /// The default.
    #[default]
    Normal,
    /// After everything else, though not for ever: what has waited long is moved up.
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// As a label: `critical`, `high`, `normal`, `low`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn rank(self) -> usize {
        self as usize
    }

    /// The priority at this place of [`ALL`](Self::ALL); the last one for everything beyond.
    pub const fn of_rank(rank: usize) -> Self {
        match rank {
            0 => Self::Critical,
            1 => Self::High,
            2 => Self::Normal,
            _ => Self::Low,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, UnknownPriority> {
        let known = Self::ALL.into_iter().find(|priority| text.eq_ignore_ascii_case(priority.as_str()));
        known.ok_or_else(|| UnknownPriority(text.into()))
    }
}

/// A text that names no [`Priority`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPriority(Box<str>);

impl fmt::Display for UnknownPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no priority is called {:?}: they are critical, high, normal and low", self.0)
    }
}

impl std::error::Error for UnknownPriority {}
