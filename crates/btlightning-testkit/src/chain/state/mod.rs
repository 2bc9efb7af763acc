//! What the chain remembers: subnets, neurons and accounts, as of one block.

mod neuron;
mod subnet;

use super::ss58::AccountId;
use std::collections::BTreeMap;

pub use neuron::{AXON_PROTOCOL, Axon, Certificate, Neuron, Prometheus};
pub use subnet::{Hyperparameters, Pool, Subnet};

/// The state of the chain, which a test changes with [`Chain::update`](super::Chain::update).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) subnets: BTreeMap<u16, Subnet>,
    pub(super) accounts: BTreeMap<AccountId, Account>,
    /// Storage that is as a test wants it, whatever the rest of the state says; `None` is no value.
    pub(super) overrides: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What the chain knows of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How many extrinsics it has signed.
    pub nonce: u32,
    /// Its balance, in rao. Publishing costs nothing and needs none.
    pub free: u64,
}

impl State {
    /// Registers a subnet without neurons.
    ///
    /// # Panics
    ///
    /// If it exists.
    pub fn add_subnet(&mut self, netuid: u16) -> &mut Subnet {
        assert!(!self.subnets.contains_key(&netuid), "subnet {netuid} exists");
        self.subnets.entry(netuid).or_insert_with(|| Subnet::new(netuid))
    }

    /// A subnet, to read and to change.
    ///
    /// # Panics
    ///
    /// If it does not exist.
    pub fn subnet(&mut self, netuid: u16) -> &mut Subnet {
        self.subnets.get_mut(&netuid).unwrap_or_else(|| panic!("there is no subnet {netuid}"))
    }

    /// All subnets, by netuid.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.values()
    }

    /// Deregisters a subnet and all its neurons; returns it if it existed.
    pub fn remove_subnet(&mut self, netuid: u16) -> Option<Subnet> {
        self.subnets.remove(&netuid)
    }

    /// An account, which need not exist yet.
    pub fn account(&mut self, id: AccountId) -> &mut Account {
        self.accounts.entry(id).or_default()
    }

    /// Makes a storage key read as `value`, whatever the rest of the state says; `None` is no value there.
    ///
    /// For values that no runtime writes. Runtime calls do not see it.
    pub fn set_storage(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.overrides.insert(key, value);
    }

    /// Dates what was registered since the last block.
    pub(super) fn date(&mut self, block: u64) {
        self.subnets.values_mut().for_each(|subnet| subnet.date(block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neuron(byte: u8) -> Neuron {
        Neuron::new([byte; 32], [0; 32])
    }

    #[test]
    fn uids_count_up_and_a_replacement_keeps_its_place() {
        let mut state = State::default();
        let subnet = state.add_subnet(2);
        assert_eq!([1, 2, 3].map(|byte| subnet.register(neuron(byte))), [0, 1, 2]);
        let gone = subnet.replace(1, neuron(9));
        assert_eq!(gone.hotkey, [2; 32]);
        assert_eq!((subnet.uid(&[2; 32]), subnet.uid(&[9; 32])), (None, Some(1)));
    }

    #[test]
    fn what_is_new_is_dated_and_what_is_old_keeps_its_date() {
        let mut state = State::default();
        state.add_subnet(1).register(neuron(1));
        state.date(5);
        state.subnet(1).register(neuron(2));
        state.date(9);
        let dates: Vec<u64> = state.subnet(1).neurons().iter().map(|neuron| neuron.registered_at).collect();
        assert_eq!((state.subnet(1).registered_at, dates), (5, vec![5, 9]));
    }

    #[test]
    fn an_epoch_ends_once_in_tempo_and_one_blocks() {
        let mut state = State::default();
        let subnet = state.add_subnet(2);
        subnet.hyperparameters.tempo = 5;
        assert_eq!([26, 27, 31, 32].map(|block| subnet.last_step(block)), [26, 26, 26, 32]);
        assert_eq!(subnet.last_step(1), 0);
    }
}
