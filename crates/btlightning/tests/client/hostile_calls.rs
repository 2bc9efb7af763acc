//! Miners that answer badly: each wait of a call has its bound, and its error says which it was.

use std::time::Duration;

use btlightning::{CallError, CallOptions, LightningClient, LightningClientConfig, Phase};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::Instant;

use crate::by_hand::{ByHand, Guest, Manners, answer, chunk};
use crate::world::{Ping, World, config, within};

#[derive(serde::Serialize)]
struct Long {
    text: String,
}

const BOUND: Duration = Duration::from_secs(7);

/// A miner that does with each request what `reply` does, and a client that is connected to it.
async fn asked_of<F: Future<Output = Option<()>> + Send + 'static>(
    seed: u64,
    config: LightningClientConfig,
    reply: fn(Connection, SendStream, RecvStream) -> F,
) -> (World, ByHand, LightningClient) {
    let world = World::new(seed);
    let miner = world.by_hand("miner", "10.0.0.2:1", Manners::default(), move |guest: Guest| async move {
        guest.prove().await?;
        loop {
            let (send, receive) = guest.asked().await?;
            tokio::spawn(reply(guest.connection.clone(), send, receive));
        }
    });
    let mut client = world.client(config).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    (world, miner, client)
}

async fn ask(client: &LightningClient, miner: &ByHand) -> CallError {
    let options = CallOptions::new().timeout(BOUND);
    within(client.call_with::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 }, options)).await.unwrap_err()
}

/// The call timed out in `phase`, when its bound was over and not later.
fn assert_late(error: &CallError, wanted: Phase, asked: Instant, bound: Duration) {
    let CallError::TimedOut { phase, after } = error else { panic!("{error}") };
    assert_eq!((*phase, *after), (wanted, asked.elapsed()), "{error}");
    assert!((bound..bound + Duration::from_millis(10)).contains(after), "{after:?}");
}

/// One byte a second.
async fn trickle(send: &mut SendStream, bytes: &[u8]) -> Option<()> {
    for byte in bytes {
        send.write_all(&[*byte]).await.ok()?;
        // sleeps: virtual, the clock is paused
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Some(())
}

#[tokio::test(start_paused = true)]
async fn a_miner_that_grants_no_streams_is_waited_for_within_the_bound() {
    let world = World::new(260);
    let mut manners = Manners::default();
    manners.transport.max_concurrent_bidi_streams(1u32.into());
    let miner = world.by_hand("miner", "10.0.0.2:1", manners, |guest: Guest| async move {
        // The handshake's stream is never done with, so there is no other.
        let (mut send, answer) = guest.handshake().await?;
        send.write_all(&answer).await.ok()?;
        guest.connection.closed().await;
        drop(send);
        Some(())
    });
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    assert!(client.peer_state(&miner.hotkey).unwrap().is_connected());
    let asked = Instant::now();
    assert_late(&ask(&client, &miner).await, Phase::Connecting, asked, BOUND);
}

#[tokio::test(start_paused = true)]
async fn a_miner_that_reads_nothing_is_sent_to_within_the_bound() {
    let world = World::new(261);
    let mut manners = Manners::default();
    manners.transport.stream_receive_window(2_000u32.into());
    let miner = world.by_hand("miner", "10.0.0.2:1", manners, |guest: Guest| async move {
        guest.prove().await?;
        let unread = guest.connection.accept_bi().await.ok()?;
        guest.connection.closed().await;
        drop(unread);
        Some(())
    });
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    let asked = Instant::now();
    let options = CallOptions::new().timeout(BOUND);
    let large = Long { text: "x".repeat(10_000) };
    let error = within(client.call_with::<_, Ping>(miner.hotkey, "echo", &large, options)).await.unwrap_err();
    assert_late(&error, Phase::Sending, asked, BOUND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_trickles_is_waited_for_within_the_bound() {
    let (_world, miner, client) =
        asked_of(262, config(), |_, mut send, _| async move { trickle(&mut send, &answer()).await }).await;
    let asked = Instant::now();
    assert_late(&ask(&client, &miner).await, Phase::Answer, asked, BOUND);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_trickles_is_waited_for_within_the_bound() {
    let quick = LightningClientConfig { stream_chunk_timeout: Some(Duration::from_secs(5)), ..config() };
    let (_world, miner, client) = asked_of(263, quick, |_, mut send, _| async move {
        send.write_all(&chunk(b"one")).await.ok()?;
        trickle(&mut send, &chunk(&[0; 100])).await
    })
    .await;
    let mut chunks = client.call_stream(miner.hotkey, "s", &Ping { n: 1 }, CallOptions::new()).await.unwrap();
    let first = within(chunks.next()).await.unwrap().unwrap();
    assert!(first.is_unique(), "a small chunk keeps nothing of the packets that it came in");
    let asked = Instant::now();
    let error = within(chunks.next()).await.unwrap_err();
    assert_late(&error, Phase::Chunk, asked, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_a_bound_as_a_whole() {
    let minute = Duration::from_secs(60);
    let brief = LightningClientConfig { stream_timeout: minute, ..config() };
    let (_world, miner, client) = asked_of(264, brief, |_, mut send, _| async move {
        loop {
            send.write_all(&chunk(&[])).await.ok()?;
            // sleeps: virtual, the clock is paused
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    })
    .await;
    for (options, bound) in
        [(CallOptions::new(), minute), (CallOptions::new().stream_timeout(3 * minute), 3 * minute)]
    {
        let asked = Instant::now();
        let mut chunks = client.call_stream(miner.hotkey, "s", &Ping { n: 1 }, options).await.unwrap();
        let error = loop {
            match within(chunks.next()).await {
                Ok(chunk) => assert!(chunk.unwrap().is_empty()),
                Err(error) => break error,
            }
        };
        assert_late(&error, Phase::Stream, asked, bound);
        assert_eq!(error.reason(), "stream_timeout");
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_that_nobody_takes_have_the_streams_bound_too() {
    let (_world, miner, client) = asked_of(265, config(), |_, mut send, _| async move {
        send.write_all(&chunk(b"one").repeat(100)).await.ok()
    })
    .await;
    let options = CallOptions::new().stream_timeout(Duration::from_secs(60));
    let mut chunks = client.call_stream(miner.hotkey, "s", &Ping { n: 1 }, options).await.unwrap();
    within(chunks.next()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await; // virtual
    let error = chunks.next().await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { phase: Phase::Stream, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_can_limit_its_own_answer() {
    let (_world, miner, client) = asked_of(266, config(), |_, mut send, _| async move {
        send.write_all(&chunk(&[7; 2_000]).repeat(50)).await.ok()
    })
    .await;
    for (limit, wanted) in [(0, 0), (1_999, 0), (2_000, 1), (7_999, 3)] {
        let options = CallOptions::new().answer_bytes_max(limit);
        let mut chunks = client.call_stream(miner.hotkey, "s", &Ping { n: 1 }, options).await.unwrap();
        let mut taken = 0;
        let error = loop {
            match within(chunks.next()).await {
                Ok(chunk) => taken += usize::from(chunk.unwrap().len() == 2_000),
                Err(error) => break error,
            }
        };
        let is_limit = matches!(error, CallError::StreamTooLarge { .. } | CallError::Frame(_));
        assert!(is_limit && taken == wanted, "{limit}: {taken} chunks, {error}");
    }
    let world = World::new(267);
    let honest = world.miner("honest", "10.0.0.2:1").await;
    honest.server.register(
        "long",
        btlightning::server::Handler::typed(|_, _: Ping| async {
            Ok::<_, String>(Long { text: "x".repeat(3_000) })
        }),
    );
    let client = world.client(config()).await;
    let options = CallOptions::new().answer_bytes_max(2_000);
    let call = client.call_with::<_, Ping>(honest.axon(), "long", &Ping { n: 1 }, options);
    let error = within(call).await.unwrap_err();
    assert!(matches!(error, CallError::Frame(_)), "{error}");
    client.call_with::<_, Ping>(honest.hotkey, "echo", &Ping { n: 1 }, options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_miner_gives_up_fails_its_call_at_once_and_alone() {
    type Reply =
        fn(Connection, SendStream, RecvStream) -> std::pin::Pin<Box<dyn Future<Output = Option<()>> + Send>>;
    let replies: [(&str, Reply); 6] = [
        ("ends without an answer", |_, mut send, _| Box::pin(async move { send.finish().ok() })),
        ("ends within a header", |_, mut send, _| {
            Box::pin(async move {
                send.write_all(&answer()[..3]).await.ok()?;
                send.finish().ok()
            })
        }),
        ("ends within a payload", |_, mut send, _| {
            Box::pin(async move {
                send.write_all(&answer()[..8]).await.ok()?;
                send.finish().ok()
            })
        }),
        ("resets before the answer", |_, mut send, _| {
            Box::pin(async move { send.reset(VarInt::from_u32(9)).ok() })
        }),
        ("resets within the answer", |_, mut send, _| {
            Box::pin(async move {
                send.write_all(&answer()[..8]).await.ok()?;
                // sleeps: virtual, so that the bytes are there first
                tokio::time::sleep(Duration::from_millis(50)).await;
                send.reset(VarInt::from_u32(9)).ok()
            })
        }),
        ("stops and resets", |_, mut send, mut receive| {
            Box::pin(async move {
                let _ = receive.stop(VarInt::from_u32(9));
                send.reset(VarInt::from_u32(9)).ok()
            })
        }),
    ];
    for (what, reply) in replies {
        let (_world, miner, client) = asked_of(268, config(), reply).await;
        let asked = Instant::now();
        let error = ask(&client, &miner).await;
        assert!(matches!(error, CallError::ConnectionLost { .. }), "{what}: {error}");
        assert!(asked.elapsed() < Duration::from_millis(200), "{what}: {:?}", asked.elapsed());
        assert!(client.peer_state(&miner.hotkey).unwrap().is_connected(), "{what}");
        assert_eq!(miner.live(), 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_miner_can_open_no_stream_and_send_no_datagram() {
    let (_world, miner, client) = asked_of(269, config(), |connection, mut send, _| async move {
        assert!(connection.max_datagram_size().is_none(), "the client takes none");
        let second = Duration::from_secs(1);
        assert!(tokio::time::timeout(second, connection.open_bi()).await.is_err(), "the client grants none");
        assert!(tokio::time::timeout(second, connection.open_uni()).await.is_err(), "the client grants none");
        send.write_all(&answer()).await.ok()?;
        send.finish().ok()
    })
    .await;
    within(client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 })).await.unwrap();
}
