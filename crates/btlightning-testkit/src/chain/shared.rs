//! What the nodes of a chain have in common.

use super::{
    block::Hash,
    extrinsic::validity::Valid,
    requests::Log,
    runtime::RuntimeOptions,
    state::State,
    world::{Notice, PoolError, World},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, broadcast};

/// Notices that a connection may be behind.
const NOTICES_MAX: usize = 1_024;

/// The chain, and those who listen to it.
pub(super) struct Shared {
    world: Mutex<World>,
    pub(super) notices: broadcast::Sender<Notice>,
    /// What was asked of all nodes.
    pub(super) requests: Log,
    /// Told of extrinsics that wait for a block.
    pub(super) submitted: Notify,
}

impl Shared {
    pub(super) fn new(world: World) -> Self {
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        Self { world: Mutex::new(world), notices, requests: Log::new(), submitted: Notify::new() }
    }

    /// The chain, for a moment. Whoever panicked with it in hand has left it whole.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a block, and tells everybody; the number of the block.
    pub(super) fn produce(
        &self,
        change: Option<&mut dyn FnMut(&mut State)>,
        options: Option<&mut dyn FnMut(&mut RuntimeOptions)>,
    ) -> u64 {
        let mut world = self.world();
        let options = options.zip(world.runtime_options()).map(|(change, mut options)| {
            change(&mut options);
            options
        });
        for notice in world.produce(change, options) {
            // Nobody may be listening. While the world is in hand, so that notices are in the order of blocks.
            let _ = self.notices.send(notice);
        }
        world.ledger.best().number()
    }

    pub(super) fn stop_follows(&self) {
        let _world = self.world();
        let _ = self.notices.send(Notice::StopFollows);
    }

    pub(super) fn submit(&self, bytes: &[u8]) -> Result<(Hash, Valid), PoolError> {
        let submitted = self.world().submit(bytes)?;
        self.submitted.notify_one();
        Ok(submitted)
    }
}
