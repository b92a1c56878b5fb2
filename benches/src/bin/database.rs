//! What a comment of its own costs a prepared statement, on a PostgreSQL that this starts for itself from where Debian puts
//! it or from `PATH`: the median of a small join, prepared once and with a comment that names its span, which makes it a
//! statement of its own each time and has it closed afterwards.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --features database --bin database [-- --json]`

use std::time::Instant;

use buttress::metrics::Registry;
use buttress::trace::Spans;
use buttress::trace::database::sqlx::Traced;
use buttress::trace::database::{CommentForm, DatabaseTrace};
use buttress_benches::print;
use buttress_tests::servers::Postgres;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgPool;

const CALLS: usize = 3000;
const ROUNDS: usize = 3;
const JOIN: &str = "SELECT a.mail FROM orders a JOIN orders b ON a.id = b.id WHERE a.id = $1 AND b.mail = 'a'";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(json))
}

async fn measure(json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let Some(server) = Postgres::start().await else { return Err("there is no PostgreSQL".into()) };
    let bare: PgPool = PoolOptions::new().max_connections(1).connect(&server.url()).await?;
    sqlx::query("CREATE TABLE orders (id int PRIMARY KEY, mail text)").execute(&bare).await?;
    sqlx::query("INSERT INTO orders SELECT id, 'a' FROM generate_series(0, 99) id").execute(&bare).await?;
    let (spans, registry) = (Spans::new(), Registry::new());
    let trace = || DatabaseTrace::new(spans.clone(), &registry).slow(None);
    let plain = Traced::new(bare.clone(), trace());
    let sqlcommenter = trace().comments(CommentForm::Sqlcommenter).comment_prepared(true);
    let leading = trace().comments(CommentForm::Leading).comment_prepared(true);
    let subjects = [
        ("no comment", plain),
        ("sqlcommenter", Traced::new(bare.clone(), sqlcommenter)),
        ("leading", Traced::new(bare, leading)),
    ];

    // The least of interleaved rounds, so that noise hits all of them alike.
    let mut medians = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        for (median, (_, pool)) in medians.iter_mut().zip(&subjects) {
            *median = median.min(median_of(pool).await?);
        }
    }
    for (median, (subject, _)) in medians.iter().zip(&subjects) {
        print(json, "statement.p50", subject, *median, "us", None);
        print(json, "statement.ratio", subject, median / medians[0], "x", None);
    }
    Ok(())
}

/// Microseconds of one statement.
async fn median_of(pool: &Traced<PgPool>) -> Result<f64, sqlx::Error> {
    let mut took = Vec::with_capacity(CALLS);
    for id in 0..CALLS {
        let started = Instant::now();
        sqlx::query(JOIN).bind(id as i32 % 100).fetch_optional(pool).await?;
        took.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(buttress_benches::time::median(took))
}
