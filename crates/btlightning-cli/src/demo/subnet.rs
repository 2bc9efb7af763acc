//! The chain of the demo, an in-memory Subtensor, and the one subnet on it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use btlightning::Hotkey;
use btlightning::metagraph::{
    self, ChainConfig, MetagraphWatch, Network, PublishError, Published, SubnetPermits, TLS_KEY_PIN_ALGORITHM,
};
use btlightning_testkit::chain::{
    Axon, Certificate, Chain, ChainError, METADATA_VARIABLE, MetadataError, Neuron,
};

use super::miner::Miner;
use super::report::{Outcome, expect};

pub(super) const NETUID: u16 = 1;

/// How often the metagraph is read without being asked to: the default of programs that follow mainnet.
pub(super) const SYNC_INTERVAL: Duration = Duration::from_secs(600);

/// How long a question to the chain may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The chain, and how the miners see it.
pub(super) struct Subnet {
    pub(super) chain: Chain,
    /// What the miners know of the subnet. They are one program here, so one of them reads for all.
    watch: MetagraphWatch,
}

/// How an address came to be on the chain.
pub(super) enum Announced {
    /// By an extrinsic that the miner has signed.
    Signed {
        block: u64,
        after: Duration,
        /// The extrinsic had to wait for this many blocks.
        waited_blocks: u64,
    },
    /// The demo has written it there.
    Written,
}

impl Subnet {
    /// Starts a chain whose subnet has these hotkeys; validators come with their stake, in rao.
    pub(super) async fn start(validators: &[(Hotkey, u64)], miners: &[Hotkey]) -> Outcome<Self> {
        let chain = Chain::builder().start().await.map_err(advice)?;
        chain.update(|state| {
            let subnet = state.add_subnet(NETUID);
            let coldkey = subnet.owner_coldkey;
            for (hotkey, stake) in validators {
                subnet.register(Neuron::new(*hotkey.as_bytes(), coldkey).validating(*stake));
            }
            for hotkey in miners {
                subnet.register(Neuron::new(*hotkey.as_bytes(), coldkey));
            }
        });
        let client = metagraph::Chain::new(ChainConfig::new(&Network::parse(&chain.url())?))?;
        let watch = MetagraphWatch::start(client, NETUID, SYNC_INTERVAL)?;
        watch.first(PATIENCE).await?;
        Ok(Self { chain, watch })
    }

    /// Who may validate, as the miners last read it.
    pub(super) fn permits(&self) -> SubnetPermits {
        SubnetPermits::of(&self.watch)
    }

    /// Has the miners read the subnet now.
    pub(super) async fn reread(&self) -> Outcome<metagraph::Metagraph> {
        Ok(self.watch.refreshed(PATIENCE).await?.metagraph.clone())
    }

    /// Puts the miner's address on the chain, and checks that it is there.
    pub(super) async fn announce(&self, miner: &Miner) -> Outcome<Announced> {
        let announced = match miner.addr.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => self.write_axon(miner),
            _ => self.publish_axon(miner).await?,
        };
        let neuron = self.chain.neuron(NETUID, miner.hotkey.as_bytes());
        let address = neuron.and_then(|neuron| neuron.axon?.address());
        expect(address == Some(miner.addr), "the chain has the address that the miner has announced")?;
        Ok(announced)
    }

    async fn publish_axon(&self, miner: &Miner) -> Outcome<Announced> {
        let mut waited_blocks = 0;
        loop {
            let began = Instant::now();
            match miner.publish_axon(self.watch.chain(), NETUID).await {
                Ok(Published::Included { block_number, .. }) => {
                    let after = began.elapsed();
                    return Ok(Announced::Signed { block: block_number, after, waited_blocks });
                }
                Ok(Published::Unchanged) => return Err("the chain had the address before".into()),
                Err(PublishError::RateLimited { blocks_left, .. }) if waited_blocks == 0 => {
                    waited_blocks = blocks_left;
                    self.chain.produce_blocks(blocks_left);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the extrinsic would have done, had it been taken.
    fn write_axon(&self, miner: &Miner) -> Announced {
        let certificate = miner
            .tls_key_pin()
            .map(|pin| Certificate { public_key: pin.as_bytes().to_vec(), algorithm: TLS_KEY_PIN_ALGORITHM });
        self.chain.update(|state| {
            if let Some(neuron) = state.subnet(NETUID).by_hotkey_mut(miner.hotkey.as_bytes()) {
                neuron.axon = Some(Axon::at(miner.addr));
                neuron.certificate = certificate;
            }
        });
        Announced::Written
    }

    /// Takes a validator's permit away.
    pub(super) fn take_permit(&self, hotkey: &Hotkey) {
        self.chain.update(|state| {
            if let Some(neuron) = state.subnet(NETUID).by_hotkey_mut(hotkey.as_bytes()) {
                neuron.validator_permit = false;
            }
        });
    }
}

/// Says what to do about a chain that does not start.
fn advice(error: ChainError) -> String {
    match error {
        ChainError::Metadata(MetadataError::Missing { .. }) => format!(
            "the chain does not start: {error}\n\
             It wants the metadata of mainnet's runtime, which cargo fetches from crates.io the first time, in a package \
             of its own. Without a way to crates.io, copy metadata/finney.scale of that package here, and set \
             {METADATA_VARIABLE} to its path."
        ),
        error => format!("the chain does not start: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_metadata_it_is_said_where_to_get_it() {
        let missing = MetadataError::Missing { registry: "/cargo/src".into(), why: "no network".to_owned() };
        let advice = advice(missing.into());
        for words in ["no network", "cargo info", "metadata/finney.scale", METADATA_VARIABLE] {
            assert!(advice.contains(words), "{words}: {advice}");
        }
    }
}
