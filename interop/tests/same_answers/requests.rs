//! Requests of clients that have authenticated, good and bad.

use btlightning_interop::{Data, Random, data, frame};
use btlightning_published::SynapsePacket;

use crate::servers::{Answer, Clients, LIMIT, failure, nothing, success};

const PACKET: u8 = 3;

/// A request as a published client sends it.
pub(crate) fn packet(synapse_type: &str, data: Data) -> Vec<u8> {
    let packet = SynapsePacket { synapse_type: synapse_type.into(), data, timestamp: 1_700_000_000 };
    frame(PACKET, &rmp_serde::to_vec(&packet).expect("encodes"))
}

/// A request for `echo`, of which the rest is these bytes.
fn echo(rest: &[u8]) -> Vec<u8> {
    frame(PACKET, &[&b"\x93\xa4echo"[..], rest].concat())
}

const INVALID: &str = "invalid request format";

#[tokio::test]
async fn what_handlers_come_to() {
    let clients = Clients::authenticated().await;
    let one = data([("a", 1.into())]);
    assert_eq!(clients.answer("echo", &packet("echo", one.clone())).await, success(b"\x81\xa1a\x01"));
    assert_eq!(clients.answer("nothing", &packet("nothing", one)).await, success(b"\x80"));
    for (name, words) in [
        ("fails", "request processing failed"),
        ("panics", "request processing failed"),
        ("never", "handler timed out"),
        ("unheard of", "unrecognized synapse type"),
        ("", "unrecognized synapse type"),
    ] {
        assert_eq!(clients.answer(name, &packet(name, data([]))).await, failure(words));
    }
}

/// Maps of one random entry, since the order of more is anybody's.
#[tokio::test]
async fn any_value_is_echoed_in_the_same_bytes() {
    let clients = Clients::authenticated().await;
    let mut random = Random::new(3);
    for _ in 0..100 {
        let request = packet("echo", Data::from([(random.text(40), random.value(2))]));
        let answer = clients.answer("echo", &request).await;
        assert!(matches!(answer, Answer::Bytes(_)));
    }
}

#[tokio::test]
async fn odd_encodings_are_read_and_answered_in_the_usual_ones() {
    let clients = Clients::authenticated().await;
    for (what, rest, answered) in [
        ("a byte string as key", &b"\x81\xc4\x01k\x01\x01"[..], &b"\x81\xa1k\x01"[..]),
        ("the same key twice", b"\x82\xa1k\x01\xa1k\x02\x01", b"\x81\xa1k\x02"),
        ("a wide map head", b"\xde\x00\x00\x01", b"\x80"),
        ("a wide integer", b"\x81\xa1k\xcd\x00\x01\x01", b"\x81\xa1k\x01"),
        ("a signed positive integer", b"\x81\xa1k\xd0\x05\x01", b"\x81\xa1k\x05"),
        ("a wide string", b"\x81\xa1k\xd9\x01x\x01", b"\x81\xa1k\xa1x"),
        ("a string that is not UTF-8", b"\x81\xa1k\xa1\xff\x01", b"\x81\xa1k\xc4\x01\xff"),
        ("a wide extension", b"\x81\xa1k\xc7\x01\x05\x09\x01", b"\x81\xa1k\xd4\x05\x09"),
        ("a time of zero", b"\x80\x00", b"\x80"),
        ("a wide time", b"\x80\xcf\x00\x00\x00\x00\x00\x00\x00\x01", b"\x80"),
        ("a signed time", b"\x80\xd3\x00\x00\x00\x00\x00\x00\x00\x01", b"\x80"),
        ("the end of time", b"\x80\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\x80"),
    ] {
        assert_eq!(clients.answer(what, &echo(rest)).await, success(answered));
    }
    let wide_head = frame(PACKET, b"\xdc\x00\x03\xa4echo\x80\x01");
    assert_eq!(clients.answer("a wide array head", &wide_head).await, success(b"\x80"));
}

#[tokio::test]
async fn what_is_no_request() {
    let clients = Clients::authenticated().await;
    for payload in [
        &b""[..],
        b"\xc0",
        b"\x92\xa4echo\x80",
        b"\x94\xa4echo\x80\x01\x01",
        b"\x93\x01\x80\x01",
        b"\x93\xa1\xff\x80\x01",
    ] {
        let what = payload.escape_ascii().to_string();
        assert_eq!(clients.answer(&what, &frame(PACKET, payload)).await, failure(INVALID));
    }
    for rest in [
        &b"\xc0\x01"[..],
        b"\x90\x01",
        b"\x80\xff",
        b"\x80\xa0",
        b"\x80\xc0",
        b"\x80\xca\x00\x00\x00\x00",
        b"\x81\xa1k",
        b"\x81\xa1k\xc1\x01",
        b"\x81\xa1k\xdd\xff\xff\xff\xff\x01",
        b"\x81\xa1k\xc6\xff\xff\xff\xff\x01",
    ] {
        let what = rest.escape_ascii().to_string();
        assert_eq!(clients.answer(&what, &echo(rest)).await, failure(INVALID));
    }
}

/// Ours reads a request in the one form that clients write, and to its end.
#[tokio::test]
async fn ours_is_stricter_with_requests_that_nobody_writes() {
    let clients = Clients::authenticated().await;
    let named = SynapsePacket { synapse_type: "echo".into(), data: Data::new(), timestamp: 1 };
    let named = rmp_serde::to_vec_named(&named).expect("encodes");
    for request in
        [echo(b"\x80\x01 and more"), frame(PACKET, b"\x93\xc4\x04echo\x80\x01"), frame(PACKET, &named)]
    {
        assert_eq!(clients.answers(&request).await, [failure(INVALID), success(b"\x80")]);
    }
    let long_name = packet(&"name".repeat(20_000), Data::new());
    let unheard_of = failure("unrecognized synapse type");
    assert_eq!(clients.answers(&long_name).await, [failure(INVALID), unheard_of]);
}

/// A request whose keys are no strings is malformed to a published server, whoever it is for. Ours looks at the keys when
/// a handler does.
#[tokio::test]
async fn keys_that_are_no_strings() {
    let clients = Clients::authenticated().await;
    for rest in [&b"\x81\x01\x01\x01"[..], b"\x81\xc0\x01\x01", b"\x81\xa1\xff\x01\x01"] {
        let ours = failure("request processing failed");
        assert_eq!(clients.answers(&echo(rest)).await, [ours, failure(INVALID)]);
    }
}

#[tokio::test]
async fn what_is_no_frame_of_a_client() {
    let clients = Clients::authenticated().await;
    for kind in [0, 2, 4, 5, 6, 7, 255] {
        for payload in [&b""[..], b"\xc0"] {
            assert_eq!(clients.answer(&kind.to_string(), &frame(kind, payload)).await, nothing());
        }
    }
    let too_large = [&[PACKET][..], &(LIMIT as u32 + 1).to_be_bytes(), b"abc"].concat();
    assert_eq!(clients.answer("too large", &too_large).await, nothing());
    for cut in [0, 1, 4] {
        let cut = &packet("echo", data([]))[..cut];
        assert_eq!(clients.answer("cut short", cut).await, nothing());
    }
    // A frame that ends in its payload was given up by the client; ours gives up the stream too.
    let cut = &packet("echo", data([]))[..7];
    assert_eq!(clients.answers(cut).await, [Answer::GivenUp, nothing()]);
    assert_eq!(clients.answer("all well", &packet("nothing", data([]))).await, success(b"\x80"));
}

#[tokio::test]
async fn what_follows_the_frame_is_not_looked_at() {
    let clients = Clients::authenticated().await;
    let request = packet("nothing", data([]));
    let more = [&request[..], b"and more"].concat();
    assert_eq!(clients.answer("more", &more).await, success(b"\x80"));
    let twice = [&request[..], &request].concat();
    assert_eq!(clients.answer("twice", &twice).await, success(b"\x80"));
}
