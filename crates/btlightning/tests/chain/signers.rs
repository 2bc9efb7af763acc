//! A miner's signer, and how often it is asked to sign what is published.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use btlightning::metagraph::{Axon, PublishError, Published};
use btlightning::{LightningError, LightningServer, Signer};

use crate::world::{NETUID, chain_with, change, hotkey, neuron, ours, signer, within};

/// One that hangs until it is let go.
struct Hanging {
    asked: Arc<AtomicUsize>,
    held: Mutex<Receiver<()>>,
}

impl Signer for Hanging {
    fn sign(&self, _: &[u8]) -> btlightning::Result<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.held.lock().unwrap().recv();
        Err(LightningError::Signing("let go".to_owned()))
    }
}

#[tokio::test]
async fn a_signer_that_hangs_holds_one_thread_until_another_takes_its_place() {
    let chain = chain_with([neuron("miner")]).await;
    change(&chain, |subnet| subnet.hyperparameters.serving_rate_limit = 0);
    let server = LightningServer::new(hotkey("miner").to_string(), "127.0.0.1".into(), 0).unwrap();
    let (let_go, held) = channel();
    let asked = Arc::new(AtomicUsize::new(0));
    server.sign_with(Arc::new(Hanging { asked: asked.clone(), held: Mutex::new(held) }));

    let after = Duration::from_millis(50);
    let axon = Axon::new("203.0.114.7".parse().unwrap(), 8443);
    for _ in 0..3 {
        let publisher = server.publisher(&ours(&chain), NETUID).unwrap().signer_timeout(after);
        let error = within(publisher.publish(axon)).await.unwrap_err();
        assert_eq!(error, PublishError::SignerTimedOut { after });
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // The new one need not wait for it.
    server.sign_with(Arc::new(signer("miner")));
    let published = within(server.publish_axon(&ours(&chain), NETUID, axon)).await.unwrap();
    assert!(matches!(published, Published::Included { .. }), "{published:?}");
    drop(let_go);
}
