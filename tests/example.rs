//! What the tests of the examples share: an example as a child process, and a client that speaks HTTP/1.1 byte by byte.
//!
//! The client is written by hand because the tests need what a library would tidy away: header names in odd case,
//! repeated and empty headers, a caller that goes away in the middle, a body that breaks off.

use std::fmt;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// Beyond it a test has failed; a busy machine may need most of it.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRIES: u32 = 200;
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A running example. It is killed when it is dropped.
pub struct Example {
    address: SocketAddr,
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Example {
    /// Starts the binary on a free port and waits for the line that tells the address.
    ///
    /// # Panics
    ///
    /// When it does not start, or says no address.
    pub async fn start(binary: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary)
            .env("PORT", "0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let address = loop {
            let line = next_line(&mut lines).await;
            if let Some((_, address)) = line.split_once("http://") {
                break address.trim().parse().expect("an address follows http://");
            }
        };
        Self { address, lines, child }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends `GET path` with these headers and reads the answer to its end.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, "").await
    }

    /// Sends a request and reads the answer to its end.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = [&[("Connection", "close")], headers].concat();
        Answer::read(self.begin(method, path, &headers, body).await).await
    }

    /// Sends a request and leaves the answer unread; dropping the stream is a caller that goes away.
    ///
    /// # Panics
    ///
    /// When the example does not take it.
    pub async fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut stream = TcpStream::connect(self.address).await.expect("the example accepts");
        stream.write_all(request.as_bytes()).await.expect("the example reads");
        stream
    }

    /// The span in `/debug/spans` for which the condition holds.
    ///
    /// A span is finished a moment after its answer has arrived, and in another process: nothing here could be told of
    /// it, so this asks again for a bounded number of times.
    ///
    /// # Panics
    ///
    /// When it does not turn up.
    pub async fn span(&self, condition: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..RETRIES {
            let spans: Vec<Value> = serde_json::from_str(&self.get("/debug/spans", &[]).await.body).expect("an array");
            if let Some(span) = spans.into_iter().find(&condition) {
                return span;
            }
            sleep(RETRY_AFTER).await;
        }
        panic!("the span did not turn up")
    }

    /// Waits until so many requests are under way, which `/metrics` counts, itself not among them.
    ///
    /// As with [`span`](Self::span), there is nothing here to wait on.
    ///
    /// # Panics
    ///
    /// When they do not get there.
    pub async fn under_way(&self, requests: usize) {
        let counted = format!(" {requests}");
        for _ in 0..RETRIES {
            let page = self.get("/metrics", &[]).await.body;
            let is_it = |line: &str| line.starts_with("http_server_active_requests{") && line.ends_with(&counted);
            if page.lines().any(is_it) {
                return;
            }
            sleep(RETRY_AFTER).await;
        }
        panic!("{requests} requests did not get under way")
    }

    /// Tells it to stop, as a supervisor does: by SIGTERM.
    ///
    /// # Panics
    ///
    /// When it has ended before.
    pub async fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill is there");
        assert!(told.success());
    }

    /// Waits until it has ended. Whether it went well by its own account, and the spans that it had still printed.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn ended(mut self) -> (bool, Vec<Value>) {
        let mut spans = Vec::new();
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.expect("it ends").expect("it is text") {
            spans.extend(serde_json::from_str(&line));
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it is ours");
        (status.success(), spans)
    }

    /// The next line that the example prints.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn printed_line(&mut self) -> String {
        next_line(&mut self.lines).await
    }

    /// The next span among the lines that the example prints for which the condition holds.
    ///
    /// # Panics
    ///
    /// When it does not turn up.
    pub async fn printed_span(&mut self, condition: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = next_line(&mut self.lines).await;
            if let Some(span) = serde_json::from_str(&line).ok().filter(&condition) {
                return span;
            }
        }
    }
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(PATIENCE, lines.next_line()).await.expect("the example prints another line");
    line.expect("its output can be read").expect("it has not ended")
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status; 0 when the connection ended before one.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of its chunks.
    pub body: String,
    /// Whether all of the body came.
    pub is_complete: bool,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Reads what comes to the end of the connection.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A server that breaks off may reset the connection; what came until then is the answer.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the answer ends");
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            return Self::default();
        };
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Self { status, headers, ..Self::default() };
        (answer.body, answer.is_complete) = match answer.header("content-length") {
            Some(length) => (rest.to_owned(), length.parse() == Ok(rest.len())),
            None => dechunked(rest),
        };
        answer
    }
}

/// The chunks put together, and whether the last one was there.
fn dechunked(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = after.get(..size) else {
            break;
        };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or("");
    }
    (body, false)
}

impl fmt::Debug for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Example").field("address", &self.address).finish_non_exhaustive()
    }
}
