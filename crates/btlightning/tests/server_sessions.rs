//! A connection that has authenticated: whose it is, wherever its packets come from, and when it has to go.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use btlightning::server::{Handler, SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver};
use btlightning::{LightningError, Result};
use common::{
    Data, Dropped, Miner, Raw, config, data, eventually, hotkey, request, socket, socket_at, within,
};
use quinn::VarInt;
use tokio::sync::{Notify, oneshot};

/// Answers with who asks, and from where.
fn whoami() -> Handler {
    Handler::typed(|caller, _: Data| async move {
        Ok::<_, String>(std::collections::BTreeMap::from([
            ("hotkey", caller.hotkey.to_string()),
            ("from", caller.remote_addr.to_string()),
            ("connection", caller.connection.to_string()),
        ]))
    })
}

async fn miner() -> Miner {
    let miner = Miner::start().await;
    miner.server.register("whoami", whoami());
    miner
}

fn text<'a>(data: &'a Data, key: &str) -> &'a str {
    data[key].as_str().unwrap()
}

#[tokio::test]
async fn a_handler_is_told_who_asks() {
    let miner = miner().await;
    let (alice, bob) = (Raw::authenticated(&miner, "alice").await, Raw::authenticated(&miner, "bob").await);
    let (said_alice, said_bob) =
        (alice.answer("whoami", &data([])).await, bob.answer("whoami", &data([])).await);
    assert_eq!(text(&said_alice, "hotkey"), hotkey("alice").to_string());
    assert_eq!(text(&said_alice, "from"), alice.endpoint.local_addr().unwrap().to_string());
    assert_eq!(text(&said_bob, "hotkey"), hotkey("bob").to_string());
    assert_ne!(text(&said_alice, "connection"), text(&said_bob, "connection"));
}

#[tokio::test]
async fn authentication_survives_a_new_address() {
    let miner = miner().await;
    let alice = Raw::authenticated(&miner, "alice").await;
    let before = alice.answer("whoami", &data([])).await;
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    alice.endpoint.rebind(socket).unwrap();
    let after = alice.answer("whoami", &data([])).await;
    assert_eq!(text(&after, "from"), addr.to_string());
    assert_eq!(text(&after, "connection"), text(&before, "connection"));
    assert_eq!(text(&after, "hotkey"), hotkey("alice").to_string());
}

#[tokio::test]
async fn an_address_inherits_nothing() {
    let miner = miner().await;
    // Alice's connection lives, and somebody else gets a connection from the very same address.
    let alice = Raw::authenticated(&miner, "alice").await;
    let addr = alice.endpoint.local_addr().unwrap();
    let mallory = Raw::connect_from(alice.endpoint.clone(), miner.addr).await.unwrap();
    assert_eq!(mallory.failure("whoami", &data([])).await, "authentication failed");
    alice.answer("whoami", &data([])).await;

    // Alice has moved, and somebody gets the address that she had.
    alice.endpoint.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
    alice.answer("whoami", &data([])).await;
    // The old socket is kept until packets arrive on the new one, which they have.
    let taken = eventually("the old address", async || UdpSocket::bind(addr).ok()).await;
    drop(taken);
    let mallory = Raw::connect_from(socket_at(addr), miner.addr).await.unwrap();
    assert_eq!(mallory.failure("whoami", &data([])).await, "authentication failed");
    alice.answer("whoami", &data([])).await;
}

#[tokio::test]
async fn a_place_is_free_when_its_holder_leaves() {
    let miner = miner().await;
    let alice = Raw::authenticated(&miner, "alice").await;
    let bob = Raw::authenticated(&miner, "bob").await;
    miner.members_are(2).await;
    alice.connection.close(VarInt::from_u32(7), b"bye\n\x1b[31m");
    miner.members_are(1).await;
    drop(bob);
    miner.members_are(0).await;
}

#[tokio::test]
async fn a_place_is_free_when_its_holder_leaves_in_the_middle_of_a_handshake() {
    let config = config().max_connections(1).max_unauthenticated_connections(1);
    let (asked, mut asking) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let miner = Miner::with(config, |server| {
        let signer = btlightning::Sr25519Signer::from_seed(btlightning_testkit::keys::seed("miner"));
        server.set_miner_signer(Box::new(btlightning::CallbackSigner::new(move |text: &[u8]| {
            let _ = asked.send(());
            let _ = held.lock().unwrap().recv();
            btlightning::Signer::sign(&signer, text)
        })));
    })
    .await;
    let alice = Raw::connect(&miner).await;
    let (request, _) = alice.opening("alice", |_| {});
    let frame = btlightning_proto::wire::encode_frame(&request, 4096).unwrap();
    let streams = alice.send(&frame).await;
    within("the signer", asking.recv()).await.unwrap();
    alice.connection.close(VarInt::from_u32(0), b"");
    drop((streams, alice));
    // The stranger's slot is free, and the signature comes too late to take the place of a member.
    let bob =
        eventually("a stranger's slot", async || Raw::connect_from(socket(), miner.addr).await.ok()).await;
    release.send(()).unwrap();
    release.send(()).unwrap();
    bob.accepted("bob").await;
    assert_eq!(miner.members().await, 1);
}

#[tokio::test]
async fn idle_connections_are_cleaned_up_and_busy_ones_are_not() {
    let miner = miner().await;
    let (begun, mut beginning) = tokio::sync::mpsc::channel(1);
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    miner.server.register(
        "wait",
        Handler::typed(move |_, _: Data| {
            let (begun, gate) = (begun.clone(), gate.clone());
            async move {
                begun.send(()).await.unwrap();
                gate.notified().await;
                Ok::<_, String>(data([]))
            }
        }),
    );
    let (idle, busy) = (Raw::authenticated(&miner, "alice").await, Raw::authenticated(&miner, "bob").await);
    miner.server.cleanup_stale_connections(1000).await.unwrap();
    let nothing = data([]);
    let waiting = busy.answer("wait", &nothing);
    let cleanup = async {
        within("the handler", beginning.recv()).await.unwrap();
        miner.server.cleanup_stale_connections(0).await.unwrap();
        assert_eq!(idle.closed_for().await, "cleanup");
        assert_eq!(miner.members().await, 1);
        go.notify_one();
    };
    tokio::join!(waiting, cleanup);
    assert!(busy.is_open());
}

/// A resolver that says what it was told last; it fails if that was nothing.
struct Told<T>(Arc<Tale<T>>);

struct Tale<T> {
    told: Mutex<Option<T>>,
    asked: AtomicUsize,
}

/// Tells a resolver what to say.
struct Teller<T>(Arc<Tale<T>>);

fn told<T>(first: Option<T>) -> (Told<T>, Teller<T>) {
    let tale = Arc::new(Tale { told: Mutex::new(first), asked: AtomicUsize::new(0) });
    (Told(tale.clone()), Teller(tale))
}

impl<T: Clone> Told<T> {
    fn ask(&self) -> Result<T> {
        let told = self.0.told.lock().unwrap().clone();
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        told.ok_or_else(|| LightningError::handler("no chain"))
    }
}

impl<T> Teller<T> {
    fn tell(&self, next: Option<T>) {
        *self.0.told.lock().unwrap() = next;
    }

    /// Waits until what was told has been asked for, and what came of it has been done: the second question comes after
    /// that.
    async fn heard(&self) {
        let asked = || self.0.asked.load(Ordering::SeqCst);
        let before = asked();
        eventually("two questions", async || (asked() >= before + 2).then_some(())).await;
    }
}

impl ValidatorPermitResolver for Told<HashSet<String>> {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        self.ask()
    }
}

impl SourceAddressResolver for Told<SourceAllowlist> {
    fn resolve_allowed_sources(&self) -> Result<SourceAllowlist> {
        self.ask()
    }
}

fn permits<const N: usize>(names: [&str; N]) -> HashSet<String> {
    names.iter().map(|name| hotkey(name).to_string()).collect()
}

#[tokio::test]
async fn who_loses_its_permit_is_closed_at_the_refresh() {
    let (resolver, teller) = told(Some(permits(["alice", "bob"])));
    let config = config().require_validator_permit(true).validator_permit_refresh_secs(1);
    let miner = Miner::with(config, |server| server.set_validator_permit_resolver(Box::new(resolver))).await;
    let (alice, bob) = (Raw::authenticated(&miner, "alice").await, Raw::authenticated(&miner, "bob").await);
    teller.tell(Some(permits(["alice", "carol"])));
    assert_eq!(bob.closed_for().await, "permit_revoked");
    Raw::connect(&miner).await.refused("bob").await;
    Raw::authenticated(&miner, "carol").await;
    // A resolver that fails changes nothing.
    teller.tell(None);
    teller.heard().await;
    assert!(alice.is_open());
    assert_eq!(miner.server.get_permitted_validator_count().await, 2);
}

fn only<const N: usize>(ips: [&str; N]) -> SourceAllowlist {
    SourceAllowlist::Enforce(ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

async fn allowing(first: Option<SourceAllowlist>) -> (Miner, Teller<SourceAllowlist>) {
    let (resolver, teller) = told(first);
    let config = config().enforce_source_allowlist(true).source_allowlist_refresh_secs(1);
    let miner = Miner::with(config, |server| server.set_source_address_resolver(Box::new(resolver))).await;
    (miner, teller)
}

/// Nothing at all comes back.
async fn is_ignored(miner: &Miner, ip: [u8; 4]) -> bool {
    let endpoint = socket_at(SocketAddr::from((Ipv4Addr::from(ip), 0)));
    let connecting = endpoint.connect(miner.addr, "127.0.0.1").unwrap();
    tokio::time::timeout(Duration::from_millis(300), connecting).await.is_err()
}

#[tokio::test]
async fn who_is_not_on_the_allowlist_hears_nothing() {
    let (miner, _) = allowing(Some(only(["127.0.0.1"]))).await;
    Raw::authenticated(&miner, "alice").await;
    assert!(is_ignored(&miner, [127, 0, 0, 2]).await);
    assert_eq!(miner.server.get_allowed_source_count().await, 1);
    assert!(!miner.server.is_source_enforcement_bypassed().await);
}

#[tokio::test]
async fn who_leaves_the_allowlist_is_closed_at_the_refresh() {
    let (miner, teller) = allowing(Some(only(["127.0.0.1", "127.0.0.2"]))).await;
    let stays = Raw::authenticated(&miner, "alice").await;
    let elsewhere = socket_at(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)));
    let goes = Raw::connect_from(elsewhere, miner.addr).await.unwrap();
    goes.accepted("bob").await;
    teller.tell(Some(only(["127.0.0.1"])));
    assert_eq!(goes.closed_for().await, "source_not_allowed");
    assert!(stays.is_open());
    teller.tell(None);
    teller.heard().await;
    assert!(stays.is_open());
    assert_eq!(miner.server.get_allowed_source_count().await, 1);
}

#[tokio::test]
async fn who_moves_off_the_allowlist_is_closed_at_the_refresh() {
    let (miner, _) = allowing(Some(only(["127.0.0.1"]))).await;
    let alice = Raw::authenticated(&miner, "alice").await;
    alice.endpoint.rebind(UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap()).unwrap();
    assert_eq!(alice.failure("echo", &data([])).await, "unrecognized synapse type");
    assert_eq!(alice.closed_for().await, "source_not_allowed");
}

#[tokio::test]
async fn a_bypass_lets_everybody_in_until_the_next_refresh() {
    let (miner, teller) = allowing(Some(SourceAllowlist::Bypass)).await;
    let alice = Raw::authenticated(&miner, "alice").await;
    assert!(miner.server.is_source_enforcement_bypassed().await);
    assert_eq!(miner.server.get_allowed_source_count().await, 0);
    teller.tell(Some(only([])));
    assert_eq!(alice.closed_for().await, "source_not_allowed");
    assert!(!miner.server.is_source_enforcement_bypassed().await);
    assert!(is_ignored(&miner, [127, 0, 0, 1]).await);
}

#[tokio::test]
async fn nobody_is_let_in_before_anybody_was_named() {
    let (miner, teller) = allowing(None).await;
    assert!(is_ignored(&miner, [127, 0, 0, 1]).await);
    teller.tell(Some(only(["127.0.0.1"])));
    let count = async || (miner.server.get_allowed_source_count().await == 1).then_some(());
    eventually("the refresh", count).await;
    Raw::authenticated(&miner, "alice").await;
}

#[tokio::test]
async fn an_allowlist_that_is_not_enforced_is_counted_and_nothing_else() {
    let (resolver, _) = told(Some(only(["10.0.0.1"])));
    let miner = Miner::with(config(), |server| server.set_source_address_resolver(Box::new(resolver))).await;
    Raw::authenticated(&miner, "alice").await;
    let count = async || (miner.server.get_allowed_source_count().await == 1).then_some(());
    eventually("the count", count).await;
    assert!(!miner.server.is_source_enforcement_bypassed().await);
}

#[tokio::test]
async fn what_a_connection_was_asked_ends_with_it() {
    let miner = miner().await;
    let (begun, mut beginning) = tokio::sync::mpsc::channel(1);
    let (dropped, dropping) = oneshot::channel();
    let dropped = Mutex::new(Some(dropped));
    miner.server.register(
        "for ever",
        Handler::unary(move |_| {
            let guard = Dropped(dropped.lock().unwrap().take());
            let begun = begun.clone();
            async move {
                let _guard = guard;
                begun.send(()).await.unwrap();
                std::future::pending().await
            }
        }),
    );
    let alice = Raw::authenticated(&miner, "alice").await;
    let streams = alice.send(&request("for ever", &data([]))).await;
    within("the handler", beginning.recv()).await.unwrap();
    alice.connection.close(VarInt::from_u32(0), b"");
    within("the drop", dropping).await.unwrap();
    drop(streams);
}
