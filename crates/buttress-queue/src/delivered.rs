//! Ids of what was delivered directly, so that a copy of it that is in the queue after all is not delivered again.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::job::JobId;

/// How many are remembered; the oldest is forgotten first.
const MOST: usize = 10_000;

#[derive(Default)]
pub(crate) struct Delivered(Mutex<(HashSet<JobId>, VecDeque<JobId>)>);

impl Delivered {
    pub(crate) fn add(&self, id: JobId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *ids;
        if known.insert(id.clone()) {
            order.push_back(id);
        }
        if order.len() > MOST
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// It was not delivered after all.
    pub(crate) fn remove(&self, id: &JobId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *ids;
        known.remove(id);
        order.retain(|kept| kept != id);
    }

    pub(crate) fn has(&self, id: &JobId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(id)
    }
}
