//! The blocks that a pruned node remembers.

use super::block::{Block, Hash};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Blocks that are remembered at all, beside the genesis block.
pub(super) const BLOCKS_MAX: usize = 8_192;

/// Blocks whose state is remembered, as on a node that prunes.
pub(super) const STATES_MAX: usize = 256;

/// The chain of blocks, of which the end is remembered.
pub(super) struct Ledger {
    genesis: Arc<Block>,
    /// Without gaps up to the best block; starts with the genesis block while that is within reach.
    blocks: VecDeque<Arc<Block>>,
    numbers: HashMap<Hash, u64>,
    /// How many blocks finality is behind.
    pub(super) finality_lag: u64,
}

impl Ledger {
    pub(super) fn new(genesis: Block, finality_lag: u64) -> Self {
        let genesis = Arc::new(genesis);
        let numbers = HashMap::from([(genesis.hash, 0)]);
        Self { blocks: VecDeque::from([genesis.clone()]), genesis, numbers, finality_lag }
    }

    pub(super) fn genesis(&self) -> &Arc<Block> {
        &self.genesis
    }

    pub(super) fn best(&self) -> &Arc<Block> {
        self.blocks.back().unwrap_or(&self.genesis)
    }

    pub(super) fn finalized(&self) -> &Arc<Block> {
        let number = self.best().number().saturating_sub(self.finality_lag);
        self.by_number(number).unwrap_or(&self.genesis)
    }

    pub(super) fn by_number(&self, number: u64) -> Option<&Arc<Block>> {
        if number == 0 {
            return Some(&self.genesis);
        }
        let first = self.blocks.front()?.number();
        self.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    pub(super) fn by_hash(&self, hash: &Hash) -> Option<&Arc<Block>> {
        self.by_number(*self.numbers.get(hash)?)
    }

    /// The blocks after the finalized one, oldest first.
    pub(super) fn unfinalized(&self) -> impl Iterator<Item = &Arc<Block>> {
        let finalized = self.finalized().number();
        (finalized + 1..=self.best().number()).filter_map(|number| self.by_number(number))
    }

    /// Appends a block, whose parent is the best one.
    pub(super) fn push(&mut self, block: Block) -> Arc<Block> {
        let block = Arc::new(block);
        self.numbers.insert(block.hash, block.number());
        self.blocks.push_back(block.clone());
        if self.blocks.len() > BLOCKS_MAX
            && let Some(forgotten) = self.blocks.pop_front()
            && forgotten.number() > 0
        {
            self.numbers.remove(&forgotten.hash);
        }
        if let Some(index) = self.blocks.len().checked_sub(STATES_MAX + 1)
            && let Some(old) = self.blocks.get_mut(index)
        {
            *old = Arc::new(old.pruned());
        }
        block
    }
}
