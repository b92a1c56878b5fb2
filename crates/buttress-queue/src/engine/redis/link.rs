//! Connections: opened behind everybody's back, and let go of as soon as one of them fails.
//!
//! BullMQ's connections open themselves again, but by a backoff that has grown to seconds by the time Redis is back, and
//! whoever asks them meanwhile waits. So they are used only while they work; a quick look says when new ones are worth it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bullmq::redis_connection::RedisConnection;
use bullmq::{Error, Queue, QueueOptions};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Script, ServerErrorKind};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::scripts::Call;
use super::{RedisConfig, millis};
use crate::engine::EngineError;

/// How long an attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between attempts: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Nothing is done that comes this much later than anybody waits for it: clocks differ, and are set.
pub(super) const LATE: Duration = Duration::from_secs(1);
/// How often it is looked what the clock of Redis says.
const CLOCK: Duration = Duration::from_secs(60);

/// What is open to Redis.
pub(super) struct Link {
    /// What BullMQ's own scripts are run with.
    pub(super) queue: Queue,
    /// What ours are: it fails at once when it fails, and never opens itself again.
    connection: MultiplexedConnection,
    /// What the clock of Redis said, not before this.
    time: Mutex<(u64, Instant)>,
    looking: AtomicBool,
    failed: AtomicBool,
}

impl Link {
    async fn open(config: &Arc<RedisConfig>) -> Result<Self, Error> {
        // How long an answer is waited for is up to who asks.
        let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(ATTEMPT)).set_response_timeout(None);
        let client = Client::open(config.url.as_str())?;
        // This one gives up at once, before one of BullMQ's that do not.
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
        let time = Mutex::new(time(&mut connection).await?);
        let managed = RedisConnection::new_managed_only(&config.connection()).await?;
        let options = QueueOptions::new().connection(config.connection()).prefix(&*config.prefix);
        let queue = Queue::with_connection(&config.queue, managed, options).await?;
        Ok(Self { queue, connection, time, looking: AtomicBool::new(false), failed: AtomicBool::new(false) })
    }

    /// What the clock of Redis will say then.
    fn time_at(self: &Arc<Self>, then: Instant) -> u64 {
        let (said, asked) = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.elapsed() > CLOCK && !self.looking.swap(true, Ordering::Relaxed) {
            let link = self.clone();
            tokio::spawn(async move {
                if let Ok(time) = time(&mut link.connection.clone()).await {
                    *link.time.lock().unwrap_or_else(PoisonError::into_inner) = time;
                }
                link.looking.store(false, Ordering::Relaxed);
            });
        }
        said.saturating_add(millis(then.saturating_duration_since(asked)))
    }

    /// Whether something that was asked over it went wrong in a way that new connections may cure.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// What the clock of Redis says, not before this.
async fn time(connection: &mut MultiplexedConnection) -> Result<(u64, Instant), redis::RedisError> {
    let asked = Instant::now();
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    Ok((seconds * 1000 + micros / 1000, asked))
}

/// A link, for a question to which nobody waits for the answer after this.
pub(super) struct Via {
    pub(super) link: Arc<Link>,
    until: Instant,
}

impl Via {
    pub(super) const fn new(link: Arc<Link>, until: Instant) -> Self {
        Self { link, until }
    }

    /// A run of a script, at this time of the queue's clock.
    pub(super) fn call<'a>(&self, script: &'a Script, now: u64) -> Call<'a> {
        Call::new(script, self.link.queue.keys(), now, self.link.time_at(self.until + LATE))
    }

    pub(super) async fn run<T: FromRedisValue>(&self, call: Call<'_>) -> Result<T, EngineError> {
        call.run(&mut self.link.connection.clone()).await.map_err(|error| self.error(error))
    }

    /// What became of a question, for whoever asked the engine.
    pub(super) fn error(&self, error: Error) -> EngineError {
        match error {
            Error::Redis(error) if is_full(&error) => EngineError::StorageFull,
            Error::Redis(error) if is_away(&error) => {
                self.link.fail();
                EngineError::Unavailable(error.into())
            }
            error => EngineError::Failed(error.into()),
        }
    }
}

#[derive(Clone)]
enum State {
    Connecting,
    Up(Arc<Link>),
    /// The last attempt failed, for this reason; there will be others.
    Down(Arc<str>),
    Closed,
}

/// The link of an engine, whichever it is now.
pub(super) struct Links {
    config: Arc<RedisConfig>,
    state: watch::Sender<State>,
    connecting: AtomicBool,
}

impl Links {
    pub(super) fn new(config: RedisConfig) -> Arc<Self> {
        let (state, _) = watch::channel(State::Connecting);
        Arc::new(Self { config: Arc::new(config), state, connecting: AtomicBool::new(false) })
    }

    pub(super) fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// What works as far as is known. Waits for an attempt that is under way and for no other: while Redis is down everybody
    /// is told so at once.
    pub(super) async fn link(self: &Arc<Self>) -> Result<Arc<Link>, EngineError> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(link) if !link.failed() => return Ok(link.clone()),
                State::Closed => return Err(EngineError::Closed),
                State::Down(reason) => return Err(EngineError::Unavailable(reason.to_string().into())),
                State::Up(_) | State::Connecting => {}
            }
            self.connect();
            if state.changed().await.is_err() {
                return Err(EngineError::Closed);
            }
        }
    }

    pub(super) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Connects, unless somebody does.
    fn connect(self: &Arc<Self>) {
        if !self.connecting.swap(true, Ordering::AcqRel) {
            self.state.send_if_modified(|state| {
                let open = !matches!(state, State::Closed);
                if open {
                    *state = State::Connecting;
                }
                open
            });
            tokio::spawn(Self::connect_until_it_works(Arc::downgrade(self)));
        }
    }

    async fn connect_until_it_works(links: Weak<Self>) {
        let mut pause = PAUSES.0;
        loop {
            // Nobody is left who wants it.
            let Some(config) = links.upgrade().map(|links| links.config.clone()) else { return };
            let opened = timeout(ATTEMPT, Link::open(&config)).await;
            let Some(links) = links.upgrade() else { return };
            let reached = match opened {
                Ok(Ok(link)) => State::Up(Arc::new(link)),
                Ok(Err(error)) => State::Down(error.to_string().into()),
                Err(_) => State::Down("it does not answer".into()),
            };
            let done = matches!(reached, State::Up(_));
            if done {
                links.connecting.store(false, Ordering::Release);
            }
            let closed = !links.state.send_if_modified(|state| {
                let open = !matches!(state, State::Closed);
                if open {
                    *state = reached;
                }
                open
            });
            if done || closed {
                return;
            }
            drop(links);
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// `maxmemory` is reached.
fn is_full(error: &redis::RedisError) -> bool {
    error.code() == Some("OOM")
}

fn is_away(error: &redis::RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        // It came after its time; if it did not, the clock of Redis was set, and the next link knows.
        || error.code() == Some("BUTTRESSLATE")
        || matches!(error.kind(), ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain))
}
