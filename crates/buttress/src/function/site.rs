//! A place in the code that is observed. All of this is for what the macro writes.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use futures_core::Stream;

use super::domain::Domain;
use super::field::FieldValue;
use crate::Telemetry;
use crate::context::Value;
use crate::telemetry::installed;
use crate::trace::operation::{JudgedBy, Operation, Run, Streamed, Work};

/// What is known of a function before it is called, and what it is recorded with, found out by the first call.
#[doc(hidden)]
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    fields: &'static [&'static str],
    domain: Option<Domain>,
    slow: Option<Duration>,
    slo: Option<Duration>,
    event: Option<&'static str>,
    place: OnceLock<Place>,
}

#[derive(Debug)]
struct Place {
    /// None where telemetry is off.
    operation: Option<Operation>,
    keys: Vec<&'static str>,
}

#[doc(hidden)]
impl Site {
    /// The one with this path, of which the last two segments are its name.
    pub const fn at(path: &'static str) -> Self {
        Self::named(last_two(path))
    }

    pub const fn named(name: &'static str) -> Self {
        Self { name, fields: &[], domain: None, slow: None, slo: None, event: None, place: OnceLock::new() }
    }

    pub const fn fields(mut self, keys: &'static [&'static str]) -> Self {
        self.fields = keys;
        self
    }

    pub const fn domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    pub const fn slow(mut self, nanos: u64) -> Self {
        self.slow = Some(Duration::from_nanos(nanos));
        self
    }

    pub const fn slo(mut self, nanos: u64) -> Self {
        self.slo = Some(Duration::from_nanos(nanos));
        self
    }

    pub const fn event(mut self, name: &'static str) -> Self {
        self.event = Some(name);
        self
    }

    pub const fn event_of_its_name(self) -> Self {
        let name = self.name;
        self.event(name)
    }

    /// Begins a run, unless nobody watches.
    #[inline]
    pub fn begin(&'static self) -> Observed {
        let place = match self.place.get() {
            Some(place) => place,
            None => match self.find_place() {
                Some(place) => place,
                None => return Observed { work: None, keys: &[] },
            },
        };
        Observed { work: place.operation.as_ref().map(Operation::begin_in_place), keys: &place.keys }
    }

    /// None as long as no telemetry is installed.
    #[cold]
    fn find_place(&'static self) -> Option<&'static Place> {
        let telemetry = installed()?;
        Some(self.place.get_or_init(|| {
            let is_on = telemetry.settings().enabled.value;
            let key = |field: &&'static str| self.domain.map_or(*field, |domain| domain.key(field));
            Place { operation: is_on.then(|| self.operation(telemetry)), keys: self.fields.iter().map(key).collect() }
        }))
    }

    fn operation(&self, telemetry: &Telemetry) -> Operation {
        let mut operation = telemetry.observed(self.name, self.domain.map(|domain| domain.name));
        let (mut slow, mut slo) = (self.slow, self.slo);
        if let Some(domain) = self.domain {
            operation = operation.attribute("buttress.domain", domain.name);
            for (key, value) in domain.attributes {
                operation = operation.attribute(*key, *value);
            }
            (slow, slo) = (slow.or(domain.slow), slo.or(domain.slo));
        }
        if let Some(longer_than) = slow {
            operation = operation.slow(longer_than);
        }
        if let Some(within) = slo {
            operation = operation.slo(within);
        }
        match self.event {
            Some(event) => operation.event(event),
            None => operation,
        }
    }
}

/// `payments::charge` of `shop::payments::charge`.
const fn last_two(path: &'static str) -> &'static str {
    let bytes = path.as_bytes();
    let (mut at, mut seen) = (bytes.len(), 0);
    while at > 0 {
        at -= 1;
        if bytes[at] == b':' {
            seen += 1;
            // The colon nearest to the end of the second pair.
            if seen == 3 {
                return path.split_at(at + 1).1;
            }
        }
    }
    path
}

/// A call of an observed function that has begun.
#[doc(hidden)]
#[must_use = "it is cancelled when it is dropped"]
pub struct Observed {
    /// None where nobody watches.
    work: Option<Work>,
    keys: &'static [&'static str],
}

#[doc(hidden)]
impl Observed {
    /// Whether its fields are of use to anybody.
    #[inline]
    pub fn is_recorded(&self) -> bool {
        self.work.as_ref().is_some_and(Work::is_recorded)
    }

    pub fn field(&mut self, nth: usize, value: &(impl FieldValue + ?Sized)) {
        if let (Some(work), Some(value)) = (&mut self.work, value.field_value()) {
            work.note(self.keys[nth], value);
        }
    }

    pub fn displayed_field(&mut self, nth: usize, value: &(impl fmt::Display + ?Sized)) {
        self.field(nth, &Value::from(value.to_string()));
    }

    pub fn debug_field(&mut self, nth: usize, value: &(impl fmt::Debug + ?Sized)) {
        self.field(nth, &Value::from(format!("{value:?}")));
    }

    /// A function that is done when it returns.
    #[inline]
    pub fn call<R>(self, body: impl FnOnce() -> R, judge: impl Fn(&R) -> Option<&'static str>) -> R {
        let Some(mut work) = self.work else { return body() };
        let output = work.run(body);
        work.finish_with(&output, &JudgedBy(judge), || {});
        output
    }

    /// The body of a function that is async.
    #[inline]
    pub fn run<F, J>(self, body: F, judge: J) -> Run<F, JudgedBy<J>>
    where
        F: Future,
        J: Fn(&F::Output) -> Option<&'static str>,
    {
        Run::begun(self.work, JudgedBy(judge), body)
    }

    /// A function that makes a future.
    pub fn future<F, J>(mut self, body: impl FnOnce() -> F, judge: J) -> Run<F, JudgedBy<J>>
    where
        F: Future,
        J: Fn(&F::Output) -> Option<&'static str>,
    {
        let future = self.make(body);
        self.run(future, judge)
    }

    /// A function that makes a stream.
    pub fn stream<S, J>(mut self, body: impl FnOnce() -> S, judge: J) -> Streamed<S, JudgedBy<J>>
    where
        S: Stream,
        J: Fn(&S::Item) -> Option<&'static str>,
    {
        let stream = self.make(body);
        Streamed::new(self.work, JudgedBy(judge), stream)
    }

    fn make<T>(&mut self, body: impl FnOnce() -> T) -> T {
        match &mut self.work {
            Some(work) => work.within(body),
            None => body(),
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("watched", &self.work.is_some()).finish_non_exhaustive()
    }
}

/// A value of this type, for the compiler's eyes only.
///
/// # Panics
///
/// Whenever it is called.
#[doc(hidden)]
pub fn never<T>() -> T {
    unreachable!("it stands where nobody comes")
}

#[cfg(test)]
mod tests {
    use super::last_two;

    #[test]
    fn a_name_is_the_last_two_segments_of_a_path() {
        assert_eq!(last_two("shop::payments::gateway::charge"), "gateway::charge");
        assert_eq!(last_two("shop::charge"), "shop::charge");
        assert_eq!(last_two("charge"), "charge");
    }
}
