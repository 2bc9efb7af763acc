//! What is read: the same by every way there is.

use btlightning_chain::chain::{Backend, connect_subtensor};
use btlightning_chain::error::{ChainError, NodeError};
use btlightning_chain::metagraph::{Metagraph, NeuronInfo};
use btlightning_chain::miners::{MinerFilter, permitted_hotkeys};
use btlightning_chain::subxt::PolkadotConfig;
use btlightning_proto::error::LightningError;
use btlightning_testkit::chain::{Chain, RpcMethods};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::subnet::{AMPLE, NETUID, account, asking, asking_by, neuron, populated, ss58};

#[tokio::test]
async fn a_metagraph_has_what_the_chain_has() {
    let chain = populated(Chain::builder()).await;
    let metagraph = asking([chain.url()]).metagraph(NETUID).await.unwrap();
    assert_eq!((metagraph.netuid, metagraph.n), (NETUID, 9));
    assert_eq!(metagraph.block, chain.finalized_number());
    let validator = NeuronInfo {
        uid: 0,
        hotkey: ss58("validator"),
        stake: 5_000_000_000,
        is_active: true,
        axon_ip: "9.9.9.9".into(),
        axon_port: 9000,
        axon_protocol: 4,
        validator_permit: true,
    };
    assert_eq!(metagraph.neurons[0], validator);
    assert_eq!(metagraph.get_neuron(0), Some(&validator));
    assert_eq!(metagraph.get_uid_by_hotkey(&ss58("v6")), Some(3));
    assert_eq!(metagraph.get_uid_by_hotkey(&ss58("nobody")), None);
    let silent = metagraph.get_neuron(5).unwrap();
    assert_eq!((silent.axon_ip.as_str(), silent.axon_port, silent.axon_protocol), ("", 0, 0));
    assert!(!metagraph.neurons[2].is_active);
    assert_eq!(permitted_hotkeys(&metagraph, 0), [(ss58("validator").parse().unwrap(), 5_000_000_000)]);
    assert_eq!(permitted_hotkeys(&metagraph, 5_000_000_001), []);
    assert_eq!(
        Vec::from_iter(metagraph.validator_axon_ips()),
        ["9.9.9.9".parse::<std::net::IpAddr>().unwrap()]
    );
}

#[tokio::test]
async fn miners_are_chosen_by_what_they_announce_and_as_the_user_says() {
    let chain = populated(Chain::builder()).await;
    let metagraph = asking([chain.url()]).metagraph(NETUID).await.unwrap();
    let chosen = |filter: &MinerFilter| -> Vec<String> {
        let names = ["validator", "miner", "inactive", "v6", "private", "loopback", "other-protocol"];
        let miners = metagraph.miners(filter);
        let name = |hotkey: &str| names.iter().find(|name| ss58(name) == hotkey).unwrap().to_string();
        miners.iter().map(|miner| name(&miner.hotkey)).collect()
    };
    let default = MinerFilter::default;
    assert_eq!(chosen(&default()), ["miner", "inactive", "v6"]);
    assert_eq!(metagraph.quic_miners(), metagraph.miners(&default()));
    assert_eq!(chosen(&default().require_active(true)), ["miner", "v6"]);
    assert_eq!(chosen(&default().validator_permit(None)), ["validator", "miner", "inactive", "v6"]);
    assert_eq!(chosen(&default().validator_permit(Some(true))), ["validator"]);
    assert_eq!(chosen(&default().validator_permit(None).min_stake(1)), ["validator"]);
    assert_eq!(chosen(&default().allow_private(true)), ["miner", "inactive", "v6", "private"]);
    assert_eq!(chosen(&MinerFilter::for_local_network()), ["miner", "inactive", "v6", "private", "loopback"]);
    assert_eq!(chosen(&default().protocol(Some(0))), ["other-protocol"]);
    assert_eq!(chosen(&default().protocol(None)), ["miner", "inactive", "v6", "other-protocol"]);
    assert_eq!(chosen(&default().except([ss58("miner")])), ["inactive", "v6"]);
    let odd = default().matching(std::sync::Arc::new(|neuron| {
        assert!(neuron.uid != 1, "a predicate that panics");
        neuron.uid % 2 == 1
    }));
    assert_eq!(chosen(&odd), ["v6"]);
}

#[tokio::test]
async fn both_backends_and_storage_say_the_same() {
    let chain = populated(Chain::builder()).await;
    let legacy = asking_by(Backend::Legacy, chain.url()).metagraph(NETUID).await.unwrap();
    let chain_head = asking_by(Backend::ChainHead, chain.url()).metagraph(NETUID).await.unwrap();
    assert_eq!(legacy, chain_head);
    chain.runtime(|runtime| runtime.remove("NeuronInfoRuntimeApi"));
    for backend in [Backend::Legacy, Backend::ChainHead] {
        let mut from_storage = asking_by(backend, chain.url()).metagraph(NETUID).await.unwrap();
        assert_eq!(from_storage.block, legacy.block + 1);
        from_storage.block = legacy.block;
        assert_eq!(from_storage, legacy, "{backend:?}");
    }
    assert!(chain.requests().count("chainHead_v1_storage") > 0);
    assert!(chain.requests().count("state_getStorage") > 0);
}

#[tokio::test]
async fn the_backend_is_the_one_that_the_node_has() {
    let chain = populated(Chain::builder()).await;
    for (methods, legacy) in
        [(RpcMethods::All, true), (RpcMethods::Legacy, true), (RpcMethods::ChainHead, false)]
    {
        chain.offer(methods);
        let before = chain.requests();
        asking([chain.url()]).metagraph(NETUID).await.unwrap();
        let asked = |name: &str| chain.requests().count(name) > before.count(name);
        assert_eq!(asked("state_call"), legacy, "{methods:?}");
        assert_eq!(asked("chainHead_v1_follow"), !legacy, "{methods:?}");
    }
    assert!(chain.requests().iter().all(|(name, _)| !name.starts_with("archive")));
}

#[tokio::test]
async fn a_subnet_that_is_not_there_is_told_from_one_without_neurons() {
    let chain = populated(Chain::builder()).await;
    chain.update(|state| {
        state.add_subnet(3);
    });
    let ours = asking([chain.url()]);
    assert_eq!(ours.metagraph(9).await, Err(ChainError::NoSuchSubnet { netuid: 9 }));
    assert_eq!(ours.metagraph(3).await.map(|metagraph| metagraph.n), Ok(0));
    // It is the chain's answer, so no node has failed.
    assert_eq!(ours.status().failures_in_a_row, 0);
    chain.runtime(|runtime| runtime.remove("NeuronInfoRuntimeApi"));
    assert_eq!(ours.metagraph(9).await, Err(ChainError::NoSuchSubnet { netuid: 9 }));
    assert_eq!(ours.metagraph(3).await.map(|metagraph| metagraph.n), Ok(0));
}

#[tokio::test]
async fn a_block_that_is_not_final_is_not_read() {
    let chain = populated(Chain::builder().finality_lag(3)).await;
    let ours = asking([chain.url()]);
    assert_eq!(ours.metagraph(NETUID).await, Err(ChainError::NoSuchSubnet { netuid: NETUID }));
    chain.produce_blocks(3);
    assert_eq!(ours.metagraph(NETUID).await.unwrap().block, chain.finalized_number());
    chain.update(|state| {
        state.subnet(NETUID).register(neuron("late"));
    });
    assert_eq!(ours.metagraph(NETUID).await.unwrap().n, 9);
    chain.produce_blocks(3);
    assert_eq!(ours.metagraph(NETUID).await.unwrap().n, 10);
}

#[tokio::test]
async fn a_hotkey_of_zeros_is_left_out() {
    let chain = populated(Chain::builder()).await;
    chain.update(|state| {
        state.subnet(NETUID).neuron_mut(1).unwrap().hotkey = [0; 32];
    });
    let metagraph = asking([chain.url()]).metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.n, 8);
    assert_eq!(metagraph.get_neuron(1), None);
}

#[tokio::test]
async fn the_published_calls_read_over_a_client_of_the_callers_own() {
    let chain = populated(Chain::builder()).await;
    for methods in [RpcMethods::Legacy, RpcMethods::ChainHead] {
        chain.offer(methods);
        let client = connect_subtensor::<PolkadotConfig>(&chain.url()).await.unwrap();
        let mut metagraph = Metagraph::new(NETUID);
        metagraph.sync(&client).await.unwrap();
        assert_eq!(metagraph, asking([chain.url()]).metagraph(NETUID).await.unwrap());
        let before = metagraph.clone();
        chain.update(|state| {
            state.remove_subnet(NETUID);
        });
        // As published: no error, and no neurons.
        let mut followed = metagraph.clone();
        while followed.n > 0 {
            followed.sync(&client).await.unwrap();
        }
        assert!(followed.neurons.is_empty() && followed.block > before.block);
        chain.node().stop().await.unwrap();
        let error = metagraph.sync(&client).await.unwrap_err();
        assert!(matches!(error, LightningError::Connection(_)), "{error}");
        assert_eq!(metagraph, before);
        chain.node().restart().await.unwrap();
        chain.update(|state| {
            let subnet = state.add_subnet(NETUID);
            subnet.register(neuron("first"));
        });
    }
}

#[tokio::test]
async fn what_is_no_node_is_no_connection() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("ws://{}", closed.local_addr().unwrap());
    let over_tls = refused.replace("ws://", "wss://");
    drop(closed);
    for url in ["", "nonsense", "http://127.0.0.1:1", "ws://no.such.host.invalid:1", &refused, &over_tls] {
        let error = tokio::time::timeout(AMPLE, connect_subtensor::<PolkadotConfig>(url)).await.unwrap();
        let Err(LightningError::Connection(reason)) = error else { panic!("{url}: connected") };
        assert!(reason.starts_with("connecting to subtensor "), "{reason}");
    }
}

#[tokio::test]
async fn a_node_does_not_send_its_clients_elsewhere() {
    let elsewhere = populated(Chain::builder()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let found = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\n\r\n", elsewhere.url());
    let redirecting = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(found.as_bytes()).await.unwrap();
            // Until the client has read it and left.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    let ours = asking([url]);
    let read = tokio::time::timeout(AMPLE, async {
        tokio::select! {
            read = ours.metagraph(NETUID) => read,
            () = redirecting => unreachable!(),
        }
    });
    let error = read.await.unwrap().unwrap_err();
    let ChainError::NoNode(failures) = &error else { panic!("{error}") };
    assert!(matches!(failures[0].error, NodeError::Unreachable { .. }), "{error}");
    assert_eq!(elsewhere.requests().count("rpc_methods"), 0);
}

#[tokio::test]
async fn the_chain_says_which_it_is() {
    let chain = populated(Chain::builder()).await;
    let ours = asking([chain.url()]);
    assert_eq!(ours.status().genesis, None);
    assert_eq!(ours.genesis().await, Ok(chain.genesis_hash()));
    let status = ours.status();
    assert_eq!(status.genesis, Some(chain.genesis_hash()));
    assert_eq!(status.endpoint, Some(chain.url()));
    assert!(status.connected_since.is_some() && status.answered_at.is_some() && status.last_error.is_none());
    assert_ne!(account("a"), account("b"));
}
