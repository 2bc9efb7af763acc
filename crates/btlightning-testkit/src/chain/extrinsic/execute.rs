//! What extrinsics do to the state.

use super::{
    super::{
        events::{Class, Events},
        ss58::AccountId,
        state::{Axon, Certificate, State},
    },
    Call, Extrinsic,
    validity::{ServeError, may_serve},
};

/// Carries out a valid extrinsic, the `index`-th of block `number`; the name of the error if it failed, with which it is
/// in the block all the same.
pub(in super::super) fn apply(
    state: &mut State,
    events: &mut Events<'_>,
    extrinsic: &Extrinsic,
    index: u32,
    number: u64,
) -> Result<(), &'static str> {
    let Some(signer) = extrinsic.signer() else { return Err("BadOrigin") };
    state.account(signer).nonce += 1;
    let served = match &extrinsic.call {
        Call::ServeAxon { netuid, axon } => serve(state, *netuid, &signer, axon, None, number),
        Call::ServeAxonTls { netuid, axon, certificate } => {
            serve(state, *netuid, &signer, axon, Some(certificate), number)
        }
        Call::Other { .. } => {
            // As the runtime says of calls that are switched off.
            events.failed(index, "System", "CallFiltered");
            return Err("CallFiltered");
        }
    };
    match served {
        Ok(netuid) => {
            events.served(index, "AxonServed", netuid, &signer);
            events.success(index, Class::Normal);
            Ok(())
        }
        Err(error) => {
            events.failed(index, "SubtensorModule", error.name());
            Err(error.name())
        }
    }
}

fn serve(
    state: &mut State,
    netuid: u16,
    hotkey: &AccountId,
    axon: &Axon,
    certificate: Option<&[u8]>,
    number: u64,
) -> Result<u16, ServeError> {
    if !state.subnets.contains_key(&netuid) {
        return Err(ServeError::SubnetNotExists);
    }
    may_serve(state, netuid, hotkey, axon, number)?;
    let neuron =
        state.subnet(netuid).by_hotkey_mut(hotkey).ok_or(ServeError::HotKeyNotRegisteredInNetwork)?;
    if let Some(certificate) = certificate.and_then(Certificate::from_call) {
        neuron.certificate = Some(certificate);
    }
    neuron.axon = Some(Axon { block: number, ..*axon });
    Ok(netuid)
}
