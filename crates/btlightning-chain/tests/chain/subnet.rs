//! A subnet to read, and how to read it.

use std::net::SocketAddr;
use std::time::Duration;

use btlightning_chain::chain::{Backend, Chain, ChainConfig};
use btlightning_chain::error::ChainError;
use btlightning_chain::metagraph::Metagraph;
use btlightning_chain::network::Network;
use btlightning_testkit::chain::{self as testkit, AccountId, Axon, Neuron};
use btlightning_testkit::keys::seed;

pub(crate) const NETUID: u16 = 2;

/// Longer than anything takes that goes well, on a machine that is busy with something else.
pub(crate) const AMPLE: Duration = Duration::from_secs(60);

pub(crate) fn account(name: &str) -> AccountId {
    seed(name)
}

pub(crate) fn ss58(name: &str) -> String {
    testkit::ss58(&account(name))
}

pub(crate) fn neuron(name: &str) -> Neuron {
    Neuron::new(account(name), account("owner"))
}

pub(crate) fn miner(name: &str, address: &str) -> Neuron {
    neuron(name).serving(address.parse::<SocketAddr>().unwrap())
}

/// A chain whose subnet has a validator and neurons of every kind that a choice of miners has to tell apart.
pub(crate) async fn populated(builder: testkit::ChainBuilder) -> testkit::Chain {
    let chain = builder.start().await.unwrap();
    chain.update(|state| {
        let subnet = state.add_subnet(NETUID);
        let inactive = Neuron { active: false, ..miner("inactive", "8.8.8.8:8091") };
        let reset = Neuron { axon: Some(Axon::reset()), ..neuron("reset") };
        let other = Axon { protocol: 0, ..Axon::at("8.8.4.5:8091".parse().unwrap()) };
        let other = Neuron { axon: Some(other), ..neuron("other-protocol") };
        for neuron in [
            miner("validator", "9.9.9.9:9000").validating(5_000_000_000),
            miner("miner", "8.8.4.4:8091"),
            inactive,
            miner("v6", "[2606:4700::1111]:8091"),
            reset,
            neuron("silent"),
            miner("private", "10.0.0.1:8091"),
            miner("loopback", "127.0.0.2:8091"),
            other,
        ] {
            subnet.register(neuron);
        }
    });
    chain
}

/// The nodes at `urls`, asked with timeouts that only failing nodes meet.
pub(crate) fn config<T: AsRef<str>>(urls: impl IntoIterator<Item = T>) -> ChainConfig {
    let mut config = ChainConfig::new(&Network::from_endpoints(urls).unwrap());
    config.connect_timeout = AMPLE;
    config.call_timeout = AMPLE;
    config.operation_timeout = AMPLE;
    config
}

pub(crate) fn asking<T: AsRef<str>>(urls: impl IntoIterator<Item = T>) -> Chain {
    Chain::new(config(urls)).unwrap()
}

pub(crate) fn asking_by(backend: Backend, url: String) -> Chain {
    let mut config = config([url]);
    config.backend = backend;
    Chain::new(config).unwrap()
}

/// Name, axon and permit of each neuron, to compare.
pub(crate) fn summary(metagraph: &Metagraph) -> Vec<(String, String, u16, bool)> {
    let neurons = metagraph.neurons.iter();
    neurons.map(|n| (n.hotkey.clone(), n.axon_ip.clone(), n.axon_port, n.validator_permit)).collect()
}

/// The metagraph as of `block` or later. A node that is followed says a little later than it is that a block is final.
pub(crate) async fn read_at(chain: &Chain, block: u64) -> Metagraph {
    let read = async {
        loop {
            match chain.metagraph(NETUID).await {
                Ok(metagraph) if metagraph.block >= block => return metagraph,
                Ok(_) | Err(ChainError::NoSuchSubnet { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(AMPLE, read).await.unwrap()
}
