//! What is measured, and how it is handed over.

/// Takes what does so many calls.
pub type Body<'a> = dyn FnMut(&mut dyn FnMut(usize)) + 'a;

/// A subject of measurement: something that is done many times.
pub trait Subject: Sync {
    fn name(&self) -> &'static str;

    /// Gets ready on this thread, and hands over what makes so many calls.
    fn enter(&self, body: &mut Body<'_>);

    /// Does what the calls have put off.
    fn settle(&self) {}

    /// Of each of so many calls that are not answered; not a number where there is no such thing.
    fn bytes_in_flight(&self, _calls: usize) -> f64 {
        f64::NAN
    }
}
