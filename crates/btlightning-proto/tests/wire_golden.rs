//! The bytes of every message, as btlightning 0.2.15 writes them.

use std::collections::HashMap;

use btlightning_proto::wire::{
    self, FRAME_HEADER_BYTES, HandshakeRequest, HandshakeResponse, Message, RequestEnvelope,
    ResponseEnvelope, ScanLimits, StreamChunk, StreamEnd, SynapsePacket, SynapseResponse,
};
use bytes::Bytes;
use rmpv::Value;

const TIME: u64 = 1_700_000_000;
const MAX: usize = usize::MAX;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn payload_hex<M: Message>(message: &M) -> String {
    let frame = wire::encode_frame(message, MAX).expect("no limit");
    let (kind, payload) = wire::parse_frame_header(&frame, MAX).expect("a frame");
    assert_eq!(kind, M::KIND);
    assert_eq!(payload, rmp_serde::to_vec(message).expect("encodes"));
    hex(payload)
}

#[test]
fn handshake_request() {
    const GOLDEN: &str = "94a43556616cce6553f100d9203030313132323333343435353636373738383939616162626363646465656666a463326c6e";
    let message = HandshakeRequest {
        validator_hotkey: "5Val".into(),
        timestamp: TIME,
        nonce: "00112233445566778899aabbccddeeff".into(),
        signature: "c2ln".into(),
    };
    assert_eq!(payload_hex(&message), GOLDEN);
    assert_eq!(HandshakeRequest::decode(&unhex(GOLDEN)), Ok(message));
}

#[test]
fn handshake_response() {
    const ACCEPTED: &str =
        "96a4354d696ece6553f100a463326c6ec3b7636f6e6e5f3556616c5f31373030303030303030313233a45a6e413d";
    let message = HandshakeResponse {
        miner_hotkey: "5Min".into(),
        timestamp: TIME,
        signature: "c2ln".into(),
        accepted: true,
        connection_id: "conn_5Val_1700000000123".into(),
        cert_fingerprint: Some("ZnA=".into()),
    };
    assert_eq!(payload_hex(&message), ACCEPTED);
    assert_eq!(HandshakeResponse::decode(&unhex(ACCEPTED)), Ok(message));

    const REFUSED: &str = "96a4354d696ece6553f100a0c2a0c0";
    let message = HandshakeResponse {
        miner_hotkey: "5Min".into(),
        timestamp: TIME,
        signature: String::new(),
        accepted: false,
        connection_id: String::new(),
        cert_fingerprint: None,
    };
    assert_eq!(payload_hex(&message), REFUSED);
    assert_eq!(HandshakeResponse::decode(&unhex(REFUSED)), Ok(message));
}

#[test]
fn stream_chunk() {
    for (data, golden) in [(&[0xde, 0xad, 0xbe, 0xef][..], "91c404deadbeef"), (&[], "91c400")] {
        let message = StreamChunk { data: data.to_vec() };
        assert_eq!(payload_hex(&message), golden);
        assert_eq!(wire::parse_stream_chunk(&unhex(golden)).as_deref(), Ok(data));
    }
}

#[test]
fn stream_end() {
    for (success, error, golden) in [
        (true, None, "92c3c0"),
        (false, Some("handler timed out"), "92c2b168616e646c65722074696d6564206f7574"),
    ] {
        let message = StreamEnd { success, error: error.map(str::to_owned) };
        assert_eq!(payload_hex(&message), golden);
        assert_eq!(StreamEnd::decode(&unhex(golden)), Ok(message));
    }
}

#[test]
fn synapse_packet() {
    for (value, golden) in [
        (Value::from(1), "01"),
        (Value::Nil, "c0"),
        (Value::from(true), "c3"),
        (Value::from(300), "cd012c"),
        (Value::from(-1), "ff"),
        (Value::from(i64::MIN), "d38000000000000000"),
        (Value::from(u64::MAX), "cfffffffffffffffff"),
        (Value::F32(1.5), "ca3fc00000"),
        (Value::F64(1.5), "cb3ff8000000000000"),
        (Value::from("hi"), "a26869"),
        (Value::Binary(vec![1, 2]), "c4020102"),
        (Value::Array(vec![1.into(), "x".into()]), "9201a178"),
        (Value::Map(vec![("k".into(), 2.into())]), "81a16b02"),
        (Value::Ext(5, vec![1, 2]), "d5050102"),
        (Value::Ext(-1, vec![0, 0, 0, 1]), "d6ff00000001"),
    ] {
        let message = SynapsePacket {
            synapse_type: "echo".into(),
            data: HashMap::from([("a".into(), value)]),
            timestamp: TIME,
        };
        let golden = format!("93a46563686f81a161{golden}ce6553f100");
        let frame = wire::encode_packet_frame("echo", TIME, MAX, |out| wire::encode_map(&message.data, out))
            .expect("no limit");
        assert_eq!(hex(&frame[..FRAME_HEADER_BYTES]), format!("03{:08x}", golden.len() / 2));
        assert_eq!(hex(&frame[FRAME_HEADER_BYTES..]), golden);
        assert_eq!(hex(&rmp_serde::to_vec(&message).expect("encodes")), golden);

        let envelope = RequestEnvelope::parse(&unhex(&golden), &ScanLimits::trusted()).expect("a request");
        assert_eq!((envelope.synapse_type(), envelope.timestamp()), ("echo", TIME));
        assert_eq!(wire::decode_map(envelope.data()), Ok(message.data));
    }
}

#[test]
fn synapse_response() {
    const SUCCESS: &str = "94c381a161a162ce6553f100c0";
    let message = SynapseResponse {
        success: true,
        data: HashMap::from([("a".into(), "b".into())]),
        timestamp: TIME,
        error: None,
    };
    let frame =
        wire::encode_response_frame(TIME, MAX, |out| wire::encode_map(&message.data, out)).expect("no limit");
    assert_eq!(hex(&frame), format!("04{:08x}{SUCCESS}", SUCCESS.len() / 2));
    assert_eq!(hex(&rmp_serde::to_vec(&message).expect("encodes")), SUCCESS);
    let envelope = ResponseEnvelope::parse(&unhex(SUCCESS), &ScanLimits::trusted()).expect("an answer");
    assert_eq!((envelope.success(), envelope.timestamp(), envelope.error()), (true, TIME, None));
    assert_eq!(wire::decode_map(envelope.data()), Ok(message.data));

    const FAILURE: &str = "94c280ce6553f100b9756e7265636f676e697a65642073796e617073652074797065";
    let error = "unrecognized synapse type";
    let frame = wire::encode_error_response_frame(error, TIME, MAX).expect("no limit");
    assert_eq!(hex(&frame), format!("04{:08x}{FAILURE}", FAILURE.len() / 2));
    let envelope = ResponseEnvelope::parse(&unhex(FAILURE), &ScanLimits::trusted()).expect("an answer");
    assert_eq!((envelope.success(), envelope.timestamp(), envelope.error()), (false, TIME, Some(error)));
    assert_eq!(wire::decode_map(envelope.data()), Ok(HashMap::new()));
}
