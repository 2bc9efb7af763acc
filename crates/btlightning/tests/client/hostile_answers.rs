//! Answers that are nested without an end: refused for what they are, and no stack is filled by them. Without
//! optimisation a step of a decoder takes the most stack.

use std::collections::HashMap;

use btlightning::{CallOptions, LightningClient, QuicRequest};
use btlightning_proto::wire::{MessageType, encode_response_frame};
use serde::Deserialize;

use crate::by_hand::{ByHand, Guest, Manners};
use crate::world::{Ping, World, config, within};

/// One value within `depth` arrays, or maps.
fn nested(depth: usize, level: &[u8]) -> Vec<u8> {
    [level.repeat(depth).as_slice(), &[0xc0]].concat()
}

const ARRAY: &[u8] = b"\x91";
const MAP: &[u8] = b"\x81\xa1n";

/// A response whose data is a map with `value` beside a good [`Ping`].
fn answer_with(value: &[u8]) -> Vec<u8> {
    let data = [b"\x82\xa1n", value, b"\xa1m\x01"].concat();
    encode_response_frame(1, 1 << 20, |out| {
        out.extend(data);
        Ok(())
    })
    .unwrap()
}

/// A frame of any payload.
fn frame(kind: MessageType, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&[kind as u8][..], &length.to_be_bytes(), payload].concat()
}

/// Arrays in each other, as a type of the program's own.
#[derive(Debug, Deserialize)]
struct Lists {
    #[allow(dead_code, reason = "only decoded")]
    n: List,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum List {
    More(#[allow(dead_code, reason = "only decoded")] Vec<List>),
    End(#[allow(dead_code, reason = "only decoded")] ()),
}

/// Maps in each other.
#[derive(Debug, Deserialize)]
struct Maps {
    #[allow(dead_code, reason = "only decoded")]
    n: Option<Box<Maps>>,
}

/// Has no use for what is nested.
#[derive(Debug, Deserialize)]
struct Other {
    m: u32,
}

/// A miner that answers each request with the same bytes, and a client that is connected to it.
async fn answering(seed: u64, answer: Vec<u8>) -> (World, ByHand, LightningClient) {
    let world = World::new(seed);
    let miner = world.by_hand("miner", "10.0.0.2:1", Manners::default(), move |guest: Guest| {
        let answer = answer.clone();
        async move {
            guest.prove().await?;
            loop {
                let (mut send, _) = guest.asked().await?;
                send.write_all(&answer).await.ok()?;
                send.finish().ok()?;
            }
        }
    });
    let mut client = world.client(config()).await;
    client.initialize_connections(vec![miner.axon()]).await.unwrap();
    (world, miner, client)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_nested_too_deep_is_refused_whatever_it_is_decoded_into() {
    for depth in [100, 1_015, 100_000] {
        for level in [ARRAY, MAP] {
            let is_deep = depth > 128;
            let (_world, miner, client) = answering(280, answer_with(&nested(depth, level))).await;
            let request = QuicRequest::new("echo".into(), HashMap::new());
            let dynamic = within(client.query_axon(miner.axon(), request)).await;
            let why = format!("{dynamic:?}");
            assert_eq!(dynamic.is_err(), is_deep, "{depth}: {}", &why[..why.len().min(200)]);
            let ignored = within(client.call::<_, Other>(miner.hotkey, "echo", &Ping { n: 1 })).await;
            assert_eq!(ignored.as_ref().is_err(), is_deep, "{depth}: {ignored:?}");
            assert!(ignored.is_err() || ignored.is_ok_and(|other| other.value.m == 1));
            let typed = match level {
                ARRAY => {
                    within(client.call::<_, Lists>(miner.hotkey, "echo", &Ping { n: 1 })).await.map(drop)
                }
                _ => within(client.call::<_, Maps>(miner.hotkey, "echo", &Ping { n: 1 })).await.map(drop),
            };
            assert_eq!(typed.is_err(), is_deep, "{depth}: {typed:?}");
            assert!(client.peer_state(&miner.hotkey).unwrap().is_connected());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_is_an_envelope_and_the_end_of_a_stream() {
    for depth in [1_015, 100_000] {
        for level in [ARRAY, MAP] {
            let envelope = frame(MessageType::SynapseResponse, &nested(depth, level));
            let (_world, miner, client) = answering(281, envelope).await;
            within(client.call::<_, Ping>(miner.hotkey, "echo", &Ping { n: 1 })).await.unwrap_err();
            for payload in [
                nested(depth, level),
                [b"\x83\xa7success\xc3\xa5error\xc0\xa1x".as_slice(), &nested(depth, level)].concat(),
            ] {
                let (_world, miner, client) = answering(282, frame(MessageType::StreamEnd, &payload)).await;
                let ping = Ping { n: 1 };
                let opened = client.call_stream(miner.hotkey, "s", &ping, CallOptions::new()).await;
                let mut chunks = opened.unwrap();
                within(chunks.next()).await.unwrap_err();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_is_a_handshake() {
    for depth in [1_015, 4_000] {
        for level in [ARRAY, MAP] {
            let answer = frame(MessageType::HandshakeResponse, &nested(depth, level));
            let world = World::new(283);
            let miner = world.by_hand("miner", "10.0.0.2:1", Manners::default(), move |guest: Guest| {
                let answer = answer.clone();
                async move {
                    let (mut send, _) = guest.handshake().await?;
                    send.write_all(&answer).await.ok()?;
                    send.finish().ok()
                }
            });
            let mut client = world.client(config()).await;
            client.initialize_connections(vec![miner.axon()]).await.unwrap();
            assert!(!client.peer_state(&miner.hotkey).unwrap().is_connected());
        }
    }
}
