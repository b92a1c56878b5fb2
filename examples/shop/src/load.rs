//! The load: a bounded number of customers who order, look, ask for what there is not, and hang up.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fault::{Fault, Faults, Kind};
use crate::inventory::ITEMS;

/// How hard the shop is used. Customers wait for their answer and then think, so that they never are more than these.
#[derive(Clone)]
pub(crate) struct Pace {
    customers: u64,
    think_ms: Range<u64>,
}

impl Pace {
    /// For somebody who looks on: a few requests a second.
    pub(crate) const GENTLE: Self = Self { customers: 3, think_ms: 300..1500 };
    /// For a run that is counted: some hundred requests a second.
    pub(crate) const BUSY: Self = Self { customers: 16, think_ms: 20..80 };
}

/// What a server says once somebody wants the body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the customers have seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    /// Answers below 500.
    pub(crate) answered: u64,
    /// Answers from 500 on.
    pub(crate) failed: u64,
    pub(crate) hung_up: u64,
    /// Requests that never got an answer, although somebody waited for it.
    pub(crate) lost: u64,
}

enum Step {
    Order { item: &'static str, quantity: u32 },
    Look { item: &'static str },
    HangUp { item: &'static str, after: Duration },
}

/// Uses the shop until `stop` is true, and answers when each customer has had the last answer.
pub(crate) async fn drive(shop: SocketAddr, pace: Pace, seed: u64, stop: watch::Receiver<bool>) -> Tally {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut customers = JoinSet::new();
    for number in 0..pace.customers {
        let customer = Customer {
            shop,
            client: client.clone(),
            // Each has dice of its own: what one does must not hang on who was faster.
            dice: SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number)),
            tally: Tally::default(),
        };
        customers.spawn(customer.run(pace.think_ms.clone(), stop.clone()));
    }
    let tallies = customers.join_all().await;
    tallies.into_iter().fold(Tally::default(), |sum, one| Tally {
        requests: sum.requests + one.requests,
        answered: sum.answered + one.answered,
        failed: sum.failed + one.failed,
        hung_up: sum.hung_up + one.hung_up,
        lost: sum.lost + one.lost,
    })
}

struct Customer {
    shop: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    dice: SmallRng,
    tally: Tally,
}

impl Customer {
    async fn run(mut self, think_ms: Range<u64>, mut stop: watch::Receiver<bool>) -> Tally {
        loop {
            let think = Duration::from_millis(self.dice.random_range(think_ms.clone()));
            // Done, or whoever could say so is gone.
            if timeout(think, stop.wait_for(|stop| *stop)).await.is_ok() {
                return self.tally;
            }
            let step = self.next_step();
            self.take(step).await;
        }
    }

    fn next_step(&mut self) -> Step {
        let item = ITEMS[self.dice.random_range(0..ITEMS.len())].0;
        match self.dice.random_range(0..100) {
            0..70 => Step::Order { item, quantity: self.dice.random_range(1..4) },
            70..90 => Step::Look { item },
            90..94 => Step::Look { item: "unicorn" },
            _ => Step::HangUp { item, after: Duration::from_millis(self.dice.random_range(1..7)) },
        }
    }

    async fn take(&mut self, step: Step) {
        self.tally.requests += 1;
        let (request, body) = match step {
            Step::Look { item } => (Request::get(format!("http://{}/items/{item}", self.shop)), String::new()),
            Step::Order { item, quantity } => (
                Request::post(format!("http://{}/orders", self.shop)).header("content-type", "application/json"),
                format!(r#"{{"item":"{item}","quantity":{quantity}}}"#),
            ),
            Step::HangUp { item, after } => {
                match hang_up(self.shop, item, after).await {
                    Ok(()) => self.tally.hung_up += 1,
                    Err(_) => self.tally.lost += 1,
                }
                return;
            }
        };
        let request = request.body(Full::from(body)).expect("address and item make a URL");
        let answer = timeout(Duration::from_secs(10), self.ask(request)).await;
        match answer {
            Ok(Ok(status)) if status.is_server_error() => self.tally.failed += 1,
            Ok(Ok(_)) => self.tally.answered += 1,
            Ok(Err(_)) | Err(_) => self.tally.lost += 1,
        }
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
        let response = self.client.request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}

/// Orders, and closes the connection after a while, answer or not.
///
/// By hand on a socket: when a pooled client's future is dropped, nobody knows whether the request has left. Here the
/// handler has asked for the body before anybody hangs up; a server that finds request and end of the connection at once
/// may drop the request before any service hears of it.
async fn hang_up(shop: SocketAddr, item: &str, after: Duration) -> std::io::Result<()> {
    let body = format!(r#"{{"item":"{item}","quantity":1}}"#);
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: {shop}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut connection = TcpStream::connect(shop).await?;
    connection.write_all(head.as_bytes()).await?;
    connection.read_exact(&mut [0; CONTINUE.len()]).await?;
    connection.write_all(body.as_bytes()).await?;
    // An early answer is read and forgotten, so that the connection closes in peace.
    let _ = timeout(after, connection.read(&mut [0; 2048])).await;
    Ok(())
}

/// Lets things go wrong one after the other, with calm before, between and after. Tells each change by `tell`.
pub(crate) async fn weather(faults: Faults, run_for: Duration, tell: impl Fn(&str, Fault)) {
    let slow = Fault { kind: Kind::Slow, ms: 120, share: 0.4 };
    let errors = Fault { kind: Kind::Errors, ms: 0, share: 0.3 };
    let breaks = Fault { kind: Kind::Break, ms: 0, share: 0.3 };
    let hangs = Fault { kind: Kind::Hang, ms: 0, share: 0.1 };
    let Faults { inventory, payments } = &faults;
    let plan = [
        ("payments", payments, slow),
        ("inventory", inventory, slow),
        ("payments", payments, errors),
        ("inventory", inventory, errors),
        ("payments", payments, breaks),
        ("inventory", inventory, breaks),
        ("payments", payments, hangs),
        ("inventory", inventory, hangs),
    ];
    // Calm for one part of sixteen, eight faults of a part each with calm at their end, a brown-out of two, and five of
    // calm: in ten seconds the circuit that has opened has time to close.
    let part = run_for / 16;
    sleep(part).await;
    for (service, switch, fault) in plan {
        tell(service, fault);
        switch.set(fault);
        sleep(part.mul_f64(0.6)).await;
        switch.set(Fault::NONE);
        sleep(part.mul_f64(0.4)).await;
    }
    for fault in [Fault { kind: Kind::Brownout, ms: 400, share: 1.0 }, Fault::NONE] {
        tell("payments", fault);
        payments.set(fault);
        sleep(if fault == Fault::NONE { part * 5 } else { part * 2 }).await;
    }
}
