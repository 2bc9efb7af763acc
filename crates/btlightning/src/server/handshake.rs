//! The server's side of a handshake: the pure steps of `btlightning_proto`, with this server's clock, limits, threads
//! and tables between them.
//!
//! In this order: the limiter, the spelling, the time, the permit, a turn, the signature, whether there is a place, the
//! nonce, the miner's signature, the place in the directory, a note of the source, the permit and the source once more.
//! What is cheap comes first, and nothing is remembered of a claim that is not proven, but how many such came from its
//! source.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use btlightning_proto::identity::handshake::{connection_id, refuse, refuse_unread};
use btlightning_proto::identity::{
    AdmittedClaim, AttemptLimiter, Claim, Claimed, Refusal, Standing, TimelyClaim, VerifiedClaim,
};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::published::HandshakeObserver;
use super::session::{NotJoined, Session};
use super::shared::Shared;
use crate::Hotkey;
use crate::error::LightningError;
use crate::transport::close::{CloseReason, printable_within};
use crate::transport::signatures::{SignatureQueueError, Turn, immediately};
use crate::util::{unix_timestamp_millis, unix_timestamp_secs};
use crate::wire::{HandshakeRequest, HandshakeResponse};

/// The largest handshake request that is read, in bytes. An honest one takes under 300.
pub(super) const HANDSHAKE_PAYLOAD_BYTES_MAX: u32 = 4096;

/// How many handshakes may fail on a connection; one more closes it. Who knows what to say needs one, and each further
/// connection costs a flood a TLS handshake.
const REFUSALS_MAX: u32 = 8;

/// How long the observer may take for one handshake.
const OBSERVATION_TIME_MAX: Duration = Duration::from_secs(30);

/// The longest words of a signer that are logged, in bytes.
const SIGNER_WORDS_BYTES_MAX: usize = 512;

/// Answers a handshake request. If the answer accepts, the session belongs to the validator.
pub(super) async fn answer(session: &Session, payload: &[u8]) -> HandshakeResponse {
    match accept(session, payload).await {
        Ok(response) => response,
        Err(refused) => {
            refused.log(session);
            if refused.is_held_against(session) {
                session.earn_eviction();
                if session.refusals.fetch_add(1, Ordering::Relaxed) >= REFUSALS_MAX {
                    CloseReason::TooManyHandshakes.close(&session.connection);
                }
            }
            refused.response(&session.shared)
        }
    }
}

async fn accept(session: &Session, payload: &[u8]) -> Result<HandshakeResponse, Refused> {
    let Ok(request) = HandshakeRequest::decode(payload) else {
        // The attempt counts; the answer is the same either way.
        allow(session, Claimed::Unknown)?;
        return Err(Refused::Undecodable);
    };
    let claim = Claim::parse(&request, session.running.fingerprint);
    // Anyone can make up hotkeys, but not one that holds a permit: garbage must not use up its owner's attempts.
    let known = claim.as_ref().ok().map(Claim::validator).filter(|who| session.shared.knows(who)).copied();
    allow(session, known.as_ref().map_or(Claimed::Unknown, Claimed::Known))?;
    accept_claim(session, claim?, known.is_some()).await
}

fn allow(session: &Session, claimed: Claimed<'_>) -> Result<(), Refused> {
    let now = Instant::now().into_std();
    match session.shared.attempts().allow(session.source_ip, claimed, now) {
        true => Ok(()),
        false => Err(Refused::TooManyAttempts),
    }
}

async fn accept_claim(
    session: &Session,
    claim: Claim,
    is_permitted: bool,
) -> Result<HandshakeResponse, Refused> {
    let admitted = prove(session, claim, is_permitted).await?;
    let hotkey = *admitted.validator();
    let (response, name) = sign(session, admitted).await?;
    session.join(hotkey, name.clone()).map_err(Refused::NotJoined)?;
    learn(session, &hotkey);
    check_again(session, hotkey)?;
    log_accepted(session, &hotkey, &name);
    observe(session, hotkey);
    Ok(response)
}

/// Hotkeys without a permit cost nothing, and so do handshakes of theirs.
fn log_accepted(session: &Session, hotkey: &Hotkey, name: &str) {
    if session.shared.knows(hotkey) {
        return info!("Handshake successful, established connection: {name}");
    }
    session.shared.hush.accepted.line(|more| {
        info!("Handshake successful, established connection: {name}{more}");
    });
}

/// Takes note of where a validator is. It is on the list when this returns, so that a visitor may stay.
fn learn(session: &Session, hotkey: &Hotkey) {
    let Some(learned) = session.shared.learned.get() else { return };
    // Where a connection was moved to, nobody has shown that packets arrive.
    if session.connection.remote_address().ip().to_canonical() == session.source_ip {
        learned.observe(hotkey, session.source_ip);
    }
}

/// Closes the connection of a session that has joined between two refreshes: one that came after the permit or the
/// source was looked at has not seen it, and the next one may be long in coming.
fn check_again(session: &Session, hotkey: Hotkey) -> Result<(), Refused> {
    let shared = &session.shared;
    if !shared.permits(&hotkey) {
        CloseReason::PermitRevoked.close(&session.connection);
        return Err(Refused::NoPermit(hotkey));
    }
    let ip = session.connection.remote_address().ip();
    if !shared.may_stay(&hotkey, ip) {
        CloseReason::SourceNotAllowed.close(&session.connection);
        return Err(Refused::SourceNotAllowed(ip));
    }
    Ok(())
}

/// Finds out whether the claim holds, on this connection, now and for the first time, and whether there is a place.
async fn prove(session: &Session, claim: Claim, is_permitted: bool) -> Result<AdmittedClaim, Refused> {
    let shared = &session.shared;
    let hotkey = *claim.validator();
    if let Some(proven) = session.proven()
        && *proven != hotkey
    {
        return Err(Refused::NotJoined(NotJoined::OtherHotkey(*proven)));
    }
    let timely = claim.check_time(unix_timestamp_secs(), shared.config.max_signature_age_secs)?;
    if !shared.permits(&hotkey) {
        return Err(Refused::NoPermit(hotkey));
    }
    if shared.learned.get().is_some() && !shared.may_stay(&hotkey, session.source_ip) {
        // A visitor, whom no proof of this hotkey would let stay.
        return Err(Refused::SourceNotAllowed(session.source_ip));
    }
    let verified = verify(session, timely, is_permitted).await?;
    if session.proven().is_none() {
        // Asked before a nonce is spent and the miner has to sign; the answer that counts is that of `join`.
        let has_room =
            shared.directory.has_room_for(hotkey, session.source_ip, |hotkey| shared.knows(hotkey));
        has_room.map_err(|full| Refused::NotJoined(full.into()))?;
    }
    let standing = match is_permitted {
        true => Standing::Permitted,
        false if shared.directory.was_here(&hotkey) => Standing::Returning,
        false => Standing::Unknown,
    };
    Ok(verified.admit_as(standing, &mut shared.replay(), unix_timestamp_secs())?)
}

/// Verifies the signature when it is its turn.
async fn verify(
    session: &Session,
    timely: TimelyClaim,
    is_permitted: bool,
) -> Result<VerifiedClaim, Refused> {
    let (shared, ip, hotkey) = (&session.shared, session.source_ip, *timely.validator());
    // Neither semaphore is ever closed.
    let _of_connection = session.verifying.acquire().await;
    let _of_source = shared.turns.of_source(ip).await;
    let is_at_home = shared.directory.was_here_from(&hotkey, ip);
    let turn = turn(&mut shared.attempts(), ip, &hotkey, is_permitted, is_at_home);
    let verified =
        session.running.verifications.run(turn, move || timely.verify()).await.map_err(Refused::Busy)?;
    if is_permitted {
        let (mut attempts, now) = (shared.attempts(), Instant::now().into_std());
        match &verified {
            Ok(_) => attempts.note_proven(ip, &hotkey, now),
            Err(_) => {
                attempts.note_unproven(ip, now);
                if is_at_home {
                    attempts.note_unproven_at_home(ip, &hotkey, now);
                }
            }
        }
    }
    Ok(verified?)
}

/// When it is the turn of `hotkey` from `ip`. Of one that was here from there before it is the first, whatever others forge
/// there: only forgeries in its own name have it wait beside those that are not known.
fn turn(
    attempts: &mut AttemptLimiter,
    ip: IpAddr,
    hotkey: &Hotkey,
    is_permitted: bool,
    is_at_home: bool,
) -> Turn {
    let now = Instant::now().into_std();
    match is_at_home {
        true if !attempts.has_overdrawn_at_home(ip, hotkey, now) => Turn::First,
        false if is_permitted && attempts.has_overdrawn(ip, now) => Turn::Last,
        _ => Turn::Ordinary,
    }
}

/// Asks the miner's signer, which may call out to a wallet and take its time.
async fn sign(session: &Session, admitted: AdmittedClaim) -> Result<(HandshakeResponse, String), Refused> {
    let shared = &session.shared;
    let miner = shared
        .miner
        .map_err(|error| Refused::Unsigned(format!("this server's own hotkey is not valid: {error}")))?;
    let signer = shared.signer.get().ok_or_else(|| {
        Refused::Unsigned(LightningError::Signing("no miner signer configured".to_owned()).to_string())
    })?;
    let name =
        connection_id(admitted.validator(), u64::try_from(unix_timestamp_millis()).unwrap_or(u64::MAX));
    let acceptance = admitted.answer(miner, unix_timestamp_secs());
    let text = acceptance.text_to_sign();
    let signed = if signer.is_immediate() {
        immediately(&*signer, &text).map_err(Refused::Busy)?
    } else {
        let signed = session.running.signings.run(Turn::Ordinary, move || signer.sign(text.as_bytes())).await;
        signed.map_err(Refused::Busy)?
    };
    let signature = signed.map_err(|error| Refused::Unsigned(error.to_string()))?;
    let response = acceptance
        .sign_with(&signature, name.clone())
        .map_err(|error| Refused::Unsigned(error.to_string()))?;
    Ok((response, name))
}

/// Tells the observer, without waiting for it.
fn observe(session: &Session, hotkey: Hotkey) {
    let Some(observer) = session.shared.observer.get() else { return };
    let Ok(permit) = session.shared.observations.clone().try_acquire_owned() else {
        session.shared.hush.handshakes.line(|withheld| {
            warn!("the handshake observer is too slow: the handshake of {hotkey} goes unobserved{withheld}");
        });
        return;
    };
    let ip = session.source_ip;
    session.running.program.spawn(async move {
        let _permit = permit;
        if timeout(OBSERVATION_TIME_MAX, observed(observer, hotkey, ip)).await.is_err() {
            warn!("the handshake observer was given up on after {OBSERVATION_TIME_MAX:?}");
        }
    });
}

async fn observed(observer: Arc<dyn HandshakeObserver>, hotkey: Hotkey, ip: IpAddr) {
    observer.observe_successful_handshake(&hotkey.to_string(), ip).await;
}

/// Why a handshake was refused. The peer is not told.
#[derive(Debug)]
enum Refused {
    /// The request is not one.
    Undecodable,
    TooManyAttempts,
    /// The claim does not hold.
    Claim(Refusal),
    NoPermit(Hotkey),
    SourceNotAllowed(IpAddr),
    NotJoined(NotJoined),
    /// The signature threads have too much to do.
    Busy(SignatureQueueError),
    /// The miner cannot sign. Says why.
    Unsigned(String),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Claim(refusal)
    }
}

impl Refused {
    /// Whether a peer that goes on like this is one to get rid of. Of a validator only claims count: what else it is
    /// refused for it may not know.
    fn is_held_against(&self, session: &Session) -> bool {
        match self {
            Self::Busy(_) | Self::Unsigned(_) => false,
            Self::Claim(_) => true,
            _ => session.proven().is_none(),
        }
    }

    fn response(&self, shared: &Shared) -> HandshakeResponse {
        let now = unix_timestamp_secs();
        match (self, &shared.miner) {
            (Self::Undecodable | Self::TooManyAttempts, _) => refuse_unread(now),
            (_, Ok(miner)) => refuse(miner, now),
            // The hotkey was given as something else; the peer reads what it was given as.
            (_, Err(_)) => {
                HandshakeResponse { miner_hotkey: shared.miner_text.clone(), ..refuse_unread(now) }
            }
        }
    }

    fn log(&self, session: &Session) {
        let ip = session.source_ip;
        let hush = match self {
            Self::Unsigned(_) => &session.shared.hush.signing,
            _ => &session.shared.hush.handshakes,
        };
        hush.line(|more| match self {
            Self::Undecodable => debug!("Failed to parse handshake request from {ip}{more}"),
            Self::TooManyAttempts => warn!("Handshake rate limit exceeded for {ip}{more}"),
            Self::Claim(refusal) => warn!("Handshake from {ip} refused: {refusal}{more}"),
            Self::NoPermit(hotkey) => {
                warn!("Handshake rejected: hotkey {hotkey} does not hold a validator permit{more}");
            }
            Self::SourceNotAllowed(ip) => {
                warn!("Handshake rejected: {ip} is not on the source allowlist{more}");
            }
            Self::NotJoined(why) => warn!("Handshake from {ip} refused: {why}{more}"),
            Self::Busy(why) => warn!("Handshake from {ip} refused: {why}{more}"),
            Self::Unsigned(why) => {
                let why = printable_within(why.as_bytes(), SIGNER_WORDS_BYTES_MAX);
                error!("Handshake signing failed: {why}{more}");
            }
        });
    }
}
