//! Every message is the same bytes from both packages, and each reads what the other wrote. The published side is
//! `rmp_serde::to_vec` of the published types, which is what the published package does (see `same_requests` and
//! `same_answers`, where it does it over the wire); ours is what writes our frames.
//!
//! The values are random, of a seed that stays the same.

use std::fmt::Debug;

use btlightning_interop::{Class, Classified, Random, frame};
use btlightning_ours as ours;
use btlightning_proto::wire::{self, Message, RequestEnvelope, ResponseEnvelope, ScanLimits};
use btlightning_published as theirs;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const ROUNDS: usize = 300;
const MAX: usize = u32::MAX as usize;

/// The payload of one of our messages, checked to be in a frame of its kind.
fn payload<M: Message>(message: &M) -> Vec<u8> {
    let bytes = wire::encode_frame(message, MAX).expect("encodes");
    let (kind, payload) = theirs::parse_frame_header(&bytes, MAX).expect("a frame");
    assert_eq!(kind as u8, M::KIND as u8);
    assert_eq!(bytes, frame(kind as u8, payload));
    payload.to_vec()
}

/// What the published package writes for a message, and what it reads.
fn published<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("encodes")
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> T {
    rmp_serde::from_slice(payload).expect("decodes")
}

/// Whether two messages say the same; as text, for they are of different types.
#[track_caller]
fn same(ours: impl Debug, theirs: impl Debug) {
    let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
    assert!(ours == theirs, "{ours}\n{theirs}");
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(3) > 0).then(|| make(random))
}

#[test]
fn handshake_requests() {
    let mut random = Random::new(10);
    for _ in 0..ROUNDS {
        let message = theirs::HandshakeRequest {
            validator_hotkey: random.text(100),
            timestamp: random.integer(),
            nonce: random.text(100),
            signature: random.text(100),
        };
        let bytes = published(&message);
        let ours = ours::HandshakeRequest::decode(&bytes).expect("decodes");
        same(&ours, &message);
        assert_eq!(payload(&ours), bytes);
        same(read::<theirs::HandshakeRequest>(&payload(&ours)), &message);
    }
}

#[test]
fn handshake_responses() {
    let mut random = Random::new(11);
    for _ in 0..ROUNDS {
        let message = theirs::HandshakeResponse {
            miner_hotkey: random.text(100),
            timestamp: random.integer(),
            signature: random.text(100),
            accepted: random.below(2) == 1,
            connection_id: random.text(100),
            cert_fingerprint: maybe(&mut random, |random| random.text(100)),
        };
        let bytes = published(&message);
        let ours = ours::HandshakeResponse::decode(&bytes).expect("decodes");
        same(&ours, &message);
        assert_eq!(payload(&ours), bytes);
        same(read::<theirs::HandshakeResponse>(&payload(&ours)), &message);
    }
}

#[test]
fn requests() {
    let mut random = Random::new(12);
    for _ in 0..ROUNDS {
        let message = theirs::SynapsePacket {
            synapse_type: random.text(300),
            data: random.data(5),
            timestamp: random.integer(),
        };
        let bytes = published(&message);
        let written = wire::encode_packet_frame(&message.synapse_type, message.timestamp, MAX, |out| {
            wire::encode_map(&message.data, out)
        });
        assert!(written.expect("encodes") == frame(3, &bytes), "{message:?}");

        let bytes = Bytes::from(bytes);
        let limits = ScanLimits::for_payload(bytes.len());
        let ours = RequestEnvelope::parse(&bytes, &limits).expect("a request");
        assert_eq!((ours.synapse_type(), ours.timestamp()), (&*message.synapse_type, message.timestamp));
        same_data(&wire::decode_map(ours.data()).expect("a map"), &message.data);
        same_struct::<ours::SynapsePacket, _>(&message);
    }
}

#[test]
fn answers() {
    let mut random = Random::new(13);
    for _ in 0..ROUNDS {
        let failed = random.below(3) == 0;
        let message = theirs::SynapseResponse {
            success: !failed,
            data: if failed { Default::default() } else { random.data(5) },
            timestamp: random.integer(),
            error: failed.then(|| random.text(300)),
        };
        let bytes = published(&message);
        let written = match &message.error {
            Some(error) => wire::encode_error_response_frame(error, message.timestamp, MAX),
            None => wire::encode_response_frame(message.timestamp, MAX, |out| {
                wire::encode_map(&message.data, out)
            }),
        };
        assert!(written.expect("encodes") == frame(4, &bytes), "{message:?}");

        let bytes = Bytes::from(bytes);
        let ours = ResponseEnvelope::parse(&bytes, &ScanLimits::for_payload(bytes.len())).expect("an answer");
        let expected = (message.success, message.timestamp, message.error.as_deref());
        assert_eq!((ours.success(), ours.timestamp(), ours.error()), expected);
        same_data(&wire::decode_map(ours.data()).expect("a map"), &message.data);
        same_struct::<ours::SynapseResponse, _>(&message);
    }
}

#[test]
fn chunks_and_ends() {
    let mut random = Random::new(14);
    for _ in 0..ROUNDS {
        let length = random.length(70_000);
        let message = theirs::types::StreamChunk { data: random.bytes(length) };
        let bytes = published(&message);
        let header = wire::write_stream_chunk_header(length, MAX).expect("within the limit");
        assert!([header.as_ref(), &message.data].concat() == frame(5, &bytes));
        let ours = ours::types::StreamChunk { data: message.data.clone() };
        assert!(payload(&ours) == bytes);
        assert!(wire::parse_stream_chunk(&Bytes::from(bytes)).expect("a chunk") == message.data);
        assert!(read::<theirs::types::StreamChunk>(&payload(&ours)).data == message.data);

        let success = random.below(2) == 1;
        let error = maybe(&mut random, |random| random.text(300));
        let message = theirs::types::StreamEnd { success, error };
        let bytes = published(&message);
        let ours = ours::types::StreamEnd::decode(&bytes).expect("decodes");
        same(&ours, &message);
        assert_eq!(payload(&ours), bytes);
        same(read::<theirs::types::StreamEnd>(&payload(&ours)), &message);
    }
}

/// The published types that are not messages can be serialized too, for files and caches.
#[test]
fn the_other_published_types() {
    let mut random = Random::new(15);
    for _ in 0..ROUNDS {
        let axon = theirs::QuicAxonInfo::new(
            random.text(60),
            random.text(60),
            random.bits() as u16,
            random.bits() as u8,
        );
        same_struct::<ours::QuicAxonInfo, _>(&axon);
        same_struct::<ours::PeerAddr, _>(&axon.addr_key());
        let ours = ours::QuicAxonInfo::new(axon.hotkey.clone(), axon.ip.clone(), axon.port, axon.protocol);
        assert_eq!(ours.addr_key().as_ref(), axon.addr_key().as_ref(), "{:?}", axon.ip);
        same_struct::<ours::QuicRequest, _>(&theirs::QuicRequest::new(random.text(60), random.data(3)));
        same_struct::<ours::QuicResponse, _>(&theirs::QuicResponse {
            success: random.below(2) == 1,
            data: random.data(3),
            latency_ms: random.integer() as f64 / 1000.0,
            error: maybe(&mut random, |random| random.text(60)),
        });
    }
    for ip in ["1.2.3.4", "::1", "[::1]", "::ffff:1.2.3.4", " 1.2.3.4 ", "localhost", ""] {
        assert_eq!(ours::PeerAddr::new(ip, 5).to_string(), theirs::PeerAddr::new(ip, 5).to_string());
    }
}

/// `theirs`, written and read as one of our types, is the same, as an array of its fields and as a map of them.
#[track_caller]
fn same_struct<Ours, Theirs>(theirs: &Theirs)
where
    Ours: Serialize + DeserializeOwned + Debug,
    Theirs: Serialize + DeserializeOwned + Debug,
{
    let bytes = published(theirs);
    let back: Theirs = read(&published(&read::<Ours>(&bytes)));
    let named = rmp_serde::to_vec_named(theirs).expect("encodes");
    let back_named: Theirs = read(&rmp_serde::to_vec_named(&read::<Ours>(&named)).expect("encodes"));
    // The order of a map's entries is anybody's, so the lengths are compared, and the texts without it.
    for back in [back, back_named] {
        assert_eq!(published(&back).len(), bytes.len());
        assert!(letters(&back) == letters(theirs), "{theirs:?}");
    }
}

/// How often each character comes in the text of a value.
fn letters(value: &impl Debug) -> std::collections::BTreeMap<char, usize> {
    let mut letters = std::collections::BTreeMap::new();
    for letter in format!("{value:?}").chars() {
        *letters.entry(letter).or_default() += 1;
    }
    letters
}

/// Whether two payloads are the same; as text, since numbers that are not numbers do not equal themselves.
#[track_caller]
fn same_data(ours: &btlightning_interop::Data, theirs: &btlightning_interop::Data) {
    assert_eq!(ours.len(), theirs.len());
    for (key, value) in theirs {
        assert!(format!("{:?}", ours[key]) == format!("{value:?}"), "{key:?}: {value:?}");
    }
}

#[test]
fn frame_headers() {
    let mut random = Random::new(16);
    for _ in 0..20 * ROUNDS {
        let length = random.below(20);
        let mut bytes = random.bytes(length);
        // Most are nearly right.
        for (at, top) in [(0, 9), (1, 1), (2, 1), (3, 1), (4, 18)] {
            if let Some(byte) = bytes.get_mut(at).filter(|_| random.below(10) > 0) {
                *byte = random.below(top) as u8;
            }
        }
        let max = random.below(20);
        let ours = ours::parse_frame_header(&bytes, max).map(|(kind, payload)| (kind as u8, payload));
        let theirs = theirs::parse_frame_header(&bytes, max).map(|(kind, payload)| (kind as u8, payload));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
            (Err(ours), Err(theirs)) => assert_eq!([ours.class(), theirs.class()], [Class::Transport; 2]),
            (ours, theirs) => panic!("{bytes:?} with {max}: ours {ours:?}, theirs {theirs:?}"),
        }
    }
    for byte in 0..=u8::MAX {
        let ours = ours::MessageType::try_from(byte).map(|kind| kind as u8).ok();
        let theirs = theirs::MessageType::try_from(byte).map(|kind| kind as u8).ok();
        assert_eq!(ours, theirs);
    }
}
