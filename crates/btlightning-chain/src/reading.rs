//! Reads a metagraph from one node, at one block: by a runtime call, or from storage where the call fails.

use std::collections::HashMap;
use std::time::Duration;

use btlightning_proto::identity::{Hotkey, TlsKeyPin};
use subxt::client::OnlineClientAtBlock;
use subxt::error::StorageError;
use subxt::ext::frame_decode::storage::{IntoEncodableValues, StorageInfo, StorageTypeInfo};
use subxt::ext::futures::{StreamExt, TryStreamExt, stream};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::{OnlineClient, PolkadotConfig};

use crate::error::{ChainError, NodeError};
use crate::layout;
use crate::metagraph::{Metagraph, NEURONS_MAX};
use crate::neurons::{self, Axon, ChainNeuron, Unread};
use crate::node::within;
use crate::publish::tls_key_pins;
use crate::words::printable;

/// How long reading may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// One question.
    pub(crate) call: Duration,
    /// All of them.
    pub(crate) operation: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { call: Duration::from_secs(30), operation: Duration::from_secs(120) }
    }
}

pub(crate) type AtBlock = OnlineClientAtBlock<PolkadotConfig>;

/// Questions in flight at once while reading storage, where every neuron takes some of its own.
const READS_AT_ONCE: usize = 16;

/// What was read.
pub(crate) struct Reading {
    pub(crate) metagraph: Metagraph,
    /// Whether there is such a subnet at all.
    pub(crate) exists: bool,
    /// The TLS keys that are published at the block; `None` if they were not asked for, or not told.
    pub(crate) tls_keys: Option<HashMap<Hotkey, TlsKeyPin>>,
}

/// Whether the published TLS keys are read, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsKeys {
    Read,
    Leave,
}

/// The metagraph of `netuid` at the latest finalized block.
pub(crate) async fn metagraph(
    client: &OnlineClient<PolkadotConfig>,
    netuid: u16,
    times: Times,
    tls_keys: TlsKeys,
) -> Result<Reading, ChainError> {
    let doing = "while reading a metagraph";
    tokio::time::timeout(times.operation, unbounded(client, netuid, times.call, tls_keys))
        .await
        .unwrap_or(Err(NodeError::TimedOut { doing, after: times.operation }.into()))
}

async fn unbounded(
    client: &OnlineClient<PolkadotConfig>,
    netuid: u16,
    call: Duration,
    tls_keys: TlsKeys,
) -> Result<Reading, ChainError> {
    let at = within(call, "for the latest block", client.at_current_block()).await?;
    let found = match by_runtime_call(&at, netuid, call).await {
        Err(ChainError::Node(fault @ (NodeError::Refused { .. } | NodeError::Garbage { .. }))) => {
            tracing::debug!(netuid, %fault, "no metagraph by the runtime call; reading storage");
            from_storage(&at, netuid, call).await.map_err(|err| match err {
                err @ (ChainError::NotInRuntime { .. } | ChainError::TooManyNeurons { .. }) => err,
                _ => fault.into(),
            })?
        }
        result => result?,
    };
    // A subnet that is not there looks like one without neurons.
    let exists = !found.is_empty() || exists(&at, netuid, call).await?;
    let count = found.len();
    let neurons: Vec<_> = found.into_iter().filter_map(ChainNeuron::into_info).collect();
    if neurons.len() < count {
        tracing::debug!(netuid, left_out = count - neurons.len(), "neurons without a hotkey are left out");
    }
    let n = u16::try_from(neurons.len()).unwrap_or(u16::MAX);
    let metagraph = Metagraph { netuid, neurons, n, block: at.block_number() };
    let tls_keys = match tls_keys {
        TlsKeys::Read => published_keys(&at, netuid, call).await,
        TlsKeys::Leave => None,
    };
    Ok(Reading { metagraph, exists, tls_keys })
}

/// The TLS keys at the block. That they cannot be read is no reason to do without the neurons.
async fn published_keys(at: &AtBlock, netuid: u16, call: Duration) -> Option<HashMap<Hotkey, TlsKeyPin>> {
    let doing = "for the TLS keys of a subnet";
    let read = tokio::time::timeout(call, tls_key_pins(at, netuid, call))
        .await
        .unwrap_or(Err(NodeError::TimedOut { doing, after: call }.into()));
    read.inspect_err(|error| tracing::warn!(netuid, %error, "TLS keys not read; the last ones stay")).ok()
}

async fn by_runtime_call(at: &AtBlock, netuid: u16, call: Duration) -> Result<Vec<ChainNeuron>, ChainError> {
    const DOING: &str = "for the neurons of a subnet";
    let function = format!("{}_{}", neurons::API, neurons::FUNCTION);
    let argument = netuid.to_le_bytes();
    let answer = within(call, DOING, at.runtime_apis().call_raw(&function, Some(&argument))).await?;
    neurons::decode(&answer, at.metadata_ref(), netuid).map_err(|unread| unreadable(DOING, netuid, unread))
}

fn unreadable(doing: &'static str, netuid: u16, unread: Unread) -> ChainError {
    match unread {
        Unread::TooMany(neurons) => ChainError::TooManyNeurons { netuid, neurons },
        Unread::Malformed(reason) => NodeError::Garbage { doing, reason }.into(),
    }
}

async fn exists(at: &AtBlock, netuid: u16, call: Duration) -> Result<bool, ChainError> {
    match entry::<bool>(at, "NetworksAdded", (netuid,), call).await {
        Ok(added) => Ok(added.unwrap_or(false)),
        // Then it cannot be told apart, and an empty subnet is what was answered.
        Err(ChainError::NotInRuntime { .. }) => Ok(true),
        Err(err) => Err(err),
    }
}

async fn from_storage(at: &AtBlock, netuid: u16, call: Duration) -> Result<Vec<ChainNeuron>, ChainError> {
    let n = entry::<u16>(at, "SubnetworkN", (netuid,), call).await?.unwrap_or(0);
    if u64::from(n) > NEURONS_MAX {
        return Err(ChainError::TooManyNeurons { netuid, neurons: n.into() });
    }
    let permits = entry::<Vec<bool>>(at, "ValidatorPermit", (netuid,), call).await?.unwrap_or_default();
    let active = entry::<Vec<bool>>(at, "Active", (netuid,), call).await?.unwrap_or_default();
    let flag = |flags: &[bool], uid: u16| flags.get(usize::from(uid)).copied().unwrap_or(false);
    let (permits, active) = (&permits, &active);
    stream::iter(0..n)
        .map(|uid| async move {
            let Some(hotkey) = entry::<[u8; 32]>(at, "Keys", (netuid, uid), call).await? else {
                return Ok(None);
            };
            let axon = entry::<Axon>(at, "Axons", (netuid, hotkey), call).await?.unwrap_or_default();
            Ok(Some(ChainNeuron {
                hotkey,
                uid,
                active: flag(active, uid),
                axon,
                stake: stake(at, netuid, hotkey, call).await?,
                validator_permit: flag(permits, uid),
            }))
        })
        .buffered(READS_AT_ONCE)
        .try_filter_map(|neuron| async move { Ok(neuron) })
        .try_collect()
        .await
}

/// A hotkey's alpha; 0 from runtimes that keep stake elsewhere.
async fn stake(at: &AtBlock, netuid: u16, hotkey: [u8; 32], call: Duration) -> Result<u64, ChainError> {
    match entry::<u64>(at, "TotalHotkeyAlpha", (hotkey, netuid), call).await {
        Ok(stake) => Ok(stake.unwrap_or(0)),
        Err(ChainError::NotInRuntime { .. }) => Ok(0),
        Err(err) => Err(err),
    }
}

pub(crate) const PALLET: &str = "SubtensorModule";

/// What a storage entry is made of, if keys and values of those types can be dealt with at a bounded cost.
pub(crate) fn storage_info<'a>(
    at: &'a AtBlock,
    name: &'static str,
    doing: &'static str,
) -> Result<StorageInfo<'a, u32>, ChainError> {
    let metadata = at.metadata_ref();
    let missing = |_| ChainError::NotInRuntime { spec_version: at.spec_version(), what: name };
    let info = metadata.storage_info(PALLET, name).map_err(missing)?;
    let types = info.keys.iter().map(|key| key.key_id).chain([info.value_id]);
    for id in types {
        layout::check(metadata.types(), id)
            .map_err(|why| NodeError::Garbage { doing, reason: why.to_owned() })?;
    }
    Ok(info)
}

/// The value of a storage entry, if there is one at these keys.
pub(crate) async fn entry<T: DecodeAsType>(
    at: &AtBlock,
    name: &'static str,
    keys: impl IntoEncodableValues,
    call: Duration,
) -> Result<Option<T>, ChainError> {
    const DOING: &str = "for a storage value";
    let metadata = at.metadata_ref();
    let garbage = |reason: String| NodeError::Garbage { doing: DOING, reason: printable(reason) };
    let info = storage_info(at, name, DOING)?;
    let key = subxt::ext::frame_decode::storage::encode_storage_key_with_info(
        PALLET,
        name,
        keys,
        &info,
        metadata.types(),
    )
    .map_err(|err| garbage(err.to_string()))?;
    let fetched = async {
        match at.storage().fetch_raw(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::NoValueFound) => Ok(None),
            Err(err) => Err(err),
        }
    };
    let Some(bytes) = within(call, DOING, fetched).await? else { return Ok(None) };
    let value = neurons::decode_value(&bytes, metadata.types(), info.value_id);
    value.map(Some).map_err(|unread| unreadable(DOING, 0, unread))
}
