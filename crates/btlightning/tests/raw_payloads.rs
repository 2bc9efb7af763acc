//! Payloads that stay MessagePack, end to end.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use btlightning::raw::{EncodeError, Head, PayloadWriter, RawReply, Reader, SHARED_BYTES_MIN};
use btlightning::server::{Handler, HandlerError, Response};
use btlightning::{CallError, CallOptions, LightningClient, PeerError, QuicAxonInfo, Sr25519Signer};
use btlightning_testkit::keys;
use bytes::Bytes;
use common::{Miner, config, hotkey, within};

/// A client that wants the miner at `addr`.
async fn client(addr: SocketAddr) -> (LightningClient, QuicAxonInfo) {
    let axon = QuicAxonInfo::new(hotkey("miner").to_string(), addr.ip().to_string(), addr.port(), 4);
    let mut client = LightningClient::new(hotkey("validator").to_string());
    client.set_signer(Box::new(Sr25519Signer::from_seed(keys::seed("validator"))));
    client.initialize_connections(vec![axon.clone()]).await.expect("a connection");
    (client, axon)
}

/// `{"blob": bytes}`
fn write_blob(out: &mut PayloadWriter, bytes: &Bytes) -> Result<(), EncodeError> {
    out.map_len(1)?;
    out.str("blob")?;
    out.bin_shared(bytes.clone())
}

fn read_blob(data: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(data);
    match (reader.head(), reader.head(), reader.head()) {
        (Ok(Head::Map(1)), Ok(Head::Str(b"blob")), Ok(Head::Bin(bytes))) => Some(bytes),
        _ => None,
    }
}

/// Answers the blob turned round.
fn reverse() -> Handler {
    Handler::unary(|call| async move {
        let mut bytes = read_blob(call.data().as_bytes()).ok_or("not a blob")?.to_vec();
        bytes.reverse();
        Response::encode_raw(|out| write_blob(out, &bytes.into())).map_err(HandlerError::unsendable)
    })
}

#[tokio::test]
async fn payloads_of_several_pieces_arrive_whole_in_both_directions() {
    let miner = Miner::with(config(), |server| drop(server.register("reverse", reverse()))).await;
    let (client, axon) = client(miner.addr).await;
    for length in [0, 1, SHARED_BYTES_MIN - 1, SHARED_BYTES_MIN, 3 << 20] {
        let sent: Bytes = (0..length).map(|n| (n % 251) as u8).collect();
        let request = client.encode_raw("reverse", |out| write_blob(out, &sent)).expect("a request");
        let reply = within("an answer", client.call_raw(&axon, &request, CallOptions::new()))
            .await
            .expect("an answer");
        assert!(reply.success() && reply.error().is_none());
        assert_eq!(reply.hotkey(), hotkey("miner"));
        let mut came = read_blob(reply.data().as_bytes()).expect("a blob").to_vec();
        came.reverse();
        assert_eq!(came, sent, "{length} bytes");
    }
}

#[tokio::test]
async fn a_failure_is_a_reply_and_in_a_fan_out_an_error() {
    let miner = Miner::with(config(), |server| drop(server.register("reverse", reverse()))).await;
    let (client, axon) = client(miner.addr).await;
    let request = client.encode_raw::<EncodeError>("reverse", |out| out.map_len(0)).expect("a request");
    let reply = client.call_raw(&axon, &request, CallOptions::new()).await.expect("a reply");
    assert_eq!((reply.success(), reply.error()), (false, Some("request processing failed")));
    let refused = RawReply::into_reply(reply).map(|reply| reply.hotkey);
    assert!(matches!(refused, Err(CallError::Rejected(PeerError::ProcessingFailed))));

    let mut answers = client.fan_out_raw([&axon], &request, CallOptions::new());
    let (name, answer) = within("an answer", answers.next()).await.expect("one miner was asked");
    assert_eq!(name, axon.hotkey);
    assert!(matches!(answer, Err(CallError::Rejected(PeerError::ProcessingFailed))));
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_stream_is_asked_for_and_shared_bytes_are_let_go() {
    let echo = Handler::streaming(|call, chunks| async move {
        let bytes = Bytes::copy_from_slice(read_blob(call.data().as_bytes()).ok_or("not a blob")?);
        chunks.send(bytes.slice(..1)).await?;
        chunks.send(bytes.slice(1..)).await?;
        Ok(())
    });
    let miner = Miner::with(config(), |server| drop(server.register("echo", echo))).await;
    let (client, axon) = client(miner.addr).await;

    struct Watched(Vec<u8>, #[allow(dead_code, reason = "counts who holds the bytes")] Arc<()>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let held = Arc::new(());
    let bytes = Bytes::from_owner(Watched(vec![7; SHARED_BYTES_MIN], held.clone()));
    let request = client.encode_raw("echo", |out| write_blob(out, &bytes)).expect("a request");
    drop(bytes);
    assert_eq!(Arc::strong_count(&held), 2, "the request shares the bytes");
    let mut chunks = client.call_stream_raw(&axon, &request, CallOptions::new()).await.expect("a stream");
    drop(request);
    let mut came = Vec::new();
    while let Some(chunk) = within("a chunk", chunks.next()).await.expect("a chunk") {
        came.push(chunk.len());
    }
    assert_eq!(came, [1, SHARED_BYTES_MIN - 1]);
    common::eventually("the bytes to be let go", async || (Arc::strong_count(&held) == 1).then_some(()))
        .await;
}
