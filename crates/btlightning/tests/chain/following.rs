//! A client that follows the metagraph: discovery, miners that move, join, leave and are deregistered.

use std::net::SocketAddr;
use std::time::Duration;

use btlightning::metagraph::{MetagraphMonitorConfig, MinerFilter};
use btlightning::{CallError, LightningClientConfig, LightningError, PeerState};
use btlightning_testkit::chain::{Axon, Neuron};
use tokio::net::UdpSocket;

use crate::world::{
    Miner, NETUID, SELDOM, ask, chain_with, change, client, connected, following, neuron, sorted, subnet_of,
    until, validator, within,
};

#[tokio::test]
async fn a_client_connects_to_every_miner_of_its_subnet_and_to_nobody_else() {
    let (one, two) = (Miner::start("one").await, Miner::start("two").await);
    let inactive = Neuron { active: false, ..two.neuron() };
    let chain = chain_with([
        validator("validator", 9).serving("127.0.0.3:1".parse::<SocketAddr>().unwrap()),
        one.neuron(),
        inactive,
        neuron("silent"),
        Neuron { axon: Some(Axon::reset()), ..neuron("reset") },
    ])
    .await;
    let client = following("validator", subnet_of(&chain)).await;

    assert_eq!(connected(&client.peers()), sorted(vec![one.hotkey, two.hotkey]));
    assert_eq!(client.peers().len(), 2);
    ask(&client, one.hotkey).await.unwrap();
    ask(&client, two.hotkey).await.unwrap();

    let status = client.metagraph_status().unwrap();
    assert_eq!((status.netuid, status.miners, status.sync.neurons), (NETUID, 2, 5));
    assert_eq!(client.metagraph().unwrap().metagraph.n, 5);
    assert!(status.sync.age.unwrap() < SELDOM);
    assert_eq!(status.sync.last_error, None);
}

#[tokio::test]
async fn a_client_stays_in_sync_with_who_moves_joins_leaves_and_is_deregistered() {
    let (moves, leaves, replaced) =
        (Miner::start("moves").await, Miner::start("leaves").await, Miner::start("replaced").await);
    let chain =
        chain_with([validator("validator", 9), moves.neuron(), leaves.neuron(), replaced.neuron()]).await;
    let client = following("validator", subnet_of(&chain)).await;
    assert_eq!(connected(&client.peers()), sorted(vec![moves.hotkey, leaves.hotkey, replaced.hotkey]));

    let (elsewhere, joins, comes) =
        (Miner::start("moves").await, Miner::start("joins").await, Miner::start("comes").await);
    change(&chain, |subnet| {
        subnet.neuron_mut(1).unwrap().axon = Some(Axon::at(elsewhere.addr));
        subnet.neuron_mut(2).unwrap().axon = Some(Axon::reset());
        subnet.replace(3, comes.neuron());
        subnet.register(joins.neuron());
    });
    client.refresh_metagraph();
    let expected = sorted(vec![elsewhere.hotkey, joins.hotkey, comes.hotkey]);
    until(&client, |peers| peers.len() == 3 && connected(peers) == expected).await;
    let moved = client.peers().into_iter().find(|peer| peer.hotkey == moves.hotkey).unwrap();
    assert_eq!(moved.addr.socket_addr().unwrap(), elsewhere.addr);
    for gone in [leaves.hotkey, replaced.hotkey] {
        let error = ask(&client, gone).await.unwrap_err();
        assert!(matches!(error, CallError::UnknownPeer(_)), "{error}");
    }
    // Who has left hears why.
    within(async {
        while leaves.server.get_connection_stats().await.unwrap()["total_connections"] != "0" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    moves.stop().await;
}

#[tokio::test]
async fn miners_that_are_named_by_hand_stay_beside_those_of_the_metagraph() {
    let (listed, named) = (Miner::start("listed").await, Miner::start("named").await);
    let chain = chain_with([validator("validator", 9), listed.neuron()]).await;
    let config = LightningClientConfig { metagraph: Some(subnet_of(&chain)), ..Default::default() };
    let mut client = client("validator", config);
    within(client.initialize_connections(vec![named.axon()])).await.unwrap();
    assert_eq!(connected(&client.peers()), sorted(vec![listed.hotkey, named.hotkey]));

    let later = Miner::start("later").await;
    within(client.initialize_connections(vec![later.axon()])).await.unwrap();
    change(&chain, |subnet| subnet.neuron_mut(1).unwrap().axon = Some(Axon::reset()));
    client.refresh_metagraph();
    let expected = sorted(vec![later.hotkey, named.hotkey]);
    until(&client, |peers| peers.len() == 2 && connected(peers) == expected).await;
    within(client.start_metagraph_monitor(subnet_of(&chain))).await.unwrap();
    assert_eq!(connected(&client.peers()), expected);
}

#[tokio::test]
async fn a_filter_is_the_users_to_set() {
    let (rich, poor) = (Miner::start("rich").await, Miner::start("poor").await);
    let rich_neuron = Neuron { stake: 100, ..rich.neuron() };
    let chain = chain_with([validator("validator", 9), rich_neuron, poor.neuron()]).await;
    let miners = MinerFilter::for_local_network().min_stake(50);
    let config = MetagraphMonitorConfig { miners: Some(miners), ..subnet_of(&chain) };
    let client = following("validator", config).await;
    assert_eq!(connected(&client.peers()), [rich.hotkey]);

    // Another monitor takes the place of the first.
    let only = poor.hotkey.to_string();
    let by_name = MinerFilter::for_local_network()
        .matching(std::sync::Arc::new(move |neuron: &btlightning::NeuronInfo| neuron.hotkey == only));
    let config = MetagraphMonitorConfig { miners: Some(by_name), ..subnet_of(&chain) };
    within(client.start_metagraph_monitor(config)).await.unwrap();
    assert_eq!(connected(&client.peers()), [poor.hotkey]);

    // On a network that is not local, addresses of this machine are nobody's.
    let config = MetagraphMonitorConfig { miners: Some(MinerFilter::default()), ..subnet_of(&chain) };
    within(client.start_metagraph_monitor(config)).await.unwrap();
    assert!(client.peers().is_empty());
}

#[tokio::test]
async fn axons_that_speak_no_quic_do_not_hold_up_the_others() {
    let miner = Miner::start("miner").await;
    // Sockets that are there and say nothing, as an HTTP server's port is to UDP.
    let mut mute = Vec::new();
    let mut neurons = vec![validator("validator", 9), miner.neuron()];
    for number in 0..40 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        neurons.push(neuron(&format!("mute {number}")).serving(socket.local_addr().unwrap()));
        mute.push(socket);
    }
    let chain = chain_with(neurons).await;
    let client = client("validator", LightningClientConfig::default());
    client.open().unwrap();
    let starting = client.start_metagraph_monitor(subnet_of(&chain));
    tokio::pin!(starting);
    // The miner answers while the others are still being dialled.
    let asked = async {
        until(&client, |peers| connected(peers) == [miner.hotkey]).await;
        ask(&client, miner.hotkey).await.unwrap();
    };
    tokio::select! {
        biased;
        () = asked => {}
        _ = &mut starting => panic!("every dial had ended before the one that matters"),
    }
}

#[tokio::test]
async fn an_axon_that_speaks_no_quic_is_probed_ever_more_slowly_however_often_it_is_read() {
    let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let chain =
        chain_with([validator("validator", 9), neuron("mute").serving(mute.local_addr().unwrap())]).await;
    let config = LightningClientConfig {
        connect_timeout: Duration::from_millis(50),
        reconnect_max_retries: 1,
        reconnect_slow_probe_interval: Some(SELDOM),
        ..Default::default()
    };
    let client = client("validator", config);
    client.open().unwrap();
    let often = MetagraphMonitorConfig { sync_interval: Duration::from_millis(5), ..subnet_of(&chain) };
    within(client.start_metagraph_monitor(often)).await.unwrap();
    until(&client, |peers| matches!(peers[0].state, PeerState::BackingOff { failures, .. } if failures >= 2))
        .await;
    let mut changes = client.peer_changes();
    let before = chain.requests().count("NeuronInfoRuntimeApi_get_neurons_lite");
    within(chain.wait_for_request("NeuronInfoRuntimeApi_get_neurons_lite", before + 20)).await;
    let dialled = tokio::time::timeout(Duration::ZERO, changes.next()).await;
    assert!(dialled.is_err(), "twenty syncs have had it dialled: {dialled:?}");
}

#[tokio::test]
async fn an_ipv6_axon_is_followed() {
    let signer = crate::world::signer("six");
    let hotkey = signer.hotkey();
    let mut server = btlightning::LightningServer::new(hotkey.to_string(), "::1".into(), 0).unwrap();
    server.set_miner_signer(Box::new(signer));
    server.start().await.unwrap();
    let addr = server.local_addr().unwrap();
    tokio::spawn(async move { server.serve_forever().await });
    let chain = chain_with([validator("validator", 9), neuron("six").serving(addr)]).await;
    let client = following("validator", subnet_of(&chain)).await;
    assert_eq!(connected(&client.peers()), [hotkey]);
}

#[tokio::test]
async fn miners_that_are_named_by_hand_are_dialled_when_the_chain_is_not_to_be_had() {
    let named = Miner::start("named").await;
    let chain = chain_with([validator("validator", 9)]).await;
    chain.node().stop().await.unwrap();
    let config = LightningClientConfig { metagraph: Some(subnet_of(&chain)), ..Default::default() };
    let mut client = client("validator", config);
    within(client.initialize_connections(vec![named.axon()])).await.unwrap_err();
    until(&client, |peers| connected(peers) == [named.hotkey]).await;
    assert!(client.metagraph_status().is_none());
}

#[tokio::test]
async fn a_monitor_that_cannot_start_says_why_and_is_not_running() {
    let chain = chain_with([validator("validator", 9)]).await;
    let client = client("validator", LightningClientConfig::default());
    let error = client.start_metagraph_monitor(subnet_of(&chain)).await.unwrap_err();
    assert!(error.to_string().contains("endpoint not initialized"), "{error}");
    client.open().unwrap();

    let elsewhere = MetagraphMonitorConfig { netuid: 99, ..subnet_of(&chain) };
    let error = within(client.start_metagraph_monitor(elsewhere)).await.unwrap_err();
    assert!(matches!(error, LightningError::Config(_)), "{error}");
    for (endpoint, words) in [("http://127.0.0.1:1", "ws://"), ("nowhere", "nowhere"), ("", "no network")] {
        let config = MetagraphMonitorConfig::new(NETUID, endpoint, SELDOM);
        let error = within(client.start_metagraph_monitor(config)).await.unwrap_err();
        assert!(matches!(&error, LightningError::Config(why) if why.contains(words)), "{endpoint}: {error}");
    }
    let config = MetagraphMonitorConfig { sync_interval: Duration::ZERO, ..subnet_of(&chain) };
    let error = within(client.start_metagraph_monitor(config)).await.unwrap_err();
    assert!(error.to_string().contains("sync_interval"), "{error}");
    assert!(client.metagraph_status().is_none() && client.metagraph().is_none());
}

#[tokio::test]
async fn who_stops_following_keeps_the_connections_and_who_closes_keeps_nothing() {
    let miner = Miner::start("miner").await;
    let chain = chain_with([validator("validator", 9), miner.neuron()]).await;
    let client = following("validator", subnet_of(&chain)).await;
    client.stop_metagraph_monitor().await;
    assert!(client.metagraph_status().is_none());
    ask(&client, miner.hotkey).await.unwrap();

    within(client.start_metagraph_monitor(subnet_of(&chain))).await.unwrap();
    within(client.close_all_connections()).await.unwrap();
    assert!(client.metagraph_status().is_none() && client.peers().is_empty());
}
