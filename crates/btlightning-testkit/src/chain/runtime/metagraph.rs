//! `SubnetInfoRuntimeApi`'s metagraph: a subnet column by column.

use super::{
    super::state::{Neuron, State, Subnet},
    record::Record,
};
use parity_scale_codec::{Compact, Encode};

/// Everything the runtime says of a subnet in block `block`, by the names of its fields.
pub(super) fn record(state: &State, netuid: u16, block: u64) -> Option<Record> {
    let subnet = state.subnets.get(&netuid)?;
    let record = identity(Record::default(), subnet, block);
    let record = economy(record, subnet);
    let record = hyperparameters(record, subnet);
    Some(neurons(record, subnet))
}

/// `DynamicInfo`: what the runtime says of a subnet's alpha.
pub(super) fn dynamic(state: &State, netuid: u16, block: u64) -> Option<Record> {
    let subnet = state.subnets.get(&netuid)?;
    let record = economy(identity(Record::default(), subnet, block), subnet);
    Some(
        record
            .field("subnet_name", &text(&subnet.name))
            .field("token_symbol", &text(&subnet.symbol))
            .field("subnet_identity", &None::<()>)
            .field("emission", &Compact(0_u64)),
    )
}

/// What the pool asks for one alpha, in rao; one TAO where there is no pool.
pub(super) fn alpha_price(state: &State, netuid: u16) -> u64 {
    const RAO: u128 = 1_000_000_000;
    let pool = state.subnets.get(&netuid).map(|subnet| &subnet.pool).filter(|pool| pool.alpha_in > 0);
    let price = pool.map_or(RAO, |pool| RAO * u128::from(pool.tao_in) / u128::from(pool.alpha_in));
    u64::try_from(price).unwrap_or(u64::MAX)
}

/// Text, as the metagraph has it: every byte compact.
fn text(text: &str) -> Vec<Compact<u8>> {
    text.bytes().map(Compact).collect()
}

fn identity(record: Record, subnet: &Subnet, block: u64) -> Record {
    let last_step = subnet.last_step(block);
    record
        .field("netuid", &Compact(subnet.netuid))
        .field("name", &text(&subnet.name))
        .field("symbol", &text(&subnet.symbol))
        .field("identity", &None::<()>)
        .field("network_registered_at", &Compact(subnet.registered_at))
        .field("owner_hotkey", &subnet.owner_hotkey)
        .field("owner_coldkey", &subnet.owner_coldkey)
        .field("block", &Compact(block))
        .field("tempo", &Compact(subnet.hyperparameters.tempo))
        .field("last_step", &Compact(last_step))
        .field("blocks_since_last_step", &Compact(block - last_step))
        .field("num_uids", &Compact(subnet.neurons().len() as u16))
}

fn economy(record: Record, subnet: &Subnet) -> Record {
    let pool = &subnet.pool;
    record
        .field("subnet_emission", &Compact(0_u64))
        .field("alpha_in", &Compact(pool.alpha_in))
        .field("alpha_out", &Compact(pool.alpha_out))
        .field("tao_in", &Compact(pool.tao_in))
        .field("alpha_out_emission", &Compact(pool.alpha_out_emission))
        .field("alpha_in_emission", &Compact(pool.alpha_in_emission))
        .field("tao_in_emission", &Compact(pool.tao_in_emission))
        .field("pending_alpha_emission", &Compact(pool.pending_alpha_emission))
        .field("pending_root_emission", &Compact(pool.pending_root_emission))
        .field("subnet_volume", &Compact(pool.volume))
        .field("moving_price", &pool.moving_price)
}

fn hyperparameters(record: Record, subnet: &Subnet) -> Record {
    let set = &subnet.hyperparameters;
    record
        .field("rho", &Compact(set.rho))
        .field("kappa", &Compact(set.kappa))
        .field("min_allowed_weights", &Compact(set.min_allowed_weights))
        .field("max_weights_limit", &Compact(set.max_weights_limit))
        .field("weights_version", &Compact(set.weights_version))
        .field("weights_rate_limit", &Compact(set.weights_rate_limit))
        .field("activity_cutoff", &Compact(set.activity_cutoff))
        .field("max_validators", &Compact(set.max_validators))
        .field("max_uids", &Compact(set.max_uids))
        .field("burn", &Compact(set.burn))
        .field("difficulty", &Compact(set.difficulty))
        .field("registration_allowed", &set.registration_allowed)
        .field("pow_registration_allowed", &set.pow_registration_allowed)
        .field("immunity_period", &Compact(set.immunity_period))
        .field("min_difficulty", &Compact(set.min_difficulty))
        .field("max_difficulty", &Compact(set.max_difficulty))
        .field("min_burn", &Compact(set.min_burn))
        .field("max_burn", &Compact(set.max_burn))
        .field("adjustment_alpha", &Compact(set.adjustment_alpha))
        .field("adjustment_interval", &Compact(set.adjustment_interval))
        .field("target_regs_per_interval", &Compact(set.target_regs_per_interval))
        .field("max_regs_per_block", &Compact(set.max_regs_per_block))
        .field("serving_rate_limit", &Compact(set.serving_rate_limit))
        .field("commit_reveal_weights_enabled", &set.commit_reveal_weights_enabled)
        .field("commit_reveal_period", &Compact(set.commit_reveal_period))
        .field("liquid_alpha_enabled", &set.liquid_alpha_enabled)
        .field("alpha_high", &Compact(set.alpha_high))
        .field("alpha_low", &Compact(set.alpha_low))
        .field("bonds_moving_avg", &Compact(set.bonds_moving_avg))
}

fn neurons(record: Record, subnet: &Subnet) -> Record {
    let permitted: Vec<Compact<u16>> = (0..)
        .zip(subnet.neurons())
        .filter(|(_, neuron)| neuron.validator_permit)
        .map(|(uid, _)| Compact(uid))
        .collect();
    let no_dividends = column(subnet, |neuron| (neuron.hotkey, Compact(0_u64)));
    record
        .field("hotkeys", &column(subnet, |neuron| neuron.hotkey))
        .field("coldkeys", &column(subnet, |neuron| neuron.coldkey))
        .field("identities", &column(subnet, |_| None::<()>))
        .field("axons", &column(subnet, |neuron| neuron.axon.unwrap_or_default()))
        .field("active", &column(subnet, |neuron| neuron.active))
        .field("validator_permit", &column(subnet, |neuron| neuron.validator_permit))
        .field("pruning_score", &column(subnet, |neuron| Compact(neuron.pruning_score)))
        .field("last_update", &column(subnet, |neuron| Compact(neuron.last_update)))
        .field("emission", &column(subnet, |neuron| Compact(neuron.emission)))
        .field("dividends", &column(subnet, |neuron| Compact(neuron.dividends)))
        .field("incentives", &column(subnet, |neuron| Compact(neuron.incentive)))
        .field("consensus", &column(subnet, |neuron| Compact(neuron.consensus)))
        .field("trust", &column(subnet, |neuron| Compact(neuron.trust)))
        .field("rank", &column(subnet, |neuron| Compact(neuron.rank)))
        .field("block_at_registration", &column(subnet, |neuron| Compact(neuron.registered_at)))
        .field("alpha_stake", &column(subnet, |neuron| Compact(neuron.stake)))
        .field("tao_stake", &column(subnet, |_| Compact(0_u64)))
        .field("total_stake", &column(subnet, |neuron| Compact(neuron.stake)))
        .field("tao_dividends_per_hotkey", &no_dividends)
        .field("alpha_dividends_per_hotkey", &no_dividends)
        .field("validators", &permitted)
        .field("commitments", &Vec::<()>::new())
        .field("emission_history", &Vec::<()>::new())
}

fn column<T: Encode>(subnet: &Subnet, of: impl Fn(&Neuron) -> T) -> Vec<T> {
    subnet.neurons().iter().map(of).collect()
}
