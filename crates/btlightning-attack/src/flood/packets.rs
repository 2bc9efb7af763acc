//! Packets: the first ones of connections that never come about.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning_testkit::by_hand::first_flights;
use quinn::udp::{Transmit, UdpSockRef, UdpSocketState};

use super::{Mode, Tally, in_each_mode};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::address;
use crate::verdict::{Failure, Verdict};

pub(super) const FORGED: Attack = Attack {
    name: "flood-forged-initials",
    promise: "Initials from forged addresses leave a connected validator its answers",
    carry_out: |scale| Box::pin(initials(scale, Sources::Forged)),
};

pub(super) const REAL: Attack = Attack {
    name: "flood-real-initials",
    promise: "Initials from real addresses, which answer a Retry and no more, leave a connected validator its answers",
    carry_out: |scale| Box::pin(initials(scale, Sources::Real)),
};

/// Where packets come from.
#[derive(Debug, Clone, Copy)]
enum Sources {
    /// Tens of thousands of addresses, of which none receives what is sent to it.
    Forged,
    /// Some addresses of the attacker's own, which go through with the Retry.
    Real,
}

/// How many packets there are before they come again.
const FLIGHTS: usize = 20_000;

/// Sent at once, and then looked at the clock.
const BATCH: u64 = 32;

async fn initials(scale: Scale, sources: Sources) -> Result<Verdict, Failure> {
    let packets_per_sec = scale.of(5_000, 20_000);
    match sources {
        Sources::Forged => {
            let flights = Arc::new(first_flights(scale.of(FLIGHTS / 10, FLIGHTS)).await?);
            in_each_mode(
                scale,
                |mode| mode != Mode::NoDefences,
                |addr, tally| {
                    let flights = flights.clone();
                    async move {
                        tokio::task::spawn_blocking(move || forge(addr, &flights, packets_per_sec, &tally))
                            .await?
                    }
                },
            )
            .await
        }
        Sources::Real => in_each_mode(scale, Mode::has_allowlist, super::handshakes::abandon).await,
    }
}

/// Sends each flight from another address, so many a second.
fn forge(to: SocketAddr, flights: &[Vec<u8>], per_sec: u64, tally: &Tally) -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    let (began, mut sent) = (Instant::now(), 0_u64);
    for (index, flight) in flights.iter().cycle().enumerate() {
        if tally.is_over() {
            return Ok(());
        }
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: flight,
            segment_size: None,
            // Another one the next time that the flight is sent.
            src_ip: Some(address(index % 4_000_000)),
        };
        match state.send(UdpSockRef::from(&socket), &transmit) {
            Ok(()) => sent += 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if sent.is_multiple_of(BATCH) {
            tally.packets(BATCH);
            let due = began + Duration::from_secs_f64(sent as f64 / per_sec as f64);
            // sleeps: the pace of the flood
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}
