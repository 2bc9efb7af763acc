//! Waits that end.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The longest that anything here may take. Far more than it does, since a loaded machine is no defect.
const LONGEST: Duration = Duration::from_secs(20);

/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What `work` comes to.
///
/// # Panics
/// When it takes longer than anything here may.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(LONGEST, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not done within {LONGEST:?}"),
    }
}

/// Looks again and again until `look` finds what it wants. For what neither package announces.
///
/// # Panics
/// When that takes longer than anything here may.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONGEST;
    loop {
        if let Some(found) = within(what, look()).await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not seen within {LONGEST:?}");
        sleep(LOOK_EVERY).await;
    }
}
