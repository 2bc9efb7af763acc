//! What somebody can do to a server who holds no key that the server knows.

mod attempts;
mod crowd;
mod deadline;
mod greedy;
mod identity;
mod log;
mod memory;
pub(crate) mod payloads;
mod slots;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use btlightning_proto::identity::Keypair;
use btlightning_testkit::by_hand::{self, Visitor};
use btlightning_testkit::keys;
use quinn::{ConnectionError, Endpoint};
use tokio::time::timeout;

use crate::run::Attack;
use crate::verdict::Failure;
use crate::victim::Victim;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    identity::MAN_IN_THE_MIDDLE,
    identity::RELAYED_HANDSHAKE,
    deadline::DEADLINE,
    crowd::CROWD,
    memory::STREAMS,
    memory::FRAGMENTS,
    memory::HALF_HANDSHAKES,
    payloads::NEVER_DECODED,
    payloads::UNIFORM_REFUSALS,
    attempts::LIMITER,
    attempts::GARBAGE,
    attempts::FULL_TABLE,
    slots::THROW_AWAY_HOTKEYS,
    slots::UNPERMITTED_HOTKEYS,
    log::NOISE,
];

/// After this a peer that has to answer is taken for dead.
const PATIENCE: Duration = Duration::from_secs(20);

/// The `index`-th of the attacker's addresses: all of 127/8 is this host, but for what the others use.
pub(crate) fn address(index: usize) -> IpAddr {
    let [_, high, middle, low] = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    Ipv4Addr::new(127, 1 + high, middle, low).into()
}

/// A socket at the `index`-th address.
pub(crate) fn socket(index: usize) -> Result<Endpoint, Failure> {
    by_hand::socket(SocketAddr::new(address(index), 0))
}

/// A stranger at the `index`-th address.
pub(crate) async fn stranger(victim: &Victim, index: usize) -> Result<Visitor, Failure> {
    Ok(connect(socket(index)?, victim.addr).await??)
}

/// A connection from `endpoint`, or why there is none.
pub(crate) async fn connect(
    endpoint: Endpoint,
    addr: SocketAddr,
) -> Result<Result<Visitor, ConnectionError>, Failure> {
    let connected = timeout(PATIENCE, Visitor::connect(endpoint, addr)).await;
    connected.map_err(|_| "a connection that neither comes about nor fails".into())
}

/// A stranger from `endpoint`, as soon as there is a place for one more of its address: who has left has it a while longer.
pub(crate) async fn place(endpoint: &Endpoint, addr: SocketAddr) -> Result<Visitor, Failure> {
    let began = Instant::now();
    loop {
        match connect(endpoint.clone(), addr).await? {
            Ok(visitor) => return Ok(visitor),
            Err(ConnectionError::ConnectionClosed(_)) if began.elapsed() < PATIENCE => {
                // sleeps: a place that is free again is announced to nobody
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The key pair that is made from a name.
pub(crate) fn key(name: &str) -> Keypair {
    Keypair::from_seed(keys::seed(name))
}

/// The first bytes of a frame.
pub(crate) fn header(kind: u8, payload_bytes: u32) -> Vec<u8> {
    [&[kind][..], &payload_bytes.to_be_bytes()].concat()
}

/// Why a connection was closed by the other side, in its words.
pub(crate) fn close_reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
        other => other.to_string(),
    }
}

/// Bytes in KiB, to be read.
pub(crate) fn kib(bytes: u64) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}
