//! Ids of jobs as BullMQ takes them.

use std::borrow::Cow;

use crate::job::JobId;

/// The id under which BullMQ knows a job.
///
/// `:` separates what keys are made of, a whole number is one that BullMQ gave, and a plain word may be a key of the queue
/// itself (`wait`, `meta`): in all three a character is written as `%` and two hexadecimal digits, as `%` itself is.
pub(super) fn encode(id: &JobId) -> Cow<'_, str> {
    let text = id.as_str();
    let word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if !word && !number && !text.contains([':', '%']) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for (place, character) in text.chars().enumerate() {
        if matches!(character, ':' | '%') || (place == 0 && (word || number)) {
            encoded.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            encoded.push(character);
        }
    }
    Cow::Owned(encoded)
}

/// The id of a job that BullMQ knows under this one: ours, or that of whoever else pushed it. `None` for what is no
/// [`JobId`].
pub(super) fn decode(raw: &str) -> Option<JobId> {
    let ours = unescape(raw).and_then(|text| JobId::new(text).ok()).filter(|id| encode(id) == raw);
    ours.or_else(|| JobId::new(raw).ok())
}

/// What BullMQ may know this job under: as we write it, and as others may have.
pub(super) fn candidates(id: &JobId) -> Vec<String> {
    let ours = encode(id).into_owned();
    let mut candidates = vec![ours];
    if candidates[0] != id.as_str() {
        candidates.push(id.as_str().to_owned());
    }
    candidates
}

fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, escaped)) = rest.split_once('%') {
        text.push_str(before);
        let byte = u8::from_str_radix(escaped.get(..2)?, 16).ok()?;
        text.push(char::from(byte));
        rest = &escaped[2..];
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_bullmq_refuses_or_uses_itself_is_written_in_another_way() {
        let encoded = |id: &str| encode(&JobId::new(id).unwrap()).into_owned();
        assert_eq!(encoded("evt-17"), "evt-17");
        assert_eq!(encoded("evt:17"), "evt%3A17");
        assert_eq!(encoded("17"), "%317");
        assert_eq!(encoded("meta"), "%6Deta");
        assert_eq!(encoded("100%"), "100%25");
    }

    #[test]
    fn ids_that_others_gave_are_kept() {
        assert_eq!(decode("17").unwrap().as_str(), "17");
        assert_eq!(decode("repeat:a:17").unwrap().as_str(), "repeat:a:17");
        assert_eq!(decode("50%").unwrap().as_str(), "50%");
        assert!(decode("two words").is_none());
    }

    proptest! {
        #[test]
        fn every_id_is_read_back(text in "[!-~]{1,40}") {
            let id = JobId::new(text).unwrap();
            prop_assert_eq!(decode(&encode(&id)), Some(id.clone()));
            let raw = encode(&id).into_owned();
            prop_assert!(!raw.contains(':') && raw.parse::<u64>().is_err());
        }
    }
}
