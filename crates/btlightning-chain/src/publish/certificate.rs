//! TLS key pins as the chain stores them: one byte that says what follows, and the bytes.

use std::collections::HashMap;
use std::time::Duration;

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use subxt::ext::scale_decode::DecodeAsType;

use super::garbage;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::metagraph::NEURONS_MAX;
use crate::neurons::decode_value;
use crate::node::within;
use crate::reading::{AtBlock, PALLET, storage_info};

/// The algorithm byte of a [`TlsKeyPin`]. The chain interprets none, and no list of them is kept, so this is one that
/// counting from 0 or 1 does not come to.
pub const TLS_KEY_PIN_ALGORITHM: u8 = 0xb7;

/// What a certificate is overwritten with to clear it: no algorithm, no key. The chain has no way to remove one.
const CLEARED: [u8; 1] = [0];

pub(super) const ENTRY: &str = "NeuronCertificates";

/// A hotkey's certificate in storage.
#[derive(Debug, Clone, PartialEq, Eq, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct Certificate {
    public_key: Vec<u8>,
    algorithm: u8,
}

impl Certificate {
    /// The pin in it; `None` if it is of somebody else's making, or cleared.
    pub(super) fn pin(&self) -> Option<TlsKeyPin> {
        let hash = <[u8; TlsKeyPin::BYTES]>::try_from(self.public_key.as_slice()).ok()?;
        (self.algorithm == TLS_KEY_PIN_ALGORITHM).then(|| TlsKeyPin::from_bytes(hash))
    }
}

/// What `serve_axon_tls` is given for `pin`, or to clear it.
pub(super) fn argument(pin: Option<&TlsKeyPin>) -> Vec<u8> {
    match pin {
        Some(pin) => [&[TLS_KEY_PIN_ALGORITHM], pin.as_bytes().as_slice()].concat(),
        None => CLEARED.to_vec(),
    }
}

impl Chain {
    /// The TLS key pins that hotkeys of a subnet have published, at the latest finalized block.
    ///
    /// Certificates of other kinds are passed over. A hotkey that has left the subnet may still be among them. Each node
    /// may take up to [`ChainConfig::operation_timeout`](crate::chain::ChainConfig).
    ///
    /// # Errors
    /// [`ChainError::NoNode`] when no node could answer; [`ChainError::TooManyNeurons`] for more certificates than neurons
    /// are read.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the answer.
    pub async fn tls_key_pins(&self, netuid: u16) -> Result<HashMap<Hotkey, TlsKeyPin>, ChainError> {
        let call = self.config().call_timeout;
        self.run(move |client| async move {
            let at = within(call, "for the latest block", client.at_current_block()).await?;
            tls_key_pins(&at, netuid, call).await
        })
        .await
    }
}

/// The pins at one block. A runtime that has no certificates has no pins.
pub(crate) async fn tls_key_pins(
    at: &AtBlock,
    netuid: u16,
    call: Duration,
) -> Result<HashMap<Hotkey, TlsKeyPin>, ChainError> {
    const DOING: &str = "for the TLS keys of a subnet";
    match storage_info(at, ENTRY, DOING) {
        Ok(_) => {}
        Err(ChainError::NotInRuntime { .. }) => return Ok(HashMap::new()),
        Err(err) => return Err(err),
    }
    let address = subxt::dynamic::storage::<(u16, [u8; 32]), subxt::dynamic::Value>(PALLET, ENTRY);
    let entry = within(call, DOING, async { at.storage().entry(address) }).await?;
    let mut entries = within(call, DOING, entry.iter((netuid,))).await?;
    let (mut pins, mut seen) = (HashMap::new(), 0);
    while let Some(entry) = within(call, DOING, async { entries.next().await.transpose() }).await? {
        seen += 1;
        if seen > NEURONS_MAX {
            return Err(ChainError::TooManyNeurons { netuid, neurons: seen });
        }
        let value = entry.value();
        let certificate: Certificate =
            decode_value(value.bytes(), at.metadata_ref().types(), value.type_id())
                .map_err(|unread| garbage(DOING, &unread))?;
        // The hotkey stands at the end of the storage key, behind its hash.
        let hotkey = entry.key_bytes().last_chunk().and_then(|key| Hotkey::from_public_key(*key).ok());
        if let (Some(hotkey), Some(pin)) = (hotkey, certificate.pin()) {
            pins.insert(hotkey, pin);
        }
    }
    Ok(pins)
}
