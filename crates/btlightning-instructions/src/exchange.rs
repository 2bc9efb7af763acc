//! A query and its answer: a client and a server in one process, on one thread, on a simulated network whose time is
//! virtual. The miner answers with what it was asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use btlightning::server::Handler;
use btlightning::transport::network::Network;
use btlightning::{
    AsyncSynapseHandler, LightningClient, LightningClientConfig, LightningServer, LightningServerConfig,
    QuicAxonInfo, QuicRequest, Sr25519Signer,
};
use btlightning_proto::identity::Keypair;
use btlightning_testkit::{SimNet, keys};
use quinn::AsyncUdpSocket;
use rmpv::Value;

use crate::Failure;
use crate::payload::{Query, in_many_orders};

const VALIDATOR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const MINER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 8443;

/// The published calls: maps of dynamic values.
pub(crate) fn dynamic_1k(runs: u64) -> Result<(), Failure> {
    in_virtual_time(async {
        let subnet = Subnet::start().await?;
        let queries = in_many_orders(&Query::new())?;
        for (run, query) in (0..runs).zip(queries.iter().cycle()) {
            let request = QuicRequest::new("dynamic".into(), query.clone());
            let answer = subnet.validator.query_axon(subnet.miner.clone(), request).await?;
            if run == 0 && (!answer.success || answer.data != *query) {
                return Err("the answer is not the query".into());
            }
        }
        Ok(())
    })
}

/// The newer calls: values of one's own types.
pub(crate) fn typed_1k(runs: u64) -> Result<(), Failure> {
    in_virtual_time(async {
        let subnet = Subnet::start().await?;
        let query = Query::new();
        for run in 0..runs {
            let answer = subnet.validator.call::<_, Query>(&subnet.miner, "typed", &query).await?;
            if run == 0 && answer.value != query {
                return Err("the answer is not the query".into());
            }
        }
        Ok(())
    })
}

fn in_virtual_time(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(work)
}

/// A validator that is connected to a miner.
struct Subnet {
    validator: LightningClient,
    miner: QuicAxonInfo,
}

impl Subnet {
    async fn start() -> Result<Self, Failure> {
        let net = SimNet::new(1);
        let hotkey = |name| Keypair::from_seed(keys::seed(name)).hotkey().to_string();

        let config = LightningServerConfig::default();
        let host = Arc::new(Host { net: net.clone(), ip: MINER });
        let mut server =
            LightningServer::with_network(hotkey("miner"), MINER.to_string(), PORT, config, host)?;
        server.set_miner_keypair(keys::seed("miner"));
        server.register("typed", Handler::typed(|_, query: Query| async move { Ok::<_, String>(query) }));
        server.register_async_synapse_handler("dynamic".into(), Arc::new(Echo)).await?;
        server.start().await?;
        tokio::spawn(async move { server.serve_forever().await });

        let host = Arc::new(Host { net, ip: VALIDATOR });
        let config = LightningClientConfig::default();
        let mut validator = LightningClient::with_network(hotkey("validator"), config, host)?;
        validator.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed("validator"))));
        let miner = QuicAxonInfo::new(hotkey("miner"), MINER.to_string(), PORT, 4);
        validator.initialize_connections(vec![miner.clone()]).await?;
        Ok(Self { validator, miner })
    }
}

/// A host's way to the simulated network.
#[derive(Debug)]
struct Host {
    net: SimNet,
    ip: IpAddr,
}

impl Network for Host {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if addr.is_ipv4() != self.ip.is_ipv4() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(self.net.bind(SocketAddr::new(self.ip, addr.port()))?)
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

struct Echo;

#[async_trait]
impl AsyncSynapseHandler for Echo {
    async fn handle(
        &self,
        _synapse_type: &str,
        data: HashMap<String, Value>,
    ) -> btlightning::Result<HashMap<String, Value>> {
        Ok(data)
    }
}
