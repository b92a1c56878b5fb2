//! Connections: opened behind everybody's back, and let go of as soon as one of them fails.
//!
//! BullMQ's connections open themselves again, but by a backoff that has grown to seconds by the time Redis is back, and
//! whoever asks them meanwhile waits. So they are used only while they work; a quick look says when new ones are worth it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bullmq::redis_connection::{AnyConnection, RedisConnection};
use bullmq::{Error, Job, Queue, QueueKeys, QueueOptions, Worker, WorkerOptions};
use redis::{AsyncConnectionConfig, Client, ErrorKind, ServerErrorKind};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use super::RedisConfig;
use crate::engine::EngineError;

/// How long an attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between attempts: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// What is open to Redis.
pub(super) struct Link {
    pub(super) queue: Queue,
    config: Arc<RedisConfig>,
    /// Hands out jobs with leases of this length; opened with the first claim.
    worker: Mutex<Option<(Duration, Arc<Worker>)>>,
    failed: AtomicBool,
}

impl Link {
    async fn open(config: &Arc<RedisConfig>) -> Result<Self, Error> {
        // One connection that gives up at once, before those that do not.
        let quick =
            AsyncConnectionConfig::new().set_connection_timeout(Some(ATTEMPT)).set_response_timeout(Some(ATTEMPT));
        let client = Client::open(config.url.as_str())?;
        let mut look = client.get_multiplexed_async_connection_with_config(&quick).await?;
        redis::cmd("PING").query_async::<()>(&mut look).await?;
        let connection = RedisConnection::new_managed_only(&config.connection()).await?;
        let options = QueueOptions::new().connection(config.connection()).prefix(&*config.prefix);
        let queue = Queue::with_connection(&config.queue, connection, options).await?;
        Ok(Self { queue, config: config.clone(), worker: Mutex::new(None), failed: AtomicBool::new(false) })
    }

    pub(super) fn connection(&self) -> AnyConnection {
        self.queue.connection().connection()
    }

    pub(super) fn keys(&self) -> &QueueKeys {
        self.queue.keys()
    }

    /// What hands out jobs with leases of this length.
    pub(super) async fn worker(&self, lease: Duration) -> Result<Arc<Worker>, Error> {
        let mut worker = self.worker.lock().await;
        if let Some((length, worker)) = &*worker
            && *length == lease
        {
            return Ok(worker.clone());
        }
        let options = WorkerOptions::new()
            .connection(self.config.connection())
            .prefix(&*self.config.prefix)
            .lock_duration(lease)
            .manual_start();
        // Jobs are fetched one by one: nothing is ever run by it.
        let unused = |job: Job, _| async move { Err(Error::ProcessingError(format!("{} is not run here", job.id()))) };
        let opened = Arc::new(Worker::with_options(&self.config.queue, unused, options).await?);
        *worker = Some((lease, opened.clone()));
        Ok(opened)
    }

    /// Whether something that was asked over it went wrong in a way that new connections may cure.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
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

/// What became of a question, for whoever asked the engine.
pub(super) fn error(error: Error, link: &Link) -> EngineError {
    match error {
        Error::Redis(error) if is_full(&error) => EngineError::StorageFull,
        Error::Redis(error) if is_away(&error) => {
            link.fail();
            EngineError::Unavailable(error.into())
        }
        error => EngineError::Failed(error.into()),
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
        || matches!(error.kind(), ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain))
}
