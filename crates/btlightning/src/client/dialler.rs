//! Dialling: QUIC to an address, then the handshake that proves which hotkey is there.
//!
//! A server holds one hotkey, and the request does not say which one is wanted; so one handshake settles who is at the
//! address, and a connection is never anybody else's. The caller compares the proven hotkey with those it wants.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use btlightning_proto::identity::{CertFingerprint, Hotkey, HotkeyError, Nonce, Opening, ProvenMiner};
use btlightning_proto::peers::PeerAddr;
use btlightning_proto::wire::{HandshakeResponse, MessageType, encode_frame};
use quinn::Connection;
use tokio::time::{Instant, timeout_at};

use super::config::LightningClientConfig;
use super::deadline::deadline_after;
use super::dial_error::DialError;
use super::endpoints::Endpoints;
use super::knock::{NotOpened, knock};
use super::link::Link;
use super::pins::TlsKeyPins;
use crate::error::{LightningError, Result};
use crate::signing::Signer;
use crate::transport::close::{self, CloseReason};
use crate::transport::endpoint::Liveness;
use crate::transport::floods::flooded;
use crate::transport::frame_io::{FrameReader, FrameSender};
use crate::transport::io::{IoThreads, Lane};
use crate::transport::network::Network;
use crate::transport::signatures::{SignatureWorker, immediately};
use crate::transport::tls;
use crate::util::unix_timestamp_secs;

/// The largest handshake message that is sent or read, in bytes. An honest one takes under 400.
const HANDSHAKE_PAYLOAD_BYTES_MAX: usize = 4096;

/// How many signatures are asked for at once. A signer in memory needs one; a wallet that is asked over a network, say in
/// 50 ms, would otherwise take longer for 256 miners than a miner waits.
const SIGNER_THREADS: usize = 8;

/// Dials in the validator's name.
pub(crate) struct Dialler {
    validator: std::result::Result<Hotkey, HotkeyError>,
    signer: RwLock<Option<Arc<dyn Signer>>>,
    signatures: SignatureWorker,
    network: Arc<dyn Network>,
    io: IoThreads,
    liveness: Liveness,
    connect_timeout: Duration,
    endpoints: OnceLock<Endpoints>,
    pub(crate) pins: TlsKeyPins,
}

impl Dialler {
    pub(crate) fn new(
        wallet_hotkey: &str,
        config: &LightningClientConfig,
        network: Arc<dyn Network>,
    ) -> Result<Self> {
        let signatures = if network.is_simulated() {
            SignatureWorker::Inline
        } else {
            SignatureWorker::threads("btlightning-client-signatures", SIGNER_THREADS)
        };
        Ok(Self {
            validator: wallet_hotkey.parse(),
            signer: RwLock::new(None),
            signatures,
            network,
            io: config.io_threads,
            liveness: config.liveness(),
            connect_timeout: config.connect_timeout,
            endpoints: OnceLock::new(),
            pins: TlsKeyPins::default(),
        })
    }

    pub(crate) fn set_signer(&self, signer: Arc<dyn Signer>) {
        let before = self.signer.write().unwrap_or_else(PoisonError::into_inner).replace(signer);
        // Dropped with the lock free again: it is somebody else's code.
        drop(before);
    }

    pub(crate) fn signer(&self) -> Option<Arc<dyn Signer>> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The validator's hotkey, if it is one.
    #[cfg(feature = "subtensor")]
    pub(crate) fn validator(&self) -> Option<Hotkey> {
        self.validator.ok()
    }

    /// Binds the sockets, once. Called within the program's tokio runtime.
    pub(crate) fn open(&self) -> Result<()> {
        if self.endpoints.get().is_none() {
            let endpoints = Endpoints::open(self.io, self.liveness, self.network.clone())?;
            // Lost only to another call that has just opened its own.
            let _ = self.endpoints.set(endpoints);
        }
        Ok(())
    }

    /// The sockets, once they are open.
    pub(crate) fn endpoints(&self) -> Option<&Endpoints> {
        self.endpoints.get()
    }

    /// Dials `addr` and finds out who is there. `wanted` says who should be: where all of them have a pin, nothing is sent
    /// to a server whose key is none of theirs. Takes at most the connect timeout. Dropping the future abandons the dial
    /// and closes what was opened.
    ///
    /// Called on `lane`, where the connection is to live.
    pub(crate) async fn dial(
        &self,
        lane: &Lane,
        addr: &PeerAddr,
        wanted: impl Fn() -> Vec<Hotkey>,
    ) -> std::result::Result<Link, DialError> {
        let socket_addr = addr.socket_addr()?;
        let endpoints =
            self.endpoints().ok_or_else(|| DialError::Local("endpoint not initialized".to_owned()))?;
        let after = self.connect_timeout;
        let deadline = deadline_after(Instant::now(), after);

        let connection = timeout_at(deadline, knock(|| endpoints.connect(socket_addr, addr)))
            .await
            .map_err(|_| DialError::Unanswered { addr: socket_addr, after })?
            .map_err(|error| match error {
                NotOpened::Dial(error) => error,
                NotOpened::Connection(error) => connect_failure(&error, socket_addr, after),
            })?;

        // From here on an early return must close the connection: quinn would do so silently, without a reason.
        let unproven = Unproven(Some(connection.clone()));
        let shown = tls::shown_by(&connection)
            .ok_or_else(|| DialError::Incompatible("the server showed no certificate".to_owned()))?;
        let wrong_key = || DialError::WrongTlsKey { addr: addr.clone(), key: shown.key };
        if !self.pins.admit_any(&wanted(), &shown.key) {
            return Err(wrong_key());
        }
        let proven = timeout_at(deadline, async {
            tokio::select! {
                biased;
                proven = self.prove(&connection, shown.fingerprint) => proven,
                flood = flooded(&connection) => Err(DialError::Misbehaving(flood.as_str())),
            }
        })
        .await
        .map_err(|_| DialError::HandshakeTimeout { addr: socket_addr, after })??;
        if !self.pins.admit(&proven.hotkey, &shown.key) {
            return Err(wrong_key());
        }
        unproven.keep();
        Ok(Link::new(connection, lane.clone(), proven.hotkey))
    }

    /// The handshake on a fresh connection.
    async fn prove(
        &self,
        connection: &Connection,
        fingerprint: CertFingerprint,
    ) -> std::result::Result<ProvenMiner, DialError> {
        let validator = self
            .validator
            .map_err(|error| DialError::Local(format!("this client's own hotkey is not valid: {error}")))?;
        let opening = Opening::new(validator, fingerprint, unix_timestamp_secs(), fresh_nonce()?);
        let signature = self.sign(opening.text_to_sign()).await?;
        let (request, awaiting) =
            opening.sign_with(&signature).map_err(|error| DialError::Signing(error.to_string()))?;
        let frame = encode_frame(&request, HANDSHAKE_PAYLOAD_BYTES_MAX)
            .map_err(|error| DialError::Local(error.to_string()))?;
        let response = exchange(connection, frame).await?;
        // A verification takes a few tens of microseconds and happens once a connection: not worth a change of threads.
        Ok(awaiting.verify(&response)?)
    }

    /// Asks the signer: here if it has the key in memory, else on a signature thread, where it may call out to a wallet and
    /// take its time.
    async fn sign(&self, text: String) -> std::result::Result<Vec<u8>, DialError> {
        let signer = self.signer().ok_or_else(|| DialError::Signing("No signer configured".to_owned()))?;
        let signed = if signer.is_immediate() {
            immediately(&*signer, &text)
        } else {
            self.signatures.run_in_turn(move || signer.sign(text.as_bytes())).await
        };
        match signed {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(LightningError::Signing(why))) => Err(DialError::Signing(why)),
            Ok(Err(other)) => Err(DialError::Signing(other.to_string())),
            Err(queue) => Err(DialError::Signing(queue.to_string())),
        }
    }
}

/// Sends the request and reads the answer, on a stream of its own.
async fn exchange(
    connection: &Connection,
    request: Vec<u8>,
) -> std::result::Result<HandshakeResponse, DialError> {
    let lost = |why: &dyn std::fmt::Display| match connection.close_reason() {
        Some(error) => DialError::Lost(close::describe(&error)),
        None => DialError::Lost(why.to_string()),
    };
    let (send, receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    let mut sender = FrameSender::new(send);
    sender.send(request).await.map_err(|error| lost(&error))?;
    sender.finish();
    let answer = FrameReader::new(receive)
        .frame(HANDSHAKE_PAYLOAD_BYTES_MAX)
        .await
        .map_err(|error| lost(&error))?
        .ok_or_else(|| lost(&"the server ended the handshake without an answer"))?;
    if answer.kind != MessageType::HandshakeResponse {
        return Err(DialError::Incompatible(format!("a {:?} answered the handshake", answer.kind)));
    }
    HandshakeResponse::decode(&answer.payload)
        .map_err(|error| DialError::Incompatible(format!("the handshake's answer is malformed: {error}")))
}

fn connect_failure(error: &quinn::ConnectionError, addr: SocketAddr, after: Duration) -> DialError {
    match error {
        quinn::ConnectionError::TimedOut => DialError::Unanswered { addr, after },
        // Alerts of TLS arrive as crypto errors, 0x100 and up (RFC 9001, section 4.8).
        quinn::ConnectionError::TransportError(transport) if is_crypto(transport.code) => {
            DialError::Incompatible(close::describe(error))
        }
        quinn::ConnectionError::ConnectionClosed(closed) if is_crypto(closed.error_code) => {
            DialError::Incompatible(close::describe(error))
        }
        quinn::ConnectionError::VersionMismatch => DialError::Incompatible(close::describe(error)),
        _ => DialError::Lost(close::describe(error)),
    }
}

fn is_crypto(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

fn fresh_nonce() -> std::result::Result<Nonce, DialError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| DialError::Local(format!("no randomness: {error}")))?;
    Ok(Nonce::from_random(bytes))
}

/// Closes a connection on which no wanted hotkey was proven.
struct Unproven(Option<Connection>);

impl Unproven {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            CloseReason::NoAuthenticatedHotkeys.close(connection);
        }
    }
}
