//! Who is let in, and what those read who are not.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, mpsc};

use async_trait::async_trait;
use btlightning::server::{HandshakeObserver, ValidatorPermitResolver};
use btlightning::{CallbackSigner, LightningError, Result, Sr25519Signer};
use btlightning_proto::wire::{FrameWriter, HandshakeRequest, HandshakeResponse, MessageType, encode_frame};
use common::{Miner, Raw, config, data, eventually, hotkey, key, new_server, unix_secs, within};

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let miner = Miner::start().await;
    let raw = Raw::connect(&miner).await;
    let proven = raw.accepted("alice").await;
    assert!(
        proven.connection_id.starts_with(&format!("conn_{}_", hotkey("alice"))),
        "{}",
        proven.connection_id
    );
    let stats = miner.server.get_connection_stats().await.unwrap();
    assert_eq!(stats["total_connections"], "1");
    assert_eq!(stats["verified_connections"], "1");
    assert_eq!(stats[&format!("connection_{}", hotkey("alice"))], proven.connection_id);
    assert_eq!(miner.server.get_active_nonce_count().await, 1);
    assert_eq!(raw.failure("nobody knows", &data([])).await, "unrecognized synapse type");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_claim_the_refusal_is_the_same_and_the_stranger_may_try_again() {
    let miner = Miner::start().await;
    let raw = Raw::connect(&miner).await;
    let now = unix_secs();
    let wrong = [
        raw.opening_at("alice", now - 301, |_| {}).0,
        raw.opening_at("alice", now + 63, |_| {}).0,
        raw.opening("alice", |r| r.nonce = "not hex".into()).0,
        raw.opening("alice", |r| r.nonce.make_ascii_uppercase()).0,
        raw.opening("alice", |r| r.signature = "c2ln".into()).0,
        raw.opening("alice", |r| r.validator_hotkey = hotkey("bob").to_string()).0,
        raw.opening("alice", |r| r.validator_hotkey = String::new()).0,
        raw.opening("alice", |r| r.timestamp -= 1).0,
    ];
    for request in &wrong {
        // A nonce of nothing but digits has no upper case, and is then what was signed.
        if request.nonce.len() == 32 && !request.nonce.contains(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let response = raw.handshake_refused(request).await;
        assert_eq!(response.miner_hotkey, hotkey("miner").to_string(), "{request:?}");
        assert!(response.timestamp >= now);
    }
    assert_eq!(miner.server.get_active_nonce_count().await, 0, "nothing is remembered of what is not proven");
    assert_eq!(raw.failure("echo", &data([])).await, "authentication failed");
    raw.accepted("alice").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_without_a_name() {
    let miner = Miner::start().await;
    let raw = Raw::connect(&miner).await;
    let mut garbage = FrameWriter::begin(MessageType::HandshakeRequest);
    garbage.payload_mut().extend_from_slice(&[0xc1; 40]);
    let (kind, payload) = raw.exchange(&garbage.finish(4096).unwrap()).await.only();
    assert_eq!(kind, MessageType::HandshakeResponse);
    let response = HandshakeResponse::decode(&payload).unwrap();
    assert_eq!((response.accepted, response.miner_hotkey.as_str()), (false, ""));
    assert!(raw.is_open());
}

#[tokio::test]
async fn a_request_counts_once() {
    let miner = Miner::start().await;
    let raw = Raw::connect(&miner).await;
    let (request, awaiting) = raw.opening("alice", |_| {});
    awaiting.verify(&raw.handshake(&request).await).unwrap();
    raw.handshake_refused(&request).await;
    let thief = Raw::connect(&miner).await;
    thief.handshake_refused(&request).await;
    assert_eq!(thief.failure("echo", &data([])).await, "authentication failed");
    assert_eq!(miner.members().await, 1);
}

#[tokio::test]
async fn a_request_counts_for_the_certificate_that_was_seen() {
    let (one, other) = (Miner::start().await, Miner::start().await);
    let raw = Raw::connect(&one).await;
    let (request, _) = raw.opening("alice", |_| {});
    Raw::connect(&other).await.handshake_refused(&request).await;
}

struct Permits(HashSet<String>);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        Ok(self.0.clone())
    }
}

fn permits<const N: usize>(names: [&str; N]) -> Box<Permits> {
    Box::new(Permits(names.iter().map(|name| hotkey(name).to_string()).collect()))
}

#[tokio::test]
async fn where_permits_are_required_nobody_else_is_let_in() {
    let miner = Miner::with(config().require_validator_permit(true), |server| {
        server.set_validator_permit_resolver(permits(["alice"]));
    })
    .await;
    let refused = Raw::connect(&miner).await.refused("bob").await;
    assert_eq!(refused.miner_hotkey, hotkey("miner").to_string());
    Raw::authenticated(&miner, "alice").await;
    assert_eq!(miner.server.get_permitted_validator_count().await, 1);
}

#[tokio::test]
async fn a_resolver_of_permits_that_fails_or_panics_lets_nobody_in() {
    struct Broken(bool);
    impl ValidatorPermitResolver for Broken {
        fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
            assert!(!self.0, "a resolver that panics");
            Err(LightningError::handler("no chain"))
        }
    }
    for panics in [false, true] {
        let miner = Miner::with(config().require_validator_permit(true), |server| {
            server.set_validator_permit_resolver(Box::new(Broken(panics)));
        })
        .await;
        Raw::connect(&miner).await.refused("alice").await;
        assert_eq!(miner.server.get_permitted_validator_count().await, 0);
    }
}

#[tokio::test]
async fn permits_that_are_not_required_are_counted_and_nothing_else() {
    let miner =
        Miner::with(config(), |server| server.set_validator_permit_resolver(permits(["alice"]))).await;
    Raw::authenticated(&miner, "bob").await;
    let count = async || (miner.server.get_permitted_validator_count().await == 1).then_some(());
    eventually("the count of permits", count).await;
}

#[tokio::test]
async fn an_address_has_so_many_attempts_a_minute() {
    let miner = Miner::with(config().max_handshake_attempts_per_minute(2), |_| {}).await;
    let raw = Raw::connect(&miner).await;
    raw.accepted("alice").await;
    assert_eq!(
        Raw::connect(&miner)
            .await
            .handshake_refused(&raw.opening("bob", |r| r.nonce.clear()).0)
            .await
            .miner_hotkey,
        hotkey("miner").to_string()
    );
    assert_eq!(raw.refused("alice").await.miner_hotkey, "", "the third attempt is not looked at");
    assert_eq!(
        raw.failure("echo", &data([])).await,
        "unrecognized synapse type",
        "what was proven stays proven"
    );
}

#[tokio::test]
async fn garbage_does_not_use_up_the_attempts_of_who_holds_a_permit() {
    let config = config().max_handshake_attempts_per_minute(2).require_validator_permit(true);
    let miner = Miner::with(config, |server| server.set_validator_permit_resolver(permits(["alice"]))).await;
    let stranger = Raw::connect(&miner).await;
    for _ in 0..3 {
        stranger.refused("mallory").await;
        // Nor does garbage in her name.
        let (forged, _) = stranger.opening("mallory", |r| r.validator_hotkey = hotkey("alice").to_string());
        stranger.handshake_refused(&forged).await;
    }
    Raw::authenticated(&miner, "alice").await;
}

/// A handshake in the name of `whose`, signed by somebody else.
fn forged(raw: &Raw, whose: &str) -> HandshakeRequest {
    raw.opening("mallory", |r| r.validator_hotkey = hotkey(whose).to_string()).0
}

#[tokio::test]
async fn forgeries_and_old_requests_in_a_permitted_name_do_not_lock_out_its_owner() {
    let config = config().max_handshake_attempts_per_minute(2).require_validator_permit(true);
    let miner = Miner::with(config, |server| server.set_validator_permit_resolver(permits(["alice"]))).await;
    // Twice as many as an address has verified before its turn comes last, and as many that cost nothing.
    for _ in 0..5 {
        let mallory = Raw::connect(&miner).await;
        for _ in 0..8 {
            mallory.handshake_refused(&forged(&mallory, "alice")).await;
        }
        let mallory = Raw::connect(&miner).await;
        let (old, _) = mallory.opening_at("alice", unix_secs() - 301, |_| {});
        for _ in 0..8 {
            mallory.handshake_refused(&old).await;
        }
    }
    let alice = Raw::connect(&miner).await;
    for _ in 0..2 {
        alice.accepted("alice").await;
    }
    alice.refused("alice").await;
}

#[tokio::test]
async fn a_connection_on_which_too_many_handshakes_fail_is_closed() {
    let miner = Miner::with(config().max_handshake_attempts_per_minute(1000), |_| {}).await;
    let raw = Raw::connect(&miner).await;
    for _ in 0..8 {
        raw.handshake_refused(&forged(&raw, "alice")).await;
    }
    assert!(raw.is_open());
    let last = encode_frame(&forged(&raw, "alice"), 4096).unwrap();
    let _streams = raw.send(&last).await;
    assert_eq!(raw.closed_for().await, "too_many_handshakes");
    // What a validator is refused for other reasons is not held against it.
    let alice = Raw::authenticated(&miner, "alice").await;
    for _ in 0..20 {
        alice.refused("bob").await;
    }
    assert!(alice.is_open());
}

#[tokio::test]
async fn nonces_of_throw_away_hotkeys_leave_room_for_those_of_permitted_ones() {
    let config = config().max_nonce_entries(8).max_handshake_attempts_per_minute(1000);
    let miner = Miner::with(config, |server| server.set_validator_permit_resolver(permits(["alice"]))).await;
    let count = async || (miner.server.get_permitted_validator_count().await == 1).then_some(());
    eventually("the permits", count).await;
    for n in 0..6 {
        Raw::authenticated(&miner, &format!("mallory-{n}")).await;
    }
    Raw::connect(&miner).await.refused("mallory-6").await;
    assert_eq!(miner.server.get_active_nonce_count().await, 6);
    Raw::authenticated(&miner, "alice").await;
    Raw::authenticated(&miner, "alice").await;
    Raw::connect(&miner).await.refused("alice").await;
}

#[tokio::test]
async fn who_finds_no_place_spends_no_nonce() {
    let miner = Miner::with(config().max_connections(1), |_| {}).await;
    let _alice = Raw::authenticated(&miner, "alice").await;
    Raw::connect(&miner).await.refused("bob").await;
    assert_eq!(miner.server.get_active_nonce_count().await, 1);
}

#[tokio::test]
async fn a_connection_proves_one_validator() {
    let miner = Miner::start().await;
    let raw = Raw::connect(&miner).await;
    let first = raw.accepted("alice").await;
    raw.refused("bob").await;
    let again = raw.accepted("alice").await;
    assert_eq!(miner.members().await, 1);
    let stats = miner.server.get_connection_stats().await.unwrap();
    assert_eq!(stats[&format!("connection_{}", hotkey("alice"))], again.connection_id);
    assert!(again.connection_id >= first.connection_id);
}

#[tokio::test]
async fn a_full_server_has_room_for_those_who_are_in_it() {
    let miner = Miner::with(config().max_connections(1), |_| {}).await;
    let first = Raw::authenticated(&miner, "alice").await;
    Raw::connect(&miner).await.refused("bob").await;
    let second = Raw::authenticated(&miner, "alice").await;
    assert_eq!(first.closed_for().await, "replaced");
    second.connection.close(0_u32.into(), b"");
    miner.members_are(0).await;
    Raw::authenticated(&miner, "bob").await;
}

#[tokio::test]
async fn a_hotkey_has_so_many_connections_and_the_newest_counts() {
    let miner = Miner::with(config().max_connections_per_hotkey(2), |_| {}).await;
    let first = Raw::authenticated(&miner, "alice").await;
    let second = Raw::authenticated(&miner, "alice").await;
    let other = Raw::authenticated(&miner, "bob").await;
    let third = Raw::authenticated(&miner, "alice").await;
    assert_eq!(first.closed_for().await, "replaced");
    for raw in [&second, &other, &third] {
        assert_eq!(raw.failure("echo", &data([])).await, "unrecognized synapse type");
    }
    assert_eq!(miner.members().await, 3);
}

#[tokio::test]
async fn a_hotkey_has_four_connections_unless_told_otherwise() {
    let miner = Miner::start().await;
    let mut raws = Vec::new();
    for _ in 0..4 {
        raws.push(Raw::authenticated(&miner, "alice").await);
    }
    assert!(raws.iter().all(Raw::is_open));
    raws.push(Raw::authenticated(&miner, "alice").await);
    assert_eq!(raws[0].closed_for().await, "replaced");
    assert!(raws[1..].iter().all(Raw::is_open));
    assert_eq!(miner.members().await, 4);
}

#[tokio::test]
async fn a_miner_that_cannot_sign_lets_nobody_in() {
    let mut without = new_server(config());
    without.set_miner_signer(Box::new(CallbackSigner::new(|_: &[u8]| {
        Err(LightningError::Signing("no key".into()))
    })));
    let mut panicking = new_server(config());
    panicking.set_miner_signer(Box::new(CallbackSigner::new(|_: &[u8]| panic!("a signer that panics"))));
    let mut short = new_server(config());
    short.set_miner_signer(Box::new(CallbackSigner::new(|_: &[u8]| Ok(vec![0; 63]))));
    for mut server in [without, panicking, short] {
        server.start().await.unwrap();
        let miner = Miner::serve(server);
        let raw = Raw::connect(&miner).await;
        for _ in 0..2 {
            assert_eq!(raw.refused("alice").await.miner_hotkey, hotkey("miner").to_string());
        }
        assert_eq!(miner.members().await, 0);
        assert_eq!(raw.failure("echo", &data([])).await, "authentication failed");
    }
}

#[tokio::test]
async fn a_slow_wallet_does_not_hold_up_the_others_verifications() {
    let (release, held) = mpsc::channel::<()>();
    let (asked, asking) = tokio::sync::oneshot::channel();
    let state = Mutex::new((held, Some(asked)));
    let miner = Miner::with(config(), |server| {
        let signer = Sr25519Signer::from_seed(btlightning_testkit::keys::seed("miner"));
        server.set_miner_signer(Box::new(CallbackSigner::new(move |text: &[u8]| {
            let (held, asked) = &mut *state.lock().unwrap();
            if let Some(asked) = asked.take() {
                let _ = asked.send(());
                let _ = held.recv();
            }
            btlightning::Signer::sign(&signer, text)
        })));
    })
    .await;
    let raw = Raw::connect(&miner).await;
    let waiting = raw.accepted("alice");
    let meanwhile = async {
        within("the wallet", asking).await.unwrap();
        // Its signature has to be verified before it is refused.
        let (forged, _) = raw.opening("bob", |r| r.timestamp -= 1);
        Raw::connect(&miner).await.handshake_refused(&forged).await;
        release.send(()).unwrap();
    };
    tokio::join!(waiting, meanwhile);
}

#[tokio::test]
async fn an_observer_is_told_and_not_waited_for() {
    #[derive(Default)]
    struct Guests(Mutex<Vec<(String, IpAddr)>>);
    #[async_trait]
    impl HandshakeObserver for Guests {
        async fn observe_successful_handshake(&self, validator_hotkey: &str, source_ip: IpAddr) {
            self.0.lock().unwrap().push((validator_hotkey.to_owned(), source_ip));
            std::future::pending().await
        }
    }
    let guests = Arc::new(Guests::default());
    let miner = Miner::with(config(), |server| server.set_handshake_observer(guests.clone())).await;
    Raw::connect(&miner)
        .await
        .handshake_refused(&Raw::connect(&miner).await.opening("bob", |r| r.nonce.clear()).0)
        .await;
    Raw::authenticated(&miner, "alice").await;
    let seen = async || {
        let seen = guests.0.lock().unwrap().clone();
        (!seen.is_empty()).then_some(seen)
    };
    let seen = eventually("the observer", seen).await;
    assert_eq!(seen, [(hotkey("alice").to_string(), "127.0.0.1".parse().unwrap())]);
}

#[tokio::test]
async fn a_miner_whose_hotkey_is_none_refuses_and_lives() {
    let config = config().build().unwrap();
    let mut server =
        btlightning::server::LightningServer::with_config("garbage".into(), "127.0.0.1".into(), 0, config)
            .unwrap();
    server.set_miner_keypair(btlightning_testkit::keys::seed("miner"));
    server.start().await.unwrap();
    let miner = Miner::serve(server);
    assert_eq!(Raw::connect(&miner).await.refused("alice").await.miner_hotkey, "garbage");
    assert_ne!(key("miner").hotkey().to_string(), "garbage");
}
