//! The state as storage: real keys, SCALE-encoded values.

use super::{
    metadata::{Metadata, StorageEntry},
    ss58::AccountId,
    state::{Account, Neuron, State, Subnet},
};
use parity_scale_codec::Encode;
use std::collections::{BTreeMap, BTreeSet};

/// Values by key.
pub(super) type Storage = BTreeMap<Vec<u8>, Vec<u8>>;

/// The pallet that all of this is about.
const PALLET: &str = "SubtensorModule";

/// What is under the keys of a state, without what differs from block to block.
pub(super) fn of_state(metadata: &Metadata, state: &State) -> Storage {
    let mut writer = Writer { metadata, storage: Storage::new() };
    writer.value("TotalNetworks", &(state.subnets.len() as u16));
    for (id, account) in &state.accounts {
        writer.account(id, account);
    }
    for subnet in state.subnets() {
        writer.subnet(subnet);
        writer.hyperparameters(subnet);
        writer.columns(subnet);
        writer.neurons(subnet);
    }
    writer.owners(state);
    let mut storage = writer.storage;
    for (key, value) in &state.overrides {
        match value {
            Some(value) => storage.insert(key.clone(), value.clone()),
            None => storage.remove(key),
        };
    }
    storage
}

struct Writer<'a> {
    metadata: &'a Metadata,
    storage: Storage,
}

impl Writer<'_> {
    fn value(&mut self, entry: &str, value: &impl Encode) {
        self.storage.insert(self.metadata.storage(PALLET, entry).key(&[]), value.encode());
    }

    fn of_subnet(&mut self, entry: &str, netuid: u16, value: &impl Encode) {
        let key = self.metadata.storage(PALLET, entry).key(&[&netuid.encode()]);
        self.storage.insert(key, value.encode());
    }

    fn account(&mut self, id: &AccountId, account: &Account) {
        let key = self.metadata.storage("System", "Account").key(&[id]);
        let providers = u32::from(account.free > 0);
        let (consumers, sufficients, reserved, frozen, flags) = (0_u32, 0_u32, 0_u64, 0_u64, 1_u128 << 127);
        let data = (account.free, reserved, frozen, flags);
        self.storage.insert(key, (account.nonce, consumers, providers, sufficients, data).encode());
    }

    fn subnet(&mut self, subnet: &Subnet) {
        let (netuid, pool) = (subnet.netuid, &subnet.pool);
        self.of_subnet("NetworksAdded", netuid, &true);
        self.of_subnet("SubtokenEnabled", netuid, &true);
        self.of_subnet("SubnetMechanism", netuid, &u16::from(netuid != 0));
        self.of_subnet("NetworkRegisteredAt", netuid, &subnet.registered_at);
        self.of_subnet("TokenSymbol", netuid, &subnet.symbol);
        self.of_subnet("SubnetOwner", netuid, &subnet.owner_coldkey);
        self.of_subnet("SubnetOwnerHotkey", netuid, &subnet.owner_hotkey);
        self.of_subnet("SubnetworkN", netuid, &(subnet.neurons().len() as u16));
        self.of_subnet("SubnetAlphaIn", netuid, &pool.alpha_in);
        self.of_subnet("SubnetAlphaOut", netuid, &pool.alpha_out);
        self.of_subnet("SubnetTAO", netuid, &pool.tao_in);
        self.of_subnet("SubnetAlphaOutEmission", netuid, &pool.alpha_out_emission);
        self.of_subnet("SubnetAlphaInEmission", netuid, &pool.alpha_in_emission);
        self.of_subnet("SubnetTaoInEmission", netuid, &pool.tao_in_emission);
        self.of_subnet("SubnetVolume", netuid, &pool.volume);
        self.of_subnet("SubnetMovingPrice", netuid, &pool.moving_price);
    }

    fn hyperparameters(&mut self, subnet: &Subnet) {
        let (netuid, set) = (subnet.netuid, &subnet.hyperparameters);
        self.of_subnet("Tempo", netuid, &set.tempo);
        self.of_subnet("Rho", netuid, &set.rho);
        self.of_subnet("Kappa", netuid, &set.kappa);
        self.of_subnet("MinAllowedWeights", netuid, &set.min_allowed_weights);
        self.of_subnet("MaxWeightsLimit", netuid, &set.max_weights_limit);
        self.of_subnet("WeightsVersionKey", netuid, &set.weights_version);
        self.of_subnet("WeightsSetRateLimit", netuid, &set.weights_rate_limit);
        self.of_subnet("ActivityCutoff", netuid, &set.activity_cutoff);
        self.of_subnet("MaxAllowedValidators", netuid, &set.max_validators);
        self.of_subnet("MaxAllowedUids", netuid, &set.max_uids);
        self.of_subnet("Burn", netuid, &set.burn);
        self.of_subnet("Difficulty", netuid, &set.difficulty);
        self.of_subnet("NetworkRegistrationAllowed", netuid, &set.registration_allowed);
        self.of_subnet("NetworkPowRegistrationAllowed", netuid, &set.pow_registration_allowed);
        self.of_subnet("ImmunityPeriod", netuid, &set.immunity_period);
        self.of_subnet("MinDifficulty", netuid, &set.min_difficulty);
        self.of_subnet("MaxDifficulty", netuid, &set.max_difficulty);
        self.of_subnet("MinBurn", netuid, &set.min_burn);
        self.of_subnet("MaxBurn", netuid, &set.max_burn);
        self.of_subnet("AdjustmentAlpha", netuid, &set.adjustment_alpha);
        self.of_subnet("AdjustmentInterval", netuid, &set.adjustment_interval);
        self.of_subnet("TargetRegistrationsPerInterval", netuid, &set.target_regs_per_interval);
        self.of_subnet("MaxRegistrationsPerBlock", netuid, &set.max_regs_per_block);
        self.of_subnet("ServingRateLimit", netuid, &set.serving_rate_limit);
        self.of_subnet("CommitRevealWeightsEnabled", netuid, &set.commit_reveal_weights_enabled);
        self.of_subnet("RevealPeriodEpochs", netuid, &set.commit_reveal_period);
        self.of_subnet("LiquidAlphaOn", netuid, &set.liquid_alpha_enabled);
        self.of_subnet("AlphaValues", netuid, &(set.alpha_low, set.alpha_high));
        self.of_subnet("BondsMovingAverage", netuid, &set.bonds_moving_avg);
    }

    /// What is one value for all neurons of a subnet.
    fn columns(&mut self, subnet: &Subnet) {
        self.column("Active", subnet, |neuron| neuron.active);
        self.column("ValidatorPermit", subnet, |neuron| neuron.validator_permit);
        self.column("LastUpdate", subnet, |neuron| neuron.last_update);
        self.column("Emission", subnet, |neuron| neuron.emission);
        self.column("Rank", subnet, |neuron| neuron.rank);
        self.column("Trust", subnet, |neuron| neuron.trust);
        self.column("Consensus", subnet, |neuron| neuron.consensus);
        self.column("Incentive", subnet, |neuron| neuron.incentive);
        self.column("Dividends", subnet, |neuron| neuron.dividends);
        self.column("ValidatorTrust", subnet, |neuron| neuron.validator_trust);
        self.column("PruningScores", subnet, |neuron| neuron.pruning_score);
    }

    fn column<T: Encode>(&mut self, entry: &str, subnet: &Subnet, of: impl Fn(&Neuron) -> T) {
        let column: Vec<T> = subnet.neurons().iter().map(of).collect();
        self.of_subnet(entry, subnet.netuid, &column);
    }

    /// What is a value for each neuron.
    fn neurons(&mut self, subnet: &Subnet) {
        let metadata = self.metadata;
        let [keys, uids, axons, prometheus, certificates, registered_at, weights, bonds, members, alpha] = [
            "Keys",
            "Uids",
            "Axons",
            "Prometheus",
            "NeuronCertificates",
            "BlockAtRegistration",
            "Weights",
            "Bonds",
            "IsNetworkMember",
            "TotalHotkeyAlpha",
        ]
        .map(|entry| metadata.storage(PALLET, entry));
        let netuid = &subnet.netuid.encode()[..];
        for (uid, neuron) in (0_u16..).zip(subnet.neurons()) {
            let (uid, hotkey) = (&uid.encode()[..], &neuron.hotkey[..]);
            self.put(&keys, [netuid, uid], Some(&neuron.hotkey));
            self.storage.insert(uids.key(&[netuid, hotkey]), uid.to_vec());
            self.put(&axons, [netuid, hotkey], neuron.axon.as_ref());
            self.put(&prometheus, [netuid, hotkey], neuron.prometheus.as_ref());
            self.put(&certificates, [netuid, hotkey], neuron.certificate.as_ref());
            self.put(&registered_at, [netuid, uid], Some(&neuron.registered_at));
            self.put(&weights, [netuid, uid], Some(&neuron.weights).filter(|weights| !weights.is_empty()));
            self.put(&bonds, [netuid, uid], Some(&neuron.bonds).filter(|bonds| !bonds.is_empty()));
            self.put(&members, [hotkey, netuid], Some(&true));
            self.put(&alpha, [hotkey, netuid], Some(&neuron.stake).filter(|stake| **stake > 0));
        }
    }

    fn put(&mut self, entry: &StorageEntry<'_>, keys: [&[u8]; 2], value: Option<&impl Encode>) {
        if let Some(value) = value {
            self.storage.insert(entry.key(&keys), value.encode());
        }
    }

    fn owners(&mut self, state: &State) {
        let (owner, owned) =
            (self.metadata.storage(PALLET, "Owner"), self.metadata.storage(PALLET, "OwnedHotkeys"));
        let mut hotkeys: BTreeMap<AccountId, BTreeSet<AccountId>> = BTreeMap::new();
        for neuron in state.subnets().flat_map(Subnet::neurons) {
            self.storage.insert(owner.key(&[&neuron.hotkey]), neuron.coldkey.to_vec());
            hotkeys.entry(neuron.coldkey).or_default().insert(neuron.hotkey);
        }
        for (coldkey, hotkeys) in hotkeys {
            self.storage.insert(owned.key(&[&coldkey]), hotkeys.into_iter().collect::<Vec<_>>().encode());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            metadata,
            state::{Axon, Certificate, Prometheus},
        },
        *,
    };

    /// A state in which every optional value is there.
    fn state() -> State {
        let mut state = State::default();
        state.account([7; 32]).free = 5;
        let mut neuron = Neuron::new([7; 32], [8; 32]).validating(9);
        neuron.axon = Some(Axon::reset());
        neuron.prometheus = Some(Prometheus::default());
        neuron.certificate = Certificate::from_call(&[1; 33]);
        neuron.weights = vec![(0, 1)];
        neuron.bonds = vec![(0, 1)];
        state.add_subnet(2).register(neuron);
        state
    }

    #[test]
    fn every_value_is_of_the_type_that_the_runtime_has_for_it() {
        let metadata = metadata::load().unwrap();
        let mut storage = of_state(&metadata, &state());
        let mut entries = 0;
        for (pallet, entry, ty) in metadata.storage_entries() {
            let prefix = metadata.storage(pallet, entry).key(&[]);
            let (values, others) = storage.into_iter().partition(|(key, _)| key.starts_with(&prefix));
            storage = others;
            entries += usize::from(!Storage::is_empty(&values));
            for value in values.into_values() {
                let mut left = &value[..];
                let decoded = scale_value::scale::decode_as_type(&mut left, ty, metadata.types());
                assert!(
                    decoded.is_ok() && left.is_empty(),
                    "{pallet}.{entry}: {decoded:?}, {} left",
                    left.len()
                );
            }
        }
        assert!(storage.is_empty(), "values under keys of no entry: {storage:?}");
        assert!(entries > 60, "{entries}");
    }
}
