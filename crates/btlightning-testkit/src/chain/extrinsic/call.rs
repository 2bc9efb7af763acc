//! What an extrinsic wants done.

use super::{
    super::{metadata::Metadata, state::Axon},
    Malformed,
};
use scale_value::{At, Composite, Value, ValueDef};

/// A call of an extrinsic, with the arguments of those that the chain carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `SubtensorModule.serve_axon`. The axon's block is 0.
    ServeAxon {
        /// The subnet.
        netuid: u16,
        /// What to publish.
        axon: Axon,
    },
    /// `SubtensorModule.serve_axon_tls`. The axon's block is 0.
    ServeAxonTls {
        /// The subnet.
        netuid: u16,
        /// What to publish.
        axon: Axon,
        /// The algorithm's byte, and the key.
        certificate: Vec<u8>,
    },
    /// Any other.
    Other {
        /// The pallet, `Balances`.
        pallet: String,
        /// The call, `transfer_keep_alive`.
        call: String,
    },
}

/// The pallet whose calls the chain carries out.
const PALLET: &str = "SubtensorModule";

impl Call {
    /// The pallet's name and the call's.
    pub fn name(&self) -> (&str, &str) {
        match self {
            Self::ServeAxon { .. } => (PALLET, "serve_axon"),
            Self::ServeAxonTls { .. } => (PALLET, "serve_axon_tls"),
            Self::Other { pallet, call } => (pallet, call),
        }
    }

    /// Reads a call, by the types that the metadata has for it.
    pub(super) fn decode(metadata: &Metadata, mut input: &[u8]) -> Result<Self, Malformed> {
        let names = metadata.call_names(input);
        let (pallet, call) = names.ok_or_else(|| Malformed("of an unknown call".into()))?;
        if pallet != PALLET {
            // Some calls of other pallets contain calls, in any depth. They are refused, so nobody needs to know.
            return Ok(Self::Other { pallet: pallet.into(), call: call.into() });
        }
        let ty = metadata.extrinsic().call_ty.id;
        let value = scale_value::scale::decode_as_type(&mut input, ty, metadata.types())
            .map_err(|error| Malformed(error.to_string()))?;
        if !input.is_empty() {
            return Err(Malformed(format!("{} bytes after the call", input.len())));
        }
        let args = arguments(&value).ok_or_else(|| Malformed("a call without arguments".into()))?;
        let missing = || Malformed(format!("{call} without an argument"));
        Ok(match call {
            "serve_axon" => {
                let (netuid, axon) = axon(args).ok_or_else(missing)?;
                Self::ServeAxon { netuid, axon }
            }
            "serve_axon_tls" => {
                let (netuid, axon) = axon(args).ok_or_else(missing)?;
                let certificate = args.at("certificate").and_then(bytes).ok_or_else(missing)?;
                Self::ServeAxonTls { netuid, axon, certificate }
            }
            call => Self::Other { pallet: pallet.into(), call: call.into() },
        })
    }
}

/// The arguments of `RuntimeCall::Pallet(Call::name { arguments })`.
fn arguments<T>(value: &Value<T>) -> Option<&Composite<T>> {
    let ValueDef::Variant(pallet) = &value.value else { return None };
    let ValueDef::Variant(call) = &pallet.values.values().next()?.value else { return None };
    Some(&call.values)
}

fn axon<T>(args: &Composite<T>) -> Option<(u16, Axon)> {
    let number = |name: &str| args.at(name).and_then(integer);
    let axon = Axon {
        block: 0,
        version: number("version")?.try_into().ok()?,
        ip: number("ip")?,
        port: number("port")?.try_into().ok()?,
        ip_type: number("ip_type")?.try_into().ok()?,
        protocol: number("protocol")?.try_into().ok()?,
        placeholder1: number("placeholder1")?.try_into().ok()?,
        placeholder2: number("placeholder2")?.try_into().ok()?,
    };
    Some((number("netuid")?.try_into().ok()?, axon))
}

/// A number, bare or as the only field of a composite.
fn integer<T>(value: &Value<T>) -> Option<u128> {
    match &value.value {
        ValueDef::Composite(composite) if composite.len() == 1 => integer(composite.values().next()?),
        _ => value.as_u128(),
    }
}

fn bytes<T>(value: &Value<T>) -> Option<Vec<u8>> {
    let ValueDef::Composite(items) = &value.value else { return None };
    items.values().map(|item| u8::try_from(item.as_u128()?).ok()).collect()
}
