//! sqlx that is watched, on a real PostgreSQL and on SQLite in memory.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::sync::Arc;
use std::time::Duration;

use buttress::classify::Outcome;
use buttress::context::Context;
use buttress::metrics::{LabelValue, Registry};
use buttress::trace::database::sqlx::Traced;
use buttress::trace::database::{CommentForm, DatabaseTrace};
use buttress::trace::{Sampler, SpanKind, SpanRecord, Spans, Status};
use buttress_tests::servers::Postgres;
use futures_util::StreamExt;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgPool, PgQueryResult};
use sqlx::sqlite::{SqlitePool, SqliteQueryResult};
use sqlx::{Executor, Row};
use tokio::time::{advance, pause, resume};

/// Everything that a test looks at afterwards.
#[derive(Default)]
struct Seen {
    spans: Spans,
    registry: Registry,
}

impl Seen {
    fn trace(&self) -> DatabaseTrace {
        DatabaseTrace::new(self.spans.clone(), &self.registry).slow(None)
    }

    fn last(&self) -> Arc<SpanRecord> {
        self.spans.latest(1)[0].clone()
    }

    fn names(&self) -> Vec<String> {
        self.spans.latest(100).iter().rev().map(|span| span.name.to_string()).collect()
    }

    /// How many calls the histogram has counted.
    fn counted(&self) -> u64 {
        let snapshot = self.registry.snapshot();
        let family = snapshot.families.iter().find(|family| &*family.name == "db.client.operation.duration");
        family.map_or(0, |family| family.series.iter().map(|series| count(&series.point)).sum())
    }
}

fn count(point: &buttress::metrics::Point) -> u64 {
    match point {
        buttress::metrics::Point::Histogram(histogram) => histogram.count(),
        _ => 0,
    }
}

fn told(span: &SpanRecord, key: &str) -> Option<String> {
    span.attribute(key).map(ToString::to_string)
}

async fn postgres(server: &Postgres, trace: DatabaseTrace) -> Traced<PgPool> {
    let pool: PgPool = PoolOptions::new().max_connections(1).connect(&server.url()).await.unwrap();
    pool.execute("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, mail text)").await.unwrap();
    Traced::new(pool, trace).rows_affected(PgQueryResult::rows_affected)
}

async fn sqlite(trace: DatabaseTrace) -> Traced<SqlitePool> {
    // Each connection would have a memory of its own.
    let pool: SqlitePool = PoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    pool.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, mail TEXT UNIQUE)").await.unwrap();
    Traced::new(pool, trace).rows_affected(SqliteQueryResult::rows_affected)
}

#[tokio::test]
async fn a_statement_on_postgres_is_told_as_the_conventions_say() {
    let Some(server) = Postgres::start().await else { return };
    let seen = Seen::default();
    let pool = postgres(&server, seen.trace()).await;
    let insert = sqlx::query("INSERT INTO orders (id, mail) VALUES ($1, 'ann@b.example')").bind(1);
    let parent = Context::root();
    parent.clone().scope(insert.execute(&pool)).await.unwrap();

    let span = seen.last();
    assert_eq!((&*span.name, span.kind, span.outcome), ("INSERT orders", SpanKind::Client, Outcome::Ok));
    assert_eq!(span.trace_id, parent.trace_id());
    let (address, port) = server.address().rsplit_once(':').unwrap();
    for (key, value) in [
        ("db.system.name", "postgresql"),
        ("db.operation.name", "INSERT"),
        ("db.collection.name", "orders"),
        ("db.namespace", "postgres"),
        ("db.query.summary", "INSERT orders"),
        ("db.query.text", "INSERT INTO orders (id, mail) VALUES (?)"),
        ("server.address", address),
        ("server.port", port),
        ("buttress.db.affected_rows", "1"),
    ] {
        assert_eq!(told(&span, key).as_deref(), Some(value), "{key}");
    }
    let rows = sqlx::query("SELECT id FROM orders").fetch_all(&pool).await.unwrap();
    assert_eq!((rows.len(), told(&seen.last(), "db.response.returned_rows").as_deref()), (1, Some("1")));
    assert_eq!(seen.counted(), 2);
}

#[tokio::test]
async fn an_error_of_postgres_is_told_by_its_sqlstate_and_not_by_its_message() {
    let Some(server) = Postgres::start().await else { return };
    let seen = Seen::default();
    let pool = postgres(&server, seen.trace()).await;
    let insert = || sqlx::query("INSERT INTO orders (id, mail) VALUES (7, 'ann@b.example')").execute(&pool);
    insert().await.unwrap();
    insert().await.unwrap_err();

    let span = seen.last();
    assert_eq!((span.status, span.outcome), (Status::Error, Outcome::Error));
    assert_eq!(told(&span, "error.type").as_deref(), Some("23505"));
    assert_eq!(told(&span, "db.response.status_code").as_deref(), Some("23505"));
    assert!(!format!("{span:?}").contains("ann@b"), "{span:?}");
    let snapshot = seen.registry.snapshot();
    let family = snapshot.families.iter().find(|family| &*family.name == "db.client.operation.duration").unwrap();
    let failed = family.series.iter().filter(|series| {
        series.labels.iter().any(|label| label.key == "error.type" && label.value == LabelValue::Text("23505"))
    });
    assert_eq!(failed.map(|series| count(&series.point)).sum::<u64>(), 1);

    sqlx::query("SELECT nothing FROM nowhere").fetch_optional(&pool).await.unwrap_err();
    assert_eq!(told(&seen.last(), "error.type").as_deref(), Some("42P01"));
}

#[tokio::test]
async fn postgres_is_told_the_span_of_a_statement_that_is_not_prepared() {
    let Some(server) = Postgres::start().await else { return };
    let seen = Seen::default();
    let pool = postgres(&server, seen.trace().comments(CommentForm::Sqlcommenter)).await;
    let own = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let query = |row: sqlx::postgres::PgRow| row.get::<String, _>(0);

    let heard = query(sqlx::raw_sql(own).fetch_one(&pool).await.unwrap());
    let span = seen.last();
    assert_eq!(heard, format!("{own} /*traceparent='00-{}-{}-03'*/", span.trace_id, span.span_id));
    assert_eq!(told(&span, "db.query.text").as_deref(), Some(own));
    // A comment of its own would make it a new statement each time.
    assert_eq!(query(sqlx::query(own).fetch_one(&pool).await.unwrap()), own);
}

#[tokio::test]
async fn a_prepared_statement_with_a_comment_is_closed_again() {
    let Some(server) = Postgres::start().await else { return };
    let seen = Seen::default();
    let trace = seen.trace().comments(CommentForm::Leading).comment_prepared(true);
    let pool = postgres(&server, trace).await;
    for id in 0..5 {
        sqlx::query("SELECT mail FROM orders WHERE id = $1").bind(id).fetch_optional(&pool).await.unwrap();
    }
    let own = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let heard = sqlx::query(own).fetch_one(&pool).await.unwrap().get::<String, _>(0);
    assert_eq!(heard, format!("/* traceId: {}, spanId: {} */ {own}", seen.last().trace_id, seen.last().span_id));
    let left = sqlx::raw_sql("SELECT count(*) FROM pg_prepared_statements").fetch_one(pool.inner()).await.unwrap();
    assert_eq!(left.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn a_statement_over_the_threshold_is_slow() {
    let threshold = Duration::from_secs(20);
    let seen = Seen::default();
    let pool = sqlite(seen.trace().slow(threshold)).await;
    let delete = || sqlx::query("DELETE FROM orders").execute(&pool);
    let slow = || told(&seen.last(), "buttress.db.slow");
    delete().await.unwrap();
    assert_eq!(slow(), None);
    // The statement waits for the only connection. SQLite's thread, which tokio does not see, answers in real time.
    let only = pool.inner().acquire().await.unwrap();
    let hold = async {
        pause();
        advance(threshold).await;
        resume();
        drop(only);
    };
    tokio::join!(delete(), hold).0.unwrap();
    assert_eq!(slow().as_deref(), Some("true"));
}

#[tokio::test]
async fn every_statement_of_a_transaction_is_told_on_sqlite() {
    let seen = Seen::default();
    let pool = sqlite(seen.trace()).await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1, ?)").bind("ann").execute(transaction.executor()).await.unwrap();
    transaction.commit().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    transaction.executor().execute("DELETE FROM orders").await.unwrap();
    transaction.rollback().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let row = sqlx::query("SELECT count(*) FROM orders").fetch_one(connection.executor()).await.unwrap();

    assert_eq!(row.get::<i64, _>(0), 1);
    let names =
        ["BEGIN", "INSERT orders", "COMMIT", "BEGIN", "DELETE orders", "ROLLBACK", "SELECT orders"].map(str::to_owned);
    assert_eq!(seen.names(), names);
    let span = seen.last();
    assert_eq!(told(&span, "db.system.name").as_deref(), Some("sqlite"));
    assert_eq!((told(&span, "server.address"), told(&span, "db.namespace")), (None, None));
}

#[tokio::test]
async fn a_constraint_of_sqlite_is_told_by_its_code() {
    let seen = Seen::default();
    let pool = sqlite(seen.trace()).await;
    let insert = || (&pool).execute("INSERT INTO orders (mail) VALUES ('ann')");
    insert().await.unwrap();
    assert_eq!(told(&seen.last(), "buttress.db.affected_rows").as_deref(), Some("1"));
    insert().await.unwrap_err();
    // SQLITE_CONSTRAINT_UNIQUE
    assert_eq!(told(&seen.last(), "error.type").as_deref(), Some("2067"));
}

#[tokio::test]
async fn a_statement_that_was_prepared_before_is_used_as_it_is() {
    let seen = Seen::default();
    let pool = sqlite(seen.trace().comments(CommentForm::Sqlcommenter).comment_prepared(true)).await;
    let statement = (&pool).prepare(sqlx::SqlStr::from_static("SELECT mail FROM orders WHERE id = ?")).await.unwrap();
    sqlx::Statement::query(&statement).bind(1).fetch_optional(&pool).await.unwrap();
    assert_eq!(seen.names(), ["PREPARE orders", "SELECT orders"].map(str::to_owned));
    assert_eq!(told(&seen.last(), "db.response.returned_rows").as_deref(), Some("0"));
}

#[tokio::test]
async fn rows_that_nobody_waits_for_are_cancelled_and_no_error() {
    let seen = Seen::default();
    let pool = sqlite(seen.trace()).await;
    for id in 0..3 {
        sqlx::query("INSERT INTO orders VALUES (?, NULL)").bind(id).execute(&pool).await.unwrap();
    }
    let mut rows = sqlx::query("SELECT id FROM orders").fetch(&pool);
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let span = seen.last();
    assert_eq!((span.outcome, span.status), (Outcome::Cancelled, Status::Unset));
    assert_eq!(told(&span, "db.response.returned_rows").as_deref(), Some("1"));
}

#[tokio::test]
async fn what_is_not_sampled_is_counted_all_the_same() {
    let seen = Seen::default();
    let trace = seen.trace().sampler(Sampler::always_off()).comments(CommentForm::Sqlcommenter);
    let pool = sqlite(trace).await;
    (&pool).execute("SELECT 1").await.unwrap();
    assert_eq!((seen.spans.latest(1).len(), seen.counted()), (0, 1));
}

#[tokio::test]
async fn a_pool_that_is_closed_is_told_by_name() {
    let seen = Seen::default();
    let pool = sqlite(seen.trace()).await;
    pool.inner().close().await;
    (&pool).execute("SELECT 1").await.unwrap_err();
    assert_eq!(told(&seen.last(), "error.type").as_deref(), Some("pool_closed"));
}
