//! What is done to the file, inside a transaction.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, params};

use super::super::{
    Admitted, Claimed, EngineConfig, EngineError, Entry, Full, Head, Lease, Room, Settlement, There, Usage, after,
    next_lane,
};
use super::read::{self, find};
use super::row::{Named, id, priority, rank, signed, unsigned};
use crate::job::{JobId, Priority, Reason};

/// A storage's error, or else the engine's answer.
pub(super) type Asked<T> = rusqlite::Result<Result<T, EngineError>>;

/// A transaction: the counters are read when it begins and written when it ends.
pub(super) struct Work<'a> {
    connection: &'a Connection,
    config: &'a EngineConfig,
    usage: [Usage; 4],
    usage_before: [Usage; 4],
    counter: u64,
    counter_before: u64,
}

/// A job that somebody has.
struct Held {
    seq: i64,
    priority: Priority,
    size: u64,
    attempts: u32,
    crashes: u32,
}

/// Something that can be claimed.
struct Candidate {
    seq: i64,
    due: u64,
}

impl<'a> Work<'a> {
    pub(super) fn begin(connection: &'a Connection, config: &'a EngineConfig) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let mut usage = [Usage::default(); 4];
        let mut statement = connection.prepare_cached("SELECT priority, jobs, bytes FROM usage")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            usage[priority(row, 0)?.rank()] = Usage { jobs: unsigned(row, 1)?, bytes: unsigned(row, 2)? };
        }
        let counter = connection.prepare_cached("SELECT value FROM counter")?.query_row((), |row| unsigned(row, 0))?;
        Ok(Self { connection, config, usage, usage_before: usage, counter, counter_before: counter })
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        for (priority, usage) in Priority::ALL.into_iter().zip(self.usage) {
            if usage != self.usage_before[priority.rank()] {
                let values = params![rank(priority), signed(usage.jobs), signed(usage.bytes)];
                self.run("UPDATE usage SET jobs = ?2, bytes = ?3 WHERE priority = ?1", values)?;
            }
        }
        if self.counter != self.counter_before {
            self.run("UPDATE counter SET value = ?1", [signed(self.counter)])?;
        }
        self.run("COMMIT", ())?;
        Ok(())
    }

    fn sql(&self, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    fn run(&self, sql: &str, values: impl Params) -> rusqlite::Result<usize> {
        self.sql(sql)?.execute(values)
    }

    pub(super) fn push(&mut self, Entry { envelope, due }: &Entry, now: u64) -> rusqlite::Result<Admitted> {
        if let Some(known) = find(self.connection, &envelope.id, now)? {
            return Ok(Admitted::Duplicate(known.state));
        }
        let (priority, size) = (envelope.priority, envelope.size());
        let evicted = match self.make_room(priority, size)? {
            Ok(evicted) => evicted,
            Err(full) => return Ok(Admitted::Full(full)),
        };
        self.usage[priority.rank()].add(size);
        // Known no longer, and not forgotten yet.
        self.run("DELETE FROM done WHERE id = ?1", [envelope.id.as_str()])?;
        const JOB: &str =
            "INSERT INTO jobs (id, type, priority, size, state, due, place, time, token, attempts, crashes)
            VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, 0, 0, 0, 0)";
        let (place, rank) = (self.next(), rank(priority));
        let id = envelope.id.as_str();
        self.run(JOB, params![id, envelope.kind, rank, signed(size), signed(*due), place])?;
        const ENVELOPE: &str = "INSERT INTO envelopes (seq, v, key, created, traceparent, tracestate, baggage, data)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (seq, trace) = (self.connection.last_insert_rowid(), &envelope.trace);
        let (key, created, data) = (envelope.key.as_deref(), signed(envelope.created), envelope.data.get());
        let trace = [&trace.traceparent, &trace.tracestate, &trace.baggage].map(Option::as_deref);
        self.run(ENVELOPE, params![seq, envelope.v, key, created, trace[0], trace[1], trace[2], data])?;
        Ok(Admitted::New { evicted })
    }

    /// Throws away what has to go, once it is known to be enough.
    fn make_room(&mut self, priority: Priority, size: u64) -> rusqlite::Result<Result<Vec<(JobId, Priority)>, Full>> {
        const VICTIM: &str = "SELECT seq, id, size FROM jobs INDEXED BY queued WHERE state = 0 AND priority = ?1
            ORDER BY due, place LIMIT 1 OFFSET ?2";
        let bounds = &self.config.bounds;
        let mut there = self.usage.map(|usage| There { usage, evictable: false });
        if bounds.room(priority, size, &there) == Room::Yes {
            return Ok(Ok(Vec::new()));
        }
        let mut statement = self.sql(VICTIM)?;
        let mut victim = |from: Priority, nth: i64| {
            let victim = statement
                .query_row(params![rank(from), nth], |row| Ok((row.get::<_, i64>(0)?, id(row, 1)?, unsigned(row, 2)?)));
            victim.optional()
        };
        let mut next = [const { None }; 4];
        for from in Priority::ALL {
            next[from.rank()] = victim(from, 0)?;
            there[from.rank()].evictable = next[from.rank()].is_some();
        }
        let (mut victims, mut taken) = (Vec::new(), [0; 4]);
        loop {
            let from = match bounds.room(priority, size, &there) {
                Room::Yes => break,
                Room::Evict(from) => from,
                Room::Full(full) => return Ok(Err(full)),
            };
            let lane = from.rank();
            let Some((seq, id, size)) = next[lane].take() else { break };
            there[lane].usage.take(size);
            taken[lane] += 1;
            next[lane] = victim(from, taken[lane])?;
            there[lane].evictable = next[lane].is_some();
            victims.push((seq, id, from));
        }
        self.usage = there.map(|there| there.usage);
        victims
            .into_iter()
            .map(|(seq, id, from)| self.remove(seq).map(|()| (id, from)))
            .collect::<Result<_, _>>()
            .map(Ok)
    }

    pub(super) fn claim(&mut self, max: usize, lease: Duration, now: u64) -> rusqlite::Result<Vec<Claimed>> {
        const OVER: &str = "UPDATE jobs SET state = 0, crashes = crashes + 1 WHERE state = 1 AND time <= ?1";
        self.run(OVER, [signed(now)])?;
        let mut lanes = self.candidates(max, now)?;
        let until = signed(after(now, lease));
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let heads = lanes.each_ref().map(|lane| lane.last().map(|head| Head { due: head.due }));
            let Some(lane) = next_lane(&heads, self.config.ageing, now) else { break };
            let Some(candidate) = lanes[lane.rank()].pop() else { break };
            claimed.push(self.hand_out(candidate.seq, until)?);
        }
        Ok(claimed)
    }

    /// The first of each lane, the very first at the end.
    fn candidates(&self, max: usize, now: u64) -> rusqlite::Result<[Vec<Candidate>; 4]> {
        const FIRST: &str = "SELECT seq, due FROM jobs INDEXED BY queued
            WHERE state = 0 AND priority = ?1 AND due <= ?2 ORDER BY due, place LIMIT ?3";
        let mut lanes = [const { Vec::new() }; 4];
        let mut statement = self.sql(FIRST)?;
        for (priority, lane) in Priority::ALL.into_iter().zip(&mut lanes) {
            let mut rows = statement.query(params![rank(priority), signed(now), signed(max as u64)])?;
            while let Some(row) = rows.next()? {
                lane.push(Candidate { seq: row.get(0)?, due: unsigned(row, 1)? });
            }
            lane.reverse();
        }
        Ok(lanes)
    }

    fn hand_out(&mut self, seq: i64, until: i64) -> rusqlite::Result<Claimed> {
        const HAND_OUT: &str = "UPDATE jobs SET state = 1, time = ?2, token = ?3 WHERE seq = ?1
            RETURNING id, type, priority, attempts, crashes";
        let token = self.next();
        let (named, attempts, crashes) = self
            .sql(HAND_OUT)?
            .query_row(params![seq, until, token], |row| Ok((Named::read(row)?, row.get(3)?, row.get(4)?)))?;
        let lease = Lease { id: named.id.clone(), token: token as u64 };
        Ok(Claimed { envelope: named.envelope(self.connection, seq)?, lease, attempts, crashes })
    }

    pub(super) fn extend(&mut self, lease: &Lease, by: Duration, now: u64) -> Asked<()> {
        const EXTEND: &str = "UPDATE jobs SET time = ?3 WHERE id = ?1 AND state = 1 AND token = ?2";
        let until = signed(after(now, by));
        match self.run(EXTEND, params![lease.id.as_str(), signed(lease.token), until])? {
            0 => Ok(Err(EngineError::LeaseLost(lease.id.clone()))),
            _ => Ok(Ok(())),
        }
    }

    pub(super) fn settle(&mut self, lease: &Lease, settlement: &Settlement, now: u64) -> Asked<()> {
        const RETRY: &str = "UPDATE jobs SET state = 0, due = ?2, place = ?3, attempts = attempts + 1 WHERE seq = ?1";
        const DEFER: &str = "UPDATE jobs SET state = 0, due = ?2, place = ?3 WHERE seq = ?1";
        let Some(held) = self.held(lease)? else { return Ok(Err(EngineError::LeaseLost(lease.id.clone()))) };
        match settlement {
            Settlement::Done => self.finish(&held, &lease.id, now)?,
            Settlement::Retry { due, reason: _ } => {
                let place = self.next();
                self.run(RETRY, params![held.seq, signed(*due), place])?;
            }
            Settlement::Defer { due } => {
                let place = self.next();
                self.run(DEFER, params![held.seq, signed(*due), place])?;
            }
            Settlement::Release => {
                self.run("UPDATE jobs SET state = 0 WHERE seq = ?1", [held.seq])?;
            }
            Settlement::Bury { reason, attempts } => self.bury(&held, reason, *attempts, now)?,
        }
        Ok(Ok(()))
    }

    fn held(&self, lease: &Lease) -> rusqlite::Result<Option<Held>> {
        const HELD: &str = "SELECT seq, priority, size, attempts, crashes FROM jobs
            WHERE id = ?1 AND state = 1 AND token = ?2";
        let held = self.sql(HELD)?.query_row(params![lease.id.as_str(), signed(lease.token)], |row| {
            let (seq, attempts, crashes) = (row.get(0)?, row.get(3)?, row.get(4)?);
            Ok(Held { seq, priority: priority(row, 1)?, size: unsigned(row, 2)?, attempts, crashes })
        });
        held.optional()
    }

    /// Removes first: on a full disk that is where the room for the rest comes from.
    fn finish(&mut self, held: &Held, id: &JobId, now: u64) -> rusqlite::Result<()> {
        const DONE: &str = "INSERT INTO done (id, until, attempts, crashes) VALUES (?1, ?2, ?3, ?4)";
        self.remove(held.seq)?;
        self.usage[held.priority.rank()].take(held.size);
        let until = signed(after(now, self.config.remember));
        self.run(DONE, params![id.as_str(), until, held.attempts, held.crashes])?;
        Ok(())
    }

    fn bury(&mut self, held: &Held, reason: &Reason, attempts: u32, now: u64) -> rusqlite::Result<()> {
        const BURY: &str = "UPDATE jobs SET state = 2, time = ?2, reason = ?3, attempts = ?4 WHERE seq = ?1";
        self.usage[held.priority.rank()].take(held.size);
        self.run(BURY, params![held.seq, signed(now), reason.as_str(), attempts])?;
        Ok(())
    }

    pub(super) fn replay(&mut self, ids: &[JobId], now: u64) -> rusqlite::Result<u64> {
        const REPLAY: &str = "UPDATE jobs SET state = 0, due = ?2, place = ?3, attempts = 0, crashes = 0, reason = NULL
            WHERE id = ?1 AND state = 2 RETURNING priority, size";
        let mut replayed = 0;
        for id in ids {
            let place = self.next();
            let one = self
                .sql(REPLAY)?
                .query_row(params![id.as_str(), signed(now), place], |row| Ok((priority(row, 0)?, unsigned(row, 1)?)));
            if let Some((priority, size)) = one.optional()? {
                self.usage[priority.rank()].add(size);
                replayed += 1;
            }
        }
        Ok(replayed)
    }

    pub(super) fn discard(&mut self, ids: &[JobId]) -> rusqlite::Result<u64> {
        let mut discarded = 0;
        for id in ids {
            let seq = self
                .sql("SELECT seq FROM jobs WHERE id = ?1 AND state = 2")?
                .query_row([id.as_str()], |row| row.get(0));
            if let Some(seq) = seq.optional()? {
                self.remove(seq)?;
                discarded += 1;
            }
        }
        Ok(discarded)
    }

    /// Forgets at most so many; whether there may be more.
    pub(super) fn forget(&mut self, most: usize, now: u64) -> rusqlite::Result<bool> {
        // In the order in which they were done, which is that of their end but for a clock that was set back.
        const DONE: &str = "DELETE FROM done WHERE seq IN (SELECT seq FROM done ORDER BY seq LIMIT ?1)
            AND (until <= ?2 OR seq <= (SELECT MAX(seq) FROM done) - ?3)";
        const EMPTY: &str = "DELETE FROM depths WHERE queued = 0 AND active = 0 AND dead = 0";
        let limit = signed(most as u64);
        let done = self.run(DONE, params![limit, signed(now), signed(self.config.bounds.most())])?;
        let dead = self.forget_dead(limit, now)?;
        self.run(EMPTY, ())?;
        Ok(done == most || dead == most)
    }

    /// The oldest, as long as their time is over or there are too many.
    fn forget_dead(&self, limit: i64, now: u64) -> rusqlite::Result<usize> {
        const OLDEST: &str = "SELECT seq, time, size FROM jobs WHERE state = 2 ORDER BY time, id LIMIT ?1";
        let kept = now.saturating_sub(after(0, self.config.keep_dead));
        let mut left = read::buried(self.connection)?;
        let mut statement = self.sql(OLDEST)?;
        let mut rows = statement.query([limit])?;
        let mut forgotten = Vec::new();
        while let Some(row) = rows.next()? {
            if unsigned(row, 1)? >= kept && self.config.most_dead.holds(left) {
                break;
            }
            left.take(unsigned(row, 2)?);
            forgotten.push(row.get(0)?);
        }
        drop(rows);
        forgotten.iter().try_for_each(|&seq| self.remove(seq))?;
        Ok(forgotten.len())
    }

    fn remove(&self, seq: i64) -> rusqlite::Result<()> {
        self.run("DELETE FROM jobs WHERE seq = ?1", [seq])?;
        self.run("DELETE FROM envelopes WHERE seq = ?1", [seq])?;
        Ok(())
    }

    fn next(&mut self) -> i64 {
        self.counter += 1;
        signed(self.counter)
    }
}
