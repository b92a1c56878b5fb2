use std::fmt;

/// What a server calls its error: an SQLSTATE (`23505`), an error prefix of Redis (`WRONGTYPE`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode {
    bytes: [u8; Self::LONGEST],
    length: u8,
}

impl ErrorCode {
    /// Bytes of the longest code.
    pub const LONGEST: usize = 15;

    /// A code of 1 to 15 letters, digits, `_`, `-` and `.` of ASCII; `None` for anything else, which may be a message.
    pub fn new(code: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if !(1..=Self::LONGEST).contains(&code.len()) || !code.bytes().all(fits) {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        bytes[..code.len()].copy_from_slice(code.as_bytes());
        Some(Self { bytes, length: code.len() as u8 })
    }

    /// As the server says it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length.into()]).expect("it is ASCII")
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ErrorCode").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_kept_and_a_message_is_not() {
        for code in ["23505", "WRONGTYPE", "2067", "HY000"] {
            assert_eq!(ErrorCode::new(code).map(|code| code.as_str().to_owned()).as_deref(), Some(code));
        }
        for message in ["", "key 'ann' is there", "a-code-that-is-too-long", "ümlaut"] {
            assert_eq!(ErrorCode::new(message), None);
        }
    }
}
