//! An exporter that does as it is told, and remembers what it was given.

use std::future::Future;
use std::sync::{Arc, Mutex};

/// What an exporter does with a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Take,
    Refuse,
    Hang,
    Panic,
}

/// Follows a script, the last act for ever.
#[derive(Debug)]
pub(crate) struct Script<T> {
    acts: Arc<[Act]>,
    seen: Arc<Mutex<Vec<T>>>,
}

impl<T> Clone for Script<T> {
    fn clone(&self) -> Self {
        Self { acts: Arc::clone(&self.acts), seen: Arc::clone(&self.seen) }
    }
}

impl<T: Clone> Script<T> {
    pub(crate) fn new(acts: &[Act]) -> Self {
        Self { acts: acts.into(), seen: Arc::default() }
    }

    /// Everything that it was given.
    pub(crate) fn seen(&self) -> Vec<T> {
        self.seen.lock().expect("nobody panics with it").clone()
    }

    /// Of that, what it took.
    pub(crate) fn taken(&self) -> Vec<T> {
        let seen = self.seen();
        seen.into_iter().enumerate().filter(|(nth, _)| self.act(*nth) == Act::Take).map(|(_, given)| given).collect()
    }

    fn act(&self, nth: usize) -> Act {
        self.acts[nth.min(self.acts.len() - 1)]
    }

    pub(crate) fn play(&self, given: T) -> impl Future<Output = Result<(), String>> + Send + use<T> {
        let mut seen = self.seen.lock().expect("nobody panics with it");
        let act = self.act(seen.len());
        seen.push(given);
        async move {
            match act {
                Act::Take => Ok(()),
                Act::Refuse => Err("refused".to_owned()),
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("told to"),
            }
        }
    }
}
