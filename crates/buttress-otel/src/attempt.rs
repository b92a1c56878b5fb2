//! Work for a collector, whatever the collector and the exporter do.

use std::future::Future;
use std::time::Duration;

/// Runs the work on a task of its own, so that a panic takes only this attempt with it, and gives it up after this long.
pub(crate) async fn attempt<T, F>(limit: Duration, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let mut attempting = tokio::spawn(work);
    match tokio::time::timeout(limit, &mut attempting).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the exporter panicked".to_owned()),
        Err(_) => {
            attempting.abort();
            Err(format!("the exporter took longer than {limit:?}"))
        }
    }
}
