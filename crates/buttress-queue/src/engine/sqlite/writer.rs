//! The only thread that writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{EngineConfig, EngineError};
use super::error::{engine_error, is_full};
use super::read;
use super::reserve::{Reserve, beside};
use super::row::signed;
use super::schema::{PAGE, wait_for_others};
use super::wake::Wake;
use super::work::{Asked, Work};

/// Requests that share a transaction at most, and a size from which on no more are added: the log stays below the reserve.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 512 << 10;

/// How long a full disk is left alone before somebody looks whether it still is.
const FULL_FOR: Duration = Duration::from_millis(100);

/// How long the file is left to other processes before each transaction, and how long after one of them was seen. Who
/// writes without a pause would leave them none to begin in.
const TURN: Duration = Duration::from_millis(2);
const OTHERS_FOR: Duration = Duration::from_secs(1);

/// Pages that are given back to a full disk at once, and how often.
const GIVE_BACK: u32 = 32;
const GIVE_BACK_TIMES: u32 = 128;

/// What the writer is asked for.
pub(super) enum Message {
    Request(Box<dyn Request>),
    /// To look again when something is due.
    Look,
    Close(oneshot::Sender<Result<(), EngineError>>),
}

/// Something that is done in a transaction with others.
pub(super) trait Request: Send {
    /// May be called again, when the transaction failed.
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()>;

    /// Once, when all is durable or not done.
    fn answer(self: Box<Self>, done: Result<(), EngineError>);

    /// Bytes that are pushed.
    fn pushes(&self) -> usize;
}

/// A request of this kind.
pub(super) struct Ask<T, F> {
    pub(super) run: F,
    pub(super) pushes: usize,
    pub(super) answer: Option<Result<T, EngineError>>,
    pub(super) to: oneshot::Sender<Result<T, EngineError>>,
}

impl<T: Send, F: FnMut(&mut Work<'_>) -> Asked<T> + Send> Request for Ask<T, F> {
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        // Of what nobody waits for any more nothing happens.
        self.answer = if self.to.is_closed() { None } else { Some((self.run)(work)?) };
        Ok(())
    }

    fn answer(self: Box<Self>, done: Result<(), EngineError>) {
        let answer = match (done, self.answer) {
            (Ok(()), answer) => answer,
            (Err(error), _) => Some(Err(error)),
        };
        if let Some(answer) = answer {
            let _ = self.to.send(answer);
        }
    }

    fn pushes(&self) -> usize {
        self.pushes
    }
}

pub(super) struct Writer {
    connection: Connection,
    config: EngineConfig,
    log: PathBuf,
    reserve: Reserve,
    looked: Option<Instant>,
    /// Of the file, as other processes change it, and when one did.
    version: i64,
    others: Option<Instant>,
    wake: Arc<Wake>,
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        connection: Connection,
        config: EngineConfig,
        wake: Arc<Wake>,
    ) -> rusqlite::Result<Self> {
        let reserve = Reserve::of(path);
        let pages = reserve.size() / PAGE / 2;
        connection.pragma_update(None, "wal_autocheckpoint", signed(pages))?;
        wake.next(read::next_due(&connection)?);
        Ok(Self {
            connection,
            config,
            log: beside(path, "-wal"),
            reserve,
            looked: None,
            version: 0,
            others: None,
            wake,
        })
    }

    /// Until it is told to close, or nobody is left who could ask.
    pub(super) fn run(mut self, messages: Receiver<Message>) {
        let mut held = None;
        while let Some(first) = held.take().or_else(|| messages.recv().ok()) {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Request(request) => {
                        bytes += request.pushes();
                        group.push(request);
                    }
                    Message::Look => {}
                    Message::Close(_) => {
                        held = Some(message);
                        break;
                    }
                }
                if group.len() < GROUP && bytes < GROUP_BYTES {
                    next = messages.try_recv().ok();
                }
            }
            self.serve(group);
            if let Some(Message::Close(closed)) = held {
                let _ = closed.send(self.checkpoint().map_err(engine_error));
                return;
            }
        }
        let _ = self.checkpoint();
    }

    fn serve(&mut self, group: Vec<Box<dyn Request>>) {
        if group.is_empty() {
            return self.look();
        }
        let group = self.refuse_pushes_while_full(group);
        self.together(group);
        self.keep_the_log_short();
    }

    /// All of them in one transaction, or each for itself when that fails.
    fn together(&mut self, mut group: Vec<Box<dyn Request>>) {
        let Err(error) = self.transaction(&mut group) else {
            return group.into_iter().for_each(|request| request.answer(Ok(())));
        };
        if is_full(&error) && !self.reserve.is_spent() {
            self.make_room();
            let group = self.refuse_pushes_while_full(group);
            return self.together(group);
        }
        match group.len() {
            1 => group.remove(0).answer(Err(engine_error(error))),
            _ => group.into_iter().for_each(|request| self.together(vec![request])),
        }
    }

    fn transaction(&mut self, group: &mut [Box<dyn Request>]) -> rusqlite::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        if self.others.is_some_and(|seen| seen.elapsed() < OTHERS_FOR) {
            thread::park_timeout(TURN);
        }
        let done = Work::begin(&self.connection, &self.config).and_then(|mut work| {
            group.iter_mut().try_for_each(|request| request.run(&mut work))?;
            work.commit()
        });
        if done.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.look_for_others();
        // Before anybody is answered, who would find that something is due still when it is not.
        self.look();
        done
    }

    /// Whether another process has written since the last transaction.
    fn look_for_others(&mut self) {
        let version = self.connection.prepare_cached("PRAGMA data_version");
        let version = version.and_then(|mut version| version.query_row((), |row| row.get(0))).unwrap_or(self.version);
        if version != self.version {
            (self.version, self.others) = (version, Some(Instant::now()));
        }
    }

    /// When something is due next.
    fn look(&self) {
        if let Ok(next) = read::next_due(&self.connection) {
            self.wake.next(next);
        }
    }

    /// Gives the disk what was reserved, and writes what is in the log to where it belongs.
    fn make_room(&mut self) {
        self.reserve.spend();
        self.looked = Some(Instant::now());
        let _ = self.checkpoint();
    }

    /// While the reserve is spent only what takes jobs out is done: all else would end with a log that cannot be
    /// written to any more.
    fn refuse_pushes_while_full(&mut self, group: Vec<Box<dyn Request>>) -> Vec<Box<dyn Request>> {
        let pushes = group.iter().any(|request| request.pushes() > 0);
        if !self.reserve.is_spent() || !pushes || self.has_room_again() {
            return group;
        }
        let (refused, group): (Vec<_>, Vec<_>) = group.into_iter().partition(|request| request.pushes() > 0);
        refused.into_iter().for_each(|request| request.answer(Err(EngineError::StorageFull)));
        group
    }

    fn has_room_again(&mut self) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < FULL_FOR) {
            return false;
        }
        for _ in 0..GIVE_BACK_TIMES {
            // The log first: it is the larger part of a small disk.
            if self.checkpoint().is_err() || self.reserve.restore() || !self.give_back().unwrap_or(false) {
                break;
            }
        }
        self.looked = Some(Instant::now());
        !self.reserve.is_spent()
    }

    /// Takes free pages out of the file; whether there were any.
    fn give_back(&self) -> rusqlite::Result<bool> {
        let free: u32 = self.connection.query_row("PRAGMA freelist_count", (), |row| row.get(0))?;
        self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({GIVE_BACK})"))?;
        Ok(free > 0)
    }

    /// The log is written back as it grows; when that failed, or there is no room to spare, it is seen to here.
    fn keep_the_log_short(&mut self) {
        let length = fs::metadata(&self.log).map_or(0, |log| log.len());
        if !self.reserve.is_spent() && length <= self.reserve.size() {
            return;
        }
        if self.checkpoint().is_err_and(|error| is_full(&error)) && !self.reserve.is_spent() {
            self.make_room();
        }
    }

    /// Writes the log to where it belongs, and makes it empty unless somebody still reads in it, for whom nobody waits.
    fn checkpoint(&self) -> rusqlite::Result<()> {
        wait_for_others(&self.connection, false)?;
        let done = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
        wait_for_others(&self.connection, true).and(done)
    }
}
