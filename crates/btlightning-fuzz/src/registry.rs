//! A client's registry: the client itself, with its supervisors and their dials, on a simulated network where nobody
//! answers and in virtual time. Lists, calls and time come in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use btlightning::transport::network::Network;
use btlightning::{
    CallError, Hotkey, LightningClient, LightningClientConfig, PeerAddr, QuicAxonInfo, Sr25519Signer,
};
use btlightning_testkit::SimNet;
use quinn::AsyncUdpSocket;
use serde::de::IgnoredAny;
use tokio::runtime::Builder;
use tokio::time::sleep;

#[derive(Debug, Arbitrary)]
enum Step {
    /// The list of all that are wanted, waiting for their dials or not.
    Update {
        axons: Vec<(u8, u8)>,
    },
    Follow {
        axons: Vec<(u8, u8)>,
    },
    /// More that are wanted.
    Connect {
        axons: Vec<(u8, u8)>,
    },
    /// A call begins, and is dropped: by axon, and by hotkey.
    Call {
        key: u8,
        at: u8,
    },
    CallKnown {
        key: u8,
    },
    Passes {
        millis: u16,
    },
}

/// How many addresses there may be, and steps in the form that `arbitrary` reads.
pub fn registry(data: &[u8]) {
    let Some((addresses_max, steps)) = data.split_first() else { return };
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(steps)) else { return };
    let addresses_max = usize::from(addresses_max % 6) + 1;
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(async {
        let client = client(addresses_max);
        let mut model = Model { addresses_max, ..Model::default() };
        for step in steps.into_iter().take(STEPS_MAX) {
            model.carry_out(&client, step).await;
            model.check(&client);
        }
        client.close_all_connections().await.expect("nobody has to hear of it");
        assert!(client.peers().is_empty());
    });
}

/// Each address that is opened is a TLS handshake begun.
const STEPS_MAX: usize = 12;

#[derive(serde::Serialize)]
struct Question {}

#[derive(Debug)]
struct Nobody(DebugNet);

struct DebugNet(SimNet);

impl std::fmt::Debug for DebugNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a network on which nobody answers")
    }
}

impl Network for Nobody {
    fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if !addr.is_ipv4() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(self.0.0.bind(SocketAddr::from(([10, 0, 0, 1], addr.port())))?)
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

fn client(addresses_max: usize) -> LightningClient {
    let config = LightningClientConfig {
        max_connections: addresses_max,
        connect_timeout: Duration::from_secs(1),
        // Soon left alone, so that lists are what wakes them.
        reconnect_max_retries: 1,
        reconnect_slow_probe_interval: None,
        ..LightningClientConfig::default()
    };
    let network = Arc::new(Nobody(DebugNet(SimNet::new(1))));
    let client =
        LightningClient::with_network(hotkey(0).to_string(), config, network).expect("a good configuration");
    client.sign_with(Arc::new(Sr25519Signer::from_seed([1; 32])));
    client.open().expect("sockets");
    client
}

/// Who is wanted where, kept in the simplest way.
#[derive(Default)]
struct Model {
    addresses_max: usize,
    slots: BTreeMap<PeerAddr, BTreeSet<Hotkey>>,
    /// Where each hotkey was last said to be.
    homes: BTreeMap<Hotkey, PeerAddr>,
}

impl Model {
    async fn carry_out(&mut self, client: &LightningClient, step: Step) {
        match step {
            Step::Update { axons } => {
                client.update_miner_registry(listed(&axons)).await.expect("there is an endpoint");
                self.want(&named(&axons));
            }
            Step::Follow { axons } => {
                client.follow_miners(listed(&axons)).expect("there is an endpoint");
                self.want(&named(&axons));
            }
            Step::Connect { axons } => {
                client.connect(listed(&axons)).await.expect("there are an endpoint and a signer");
                let there = self.homes.iter().map(|(hotkey, addr)| (*hotkey, addr.clone()));
                let all: Vec<_> = there.chain(named(&axons)).collect();
                self.want(&all);
            }
            Step::Call { key, at } => {
                let said = begun(client.call::<_, IgnoredAny>(axon(key, at), "ask", &Question {})).await;
                let (key, at) = (hotkey(key), addr(at));
                let is_full = !self.slots.contains_key(&at) && self.slots.len() == self.addresses_max;
                assert_eq!(matches!(said, Some(CallError::ConnectionLimit { .. })), is_full, "{said:?}");
                if !is_full && self.slots.entry(at.clone()).or_default().insert(key) {
                    self.homes.insert(key, at);
                }
            }
            Step::CallKnown { key } => {
                let key = hotkey(key);
                // By its text, which the client remembers the route of.
                let said = begun(client.call::<_, IgnoredAny>(key.to_string(), "ask", &Question {})).await;
                match (said, self.homes.get(&key)) {
                    (Some(CallError::UnknownPeer(who)), None) => assert_eq!(who, key),
                    (Some(CallError::Unavailable { addr, .. }), Some(home)) => assert_eq!(addr, *home),
                    (None, Some(_)) => {}
                    (said, home) => panic!("{said:?}, and it is at {home:?}"),
                }
            }
            Step::Passes { millis } => sleep(Duration::from_millis(millis.into())).await,
        }
    }

    /// Whoever is there stays before newcomers come; a hotkey is where the list names it last.
    fn want(&mut self, list: &[(Hotkey, PeerAddr)]) {
        let last: BTreeMap<Hotkey, usize> = list.iter().enumerate().map(|(n, (key, _))| (*key, n)).collect();
        let mut order: Vec<(&PeerAddr, BTreeSet<Hotkey>)> = Vec::new();
        for (_, (key, addr)) in list.iter().enumerate().filter(|(n, (key, _))| last[key] == *n) {
            match order.iter_mut().find(|(other, _)| *other == addr) {
                Some((_, keys)) => {
                    keys.insert(*key);
                }
                None => order.push((addr, BTreeSet::from([*key]))),
            }
        }
        order.sort_by_key(|(addr, _)| !self.slots.contains_key(addr));
        order.truncate(self.addresses_max);
        self.slots = order.into_iter().map(|(addr, keys)| (addr.clone(), keys)).collect();
        self.homes = self.pairs().map(|(addr, key)| (key, addr)).collect();
    }

    fn pairs(&self) -> impl Iterator<Item = (PeerAddr, Hotkey)> {
        self.slots.iter().flat_map(|(addr, keys)| keys.iter().map(|key| (addr.clone(), *key)))
    }

    fn check(&self, client: &LightningClient) {
        let peers = client.peers();
        let pairs: BTreeSet<_> = peers.iter().map(|peer| (peer.addr.clone(), peer.hotkey)).collect();
        assert_eq!(pairs.len(), peers.len(), "nobody is there twice");
        assert_eq!(pairs, self.pairs().collect());
        assert!(self.slots.len() <= self.addresses_max);
        for key in (0..KEYS).map(hotkey) {
            assert_eq!(client.peer_state(&key).is_some(), self.homes.contains_key(&key), "a route for {key}");
        }
    }
}

/// How a call fails that is looked at once.
async fn begun<T: std::fmt::Debug>(call: impl Future<Output = Result<T, CallError>>) -> Option<CallError> {
    let mut call = std::pin::pin!(call);
    poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done.expect_err("nobody answers"))),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn listed(axons: &[(u8, u8)]) -> Vec<QuicAxonInfo> {
    axons.iter().take(LIST_MAX).map(|(key, at)| axon(*key, *at)).collect()
}

fn named(axons: &[(u8, u8)]) -> Vec<(Hotkey, PeerAddr)> {
    axons.iter().take(LIST_MAX).map(|(key, at)| (hotkey(*key), addr(*at))).collect()
}

const LIST_MAX: usize = 10;
const KEYS: u8 = 8;

fn axon(key: u8, at: u8) -> QuicAxonInfo {
    // Half of them in their other spelling.
    let prefix = if at % 16 < 8 { "" } else { "::ffff:" };
    QuicAxonInfo::new(hotkey(key).to_string(), format!("{prefix}10.0.1.{}", at % 8), 8443, 4)
}

fn addr(at: u8) -> PeerAddr {
    PeerAddr::new(&format!("10.0.1.{}", at % 8), 8443)
}

fn hotkey(n: u8) -> Hotkey {
    Hotkey::from_public_key([n % KEYS + 1; 32]).expect("not the identity point")
}
