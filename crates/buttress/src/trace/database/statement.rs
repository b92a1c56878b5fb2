//! What a statement does, and to what: `SELECT orders`.

use std::borrow::Cow;

use super::lexer::{Dialect, Kind, Lexer, Token};

/// Operation and target of a statement, for names of spans and labels of metrics.
///
/// ```
/// use buttress::trace::database::Statement;
///
/// let statement = Statement::of("with recent as (select 1) select * from shop.orders join lines using (id)");
/// assert_eq!((statement.operation, statement.collection), ("SELECT", Some("shop.orders")));
/// assert_eq!(statement.summary(), "SELECT shop.orders");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The command in upper case; `_OTHER` for one that is not known. Of several statements, that of the first.
    pub operation: &'static str,
    /// The first table that it is about, as it is written; none when that is a subquery, or longer than 64 bytes.
    pub collection: Option<&'a str>,
}

const OTHER: &str = "_OTHER";

const OPERATIONS: [&str; 40] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "REPLACE",
    "VALUES",
    "CALL",
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "CREATE",
    "ALTER",
    "DROP",
    "TRUNCATE",
    "COPY",
    "SET",
    "RESET",
    "SHOW",
    "EXPLAIN",
    "ANALYZE",
    "VACUUM",
    "LOCK",
    "LISTEN",
    "NOTIFY",
    "UNLISTEN",
    "PRAGMA",
    "ATTACH",
    "DETACH",
    "GRANT",
    "REVOKE",
    "REINDEX",
    "DECLARE",
    "FETCH",
    "DO",
    "WITH",
];

/// What may stand between the word that announces a table and its name.
const FILLERS: [&str; 8] = ["ONLY", "IF", "NOT", "EXISTS", "LOW_PRIORITY", "IGNORE", "OR", "LATERAL"];

/// Deep in a text is nothing that its name needs.
const MOST_READ: usize = 4096;
const LONGEST_NAME: usize = 64;

impl<'a> Statement<'a> {
    /// Reads the beginning of this SQL: 4096 pieces at most.
    pub fn of(sql: &'a str) -> Self {
        Self::read(sql, Dialect::Any)
    }

    /// Operation and target with a space between, or the operation alone: OpenTelemetry's `db.query.summary`.
    pub fn summary(&self) -> Cow<'static, str> {
        match self.collection {
            Some(collection) => Cow::Owned(format!("{} {collection}", self.operation)),
            None => Cow::Borrowed(self.operation),
        }
    }

    pub(super) fn read(sql: &'a str, dialect: Dialect) -> Self {
        let certain = Lexer::new(sql, dialect).take(MOST_READ).take_while(|token| token.kind != Kind::Unclear);
        let mut tokens = certain.filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment));
        let first = tokens.by_ref().find(|token| token.kind == Kind::Word);
        let Some(mut operation) = first.and_then(|token| known(token.text)) else {
            return Self { operation: OTHER, collection: None };
        };
        if operation == "WITH" {
            operation = main_of(&mut tokens).unwrap_or("WITH");
        }
        let collection = match operation {
            "UPDATE" | "TRUNCATE" | "COPY" | "LOCK" => name_in(sql, &mut tokens),
            "SELECT" | "DELETE" => after("FROM", sql, &mut tokens),
            "INSERT" | "REPLACE" | "MERGE" => after("INTO", sql, &mut tokens),
            "CREATE" | "ALTER" | "DROP" => after("TABLE", sql, &mut tokens),
            _ => None,
        };
        Self { operation, collection }
    }
}

fn known(word: &str) -> Option<&'static str> {
    OPERATIONS.into_iter().find(|known| known.eq_ignore_ascii_case(word))
}

/// How deep in parentheses each piece stands.
fn depth(depth: &mut i32, token: &Token<'_>) -> i32 {
    match token.text {
        "(" => *depth += 1,
        ")" => *depth -= 1,
        _ => {}
    }
    *depth
}

/// The statement behind the common table expressions.
fn main_of<'a>(tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<&'static str> {
    let mut inside = 0;
    tokens.find_map(|token| {
        let is_main = depth(&mut inside, &token) == 0 && token.kind == Kind::Word;
        let main = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES"];
        known(token.text).filter(|word| is_main && main.contains(word))
    })
}

fn after<'a>(word: &str, sql: &'a str, tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<&'a str> {
    let mut inside = 0;
    tokens
        .take_while(|token| token.text != ";")
        .find(|token| depth(&mut inside, token) == 0 && token.text.eq_ignore_ascii_case(word))?;
    name_in(sql, tokens)
}

/// The name that comes next, with the schema before it, without the quotes around it.
fn name_in<'a>(sql: &'a str, tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<&'a str> {
    let is_filler = |token: &Token<'_>| {
        let filler = FILLERS.iter().any(|filler| filler.eq_ignore_ascii_case(token.text));
        token.kind == Kind::Word && (filler || token.text.eq_ignore_ascii_case("TABLE"))
    };
    let is_part = |token: &Token<'_>| matches!(token.kind, Kind::Word | Kind::Quoted);
    let first = tokens.find(|token| !is_filler(token)).filter(is_part)?;
    let mut end = first.at + first.text.len();
    while let Some(dot) = tokens.next().filter(|token| token.text == "." && token.at == end) {
        let part = tokens.next().filter(|token| is_part(token) && token.at == dot.at + 1)?;
        end = part.at + part.text.len();
    }
    let name = &sql[first.at..end];
    let bare = match first.kind {
        Kind::Quoted if name.len() == first.text.len() => &name[1..name.len() - 1],
        _ => name,
    };
    (1..=LONGEST_NAME).contains(&bare.len()).then_some(bare)
}
