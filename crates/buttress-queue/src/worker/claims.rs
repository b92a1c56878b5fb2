//! Claims jobs for the places that are ready, as many at once as there are of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use buttress::backoff::Backoff;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::{Counts, Rules, Stop};
use crate::engine::{Claimed, Settlement};

/// A place that is ready for a job.
pub(super) type Turn = oneshot::Sender<Claimed>;

/// How often ids are forgotten and the depths are shown.
const MAINTAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether a ramp lets more in.
const RAMP: Duration = Duration::from_millis(50);

pub(super) struct Claims {
    rules: Arc<Rules>,
    counts: Arc<Counts>,
    asked: mpsc::Receiver<Turn>,
    waiting: Vec<Turn>,
    failures: u32,
    backoff: Backoff,
    maintained: Option<Instant>,
}

impl Claims {
    pub(super) fn new(rules: Arc<Rules>, counts: Arc<Counts>, asked: mpsc::Receiver<Turn>) -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(1));
        let backoff = backoff.expect("50 ms is above zero and below a second");
        Self { rules, counts, asked, waiting: Vec::new(), failures: 0, backoff, maintained: None }
    }

    /// Goes on until it is stopped or nobody asks any more. A claim is never cancelled: what it brought would be lost for
    /// as long as its lease.
    pub(super) async fn hand_out(mut self, mut stopped: watch::Receiver<Stop>) {
        loop {
            let going = tokio::select! {
                biased;
                _ = stopped.changed() => return,
                going = self.gather() => going,
            };
            if !going {
                return;
            }
            self.maintain().await;
            let max = self.allowed();
            if max == 0 {
                sleep(RAMP).await;
                continue;
            }
            let queue = &self.rules.queue;
            match queue.engine.claim(max, self.rules.lease, queue.clock.now()).await {
                Ok(claimed) => {
                    self.failures = 0;
                    let nothing = claimed.is_empty();
                    for claimed in claimed {
                        self.give(claimed).await;
                    }
                    if nothing && !self.idle(&mut stopped).await {
                        return;
                    }
                }
                Err(_) => {
                    let wait = self.backoff.delay(self.failures);
                    self.failures = self.failures.saturating_add(1);
                    tokio::select! {
                        _ = stopped.changed() => return,
                        () = sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Waits until a place is ready, and whatever else has to be; false when no place is left.
    async fn gather(&mut self) -> bool {
        if let Some(connectivity) = &self.rules.connectivity {
            connectivity.online().await;
        }
        if self.waiting.is_empty() {
            let Some(turn) = self.asked.recv().await else { return false };
            self.waiting.push(turn);
        }
        while let Ok(turn) = self.asked.try_recv() {
            self.waiting.push(turn);
        }
        true
    }

    /// How many may be claimed now.
    fn allowed(&self) -> usize {
        let Some(connectivity) = &self.rules.connectivity else { return self.waiting.len() };
        let busy = usize::try_from(self.counts.busy.load(Relaxed)).unwrap_or(usize::MAX);
        connectivity.allowance(self.rules.concurrency).saturating_sub(busy).min(self.waiting.len())
    }

    /// Gives a job to a place; back to the queue when there is none, which is when one has just ended.
    async fn give(&mut self, claimed: Claimed) {
        let mut claimed = claimed;
        // Counted before it is taken, so that it is never missing when the next claim is thought about.
        self.counts.busy.fetch_add(1, Relaxed);
        while let Some(turn) = self.waiting.pop() {
            match turn.send(claimed) {
                Ok(()) => return,
                Err(back) => claimed = back,
            }
        }
        self.counts.busy.fetch_sub(1, Relaxed);
        let queue = &self.rules.queue;
        let _ = queue.engine.settle(&claimed.lease, Settlement::Release, queue.clock.now()).await;
    }

    /// Waits until there may be something to claim; false when it is to end.
    async fn idle(&mut self, stopped: &mut watch::Receiver<Stop>) -> bool {
        let queue = &self.rules.queue;
        tokio::select! {
            _ = stopped.changed() => false,
            () = queue.engine.ready(queue.clock.now()) => true,
            () = sleep(MAINTAIN) => true,
        }
    }

    async fn maintain(&mut self) {
        let now = Instant::now();
        if self.maintained.is_some_and(|last| now.saturating_duration_since(last) < MAINTAIN) {
            return;
        }
        self.maintained = Some(now);
        let queue = &self.rules.queue;
        queue.shared.flows.tick(now);
        let _ = queue.engine.maintain(queue.clock.now()).await;
        if let Some(meters) = &queue.meters
            && let Ok(contents) = queue.contents().await
        {
            meters.show(&contents, queue.clock.now());
        }
    }
}
