//! The text of a statement without what it is about.

use super::lexer::{Dialect, Kind, Lexer};

/// Of longer statements the beginning is read: a bulk insert of megabytes says no more.
const MOST_READ: usize = 16 * 1024;
/// Where the masked text ends at the latest, in bytes.
const LONGEST: usize = 2048;
/// What stands for what was left out.
const CUT: &str = "...";

/// A statement without literals and comments, whoever's SQL it is.
///
/// Strings, numbers and bit strings become `?`, lists of values one `?`, and rows of values one row. What is in double
/// quotes is a string to some and a name to others, and is kept only where a name of a table stands. Where dialects read
/// on differently (a backslash before a quote, `#`, a comment in a comment), the text ends with `...`, and so it does
/// after 16 KiB of what is read or 2 KiB of what is written.
///
/// ```
/// use buttress::trace::database::mask;
///
/// let masked = mask("SELECT * FROM users WHERE mail = 'ann@b.example' AND age IN (30, 31, 32) -- hers");
/// assert_eq!(masked, "SELECT * FROM users WHERE mail = ? AND age IN (?)");
/// ```
pub fn mask(sql: &str) -> String {
    mask_as(sql, Dialect::Any)
}

/// [`mask`] for SQL of which the dialect is known, of which less has to be left out.
///
/// ```
/// use buttress::trace::database::{Dialect, mask_as};
///
/// let masked = mask_as(r#"SELECT "id" FROM "orders" WHERE note = E'it\'s' OR note = $$it's$$"#, Dialect::PostgreSql);
/// assert_eq!(masked, r#"SELECT "id" FROM "orders" WHERE note = ? OR note = ?"#);
/// ```
pub fn mask_as(sql: &str, dialect: Dialect) -> String {
    let read = &sql[..floor(sql, MOST_READ)];
    let mut masked = Masked { dialect, ..Masked::default() };
    let mut is_whole = read.len() == sql.len();
    for token in Lexer::new(read, dialect) {
        if token.kind == Kind::Unclear || masked.text.len() + token.text.len().min(LONGEST) > LONGEST {
            is_whole = false;
            break;
        }
        masked.push(token.kind, token.text);
    }
    if !is_whole {
        masked.text.push_str(CUT);
    }
    masked.text
}

/// The nearest boundary of a character at or before this byte.
fn floor(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[derive(Default)]
struct Masked {
    text: String,
    dialect: Dialect,
    space: bool,
    /// Where the last value begins, while nothing but a comma has come after it.
    value: Option<usize>,
    comma: bool,
    /// The last word, or the dot after it, says that a name comes.
    names: bool,
}

impl Masked {
    fn push(&mut self, kind: Kind, text: &str) {
        match kind {
            Kind::Space | Kind::Comment => self.space = true,
            Kind::Literal => self.value("?"),
            Kind::Quoted if !self.is_name(text) => self.value("?"),
            Kind::Parameter => self.value(text),
            Kind::Symbol => self.symbol(text),
            Kind::Quoted | Kind::Word | Kind::Unclear => {
                self.value = None;
                self.write(text);
                self.names = kind == Kind::Word && comes_before_names(text);
            }
        }
    }

    fn is_name(&self, text: &str) -> bool {
        match (self.dialect, text.as_bytes()[0]) {
            (Dialect::PostgreSql, _) | (_, b'`' | b'[') => true,
            _ => self.names,
        }
    }

    /// A value after a value and a comma melts into it.
    fn value(&mut self, shown: &str) {
        self.names = false;
        match self.value.filter(|_| self.comma) {
            Some(at) => {
                self.text.truncate(at);
                self.text.push('?');
            }
            None => {
                self.write(shown);
                self.value = Some(self.text.len() - shown.len());
            }
        }
        (self.comma, self.space) = (false, false);
    }

    fn symbol(&mut self, text: &str) {
        let keeps_value = text == "," && self.value.is_some() && !self.comma;
        self.names = text == ".";
        self.space &= !matches!(text, "," | ")" | ";" | ".");
        self.write(text);
        self.space = text == ",";
        self.comma = keeps_value;
        if !keeps_value {
            self.value = None;
        }
        if text == ")" && self.text.ends_with("(?), (?)") {
            self.text.truncate(self.text.len() - ", (?)".len());
        }
    }

    fn write(&mut self, text: &str) {
        if std::mem::take(&mut self.space) && !self.text.is_empty() && !self.text.ends_with(['(', '.', ' ']) {
            self.text.push(' ');
        }
        self.text.push_str(text);
    }
}

fn comes_before_names(word: &str) -> bool {
    ["from", "join", "into", "update", "table", "only"].iter().any(|known| word.eq_ignore_ascii_case(known))
}
