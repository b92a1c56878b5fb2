//! The engine of one machine: a file of SQLite's.

mod depths;
mod error;
mod read;
mod reserve;
mod row;
mod schema;
mod wake;
mod work;
mod writer;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use error::engine_error;
use rusqlite::Connection;
use tokio::sync::oneshot;
use wake::Wake;
use work::{Asked, Work};
use writer::{Ask, Message, Writer};

use super::{
    Admitted, Answer, Claimed, Contents, DeadLetter, Engine, EngineConfig, EngineError, Entry, Found, Lease, Settlement,
};
use crate::job::JobId;

/// Ids and dead letters that are forgotten at once, so that nobody waits for long behind it.
const FORGET: usize = 1_000;

/// Keeps jobs in a file, so that what was pushed outlives the process, and the machine's power.
///
/// One thread writes: whatever waits for it when it begins a transaction is done in this one, and answered when it is on
/// the disk (`journal_mode=WAL`, `synchronous=FULL`). Another one reads. Several processes may use one file; what one of
/// them did, the others' [`ready`](Engine::ready) notices within a second.
///
/// On a full disk pushes fail with [`EngineError::StorageFull`] while jobs are handed out and settled all the same: for
/// this a file of up to 4 MiB is kept beside this one (`-reserve`), as SQLite keeps its log and the log's index (`-wal`,
/// `-shm`). Pushes are taken again when there is as much room again.
///
/// The file can be looked into: `jobs`, `envelopes` and `done` are its tables.
///
/// ```
/// use buttress_queue::engine::{Engine, Entry};
/// use buttress_queue::{EngineConfig, Envelope, JobId, Sqlite};
/// use serde_json::value::to_raw_value;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("queue.db");
/// # let now = 1_800_000_000_000;
/// let engine = Sqlite::open(&path, EngineConfig::default())?;
/// let envelope = Envelope::new(JobId::new("order-17-created")?, "order.created", now, to_raw_value(&17)?);
/// engine.push(vec![Entry::new(envelope, now)], now).await?;
/// engine.close().await?;
///
/// let engine = Sqlite::open(&path, EngineConfig::default())?;
/// let found = engine.find(&JobId::new("order-17-created")?, now).await?;
/// assert!(found.is_some());
/// # Ok(())
/// # }
/// ```
///
/// A clone is another handle of the same. When the last one is dropped, the threads end after what they were asked for.
#[derive(Clone)]
pub struct Sqlite(Arc<Shared>);

struct Shared {
    path: PathBuf,
    writer: Sender<Message>,
    reader: Mutex<Option<Sender<Look>>>,
    wake: Arc<Wake>,
}

/// Something to be read.
type Look = Box<dyn FnOnce(&Connection) + Send>;

impl Sqlite {
    /// A queue in this file, which is made if there is none; its folder is not. Blocks for as long as the disk takes for
    /// some writes: done once, when the program starts.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or is not a queue's, or is of a version that this one does not know.
    pub fn open(path: impl AsRef<Path>, config: EngineConfig) -> Result<Self, EngineError> {
        let path = path.as_ref().to_owned();
        let connection = schema::open(&path)?;
        let wake = Arc::new(Wake::new());
        let (writer, messages) = mpsc::channel();
        let (reader, looks) = mpsc::channel();
        let write = Writer::new(&path, connection, config, Arc::clone(&wake)).map_err(engine_error)?;
        let read = schema::open_to_read(&path)?;
        spawn("queue-write", move || write.run(messages))?;
        spawn("queue-read", move || look(&read, looks))?;
        Ok(Self(Arc::new(Shared { path, writer, reader: Mutex::new(Some(reader)), wake })))
    }

    /// Has the writer do this.
    async fn ask<T: Send + 'static>(
        &self,
        pushes: usize,
        run: impl FnMut(&mut Work<'_>) -> Asked<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (to, answer) = oneshot::channel();
        let request = Box::new(Ask { run, pushes, answer: None, to });
        self.0.writer.send(Message::Request(request)).map_err(|_| EngineError::Closed)?;
        answer.await.map_err(|_| EngineError::Closed)?
    }

    /// Has the reader look at this.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (to, answer) = oneshot::channel();
        let look = Box::new(move |connection: &Connection| {
            let _ = to.send(look(connection).map_err(engine_error));
        });
        let reader = self.reader().clone().ok_or(EngineError::Closed)?;
        reader.send(look).map_err(|_| EngineError::Closed)?;
        answer.await.map_err(|_| EngineError::Closed)?
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Option<Sender<Look>>> {
        self.0.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| EngineError::Unavailable(Box::new(error)))
}

fn look(connection: &Connection, looks: Receiver<Look>) {
    for look in looks {
        look(connection);
    }
}

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn push(&self, entries: Vec<Entry>, now: u64) -> Answer<'_, Vec<Admitted>> {
        let bytes: u64 = entries.iter().map(|entry| entry.envelope.size()).sum();
        Box::pin(self.ask(usize::try_from(bytes).unwrap_or(usize::MAX), move |work| {
            entries.iter().map(|entry| work.push(entry, now)).collect::<Result<_, _>>().map(Ok)
        }))
    }

    fn claim(&self, max: usize, lease: Duration, now: u64) -> Answer<'_, Vec<Claimed>> {
        Box::pin(self.ask(0, move |work| work.claim(max, lease, now).map(Ok)))
    }

    fn extend<'a>(&'a self, lease: &'a Lease, by: Duration, now: u64) -> Answer<'a, ()> {
        let lease = lease.clone();
        Box::pin(self.ask(0, move |work| work.extend(&lease, by, now)))
    }

    fn settle<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        let lease = lease.clone();
        Box::pin(self.ask(0, move |work| work.settle(&lease, &settlement, now)))
    }

    fn ready(&self, now: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.wake.due(now, || drop(self.0.writer.send(Message::Look))))
    }

    fn contents(&self, now: u64) -> Answer<'_, Contents> {
        Box::pin(self.look(move |connection| read::contents(connection, now)))
    }

    fn find<'a>(&'a self, id: &'a JobId, now: u64) -> Answer<'a, Option<Found>> {
        let id = id.clone();
        Box::pin(self.look(move |connection| read::find(connection, &id, now)))
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadLetter>, max: usize) -> Answer<'a, Vec<DeadLetter>> {
        let after = after.map(|letter| (letter.buried, letter.envelope.id.clone()));
        Box::pin(self.look(move |connection| read::dead(connection, after.as_ref(), max)))
    }

    fn replay<'a>(&'a self, ids: &'a [JobId], now: u64) -> Answer<'a, u64> {
        let ids = ids.to_vec();
        Box::pin(self.ask(0, move |work| work.replay(&ids, now).map(Ok)))
    }

    fn discard<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, u64> {
        let ids = ids.to_vec();
        Box::pin(self.ask(0, move |work| work.discard(&ids).map(Ok)))
    }

    fn maintain(&self, now: u64) -> Answer<'_, ()> {
        Box::pin(async move {
            while self.ask(0, move |work| work.forget(FORGET, now).map(Ok)).await? {}
            Ok(())
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            // Whoever reads holds the log: it goes first.
            drop(self.reader().take());
            let (to, closed) = oneshot::channel();
            self.0.writer.send(Message::Close(to)).map_err(|_| EngineError::Closed)?;
            closed.await.map_err(|_| EngineError::Closed)?
        })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.0.path).finish_non_exhaustive()
    }
}
