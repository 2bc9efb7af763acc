//! The allowlist of source addresses: whoever is not on it gets no answer at all.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use btlightning_interop::{Class, data, eventually, within};

use super::stage::{
    MINER, Miner, VALIDATOR, answer, ask, client_config, connected, error, server_config, validator,
};
use crate::peers::server::SourceAllowlist;
use crate::peers::{Make, SERVER, client, server};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))];

/// The policy that there is just now.
#[derive(Clone)]
struct Policy(Arc<Mutex<SourceAllowlist>>);

impl Policy {
    fn new(policy: SourceAllowlist) -> Self {
        Self(Arc::new(Mutex::new(policy)))
    }

    fn set(&self, policy: SourceAllowlist) {
        *self.0.lock().expect("not poisoned") = policy;
    }
}

impl server::SourceAddressResolver for Policy {
    fn resolve_allowed_sources(&self) -> server::Result<SourceAllowlist> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }
}

fn only(addrs: impl IntoIterator<Item = IpAddr>) -> SourceAllowlist {
    SourceAllowlist::Enforce(addrs.into_iter().collect::<HashSet<_>>())
}

/// A miner that enforces the policy, and looks every second what it is.
async fn enforcing(policy: &Policy) -> Miner {
    let config = server_config().enforce_source_allowlist(true).source_allowlist_refresh_secs(1);
    let policy = Box::new(policy.clone());
    Miner::made(MINER, config, |server| server.set_source_address_resolver(policy)).await
}

async fn allowed(miner: &Miner, count: usize) {
    let looked = async || (miner.server.get_allowed_source_count().await == count).then_some(());
    eventually("the allowlist", looked).await;
}

/// A validator that does not wait long for a miner that says nothing.
async fn impatient() -> client::LightningClient {
    let config =
        client::LightningClientConfig { connect_timeout: Duration::from_millis(300), ..client_config() };
    validator(VALIDATOR, config).await
}

#[tokio::test]
async fn whoever_is_on_the_list_comes_in() {
    let miner = enforcing(&Policy::new(only([HERE]))).await;
    allowed(&miner, 1).await;
    assert!(!miner.server.is_source_enforcement_bypassed().await);
    let validator = connected(&miner).await;
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test]
async fn a_bypass_lets_everyone_in() {
    let miner = enforcing(&Policy::new(SourceAllowlist::Bypass)).await;
    let bypassed = async || miner.server.is_source_enforcement_bypassed().await.then_some(());
    eventually("the bypass", bypassed).await;
    assert_eq!(miner.server.get_allowed_source_count().await, 0);
    let validator = connected(&miner).await;
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test]
async fn whoever_is_not_on_the_list_hears_nothing_until_he_is() {
    let policy = Policy::new(only(ELSEWHERE));
    let miner = enforcing(&policy).await;
    allowed(&miner, 2).await;
    let validator = impatient().await;
    let (class, words) = error(ask(&validator, &miner, "echo", data([])).await);
    assert_eq!(class, Class::Connection, "{words}");

    policy.set(only([HERE]));
    allowed(&miner, 1).await;
    within("an update", validator.update_miner_registry(vec![miner.axon()])).await.expect("updated");
    answer(&validator, &miner, "echo", data([])).await;
}

#[tokio::test]
async fn whoever_leaves_the_list() {
    let policy = Policy::new(only([HERE]));
    let miner = enforcing(&policy).await;
    allowed(&miner, 1).await;
    let validator = impatient().await;
    answer(&validator, &miner, "echo", data([])).await;
    policy.set(only(ELSEWHERE));
    allowed(&miner, 2).await;
    match SERVER {
        // Ours closes the connection.
        Make::Ours => {
            eventually("the close", async || miner.connection_of(VALIDATOR).await.is_none().then_some(()))
                .await;
        }
        // A published server asks only new connections.
        Make::Theirs => {
            answer(&validator, &miner, "echo", data([])).await;
        }
    }
}
