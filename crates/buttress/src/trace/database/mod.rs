//! Calls to databases: comments that carry the trace, texts without literals, and wrappers of drivers.
//!
//! ```
//! use buttress::context::Context;
//! use buttress::trace::database::{Statement, comment, mask};
//!
//! let sql = "SELECT * FROM orders WHERE mail = 'ann@b.example'";
//! assert_eq!(mask(sql), "SELECT * FROM orders WHERE mail = ?");
//! assert_eq!(Statement::of(sql).summary(), "SELECT orders");
//! assert!(comment(sql, &Context::root()).contains("/*traceparent='00-"));
//! ```
//!
//! With feature `sqlx` there is [`sqlx::Traced`], with feature `redis` [`redis::Traced`]. Neither is in `full`: they are of
//! use to who has the driver anyway, and `sqlx` needs Rust 1.94, as sqlx 0.9 does, where all the rest needs 1.88.
//!
//! Each call is a span of kind CLIENT by OpenTelemetry's conventions for databases (`db.system.name`, `db.operation.name`,
//! `db.collection.name`, `db.namespace`, `db.query.text`, `db.query.summary`, `db.operation.batch.size`,
//! `db.response.status_code`, `db.response.returned_rows`, `server.address`, `server.port`, `error.type`), and is counted
//! in the histogram `db.client.operation.duration`, sampled or not. A call that is slow has `buttress.db.slow` besides.
//! Parameters, keys, values and the messages of errors are never recorded.
//!
//! # Comments
//!
//! Off by default. A database caches what it has prepared by its text, and a comment that names a span makes each text a
//! new one. With sqlx 0.9.0 and PostgreSQL 15 (3000 each on two cores) a small join took 114 µs prepared once, 404 µs (3.5
//! times as long) with a comment of its own, leaving a statement behind in the server each time, and 271 µs (2.4 times)
//! when it was closed afterwards (`benches`, `--bin database`). Therefore `DatabaseTrace::comments` leaves prepared statements alone, and with
//! `DatabaseTrace::comment_prepared` those with a comment are closed. Only sampled statements get one.
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `lexer` | SQL in pieces, for each dialect |
//! | `mask`, `statement`, `comment` | what is told of a statement, and to whom |
//! | `call` | `DatabaseTrace`, and a call from beginning to end |
//! | `sqlx`, `redis` | the wrappers |

#[cfg(any(feature = "sqlx", feature = "redis"))]
mod call;
mod comment;
mod lexer;
mod mask;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod statement;

#[cfg(any(feature = "sqlx", feature = "redis"))]
pub use call::DatabaseTrace;
pub use comment::{CommentForm, comment, comment_as};
pub use lexer::Dialect;
pub use mask::{mask, mask_as};
pub use statement::Statement;
