//! A subnet: its neurons by uid, and what its owner may set.

use super::{super::ss58::AccountId, Neuron};

/// A subnet of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its number.
    pub netuid: u16,
    /// Its name.
    pub name: String,
    /// The symbol of its alpha.
    pub symbol: String,
    /// The hotkey of its owner.
    pub owner_hotkey: AccountId,
    /// The coldkey of its owner.
    pub owner_coldkey: AccountId,
    /// The block in which it was registered; 0 is replaced by the block that the change becomes visible in.
    pub registered_at: u64,
    /// What its owner may set.
    pub hyperparameters: Hyperparameters,
    /// What backs its alpha.
    pub pool: Pool,
    neurons: Vec<Neuron>,
}

impl Subnet {
    pub(super) fn new(netuid: u16) -> Self {
        Self {
            netuid,
            name: format!("subnet {netuid}"),
            symbol: "\u{3b1}".into(),
            owner_hotkey: [0; 32],
            owner_coldkey: [0; 32],
            registered_at: 0,
            hyperparameters: Hyperparameters::default(),
            pool: Pool::default(),
            neurons: Vec::new(),
        }
    }

    /// The neurons; the index is the uid.
    pub fn neurons(&self) -> &[Neuron] {
        &self.neurons
    }

    /// The neuron at `uid`.
    pub fn neuron(&self, uid: u16) -> Option<&Neuron> {
        self.neurons.get(usize::from(uid))
    }

    /// The neuron at `uid`, to change.
    pub fn neuron_mut(&mut self, uid: u16) -> Option<&mut Neuron> {
        self.neurons.get_mut(usize::from(uid))
    }

    /// The uid of a hotkey.
    pub fn uid(&self, hotkey: &AccountId) -> Option<u16> {
        let index = self.neurons.iter().position(|neuron| neuron.hotkey == *hotkey)?;
        u16::try_from(index).ok()
    }

    /// The neuron of a hotkey, to change.
    pub fn by_hotkey_mut(&mut self, hotkey: &AccountId) -> Option<&mut Neuron> {
        self.neurons.iter_mut().find(|neuron| neuron.hotkey == *hotkey)
    }

    /// Gives the neuron the next free uid.
    ///
    /// # Panics
    ///
    /// If the hotkey is registered, or the subnet is full; a full subnet takes a neuron with [`Subnet::replace`].
    pub fn register(&mut self, neuron: Neuron) -> u16 {
        let max = self.hyperparameters.max_uids;
        assert!(self.uid(&neuron.hotkey).is_none(), "the hotkey is registered on subnet {}", self.netuid);
        assert!(self.neurons.len() < usize::from(max), "subnet {} has {max} neurons", self.netuid);
        self.neurons.push(neuron);
        (self.neurons.len() - 1) as u16
    }

    /// Registers the neuron at a uid that another one has; returns the one that is deregistered by it.
    ///
    /// # Panics
    ///
    /// If there is no such uid, or the hotkey is registered at another one.
    pub fn replace(&mut self, uid: u16, neuron: Neuron) -> Neuron {
        let elsewhere = self.uid(&neuron.hotkey).is_some_and(|other| other != uid);
        assert!(!elsewhere, "the hotkey is registered on subnet {}", self.netuid);
        let place = self.neuron_mut(uid).unwrap_or_else(|| panic!("there is no uid {uid}"));
        std::mem::replace(place, neuron)
    }

    pub(super) fn date(&mut self, block: u64) {
        if self.registered_at == 0 {
            self.registered_at = block;
        }
        for neuron in self.neurons.iter_mut().filter(|neuron| neuron.registered_at == 0) {
            neuron.registered_at = block;
            neuron.last_update = neuron.last_update.max(block);
        }
    }

    /// The last block, up to `block`, in which the subnet's epoch ended; 0 if none has.
    pub(in super::super) fn last_step(&self, block: u64) -> u64 {
        let period = u64::from(self.hyperparameters.tempo) + 1;
        let into_period = (block + u64::from(self.netuid) + 2) % period;
        block.saturating_sub(into_period)
    }
}

/// What a subnet's owner may set, with the chain's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hyperparameters {
    /// Blocks of an epoch, less one. 360.
    pub tempo: u16,
    /// 10.
    pub rho: u16,
    /// 32,767.
    pub kappa: u16,
    /// 1,024.
    pub min_allowed_weights: u16,
    /// 65,535.
    pub max_weights_limit: u16,
    /// 0.
    pub weights_version: u64,
    /// Blocks between two settings of weights. 100.
    pub weights_rate_limit: u64,
    /// Blocks after which who sets no weights is not active. 5,000.
    pub activity_cutoff: u16,
    /// Permits there are at most. 128.
    pub max_validators: u16,
    /// Neurons there are at most. 4,096.
    pub max_uids: u16,
    /// What a registration costs, in rao. 0.1 TAO.
    pub burn: u64,
    /// Of a registration by work. 10,000,000.
    pub difficulty: u64,
    /// `true`.
    pub registration_allowed: bool,
    /// `true`.
    pub pow_registration_allowed: bool,
    /// Blocks in which a fresh neuron is not replaced. 4,096.
    pub immunity_period: u16,
    /// 10,000,000.
    pub min_difficulty: u64,
    /// 2^62 - 1.
    pub max_difficulty: u64,
    /// In rao. 0.0005 TAO.
    pub min_burn: u64,
    /// In rao. 100 TAO.
    pub max_burn: u64,
    /// 0.
    pub adjustment_alpha: u64,
    /// 100.
    pub adjustment_interval: u16,
    /// 2.
    pub target_regs_per_interval: u16,
    /// 1.
    pub max_regs_per_block: u16,
    /// Blocks between two `serve_axon` of a neuron; 0 is no limit. 50.
    pub serving_rate_limit: u64,
    /// `true`.
    pub commit_reveal_weights_enabled: bool,
    /// 1.
    pub commit_reveal_period: u64,
    /// `false`.
    pub liquid_alpha_enabled: bool,
    /// 58,982.
    pub alpha_high: u16,
    /// 45,875.
    pub alpha_low: u16,
    /// 900,000.
    pub bonds_moving_avg: u64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            tempo: 360,
            rho: 10,
            kappa: 32_767,
            min_allowed_weights: 1_024,
            max_weights_limit: u16::MAX,
            weights_version: 0,
            weights_rate_limit: 100,
            activity_cutoff: 5_000,
            max_validators: 128,
            max_uids: 4_096,
            burn: 100_000_000,
            difficulty: 10_000_000,
            registration_allowed: true,
            pow_registration_allowed: true,
            immunity_period: 4_096,
            min_difficulty: 10_000_000,
            max_difficulty: (1 << 62) - 1,
            min_burn: 500_000,
            max_burn: 100_000_000_000,
            adjustment_alpha: 0,
            adjustment_interval: 100,
            target_regs_per_interval: 2,
            max_regs_per_block: 1,
            serving_rate_limit: 50,
            commit_reveal_weights_enabled: true,
            commit_reveal_period: 1,
            liquid_alpha_enabled: false,
            alpha_high: 58_982,
            alpha_low: 45_875,
            bonds_moving_avg: 900_000,
        }
    }
}

/// What backs a subnet's alpha, in rao. All 0 unless set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Alpha in the pool.
    pub alpha_in: u64,
    /// Alpha outside of it.
    pub alpha_out: u64,
    /// TAO in the pool.
    pub tao_in: u64,
    /// Alpha that a block adds outside.
    pub alpha_out_emission: u64,
    /// Alpha that a block adds to the pool.
    pub alpha_in_emission: u64,
    /// TAO that a block adds to the pool.
    pub tao_in_emission: u64,
    /// Alpha that the epoch will share out.
    pub pending_alpha_emission: u64,
    /// TAO that the epoch will share out.
    pub pending_root_emission: u64,
    /// What was ever traded.
    pub volume: u128,
    /// Bits of the fixed-point number with 32 bits of fraction.
    pub moving_price: i128,
}
