//! Comments in SQL, and SQL without literals: nothing secret gets out, and no statement becomes another one.
#![cfg(feature = "trace")]

use buttress::context::{Context, TraceContext, TraceState};
use buttress::trace::database::{CommentForm, Dialect, Statement, comment, comment_as, mask, mask_as};
use proptest::prelude::*;

const DIALECTS: [Dialect; 4] = [Dialect::Any, Dialect::PostgreSql, Dialect::Sqlite, Dialect::MySql];
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced() -> Context {
    Context::from_trace(TraceContext::parse(TRACEPARENT.as_bytes()).expect("well formed"))
}

#[test]
fn a_literal_is_masked_however_it_is_quoted() {
    for (sql, masked) in [
        ("select 'a', 1.5e-3 ,0xFF,  .5", "select ?"),
        ("a = 'it''s' and b = 1_000", "a = ? and b = ?"),
        ("x = X'53' or y = b'01' or z = N'S3' or u = _utf8'S3'", "x = ? or y = ? or z = ? or u = ?"),
        ("a = $$it's S3$$ and b = $q$ $$ S3 $q$", "a = ? and b = ?"),
        ("a = E'it\\'s S3'", "a = ?"),
        ("U&'\\0053' = a", "? = a"),
        ("a=-1", "a=-?"),
        ("select/* S3 */ 1 -- S3\n, 2", "select ?"),
        ("SELECT'S3'", "SELECT?"),
        ("a::int = $1 and b = :name and c = @p and d = ?", "a::int = $1 and b = :name and c = @p and d = ?"),
        ("t1.c2 = 1e5x", "t1.c2 = ?"),
    ] {
        assert_eq!(mask(sql), masked, "{sql}");
    }
}

#[test]
fn lists_and_rows_of_values_collapse() {
    assert_eq!(mask("a IN (1, 2,3 , 'x') AND b = 1"), "a IN (?) AND b = ?");
    assert_eq!(mask("a in ($1, $2, $3)"), "a in (?)");
    assert_eq!(mask("insert into t values (1, 'a'), (2, 'b'), (3, 'c')"), "insert into t values (?)");
    assert_eq!(mask("f(a, 1), (1)"), "f(a, ?), (?)");
}

#[test]
fn double_quotes_hold_names_only_where_that_is_certain() {
    let sql = r#"SELECT "id" FROM "orders" WHERE pw = "S3""#;
    assert_eq!(mask(sql), r#"SELECT ? FROM "orders" WHERE pw = ?"#);
    assert_eq!(mask_as(sql, Dialect::PostgreSql), sql);
    assert_eq!(mask_as("SELECT `a b`.x, [y] FROM t", Dialect::Sqlite), "SELECT `a b`.x, [y] FROM t");
}

#[test]
fn what_dialects_read_differently_ends_the_text_and_not_the_secret() {
    for sql in
        ["a = 'x\\' or b = 'S3'", "a # it's\n = 'S3'", "/* /* */ 'S3' */ 1", "a = 'S3", "a = \"S3", "$q$ S3", "/* S3"]
    {
        assert!(!mask(sql).contains("S3"), "{sql}: {}", mask(sql));
        assert!(mask(sql).ends_with("..."), "{sql}: {}", mask(sql));
    }
    assert_eq!(mask_as("a = 'x\\' or b = S3' or c = 1", Dialect::MySql), "a = ? or c = ?");
    assert_eq!(mask_as("a = 'x\\' or b = 'S3'", Dialect::PostgreSql), "a = ? or b = ?");
    assert_eq!(mask_as("data #>> '{S3}'", Dialect::PostgreSql), "data #>> ?");
    assert_eq!(mask_as("/* /* */ 'S3' */ 1", Dialect::PostgreSql), "?");
}

#[test]
fn a_text_is_bounded_whatever_comes_in() {
    let columns: String = (0..100_000).map(|column| format!("c{column}, ")).collect();
    assert!(mask(&columns).len() <= 2048 + 3);
    assert!(mask(&format!("'{}'", "ü".repeat(1 << 20))).len() <= 3);
    assert!(mask(&"(1),".repeat(1 << 20)).len() <= 2048 + 3);
}

#[test]
fn a_statement_is_summed_up_by_what_it_does_to_what() {
    for (sql, summary) in [
        ("SELECT extract(year FROM at) FROM orders o JOIN lines l ON 1 = 1", "SELECT orders"),
        ("-- hers\n select * from shop . orders", "SELECT shop"),
        ("select * from \"shop\".\"orders\"", "SELECT \"shop\".\"orders\""),
        ("select * from \"orders\"", "SELECT orders"),
        ("select * from (select 1 from inner_one) x", "SELECT"),
        ("select 1", "SELECT"),
        ("select 1; select * from orders", "SELECT"),
        ("INSERT OR REPLACE INTO orders (id) SELECT id FROM carts", "INSERT orders"),
        ("update only orders set a = 1", "UPDATE orders"),
        ("DELETE FROM orders WHERE a = 1", "DELETE orders"),
        ("create table if not exists orders (id int)", "CREATE orders"),
        ("TRUNCATE TABLE orders", "TRUNCATE orders"),
        ("with a as (insert into b values (1) returning *) update c set d = 1", "UPDATE c"),
        ("(SELECT 1)", "SELECT"),
        ("BEGIN", "BEGIN"),
        ("frobnicate orders", "_OTHER"),
        ("", "_OTHER"),
        ("'select'", "_OTHER"),
    ] {
        assert_eq!(Statement::of(sql).summary(), summary, "{sql}");
    }
}

#[test]
fn a_comment_stands_at_the_end_and_before_a_semicolon() {
    let ours = format!(" /*traceparent='{TRACEPARENT}'*/");
    assert_eq!(comment("SELECT 1", &traced()), format!("SELECT 1{ours}"));
    assert_eq!(comment("SELECT 1; \n", &traced()), format!("SELECT 1{ours}; \n"));
    assert_eq!(comment("SELECT 1; SELECT ';';", &traced()), format!("SELECT 1; SELECT ';'{ours};"));
    let leading = comment_as("SELECT 1;", &traced(), CommentForm::Leading);
    let (trace_id, span_id) = (traced().trace_id(), traced().span_id());
    assert_eq!(leading, format!("/* traceId: {trace_id}, spanId: {span_id} */ SELECT 1;"));
}

#[test]
fn nothing_is_added_where_it_could_change_the_statement() {
    for sql in [
        "",
        "  ",
        ";",
        "SELECT 1 -- one",
        "SELECT 1 /* one */",
        "/*+ hint */ SELECT 1",
        "SELECT 'a",
        "SELECT \"a",
        "SELECT $$a",
        "SELECT 1 /",
        "SELECT 'a\\'",
        "SELECT 1 # one",
        "/* SELECT 1",
    ] {
        assert_eq!(comment(sql, &traced()), sql);
        assert_eq!(comment_as(sql, &traced(), CommentForm::Leading), sql);
    }
    // What looks like a comment within a literal is none.
    assert_ne!(comment("SELECT '-- /*'", &traced()), "SELECT '-- /*'");
}

#[test]
fn a_trace_state_cannot_end_the_comment() {
    let state = TraceState::parse([b"a='*/;DROP TABLE t--,b=%27".as_slice()]).expect("the grammar allows it");
    let commented = comment("SELECT 1", &traced().with_tracestate(state)).into_owned();
    let state = "a%3D%27%2A%2F%3BDROP%20TABLE%20t--%2Cb%3D%2527";
    assert_eq!(commented, format!("SELECT 1 /*traceparent='{TRACEPARENT}',tracestate='{state}'*/"));
}

/// Pieces of which SQL is made, and with which it is broken.
fn sql() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "SELECT ", "FROM t ", "'", "\"", "`", "$$", "$q$", "\\", "--", "/*", "*/", "#", ";", "\n", "[", "]", "(", ")",
        ",", "1", ".5e", "E'", "x'", "U&'", "$1", ":a", "ü", "\u{0}", "a.b", "-", "IN ", "?", "::", "_utf8'",
    ]);
    prop::collection::vec(prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => ".{0,8}"], 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_can_be_masked_and_summed_up(sql in sql()) {
        Statement::of(&sql).summary();
        for dialect in DIALECTS {
            prop_assert!(mask_as(&sql, dialect).len() <= 2048 + 3);
        }
    }

    #[test]
    fn a_statement_without_its_comment_is_what_it_was(sql in sql(), leading in any::<bool>()) {
        let form = if leading { CommentForm::Leading } else { CommentForm::Sqlcommenter };
        let commented = comment_as(&sql, &traced(), form);
        if commented != sql {
            let ours = match form {
                CommentForm::Leading => format!("/* traceId: {}, spanId: {} */ ", traced().trace_id(), traced().span_id()),
                _ => format!(" /*traceparent='{TRACEPARENT}'*/"),
            };
            let at = commented.find(&ours).expect("it is there");
            prop_assert_eq!(format!("{}{}", &commented[..at], &commented[at + ours.len()..]), sql.clone());
            // A database drops it as white space: what is left reads the same.
            prop_assert_eq!(mask(&commented), mask(&sql));
            // And a second one is not added.
            prop_assert_eq!(comment_as(&commented, &traced(), form), commented.clone());
        }
    }

    #[test]
    fn a_secret_in_a_literal_never_shows(
        before in "[a-z =,()]{0,12}",
        secret in "SECRET[0-9]{4}[ '\"\\\\$/*#-]{0,3}",
        dialect in prop::sample::select(DIALECTS.to_vec()),
        style in 0..3,
    ) {
        let doubled = secret.replace('\'', "''");
        let literal = match (style, dialect) {
            (1, Dialect::PostgreSql | Dialect::Any) => format!("$tag${secret}$tag$"),
            (2, Dialect::PostgreSql) => format!("E'{}'", doubled.replace('\\', "\\\\")),
            (2, Dialect::MySql) => format!("\"{}\"", secret.replace('\\', "\\\\").replace('"', "\\\"")),
            (_, Dialect::MySql) => format!("'{}'", doubled.replace('\\', "\\\\")),
            _ => format!("'{doubled}'"),
        };
        let masked = mask_as(&format!("{before} = {literal} AND y = 'SECRET'"), dialect);
        prop_assert!(!masked.contains("SECRET"), "{}", masked);
    }
}
