//! Validator permits: who has none is refused; who loses it, and who gains it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use btlightning_interop::{Class, data, eventually, keys, within};

use super::stage::{
    MINER, Miner, VALIDATOR, answer, ask, client_config, connected, error, server_config, validator,
};
use crate::peers::{Make, SERVER, server};

/// The permits that there are just now.
#[derive(Clone, Default)]
struct Permits(Arc<Mutex<HashSet<String>>>);

impl Permits {
    fn set<const N: usize>(&self, names: [&str; N]) {
        *self.0.lock().expect("not poisoned") = names.into_iter().map(|name| keys(name).hotkey).collect();
    }
}

impl server::ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> server::Result<HashSet<String>> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }
}

/// A miner that requires permits and looks every second who has one. It has looked when this returns.
async fn requiring(permits: &Permits, count: usize) -> Miner {
    let config = server_config().require_validator_permit(true).validator_permit_refresh_secs(1);
    let permits = Box::new(permits.clone());
    let miner = Miner::made(MINER, config, |server| server.set_validator_permit_resolver(permits)).await;
    permitted(&miner, count).await;
    miner
}

async fn permitted(miner: &Miner, count: usize) {
    let looked = async || (miner.server.get_permitted_validator_count().await == count).then_some(());
    eventually("the permits", looked).await;
}

#[tokio::test]
async fn only_who_has_a_permit_comes_in() {
    let permits = Permits::default();
    permits.set([VALIDATOR, "somebody else"]);
    let miner = requiring(&permits, 2).await;
    let validator_in = connected(&miner).await;
    answer(&validator_in, &miner, "echo", data([])).await;

    let outsider = validator("outsider", client_config()).await;
    let (class, words) = error(ask(&outsider, &miner, "echo", data([])).await);
    assert_eq!(class, Class::Handshake, "{words}");
    assert!(miner.connection_of("outsider").await.is_none());
    assert_eq!(miner.connections().await, 1);
}

#[tokio::test]
async fn a_permit_that_is_gained_counts_from_the_next_look() {
    let permits = Permits::default();
    let miner = requiring(&permits, 0).await;
    let validator = validator(VALIDATOR, client_config()).await;
    within("an update", validator.update_miner_registry(vec![miner.axon()])).await.expect("updated");
    assert!(validator.authenticated_hotkeys().await.is_empty());
    permits.set([VALIDATOR]);
    permitted(&miner, 1).await;
    within("an update", validator.update_miner_registry(vec![miner.axon()])).await.expect("updated");
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test]
async fn a_permit_that_is_lost() {
    let permits = Permits::default();
    permits.set([VALIDATOR]);
    let miner = requiring(&permits, 1).await;
    let validator = connected(&miner).await;
    permits.set([]);
    permitted(&miner, 0).await;
    match SERVER {
        // Ours closes the connection, and does not let the validator in again.
        Make::Ours => {
            eventually("the close", async || miner.connection_of(VALIDATOR).await.is_none().then_some(()))
                .await;
            let refused = async || {
                let (class, _) = error(ask(&validator, &miner, "echo", data([])).await);
                (class == Class::Handshake).then_some(())
            };
            eventually("the refusal", refused).await;
        }
        // A published server does not look again at whom it has let in.
        Make::Theirs => {
            answer(&validator, &miner, "echo", data([])).await;
        }
    }
}
