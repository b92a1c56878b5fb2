//! What is done to the file, inside a transaction.

mod dead;

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, params};

use super::super::{
    Admitted, Claimed, EngineConfig, EngineError, Entry, Full, Head, Lease, Room, Settlement, There, after, next_lane,
};
use super::depths::{Counted, Depths, Stand};
use super::read::find;
use super::row::{Named, id, rank, signed, unsigned};
use crate::job::{JobId, Priority};

/// A storage's error, or else the engine's answer.
pub(super) type Asked<T> = rusqlite::Result<Result<T, EngineError>>;

/// A transaction: the counters are read when it begins and written when it ends.
pub(super) struct Work<'a> {
    connection: &'a Connection,
    config: &'a EngineConfig,
    depths: Depths,
    counter: u64,
    counter_before: u64,
}

/// A job that somebody has.
struct Held {
    seq: i64,
    counted: Counted,
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
        let depths = Depths::read(connection)?;
        let counter = connection.prepare_cached("SELECT value FROM counter")?.query_row((), |row| unsigned(row, 0))?;
        Ok(Self { connection, config, depths, counter, counter_before: counter })
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        if self.counter != self.counter_before {
            self.run("UPDATE counter SET value = ?1", [signed(self.counter)])?;
        }
        let Self { connection, depths, .. } = self;
        depths.write(connection)?;
        connection.prepare_cached("COMMIT")?.execute(()).map(drop)
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
        let counted = Counted { kind: Arc::clone(&envelope.kind), priority, size };
        self.depths.moved(counted, None, Some(Stand::Queued));
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
        const VICTIM: &str =
            "SELECT seq, id, type, priority, size FROM jobs INDEXED BY queued WHERE state = 0 AND priority = ?1
            ORDER BY due, place LIMIT 1 OFFSET ?2";
        let bounds = &self.config.bounds;
        let mut there = self.depths.usage().map(|usage| There { usage, evictable: false });
        if bounds.room(priority, size, &there) == Room::Yes {
            return Ok(Ok(Vec::new()));
        }
        let mut statement = self.sql(VICTIM)?;
        let mut victim = |from: Priority, nth: i64| {
            let victim = statement
                .query_row(params![rank(from), nth], |row| Ok((row.get(0)?, id(row, 1)?, Counted::read(row, 2)?)));
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
            let Some(victim_of_lane) = next[lane].take() else { break };
            let (_, _, Counted { size, .. }) = &victim_of_lane;
            there[lane].usage.take(*size);
            taken[lane] += 1;
            next[lane] = victim(from, taken[lane])?;
            there[lane].evictable = next[lane].is_some();
            victims.push(victim_of_lane);
        }
        let mut evicted = Vec::with_capacity(victims.len());
        for (seq, id, counted) in victims {
            self.remove(seq)?;
            evicted.push((id, counted.priority));
            self.depths.moved(counted, Some(Stand::Queued), None);
        }
        Ok(Ok(evicted))
    }

    pub(super) fn claim(&mut self, max: usize, lease: Duration, now: u64) -> rusqlite::Result<Vec<Claimed>> {
        self.take_back(now)?;
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

    /// Puts back whatever was not heard of until its lease was over.
    fn take_back(&mut self, now: u64) -> rusqlite::Result<()> {
        const OVER: &str = "UPDATE jobs SET state = 0, crashes = crashes + 1 WHERE state = 1 AND time <= ?1
            RETURNING type, priority, size";
        let mut statement = self.sql(OVER)?;
        let mut rows = statement.query([signed(now)])?;
        while let Some(row) = rows.next()? {
            self.depths.moved(Counted::read(row, 0)?, Some(Stand::Active), Some(Stand::Queued));
        }
        Ok(())
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
        // As large as before, whatever that is.
        let counted = Counted { kind: Arc::clone(&named.kind), priority: named.priority, size: 0 };
        self.depths.moved(counted, Some(Stand::Queued), Some(Stand::Active));
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
        const BURY: &str = "UPDATE jobs SET state = 2, time = ?2, reason = ?3, attempts = ?4 WHERE seq = ?1";
        let Some(held) = self.held(lease)? else { return Ok(Err(EngineError::LeaseLost(lease.id.clone()))) };
        let stands = match settlement {
            Settlement::Done => {
                self.finish(&held, &lease.id, now)?;
                None
            }
            Settlement::Retry { due, reason: _ } => {
                let place = self.next();
                self.run(RETRY, params![held.seq, signed(*due), place])?;
                Some(Stand::Queued)
            }
            Settlement::Defer { due } => {
                let place = self.next();
                self.run(DEFER, params![held.seq, signed(*due), place])?;
                Some(Stand::Queued)
            }
            Settlement::Release => {
                self.run("UPDATE jobs SET state = 0 WHERE seq = ?1", [held.seq])?;
                Some(Stand::Queued)
            }
            Settlement::Bury { reason, attempts } => {
                self.run(BURY, params![held.seq, signed(now), reason.as_str(), attempts])?;
                Some(Stand::Dead)
            }
        };
        self.depths.moved(held.counted, Some(Stand::Active), stands);
        Ok(Ok(()))
    }

    fn held(&self, lease: &Lease) -> rusqlite::Result<Option<Held>> {
        const HELD: &str = "SELECT seq, type, priority, size, attempts, crashes FROM jobs
            WHERE id = ?1 AND state = 1 AND token = ?2";
        let held = self.sql(HELD)?.query_row(params![lease.id.as_str(), signed(lease.token)], |row| {
            let (seq, attempts, crashes) = (row.get(0)?, row.get(4)?, row.get(5)?);
            Ok(Held { seq, counted: Counted::read(row, 1)?, attempts, crashes })
        });
        held.optional()
    }

    /// Removes first: on a full disk that is where the room for the rest comes from.
    fn finish(&self, held: &Held, id: &JobId, now: u64) -> rusqlite::Result<()> {
        const DONE: &str = "INSERT INTO done (id, until, attempts, crashes) VALUES (?1, ?2, ?3, ?4)";
        self.remove(held.seq)?;
        let until = signed(after(now, self.config.remember));
        self.run(DONE, params![id.as_str(), until, held.attempts, held.crashes])?;
        Ok(())
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
