//! [`Metagraph`], the neurons of a subnet at one block.

use std::collections::HashSet;
use std::net::IpAddr;

use btlightning_proto::error;
use btlightning_proto::peers::QuicAxonInfo;
use subxt::{OnlineClient, PolkadotConfig};

use crate::address::is_valid_ip;
use crate::chain::Chain;
use crate::error::{ChainError, NodeError};
use crate::miners::MinerFilter;
use crate::reading::{self, Reading, TlsKeys};

/// The most neurons read of one subnet; the chain's own limit is far below.
pub const NEURONS_MAX: u64 = 16_384;

/// A neuron of a subnet as the chain has it. Its axon is what its owner announced, true or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeuronInfo {
    /// Its number in the subnet. It passes to another hotkey when this one is deregistered.
    pub uid: u16,
    /// The hotkey as SS58 text.
    pub hotkey: String,
    /// The hotkey's stake in the subnet, in rao of the subnet's alpha, not TAO.
    pub stake: u64,
    /// Whether it set weights lately. Miners that set none are not active, however well they serve.
    pub is_active: bool,
    /// The IP address it announced as text; empty if none. `0.0.0.0` is what official tools announce to take one back.
    pub axon_ip: String,
    /// The port it announced; 0 if none.
    pub axon_port: u16,
    /// The protocol number it announced. 4 is QUIC, and also what official tools announce for plain HTTP.
    pub axon_protocol: u8,
    /// Whether it may validate.
    pub validator_permit: bool,
}

/// The neurons of a subnet at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metagraph {
    /// The subnet.
    pub netuid: u16,
    /// Its neurons in the order of their uids.
    pub neurons: Vec<NeuronInfo>,
    /// How many neurons there are.
    pub n: u16,
    /// The finalized block that was read; 0 before the first sync.
    pub block: u64,
}

impl Metagraph {
    /// The metagraph of a subnet, still empty.
    pub fn new(netuid: u16) -> Self {
        Self { netuid, neurons: Vec::new(), n: 0, block: 0 }
    }

    /// Reads the subnet anew at the latest finalized block, over a client of the caller's own.
    ///
    /// [`Chain::metagraph`](crate::chain::Chain::metagraph) does the same with fail-over. A sync that fails leaves the
    /// metagraph as it was.
    ///
    /// # Errors
    /// `Connection` when the node does not answer, within 30 seconds a call and two minutes in all, or refuses;
    /// `Serialization` when its answer cannot be read. A subnet that does not exist has no neurons and is no error, as
    /// in btlightning 0.2.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the metagraph as it was.
    pub async fn sync(&mut self, client: &OnlineClient<PolkadotConfig>) -> error::Result<()> {
        let times = reading::Times::default();
        *self = reading::metagraph(client, self.netuid, times, TlsKeys::Leave).await?.metagraph;
        Ok(())
    }

    /// The neurons that [`MinerFilter`]'s default counts as QUIC miners.
    pub fn quic_miners(&self) -> Vec<QuicAxonInfo> {
        self.miners(&MinerFilter::default())
    }

    /// The neurons that `filter` counts as miners, in the order of their uids.
    pub fn miners(&self, filter: &MinerFilter) -> Vec<QuicAxonInfo> {
        self.neurons.iter().filter(|neuron| filter.accepts(neuron)).map(QuicAxonInfo::from).collect()
    }

    /// The addresses that holders of a validator permit announce, as far as the internet can reach them.
    ///
    /// Most validators announce none, so this is no list of where validators come from.
    pub fn validator_axon_ips(&self) -> HashSet<IpAddr> {
        self.neurons
            .iter()
            .filter(|neuron| neuron.validator_permit && is_valid_ip(&neuron.axon_ip))
            .filter_map(|neuron| neuron.axon_ip.parse().ok())
            .collect()
    }

    /// The neuron of a uid.
    pub fn get_neuron(&self, uid: u16) -> Option<&NeuronInfo> {
        self.neurons.iter().find(|neuron| neuron.uid == uid)
    }

    /// The uid of a hotkey.
    pub fn get_uid_by_hotkey(&self, hotkey: &str) -> Option<u16> {
        self.neurons.iter().find(|neuron| neuron.hotkey == hotkey).map(|neuron| neuron.uid)
    }
}

impl Chain {
    /// The metagraph of a subnet at the latest finalized block.
    ///
    /// One block is read throughout. Nodes that fail are failed over, each endpoint at most once more than it was
    /// connected already; each may take up to [`ChainConfig::operation_timeout`](crate::chain::ChainConfig).
    ///
    /// # Errors
    /// [`ChainError::NoNode`] when no node could answer; [`ChainError::NoSuchSubnet`],
    /// [`ChainError::TooManyNeurons`] and [`ChainError::NotInRuntime`] are the chain's own answers.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the answer.
    pub async fn metagraph(&self, netuid: u16) -> Result<Metagraph, ChainError> {
        Ok(self.read_from(netuid, 0, TlsKeys::Leave).await?.metagraph)
    }

    /// The metagraph of a subnet that is there, from a node that has reached the block `seen`.
    pub(crate) async fn read_from(
        &self,
        netuid: u16,
        seen: u64,
        tls_keys: TlsKeys,
    ) -> Result<Reading, ChainError> {
        let times =
            reading::Times { call: self.config().call_timeout, operation: self.config().operation_timeout };
        let read = self.run(move |client| async move {
            let read = reading::metagraph(&client, netuid, times, tls_keys).await?;
            let block = read.metagraph.block;
            if block < seen { Err(NodeError::Behind { block, seen }.into()) } else { Ok(read) }
        });
        let read = read.await?;
        if read.exists { Ok(read) } else { Err(ChainError::NoSuchSubnet { netuid }) }
    }
}
