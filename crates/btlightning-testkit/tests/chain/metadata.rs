//! The same runtime in every metadata version that clients know.

use crate::clients::{BACKENDS, Backend, Key, NETUID, Plain, chain_of_three, hex, populate, soon, subxt};
use btlightning_testkit::chain::{Axon, Chain};
use parity_scale_codec::{Decode, Encode};
use serde_json::json;
use subxt::{
    dynamic::{self, Value},
    ext::frame_metadata::{RuntimeMetadata, RuntimeMetadataPrefixed},
};

#[tokio::test]
async fn every_version_on_offer_is_used_by_subxt_to_read_and_to_publish() {
    for versions in [vec![14], vec![14, 15], vec![14, 15, 16]] {
        for backend in BACKENDS {
            let builder = Chain::builder().runtime(|runtime| runtime.metadata_versions = versions.clone());
            let chain = builder.start().await.unwrap();
            populate(&chain);
            read_and_publish(&chain, backend).await;
        }
    }
}

/// Not with the other backend: it waits for ever for a call of a function that is not there.
#[tokio::test]
async fn a_runtime_without_a_choice_of_metadata_has_version_14() {
    let chain = Chain::builder().runtime(|runtime| runtime.only_legacy_metadata()).start().await.unwrap();
    populate(&chain);
    read_and_publish(&chain, Backend::Legacy).await;
    assert_eq!(chain.requests().count("Metadata_metadata"), 1);
}

async fn read_and_publish(chain: &Chain, backend: Backend) {
    let client = subxt(&chain.url(), backend).await;
    let block = soon(client.at_current_block()).await.unwrap();
    let address = dynamic::storage::<(u16,), u16>("SubtensorModule", "SubnetworkN");
    let count = soon(block.storage().fetch(address, (NETUID,))).await.unwrap().decode().unwrap();
    assert_eq!(count, 3);
    let arguments = [u128::from(NETUID), 1, 0xcb00_7109, 9000, 4, 4, 0, 0].map(Value::u128);
    let call = dynamic::tx("SubtensorModule", "serve_axon", arguments.to_vec());
    let mut transactions = block.transactions();
    let key = Key::named("newcomer");
    let progress = soon(transactions.sign_and_submit_then_watch_default(&call, &key)).await.unwrap();
    soon(progress.wait_for_finalized_success()).await.unwrap();
    let axon = chain.neuron(NETUID, &key.account()).unwrap().axon;
    assert_eq!(axon.as_ref().and_then(Axon::address), Some("203.0.113.9:9000".parse().unwrap()));
}

#[tokio::test]
async fn each_version_is_what_it_says_it_is() {
    let chain = chain_of_three().await;
    let mut client = Plain::connect(&chain.url()).await;
    for version in [14_u32, 15, 16] {
        let params = json!(["Metadata_metadata_at_version", hex(version.encode())]);
        let answer = client.call("state_call", params).await;
        let answer = hex::decode(&answer.as_str().unwrap()[2..]).unwrap();
        let metadata = Option::<Vec<u8>>::decode(&mut &*answer).unwrap().unwrap();
        let metadata = RuntimeMetadataPrefixed::decode(&mut &*metadata).unwrap().1;
        assert_eq!(metadata.version(), version);
    }
    let params = json!(["Metadata_metadata_at_version", hex(13_u32.encode())]);
    assert_eq!(client.call("state_call", params).await, "0x00");
    assert_eq!(
        client.call("state_call", json!(["Metadata_metadata_versions", "0x"])).await,
        "0x0c0e0000000f00000010000000"
    );
}

#[tokio::test]
async fn the_metadata_names_the_spec_version_and_lacks_what_the_runtime_lacks() {
    let chain = Chain::builder()
        .spec_version(218)
        .runtime(|runtime| {
            runtime.remove("SubnetInfoRuntimeApi");
            runtime.remove("NeuronInfoRuntimeApi_get_neurons");
        })
        .start()
        .await
        .unwrap();
    let mut client = Plain::connect(&chain.url()).await;
    let params = json!(["Metadata_metadata_at_version", hex(16_u32.encode())]);
    let answer = hex::decode(&client.call("state_call", params).await.as_str().unwrap()[2..]).unwrap();
    let metadata = Option::<Vec<u8>>::decode(&mut &*answer).unwrap().unwrap();
    let RuntimeMetadata::V16(metadata) = RuntimeMetadataPrefixed::decode(&mut &*metadata).unwrap().1 else {
        panic!("it is not version 16");
    };
    let apis: Vec<_> = metadata.apis.iter().map(|api| &*api.name).collect();
    assert!(!apis.contains(&"SubnetInfoRuntimeApi") && apis.contains(&"NeuronInfoRuntimeApi"));
    let neurons = metadata.apis.iter().find(|api| api.name == "NeuronInfoRuntimeApi").unwrap();
    let methods: Vec<_> = neurons.methods.iter().map(|method| &*method.name).collect();
    assert_eq!(methods, ["get_neuron", "get_neurons_lite", "get_neuron_lite"]);
    let version = client.call("state_getRuntimeVersion", json!([])).await;
    assert_eq!((&version["specVersion"], &version["transactionVersion"]), (&json!(218), &json!(1)));
    for function in ["SubnetInfoRuntimeApi_get_metagraph", "NeuronInfoRuntimeApi_get_neurons"] {
        let error = client.error("state_call", json!([function, "0x0200"])).await;
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with(&format!("Exported method {function} is not found")), "{message}");
    }
}
