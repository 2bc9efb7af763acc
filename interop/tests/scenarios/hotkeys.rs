//! Several hotkeys at one address. A server holds one, so the others are somebody's mistake or somebody's malice; the
//! miner whose address it is must not suffer from either.

use std::collections::HashSet;

use btlightning_interop::{Class, data, eventually, keys, within};

use super::stage::{MINER, Miner, VALIDATOR, answer, ask, axon, client_config, connected, error, validator};
use crate::peers::{CLIENT, Make, client};

const STRANGER: &str = "stranger";

fn request() -> client::QuicRequest {
    client::QuicRequest::new("echo".into(), data([]))
}

/// The real one and a fake one at the miner's address.
fn both(miner: &Miner, real_first: bool) -> Vec<client::QuicAxonInfo> {
    let mut axons = vec![miner.axon(), axon(&keys(STRANGER).hotkey, miner.addr)];
    if !real_first {
        axons.reverse();
    }
    axons
}

#[tokio::test]
async fn only_the_one_that_is_proven_counts_in_either_order() {
    for real_first in [true, false] {
        let miner = Miner::start().await;
        let mut validator = validator(VALIDATOR, client_config()).await;
        let initialized = validator.initialize_connections(both(&miner, real_first));
        within("a connection", initialized).await.expect("initialized");
        assert_eq!(validator.authenticated_hotkeys().await, HashSet::from([keys(MINER).hotkey]));
        answer(&validator, &miner, "echo", data([])).await;

        let fake = axon(&keys(STRANGER).hotkey, miner.addr);
        let (class, words) = error(within("an error", validator.query_axon(fake, request())).await);
        assert_eq!(class, Class::Handshake, "{words}");
        answer(&validator, &miner, "echo", data([])).await;
        assert_eq!(miner.connections().await, 1);
        // A published client makes a handshake for each. Ours makes the only one that can tell it anything.
        assert_eq!(miner.server.get_active_nonce_count().await, CLIENT.pick(1, 2));
    }
}

#[tokio::test]
async fn a_stranger_that_is_registered_later_changes_nothing() {
    let miner = Miner::start().await;
    let validator = connected(&miner).await;
    let id = miner.connection_of(VALIDATOR).await;
    for real_first in [true, false] {
        let updated = validator.update_miner_registry(both(&miner, real_first));
        within("an update", updated).await.expect("updated");
        assert_eq!(validator.authenticated_hotkeys().await, HashSet::from([keys(MINER).hotkey]));
        answer(&validator, &miner, "echo", data([])).await;
    }
    // A published client may make the handshake of the real one again, on the same connection.
    if CLIENT == Make::Ours {
        assert_eq!(miner.connection_of(VALIDATOR).await, id);
    }
    assert_eq!(miner.connections().await, 1);
}

#[tokio::test]
async fn a_stranger_that_comes_first_does_not_keep_the_miner_out() {
    let miner = Miner::start().await;
    let mut validator = validator(VALIDATOR, client_config()).await;
    let fake = axon(&keys(STRANGER).hotkey, miner.addr);
    within("no connection", validator.initialize_connections(vec![fake.clone()])).await.expect("initialized");
    assert!(validator.authenticated_hotkeys().await.is_empty());
    let (class, words) = error(within("an error", validator.query_axon(fake, request())).await);
    assert_eq!(class, Class::Handshake, "{words}");

    // A published client pauses for the address, whoever failed there. Ours dials for the one who is new.
    match CLIENT {
        Make::Ours => {
            answer(&validator, &miner, "echo", data([])).await;
        }
        Make::Theirs => {
            eventually("an answer", async || ask(&validator, &miner, "echo", data([])).await.ok()).await;
        }
    }
    assert_eq!(validator.authenticated_hotkeys().await, HashSet::from([keys(MINER).hotkey]));
}

#[tokio::test]
async fn two_miners_do_not_answer_for_each_other() {
    let miner = Miner::start().await;
    let other = Miner::made("other", super::stage::server_config(), |_| {}).await;
    let mut validator = validator(VALIDATOR, client_config()).await;
    let swapped = vec![axon(&miner.keys.hotkey, other.addr), axon(&other.keys.hotkey, miner.addr)];
    within("no connection", validator.initialize_connections(swapped)).await.expect("initialized");
    assert!(validator.authenticated_hotkeys().await.is_empty());

    let right = vec![miner.axon(), other.axon()];
    within("an update", validator.update_miner_registry(right)).await.expect("updated");
    let both = HashSet::from([miner.keys.hotkey.clone(), other.keys.hotkey.clone()]);
    assert_eq!(validator.authenticated_hotkeys().await, both);
    answer(&validator, &miner, "echo", data([])).await;
    answer(&validator, &other, "echo", data([])).await;
}
