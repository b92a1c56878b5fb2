//! Faults that can be switched on while the shop runs.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};

/// What goes wrong, in the words of `POST /faults/{service}?kind=..&ms=..&share=..`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// For `slow` and `brownout`.
    #[serde(default = "some_delay")]
    pub(crate) ms: u64,
    /// The share of the requests that it strikes.
    #[serde(default = "every_request")]
    pub(crate) share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// All is well.
    None,
    /// Answers late.
    Slow,
    /// Answers 503, or UNAVAILABLE.
    Errors,
    /// Never answers.
    Hang,
    /// Begins an answer and breaks off in its body.
    Break,
    /// Answers late, and every second answer is 503, or UNAVAILABLE.
    Brownout,
}

fn some_delay() -> u64 {
    400
}

fn every_request() -> f64 {
    1.0
}

impl Fault {
    pub(crate) const NONE: Self = Self { kind: Kind::None, ms: 0, share: 0.0 };

    /// What is wrong with the values, if anything is.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if !(0.0..=1.0).contains(&self.share) {
            return Err("share is a number between 0 and 1");
        }
        if self.ms > 60_000 {
            return Err("ms is at most 60000");
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.share * 100.0;
        match self.kind {
            Kind::None => f.write_str("no faults"),
            Kind::Slow => write!(f, "{} ms slower for {percent:.0} % of the requests", self.ms),
            Kind::Errors => write!(f, "errors for {percent:.0} % of the requests"),
            Kind::Hang => write!(f, "no answer to {percent:.0} % of the requests"),
            Kind::Break => write!(f, "{percent:.0} % of the answers break off in their body"),
            Kind::Brownout => {
                write!(f, "brown-out: {} ms slower for {percent:.0} % of the requests, half of which fail", self.ms)
            }
        }
    }
}

/// The switches of both services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) inventory: Switch,
    pub(crate) payments: Switch,
}

/// The switch of one service. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Switch(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    fault: Fault,
    /// Grows by the share with each request; each whole number that it passes is a strike. No dice, so that a share is
    /// exact and a run can be repeated.
    due: f64,
    /// Whether the next brown-out strike is a late error, and not only late.
    fails_next: bool,
}

/// What one request gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Strike {
    kind: Kind,
    late: Duration,
    /// Answers an error: 503, or UNAVAILABLE.
    pub(crate) fails: bool,
}

impl Strike {
    /// Breaks off in the body of its answer.
    pub(crate) fn breaks(&self) -> bool {
        self.kind == Kind::Break
    }

    /// What the answer has to wait for; for ever where there is none.
    pub(crate) async fn wait(&self) {
        match self.kind {
            Kind::Hang => pending().await,
            _ => tokio::time::sleep(self.late).await,
        }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { fault: Fault::NONE, due: 0.0, fails_next: true })))
    }
}

impl Switch {
    pub(crate) fn set(&self, fault: Fault) {
        self.with(|state| *state = State { fault, due: 0.0, fails_next: true });
    }

    pub(crate) fn fault(&self) -> Fault {
        self.with(|state| state.fault)
    }

    /// What strikes the request that is here now.
    pub(crate) fn strike(&self) -> Strike {
        self.with(|state| {
            state.due += state.fault.share;
            if state.due < 1.0 {
                return Strike { kind: Kind::None, late: Duration::ZERO, fails: false };
            }
            state.due -= 1.0;
            let Fault { kind, ms, .. } = state.fault;
            let (late, fails) = match kind {
                Kind::Slow => (ms, false),
                Kind::Errors => (0, true),
                Kind::Brownout => {
                    let fails = state.fails_next;
                    state.fails_next = !fails;
                    (ms, fails)
                }
                Kind::None | Kind::Hang | Kind::Break => (0, false),
            };
            Strike { kind, late: Duration::from_millis(late), fails }
        })
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A body that delivers its first bytes and then breaks.
pub(crate) fn broken_body<E: Send + 'static>(
    begin: &'static [u8],
    error: E,
) -> impl hyper::body::Body<Data = Bytes, Error = E> + Send + 'static {
    let frames = [Ok(Frame::data(Bytes::from_static(begin))), Err(error)];
    StreamBody::new(futures_util::stream::iter(frames))
}
