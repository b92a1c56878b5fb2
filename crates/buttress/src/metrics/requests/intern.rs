//! Texts that are labels, as small numbers; so many and no more.

use std::sync::Arc;

use super::super::labels::LONGEST_VALUE;
use super::super::overflow::Overflow;
use super::super::table::{Table, hash_of};
use crate::observe::methods::OTHER;

/// The number of a text. 0 is none, 1 is `_OTHER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) struct Interned(pub(in crate::metrics) u16);

impl Interned {
    pub(in crate::metrics) const NONE: Self = Self(0);
    pub(in crate::metrics) const OTHER: Self = Self(1);
    pub(super) const FIRST: usize = 2;
}

pub(in crate::metrics) struct Interner {
    texts: Table<Arc<str>, Interned>,
    pub(in crate::metrics) overflow: Overflow,
}

impl Interner {
    pub(in crate::metrics) fn new(cap: usize) -> Self {
        let cap = cap.min(usize::from(u16::MAX) - Interned::FIRST);
        Self { texts: Table::new(cap), overflow: Overflow::default() }
    }

    pub(in crate::metrics) fn find(&self, text: &str) -> Option<Interned> {
        self.texts.find(hash_of(text), |known| **known == *text).copied()
    }

    /// `_OTHER` when there are too many, when it is longer than any label should be, or when it says so itself.
    pub(in crate::metrics) fn intern(&self, text: &str) -> Interned {
        let (hash, is) = (hash_of(text), |known: &Arc<str>| **known == *text);
        if let Some(known) = self.texts.find(hash, is) {
            return *known;
        }
        if text == OTHER {
            return Interned::OTHER;
        }
        let make = |nth| (text.into(), Interned((Interned::FIRST + nth) as u16));
        let fits = text.len() <= LONGEST_VALUE;
        match fits.then(|| self.texts.find_or_make(hash, is, make)).flatten() {
            Some(interned) => *interned,
            None => {
                self.overflow.note(text);
                Interned::OTHER
            }
        }
    }

    /// The text, for labels; looks at all of them.
    pub(in crate::metrics) fn text(&self, interned: Interned) -> Option<Arc<str>> {
        match interned {
            Interned::NONE => None,
            Interned::OTHER => Some(OTHER.into()),
            _ => self.texts.iter().find(|(_, known)| **known == interned).map(|(text, _)| Arc::clone(text)),
        }
    }
}
