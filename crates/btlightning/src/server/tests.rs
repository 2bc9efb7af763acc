//! What only shows inside a server that is running.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use btlightning_proto::identity::Keypair;
use btlightning_testkit::keys;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::shared::Running;
use super::{Handler, LightningServer, LightningServerConfig, Response, ValidatorPermitResolver};
use crate::error::Result;
use crate::transport::signatures::{SignatureQueueError, Turn};
use crate::{Hotkey, LightningClient, QuicAxonInfo, Sr25519Signer};

type Nothing = HashMap<String, u8>;

const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: nothing for {PATIENCE:?}"),
    }
}

fn hotkey(name: &str) -> Hotkey {
    Keypair::from_seed(keys::seed(name)).hotkey()
}

struct Permits(&'static str);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        Ok(HashSet::from([hotkey(self.0).to_string()]))
    }
}

/// A server on loopback whose resolver has named alice.
async fn serving() -> Arc<LightningServer> {
    let name = hotkey("miner").to_string();
    let config = LightningServerConfig::builder().require_validator_permit(false).build().unwrap();
    let mut server = LightningServer::with_config(name, "127.0.0.1".to_owned(), 0, config).unwrap();
    server.set_miner_signer(Box::new(Sr25519Signer::from_seed(keys::seed("miner"))));
    server.set_validator_permit_resolver(Box::new(Permits("alice")));
    server.register("nothing", Handler::unary(|_| async { Response::from_map(&Default::default()) }));
    server.start().await.unwrap();
    let server = Arc::new(server);
    tokio::spawn({
        let server = server.clone();
        async move { server.serve_forever().await }
    });
    while server.get_permitted_validator_count().await == 0 {
        tokio::task::yield_now().await;
    }
    server
}

/// Whether `name` is let in, and gets an answer.
async fn asks(server: &LightningServer, name: &str) -> bool {
    let mut client = LightningClient::new(hotkey(name).to_string());
    client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed(name))));
    client.create_endpoint().await.unwrap();
    let port = server.local_addr().unwrap().port();
    let miner = QuicAxonInfo::new(hotkey("miner").to_string(), "127.0.0.1".to_owned(), port, 4);
    let answer = client.call::<_, Nothing>(miner, "nothing", &Nothing::new()).await;
    client.close_all_connections().await.unwrap();
    answer.is_ok()
}

/// Has the thread that verifies signatures wait until something is sent. Done once it waits.
fn hold(running: &Arc<Running>, turn: Turn) -> (oneshot::Receiver<()>, mpsc::Sender<()>) {
    let ((begun, begins), (go, wait)) = (oneshot::channel(), mpsc::channel::<()>());
    let running = running.clone();
    tokio::spawn(async move {
        let held = move || {
            let _ = begun.send(());
            let _ = wait.recv();
        };
        running.verifications.run(turn, held).await
    });
    (begins, go)
}

#[tokio::test]
async fn a_flood_of_signatures_holds_up_nobody_who_is_known() {
    let server = serving().await;
    assert!(asks(&server, "alice").await, "she is known from then on, and from where");
    // As many forgeries in permitted names as an address may cost, from hers.
    for _ in 0..300 {
        server.shared.attempts().note_unproven(Ipv4Addr::LOCALHOST.into(), Instant::now());
    }
    let running = server.lifecycle.running().unwrap();
    let (held, go) = hold(&running, Turn::Ordinary);
    within("the thread", held).await.unwrap();
    // A second one that holds it as soon as the flood has its turn, and then the flood.
    let (flood_begins, flood) = hold(&running, Turn::Ordinary);
    tokio::task::yield_now().await;
    let mut waiting = Vec::new();
    loop {
        let mut job = Box::pin(running.verifications.run(Turn::Ordinary, || ()));
        let full = poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx))).await;
        match full {
            Poll::Pending => waiting.push(job),
            Poll::Ready(turned_away) => break assert_eq!(turned_away, Err(SignatureQueueError::Full)),
        }
    }
    assert!(!asks(&server, "mallory").await, "a stranger is turned away");
    let before = running.verifications.waiting();
    let alice = tokio::spawn({
        let server = server.clone();
        async move { asks(&server, "alice").await }
    });
    within("alice's handshake", async {
        while running.verifications.waiting() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.send(()).unwrap();
    // The flood has not had its turn when she has her answer, or it would still hold the thread.
    assert!(within("alice", alice).await.unwrap());
    drop(flood);
    within("the flood", flood_begins).await.unwrap();
    for job in waiting {
        within("the flood", job).await.unwrap();
    }
    assert!(asks(&server, "mallory").await);
}
