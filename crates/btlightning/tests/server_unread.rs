//! What a peer that does not take its answers can make a server hold, and for how long.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use btlightning::server::{Handler, Response};
use btlightning::{LightningError, StreamingSynapseHandler};
use btlightning_testkit::Link;
use bytes::Bytes;
use common::sim::World;
use common::{
    Data, Gate, Miner, Raw, client_config, config, data, eventually, read, request, socket, within,
};
use quinn::VarInt;
use rmpv::Value;
use tokio::time::{sleep, timeout};

/// Answers with as many bytes as its name says, once the gate is open.
fn answering(miner: &Miner, bytes: usize, gate: &Gate) {
    let gate = gate.clone();
    miner.server.register(
        bytes.to_string(),
        Handler::unary(move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Response::from_map(&data([("b", Value::Binary(vec![7; bytes]))]))
            }
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_in_time_is_let_go_of() {
    // A streaming answer has 5 s and 256 s more, for what QUIC may hold of it.
    for (dark, arrives) in [(Duration::from_secs(2), true), (Duration::from_secs(400), false)] {
        let world = World::new();
        // No idle timeout hides what is to be seen; with three streams there is a sweep every 8 s.
        let config = config().idle_timeout_secs(100_000).handler_timeout_secs(5);
        let miner = world.miner(config.max_concurrent_bidi_streams(3)).await;
        let gate = Gate::new();
        for bytes in [50_000, 200_000] {
            answering(&miner, bytes, &gate);
        }
        let chunked = gate.clone();
        miner.server.register(
            "chunks",
            Handler::streaming(move |_, chunks| {
                let chunked = chunked.clone();
                async move {
                    chunked.pass().await;
                    Ok(chunks.send(vec![7; 50_000]).await?)
                }
            }),
        );
        let pinging = client_config(b"btlightning", |transport| {
            transport.keep_alive_interval(Some(Duration::from_secs(1))).max_idle_timeout(None);
        });
        let raw = Raw::connect_from(world.socket(pinging), miner.addr).await.unwrap();
        raw.accepted("alice").await;
        let mut receiving = Vec::new();
        for name in ["50000", "200000", "chunks"] {
            receiving.push(raw.send(&request(name, &data([]))).await.1);
        }
        // sleeps: in virtual time, until all have begun; the gate is looked at without the clock
        sleep(Duration::from_millis(100)).await;
        assert_eq!(gate.begun(), 3);
        // From here on the peer is heard, and hears nothing: it pings, and acknowledges none of what follows.
        let (here, there) = ("10.0.0.1".parse().unwrap(), miner.addr.ip());
        world.net().set_link(there, here, Link { loss: 1.0, ..Link::default() });
        gate.open();
        // sleeps: in virtual time, for as long as the peer withholds its acknowledgements
        sleep(dark).await;
        world.net().set_link(there, here, Link { delay: Duration::from_millis(10), ..Link::default() });
        for (n, mut receive) in receiving.into_iter().enumerate() {
            let answer = timeout(Duration::from_secs(5000), receive.read_to_end(1 << 20)).await.unwrap();
            assert_eq!(answer.is_ok(), arrives, "answer {n} after {dark:?}");
        }
        assert!(raw.is_open());
    }
}

#[tokio::test]
async fn while_large_answers_are_not_read_no_more_handlers_begin() {
    let config = config().max_frame_payload_bytes(1 << 20).max_concurrent_bidi_streams(200);
    let miner = Miner::with(config, |_| {}).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = begun.clone();
    let answer = vec![7; 1_040_000];
    miner.server.register(
        "large",
        Handler::unary(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = Response::from_map(&data([("b", Value::Binary(answer.clone()))]));
            async move { answer }
        }),
    );
    let mut endpoint = socket();
    endpoint.set_default_client_config(client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(4096));
    }));
    let raw = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    raw.accepted("alice").await;
    let asked = request("large", &data([]));
    let mut receiving = Vec::new();
    for n in 1..=130 {
        let (_send, mut receive) = raw.send(&asked).await;
        // One after the other: an answer that begins to arrive was counted.
        within("an answer", receive.read_exact(&mut [0; 5])).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), n);
        receiving.push(receive);
    }
    let last = raw.send(&asked).await;
    assert_eq!(raw.failure("nobody knows", &data([])).await, "unrecognized synapse type");
    assert_eq!(begun.load(Ordering::SeqCst), 130, "128 MiB are held");
    for mut receive in receiving {
        let rest = within("an answer", receive.read_to_end(1 << 21)).await.unwrap();
        assert!(rest.len() > 1_040_000);
    }
    let (_send, mut receive) = last;
    assert_eq!(read(&mut receive).await.data()["b"].as_slice().unwrap().len(), 1_040_000);
    assert_eq!(begun.load(Ordering::SeqCst), 131);
}

const CHUNK_BYTES: usize = 1_000_000;

/// What streaming handlers have done, each of which sends chunks of 1 MB without an end.
#[derive(Clone, Default)]
struct Handed {
    begun: Arc<AtomicUsize>,
    /// Chunks that were taken off a handler's hands.
    chunks: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

/// Counts the end of a handler, however it comes.
struct Ends(Handed);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handed {
    fn begin(&self) -> Ends {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Ends(self.clone())
    }

    fn count(&self) -> usize {
        self.chunks.load(Ordering::SeqCst)
    }

    /// Waits for at least so many chunks, and until no more come.
    async fn at_rest_with(&self, least: usize) -> usize {
        eventually("chunks", async || (self.count() >= least).then_some(())).await;
        // sleeps: nothing happens, which no event announces
        sleep(Duration::from_millis(200)).await;
        self.count()
    }

    async fn all_ended(&self) {
        let begun = self.begun.load(Ordering::SeqCst);
        let ended = async || (self.ended.load(Ordering::SeqCst) == begun).then_some(());
        eventually("the ends of the handlers", ended).await;
        self.chunks.store(0, Ordering::SeqCst);
    }

    /// A handler that sends through the queue of ours.
    fn native(&self) -> Handler {
        let (handed, chunk) = (self.clone(), Bytes::from(vec![7; CHUNK_BYTES]));
        Handler::streaming(move |_, chunks| {
            let (handed, chunk) = (handed.clone(), chunk.clone());
            async move {
                let _ends = handed.begin();
                loop {
                    chunks.send(chunk.clone()).await?;
                    handed.chunks.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    }
}

#[async_trait]
impl StreamingSynapseHandler for Handed {
    async fn handle(
        &self,
        _: &str,
        _: Data,
        sender: tokio::sync::mpsc::Sender<Vec<u8>>,
    ) -> btlightning::Result<()> {
        let _ends = self.begin();
        loop {
            sender.send(vec![0; CHUNK_BYTES]).await.map_err(LightningError::handler)?;
            self.chunks.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A server with streams of either kind, and two connections to it: one that takes 4 KB of a stream, and one that takes
/// what comes.
async fn streaming() -> (Miner, [Handed; 2], Raw, Raw) {
    let config = config().max_frame_payload_bytes(1 << 20).max_concurrent_bidi_streams(200);
    let miner = Miner::with(config, |_| {}).await;
    let (native, published) = (Handed::default(), Handed::default());
    miner.server.register("native", native.native());
    miner.server.register_streaming_handler("published".into(), Arc::new(published.clone())).await.unwrap();
    let sizes = [1, 300_000, 0, 2_000, 900_000, 20, 20, 70_000];
    let counting = move || (0..16).map(move |n| vec![n as u8; sizes[n % sizes.len()]]);
    miner.server.register(
        "counting native",
        Handler::streaming(move |_, chunks| async move {
            for chunk in counting() {
                chunks.send(chunk).await?;
            }
            Ok(())
        }),
    );
    struct Counting<F>(F);
    #[async_trait]
    impl<F: Fn() -> I + Send + Sync, I: Iterator<Item = Vec<u8>> + Send> StreamingSynapseHandler for Counting<F> {
        async fn handle(
            &self,
            _: &str,
            _: Data,
            sender: tokio::sync::mpsc::Sender<Vec<u8>>,
        ) -> btlightning::Result<()> {
            for chunk in (self.0)() {
                sender.send(chunk).await.map_err(LightningError::handler)?;
            }
            Ok(())
        }
    }
    let published_too = Arc::new(Counting(counting));
    miner.server.register_streaming_handler("counting published".into(), published_too).await.unwrap();
    let mut endpoint = socket();
    endpoint.set_default_client_config(client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(4096));
    }));
    let narrow = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    narrow.accepted("alice").await;
    let wide = Raw::authenticated(&miner, "bob").await;
    (miner, [native, published], narrow, wide)
}

/// Asks for chunks one by one, and for all of them.
async fn assert_streams_go_on(raw: &Raw) {
    let sizes = [1, 300_000, 0, 2_000, 900_000, 20, 20, 70_000];
    for name in ["counting native", "counting published"] {
        let (chunks, end) = raw.ask(name, &data([])).await.chunks();
        assert_eq!((chunks.len(), end), (16, None), "{name}");
        for (n, chunk) in chunks.iter().enumerate() {
            assert!(chunk.len() == sizes[n % 8] && chunk.iter().all(|byte| *byte == n as u8), "{name}: {n}");
        }
    }
}

#[tokio::test]
async fn chunks_that_are_not_read_are_held_within_a_bound() {
    let (_miner, [native, published], narrow, wide) = streaming().await;
    const STREAMS: usize = 40;
    // Of 64 MiB that the streams share 67 chunks are made, and each has one of its own. What a published handler sends is
    // taken before it can be counted: four of a stream wait, of two streams 32, and one is on its way.
    for (name, handed, least, most) in [
        ("native", native, 67, 67 + STREAMS),
        ("published", published, 5 * STREAMS, 5 * STREAMS + 2 * 28 + 67),
    ] {
        let mut receiving = Vec::new();
        for _ in 0..STREAMS {
            receiving.push(narrow.send(&request(name, &data([]))).await.1);
        }
        let held = handed.at_rest_with(least).await;
        assert!(held <= most, "{name}: {held} chunks are held, {most} may be");
        assert_eq!(handed.begun.load(Ordering::SeqCst), STREAMS);
        // Neither others nor the same connection wait for that, nor do the streams themselves.
        assert_streams_go_on(&wide).await;
        assert_streams_go_on(&narrow).await;
        for receive in &mut receiving[..2] {
            within("two chunks", receive.read_exact(&mut vec![0; 2 * CHUNK_BYTES + 100])).await.unwrap();
        }
        for mut receive in receiving {
            receive.stop(VarInt::from_u32(0)).unwrap();
        }
        handed.all_ended().await;
    }
}

#[tokio::test]
async fn while_chunks_are_not_read_no_more_handlers_begin() {
    let (_miner, [native, _], narrow, wide) = streaming().await;
    let asked = request("native", &data([]));
    let mut receiving = Vec::new();
    // Of 128 MiB 67 chunks are held in common, and one of each stream.
    for n in 1..=68 {
        let (_send, mut receive) = narrow.send(&asked).await;
        // One after the other: of a stream that begins to arrive a chunk was counted.
        within("a chunk", receive.read_exact(&mut [0; 5])).await.unwrap();
        assert_eq!(native.begun.load(Ordering::SeqCst), n);
        receiving.push(receive);
    }
    // What a handler holds while its queue is full was not handed over.
    native.at_rest_with(67 + 68 - 3).await;
    let mut last = narrow.send(&asked).await.1;
    assert_eq!(narrow.failure("nobody knows", &data([])).await, "unrecognized synapse type");
    assert_eq!(native.begun.load(Ordering::SeqCst), 68, "128 MiB are held");
    assert_streams_go_on(&wide).await;
    for mut receive in receiving {
        receive.stop(VarInt::from_u32(0)).unwrap();
    }
    within("a chunk", last.read_exact(&mut vec![0; CHUNK_BYTES])).await.unwrap();
    assert_eq!(native.begun.load(Ordering::SeqCst), 69);
}

#[tokio::test(start_paused = true)]
async fn room_for_chunks_is_free_again_however_their_streams_end() {
    let world = World::new();
    let config = config().max_frame_payload_bytes(1 << 20).idle_timeout_secs(100_000).handler_timeout_secs(5);
    let miner = world.miner(config).await;
    let handed = Handed::default();
    miner.server.register("native", handed.native());
    let narrow = client_config(b"btlightning", |transport| {
        transport.keep_alive_interval(Some(Duration::from_secs(60))).max_idle_timeout(None);
        transport.stream_receive_window(VarInt::from_u32(4096));
    });
    let raw = Raw::connect_from(world.socket(narrow), miner.addr).await.unwrap();
    raw.accepted("alice").await;
    for is_stopped in [true, false, true] {
        let mut receiving = Vec::new();
        for _ in 0..2 {
            receiving.push(raw.send(&request("native", &data([]))).await.1);
        }
        // Almost all the room there is: nothing is left of the streams before.
        let held = handed.at_rest_with(64).await;
        assert!((64..=68).contains(&held), "{held}");
        if is_stopped {
            for receive in &mut receiving {
                receive.stop(VarInt::from_u32(0)).unwrap();
            }
        } else {
            // sleeps: in virtual time, until nobody waits for the peer any more: 5 s, and a second for each 64 KiB
            sleep(Duration::from_secs(2000)).await;
            for receive in &mut receiving {
                receive.read_to_end(1 << 20).await.unwrap_err();
            }
        }
        handed.all_ended().await;
    }
}

/// A validator in virtual time that takes a hundred bytes of each answer before it reads it.
async fn narrow(world: &World, miner: &Miner) -> Raw {
    let endpoint = world.socket(client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(100));
    }));
    let raw = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    raw.accepted("alice").await;
    raw
}

fn requests_held(miner: &Miner) -> usize {
    miner.server.holdings().requests
}

#[tokio::test(start_paused = true)]
async fn however_much_there_is_to_read_who_reads_nothing_is_given_up_on_early() {
    let world = World::new();
    let miner = world.miner(config().handler_timeout_secs(5)).await;
    let gate = Gate::new();
    gate.open();
    answering(&miner, 32 << 20, &gate);
    miner.server.register(
        "chunks",
        Handler::streaming(|_, chunks| async move {
            loop {
                chunks.send(vec![7; 1 << 20]).await?;
            }
        }),
    );
    let raw = narrow(&world, &miner).await;
    let mut receiving = Vec::new();
    for name in ["33554432", "chunks"] {
        receiving.push(raw.send(&request(name, &data([]))).await.1);
    }
    // sleeps: in virtual time, until just before the end
    sleep(Duration::from_millis(20_500)).await;
    assert!(requests_held(&miner) > 0);
    // The handler's five seconds, five more, and sixteen for 1 MiB.
    // sleeps: in virtual time, until just after it
    sleep(Duration::from_millis(6_000)).await;
    assert_eq!(requests_held(&miner), 0);
    for mut receive in receiving {
        assert!(receive.read_to_end(1 << 30).await.is_err());
    }
    assert!(raw.is_open());
}

#[tokio::test(start_paused = true)]
async fn who_keeps_the_pace_reads_all_of_it() {
    let world = World::new();
    let miner = world.miner(config().handler_timeout_secs(5)).await;
    let gate = Gate::new();
    gate.open();
    answering(&miner, 5 << 20, &gate);
    miner.server.register(
        "chunks",
        Handler::streaming(|_, chunks| async move {
            for _ in 0..5 {
                chunks.send(vec![7; 1 << 20]).await?;
            }
            Ok(())
        }),
    );
    let endpoint = world.socket(client_config(b"btlightning", |transport| {
        transport.stream_receive_window(VarInt::from_u32(64 * 1024));
    }));
    let raw = Raw::connect_from(endpoint, miner.addr).await.unwrap();
    raw.accepted("alice").await;
    for name in ["5242880", "chunks"] {
        let (_send, mut receive) = raw.send(&request(name, &data([]))).await;
        let mut read = 0;
        let mut part = vec![0; 64 * 1024];
        while let Some(bytes) = receive.read(&mut part).await.unwrap() {
            read += bytes;
            // sleeps: in virtual time, as long as these bytes may take
            sleep(Duration::from_micros(bytes as u64 * 1_000_000 / (64 * 1024))).await;
        }
        assert!(read > 5 << 20, "{read} bytes of {name}");
    }
}
