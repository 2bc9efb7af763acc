//! The runtime: what it offers, and the answers to calls of its APIs.

mod metagraph;
mod neurons;
mod record;

use super::{
    block::{After, Block},
    metadata::{Changes, Hostility, Metadata},
    state::State,
};
use parity_scale_codec::{Compact, Decode, DecodeAll, Encode};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

/// APIs whose old forms answered with a byte string.
const WRAPPED_ONCE: [&str; 2] = ["NeuronInfoRuntimeApi_", "SubnetInfoRuntimeApi_"];

/// What a runtime is like; a test changes it with [`Chain::upgrade_runtime`](super::Chain::upgrade_runtime).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The version that clients notice upgrades by. 365, which the metadata is of.
    pub spec_version: u32,
    /// The metadata versions on offer, of 14, 15 and 16. All three.
    pub metadata_versions: Vec<u32>,
    /// Whether the answers of the neuron and subnet APIs are byte strings with the answer inside, as those of spec 218
    /// are. No.
    pub wrap_answers_in_vec: bool,
    /// What is wrong with the metadata. Nothing.
    pub hostility: Option<Hostility>,
    missing: BTreeSet<String>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            spec_version: 365,
            metadata_versions: vec![14, 15, 16],
            wrap_answers_in_vec: false,
            hostility: None,
            missing: BTreeSet::new(),
        }
    }
}

impl RuntimeOptions {
    /// Takes an API (`NeuronInfoRuntimeApi`) or a method of one (`NeuronInfoRuntimeApi_get_neurons_lite`) away, from the
    /// metadata too.
    pub fn remove(&mut self, name: &str) {
        self.missing.insert(name.to_owned());
    }

    /// Gives it back.
    pub fn restore(&mut self, name: &str) {
        self.missing.remove(name);
    }

    /// Makes the runtime one that has metadata of version 14 and no means to choose another.
    pub fn only_legacy_metadata(&mut self) {
        self.metadata_versions = vec![14];
        self.remove("Metadata_metadata_versions");
        self.remove("Metadata_metadata_at_version");
    }
}

/// The runtime of a block.
pub(super) struct Runtime {
    pub(super) options: RuntimeOptions,
    /// What it says of itself.
    pub(super) metadata: Metadata,
    /// What is true of it where the former is not: what the wrapped answers are.
    unwrapped: Arc<Metadata>,
    /// Of versions 14, 15 and 16, made when first asked for.
    encoded: [OnceLock<Option<Vec<u8>>>; 3],
}

/// Why a call has no answer.
pub(super) enum CallError {
    /// The runtime has no such function.
    NotFound,
    /// The function fails.
    Trap(String),
}

impl Runtime {
    pub(super) fn new(metadata: &Arc<Metadata>, options: RuntimeOptions) -> Arc<Self> {
        let changes = Changes {
            spec_version: Some(options.spec_version),
            missing: options.missing.clone(),
            hostility: options.hostility,
            wrapped: if options.wrap_answers_in_vec { WRAPPED_ONCE.to_vec() } else { Vec::new() },
        };
        let unwrapped = metadata.clone();
        Arc::new(Self {
            metadata: metadata.changed(&changes),
            unwrapped,
            options,
            encoded: Default::default(),
        })
    }

    /// The metadata that a node gives who does not choose a version.
    pub(super) fn default_metadata(&self) -> Option<&[u8]> {
        self.encoded_metadata(14)
    }

    fn encoded_metadata(&self, version: u32) -> Option<&[u8]> {
        let slot = self.encoded.get(version.checked_sub(14)? as usize)?;
        slot.get_or_init(|| self.metadata.encoded(version)).as_deref()
    }

    fn metadata_at_version(&self, version: u32) -> Option<&[u8]> {
        let offered = self.options.metadata_versions.contains(&version);
        offered.then(|| self.encoded_metadata(version)).flatten()
    }
}

/// What the runtime answers to a call of one of its functions after `block`.
pub(super) fn call(block: &Block, after: &After, function: &str, args: &[u8]) -> Result<Vec<u8>, CallError> {
    if !after.runtime.metadata.has_method(function) {
        return Err(CallError::NotFound);
    }
    let wrap = after.runtime.options.wrap_answers_in_vec
        && WRAPPED_ONCE.iter().any(|prefix| function.starts_with(prefix));
    let answer = answer(block, after, function, args)?;
    Ok(if wrap { answer.wrapped() } else { answer.encoded() })
}

/// An answer, encoded, that knows whether it is an option.
enum Answer {
    Plain(Vec<u8>),
    Optional(Option<Vec<u8>>),
}

impl Answer {
    fn plain(value: &impl Encode) -> Result<Self, CallError> {
        Ok(Self::Plain(value.encode()))
    }

    fn optional(value: Option<impl Encode>) -> Result<Self, CallError> {
        Ok(Self::Optional(value.map(|value| value.encode())))
    }

    /// A list of what there is of each subnet, each an option.
    fn all(state: &State, of: impl Fn(u16) -> Option<Vec<u8>>) -> Self {
        let mut encoded = Compact(state.subnets.len() as u32).encode();
        for netuid in state.subnets.keys() {
            encoded.extend(Self::Optional(of(*netuid)).encoded());
        }
        Self::Plain(encoded)
    }

    fn encoded(self) -> Vec<u8> {
        match self {
            Self::Plain(answer) => answer,
            Self::Optional(None) => vec![0],
            Self::Optional(Some(answer)) => [vec![1], answer].concat(),
        }
    }

    /// As old runtimes did it: a byte string, empty for no answer.
    fn wrapped(self) -> Vec<u8> {
        match self {
            Self::Plain(answer) => answer,
            Self::Optional(answer) => answer.unwrap_or_default(),
        }
        .encode()
    }
}

fn answer(block: &Block, after: &After, function: &str, args: &[u8]) -> Result<Answer, CallError> {
    let (state, runtime) = (&*after.state, &*after.runtime);
    match function {
        "Core_version" => Answer::plain(runtime.metadata.runtime_version()),
        "Metadata_metadata" => Answer::plain(&runtime.default_metadata().unwrap_or_default()),
        "Metadata_metadata_versions" => Answer::plain(&runtime.options.metadata_versions),
        "Metadata_metadata_at_version" => {
            Answer::optional(runtime.metadata_at_version(input(function, args)?))
        }
        "AccountNonceApi_account_nonce" => {
            let account: [u8; 32] = input(function, args)?;
            Answer::plain(&state.accounts.get(&account).map_or(0, |account| account.nonce))
        }
        "NeuronInfoRuntimeApi_get_neurons_lite" => {
            Answer::plain(&neurons::neurons_lite(state, input(function, args)?))
        }
        "NeuronInfoRuntimeApi_get_neuron_lite" => {
            let (netuid, uid) = input(function, args)?;
            Answer::optional(neurons::neuron_lite(state, netuid, uid))
        }
        "NeuronInfoRuntimeApi_get_neurons" => Answer::plain(&neurons::neurons(state, input(function, args)?)),
        "NeuronInfoRuntimeApi_get_neuron" => {
            let (netuid, uid) = input(function, args)?;
            Answer::optional(neurons::neuron(state, netuid, uid))
        }
        // `RuntimeDispatchInfo`: a weight, the class, and that it costs nothing.
        "TransactionPaymentApi_query_info" | "TransactionPaymentCallApi_query_call_info" => {
            Answer::plain(&(Compact(100_000_000_u64), Compact(1_000_u64), 0_u8, 0_u64))
        }
        _ => subnet_answer(block, after, function, args),
    }
}

fn subnet_answer(block: &Block, after: &After, function: &str, args: &[u8]) -> Result<Answer, CallError> {
    let (state, number) = (&*after.state, block.number());
    let names = after.runtime.unwrapped.answer_fields(function);
    let whole = |netuid| metagraph::record(state, netuid, number).map(|record| record.encode(&names));
    let selected = |netuid, selected: Vec<u16>| {
        metagraph::record(state, netuid, number).map(|record| record.encode_selected(&names, &selected))
    };
    let dynamic = |netuid| metagraph::dynamic(state, netuid, number).map(|record| record.encode(&names));
    Ok(match function {
        "SubnetInfoRuntimeApi_get_metagraph" | "SubnetInfoRuntimeApi_get_subnet_state" => {
            Answer::Optional(whole(input(function, args)?))
        }
        "SubnetInfoRuntimeApi_get_all_metagraphs" => Answer::all(state, whole),
        "SubnetInfoRuntimeApi_get_selective_metagraph" => {
            let (netuid, columns) = input(function, args)?;
            Answer::Optional(selected(netuid, columns))
        }
        "SubnetInfoRuntimeApi_get_mechagraph" => {
            let (netuid, mechanism) = input(function, args)?;
            Answer::Optional(first(mechanism).and_then(|()| whole(netuid)))
        }
        "SubnetInfoRuntimeApi_get_selective_mechagraph" => {
            let (netuid, mechanism, columns) = input(function, args)?;
            Answer::Optional(first(mechanism).and_then(|()| selected(netuid, columns)))
        }
        "SubnetInfoRuntimeApi_get_dynamic_info" => Answer::Optional(dynamic(input(function, args)?)),
        "SubnetInfoRuntimeApi_get_all_dynamic_info" => Answer::all(state, dynamic),
        "SwapRuntimeApi_current_alpha_price" => {
            Answer::plain(&metagraph::alpha_price(state, input(function, args)?))?
        }
        // What another subnet would cost: 1,000 TAO.
        "SubnetRegistrationRuntimeApi_get_network_registration_cost" => {
            Answer::plain(&1_000_000_000_000_u64)?
        }
        _ => return Err(CallError::Trap(format!("{function} is not among what the test chain answers"))),
    })
}

/// Every subnet has one mechanism, number 0.
fn first(mechanism: u8) -> Option<()> {
    (mechanism == 0).then_some(())
}

fn input<T: Decode>(function: &str, args: &[u8]) -> Result<T, CallError> {
    T::decode_all(&mut &*args)
        .map_err(|error| CallError::Trap(format!("Bad input data provided to {function}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{metadata, state::Neuron, world::World},
        *,
    };

    #[test]
    fn every_answer_is_of_the_type_that_the_runtime_says() {
        let metadata = metadata::load().unwrap();
        let mut world = World::new(metadata.clone(), RuntimeOptions::default(), 0);
        let mut populate = |state: &mut State| {
            for netuid in [1, 2] {
                let mut neuron = Neuron::new([netuid as u8; 32], [9; 32]).validating(1 << 40);
                neuron.weights = vec![(0, 1)];
                state.add_subnet(netuid).register(neuron);
            }
        };
        world.produce(Some(&mut populate), None);
        let block = world.ledger.best().clone();
        let cases: [(&str, Vec<u8>); 22] = [
            ("Core_version", vec![]),
            ("Metadata_metadata", vec![]),
            ("Metadata_metadata_versions", vec![]),
            ("Metadata_metadata_at_version", 16_u32.encode()),
            ("AccountNonceApi_account_nonce", vec![0; 32]),
            ("NeuronInfoRuntimeApi_get_neurons_lite", 2_u16.encode()),
            ("NeuronInfoRuntimeApi_get_neuron_lite", (2_u16, 0_u16).encode()),
            ("NeuronInfoRuntimeApi_get_neuron_lite", (2_u16, 1_u16).encode()),
            ("NeuronInfoRuntimeApi_get_neurons", 2_u16.encode()),
            ("NeuronInfoRuntimeApi_get_neuron", (2_u16, 0_u16).encode()),
            ("SubnetInfoRuntimeApi_get_metagraph", 2_u16.encode()),
            ("SubnetInfoRuntimeApi_get_metagraph", 3_u16.encode()),
            ("SubnetInfoRuntimeApi_get_all_metagraphs", vec![]),
            ("SubnetInfoRuntimeApi_get_subnet_state", 2_u16.encode()),
            ("SwapRuntimeApi_current_alpha_price", 2_u16.encode()),
            ("SubnetInfoRuntimeApi_get_mechagraph", (2_u16, 0_u8).encode()),
            (
                "SubnetInfoRuntimeApi_get_selective_metagraph",
                (2_u16, (0..=80_u16).collect::<Vec<_>>()).encode(),
            ),
            ("SubnetInfoRuntimeApi_get_selective_mechagraph", (2_u16, 0_u8, vec![52_u16, 55]).encode()),
            ("SubnetInfoRuntimeApi_get_dynamic_info", 2_u16.encode()),
            ("SubnetInfoRuntimeApi_get_all_dynamic_info", vec![]),
            ("SubnetRegistrationRuntimeApi_get_network_registration_cost", vec![]),
            // The argument, an extrinsic, does not matter to it.
            ("TransactionPaymentApi_query_info", vec![]),
        ];
        for (function, args) in cases {
            let answer = call(&block, block.after.as_ref().unwrap(), function, &args);
            let answer = answer.unwrap_or_else(|_| panic!("{function} has no answer"));
            let (ty, mut left) = (metadata.method_output(function).unwrap(), &answer[..]);
            let decoded = scale_value::scale::decode_as_type(&mut left, ty, metadata.types());
            assert!(decoded.is_ok() && left.is_empty(), "{function}: {decoded:?}, {} bytes left", left.len());
        }
    }

    #[test]
    fn a_call_that_cannot_be_answered_says_why() {
        let world = World::new(metadata::load().unwrap(), RuntimeOptions::default(), 0);
        let block = world.ledger.best();
        let call = |function: &str, args: &[u8]| call(block, block.after.as_ref().unwrap(), function, args);
        assert!(matches!(call("No_such", &[]), Err(CallError::NotFound)));
        for (function, args) in [
            ("NeuronInfoRuntimeApi_get_neurons_lite", &[2][..]),
            ("NeuronInfoRuntimeApi_get_neurons_lite", &[2, 0, 0]),
            ("GrandpaApi_current_set_id", &[]),
        ] {
            assert!(matches!(call(function, args), Err(CallError::Trap(_))), "{function}");
        }
    }
}
