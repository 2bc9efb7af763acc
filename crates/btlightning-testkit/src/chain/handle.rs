//! The chain as a test holds it.

use super::{
    block::Hash,
    failure::Failure,
    metadata::{self, MetadataError},
    node::Node,
    requests::Requests,
    rpc::RpcMethods,
    runtime::RuntimeOptions,
    shared::Shared,
    ss58::AccountId,
    state::{Neuron, State},
    world::{Submission, World},
};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::AbortHandle;

/// An in-memory Subtensor: one chain, and one or more nodes that serve it on loopback.
///
/// It ends when it is dropped, and all its nodes with it.
pub struct Chain {
    shared: Arc<Shared>,
    nodes: Mutex<Vec<Node>>,
    first: Node,
    sealer: AbortHandle,
}

/// What a [`Chain`] is to be like.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ChainBuilder {
    block_time: Option<Duration>,
    hold_extrinsics: bool,
    finality_lag: u64,
    runtime: RuntimeOptions,
}

/// Why there is no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// There is no metadata to make it of.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Its first node has no port.
    #[error("the first node does not start: {0}")]
    Node(#[from] io::Error),
}

impl ChainBuilder {
    /// Makes a block every so often. By default there is one when it is asked for and when an extrinsic comes in.
    pub fn block_time(mut self, block_time: Duration) -> Self {
        self.block_time = Some(block_time);
        self
    }

    /// Leaves extrinsics waiting for a block that comes for another reason.
    pub fn hold_extrinsics(mut self) -> Self {
        self.hold_extrinsics = true;
        self
    }

    /// How many blocks finality is behind the best block. 0, so that every block is final at once.
    pub fn finality_lag(mut self, blocks: u64) -> Self {
        self.finality_lag = blocks;
        self
    }

    /// The runtime's version. 365, which the metadata is of.
    pub fn spec_version(mut self, spec_version: u32) -> Self {
        self.runtime.spec_version = spec_version;
        self
    }

    /// Changes what the runtime is like from the first block on.
    pub fn runtime(mut self, change: impl FnOnce(&mut RuntimeOptions)) -> Self {
        change(&mut self.runtime);
        self
    }

    /// Starts the chain, with a genesis block and one node.
    ///
    /// The first chain of a process reads the metadata, and may fetch it: see [`METADATA_VARIABLE`](super::METADATA_VARIABLE).
    ///
    /// # Errors
    ///
    /// [`ChainError`], within a little more than a minute.
    pub async fn start(self) -> Result<Chain, ChainError> {
        // Where cargo has to fetch the metadata, this blocks for as long as it takes.
        let loading = tokio::task::spawn_blocking(metadata::load);
        let metadata = loading.await.map_err(io::Error::other)??;
        let world = World::new(metadata, self.runtime, self.finality_lag);
        let shared = Arc::new(Shared::new(world));
        let first = Node::start(shared.clone())?;
        let sealer = seal(shared.clone(), self.block_time, self.hold_extrinsics);
        let sealer = tokio::spawn(sealer).abort_handle();
        Ok(Chain { shared, nodes: Mutex::default(), first, sealer })
    }
}

/// Makes blocks when it is time, and when there is something to put into one.
async fn seal(shared: Arc<Shared>, block_time: Option<Duration>, hold_extrinsics: bool) {
    loop {
        match block_time {
            Some(block_time) => tokio::time::sleep(block_time).await,
            None if hold_extrinsics => std::future::pending().await,
            None => shared.submitted.notified().await,
        }
        shared.produce(None, None);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.sealer.abort();
    }
}

impl Chain {
    /// A chain that is not started yet.
    pub fn builder() -> ChainBuilder {
        ChainBuilder::default()
    }

    /// Where the first node is: `ws://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.first.url()
    }

    /// The first node.
    pub fn node(&self) -> &Node {
        &self.first
    }

    /// Another node of the same chain, which knows all that the others know.
    ///
    /// # Errors
    ///
    /// If the operating system has no port for it.
    pub fn add_node(&self) -> io::Result<Node> {
        let node = Node::start(self.shared.clone())?;
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(node.clone());
        Ok(node)
    }

    /// Changes the state. The change is visible from the next block on, which this makes.
    ///
    /// The closure must not use the chain, which waits for it.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (mut change, mut result) = (Some(change), None);
        let mut apply = |state: &mut State| result = change.take().map(|change| change(state));
        self.shared.produce(Some(&mut apply), None);
        match result {
            Some(result) => result,
            None => unreachable!("a block is made, and the state changed in it"),
        }
    }

    /// A copy of the state as of the best block.
    pub fn state(&self) -> State {
        self.shared.world().state()
    }

    /// The neuron of a hotkey, as of the best block.
    pub fn neuron(&self, netuid: u16, hotkey: &AccountId) -> Option<Neuron> {
        self.shared.world().neuron(netuid, hotkey)
    }

    /// Makes a block; its number.
    pub fn produce_block(&self) -> u64 {
        self.shared.produce(None, None)
    }

    /// Makes `count` blocks; the number of the last one.
    pub fn produce_blocks(&self, count: u64) -> u64 {
        (0..count).fold(self.block_number(), |_, _| self.produce_block())
    }

    /// The number of the best block.
    pub fn block_number(&self) -> u64 {
        self.shared.world().ledger.best().number()
    }

    /// The number of the last block that is final.
    pub fn finalized_number(&self) -> u64 {
        self.shared.world().ledger.finalized().number()
    }

    /// The hash of the genesis block.
    pub fn genesis_hash(&self) -> Hash {
        self.shared.world().ledger.genesis().hash
    }

    /// Changes what the runtime is like, in a block that this makes. Followers are told if the spec version changes.
    pub fn runtime(&self, mut change: impl FnMut(&mut RuntimeOptions)) {
        self.shared.produce(None, Some(&mut change));
    }

    /// Upgrades the runtime to a spec version, in a block that this makes.
    pub fn upgrade_runtime(&self, spec_version: u32) {
        self.runtime(|runtime| runtime.spec_version = spec_version);
    }

    /// Ends every `chainHead_v1_follow` subscription, as a node does to those who are behind.
    pub fn stop_follows(&self) {
        self.shared.stop_follows();
    }

    /// The key of a storage entry of the runtime; of a map's value if `keys` are its keys, each SCALE-encoded.
    ///
    /// # Panics
    ///
    /// If the runtime has no such entry.
    pub fn storage_key(&self, pallet: &str, entry: &str, keys: &[&[u8]]) -> Vec<u8> {
        self.shared.world().storage_key(pallet, entry, keys)
    }

    /// What is stored under a key in the best block.
    pub fn storage(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.shared.world().storage(key)
    }

    /// The extrinsics that were submitted and are in a block or refused, oldest first; the last 4,096 of them.
    pub fn extrinsics(&self) -> Vec<Submission> {
        self.shared.world().submissions()
    }

    /// What all nodes were asked.
    pub fn requests(&self) -> Requests {
        self.shared.requests.snapshot()
    }

    /// Waits until `name`, an RPC method or a function of the runtime, was asked for `count` times, of all nodes together.
    ///
    /// Cancel-safe.
    ///
    /// # Panics
    ///
    /// If it is not within 30 s.
    pub async fn wait_for_request(&self, name: &str, count: u64) {
        self.shared.requests.wait(name, count).await;
    }

    /// [`Node::fail`] of the first node.
    ///
    /// # Errors
    ///
    /// Those of [`Node::fail`].
    pub async fn fail(&self, failure: Failure) -> io::Result<()> {
        self.first.fail(failure).await
    }

    /// [`Node::heal`] of the first node.
    ///
    /// # Errors
    ///
    /// Those of [`Node::heal`].
    pub async fn heal(&self) -> io::Result<()> {
        self.first.heal().await
    }

    /// [`Node::offer`] of the first node.
    pub fn offer(&self, methods: RpcMethods) {
        self.first.offer(methods);
    }
}
