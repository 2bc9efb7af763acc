//! A subnet as large as they come.

use btlightning_chain::metagraph::{Metagraph, NeuronInfo};
use btlightning_testkit::chain::{Chain, Hyperparameters};

use crate::subnet::{NETUID, asking, miner, neuron};

#[tokio::test]
async fn a_subnet_of_1024_neurons_is_read_by_call_and_from_storage() {
    let chain = Chain::builder().start().await.unwrap();
    chain.update(|state| {
        let subnet = state.add_subnet(NETUID);
        subnet.hyperparameters = Hyperparameters { max_uids: 1024, ..Hyperparameters::default() };
        for uid in 0..1024u16 {
            let [high, low] = uid.to_be_bytes();
            let name = format!("neuron-{uid}");
            subnet.register(match uid % 16 {
                0 => neuron(&name).validating(u64::from(uid) + 1),
                _ => miner(&name, &format!("8.8.{high}.{low}:8091")),
            });
        }
    });
    let ours = asking([chain.url()]);
    let by_call = ours.metagraph(NETUID).await.unwrap();
    assert_eq!(by_call.n, 1024);
    assert_eq!(by_call.quic_miners().len(), 960);
    assert!(by_call.neurons.iter().enumerate().all(|(uid, neuron)| usize::from(neuron.uid) == uid));
    assert!(bytes_held(&by_call) < 256 << 10, "{} bytes", bytes_held(&by_call));
    chain.runtime(|runtime| runtime.remove("NeuronInfoRuntimeApi"));
    let from_storage = ours.metagraph(NETUID).await.unwrap();
    assert_eq!(from_storage.neurons, by_call.neurons);
}

fn bytes_held(metagraph: &Metagraph) -> usize {
    let texts: usize = metagraph.neurons.iter().map(|n| n.hotkey.capacity() + n.axon_ip.capacity()).sum();
    metagraph.neurons.capacity() * size_of::<NeuronInfo>() + texts
}
