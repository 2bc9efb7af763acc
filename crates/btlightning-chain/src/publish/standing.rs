//! What the chain has of a hotkey on a subnet at one block.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use subxt::ext::scale_decode::DecodeAsType;
use subxt::{OnlineClient, PolkadotConfig};

use super::certificate::{self, Certificate};
use super::{Axon, Wanted, fault, garbage};
use crate::error::{ChainError, NodeError};
use crate::neurons::decode_value;
use crate::node::within;
use crate::reading::{AtBlock, PALLET, entry};

/// How long a block takes where the runtime does not say.
const BLOCK_TIME: Duration = Duration::from_secs(12);

/// What a runtime without a limit of its own has.
const RATE_LIMIT_BLOCKS: u64 = 50;

/// Which block counts as the chain's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// The best block, which may yet be replaced.
    Best,
    /// The last one that cannot be.
    Finalized,
}

impl Head {
    /// A client at that block.
    pub(super) async fn at(
        self,
        client: &OnlineClient<PolkadotConfig>,
        call: Duration,
    ) -> Result<AtBlock, ChainError> {
        const DOING: &str = "for the latest block";
        if self == Self::Finalized {
            return within(call, DOING, client.at_current_block()).await;
        }
        let best = async {
            let mut blocks = client.stream_best_blocks().await.map_err(|err| fault(DOING, err))?;
            let block = blocks.next().await.ok_or_else(|| lost(DOING))?;
            let block = block.map_err(|err| fault(DOING, err))?;
            block.at().await.map_err(|err| fault(DOING, err))
        };
        tokio::time::timeout(call, best)
            .await
            .unwrap_or(Err(NodeError::TimedOut { doing: DOING, after: call }))
            .map_err(ChainError::from)
    }
}

pub(super) fn lost(doing: &'static str) -> NodeError {
    NodeError::Lost { doing, reason: "the subscription ended".to_owned() }
}

/// An axon in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct Record {
    /// When it was served.
    block: u64,
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
}

impl Record {
    fn axon(&self) -> Axon {
        let ip = match (self.ip_type, u32::try_from(self.ip)) {
            (6, _) | (_, Err(_)) => IpAddr::V6(Ipv6Addr::from(self.ip)),
            (_, Ok(ip)) => IpAddr::V4(Ipv4Addr::from(ip)),
        };
        Axon { ip, port: self.port, protocol: self.protocol, version: self.version }
    }
}

/// What the chain has of a hotkey on a subnet.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) block_number: u64,
    pub(super) block_hash: [u8; 32],
    pub(super) is_registered: bool,
    pub(super) block_time: Duration,
    record: Option<Record>,
    pub(super) certificate: Option<Certificate>,
    rate_limit_blocks: u64,
}

impl Standing {
    /// Reads it, `call` a question.
    pub(super) async fn read(
        at: &AtBlock,
        netuid: u16,
        hotkey: &Hotkey,
        call: Duration,
    ) -> Result<Self, ChainError> {
        let key = (netuid, *hotkey.as_bytes());
        // Runtimes from before there were certificates are served all the same.
        let certificate = match entry(at, certificate::ENTRY, key, call).await {
            Err(ChainError::NotInRuntime { .. }) => None,
            read => read?,
        };
        Ok(Self {
            block_number: at.block_number(),
            block_hash: at.block_hash().0,
            is_registered: entry::<u16>(at, "Uids", key, call).await?.is_some(),
            block_time: block_time(at),
            record: entry(at, "Axons", key, call).await?,
            certificate,
            rate_limit_blocks: match entry(at, "ServingRateLimit", (netuid,), call).await? {
                Some(blocks) => blocks,
                None => default_rate_limit(at)?,
            },
        })
    }

    /// Where the hotkey is said to be.
    pub(super) fn axon(&self) -> Option<Axon> {
        self.record.map(|record| record.axon())
    }

    /// The block in which it was said.
    pub(super) fn served_at(&self) -> Option<u64> {
        self.record.map(|record| record.block)
    }

    /// Whether the chain has what is wanted.
    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        let pin = self.certificate.as_ref().and_then(Certificate::pin);
        self.axon().is_some_and(|axon| axon.is_same_place(&wanted.axon))
            && wanted.key.as_ref().is_none_or(|key| pin == *key)
    }

    /// How many blocks have to pass before the next one may have an axon of the hotkey's.
    pub(super) fn blocks_left(&self) -> u64 {
        match self.served_at() {
            None | Some(0) => 0,
            Some(served) => served
                .saturating_add(self.rate_limit_blocks)
                .saturating_sub(self.block_number.saturating_add(1)),
        }
    }
}

/// What the metadata says that an unset limit is.
fn default_rate_limit(at: &AtBlock) -> Result<u64, ChainError> {
    use subxt::ext::frame_decode::storage::StorageTypeInfo;

    let metadata = at.metadata_ref();
    let Ok(info) = metadata.storage_info(PALLET, "ServingRateLimit") else { return Ok(RATE_LIMIT_BLOCKS) };
    let Some(default) = info.default_value.as_ref() else { return Ok(RATE_LIMIT_BLOCKS) };
    decode_value(default, metadata.types(), info.value_id)
        .map_err(|unread| garbage("for the rate limit", &unread).into())
}

/// The length of a slot, in which there is one block.
fn block_time(at: &AtBlock) -> Duration {
    let constant = |pallet: &str, name: &str| {
        let constant = at.metadata_ref().pallet_by_name(pallet)?.constant_by_name(name)?;
        decode_value::<u64>(constant.value(), at.metadata_ref().types(), constant.ty()).ok()
    };
    let millis = constant("Aura", "SlotDuration").filter(|millis| (1..=600_000).contains(millis));
    millis.map_or(BLOCK_TIME, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(block_number: u64, served: Option<u64>, rate_limit_blocks: u64) -> Standing {
        let record =
            served.map(|block| Record { block, version: 1, ip: 1, port: 1, ip_type: 4, protocol: 4 });
        Standing {
            block_number,
            block_hash: [0; 32],
            is_registered: true,
            block_time: BLOCK_TIME,
            record,
            certificate: None,
            rate_limit_blocks,
        }
    }

    #[test]
    fn the_next_block_must_be_as_far_from_the_last_serving_as_the_limit_says() {
        for (block, served, limit, left) in [
            (100, None, 50, 0),
            (100, Some(0), 50, 0),
            (100, Some(100), 0, 0),
            (100, Some(100), 1, 0),
            (100, Some(100), 50, 49),
            (148, Some(100), 50, 1),
            (149, Some(100), 50, 0),
            (10, Some(100), 50, 139),
            (100, Some(100), u64::MAX, u64::MAX - 101),
        ] {
            assert_eq!(standing(block, served, limit).blocks_left(), left, "{block} {served:?} {limit}");
        }
    }

    #[test]
    fn a_record_is_read_as_the_address_that_it_was_made_of() {
        for ip in ["1.2.3.4", "0.0.0.0", "2001:db8::1", "::"] {
            let axon = Axon::new(ip.parse().unwrap(), 8443);
            let (ip, ip_type) = axon.number_and_type();
            let record = Record { block: 1, version: 1, ip, port: 8443, ip_type, protocol: 4 };
            assert_eq!(record.axon(), axon);
        }
    }
}
