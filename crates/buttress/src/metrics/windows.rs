//! All sliding windows of a registry, within one budget of bytes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::clock::Instant;
use crate::window::{Precision, SlidingWindow, Span};

/// What a new window is taken to need until it is measured.
const EXPECTED: usize = 8 << 10;

pub(super) struct Windows {
    span: Span,
    precision: Precision,
    budget: usize,
    used: AtomicUsize,
    coarsened: AtomicBool,
    refused: AtomicUsize,
    // Taken when a series is made and when a tick begins, never while something is recorded or read.
    open: Mutex<Vec<Arc<SlidingWindow>>>,
    shared: OnceLock<Arc<SlidingWindow>>,
}

/// What the windows need, and what was given up so that they fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowUsage {
    /// Bytes at the latest tick.
    pub bytes: usize,
    /// Bytes that there may be.
    pub budget: usize,
    /// Windows with a series of their own.
    pub windows: usize,
    /// Series that had to share one window, because the budget was spent.
    pub sharing: usize,
    /// Whether the latest tick had to tell time apart less finely.
    pub coarsened: bool,
}

impl Windows {
    pub(super) fn new(span: Span, precision: Precision, budget: usize) -> Self {
        Self {
            span,
            precision,
            budget,
            used: AtomicUsize::new(0),
            coarsened: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            open: Mutex::default(),
            shared: OnceLock::new(),
        }
    }

    /// A window, its own if there is room for one.
    pub(super) fn open(&self) -> Arc<SlidingWindow> {
        let make = || Arc::new(SlidingWindow::new(self.span, self.precision));
        if self.used.fetch_add(EXPECTED, Relaxed) + EXPECTED > self.budget {
            self.used.fetch_sub(EXPECTED, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return Arc::clone(self.shared.get_or_init(make));
        }
        let window = make();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&window));
        window
    }

    pub(super) fn tick(&self, now: Instant) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.extend(self.shared.get().cloned());
        open.iter().for_each(|window| window.tick(now));
        let mut used = bytes(&open);
        // All of them alike: a window that is told less finely than its neighbour would mislead who compares the two.
        let mut coarsened = false;
        while used > self.budget && open.iter().filter(|window| window.coarsen()).count() > 0 {
            coarsened = true;
            used = bytes(&open);
        }
        self.used.store(used, Relaxed);
        self.coarsened.store(coarsened, Relaxed);
    }

    pub(super) fn usage(&self) -> WindowUsage {
        WindowUsage {
            bytes: self.used.load(Relaxed),
            budget: self.budget,
            windows: self.open.lock().unwrap_or_else(PoisonError::into_inner).len(),
            sharing: self.refused.load(Relaxed),
            coarsened: self.coarsened.load(Relaxed),
        }
    }
}

fn bytes(windows: &[Arc<SlidingWindow>]) -> usize {
    windows.iter().map(|window| window.bytes()).sum()
}
