//! Pools, connections and transactions of sqlx 0.9 that are watched. Feature `sqlx`, which needs Rust 1.94 as sqlx does.
//!
//! Works with each driver; PostgreSQL and SQLite are tested.
//!
//! ```no_run
//! use buttress::metrics::Registry;
//! use buttress::trace::Spans;
//! use buttress::trace::database::DatabaseTrace;
//! use buttress::trace::database::sqlx::Traced;
//! # use sqlx::{Database, Executor, Pool};
//!
//! # async fn example<DB: Database>(pool: Pool<DB>) -> Result<(), sqlx::Error>
//! # where for<'c> &'c mut DB::Connection: Executor<'c, Database = DB> {
//! let (spans, registry) = (Spans::new(), Registry::new());
//! let pool = Traced::new(pool, DatabaseTrace::new(spans, &registry));
//!
//! // Wherever sqlx takes an executor: sqlx::query("..").fetch_all(&pool), and so on.
//! (&pool).execute("DELETE FROM carts WHERE abandoned").await?;
//! let mut transaction = pool.begin().await?;
//! transaction.executor().execute("UPDATE stock SET held = 0").await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::sqlx::error::BoxDynError;
use ::sqlx::pool::PoolConnection;
use ::sqlx::{
    AssertSqlSafe, ConnectOptions, Database, Describe, Either, Error, Execute, Executor, Pool, SqlSafeStr, SqlStr,
    Transaction,
};
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use super::call::{Call, DatabaseTrace, Described, Failure};
use super::comment::commented;
use super::{Dialect, Statement, mask_as};
use crate::context::Value;

type CountAffected = Arc<dyn Fn(&dyn Any) -> Option<u64> + Send + Sync>;

/// A [`Pool`], [`PoolConnection`] or [`Transaction`] each of whose statements is a span and is timed.
///
/// `&Traced<Pool<DB>>` is an [`Executor`]; connections and transactions lend one by `executor()`. The time of a statement
/// on a pool includes waiting for a connection, and that of a stream of rows (`fetch`, `fetch_many`) what its consumer does
/// between them: the statement is not over before its last row is taken. `fetch_all` takes them as fast as they come. A
/// stream that is dropped before its end is cancelled, which is no error.
#[derive(Clone)]
pub struct Traced<T> {
    inner: T,
    trace: Arc<DatabaseTrace>,
    affected: Option<CountAffected>,
}

impl<DB: Database> Traced<Pool<DB>> {
    /// Watches what goes through this pool. Where the database is, is read from the pool's options, unless `trace` says.
    pub fn new(pool: Pool<DB>, trace: DatabaseTrace) -> Self {
        // Others have no host to tell, and their options panic when asked: SQLite's in memory, and by default.
        let has_host = matches!(DB::NAME, "PostgreSQL" | "MySQL");
        let url = has_host.then(|| pool.connect_options().to_url_lossy());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let server = url.as_ref().and_then(|url| Some((text(url.host_str()?)?, url.port())));
        let namespace = url.as_ref().and_then(|url| text(url.path().trim_start_matches('/')));
        let trace = trace.placed(namespace, server);
        Self { inner: pool, trace: Arc::new(trace), affected: None }
    }

    /// Records how many rows were affected, as the driver counts them: `PgQueryResult::rows_affected`.
    #[must_use]
    pub fn rows_affected(mut self, count: fn(&DB::QueryResult) -> u64) -> Self {
        self.affected = Some(Arc::new(move |result: &dyn Any| result.downcast_ref().map(count)));
        self
    }

    /// Begins a transaction that is watched.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::begin`].
    pub async fn begin(&self) -> Result<Traced<Transaction<'static, DB>>, Error> {
        let transaction = self.watch("BEGIN", self.inner.begin()).await?;
        Ok(self.with(transaction))
    }

    /// Takes a connection that is watched. Taking it is no span.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::acquire`].
    pub async fn acquire(&self) -> Result<Traced<PoolConnection<DB>>, Error> {
        Ok(self.with(self.inner.acquire().await?))
    }

    async fn watch<R>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        watched(begin::<DB>(&self.trace, operation.into_sql_str(), None, None), work).await
    }
}

impl<DB: Database> Traced<PoolConnection<DB>> {
    /// For the next statement.
    pub fn executor(&mut self) -> Traced<Lent<'_, DB>> {
        Traced { inner: Lent(&mut *self.inner), trace: Arc::clone(&self.trace), affected: self.affected.clone() }
    }
}

impl<DB: Database> Traced<Transaction<'_, DB>> {
    /// For the next statement.
    pub fn executor(&mut self) -> Traced<Lent<'_, DB>> {
        Traced { inner: Lent(&mut *self.inner), trace: Arc::clone(&self.trace), affected: self.affected.clone() }
    }

    /// Commits.
    ///
    /// # Errors
    ///
    /// Those of [`Transaction::commit`].
    pub async fn commit(self) -> Result<(), Error> {
        let call = begin::<DB>(&self.trace, "COMMIT".into_sql_str(), None, None);
        watched(call, self.inner.commit()).await
    }

    /// Rolls back, which a transaction that is dropped does unseen.
    ///
    /// # Errors
    ///
    /// Those of [`Transaction::rollback`].
    pub async fn rollback(self) -> Result<(), Error> {
        let call = begin::<DB>(&self.trace, "ROLLBACK".into_sql_str(), None, None);
        watched(call, self.inner.rollback()).await
    }
}

impl<T> Traced<T> {
    /// What is watched.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What is watched, from now on unseen.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn with<U>(&self, inner: U) -> Traced<U> {
        Traced { inner, trace: Arc::clone(&self.trace), affected: self.affected.clone() }
    }
}

impl<T> fmt::Debug for Traced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").field("trace", &self.trace).finish_non_exhaustive()
    }
}

/// The connection of a [`Traced`] connection or transaction, for one statement.
///
/// A type of its own: were `&mut Traced<..>` an executor, the compiler would look for executors without end wherever the
/// database of a pool is still to be inferred.
pub struct Lent<'c, DB: Database>(&'c mut DB::Connection);

impl<DB: Database> fmt::Debug for Lent<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

const SQLITE: &str = "SQLite";

/// A statement under way.
struct Sql {
    sql: SqlStr,
    /// In place of the statement's own.
    operation: Option<&'static str>,
    name: &'static str,
    returned: u64,
    affected: Option<u64>,
    count: Option<CountAffected>,
}

impl Sql {
    fn dialect(&self) -> Dialect {
        match self.name {
            "PostgreSQL" => Dialect::PostgreSql,
            SQLITE => Dialect::Sqlite,
            "MySQL" => Dialect::MySql,
            _ => Dialect::Any,
        }
    }

    fn statement(&self) -> Statement<'_> {
        Statement::read(self.sql.as_str(), self.dialect())
    }

    fn saw<DB: Database>(&mut self, step: &Either<DB::QueryResult, DB::Row>) {
        match step {
            Either::Right(_) => self.returned += 1,
            Either::Left(result) => {
                if let Some(affected) = self.count.as_ref().and_then(|count| count(result)) {
                    self.affected = Some(self.affected.unwrap_or(0) + affected);
                }
            }
        }
    }
}

impl Described for Sql {
    fn system(&self) -> &'static str {
        match self.dialect() {
            Dialect::PostgreSql => "postgresql",
            Dialect::Sqlite => "sqlite",
            Dialect::MySql => "mysql",
            Dialect::Any => "other_sql",
        }
    }

    fn operation(&self) -> &str {
        self.operation.unwrap_or_else(|| self.statement().operation)
    }

    fn collection(&self) -> Option<&str> {
        self.statement().collection
    }

    fn attributes(&self, trace: &DatabaseTrace, push: &mut dyn FnMut(&'static str, Value)) {
        push("db.query.summary", self.statement().summary().into());
        if trace.shows_text() {
            push("db.query.text", mask_as(self.sql.as_str(), self.dialect()).into());
        }
        push("db.response.returned_rows", self.returned.into());
        if let Some(affected) = self.affected {
            push("buttress.db.affected_rows", affected.into());
        }
    }
}

fn begin<DB: Database>(
    trace: &Arc<DatabaseTrace>,
    sql: SqlStr,
    operation: Option<&'static str>,
    count: Option<&CountAffected>,
) -> Call<Sql> {
    let count = count.cloned();
    Call::begin(trace, Sql { sql, operation, name: DB::NAME, returned: 0, affected: None, count })
}

async fn watched<R>(mut call: Call<Sql>, work: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
    let result = work.await;
    call.end(result.as_ref().map(drop).map_err(failure));
    result
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Database(error) => error.code().map_or(Failure::Uncoded, |code| Failure::coded(&code)),
        Error::Io(_) => Failure::Name("io"),
        Error::Tls(_) => Failure::Name("tls"),
        Error::Protocol(_) => Failure::Name("protocol"),
        Error::PoolTimedOut => Failure::Name("pool_timed_out"),
        Error::PoolClosed => Failure::Name("pool_closed"),
        Error::WorkerCrashed => Failure::Name("worker_crashed"),
        Error::Encode(_) | Error::InvalidArgument(_) => Failure::Name("encode"),
        Error::RowNotFound => Failure::Name("row_not_found"),
        Error::BeginFailed => Failure::Name("begin_failed"),
        _ => Failure::Uncoded,
    }
}

/// What the driver is given in place of the query. `Execute::sql` consumes a query, and its text is needed at once.
enum Given<E, A> {
    /// A statement that somebody has prepared and keeps.
    Kept(E),
    Text {
        sql: SqlStr,
        arguments: Option<Result<Option<A>, BoxDynError>>,
        persistent: bool,
    },
}

impl<'q, DB: Database, E: Execute<'q, DB>> Execute<'q, DB> for Given<E, DB::Arguments> {
    fn sql(self) -> SqlStr {
        match self {
            Self::Kept(query) => query.sql(),
            Self::Text { sql, .. } => sql,
        }
    }

    fn statement(&self) -> Option<&DB::Statement> {
        match self {
            Self::Kept(query) => query.statement(),
            Self::Text { .. } => None,
        }
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, BoxDynError> {
        match self {
            Self::Kept(query) => query.take_arguments(),
            Self::Text { arguments, .. } => arguments.take().unwrap_or(Ok(None)),
        }
    }

    fn persistent(&self) -> bool {
        match self {
            Self::Kept(query) => query.persistent(),
            Self::Text { persistent, .. } => *persistent,
        }
    }
}

impl<T> Traced<T> {
    /// The call that begins with this query, and what the driver is given for it.
    fn started<'q, DB, E>(&self, mut query: E) -> (Call<Sql>, Given<E, DB::Arguments>)
    where
        DB: Database,
        E: Execute<'q, DB>,
    {
        let begin = |sql| begin::<DB>(&self.trace, sql, None, self.affected.as_ref());
        if let Some(statement) = query.statement() {
            let sql = ::sqlx::Statement::sql(statement).clone();
            return (begin(sql), Given::Kept(query));
        }
        let persistent = query.persistent();
        let arguments = query.take_arguments();
        let is_prepared = !matches!(arguments, Ok(None));
        let sql = query.sql();
        let call = begin(sql.clone());
        let form = self.trace.comment_for(is_prepared).filter(|_| call.context().is_sampled());
        let with_comment = form.and_then(|form| {
            let with_comment = commented(sql.as_str(), call.context(), form, call.what.dialect());
            matches!(with_comment, std::borrow::Cow::Owned(_)).then(|| with_comment.into_owned())
        });
        let arguments = Some(arguments);
        let given = match with_comment {
            // A comment of ids adds no way in: it is made of hex digits and percent-encoded text.
            Some(sql) => Given::Text { sql: AssertSqlSafe(sql).into_sql_str(), arguments, persistent: false },
            None => Given::Text { sql, arguments, persistent },
        };
        (call, given)
    }
}

type Step<DB> = Result<Either<<DB as Database>::QueryResult, <DB as Database>::Row>, Error>;

/// The steps of a statement, counted.
struct Steps<'e, DB: Database> {
    inner: BoxStream<'e, Step<DB>>,
    call: Option<Call<Sql>>,
}

impl<DB: Database> Stream for Steps<'_, DB> {
    type Item = Step<DB>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.as_mut().poll_next(cx);
        let Poll::Ready(step) = &polled else {
            return polled;
        };
        match (step, &mut self.call) {
            (Some(Ok(step)), Some(call)) => call.what.saw::<DB>(step),
            (Some(Err(error)), Some(call)) => {
                call.end(Err(failure(error)));
                self.call = None;
            }
            (None, Some(call)) => {
                call.end(Ok(()));
                self.call = None;
            }
            (_, None) => {}
        }
        polled
    }
}

/// The same for whatever an executor can be taken from; `$inner` takes it from `$traced`.
macro_rules! executor {
    ([$($generics:tt)*] $of:ty, |$traced:ident| $inner:expr) => {
        impl<'c, $($generics)*> Executor<'c> for $of
        where
            for<'e> &'e mut DB::Connection: Executor<'e, Database = DB>,
        {
            type Database = DB;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, DB>,
            {
                let (call, given) = self.started::<DB, E>(query);
                let $traced = self;
                Box::pin(Steps::<DB> { inner: $inner.fetch_many(given), call: Some(call) })
            }

            fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, DB>,
            {
                let (mut call, given) = self.started::<DB, E>(query);
                let $traced = self;
                let fetched = $inner.fetch_optional(given);
                Box::pin(async move {
                    let result = fetched.await;
                    call.what.returned = u64::from(matches!(result, Ok(Some(_))));
                    call.end(result.as_ref().map(drop).map_err(failure));
                    result
                })
            }

            fn prepare_with<'e>(
                self,
                sql: SqlStr,
                parameters: &'e [DB::TypeInfo],
            ) -> BoxFuture<'e, Result<DB::Statement, Error>>
            where
                'c: 'e,
            {
                let call = begin::<DB>(&self.trace, sql.clone(), Some("PREPARE"), None);
                let $traced = self;
                Box::pin(watched(call, $inner.prepare_with(sql, parameters)))
            }

            fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
            where
                'c: 'e,
            {
                let call = begin::<DB>(&self.trace, sql.clone(), Some("DESCRIBE"), None);
                let $traced = self;
                Box::pin(watched(call, $inner.describe(sql)))
            }
        }
    };
}

executor!([DB: Database] &'c Traced<Pool<DB>>, |traced| (&traced.inner));
executor!([DB: Database] Traced<Lent<'c, DB>>, |traced| traced.inner.0);
