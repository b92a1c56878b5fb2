//! Texts that many spans have alike: made once, then shared.

use std::sync::Arc;

/// What was made of the latest few sources; a source that is not among them takes the place of another.
pub(super) struct Repeated<T>(Box<[Option<Made<T>>; PLACES]>);

struct Made<T> {
    of: Box<[u8]>,
    value: T,
}

const PLACES: usize = 64;
/// Longer sources are made each time: callers choose them.
const MAX_LENGTH: usize = 512;

/// What spans are made with, one after the other.
#[derive(Default)]
pub(super) struct Repetitions {
    /// By `user-agent`.
    pub(super) agents: Repeated<Arc<str>>,
    /// By template.
    pub(super) routes: Repeated<Arc<str>>,
    /// By authority.
    pub(super) servers: Repeated<(Arc<str>, Option<u16>)>,
}

impl<T: Clone> Repeated<T> {
    /// What `make` makes of this source, or has made of it before.
    pub(super) fn of(&mut self, source: &[u8], make: impl FnOnce() -> T) -> T {
        let place = &mut self.0[place_of(source)];
        match place {
            Some(made) if *made.of == *source => made.value.clone(),
            _ => {
                let value = make();
                if source.len() <= MAX_LENGTH {
                    *place = Some(Made { of: source.into(), value: value.clone() });
                }
                value
            }
        }
    }
}

impl<T> Default for Repeated<T> {
    fn default() -> Self {
        Self(Box::new([const { None }; PLACES]))
    }
}

/// Eight bytes at a time, by multiplication; who finds two sources for one place makes each of them anew, and nothing else.
fn place_of(source: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = source.as_chunks::<8>();
    let rest = rest.iter().fold(source.len() as u64, |word, byte| word << 8 | u64::from(*byte));
    let mixed =
        words.iter().fold(rest, |mixed, word| (mixed.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(ODD));
    (mixed.wrapping_mul(ODD) >> 58) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_made_once_and_what_is_alike_is_not_mistaken_for_it() {
        let mut repeated = Repeated::default();
        let sources: Vec<String> = (0..1_000).map(|nth| format!("agent/{nth}")).collect();
        for source in &sources {
            let of = |repeated: &mut Repeated<Arc<str>>| repeated.of(source.as_bytes(), || source.as_str().into());
            let made = of(&mut repeated);
            assert_eq!(*made, **source);
            assert!(Arc::ptr_eq(&made, &of(&mut repeated)), "{source}");
        }
        assert!(repeated.0.iter().all(Option::is_some), "every place is used");
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let (mut repeated, long) = (Repeated::default(), [b'a'; MAX_LENGTH + 1]);
        assert_eq!(repeated.of(&long, || 1), 1);
        assert_eq!(repeated.of(&long, || 2), 2);
        assert_eq!(repeated.of(&long[1..], || 3), 3);
        assert_eq!(repeated.of(&long[1..], || 4), 3);
    }
}
