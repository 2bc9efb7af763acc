//! Whose signature is verified when: one at a time of a connection, a few of a source, and who is known first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use btlightning_proto::identity::SourcePrefix;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many signatures from one source are verified, or wait for that, at once. The others wait for these.
const AT_ONCE_PER_SOURCE: usize = 4;

/// The sources that have something to verify.
#[derive(Debug, Default)]
pub(super) struct Turns {
    by_source: Mutex<HashMap<SourcePrefix, Source>>,
}

#[derive(Debug)]
struct Source {
    free: Arc<Semaphore>,
    /// How many wait or have their turn.
    takers: usize,
}

/// A source's turn, for as long as it is held.
#[derive(Debug)]
pub(super) struct SourceTurn {
    // In this order: a turn that ends lets another one of its source begin before the source can be forgotten.
    _turn: OwnedSemaphorePermit,
    _taker: Taker,
}

impl Turns {
    /// Waits for a turn of the source that `ip` is in. There are no more who wait than connections. Cancel-safe.
    pub(super) async fn of_source(self: &Arc<Self>, ip: IpAddr) -> Option<SourceTurn> {
        let source = SourcePrefix::of(ip);
        let (taker, free) = {
            let mut by_source = self.by_source();
            let entry = by_source
                .entry(source)
                .or_insert_with(|| Source { free: Arc::new(Semaphore::new(AT_ONCE_PER_SOURCE)), takers: 0 });
            entry.takers += 1;
            (Taker { turns: self.clone(), source }, entry.free.clone())
        };
        // The semaphore is never closed.
        let turn = free.acquire_owned().await.ok()?;
        Some(SourceTurn { _turn: turn, _taker: taker })
    }

    fn by_source(&self) -> MutexGuard<'_, HashMap<SourcePrefix, Source>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a source from being forgotten.
#[derive(Debug)]
struct Taker {
    turns: Arc<Turns>,
    source: SourcePrefix,
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut by_source = self.turns.by_source();
        if let Some(source) = by_source.get_mut(&self.source) {
            source.takers -= 1;
            if source.takers == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use super::*;

    async fn is_pending(mut work: Pin<&mut impl Future>) -> bool {
        poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn a_source_has_a_few_turns_at_once_and_others_do_not_wait_for_it() {
        let turns = Arc::new(Turns::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut held = Vec::new();
        for n in 1..=AT_ONCE_PER_SOURCE {
            held.push(turns.of_source(ip(&format!("2001:db8::{n}"))).await);
        }
        let mut next = pin!(turns.of_source(ip("2001:db8::99")));
        assert!(is_pending(next.as_mut()).await);
        drop(turns.of_source(ip("10.0.0.1")).await);
        {
            let mut gone = pin!(turns.of_source(ip("2001:db8::99")));
            assert!(is_pending(gone.as_mut()).await);
        }
        held.pop();
        assert!(next.await.is_some());
        drop(held);
        assert!(turns.by_source().is_empty(), "nothing is remembered of those who left");
    }
}
