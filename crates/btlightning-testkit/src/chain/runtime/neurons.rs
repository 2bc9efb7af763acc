//! `NeuronInfoRuntimeApi`: the neurons of a subnet, one after the other.

use super::super::{
    ss58::AccountId,
    state::{Axon, Neuron, Prometheus, State},
};
use parity_scale_codec::{Compact, Encode};

/// `NeuronInfoLite`.
#[derive(Encode)]
pub(super) struct NeuronInfoLite {
    start: Start,
    pruning_score: Compact<u16>,
}

/// `NeuronInfo`: the same with weights and bonds.
#[derive(Encode)]
pub(super) struct NeuronInfo {
    start: Start,
    weights: Vec<(Compact<u16>, Compact<u16>)>,
    bonds: Vec<(Compact<u16>, Compact<u16>)>,
    pruning_score: Compact<u16>,
}

/// What both begin with.
#[derive(Encode)]
struct Start {
    hotkey: AccountId,
    coldkey: AccountId,
    uid: Compact<u16>,
    netuid: Compact<u16>,
    active: bool,
    axon: Axon,
    prometheus: Prometheus,
    stake: Vec<(AccountId, Compact<u64>)>,
    rank: Compact<u16>,
    emission: Compact<u64>,
    incentive: Compact<u16>,
    consensus: Compact<u16>,
    trust: Compact<u16>,
    validator_trust: Compact<u16>,
    dividends: Compact<u16>,
    last_update: Compact<u64>,
    validator_permit: bool,
}

pub(super) fn neurons_lite(state: &State, netuid: u16) -> Vec<NeuronInfoLite> {
    all(state, netuid, NeuronInfoLite::new)
}

pub(super) fn neuron_lite(state: &State, netuid: u16, uid: u16) -> Option<NeuronInfoLite> {
    Some(NeuronInfoLite::new(netuid, uid, state.subnets.get(&netuid)?.neuron(uid)?))
}

pub(super) fn neurons(state: &State, netuid: u16) -> Vec<NeuronInfo> {
    all(state, netuid, NeuronInfo::new)
}

pub(super) fn neuron(state: &State, netuid: u16, uid: u16) -> Option<NeuronInfo> {
    Some(NeuronInfo::new(netuid, uid, state.subnets.get(&netuid)?.neuron(uid)?))
}

fn all<T>(state: &State, netuid: u16, of: impl Fn(u16, u16, &Neuron) -> T) -> Vec<T> {
    let neurons = state.subnets.get(&netuid).map_or(&[][..], |subnet| subnet.neurons());
    (0..).zip(neurons).map(|(uid, neuron)| of(netuid, uid, neuron)).collect()
}

impl NeuronInfoLite {
    fn new(netuid: u16, uid: u16, neuron: &Neuron) -> Self {
        Self { start: Start::new(netuid, uid, neuron), pruning_score: Compact(neuron.pruning_score) }
    }
}

impl NeuronInfo {
    fn new(netuid: u16, uid: u16, neuron: &Neuron) -> Self {
        let compact = |pairs: &[(u16, u16)]| {
            pairs.iter().map(|(uid, value)| (Compact(*uid), Compact(*value))).collect::<Vec<_>>()
        };
        Self {
            start: Start::new(netuid, uid, neuron),
            weights: compact(&neuron.weights),
            bonds: compact(&neuron.bonds),
            pruning_score: Compact(neuron.pruning_score),
        }
    }
}

impl Start {
    fn new(netuid: u16, uid: u16, neuron: &Neuron) -> Self {
        Self {
            hotkey: neuron.hotkey,
            coldkey: neuron.coldkey,
            uid: Compact(uid),
            netuid: Compact(netuid),
            active: neuron.active,
            axon: neuron.axon.unwrap_or_default(),
            prometheus: neuron.prometheus.unwrap_or_default(),
            stake: vec![(neuron.coldkey, Compact(neuron.stake))],
            rank: Compact(neuron.rank),
            emission: Compact(neuron.emission),
            incentive: Compact(neuron.incentive),
            consensus: Compact(neuron.consensus),
            trust: Compact(neuron.trust),
            validator_trust: Compact(neuron.validator_trust),
            dividends: Compact(neuron.dividends),
            last_update: Compact(neuron.last_update),
            validator_permit: neuron.validator_permit,
        }
    }
}
