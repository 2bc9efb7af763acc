//! What stands between a client and a server: it counts what passes, and may be a long and lossy path.

mod tcp;
mod udp;

pub use tcp::TcpRelay;
pub use udp::{PATH_DATAGRAM_BYTES_MAX, Path, UdpRelay};

use std::{
    io,
    net::SocketAddr,
    ops::Sub,
    sync::atomic::{AtomicU64, Ordering},
};

/// A relay of either kind. Dropped, it stops, and what goes through it ends.
#[derive(Debug)]
pub enum Relay {
    /// Of streams.
    Tcp(TcpRelay),
    /// Of datagrams.
    Udp(UdpRelay),
}

impl Relay {
    /// A relay of datagrams to `server`.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn udp(server: SocketAddr, path: Option<Path>) -> io::Result<Self> {
        UdpRelay::start(server, path).map(Self::Udp)
    }

    /// A relay of streams to `server`.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn tcp(server: SocketAddr) -> io::Result<Self> {
        TcpRelay::start(server).map(Self::Tcp)
    }

    /// Where clients find it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(relay) => relay.addr(),
            Self::Udp(relay) => relay.addr(),
        }
    }

    /// What has come in so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        match self {
            Self::Tcp(relay) => relay.traffic(),
            Self::Udp(relay) => relay.traffic(),
        }
    }
}

/// What a relay has seen, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From clients.
    pub to_server: Flow,
    /// To clients.
    pub to_clients: Flow,
}

/// What a relay has seen in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes that came in, as the sender gave them to its socket: no headers of UDP, TCP or IP.
    pub bytes: u64,
    /// Datagrams that came in; of streams, none.
    pub datagrams: u64,
    /// Datagrams that the path lost, by chance.
    pub lost: u64,
    /// Datagrams that are larger than any that the path takes.
    pub too_large: u64,
    /// Datagrams that found the path's queue or a socket full, or a client too many.
    pub dropped: u64,
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        let flow = |now: Flow, then: Flow| Flow {
            bytes: now.bytes - then.bytes,
            datagrams: now.datagrams - then.datagrams,
            lost: now.lost - then.lost,
            too_large: now.too_large - then.too_large,
            dropped: now.dropped - then.dropped,
        };
        Self {
            to_server: flow(self.to_server, earlier.to_server),
            to_clients: flow(self.to_clients, earlier.to_clients),
        }
    }
}

/// A direction as its relay counts it.
#[derive(Debug, Default)]
struct Counter {
    bytes: AtomicU64,
    datagrams: AtomicU64,
    lost: AtomicU64,
    too_large: AtomicU64,
    dropped: AtomicU64,
}

impl Counter {
    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn flow(&self) -> Flow {
        Flow {
            bytes: self.bytes.load(Ordering::Relaxed),
            datagrams: self.datagrams.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            too_large: self.too_large.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Both directions.
#[derive(Debug, Default)]
struct Counters {
    to_server: Counter,
    to_clients: Counter,
}

impl Counters {
    fn traffic(&self) -> Traffic {
        Traffic { to_server: self.to_server.flow(), to_clients: self.to_clients.flow() }
    }
}
