//! SQL cut into pieces, as far as is needed to tell literals and comments from the rest; linear in its length.

/// Whose SQL it is. Dialects differ in what is quoted, and a reader that takes one for the other shows what is a literal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// Not known: what is a literal in any dialect counts as one, and what dialects read differently ends the reading.
    #[default]
    Any,
    /// PostgreSQL, with `standard_conforming_strings` on as it is by default.
    PostgreSql,
    /// SQLite.
    Sqlite,
    /// MySQL and MariaDB, with the default `sql_mode`.
    MySql,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    Comment,
    /// A string, number, or bit string.
    Literal,
    /// In double quotes, backticks or brackets.
    Quoted,
    Word,
    /// `$1`, `?`, `:name`, `@name`.
    Parameter,
    Symbol,
    /// From here on nothing is certain: something is not ended, or dialects read it differently.
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Where it begins.
    pub(super) at: usize,
}

pub(super) struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    dialect: Dialect,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(sql: &'a str, dialect: Dialect) -> Self {
        Self { sql, at: 0, dialect }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.sql[self.at..];
        let first = *rest.as_bytes().first()?;
        // Every end is behind an ASCII character or at the end of all, so that no character is cut.
        let (kind, length) = self.piece(rest, first).unwrap_or((Kind::Unclear, rest.len()));
        let token = Token { kind, text: &rest[..length], at: self.at };
        self.at += length;
        Some(token)
    }
}

impl Lexer<'_> {
    /// Kind and length of what comes first; `None` when that cannot be told.
    fn piece(&self, rest: &str, first: u8) -> Option<(Kind, usize)> {
        use Dialect::{Any, MySql, PostgreSql, Sqlite};
        let bytes = rest.as_bytes();
        let second = bytes.get(1).copied().unwrap_or(0);
        Some(match first {
            b if b.is_ascii_whitespace() || b == 0x0b => {
                (Kind::Space, run(bytes, 0, |b| b.is_ascii_whitespace() || b == 0x0b))
            }
            b'-' if second == b'-' => (Kind::Comment, line(bytes)),
            b'#' => match self.dialect {
                MySql => (Kind::Comment, line(bytes)),
                Any => return None,
                _ => (Kind::Symbol, 1),
            },
            b'/' if second == b'*' => (Kind::Comment, self.block_comment(bytes)?),
            b'\'' => (Kind::Literal, self.string(bytes, 0, self.dialect == MySql)?),
            b'"' => (Kind::Quoted, self.string(bytes, 0, self.dialect == MySql)?),
            b'`' => (Kind::Quoted, closed(bytes, 1, b'`')?),
            b'[' if self.dialect == Sqlite => (Kind::Quoted, closed(bytes, 1, b']')?),
            b'$' if matches!(self.dialect, Any | PostgreSql) => dollar(rest)?,
            b'?' | b'$' | b':' | b'@' => {
                let length = run(bytes, 1, is_word);
                // `::` is a cast, and a lone `:` or `@` part of an operator.
                let named = first == b'?' || length > 1;
                (if named { Kind::Parameter } else { Kind::Symbol }, length)
            }
            b if b.is_ascii_digit() || (b == b'.' && second.is_ascii_digit()) => (Kind::Literal, number(bytes)),
            b if is_word(b) => self.word(bytes)?,
            _ => (Kind::Symbol, 1),
        })
    }

    /// A word, or the literal that it opens: `E'..'`, `B'..'`, `X'..'`, `N'..'`, `U&'..'`, `_utf8'..'`.
    fn word(&self, bytes: &[u8]) -> Option<(Kind, usize)> {
        let length = run(bytes, 0, is_word);
        let quote = match bytes[..length] {
            [b'u' | b'U'] if bytes[length..].starts_with(b"&'") || bytes[length..].starts_with(b"&\"") => length + 1,
            _ => length,
        };
        let opens = quote > length || bytes[0] == b'_' || matches!(bytes[..length], [b] if b"eEbBxXnN".contains(&b));
        match bytes.get(quote) {
            Some(b'\'') if opens => {
                let escapes = matches!(bytes[..length], [b'e' | b'E']) || self.dialect == Dialect::MySql;
                Some((Kind::Literal, self.string(bytes, quote, escapes)?))
            }
            Some(b'"') if quote > length => Some((Kind::Quoted, closed(bytes, quote + 1, b'"')?)),
            _ => Some((Kind::Word, length)),
        }
    }

    /// The end of a string whose quote is here.
    fn string(&self, bytes: &[u8], quote: usize, escapes: bool) -> Option<usize> {
        let mark = bytes[quote];
        let mut at = quote + 1;
        loop {
            match *bytes.get(at)? {
                b'\\' if escapes => at += 2,
                // Whether this quote is escaped depends on who reads it.
                b'\\' if self.dialect == Dialect::Any && matches!(bytes.get(at + 1), Some(b'\\' | b'\'' | b'"')) => {
                    return None;
                }
                b if b != mark => at += 1,
                _ if bytes.get(at + 1) == Some(&mark) => at += 2,
                _ => return Some(at + 1),
            }
        }
    }

    fn block_comment(&self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut depth) = (2, 1_usize);
        while depth > 0 {
            match (*bytes.get(at)?, bytes.get(at + 1)) {
                (b'*', Some(b'/')) => (at, depth) = (at + 2, depth - 1),
                (b'/', Some(b'*')) => match self.dialect {
                    Dialect::PostgreSql => (at, depth) = (at + 2, depth + 1),
                    Dialect::Any => return None,
                    _ => at += 1,
                },
                _ => at += 1,
            }
        }
        Some(at)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn run(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|byte| !belongs(*byte)).map_or(bytes.len(), |length| from + length)
}

fn line(bytes: &[u8]) -> usize {
    run(bytes, 0, |byte| byte != b'\n' && byte != b'\r')
}

/// The end of what this mark closes, where two of them stand for one.
fn closed(bytes: &[u8], from: usize, mark: u8) -> Option<usize> {
    let mut at = from;
    loop {
        match *bytes.get(at)? {
            byte if byte != mark => at += 1,
            _ if bytes.get(at + 1) == Some(&mark) => at += 2,
            _ => return Some(at + 1),
        }
    }
}

/// `$1`, or `$tag$ .. $tag$`.
fn dollar(rest: &str) -> Option<(Kind, usize)> {
    let bytes = rest.as_bytes();
    let digits = run(bytes, 1, |byte| byte.is_ascii_digit());
    if digits > 1 {
        return Some((Kind::Parameter, digits));
    }
    let tag = run(bytes, 1, |byte| is_word(byte) && byte != b'$');
    if bytes.get(tag) != Some(&b'$') {
        let kind = if tag > 1 { Kind::Parameter } else { Kind::Symbol };
        return Some((kind, tag));
    }
    let mark = &rest[..=tag];
    rest[tag + 1..].find(mark).map(|length| (Kind::Literal, tag + 1 + length + mark.len()))
}

/// Digits of any base, a fraction, an exponent; what hangs on it belongs to it, since it is no name.
fn number(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let is_sign = matches!(byte, b'+' | b'-') && at > 0 && matches!(bytes[at - 1], b'e' | b'E');
        let is_hex = bytes.len() > 1 && matches!(bytes[1], b'x' | b'X');
        if !(is_word(byte) || byte == b'.' || is_sign && !is_hex) {
            break;
        }
        at += 1;
    }
    at
}
