//! How many blocking handlers run at once: in all, and of one validator, however many connections it has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::Hotkey;

/// How many blocking handlers run at once in tokio's blocking pool, which has 512 threads by default. A handler that hangs
/// keeps its thread; the 64 that are left are for the resolvers, for the scans of large requests, and for whatever else the
/// program does on that pool.
const IN_ALL_MAX: usize = 448;

/// How many of them work for one hotkey: a quarter is left to the others.
const OF_ONE_MAX: usize = IN_ALL_MAX - IN_ALL_MAX / 4;

/// The places of blocking handlers.
#[derive(Debug)]
pub(super) struct Blocking {
    in_all: Arc<Semaphore>,
    /// Those of hotkeys that are connected, or whose handlers run on.
    shares: Mutex<HashMap<Hotkey, Weak<Semaphore>>>,
}

/// The places of one hotkey.
#[derive(Debug)]
pub(super) struct BlockingShare {
    in_all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct BlockingPlace {
    _own: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

impl Blocking {
    pub(super) fn new() -> Self {
        Self { in_all: Arc::new(Semaphore::new(IN_ALL_MAX)), shares: Mutex::default() }
    }

    /// The places of `hotkey`, which all its connections have together.
    pub(super) fn share(&self, hotkey: Hotkey) -> BlockingShare {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shares.get(&hotkey).and_then(Weak::upgrade).unwrap_or_else(|| {
            shares.retain(|_, share| share.strong_count() > 0);
            let own = Arc::new(Semaphore::new(OF_ONE_MAX));
            shares.insert(hotkey, Arc::downgrade(&own));
            own
        });
        BlockingShare { in_all: self.in_all.clone(), own }
    }
}

impl BlockingShare {
    /// Waits for a place. Cancel-safe.
    ///
    /// # Errors
    /// None: no semaphore is ever closed.
    pub(super) async fn place(&self) -> Result<BlockingPlace, AcquireError> {
        // In this order: who waits for its own share takes nothing from others.
        let own = self.own.clone().acquire_owned().await?;
        Ok(BlockingPlace { _own: own, _in_all: self.in_all.clone().acquire_owned().await? })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::transport::io::poll_now;

    fn places(share: &BlockingShare) -> Vec<BlockingPlace> {
        let mut places = Vec::new();
        while let Poll::Ready(Ok(place)) = poll_now(Box::pin(share.place())) {
            places.push(place);
        }
        places
    }

    #[test]
    fn a_hotkey_leaves_a_quarter_to_others_and_is_remembered_while_its_handlers_run() {
        let blocking = Blocking::new();
        let [one, two] = [1, 2].map(|key| Hotkey::from_public_key([key; 32]).unwrap());
        let (share, again) = (blocking.share(one), blocking.share(one));
        let mut held = places(&share);
        assert_eq!(held.len(), 336);
        assert!(places(&again).is_empty(), "its connections share");
        assert_eq!(places(&blocking.share(two)).len(), 112);
        drop((share, again));
        let back = blocking.share(one);
        assert!(places(&back).is_empty(), "handlers run on when the connection is gone");
        held.pop();
        assert_eq!(places(&back).len(), 1);
        drop((held, back));
        let _two = blocking.share(two);
        assert_eq!(blocking.shares.lock().unwrap().len(), 1);
    }
}
