//! Blocks: headers that hash as real ones do, bodies, and what was true after them.

use super::{
    metadata::Metadata,
    runtime::Runtime,
    state::State,
    storage::{self, Storage},
};
use parity_scale_codec::{Compact, Encode};
use sp_crypto_hashing::blake2_256;
use std::sync::{Arc, OnceLock};

/// The hash of a block or an extrinsic.
pub type Hash = [u8; 32];

/// The time between two blocks by the chain's own clock.
const SLOT_MILLIS: u64 = 12_000;

/// The chain's clock in the genesis block: 2026-01-01.
const GENESIS_MILLIS: u64 = 1_767_225_600_000;

/// A block.
pub(super) struct Block {
    pub(super) header: Header,
    pub(super) hash: Hash,
    pub(super) extrinsics: Vec<Vec<u8>>,
    /// `None` once the state is pruned.
    pub(super) after: Option<After>,
}

/// What is true after a block.
#[derive(Clone)]
pub(super) struct After {
    pub(super) state: Arc<State>,
    pub(super) runtime: Arc<Runtime>,
    /// The state as storage, made when first asked for and shared by blocks that have the same state.
    storage: Arc<OnceLock<Storage>>,
    /// What differs from block to block.
    of_block: Storage,
}

/// The header of a block.
#[derive(Clone, Encode)]
pub(super) struct Header {
    pub(super) parent_hash: Hash,
    #[codec(compact)]
    pub(super) number: u32,
    pub(super) state_root: Hash,
    pub(super) extrinsics_root: Hash,
    /// Encoded digest items.
    pub(super) digest: Vec<DigestItem>,
}

/// One line of a header's digest, encoded.
#[derive(Clone)]
pub(super) struct DigestItem(pub(super) Vec<u8>);

impl Encode for DigestItem {
    fn encode_to<T: parity_scale_codec::Output + ?Sized>(&self, output: &mut T) {
        output.write(&self.0);
    }
}

impl DigestItem {
    /// `PreRuntime`: whose turn it was to make the block.
    fn slot(slot: u64) -> Self {
        Self((6_u8, *b"aura", slot.encode()).encode())
    }

    /// `RuntimeEnvironmentUpdated`.
    fn runtime_updated() -> Self {
        Self(vec![8])
    }
}

impl Block {
    /// The next block; `before` is `None` for the genesis block. The events are encoded, and counted.
    pub(super) fn new(
        before: Option<&Block>,
        extrinsics: Vec<Vec<u8>>,
        state: Arc<State>,
        runtime: Arc<Runtime>,
        events: &(Vec<u8>, u32),
    ) -> Self {
        let number = before.map_or(0, |block| block.header.number + 1);
        let parent_hash = before.map_or([0; 32], |block| block.hash);
        let old = before.and_then(|block| block.after.as_ref());
        let same_state =
            old.filter(|old| Arc::ptr_eq(&old.state, &state) && Arc::ptr_eq(&old.runtime, &runtime));
        let storage = same_state.map(|old| old.storage.clone()).unwrap_or_default();
        let mut digest = vec![DigestItem::slot(time_millis(number) / SLOT_MILLIS)];
        if old.is_some_and(|old| !Arc::ptr_eq(&old.runtime, &runtime)) {
            digest.push(DigestItem::runtime_updated());
        }
        let header = Header {
            parent_hash,
            number,
            // No one can check the root of a state that is no trie. It differs, as it should.
            state_root: blake2_256(&(parent_hash, number, runtime.options.spec_version).encode()),
            extrinsics_root: blake2_256(&extrinsics.encode()),
            digest,
        };
        let hash = blake2_256(&header.encode());
        let of_block = storage_of_block(&runtime.metadata, &header, &state, events);
        Self { header, hash, extrinsics, after: Some(After { state, runtime, storage, of_block }) }
    }

    /// The block without what was true after it.
    pub(super) fn pruned(&self) -> Self {
        Self {
            header: self.header.clone(),
            hash: self.hash,
            extrinsics: self.extrinsics.clone(),
            after: None,
        }
    }

    pub(super) fn number(&self) -> u64 {
        u64::from(self.header.number)
    }
}

impl After {
    /// The value under a key.
    pub(super) fn storage_value(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.of_block.get(key).or_else(|| self.storage().get(key))
    }

    /// At most `limit` keys that begin with `prefix` and are greater than `start`, in their order.
    pub(super) fn storage_keys(&self, prefix: &[u8], start: Option<&[u8]>, limit: usize) -> Vec<&Vec<u8>> {
        let from = start.filter(|start| *start >= prefix).unwrap_or(prefix).to_vec();
        let after_start = |key: &&Vec<u8>| start.is_none_or(|start| key.as_slice() > start);
        let within = |storage| {
            let range = Storage::range::<Vec<u8>, _>(storage, from.clone()..);
            range
                .map(|(key, _)| key)
                .take_while(|key| key.starts_with(prefix))
                .filter(after_start)
                .take(limit)
        };
        let mut keys: Vec<_> = within(&self.of_block).chain(within(self.storage())).collect();
        keys.sort();
        keys.dedup();
        keys.truncate(limit);
        keys
    }

    fn storage(&self) -> &Storage {
        self.storage.get_or_init(|| {
            let mut storage = storage::of_state(&self.runtime.metadata, &self.state);
            let version = self.runtime.metadata.runtime_version();
            storage.insert(b":code".to_vec(), version.encode());
            storage
        })
    }
}

/// The chain's clock in a block, in milliseconds since 1970.
pub(super) fn time_millis(number: u32) -> u64 {
    GENESIS_MILLIS + u64::from(number) * SLOT_MILLIS
}

fn storage_of_block(metadata: &Metadata, header: &Header, state: &State, events: &(Vec<u8>, u32)) -> Storage {
    let mut storage = Storage::new();
    let mut put = |pallet: &str, entry: &str, value: Vec<u8>| {
        storage.insert(metadata.storage(pallet, entry).key(&[]), value);
    };
    put("System", "Number", header.number.encode());
    put("System", "ParentHash", header.parent_hash.to_vec());
    put("System", "Digest", header.digest.encode());
    put("System", "Events", events.0.clone());
    put("System", "EventCount", events.1.encode());
    put("Timestamp", "Now", time_millis(header.number).encode());
    if let Some(parent) = header.number.checked_sub(1) {
        let key = metadata.storage("System", "BlockHash").key(&[&parent.encode()]);
        storage.insert(key, header.parent_hash.to_vec());
    }
    for subnet in state.subnets() {
        let (netuid, number) = (subnet.netuid.encode(), u64::from(header.number));
        let last_step = subnet.last_step(number);
        let mut put = |entry: &str, value: u64| {
            storage.insert(metadata.storage("SubtensorModule", entry).key(&[&netuid]), value.encode());
        };
        put("LastMechansimStepBlock", last_step);
        put("BlocksSinceLastStep", number - last_step);
    }
    storage
}

/// The inherent extrinsic with which every block starts: the time.
pub(super) fn timestamp_extrinsic(metadata: &Metadata, number: u32) -> Vec<u8> {
    const BARE_V4: u8 = 4;
    let call = (metadata.call_index("Timestamp", "set"), Compact(time_millis(number)));
    (BARE_V4, call).encode().encode()
}
