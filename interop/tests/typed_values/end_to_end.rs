//! Typed values on the way: from their client to our handler and from our `call` to their handler, and back.

use std::net::SocketAddr;
use std::sync::Arc;

use btlightning_interop::{Data, keys, within};
use btlightning_ours as ours;
use btlightning_published as theirs;
use tokio::task::JoinSet;

use crate::shapes::{Readers, Shape, Visit, fields, payloads};

/// Makes a miner of a package and a validator of the other.
macro_rules! pair {
    ($server:ident, $client:ident) => {{
        let miner = keys("miner");
        let mut server = $server::LightningServer::new(miner.hotkey.clone(), "127.0.0.1".into(), 0)
            .expect("a valid configuration");
        server.set_miner_keypair(miner.seed);
        server.start().await.expect("a socket");
        let addr: SocketAddr = server.local_addr().expect("it was started");
        let server = Arc::new(server);
        let mut serving = JoinSet::new();
        serving.spawn({
            let server = server.clone();
            async move { server.serve_forever().await.expect("an orderly end") }
        });
        let validator = keys("validator");
        let mut client = $client::LightningClient::new(validator.hotkey);
        client.set_signer(Box::new($client::Sr25519Signer::from_seed(validator.seed)));
        let axon = $client::QuicAxonInfo::new(miner.hotkey, addr.ip().to_string(), addr.port(), 4);
        within("a connection", client.initialize_connections(vec![axon.clone()])).await.expect("initialized");
        Pair { server, client, axon, _serving: serving }
    }};
}

struct Pair<S, C, A> {
    server: Arc<S>,
    client: C,
    axon: A,
    _serving: JoinSet<()>,
}

/// Whether `back` is `value`.
fn same<T: Shape>(back: &T, value: &T) -> bool {
    format!("{back:?}") == format!("{value:?}")
}

/// A value whose handler gives it back. The handlers are told apart by number, since each has its own type.
struct OurCall {
    pair: Pair<theirs::LightningServer, ours::LightningClient, ours::QuicAxonInfo>,
    count: u32,
}

impl Visit for OurCall {
    async fn shape<T: Shape>(&mut self, name: &str, value: T, readers: Readers) {
        self.count += 1;
        let Pair { server, client, axon, .. } = &self.pair;
        let (blocking, unary) = (format!("{}", self.count), format!("{} async", self.count));
        let handler = theirs::typed_handler(|value: T| Ok::<_, String>(value));
        server.register_synapse_handler(blocking.clone(), handler).await.expect("registered");
        let handler = theirs::typed_async_handler(|value: T| async { Ok::<_, String>(value) });
        server.register_async_synapse_handler(unary.clone(), handler).await.expect("registered");
        for handler in [blocking, unary] {
            let reply = within(name, client.call::<_, T>(axon, &handler, &value)).await;
            match (readers, reply) {
                (Readers::Both, reply) => assert!(same(&reply.expect("an answer").value, &value), "{name}"),
                // The published handler does not understand the question.
                (Readers::Ours, reply) => {
                    let error = reply.expect_err("a failure");
                    assert!(matches!(error, ours::CallError::Rejected(_)), "{name}: {error}");
                }
                (Readers::Nobody, Ok(reply)) => assert!(!same(&reply.value, &value), "{name}"),
                (Readers::Nobody, Err(_)) => {}
            }
        }
    }
}

struct OurHandler {
    pair: Pair<ours::LightningServer, theirs::LightningClient, theirs::QuicAxonInfo>,
    count: u32,
}

impl Visit for OurHandler {
    async fn shape<T: Shape>(&mut self, name: &str, value: T, readers: Readers) {
        self.count += 1;
        let Pair { server, client, axon, .. } = &self.pair;
        let Ok(request) = theirs::QuicRequest::from_typed(self.count.to_string(), &value) else {
            assert_eq!(readers, Readers::Nobody, "{name}");
            return;
        };
        let handler = ours::typed_async_handler(|value: T| async { Ok::<_, String>(value) });
        let (blocking, native) = (format!("{} blocking", self.count), format!("{} native", self.count));
        server.register_async_synapse_handler(self.count.to_string(), handler).await.expect("registered");
        let handler = ours::typed_handler(|value: T| Ok::<_, String>(value));
        server.register_synapse_handler(blocking.clone(), handler).await.expect("registered");
        server
            .register(&native, ours::server::Handler::typed(|_, value: T| async { Ok::<_, String>(value) }));
        for handler in [self.count.to_string(), blocking, native] {
            let request = theirs::QuicRequest::new(handler, request.data.clone());
            let response = within(name, client.query_axon(axon.clone(), request)).await.expect("an answer");
            let back = response.deserialize_data::<T>();
            match readers {
                Readers::Both => assert!(same(&back.expect("fits"), &value), "{name}"),
                // Our handler understands the question; the published client does not understand the answer, which is
                // what it has sent itself.
                Readers::Ours => {
                    assert_eq!((response.success, &response.data), (true, &request_data(&value)), "{name}");
                    assert!(back.is_err(), "{name}");
                }
                Readers::Nobody => assert!(!back.is_ok_and(|back| same(&back, &value)), "{name}"),
            }
        }
    }
}

fn request_data<T: Shape>(value: &T) -> Data {
    theirs::QuicRequest::from_typed("", value).expect("a map").data
}

#[tokio::test]
async fn our_call_and_their_handler() {
    let mut call = OurCall { pair: pair!(theirs, ours), count: 0 };
    payloads(&mut call).await;
    fields(&mut call).await;
}

#[tokio::test]
async fn their_client_and_our_handler() {
    let mut handler = OurHandler { pair: pair!(ours, theirs), count: 0 };
    payloads(&mut handler).await;
    fields(&mut handler).await;
}
