//! A shop as a program of its own, seen from outside.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::process::Stdio;
use std::time::Duration;

pub(crate) use buttress_tests::peers::PATIENCE;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// The program with these arguments, on a free port.
pub(crate) fn shop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    // What the developer has set must not change what is asserted.
    command.args(args).env_clear().env("PORT", "0").kill_on_drop(true);
    command
}

/// A shop that stays open until it is dropped.
pub(crate) struct Open {
    pub(crate) child: Child,
    pub(crate) stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) url: String,
}

impl Open {
    pub(crate) async fn start() -> Self {
        let mut child = shop(&[]).stdout(Stdio::piped()).spawn().expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = timeout(PATIENCE, stdout.next_line()).await.expect("speaks in time").expect("reads");
        let first = first.expect("says where it is");
        let url = first.split_whitespace().find(|word| word.starts_with("http://")).expect("an URL").to_owned();
        Self { child, stdout, url }
    }

    async fn send(&self, request: http::request::Builder, body: &'static str) -> (http::response::Parts, Bytes) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = request.body(Full::from(body)).expect("a request");
        let response = timeout(PATIENCE, client.request(request)).await.expect("in time").expect("an answer");
        let (head, body) = response.into_parts();
        (head, body.collect().await.expect("a body").to_bytes())
    }

    /// A page that is no JSON.
    pub(crate) async fn text(&self, path: &str, accept: &str) -> String {
        let request = Request::get(format!("{}{path}", self.url)).header("accept", accept);
        let (head, body) = self.send(request, "").await;
        assert_eq!(head.status, StatusCode::OK, "{path}");
        String::from_utf8(body.into()).expect("text")
    }

    /// The same as soon as it is as it should be.
    ///
    /// Another process, with customers and a ticking thread of its own: there is nothing here to wait on.
    pub(crate) async fn text_once(&self, path: &str, accept: &str, is_so: impl Fn(&str) -> bool) -> String {
        let asked = async {
            loop {
                let page = self.text(path, accept).await;
                if is_so(&page) {
                    return page;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path} was never as it should be"))
    }

    async fn ask(&self, request: http::request::Builder, body: &'static str) -> (http::response::Parts, Value) {
        let (head, body) = self.send(request, body).await;
        (head, serde_json::from_slice(&body).expect("JSON"))
    }

    pub(crate) async fn get(&self, path: &str) -> (http::response::Parts, Value) {
        self.ask(Request::get(format!("{}{path}", self.url)), "").await
    }

    pub(crate) async fn post(&self, path: &str) -> (http::response::Parts, Value) {
        self.ask(Request::post(format!("{}{path}", self.url)), "").await
    }

    /// Orders a lamp.
    pub(crate) async fn order(&self) -> (http::response::Parts, Value) {
        let request = Request::post(format!("{}/orders", self.url)).header("content-type", "application/json");
        self.ask(request, r#"{"item":"lamp"}"#).await
    }

    /// Orders a lamp, and answers with the spans of that.
    pub(crate) async fn traced_order(&self) -> (StatusCode, Vec<Value>) {
        let (head, _) = self.order().await;
        let id = head.headers["x-trace-id"].to_str().expect("text").to_owned();
        let (_, spans) = self.get(&format!("/debug/traces/{id}")).await;
        (head.status, spans.as_array().expect("spans").clone())
    }
}

/// The spans of a service; 2 is a server's, 3 a client's.
pub(crate) fn find<'a>(spans: &'a [Value], service: &str, kind: u64) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["service"] == service && span["kind"] == kind).collect()
}
