use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest id, in bytes.
const LONGEST: usize = 200;

/// The id of a job: of its event, of the message of a webhook. 1 to 200 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct JobId(Arc<str>);

impl JobId {
    /// This id.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or has characters in it that are not visible ASCII.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidId> {
        let id = id.into();
        if id.is_empty() || id.len() > LONGEST {
            return Err(InvalidId::Length(id.len()));
        }
        match id.chars().find(|character| !character.is_ascii_graphic()) {
            Some(character) => Err(InvalidId::Character(character)),
            None => Ok(Self(id)),
        }
    }

    /// A new id: a UUID of version 7, which is in the order of time.
    pub fn random() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Uuid> for JobId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string().into())
    }
}

impl From<JobId> for Arc<str> {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl TryFrom<Arc<str>> for JobId {
    type Error = InvalidId;

    fn try_from(id: Arc<str>) -> Result<Self, InvalidId> {
        Self::new(id)
    }
}

impl TryFrom<&str> for JobId {
    type Error = InvalidId;

    fn try_from(id: &str) -> Result<Self, InvalidId> {
        Self::new(id)
    }
}

/// Why a text is no [`JobId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidId {
    /// It has so many bytes.
    Length(usize),
    /// It has this character in it.
    Character(char),
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "an id of {length} bytes: it has 1 to {LONGEST}"),
            Self::Character(character) => write!(f, "an id with {character:?} in it: it has visible ASCII characters"),
        }
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_visible_ascii_of_a_bounded_length() {
        assert_eq!(JobId::new("evt:17").unwrap().as_str(), "evt:17");
        assert_eq!(JobId::new(""), Err(InvalidId::Length(0)));
        assert_eq!(JobId::new("x".repeat(201)), Err(InvalidId::Length(201)));
        assert_eq!(JobId::new("a b"), Err(InvalidId::Character(' ')));
        assert_eq!(
            JobId::new("naïve").unwrap_err().to_string(),
            "an id with 'ï' in it: it has visible ASCII characters"
        );
    }

    #[test]
    fn what_is_read_is_checked_as_well() {
        assert!(serde_json::from_str::<JobId>(r#""a\nb""#).is_err());
        assert_eq!(serde_json::from_str::<JobId>(r#""ab""#).unwrap(), JobId::new("ab").unwrap());
    }
}
