//! Which trace a statement belongs to, told to the database in a comment.

use std::borrow::Cow;
use std::fmt::Write;

use super::lexer::{Dialect, Kind, Lexer};
use crate::context::Context;

/// Where and how the comment is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommentForm {
    /// At the end, as sqlcommenter and OpenTelemetry have it: `SELECT 1 /*traceparent='00-..-..-01'*/`.
    #[default]
    Sqlcommenter,
    /// In front, for readers of logs: `/* traceId: .., spanId: .. */ SELECT 1`.
    Leading,
}

/// The statement with a sqlcommenter comment at its end.
///
/// A statement that has a comment already is left as it is, as sqlcommenter asks, and so is one that does not end where it
/// seems to (an open quote), or whose end depends on the dialect. The comment stands before a closing `;`. Values are
/// percent-encoded, so that nothing in a `tracestate` ends the comment.
///
/// ```
/// use buttress::context::{Context, TraceContext};
/// use buttress::trace::database::comment;
///
/// let trace = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
/// assert_eq!(
///     comment("SELECT 1;", &Context::from_trace(trace)),
///     "SELECT 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/;",
/// );
/// ```
pub fn comment<'a>(sql: &'a str, context: &Context) -> Cow<'a, str> {
    comment_as(sql, context, CommentForm::Sqlcommenter)
}

/// [`comment`] in this form.
///
/// ```
/// use buttress::context::Context;
/// use buttress::trace::database::{CommentForm, comment_as};
///
/// let commented = comment_as("SELECT 1", &Context::root(), CommentForm::Leading);
/// assert!(commented.starts_with("/* traceId: ") && commented.ends_with(" */ SELECT 1"));
/// ```
pub fn comment_as<'a>(sql: &'a str, context: &Context, form: CommentForm) -> Cow<'a, str> {
    commented(sql, context, form, Dialect::Any)
}

/// [`comment_as`] for SQL of which the dialect is known: less of it is unclear.
pub(super) fn commented<'a>(sql: &'a str, context: &Context, form: CommentForm, dialect: Dialect) -> Cow<'a, str> {
    let Some(end) = end_of(sql, dialect) else {
        return Cow::Borrowed(sql);
    };
    let mut out = String::with_capacity(sql.len() + 96);
    match form {
        CommentForm::Sqlcommenter => {
            out.push_str(&sql[..end]);
            out.push_str(" /*");
            write_pairs(&mut out, context);
            out.push_str("*/");
            out.push_str(&sql[end..]);
        }
        CommentForm::Leading => {
            let (trace_id, span_id) = (context.trace_id(), context.span_id());
            let _ = write!(out, "/* traceId: {trace_id}, spanId: {span_id} */ {sql}");
        }
    }
    Cow::Owned(out)
}

/// Where the statement ends, before a closing `;`; `None` when nothing may be added.
fn end_of(sql: &str, dialect: Dialect) -> Option<usize> {
    let mut end = 0;
    let mut last_is_open = false;
    for token in Lexer::new(sql, dialect) {
        match token.kind {
            Kind::Comment | Kind::Unclear => return None,
            Kind::Space => {}
            // `a /` and `a -` are no statements, but must not become another one.
            _ if token.text == ";" => last_is_open = false,
            _ => {
                end = token.at + token.text.len();
                last_is_open = matches!(token.text, "/" | "*" | "-");
            }
        }
    }
    (end > 0 && !last_is_open).then_some(end)
}

/// The pairs in the order of their keys.
fn write_pairs(out: &mut String, context: &Context) {
    out.push_str("traceparent='");
    out.extend(context.trace().encode().map(char::from));
    out.push('\'');
    let tracestate = context.tracestate();
    if !tracestate.is_empty() {
        out.push_str(",tracestate='");
        encode(tracestate.as_str(), out);
        out.push('\'');
    }
}

/// Everything but what RFC 3986 calls unreserved becomes `%XX`.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            byte if byte.is_ascii_alphanumeric() => out.push(byte as char),
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
}
