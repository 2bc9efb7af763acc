//! Connections from real addresses: those that end in the middle of TLS, and those that go through with it, of which one in
//! sixteen also authenticates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning_testkit::by_hand::{Bare, Valve, Visitor};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Mode, Tally, in_each_mode};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::{address, key};
use crate::verdict::{Failure, Verdict};

pub(super) const COMPLETE: Attack = Attack {
    name: "flood-handshakes",
    promise: "complete handshakes from real addresses with ever new hotkeys leave a connected validator its answers",
    carry_out: |scale| Box::pin(complete(scale)),
};

/// As many at once, each from an address of its own.
const AT_ONCE: usize = 64;

/// After this an attempt is begun anew.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an answer takes that comes at all.
const ANSWER_WITHIN: Duration = Duration::from_millis(20);

async fn complete(scale: Scale) -> Result<Verdict, Failure> {
    in_each_mode(scale, Mode::has_allowlist, from_many_addresses).await
}

/// Goes through with TLS, and one time in sixteen with a hotkey that nobody has seen.
async fn connect_and_leave(visitor: Visitor, name: &str, tally: &Tally) {
    tally.handshake();
    if name.ends_with('0') {
        let _ = timeout(PATIENCE, visitor.authenticate(&key(name))).await;
    }
    visitor.connection.close(0u8.into(), b"");
}

/// Begins connections, shows that the addresses are real, and falls silent.
pub(super) async fn abandon(addr: SocketAddr, tally: Arc<Tally>) -> Result<(), Failure> {
    let mut attackers = JoinSet::new();
    for index in 0..AT_ONCE {
        let tally = tally.clone();
        attackers.spawn(async move {
            let socket = UdpSocket::bind((address(index), 0)).await?;
            socket.connect(addr).await?;
            for attempt in 0_u32.. {
                if tally.is_over() {
                    break;
                }
                let mut bare = Bare::new(&[(index as u32).to_be_bytes(), attempt.to_be_bytes()].concat())?;
                socket.send(&bare.hello()?).await?;
                tally.packets(1);
                // Nothing comes where the address is not on the list.
                if let Ok(again) = timeout(ANSWER_WITHIN, after_retry(&socket, &mut bare)).await {
                    for datagram in again? {
                        socket.send(&datagram).await?;
                        tally.packets(1);
                    }
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = attackers.join_next().await {
        ended??;
    }
    Ok(())
}

/// What a client says when it is asked to show its address; nothing when the server goes on without.
async fn after_retry(socket: &UdpSocket, bare: &mut Bare) -> Result<Vec<Vec<u8>>, Failure> {
    let mut datagram = vec![0; 2048];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let received = &datagram[..length];
        // The form of the header, and its kind (RFC 9000, section 17.2.5).
        if received.first().is_some_and(|first| first >> 4 == 0b1111) {
            return bare.receive(received);
        }
        if !is_stale(received) {
            return Ok(Vec::new());
        }
    }
}

/// Short headers are resets of what was left behind.
fn is_stale(datagram: &[u8]) -> bool {
    datagram.first().is_none_or(|first| first & 0x80 == 0)
}

/// Has each of many addresses connect again and again.
async fn from_many_addresses(addr: SocketAddr, tally: Arc<Tally>) -> Result<(), Failure> {
    let mut attackers = JoinSet::new();
    for index in 0..AT_ONCE {
        let tally = tally.clone();
        attackers.spawn(async move {
            let (endpoint, valve) = Valve::endpoint(SocketAddr::new(address(index), 0))?;
            let mut counted = 0;
            for attempt in 0_usize.. {
                if tally.is_over() {
                    break;
                }
                let connected = timeout(PATIENCE, Visitor::connect(endpoint.clone(), addr)).await;
                if let Ok(Ok(visitor)) = connected {
                    connect_and_leave(visitor, &format!("{index}-{attempt:x}"), &tally).await;
                }
                let sent = valve.sent();
                tally.packets((sent - counted) as u64);
                counted = sent;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = attackers.join_next().await {
        ended??;
    }
    Ok(())
}
