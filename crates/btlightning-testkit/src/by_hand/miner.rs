//! Miners that do not behave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use btlightning_proto::identity::{CertFingerprint, Keypair, ReplayWindow, handshake};
use btlightning_proto::wire::{
    HandshakeRequest, MessageType, encode_frame, encode_response_frame, parse_frame_header,
};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::task::JoinHandle;

use super::tls::Shown;
use super::{Failure, HANDSHAKE_BYTES_MAX, unix_secs};

/// What a miner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers every request with an empty map, as it should.
    Honest,
    /// Goes through with TLS, and never answers the handshake.
    Silent,
    /// Refuses every connection.
    Refusing,
    /// Closes each connection as soon as it has authenticated.
    Flapping,
    /// Authenticates, and never answers a request.
    Stalling,
    /// Authenticates, and ends every stream without an answer.
    HalfClosing,
    /// Answers a byte at a time, ten a second.
    Trickling,
    /// Answers as it should, and never ends a stream.
    Unending,
    /// Shows thousands of certificates, and sends hundreds of session tickets after each handshake.
    Certified,
    /// Announces the largest frame that there is, and sends nils until nobody reads them.
    Flooding,
    /// Answers with 4 Mi nils in an array: a byte each on the wire, and many more as values.
    Expanding,
}

/// A miner by hand, which authenticates as it should.
#[derive(Debug)]
pub struct Miner {
    /// Where it listens.
    pub addr: SocketAddr,
    begun: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Miner {
    /// Serves at `addr` as the owner of `key`, with a certificate of its own.
    ///
    /// # Errors
    /// When the address cannot be bound, or outside a tokio runtime.
    pub fn start(addr: SocketAddr, key: Keypair, manner: Manner) -> Result<Self, Failure> {
        let mut shown = Shown::fresh()?;
        if manner == Manner::Certified {
            (shown.others, shown.tickets) = (5_000, 400);
        }
        let fingerprint = CertFingerprint::of_certificate(&shown.certificate);
        let mut config = shown.server_config()?;
        let mut transport = TransportConfig::default();
        // One that never ends a stream needs many. quinn makes room for each of them with every connection.
        let streams = if manner == Manner::Unending { 1 << 17 } else { 1024 };
        transport.max_concurrent_bidi_streams(VarInt::from_u32(streams));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::server(config, addr)?;
        let addr = endpoint.local_addr()?;
        let (begun, key) = (Arc::new(AtomicUsize::new(0)), Arc::new(key));
        let serving = tokio::spawn({
            let begun = begun.clone();
            async move {
                while let Some(incoming) = endpoint.accept().await {
                    begun.fetch_add(1, Ordering::SeqCst);
                    if manner == Manner::Refusing {
                        incoming.refuse();
                        continue;
                    }
                    tokio::spawn(serve(incoming, fingerprint, key.clone(), manner));
                }
            }
        });
        Ok(Self { addr, begun, serving })
    }

    /// How many connections have begun, refused ones included.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One connection.
async fn serve(
    incoming: Incoming,
    fingerprint: CertFingerprint,
    key: Arc<Keypair>,
    manner: Manner,
) -> Result<(), Failure> {
    let connection = incoming.await?;
    loop {
        let (send, receive) = connection.accept_bi().await?;
        let (connection, key) = (connection.clone(), key.clone());
        tokio::spawn(async move { answer(&connection, send, receive, fingerprint, &key, manner).await });
    }
}

/// One stream.
async fn answer(
    connection: &Connection,
    mut send: SendStream,
    mut receive: RecvStream,
    fingerprint: CertFingerprint,
    key: &Keypair,
    manner: Manner,
) -> Result<(), Failure> {
    let asked = receive.read_to_end(1 << 26).await?;
    let (kind, payload) = parse_frame_header(&asked, 1 << 26)?;
    if kind == MessageType::HandshakeRequest {
        if manner == Manner::Silent {
            connection.closed().await;
            return Ok(());
        }
        send.write_all(&proof(payload, fingerprint, key)?).await?;
        send.finish()?;
        if manner == Manner::Flapping {
            send.stopped().await?;
            connection.close(0u8.into(), b"");
        }
        return Ok(());
    }
    let nils: u32 = if manner == Manner::Expanding { 4 << 20 } else { 0 };
    let frame = encode_response_frame(unix_secs(), 1 << 26, |out| {
        if nils == 0 {
            out.push(0x80);
            return Ok(());
        }
        // A map of one key, and an array of 2^32 elements at most.
        out.extend([0x81, 0xa1, b'n', 0xdd]);
        out.extend(nils.to_be_bytes());
        out.resize(out.len() + nils as usize, 0xc0);
        Ok(())
    })?;
    match manner {
        Manner::Stalling => {
            connection.closed().await;
        }
        Manner::HalfClosing => send.finish()?,
        Manner::Trickling => {
            for byte in frame {
                send.write_all(&[byte]).await?;
                // sleeps: the pace is the attack
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Manner::Unending => {
            send.write_all(&frame).await?;
            // Not dropped, which would end it.
            connection.closed().await;
        }
        Manner::Flooding => {
            let mut header = vec![MessageType::SynapseResponse as u8];
            header.extend(u32::MAX.to_be_bytes());
            send.write_all(&header).await?;
            while send.write_all(&[0xc0; 65_536]).await.is_ok() {}
        }
        Manner::Honest
        | Manner::Silent
        | Manner::Refusing
        | Manner::Flapping
        | Manner::Certified
        | Manner::Expanding => {
            send.write_all(&frame).await?;
            send.finish()?;
        }
    }
    Ok(())
}

/// The answer to a handshake: what the protocol's own server's side makes of it.
fn proof(payload: &[u8], fingerprint: CertFingerprint, key: &Keypair) -> Result<Vec<u8>, Failure> {
    let (request, now) = (HandshakeRequest::decode(payload)?, unix_secs());
    let claim = handshake::Claim::parse(&request, fingerprint)?;
    let claim = claim.check_time(now, handshake::SIGNATURE_AGE_SECS)?.verify()?;
    // Each request is the first that it sees.
    let mut window = ReplayWindow::new(16, handshake::SIGNATURE_AGE_SECS);
    let name = handshake::connection_id(claim.validator(), now * 1000);
    let acceptance = claim.admit(&mut window, now)?.answer(key.hotkey(), now);
    let signature = key.sign(acceptance.text_to_sign().as_bytes());
    Ok(encode_frame(&acceptance.sign_with(&signature, name)?, HANDSHAKE_BYTES_MAX)?)
}
