//! Streaming answers, byte for byte.

use btlightning_interop::{data, frame};

use crate::requests::packet;
use crate::servers::{Answer, Clients};

const OK: &[u8] = b"\x92\xc3\xc0";
const FAILED: &[u8] = b"\x92\xc2\xb8stream processing failed";

/// The frames of a streaming answer.
fn streamed(chunks: &[&[u8]], end: &[u8]) -> Answer {
    let chunks = chunks.iter().map(|chunk| frame(5, chunk));
    Answer::Bytes(chunks.chain([frame(6, end)]).flatten().collect())
}

#[tokio::test]
async fn chunks_and_ends() {
    let clients = Clients::authenticated().await;
    let long = [&b"\x91\xc5\x01\x2c"[..], &[0xff; 300]].concat();
    for (name, expected) in [
        ("none", streamed(&[], OK)),
        ("empty chunk", streamed(&[b"\x91\xc4\x00"], OK)),
        ("three", streamed(&[b"\x91\xc4\x01a", b"\x91\xc4\x02bc", &long], OK)),
        ("two and fails", streamed(&[b"\x91\xc4\x01a", b"\x91\xc4\x02bc"], FAILED)),
        ("two and panics", streamed(&[b"\x91\xc4\x01a", b"\x91\xc4\x02bc"], FAILED)),
    ] {
        assert_eq!(clients.answer(name, &packet(name, data([]))).await, expected);
    }
}
