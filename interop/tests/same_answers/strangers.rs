//! What clients hear that have not authenticated.

use btlightning_interop::{data, frame};

use crate::requests::packet;
use crate::servers::{Answer, Clients, failure, nothing};

fn unauthenticated() -> Answer {
    failure("authentication failed")
}

#[tokio::test]
async fn a_request_before_the_handshake() {
    let clients = Clients::strangers().await;
    for name in ["echo", "fails", "never", "unheard of", ""] {
        assert_eq!(clients.answer(name, &packet(name, data([]))).await, unauthenticated());
    }
    let nobody_speaks = clients.answer("nothing", b"").await;
    assert_eq!(nobody_speaks, nothing());
}

/// A published server looks at what a stranger sends, and its answer tells which names stream. Ours looks at nothing but
/// handshakes and has one answer.
#[tokio::test]
async fn ours_tells_strangers_nothing() {
    let clients = Clients::strangers().await;
    for name in ["none", "three"] {
        let theirs = Answer::Bytes(frame(6, b"\x92\xc2\xb5authentication failed"));
        assert_eq!(clients.answers(&packet(name, data([]))).await, [unauthenticated(), theirs]);
    }
    let malformed = frame(3, b"\xc0");
    assert_eq!(clients.answers(&malformed).await, [unauthenticated(), failure("invalid request format")]);
    for other in [frame(4, b"\xc0"), frame(9, b""), [&[3][..], &u32::MAX.to_be_bytes()].concat()] {
        assert_eq!(clients.answers(&other).await, [unauthenticated(), nothing()]);
    }
}
