//! A validator: a client, and what its subscribers have been told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use btlightning::{Hotkey, LightningClient, LightningClientConfig, PeerAddr, PeerChanges, Sr25519Signer};
use btlightning_testkit::{SimNet, keys};

use crate::miner::IDLE_TIMEOUT;
use crate::network::Host;
use crate::oracle::Oracle;
use crate::plan::{Leaving, ValidatorSetting};

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(12);
pub(crate) const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const SLOW_PROBE: Duration = Duration::from_secs(15);
/// The largest answer that is accepted, and the most bytes of all chunks.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Validator {
    pub(crate) number: usize,
    pub(crate) hotkey: Hotkey,
    pub(crate) ip: IpAddr,
    pub(crate) setting: ValidatorSetting,
    /// While it is there.
    pub(crate) present: Option<Present>,
    net: SimNet,
    oracle: Oracle,
}

/// A client and its subscription.
pub(crate) struct Present {
    pub(crate) client: Arc<LightningClient>,
    host: Arc<Host>,
    /// Where its socket is seen.
    seen: SocketAddr,
    changes: PeerChanges,
    /// How things stand with each peer, by what the changes have said.
    told: BTreeMap<(Hotkey, PeerAddr), &'static str>,
}

impl Validator {
    pub(crate) fn new(net: &SimNet, oracle: &Oracle, number: usize, setting: &ValidatorSetting) -> Self {
        let ip = format!("10.0.1.{}", setting.host + 1).parse().unwrap();
        let hotkey = crate::hotkey(&name(setting.hotkey));
        let (net, oracle, setting) = (net.clone(), oracle.clone(), setting.clone());
        Self { number, hotkey, ip, setting, present: None, net, oracle }
    }

    /// Opens its client, if there is none.
    pub(crate) fn come(&mut self) {
        if self.present.is_some() {
            return;
        }
        let host = Host::new(&self.net, self.ip);
        let client =
            LightningClient::with_network(self.hotkey.to_string(), config(&self.setting), host.clone())
                .unwrap();
        client.sign_with(Arc::new(Sr25519Signer::from_seed(keys::seed(&name(self.setting.hotkey)))));
        client.open().unwrap();
        let (changes, seen) = (client.peer_changes(), host.bound()[0]);
        self.present = Some(Present { client: Arc::new(client), host, seen, changes, told: BTreeMap::new() });
    }

    /// The client, for queries.
    pub(crate) fn client(&self) -> Option<Arc<LightningClient>> {
        self.present.as_ref().map(|present| present.client.clone())
    }

    /// Goes. Queries that are out keep the client until they end.
    pub(crate) async fn leave(&mut self, how: Leaving) {
        let Some(present) = self.present.take() else { return };
        let number = self.number;
        match how {
            Leaving::Drop => {}
            Leaving::Close => {
                // Whoever else asks meanwhile may name somebody anew.
                let is_alone = Arc::strong_count(&present.client) == 1;
                let closing = present.client.close_all_connections();
                let what = || format!("the close of validator {number}");
                self.oracle.within(Duration::from_secs(1), what, closing).await;
                let left = present.client.peers();
                let is_empty = left.is_empty() || !is_alone;
                self.oracle.holds(is_empty, || format!("a closed client has peers: {left:?}"));
            }
            Leaving::Crash => {
                for bound in present.host.bound() {
                    self.net.blackhole(bound);
                }
                self.net.blackhole(present.seen);
            }
        }
    }

    /// Its socket, by its own address and by that which others see.
    pub(crate) fn sockets(&self) -> Vec<SocketAddr> {
        self.present.as_ref().map(|present| vec![present.host.bound()[0], present.seen]).unwrap_or_default()
    }

    /// A NAT shows its socket elsewhere from now on. Nothing happens if somebody is there already.
    pub(crate) fn rebind(&mut self, to: SocketAddr) {
        let Some(present) = &mut self.present else { return };
        if self.net.rebind(present.host.bound()[0], to).is_ok() {
            present.seen = to;
        }
    }

    /// Reads what the subscription has, and compares it with how things stand.
    pub(crate) async fn check_changes(&mut self) {
        let Some(present) = &mut self.present else { return };
        while let Some(change) = at_once(present.changes.next()).await.flatten() {
            match change {
                Ok(peer) => {
                    let key = (peer.hotkey, peer.addr);
                    match peer.state.as_str() {
                        "closed" => present.told.remove(&key),
                        state => present.told.insert(key, state),
                    };
                }
                Err(_) => present.told = snapshot(&present.client),
            }
        }
        // Nothing runs between the last change and this.
        let now = snapshot(&present.client);
        if now != present.told {
            let (number, told) = (self.number, &present.told);
            self.oracle.wrong(format!("validator {number} was told {told:?}, and its peers are {now:?}"));
            present.told = now;
        }
        let wanted = present.told.len();
        let most = self.setting.addresses_max;
        let addresses: std::collections::BTreeSet<_> = present.told.keys().map(|(_, addr)| addr).collect();
        self.oracle
            .holds(addresses.len() <= most, || format!("{wanted} peers at more than {most} addresses"));
    }
}

pub(crate) fn name(hotkey: usize) -> String {
    format!("validator {hotkey}")
}

fn snapshot(client: &LightningClient) -> BTreeMap<(Hotkey, PeerAddr), &'static str> {
    let peers = client.peers().into_iter();
    let wanted = peers.filter(|peer| peer.state.as_str() != "closed");
    wanted.map(|peer| ((peer.hotkey, peer.addr), peer.state.as_str())).collect()
}

/// What is there already.
async fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(tokio::task::unconstrained(work));
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn config(setting: &ValidatorSetting) -> LightningClientConfig {
    LightningClientConfig {
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        keep_alive_interval: Duration::from_secs(5),
        reconnect_initial_backoff: Duration::from_millis(500),
        reconnect_max_backoff: Duration::from_secs(4),
        reconnect_max_retries: 3,
        reconnect_slow_probe_interval: setting.probes_slowly.then_some(SLOW_PROBE),
        max_connections: setting.addresses_max,
        max_frame_payload_bytes: FRAME_BYTES_MAX,
        max_stream_payload_bytes: FRAME_BYTES_MAX,
        stream_chunk_timeout: Some(CHUNK_TIMEOUT),
        query_timeout: QUERY_TIMEOUT,
        ..Default::default()
    }
}
