//! The chain itself: its blocks, the extrinsics that wait for one, and how a block comes about.

use super::{
    block::{Block, Hash, timestamp_extrinsic},
    events::{Class, Events},
    extrinsic::{
        Call, Extrinsic, execute,
        validity::{self, Context, Invalid, Valid},
    },
    ledger::Ledger,
    metadata::Metadata,
    runtime::{Runtime, RuntimeOptions},
    ss58::AccountId,
    state::{Neuron, State},
};
use parity_scale_codec::Decode;
use std::{collections::VecDeque, sync::Arc};

/// Extrinsics that wait for a block.
const POOL_MAX: usize = 1_024;

/// Extrinsics that are remembered for [`Chain::extrinsics`](super::Chain::extrinsics).
const LOG_MAX: usize = 4_096;

/// An extrinsic that was submitted, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its hash, by which clients know it.
    pub hash: Hash,
    /// What it wanted.
    pub call: Call,
    /// Who signed it, if the signature is good; who is said to have, if not.
    pub signer: Option<AccountId>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an extrinsic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in a block, and did what it was for.
    Succeeded {
        /// The number of the block.
        block: u64,
    },
    /// It is in a block, and failed.
    Failed {
        /// The number of the block.
        block: u64,
        /// The name of the error in the runtime, `ServingRateLimitExceeded`.
        error: String,
    },
    /// It never got into a block.
    Refused {
        /// What the node said: `Transaction has a bad signature`, `Custom error: 12`.
        reason: String,
    },
}

/// Why the pool does not take an extrinsic.
pub(super) enum PoolError {
    Malformed(String),
    Invalid(Invalid),
    AlreadyImported(Hash),
    TooLowPriority,
    Full,
}

/// What everybody who follows the chain is told.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// There is a new best block.
    Block { hash: Hash, runtime_changed: bool },
    /// These blocks are now final, oldest first.
    Finalized { hashes: Vec<Hash> },
    /// An extrinsic of the pool is no longer good.
    Dropped { extrinsic: Hash, reason: String },
    /// Followers are to start afresh.
    StopFollows,
}

pub(super) struct World {
    metadata: Arc<Metadata>,
    pub(super) ledger: Ledger,
    pool: Vec<Arc<Extrinsic>>,
    log: VecDeque<Submission>,
}

impl World {
    pub(super) fn new(metadata: Arc<Metadata>, options: RuntimeOptions, finality_lag: u64) -> Self {
        let runtime = Runtime::new(&metadata, options);
        let events = Events::new(&runtime.metadata).finish();
        let genesis = Block::new(None, Vec::new(), Arc::default(), runtime, &events);
        Self { metadata, ledger: Ledger::new(genesis, finality_lag), pool: Vec::new(), log: VecDeque::new() }
    }

    pub(super) fn runtime_options(&self) -> Option<RuntimeOptions> {
        self.ledger.best().after.as_ref().map(|after| after.runtime.options.clone())
    }

    pub(super) fn state(&self) -> State {
        self.ledger.best().after.as_ref().map(|after| State::clone(&after.state)).unwrap_or_default()
    }

    pub(super) fn neuron(&self, netuid: u16, hotkey: &AccountId) -> Option<Neuron> {
        let subnet = self.ledger.best().after.as_ref()?.state.subnets.get(&netuid)?;
        subnet.neuron(subnet.uid(hotkey)?).cloned()
    }

    pub(super) fn storage(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.ledger.best().after.as_ref()?.storage_value(key).cloned()
    }

    pub(super) fn storage_key(&self, pallet: &str, entry: &str, keys: &[&[u8]]) -> Vec<u8> {
        self.metadata.storage(pallet, entry).key(keys)
    }

    /// The extrinsics that wait for a block.
    pub(super) fn pending(&self) -> Vec<Vec<u8>> {
        self.pool.iter().map(|extrinsic| extrinsic.bytes.clone()).collect()
    }

    pub(super) fn submissions(&self) -> Vec<Submission> {
        self.log.iter().cloned().collect()
    }

    /// Makes a block, in which the state is first changed by `change` and then by the extrinsics that wait.
    pub(super) fn produce(
        &mut self,
        change: Option<&mut dyn FnMut(&mut State)>,
        options: Option<RuntimeOptions>,
    ) -> Vec<Notice> {
        let parent = self.ledger.best().clone();
        // The best block's state is never pruned.
        let Some(before) = &parent.after else { return Vec::new() };
        let (number, runtime) = (parent.number() + 1, before.runtime.clone());
        let mut state = before.state.clone();
        if let Some(change) = change {
            let mut changed = State::clone(&state);
            change(&mut changed);
            changed.date(number);
            state = Arc::new(changed);
        }
        let mut events = Events::new(&runtime.metadata);
        let mut body = vec![timestamp_extrinsic(&runtime.metadata, parent.header.number + 1)];
        events.success(0, Class::Mandatory);
        let mut notices = self.include_pool(&mut state, &mut events, &mut body, number);
        let events = events.finish();
        let upgraded = options.filter(|options| *options != runtime.options);
        let spec_version = runtime.options.spec_version;
        let runtime = upgraded.map_or(runtime, |options| Runtime::new(&self.metadata, options));
        let runtime_changed = runtime.options.spec_version != spec_version;
        let final_before = self.ledger.finalized().number();
        let block = self.ledger.push(Block::new(Some(&parent), body, state, runtime, &events));
        notices.push(Notice::Block { hash: block.hash, runtime_changed });
        let newly_final = (final_before + 1)..=self.ledger.finalized().number();
        let hashes: Vec<Hash> =
            newly_final.filter_map(|number| Some(self.ledger.by_number(number)?.hash)).collect();
        if !hashes.is_empty() {
            notices.push(Notice::Finalized { hashes });
        }
        notices
    }

    /// Carries out the extrinsics whose turn it is, and forgets those that are no longer good.
    fn include_pool(
        &mut self,
        state: &mut Arc<State>,
        events: &mut Events<'_>,
        body: &mut Vec<Vec<u8>>,
        number: u64,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut waiting = std::mem::take(&mut self.pool);
        loop {
            let before = waiting.len();
            let mut later = Vec::new();
            for extrinsic in waiting {
                match self.validate(&extrinsic, Some(state)) {
                    Ok(Valid::Future) => later.push(extrinsic),
                    Ok(Valid::Ready) => {
                        let index = body.len() as u32;
                        let done = execute::apply(Arc::make_mut(state), events, &extrinsic, index, number);
                        body.push(extrinsic.bytes.clone());
                        self.record(
                            &extrinsic,
                            match done {
                                Ok(()) => Outcome::Succeeded { block: number },
                                Err(error) => Outcome::Failed { block: number, error: error.into() },
                            },
                        );
                    }
                    Err(invalid) => {
                        let reason = invalid.reason();
                        self.record(&extrinsic, Outcome::Refused { reason: reason.clone() });
                        notices.push(Notice::Dropped { extrinsic: extrinsic.hash, reason });
                    }
                }
            }
            waiting = later;
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        self.pool = waiting;
        notices
    }

    /// Takes an extrinsic into the pool, and says whether its turn has come.
    pub(super) fn submit(&mut self, bytes: &[u8]) -> Result<(Hash, Valid), PoolError> {
        let best = self.ledger.best().clone();
        let Some(after) = &best.after else { return Err(PoolError::Full) };
        let extrinsic = Extrinsic::decode(&after.runtime.metadata, bytes)
            .map_err(|malformed| PoolError::Malformed(malformed.0))?;
        let hash = extrinsic.hash;
        if self.pool.iter().any(|waiting| waiting.hash == hash) {
            return Err(PoolError::AlreadyImported(hash));
        }
        let valid = match self.validate(&extrinsic, None) {
            Ok(valid) => valid,
            Err(invalid) => {
                self.record(&extrinsic, Outcome::Refused { reason: invalid.reason() });
                return Err(PoolError::Invalid(invalid));
            }
        };
        let place = |extrinsic: &Extrinsic| {
            extrinsic.signed.as_ref().map(|signed| (signed.signer, signed.extensions.nonce))
        };
        if self.pool.iter().any(|waiting| place(waiting) == place(&extrinsic)) {
            return Err(PoolError::TooLowPriority);
        }
        if self.pool.len() >= POOL_MAX {
            return Err(PoolError::Full);
        }
        self.pool.push(Arc::new(extrinsic));
        Ok((hash, valid))
    }

    /// The nonce that an account's next extrinsic should have, those that wait counted in.
    pub(super) fn next_nonce(&self, account: &AccountId) -> u32 {
        let best = self.ledger.best();
        let known = best.after.as_ref().and_then(|after| after.state.accounts.get(account));
        let mut nonce = known.map_or(0, |account| account.nonce);
        let waits = |nonce: u32| {
            let mut signed = self.pool.iter().filter_map(|extrinsic| extrinsic.signed.as_ref());
            signed.any(|signed| signed.signer == *account && signed.extensions.nonce == nonce)
        };
        while waits(nonce) {
            nonce += 1;
        }
        nonce
    }

    /// Judges an extrinsic against the best block, or against `state`, in which that is on its way to change.
    pub(super) fn validate(
        &self,
        extrinsic: &Extrinsic,
        state: Option<&Arc<State>>,
    ) -> Result<Valid, Invalid> {
        let best = self.ledger.best();
        let Some(after) = &best.after else { return Err(Invalid::AncientBirthBlock) };
        let mut after = after.clone();
        if let Some(state) = state {
            after.state = state.clone();
        }
        let context = Context {
            after: &after,
            number: best.number() + 1,
            genesis: self.ledger.genesis().hash,
            block_hash: &|number| Some(self.ledger.by_number(number)?.hash),
        };
        validity::validate(&context, extrinsic)
    }

    /// What the runtime answers whoever asks it to judge an extrinsic; `None` if it cannot read the question.
    pub(super) fn validity_answer(&self, mut args: &[u8]) -> Option<Vec<u8>> {
        let _source = u8::decode(&mut args).ok()?;
        let (extrinsic, _at) = args.split_at_checked(args.len().checked_sub(size_of::<Hash>())?)?;
        let metadata = &self.ledger.best().after.as_ref()?.runtime.metadata;
        let extrinsic = Extrinsic::decode(metadata, extrinsic).ok()?;
        Some(validity::encode(self.validate(&extrinsic, None), &extrinsic))
    }

    fn record(&mut self, extrinsic: &Extrinsic, outcome: Outcome) {
        if self.log.len() >= LOG_MAX {
            self.log.pop_front();
        }
        let (hash, call, signer) = (extrinsic.hash, extrinsic.call.clone(), extrinsic.signer());
        self.log.push_back(Submission { hash, call, signer, outcome });
    }
}
