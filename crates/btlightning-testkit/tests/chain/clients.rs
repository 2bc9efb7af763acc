//! Clients: subxt with either backend, and plain JSON-RPC.

use btlightning_testkit::{
    chain::{AccountId, Chain, Neuron},
    keys,
};
use futures_util::{SinkExt, StreamExt};
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use subxt::{
    OnlineClient, PolkadotConfig,
    backend::{ChainHeadBackend, LegacyBackend},
    rpcs::RpcClient,
    transactions::Signer,
    utils::{AccountId32, MultiSignature},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

pub(crate) const NETUID: u16 = 2;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which of subxt's backends to use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    Legacy,
    ChainHead,
}

pub(crate) const BACKENDS: [Backend; 2] = [Backend::Legacy, Backend::ChainHead];

/// subxt, connected to `url`.
pub(crate) async fn subxt(url: &str, backend: Backend) -> OnlineClient<PolkadotConfig> {
    let rpc = RpcClient::from_insecure_url(url).await.unwrap();
    let client = match backend {
        Backend::Legacy => {
            let backend = LegacyBackend::<PolkadotConfig>::builder().build(rpc);
            OnlineClient::from_backend(Arc::new(backend)).await
        }
        Backend::ChainHead => {
            let backend = ChainHeadBackend::<PolkadotConfig>::builder().build_with_background_driver(rpc);
            OnlineClient::from_backend(Arc::new(backend)).await
        }
    };
    client.unwrap()
}

/// A key that goes by a name.
pub(crate) struct Key(Keypair);

impl Key {
    pub(crate) fn named(name: &str) -> Self {
        let seed = MiniSecretKey::from_bytes(&keys::seed(name)).unwrap();
        Self(seed.expand_to_keypair(ExpansionMode::Ed25519))
    }

    pub(crate) fn account(&self) -> AccountId {
        self.0.public.to_bytes()
    }

    pub(crate) fn sign_bytes(&self, payload: &[u8]) -> [u8; 64] {
        self.0.sign_simple(b"substrate", payload).to_bytes()
    }
}

impl Signer<PolkadotConfig> for Key {
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.account())
    }

    fn sign(&self, signer_payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(self.sign_bytes(signer_payload))
    }
}

/// A chain with a subnet of three: a validator, a miner that serves, and one that does not.
pub(crate) async fn chain_of_three() -> Chain {
    let chain = Chain::builder().start().await.unwrap();
    populate(&chain);
    chain
}

pub(crate) fn populate(chain: &Chain) {
    let neuron = |name: &str| Neuron::new(Key::named(name).account(), Key::named("coldkey").account());
    chain.update(|state| {
        let subnet = state.add_subnet(NETUID);
        subnet.register(neuron("validator").validating(5_000_000_000));
        subnet.register(neuron("miner").serving("203.0.113.7:8091".parse().unwrap()));
        subnet.register(neuron("newcomer"));
    });
}

/// Awaits what must come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it should have come by now")
}

/// A client that knows nothing but JSON-RPC.
pub(crate) struct Plain {
    socket: WebSocketStream<TcpStream>,
    ids: u64,
    /// Notifications that came while an answer was awaited.
    notifications: std::collections::VecDeque<Value>,
}

impl Plain {
    pub(crate) async fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).await.unwrap();
        let (socket, _) = soon(client_async(url, stream)).await.unwrap();
        Self { socket, ids: 0, notifications: Default::default() }
    }

    /// What a method answers.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let response = self.respond(method, params).await;
        assert!(response.get("error").is_none(), "{method}: {response}");
        response["result"].clone()
    }

    /// The error that a method answers with.
    pub(crate) async fn error(&mut self, method: &str, params: Value) -> Value {
        let response = self.respond(method, params).await;
        assert!(response.get("result").is_none(), "{method}: {response}");
        response["error"].clone()
    }

    async fn respond(&mut self, method: &str, params: Value) -> Value {
        self.ids += 1;
        let id = self.ids;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string())
            .await;
        loop {
            let message = self.receive().await;
            if message["id"] == id {
                return message;
            }
            self.notifications.push_back(message);
        }
    }

    /// What the next notification of a subscription says.
    pub(crate) async fn notified(&mut self, subscription: &Value) -> Value {
        loop {
            let of_it = |message: &Value| message["params"]["subscription"] == *subscription;
            if let Some(index) = self.notifications.iter().position(of_it) {
                return self.notifications.remove(index).unwrap()["params"]["result"].take();
            }
            let message = self.receive().await;
            self.notifications.push_back(message);
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message, as JSON.
    pub(crate) async fn receive(&mut self) -> Value {
        let message = self.receive_raw().await.expect("the connection is open");
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// The next message; `None` if the connection is closed.
    pub(crate) async fn receive_raw(&mut self) -> Option<Message> {
        let message = soon(self.socket.next()).await?;
        message.ok().filter(|message| !message.is_close())
    }
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}
