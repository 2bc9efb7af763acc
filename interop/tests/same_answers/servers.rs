//! A server of each make, with the same keys, the same configuration and the same handlers.

use std::net::SocketAddr;
use std::sync::Arc;

use btlightning_interop::{BareValidator, Data, Make, frame, keys};
use tokio::sync::mpsc;

/// A server that serves.
pub(crate) struct Server {
    pub(crate) make: Make,
    pub(crate) addr: SocketAddr,
    // Serves until it is dropped.
    _serving: tokio::task::JoinSet<()>,
}

/// The largest payload that the servers read.
pub(crate) const LIMIT: usize = 1 << 20;

macro_rules! server {
    ($name:ident, $package:ident, $make:expr) => {
        async fn $name(attempts: u32) -> Server {
            use $package as package;

            struct Sync(fn(Data) -> package::Result<Data>);
            impl package::SynapseHandler for Sync {
                fn handle(&self, _: &str, data: Data) -> package::Result<Data> {
                    (self.0)(data)
                }
            }
            struct Never;
            #[async_trait::async_trait]
            impl package::AsyncSynapseHandler for Never {
                async fn handle(&self, _: &str, _: Data) -> package::Result<Data> {
                    std::future::pending().await
                }
            }
            struct Stream {
                chunks: &'static [&'static [u8]],
                end: fn() -> package::Result<()>,
            }
            #[async_trait::async_trait]
            impl package::StreamingSynapseHandler for Stream {
                async fn handle(
                    &self,
                    _: &str,
                    _: Data,
                    sender: mpsc::Sender<Vec<u8>>,
                ) -> package::Result<()> {
                    for chunk in self.chunks {
                        sender.send(chunk.to_vec()).await.map_err(package::LightningError::handler)?;
                    }
                    (self.end)()
                }
            }

            let config = package::LightningServerConfig::builder()
                .max_handshake_attempts_per_minute(attempts)
                .max_frame_payload_bytes(LIMIT)
                .handler_timeout_secs(1)
                .build()
                .expect("a valid configuration");
            let miner = keys("miner");
            let mut server =
                package::LightningServer::with_config(miner.hotkey, "127.0.0.1".into(), 0, config)
                    .expect("a valid configuration");
            server.set_miner_keypair(miner.seed);

            let secret = || Err(package::LightningError::handler("a secret"));
            let handlers: [(&str, Sync); 4] = [
                ("echo", Sync(Ok)),
                ("nothing", Sync(|_| Ok(Data::new()))),
                ("fails", Sync(|_| Err(package::LightningError::handler("a secret")))),
                ("panics", Sync(|_| panic!("a secret"))),
            ];
            for (name, handler) in handlers {
                server.register_synapse_handler(name.into(), Arc::new(handler)).await.expect("registered");
            }
            server.register_async_synapse_handler("never".into(), Arc::new(Never)).await.expect("registered");
            let streams: [(&str, Stream); 5] = [
                ("none", Stream { chunks: &[], end: || Ok(()) }),
                ("empty chunk", Stream { chunks: &[b""], end: || Ok(()) }),
                ("three", Stream { chunks: &[b"a", b"bc", &[0xff; 300]], end: || Ok(()) }),
                ("two and fails", Stream { chunks: &[b"a", b"bc"], end: secret }),
                ("two and panics", Stream { chunks: &[b"a", b"bc"], end: || panic!("a secret") }),
            ];
            for (name, handler) in streams {
                server.register_streaming_handler(name.into(), Arc::new(handler)).await.expect("registered");
            }
            server.start().await.expect("a socket");
            let addr = server.local_addr().expect("it was started");
            let mut serving = tokio::task::JoinSet::new();
            serving.spawn(async move { server.serve_forever().await.expect("an orderly end") });
            Server { make: $make, addr, _serving: serving }
        }
    };
}

server!(ours, btlightning_ours, Make::Ours);
server!(theirs, btlightning_published, Make::Theirs);

/// Both servers, ours first, that allow so many handshakes a minute.
pub(crate) async fn both(attempts: u32) -> [Server; 2] {
    [ours(attempts).await, theirs(attempts).await]
}

/// A client at each of both servers, ours first.
pub(crate) struct Clients {
    servers: [Server; 2],
    pub(crate) ours: BareValidator,
    pub(crate) theirs: BareValidator,
}

impl Clients {
    /// Clients that have not authenticated.
    pub(crate) async fn strangers() -> Self {
        let servers = both(1000).await;
        let [ours, theirs] = connect(&servers).await;
        Self { servers, ours, theirs }
    }

    /// New connections to the same servers, which have not authenticated.
    pub(crate) async fn connect(&self) -> [BareValidator; 2] {
        connect(&self.servers).await
    }

    /// Clients that have authenticated.
    pub(crate) async fn authenticated() -> Self {
        let clients = Self::strangers().await;
        clients.ours.authenticate(&keys("validator")).await;
        clients.theirs.authenticate(&keys("validator")).await;
        clients
    }

    /// What each answers to these bytes, without the time.
    pub(crate) async fn answers(&self, bytes: &[u8]) -> [Answer; 2] {
        let (ours, theirs) = tokio::join!(self.ours.try_exchange(bytes), self.theirs.try_exchange(bytes));
        [ours, theirs]
            .map(|answer| answer.map_or(Answer::GivenUp, |bytes| Answer::Bytes(without_time(bytes))))
    }

    /// The answer that both give to these bytes.
    pub(crate) async fn answer(&self, what: &str, bytes: &[u8]) -> Answer {
        let [ours, theirs] = self.answers(bytes).await;
        assert_eq!(ours, theirs, "{what}");
        theirs
    }
}

async fn connect([ours, theirs]: &[Server; 2]) -> [BareValidator; 2] {
    [BareValidator::connect(ours.addr).await, BareValidator::connect(theirs.addr).await]
}

/// What a server does with a stream.
#[derive(PartialEq, Eq)]
pub(crate) enum Answer {
    /// It says this and ends the stream.
    Bytes(Vec<u8>),
    /// It resets the stream.
    GivenUp,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&bytes.escape_ascii().to_string()),
            Self::GivenUp => f.write_str("reset"),
        }
    }
}

/// The end of a stream with nothing on it.
pub(crate) fn nothing() -> Answer {
    Answer::Bytes(Vec::new())
}

/// A SynapseResponse with this data, at the time zero.
pub(crate) fn success(data: &[u8]) -> Answer {
    Answer::Bytes(frame(4, &[&[0x94, 0xc3][..], data, &TIME, &[0xc0]].concat()))
}

/// A SynapseResponse that failed with these words, at the time zero.
pub(crate) fn failure(words: &str) -> Answer {
    let words = rmp_serde::to_vec(words).expect("encodes");
    Answer::Bytes(frame(4, &[&[0x94, 0xc2, 0x80][..], &TIME, &words].concat()))
}

/// A time of nowadays, once it is set to zero.
const TIME: [u8; 5] = [0xce, 0, 0, 0, 0];

/// `answer` with each time of about now set to zero.
pub(crate) fn without_time(mut answer: Vec<u8>) -> Vec<u8> {
    const U32_MARKER: u8 = 0xce;
    let now = btlightning_published::util::unix_timestamp_secs();
    for at in 0..answer.len().saturating_sub(4) {
        let Some((&[U32_MARKER, ref digits @ ..], _)) = answer[at..].split_first_chunk::<5>() else {
            continue;
        };
        if u64::from(u32::from_be_bytes(*digits)).abs_diff(now) < 600 {
            answer[at + 1..at + 5].fill(0);
        }
    }
    answer
}
