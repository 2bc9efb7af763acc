//! The learned allowlist's life, by the permits and the stake of the chain: learning, enforcing, a stranger, a validator
//! that moves, a permit that is lost. On a simulated network, where everybody has an address of their own; its weeks are in
//! `btlightning-proto`, `tests/sources_weeks.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use btlightning::metagraph::SubnetPermits;
use btlightning::server::{Handler, LearnedSourcesStatus, SourcesMode};
use btlightning::transport::network::Network;
use btlightning::{
    LearnedSources, LightningClient, LightningClientConfig, LightningServer, LightningServerConfig,
    PeerState, QuicAxonInfo,
};
use btlightning_testkit::{Link, SimNet};
use quinn::AsyncUdpSocket;

use crate::world::{
    Ping, account, ask, chain_with, change, connected, hotkey, neuron, signer, until, validator, watch,
    within,
};

const MINER: &str = "10.0.0.2";

/// One host on the simulated network. Its time is real here, for the chain is.
#[derive(Clone)]
struct Host {
    net: SimNet,
    ip: IpAddr,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({})", self.ip)
    }
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

async fn serving(net: &SimNet, sources: &LearnedSources, permits: SubnetPermits) -> Arc<LightningServer> {
    let config = LightningServerConfig::builder()
        .require_validator_permit(true)
        .enforce_source_allowlist(true)
        .handshake_timeout_secs(1)
        .build()
        .unwrap();
    let network = Arc::new(Host { net: net.clone(), ip: MINER.parse().unwrap() });
    let mut server =
        LightningServer::with_network(hotkey("miner").to_string(), MINER.into(), 8443, config, network)
            .unwrap();
    server.set_miner_signer(Box::new(signer("miner")));
    server.set_validator_permit_resolver(Box::new(permits));
    server.learn_sources(sources.clone());
    server.register("echo", Handler::typed(|_, ping: Ping| async move { Ok::<_, String>(ping) }));
    server.start().await.unwrap();
    let server = Arc::new(server);
    let serving = server.clone();
    tokio::spawn(async move { serving.serve_forever().await });
    server
}

/// A client at `ip` that has tried to connect to the miner.
async fn coming(net: &SimNet, name: &str, ip: &str) -> LightningClient {
    let config = LightningClientConfig {
        connect_timeout: Duration::from_secs(1),
        reconnect_initial_backoff: Duration::from_millis(20),
        reconnect_max_backoff: Duration::from_millis(50),
        ..Default::default()
    };
    let network = Arc::new(Host { net: net.clone(), ip: ip.parse().unwrap() });
    let mut client = LightningClient::with_network(hotkey(name).to_string(), config, network).unwrap();
    client.set_signer(Box::new(signer(name)));
    let axon = QuicAxonInfo::new(hotkey("miner").to_string(), MINER.into(), 8443, 4);
    within(client.initialize_connections(vec![axon])).await.unwrap();
    client
}

async fn until_status(sources: &LearnedSources, holds: impl Fn(&LearnedSourcesStatus) -> bool) {
    within(async {
        while !holds(&sources.status()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn is_allowed(sources: &LearnedSources, ip: &str) -> bool {
    let ip: IpAddr = ip.parse().unwrap();
    sources.entries().iter().any(|entry| entry.ip == ip && entry.is_allowed)
}

#[tokio::test]
async fn the_allowlist_lives_by_what_the_chain_says() {
    let net = SimNet::new(1);
    net.set_default_link(Link { delay: Duration::from_millis(1), ..Link::default() });
    let chain = chain_with([validator("large", 900), validator("small", 100), neuron("miner")]).await;
    let watch = watch(&chain);
    let permits = SubnetPermits::of(&watch);
    let sources = LearnedSources::builder(permits.clone())
        .learning_time_min(Duration::ZERO)
        .coverage_to_enforce_permille(950)
        .visitors_per_minute(60)
        .visitors_burst(2)
        .build()
        .unwrap();
    within(watch.first_attempt()).await.unwrap();
    let server = serving(&net, &sources, permits).await;
    until_status(&sources, |status| status.permitted_hotkeys == 2).await;

    // It learns, and lets everybody try.
    let large = coming(&net, "large", "10.0.1.1").await;
    ask(&large, hotkey("miner")).await.unwrap();
    until_status(&sources, |status| status.coverage_permille == 900).await;
    assert!(server.is_source_enforcement_bypassed().await);
    let small = coming(&net, "small", "10.0.1.2").await;
    ask(&small, hotkey("miner")).await.unwrap();
    until_status(&sources, |status| status.mode == SourcesMode::Enforcing).await;
    assert_eq!(server.get_allowed_source_count().await, 2);

    // Enough is known: a stranger may show who it is once, and then hears nothing.
    let stranger = coming(&net, "stranger", "10.0.2.1").await;
    assert!(matches!(stranger.peers()[0].state, PeerState::Refused { .. }), "{:?}", stranger.peers());
    drop(stranger);
    let again = coming(&net, "stranger", "10.0.2.1").await;
    assert!(matches!(again.peers()[0].state, PeerState::BackingOff { .. }), "{:?}", again.peers());
    assert!(!is_allowed(&sources, "10.0.2.1"));
    drop(again);

    // A validator that has moved gets one of the few visits, and is on the list from then on.
    drop(small);
    let moved = coming(&net, "small", "10.0.3.3").await;
    until(&moved, |peers| connected(peers) == [hotkey("miner")]).await;
    ask(&moved, hotkey("miner")).await.unwrap();
    assert!(is_allowed(&sources, "10.0.3.3"));

    // Who loses the permit on the chain is closed, and its addresses count no longer.
    change(&chain, |subnet| subnet.by_hotkey_mut(&account("small")).unwrap().validator_permit = false);
    watch.refresh_now();
    until(&moved, |peers| !matches!(peers[0].state, PeerState::Connected { .. })).await;
    until_status(&sources, |status| status.permitted_hotkeys == 1).await;
    assert!(!is_allowed(&sources, "10.0.3.3") && is_allowed(&sources, "10.0.1.1"));
    ask(&large, hotkey("miner")).await.unwrap();

    // A chain that is gone changes nothing.
    chain.node().stop().await.unwrap();
    within(watch.refreshed(Duration::from_secs(30))).await.unwrap_err();
    assert_eq!(sources.status().mode, SourcesMode::Enforcing);
    ask(&large, hotkey("miner")).await.unwrap();
}
