//! Connections to Redis that are watched. Feature `redis`.
//!
//! ```no_run
//! use buttress::metrics::Registry;
//! use buttress::trace::Spans;
//! use buttress::trace::database::DatabaseTrace;
//! use buttress::trace::database::redis::Traced;
//!
//! # async fn example<C: redis::aio::ConnectionLike + Send>(connection: C) -> redis::RedisResult<()> {
//! let (spans, registry) = (Spans::new(), Registry::new());
//! let trace = DatabaseTrace::new(spans, &registry).server("cache.internal", 6379);
//! let mut connection = Traced::new(connection, trace);
//!
//! // Wherever redis takes a connection: commands, pipelines, transactions, scripts.
//! redis::cmd("SET").arg("cart:7").arg("full").exec_async(&mut connection).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use ::redis::aio::ConnectionLike;
use ::redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value};

use super::call::{Call, DatabaseTrace, Described, Failure};
use crate::context;

/// A connection each of whose commands and pipelines is a span and is timed.
///
/// Spans are named after the command: `GET`; `PIPELINE` or `MULTI` for several, with the command behind it where all are
/// the same. An error that the server sends comes back from the driver as a value, and counts as an error all the same,
/// in pipelines and transactions for each item. Keys and values are never recorded.
///
/// Publish and subscribe do not go through here, for the driver has other types for them.
#[derive(Clone)]
pub struct Traced<C> {
    inner: C,
    trace: Arc<DatabaseTrace>,
}

impl<C> Traced<C> {
    /// Watches what goes through this connection, which may be one of a manager or a cluster.
    pub fn new(connection: C, trace: DatabaseTrace) -> Self {
        Self { inner: connection, trace: Arc::new(trace) }
    }

    /// What is watched.
    pub fn inner(&self) -> &C {
        &self.inner
    }

    /// What is watched, from now on unseen.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C> fmt::Debug for Traced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").field("trace", &self.trace).finish_non_exhaustive()
    }
}

impl<C: ConnectionLike + Send> ConnectionLike for Traced<C> {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut call = Call::begin(&self.trace, Commands::one(cmd, self.inner.get_db()));
        Box::pin(async move {
            let result = self.inner.req_packed_command(cmd).await;
            let failed = match &result {
                Ok(Value::ServerError(error)) => Err(Failure::coded(error.code())),
                Ok(_) => Ok(()),
                Err(error) => Err(failure(error)),
            };
            call.end(failed);
            result
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let mut call = Call::begin(&self.trace, Commands::of(pipeline, self.inner.get_db()));
        Box::pin(async move {
            let result = self.inner.req_packed_commands(pipeline, offset, count).await;
            let failed = match &result {
                Ok(answers) => call.what.read(answers),
                Err(error) => Err(failure(error)),
            };
            call.end(failed);
            result
        })
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}

/// The name of a command: short, and of few values.
const LONGEST_NAME: usize = 32;

/// What is under way.
struct Commands {
    operation: String,
    waits: bool,
    arguments: usize,
    /// 1 for a command alone.
    batch: usize,
    failed: u64,
    database: String,
}

impl Commands {
    fn one(cmd: &Cmd, database: i64) -> Self {
        let operation = name_of(cmd);
        Self {
            waits: waits(cmd, &operation),
            arguments: cmd.args_iter().len().saturating_sub(1),
            batch: 1,
            failed: 0,
            database: database.to_string(),
            operation,
        }
    }

    fn of(pipeline: &Pipeline, database: i64) -> Self {
        let kind = if pipeline.is_transaction() { "MULTI" } else { "PIPELINE" };
        let mut names = pipeline.cmd_iter().map(name_of);
        let first = names.next();
        let same = first.filter(|first| names.all(|name| name == *first));
        let operation = match same {
            Some(name) if pipeline.len() == 1 && !pipeline.is_transaction() => name,
            Some(name) => format!("{kind} {name}"),
            None => kind.to_owned(),
        };
        Self {
            operation,
            waits: pipeline.cmd_iter().any(|cmd| waits(cmd, &name_of(cmd))),
            arguments: pipeline.cmd_iter().map(|cmd| cmd.args_iter().len().saturating_sub(1)).sum(),
            batch: pipeline.len(),
            failed: 0,
            database: database.to_string(),
        }
    }

    /// Counts the errors among the answers; the first one names the failure.
    fn read(&mut self, answers: &[Value]) -> Result<(), Failure> {
        let mut first = None;
        let mut see = |answer: &Value| {
            if let Value::ServerError(error) = answer {
                self.failed += 1;
                first.get_or_insert_with(|| Failure::coded(error.code()));
            }
        };
        for answer in answers {
            match answer {
                // The answers of a transaction come as one.
                Value::Array(inner) => inner.iter().for_each(&mut see),
                answer => see(answer),
            }
        }
        first.map_or(Ok(()), Err)
    }
}

impl Described for Commands {
    fn system(&self) -> &'static str {
        "redis"
    }

    fn operation(&self) -> &str {
        &self.operation
    }

    fn namespace(&self) -> Option<&str> {
        Some(&self.database)
    }

    fn waits(&self) -> bool {
        self.waits
    }

    fn attributes(&self, _trace: &DatabaseTrace, push: &mut dyn FnMut(&'static str, context::Value)) {
        push("buttress.db.arguments", self.arguments.into());
        if self.batch >= 2 {
            push("db.operation.batch.size", self.batch.into());
        }
        if self.failed > 0 {
            push("buttress.db.failed_items", self.failed.into());
        }
    }
}

fn name_of(cmd: &Cmd) -> String {
    let name = match cmd.args_iter().next() {
        Some(Arg::Simple(name)) => std::str::from_utf8(name).unwrap_or_default(),
        _ => "",
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_plain) {
        true => name.to_ascii_uppercase(),
        false => "_OTHER".to_owned(),
    }
}

/// Whether this command may wait for somebody else.
fn waits(cmd: &Cmd, name: &str) -> bool {
    let is_block = |arg: Arg<&[u8]>| matches!(arg, Arg::Simple(text) if text.eq_ignore_ascii_case(b"BLOCK"));
    match name {
        "BLPOP" | "BRPOP" | "BLMOVE" | "BLMPOP" | "BRPOPLPUSH" | "BZPOPMIN" | "BZPOPMAX" | "BZMPOP" | "WAIT"
        | "WAITAOF" => true,
        "XREAD" | "XREADGROUP" => cmd.args_iter().any(is_block),
        _ => false,
    }
}

fn failure(error: &RedisError) -> Failure {
    match error.code() {
        Some(code) => Failure::coded(code),
        None if error.is_timeout() => Failure::Name("timeout"),
        None if error.is_io_error() => Failure::Name("io"),
        None => match error.kind() {
            ErrorKind::Parse => Failure::Name("parse"),
            ErrorKind::AuthenticationFailed => Failure::Name("authentication_failed"),
            ErrorKind::Client => Failure::Name("client"),
            ErrorKind::ClusterConnectionNotFound => Failure::Name("cluster_connection_not_found"),
            _ => Failure::Uncoded,
        },
    }
}
