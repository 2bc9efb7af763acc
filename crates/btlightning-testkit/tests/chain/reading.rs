//! subxt reads the chain, with both backends.

use crate::clients::{BACKENDS, Backend, Key, NETUID, chain_of_three, soon, subxt};
use btlightning_testkit::chain::{AccountId, Axon, Chain};
use parity_scale_codec::{Compact, Decode, Encode};
use subxt::{
    OnlineClient, PolkadotConfig,
    dynamic::{self, At, Value},
};

/// The start of `NeuronInfoLite`, as a client has it that reads bytes.
#[derive(Decode)]
struct Neuron {
    hotkey: AccountId,
    _coldkey: AccountId,
    uid: Compact<u16>,
    netuid: Compact<u16>,
    active: bool,
    axon: Axon,
}

#[tokio::test]
async fn both_backends_read_blocks_that_hash_to_what_the_node_says() {
    let chain = chain_of_three().await;
    chain.produce_blocks(3);
    for backend in BACKENDS {
        let client = subxt(&chain.url(), backend).await;
        assert_eq!(client.genesis_hash().0, chain.genesis_hash());
        let block = soon(client.at_current_block()).await.unwrap();
        assert_eq!(block.block_number(), chain.block_number(), "{backend:?}");
        assert_eq!(block.spec_version(), 365);
        let extrinsics = soon(block.extrinsics().fetch()).await.unwrap();
        let names: Vec<_> = extrinsics
            .iter()
            .map(|extrinsic| extrinsic.unwrap())
            .map(|extrinsic| format!("{}.{}", extrinsic.pallet_name(), extrinsic.call_name()))
            .collect();
        assert_eq!(names, ["Timestamp.set"], "{backend:?}");
        let events = soon(block.events().fetch()).await.unwrap();
        let events: Vec<_> = events.iter().map(|event| event.unwrap().event_name().to_owned()).collect();
        assert_eq!(events, ["ExtrinsicSuccess"], "{backend:?}");
    }
}

#[tokio::test]
async fn blocks_stream_to_both_backends_as_they_are_made() {
    let chain = chain_of_three().await;
    for backend in BACKENDS {
        let client = subxt(&chain.url(), backend).await;
        let mut blocks = soon(client.stream_blocks()).await.unwrap();
        // subxt subscribes when it is first asked.
        let first = soon(blocks.next()).await.unwrap().unwrap().number();
        let last = chain.produce_blocks(3);
        let mut seen = vec![first];
        while seen.last() != Some(&last) {
            let block = soon(blocks.next()).await.unwrap().unwrap();
            // subxt hashes the header itself, and the node knows the block by that.
            let at = soon(block.at()).await.unwrap();
            assert_eq!(at.block_number(), block.number());
            seen.push(block.number());
        }
        assert!(seen.is_sorted() && seen.ends_with(&[last - 2, last - 1, last]), "{backend:?}: {seen:?}");
    }
}

#[tokio::test]
async fn neurons_are_read_through_the_runtime_api() {
    let chain = chain_of_three().await;
    for backend in BACKENDS {
        let client = subxt(&chain.url(), backend).await;
        let block = soon(client.at_current_block()).await.unwrap();
        let call = block.runtime_apis();
        let args = NETUID.encode();
        let answer = call.call_raw("NeuronInfoRuntimeApi_get_neurons_lite", Some(&args));
        let answer = soon(answer).await.unwrap();
        let (count, first) = <(Compact<u32>, Neuron)>::decode(&mut &*answer).unwrap();
        assert_eq!((count.0, first.uid.0, first.netuid.0, first.active), (3, 0, NETUID, true));
        assert_eq!((first.hotkey, first.axon), (Key::named("validator").account(), Axon::default()));
        let payload = dynamic::runtime_api_call::<_, Value>(
            "NeuronInfoRuntimeApi",
            "get_neurons_lite",
            vec![Value::u128(NETUID.into())],
        );
        let neurons = soon(call.call(payload)).await.unwrap();
        let miner = neurons.at(1).unwrap();
        let number =
            |path: [&str; 2]| miner.at(path[0]).and_then(|at| at.at(path[1])).and_then(Value::as_u128);
        assert_eq!(number(["axon_info", "ip"]), Some(0xcb00_7107), "{backend:?}");
        assert_eq!(number(["axon_info", "port"]), Some(8091), "{backend:?}");
    }
}

async fn storage(client: &OnlineClient<PolkadotConfig>, entry: &str) -> Vec<u8> {
    let block = soon(client.at_current_block()).await.unwrap();
    let address = dynamic::storage::<(u16,), Value>("SubtensorModule", entry);
    let value = soon(block.storage().fetch(address, (NETUID,))).await.unwrap();
    value.into_bytes()
}

#[tokio::test]
async fn storage_is_read_under_the_keys_that_subxt_makes() {
    let chain = chain_of_three().await;
    for backend in BACKENDS {
        let client = subxt(&chain.url(), backend).await;
        assert_eq!(storage(&client, "SubnetworkN").await, 3_u16.encode(), "{backend:?}");
        assert_eq!(storage(&client, "ValidatorPermit").await, vec![true, false, false].encode());
        let block = soon(client.at_current_block()).await.unwrap();
        let axons = dynamic::storage::<(u16, [u8; 32]), Value>("SubtensorModule", "Axons");
        let hotkey = Key::named("miner").account();
        let axon = soon(block.storage().fetch(&axons, (NETUID, hotkey))).await.unwrap();
        let axon = Axon::decode(&mut axon.bytes()).unwrap();
        assert_eq!(axon.address(), Some("203.0.113.7:8091".parse().unwrap()), "{backend:?}");
        let none = soon(block.storage().try_fetch(&axons, (NETUID, [0; 32]))).await.unwrap();
        assert!(none.is_none(), "{backend:?}");
    }
}

/// Every key of a map, in whatever pages the backend asks for.
async fn hotkeys(chain: &Chain, backend: Backend) -> usize {
    let client = subxt(&chain.url(), backend).await;
    let block = soon(client.at_current_block()).await.unwrap();
    let keys = dynamic::storage::<(u16, u16), [u8; 32]>("SubtensorModule", "Keys");
    let mut entries = soon(block.storage().iter(keys, (NETUID,))).await.unwrap();
    let mut hotkeys = std::collections::HashSet::new();
    while let Some(entry) = soon(entries.next()).await {
        hotkeys.insert(entry.unwrap().value().decode().unwrap());
    }
    hotkeys.len()
}

#[tokio::test]
async fn a_map_of_more_than_a_page_is_iterated_whole() {
    let chain = chain_of_three().await;
    chain.update(|state| {
        let subnet = state.subnet(NETUID);
        for n in 0..1_500_u16 {
            let mut hotkey = [0x77; 32];
            hotkey[..2].copy_from_slice(&n.to_be_bytes());
            subnet.register(btlightning_testkit::chain::Neuron::new(hotkey, [1; 32]));
        }
    });
    for backend in BACKENDS {
        assert_eq!(hotkeys(&chain, backend).await, 1_503, "{backend:?}");
    }
}

#[tokio::test]
async fn what_subxt_chooses_by_itself_works_too() {
    let chain = chain_of_three().await;
    let client = soon(OnlineClient::<PolkadotConfig>::from_insecure_url(chain.url())).await.unwrap();
    let block = soon(client.at_current_block()).await.unwrap();
    let args = NETUID.encode();
    let answer = block.runtime_apis();
    let answer = soon(answer.call_raw("NeuronInfoRuntimeApi_get_neurons_lite", Some(&args))).await.unwrap();
    assert_eq!(Compact::<u32>::decode(&mut &*answer).unwrap().0, 3);
}

#[tokio::test]
async fn the_past_is_read_as_it_was() {
    let chain = chain_of_three().await;
    let before = chain.block_number();
    chain.update(|state| {
        state.remove_subnet(NETUID);
    });
    let client = subxt(&chain.url(), Backend::Legacy).await;
    let neurons = async |block: u64| {
        let block = soon(client.at_block(block)).await.unwrap();
        let args = NETUID.encode();
        let call = block.runtime_apis();
        let answer = soon(call.call_raw("NeuronInfoRuntimeApi_get_neurons_lite", Some(&args))).await.unwrap();
        Compact::<u32>::decode(&mut &*answer).unwrap().0
    };
    assert_eq!((neurons(before).await, neurons(before + 1).await), (3, 0));
}
