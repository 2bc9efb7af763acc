//! The neurons of a subnet out of the bytes of a runtime call: `NeuronInfoRuntimeApi_get_neurons_lite`.
//!
//! Where the node's metadata describes the answer, it is read field by field by their names, so that a runtime which
//! adds fields is still understood. Where it does not (metadata of version 14 knows no runtime calls), the layout of
//! today is assumed. Very old runtimes wrap the answer in one more vector of bytes. Whichever reading is tried, it must
//! use up the answer to its last byte.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use btlightning_proto::identity::Hotkey;
use scale_info::{PortableRegistry, TypeDef, TypeDefPrimitive};
use subxt::Metadata;
use subxt::ext::codec::{self, Compact, Decode, Input};
use subxt::ext::scale_decode::DecodeAsType;

use crate::layout;
use crate::metagraph::{NEURONS_MAX, NeuronInfo};
use crate::words::printable;

/// The runtime API and its function.
pub(crate) const API: &str = "NeuronInfoRuntimeApi";
pub(crate) const FUNCTION: &str = "get_neurons_lite";

/// What the chain has of one neuron, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainNeuron {
    pub(crate) hotkey: [u8; 32],
    pub(crate) uid: u16,
    pub(crate) active: bool,
    pub(crate) axon: Axon,
    pub(crate) stake: u64,
    pub(crate) validator_permit: bool,
}

/// The part of an axon that says where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct Axon {
    pub(crate) ip: u128,
    pub(crate) port: u16,
    pub(crate) ip_type: u8,
    pub(crate) protocol: u8,
}

/// Why an answer is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// More neurons than are read.
    TooMany(u64),
    /// It is not what it should be.
    Malformed(String),
}

impl Unread {
    fn malformed(reason: impl ToString) -> Self {
        Self::Malformed(printable(reason.to_string()))
    }
}

/// The neurons in the answer of a runtime whose metadata is `metadata`.
pub(crate) fn decode(answer: &[u8], metadata: &Metadata, netuid: u16) -> Result<Vec<ChainNeuron>, Unread> {
    let described = metadata
        .runtime_api_trait_by_name(API)
        .and_then(|api| api.method_by_name(FUNCTION))
        .map(|function| function.output_ty())
        .filter(|&id| !is_bytes(metadata.types(), id));
    let mut first_fault = None;
    for bytes in [Some(answer), unwrapped(answer)].into_iter().flatten() {
        let by_name = described.map(|id| by_name(bytes, metadata.types(), id, netuid));
        let by_layout = || by_layout(bytes, netuid);
        let read = match by_name {
            Some(Ok(neurons)) => return Ok(neurons),
            Some(Err(fault)) => by_layout().map_err(|_| fault),
            None => by_layout(),
        };
        match read {
            Ok(neurons) => return Ok(neurons),
            Err(fault) => first_fault = first_fault.or(Some(fault)),
        }
    }
    Err(first_fault.unwrap_or_else(|| Unread::malformed("empty answer")))
}

/// The bytes inside, if `answer` is a vector of bytes and nothing else.
fn unwrapped(mut answer: &[u8]) -> Option<&[u8]> {
    let length = Compact::<u32>::decode(&mut answer).ok()?.0;
    (usize::try_from(length) == Ok(answer.len())).then_some(answer)
}

fn is_bytes(types: &PortableRegistry, id: u32) -> bool {
    let definition = |id| types.resolve(id).map(|found| &found.type_def);
    let Some(TypeDef::Sequence(sequence)) = definition(id) else { return false };
    matches!(definition(sequence.type_param.id), Some(TypeDef::Primitive(TypeDefPrimitive::U8)))
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct NamedNeuron {
    hotkey: [u8; 32],
    uid: u16,
    netuid: u16,
    active: bool,
    axon_info: Axon,
    stake: Vec<([u8; 32], u64)>,
    validator_permit: bool,
}

fn by_name(bytes: &[u8], types: &PortableRegistry, id: u32, netuid: u16) -> Result<Vec<ChainNeuron>, Unread> {
    count(bytes)?;
    let neurons: Vec<NamedNeuron> = decode_value(bytes, types, id)?;
    let neurons = neurons.into_iter().map(|neuron| {
        let stake = neuron.stake.iter().fold(0u64, |sum, (_, stake)| sum.saturating_add(*stake));
        let found = ChainNeuron {
            hotkey: neuron.hotkey,
            uid: neuron.uid,
            active: neuron.active,
            axon: neuron.axon_info,
            stake,
            validator_permit: neuron.validator_permit,
        };
        (neuron.netuid, found)
    });
    checked(neurons, netuid)
}

/// Decodes the whole of `bytes` as the type `id` of `types`, at a bounded cost.
pub(crate) fn decode_value<T: DecodeAsType>(
    bytes: &[u8],
    types: &PortableRegistry,
    id: u32,
) -> Result<T, Unread> {
    layout::check(types, id).map_err(Unread::malformed)?;
    let mut rest = bytes;
    let value = T::decode_as_type(&mut rest, id, types).map_err(Unread::malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(left_over(rest)) }
}

fn left_over(rest: &[u8]) -> Unread {
    Unread::malformed(format_args!("{} bytes are left over", rest.len()))
}

/// The layout that runtimes have had from the first to today's.
#[derive(Decode)]
#[codec(crate = subxt::ext::codec)]
struct LaidOutNeuron {
    hotkey: [u8; 32],
    _coldkey: [u8; 32],
    uid: Compact<u16>,
    netuid: Compact<u16>,
    active: bool,
    axon: LaidOutAxon,
    _prometheus: LaidOutPrometheus,
    stake: StakeSum,
    _rank: Compact<u16>,
    _emission: Compact<u64>,
    _incentive: Compact<u16>,
    _consensus: Compact<u16>,
    _trust: Compact<u16>,
    _validator_trust: Compact<u16>,
    _dividends: Compact<u16>,
    _last_update: Compact<u64>,
    validator_permit: bool,
    _pruning_score: Compact<u16>,
}

#[derive(Decode)]
#[codec(crate = subxt::ext::codec)]
struct LaidOutAxon {
    _block: u64,
    _version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
    _placeholders: [u8; 2],
}

#[derive(Decode)]
#[codec(crate = subxt::ext::codec)]
struct LaidOutPrometheus {
    _block: u64,
    _version: u32,
    _ip: u128,
    _port: u16,
    _ip_type: u8,
}

/// Who stakes how much, added up without being kept.
struct StakeSum(u64);

impl Decode for StakeSum {
    fn decode<I: Input>(input: &mut I) -> Result<Self, codec::Error> {
        let mut sum = 0u64;
        for _ in 0..Compact::<u32>::decode(input)?.0 {
            let (_coldkey, stake) = <([u8; 32], Compact<u64>)>::decode(input)?;
            sum = sum.saturating_add(stake.0);
        }
        Ok(Self(sum))
    }
}

fn by_layout(bytes: &[u8], netuid: u16) -> Result<Vec<ChainNeuron>, Unread> {
    let (count, mut rest) = count(bytes)?;
    let mut neurons = Vec::new();
    for _ in 0..count {
        let neuron = LaidOutNeuron::decode(&mut rest).map_err(Unread::malformed)?;
        let LaidOutAxon { ip, port, ip_type, protocol, .. } = neuron.axon;
        let found = ChainNeuron {
            hotkey: neuron.hotkey,
            uid: neuron.uid.0,
            active: neuron.active,
            axon: Axon { ip, port, ip_type, protocol },
            stake: neuron.stake.0,
            validator_permit: neuron.validator_permit,
        };
        neurons.push((neuron.netuid.0, found));
    }
    if rest.is_empty() { checked(neurons.into_iter(), netuid) } else { Err(left_over(rest)) }
}

/// How many neurons the answer says it has, and the rest of it.
fn count(bytes: &[u8]) -> Result<(u64, &[u8]), Unread> {
    let mut rest = bytes;
    let count = u64::from(Compact::<u32>::decode(&mut rest).map_err(Unread::malformed)?.0);
    if count > NEURONS_MAX {
        // A vector of bytes may be that long and hold few neurons.
        return Err(Unread::TooMany(count));
    }
    Ok((count, rest))
}

/// Neurons of this subnet only, each uid once, in their order.
fn checked(
    neurons: impl Iterator<Item = (u16, ChainNeuron)>,
    netuid: u16,
) -> Result<Vec<ChainNeuron>, Unread> {
    let mut uids = HashSet::new();
    let mut kept = Vec::new();
    for (of_subnet, neuron) in neurons {
        if of_subnet != netuid {
            return Err(Unread::malformed(format_args!("a neuron of subnet {of_subnet}")));
        }
        if !uids.insert(neuron.uid) {
            return Err(Unread::malformed(format_args!("uid {} twice", neuron.uid)));
        }
        kept.push(neuron);
    }
    kept.sort_unstable_by_key(|neuron| neuron.uid);
    Ok(kept)
}

impl ChainNeuron {
    /// The neuron as programs see it; `None` if its hotkey is none that anybody could hold.
    pub(crate) fn into_info(self) -> Option<NeuronInfo> {
        let hotkey = Hotkey::from_public_key(self.hotkey).ok()?;
        Some(NeuronInfo {
            uid: self.uid,
            hotkey: hotkey.to_string(),
            stake: self.stake,
            is_active: self.active,
            axon_ip: self.axon.ip().map(|ip| ip.to_string()).unwrap_or_default(),
            axon_port: self.axon.port,
            axon_protocol: self.axon.protocol,
            validator_permit: self.validator_permit,
        })
    }
}

impl Axon {
    /// Where it is, if it was announced and is an address at all.
    fn ip(&self) -> Option<IpAddr> {
        match self.ip_type {
            4 => u32::try_from(self.ip).ok().map(|ip| Ipv4Addr::from_bits(ip).into()),
            6 => Some(Ipv6Addr::from_bits(self.ip).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
