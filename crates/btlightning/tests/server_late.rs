//! What a validator may have lost between the moment at which it was looked at and the one at which it is let in.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashSet;
use std::sync::{Mutex, mpsc};

use btlightning::server::{LightningServer, SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver};
use btlightning::{CallbackSigner, LightningError, Result, Sr25519Signer};
use btlightning_proto::wire::encode_frame;
use common::{Miner, Raw, config, eventually, hotkey, within};

fn permits<const N: usize>(names: [&str; N]) -> HashSet<String> {
    names.iter().map(|name| hotkey(name).to_string()).collect()
}

/// A resolver that waits for each of its answers to be sent.
struct Sent<T>(Mutex<mpsc::Receiver<T>>);

impl<T> Sent<T> {
    fn new() -> (mpsc::Sender<T>, Box<Self>) {
        let (sender, answers) = mpsc::channel();
        (sender, Box::new(Self(Mutex::new(answers))))
    }

    fn next(&self) -> Result<T> {
        self.0.lock().unwrap().recv().map_err(LightningError::handler)
    }
}

impl ValidatorPermitResolver for Sent<HashSet<String>> {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        self.next()
    }
}

impl SourceAddressResolver for Sent<SourceAllowlist> {
    fn resolve_allowed_sources(&self) -> Result<SourceAllowlist> {
        self.next()
    }
}

/// A miner whose signer says when it is asked, and then waits.
fn slow_signer(server: &mut LightningServer) -> (tokio::sync::mpsc::UnboundedReceiver<()>, mpsc::Sender<()>) {
    let ((asked, asking), (release, held)) = (tokio::sync::mpsc::unbounded_channel(), mpsc::channel());
    let held = Mutex::new(held);
    let signer = Sr25519Signer::from_seed(btlightning_testkit::keys::seed("miner"));
    server.set_miner_signer(Box::new(CallbackSigner::new(move |text: &[u8]| {
        let _ = asked.send(());
        let _ = held.lock().unwrap().recv();
        btlightning::Signer::sign(&signer, text)
    })));
    (asking, release)
}

/// Is not accepted: what the miner is about to sign comes too late.
async fn comes_too_late(
    miner: &Miner,
    mut asking: tokio::sync::mpsc::UnboundedReceiver<()>,
    release: mpsc::Sender<()>,
    change: impl AsyncFnOnce(&Miner),
) -> String {
    let raw = Raw::connect(miner).await;
    let (request, _) = raw.opening("alice", |_| {});
    let (_send, mut receive) = raw.send(&encode_frame(&request, 4096).unwrap()).await;
    within("the signer", asking.recv()).await.unwrap();
    change(miner).await;
    release.send(()).unwrap();
    // An acceptance would be read before any other refresh could close the connection: there is none.
    within("the end", receive.read_to_end(4096)).await.unwrap_err();
    miner.members_are(0).await;
    raw.closed_for().await
}

#[tokio::test]
async fn a_permit_that_is_lost_while_the_miner_signs_is_lost() {
    let (answers, resolver) = Sent::new();
    answers.send(permits(["alice", "bob"])).unwrap();
    let mut gate = None;
    let config = config().require_validator_permit(true).validator_permit_refresh_secs(1);
    let miner = Miner::with(config, |server| {
        server.set_validator_permit_resolver(resolver);
        gate = Some(slow_signer(server));
    })
    .await;
    let (asking, release) = gate.unwrap();
    let reason = comes_too_late(&miner, asking, release, async |miner| {
        answers.send(permits(["bob"])).unwrap();
        let is_refreshed = async || (miner.server.get_permitted_validator_count().await == 1).then_some(());
        eventually("the refresh", is_refreshed).await;
    })
    .await;
    assert_eq!(reason, "permit_revoked");
}

#[tokio::test]
async fn a_source_that_is_lost_while_the_miner_signs_is_lost() {
    let only = |ips: &[&str]| SourceAllowlist::Enforce(ips.iter().map(|ip| ip.parse().unwrap()).collect());
    let (answers, resolver) = Sent::new();
    answers.send(only(&["127.0.0.1", "127.0.0.2"])).unwrap();
    let mut gate = None;
    let config = config().enforce_source_allowlist(true).source_allowlist_refresh_secs(1);
    let miner = Miner::with(config, |server| {
        server.set_source_address_resolver(resolver);
        gate = Some(slow_signer(server));
    })
    .await;
    let (asking, release) = gate.unwrap();
    let reason = comes_too_late(&miner, asking, release, async |miner| {
        answers.send(only(&["127.0.0.2"])).unwrap();
        let is_refreshed = async || (miner.server.get_allowed_source_count().await == 1).then_some(());
        eventually("the refresh", is_refreshed).await;
    })
    .await;
    assert_eq!(reason, "source_not_allowed");
}
