//! What a connection may do before it has authenticated, which is: little, briefly, and not too often.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use btlightning::server::{Handler, Response};
use btlightning_proto::wire::{FrameHeader, MessageType};
use common::sim::World;
use common::{
    Answer, Miner, Raw, client_config, config, data, is_pending, read, request, socket, socket_at, within,
};
use quinn::ConnectionError;

/// An answer without the time that is in it.
fn timeless(answer: &Answer) -> Vec<u8> {
    let (kind, payload) = answer.only();
    assert_eq!(kind, MessageType::SynapseResponse);
    // An array of four, false, an empty map, and the time as a 32-bit number.
    assert_eq!(payload[..4], [0x94, 0xc2, 0x80, 0xce]);
    [&payload[..4], &payload[8..]].concat()
}

fn header(kind: u8, payload_bytes: u32) -> Vec<u8> {
    [&[kind][..], &payload_bytes.to_be_bytes()].concat()
}

#[tokio::test]
async fn whatever_a_stranger_asks_the_answer_is_the_same_and_nothing_of_it_is_read() {
    let miner = Miner::start().await;
    miner.server.register("unary", Handler::unary(|_| async { Response::from_map(&data([])) }));
    miner.server.register("streaming", Handler::streaming(|_, _| async { Ok(()) }));
    let raw = Raw::connect(&miner).await;
    let expected = timeless(&raw.ask("unary", &data([])).await);
    assert_eq!(raw.failure("unary", &data([])).await, "authentication failed");
    let asked = [
        request("streaming", &data([])),
        request("nobody knows", &data([])),
        // Only announced: an answer shows that no payload was waited for.
        header(MessageType::SynapsePacket as u8, 1 << 20),
        header(MessageType::SynapsePacket as u8, u32::MAX),
        header(MessageType::HandshakeRequest as u8, 4097),
        header(MessageType::HandshakeResponse as u8, 3),
        header(MessageType::SynapseResponse as u8, 0),
        header(MessageType::StreamChunk as u8, 7),
        header(MessageType::StreamEnd as u8, 7),
        header(0, 0),
        header(0x91, 12),
        [
            FrameHeader { kind: MessageType::SynapsePacket, payload_bytes: 3 }.to_bytes().as_slice(),
            &[0xc1; 3],
        ]
        .concat(),
    ];
    for bytes in asked {
        // The stream is left open on this side.
        let (mut send, mut receive) = within("a stream", raw.connection.open_bi()).await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(timeless(&read(&mut receive).await), expected, "{bytes:?}");
        // More is not wanted.
        within("the stop", send.stopped()).await.unwrap();
    }
    raw.accepted("alice").await;
    assert_eq!(raw.answer("unary", &data([])).await, data([]));
}

#[tokio::test]
async fn an_end_before_a_whole_header_is_answered_by_an_end() {
    let miner = Miner::start().await;
    let raw = Raw::connect(&miner).await;
    for bytes in [&[][..], &[3, 0]] {
        assert!(raw.exchange(bytes).await.0.is_empty());
    }
    raw.accepted("alice").await;
}

#[tokio::test]
async fn a_stranger_has_one_deadline_whatever_it_does() {
    let miner =
        Miner::with(config().handshake_timeout_secs(1).max_handshake_attempts_per_minute(10_000), |_| {})
            .await;
    let began = Instant::now();
    let (idle, stalling, busy) =
        tokio::join!(Raw::connect(&miner), Raw::connect(&miner), Raw::connect(&miner));
    let (mut half, _receive) = stalling.connection.open_bi().await.unwrap();
    half.write_all(&[1, 0, 0]).await.unwrap();
    let trying = async {
        // Failing wins no time, nor does asking again. More often would be more than a stranger may send.
        for _ in 0..8 {
            busy.handshake_refused(&busy.opening("alice", |r| r.timestamp -= 1).0).await;
        }
        let asked = request("echo", &data([]));
        for _ in 0..4 {
            let Ok((mut send, mut receive)) = busy.connection.open_bi().await else { return };
            let _ = send.write_all(&asked).await;
            let _ = send.finish();
            let _ = receive.read_to_end(4096).await;
        }
    };
    let reasons = async { (idle.closed_for().await, stalling.closed_for().await, busy.closed_for().await) };
    let ((), reasons) = tokio::join!(trying, reasons);
    let reasons = <[String; 3]>::from(reasons);
    assert_eq!(reasons, ["handshake_timeout", "handshake_timeout", "handshake_timeout"]);
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn keep_alives_win_a_stranger_no_time() {
    let world = World::new();
    let miner = world.miner(config()).await;
    let pinging = client_config(b"btlightning", |transport| {
        transport.keep_alive_interval(Some(Duration::from_secs(1)));
    });
    let began = tokio::time::Instant::now();
    let raw = Raw::connect_from(world.socket(pinging), miner.addr).await.unwrap();
    assert_eq!(raw.closed_for().await, "handshake_timeout");
    let lasted = began.elapsed();
    assert!(lasted > Duration::from_secs(9) && lasted < Duration::from_secs(11), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_that_is_never_finished_has_the_same_deadline() {
    let world = World::new();
    let config = config().max_unauthenticated_connections(1).require_address_validation(false);
    let miner = world.miner(config).await;
    let socket = world.socket_at("10.0.0.9", 9000, client_config(b"btlightning", |_| {}));
    let half = tokio::spawn(socket.connect(miner.addr, "127.0.0.1").unwrap());
    // sleeps: in virtual time, until the first packet has arrived, and no answer to it has
    tokio::time::sleep(Duration::from_millis(15)).await;
    world.net().partition("10.0.0.9".parse().unwrap(), miner.addr.ip());
    let other = world.socket(client_config(b"btlightning", |_| {}));
    let knock = || Raw::connect_from(other.clone(), miner.addr);
    for (after_millis, is_welcome) in [(100, false), (9_700, false), (2_000, true)] {
        // sleeps: in virtual time, to just before the deadline, and then until QUIC has forgotten the connection
        tokio::time::sleep(Duration::from_millis(after_millis)).await;
        assert_eq!(knock().await.is_ok(), is_welcome, "after another {after_millis} ms");
    }
    half.abort();
}

#[tokio::test]
async fn the_deadline_is_none_for_who_has_authenticated() {
    let miner = Miner::with(config().handshake_timeout_secs(1), |_| {}).await;
    let raw = Raw::authenticated(&miner, "alice").await;
    let stranger = Raw::connect(&miner).await;
    assert_eq!(stranger.closed_for().await, "handshake_timeout");
    assert_eq!(raw.failure("echo", &data([])).await, "unrecognized synapse type");
}

async fn is_refused(miner: &Miner) -> bool {
    match Raw::connect_from(socket(), miner.addr).await {
        Ok(_) => false,
        Err(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
            true
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Waits until a connection is not refused.
async fn welcome(miner: &Miner) -> Raw {
    common::eventually("room for a stranger", async || Raw::connect_from(socket(), miner.addr).await.ok())
        .await
}

#[tokio::test]
async fn strangers_are_counted_in_all() {
    let config = config().max_unauthenticated_connections(2).max_unauthenticated_connections_per_ip(2);
    let miner = Miner::with(config, |_| {}).await;
    let elsewhere = socket_at(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)));
    let other = Raw::connect_from(elsewhere, miner.addr).await.unwrap();
    let _first = Raw::connect(&miner).await;
    assert!(is_refused(&miner).await);
    other.accepted("alice").await;
    Raw::connect(&miner).await;
}

#[tokio::test]
async fn a_tls_handshake_that_fails_frees_its_slot() {
    let miner = Miner::with(config().max_unauthenticated_connections(1), |_| {}).await;
    let endpoint = socket();
    for alpn in ["h3", ""] {
        let wrong = client_config(alpn.as_bytes(), |_| {});
        let failed = within("connect", endpoint.connect_with(wrong, miner.addr, "127.0.0.1").unwrap()).await;
        assert!(failed.is_err());
        welcome(&miner).await;
    }
}

#[tokio::test]
async fn a_strangers_streams_are_few_and_a_validators_many() {
    let miner = Miner::with(config().max_concurrent_bidi_streams(40), |_| {}).await;
    let raw = Raw::connect(&miner).await;
    let mut open = vec![within("a stream", raw.connection.open_bi()).await.unwrap()];
    raw.accepted("alice").await;
    for _ in 1..39 {
        let (mut send, receive) = within("a stream", raw.connection.open_bi()).await.unwrap();
        // The server grants more when it sees that many are open.
        send.write_all(&[1]).await.unwrap();
        open.push((send, receive));
    }

    let stranger = Raw::connect(&miner).await;
    let mut few = Vec::new();
    for _ in 0..2 {
        few.push(within("a stream", stranger.connection.open_bi()).await.unwrap());
    }
    let mut third = std::pin::pin!(stranger.connection.open_bi());
    assert!(is_pending(third.as_mut()).await);
    drop(few.pop());
}
