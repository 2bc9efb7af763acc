//! Strangers whose packets are made by hand, to be as dear to keep as can be: they acknowledge nothing, keep to no limit,
//! and count what they send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use btlightning_testkit::by_hand::Bare;
use btlightning_testkit::by_hand::packet::{crypto_frame, retry, stream_frame, varint};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{PATIENCE, address};
use crate::verdict::Failure;

/// What a stranger may send, as ARCHITECTURE.md has it; of bytes, before TLS is done.
const TLS_BYTES_MAX: usize = 16 * 1024;
const PACKETS_MAX: usize = 72;
const PIECES_MAX: usize = 48;
const RETIRED_MAX: u64 = 4;

/// After so long the first packet is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How far below that a stranger stays that wants to be kept.
const APART: usize = 2;

/// The largest packet that the server takes is a little longer.
const LARGEST: usize = 6400;

/// What a packet needs besides its frames, at most.
const OVERHEAD: usize = 32;

/// How many connection IDs a server issues at once.
const IDENTIFIERS: u64 = 8;

/// How long a new connection ID is waited for: a server says no more when too much is not acknowledged.
const ISSUED_WITHIN: Duration = Duration::from_millis(20);

/// What a stranger sends once TLS is done, and how much of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greed {
    /// In bytes, each of them.
    pub(super) packet_bytes: usize,
    pub(super) packets: usize,
    /// Single bytes of streams and of TLS, with gaps between them; each packet has some.
    pub(super) pieces: usize,
    /// Connection IDs that are given up, for each of which the server makes a new one.
    pub(super) retired: u64,
}

impl Greed {
    const NONE: Self = Self { packet_bytes: 0, packets: 0, pieces: 0, retired: 0 };

    /// As many pieces as there may be, in as many bytes as there may be.
    pub(super) const FRAGMENTS: Self = Self { packet_bytes: 325, packets: 33, pieces: 66, ..Self::NONE };

    /// The same, and as much of all else.
    pub(super) const EVERYTHING: Self = Self { retired: RETIRED_MAX, ..Self::FRAGMENTS };

    /// More than is allowed of one thing, and of nothing else.
    pub(super) const MANY_PIECES: Self = Self { packet_bytes: 1000, packets: 8, pieces: 800, ..Self::NONE };
    pub(super) const MANY_BYTES_WITH_PIECES: Self =
        Self { packet_bytes: 1200, packets: 16, pieces: 16, ..Self::NONE };
    pub(super) const MANY_BYTES: Self = Self { packet_bytes: LARGEST, packets: 10, ..Self::NONE };
    pub(super) const MANY_PACKETS: Self = Self { packets: 200, ..Self::NONE };
    pub(super) const MANY_IDENTIFIERS: Self = Self { packets: 40, retired: 200, ..Self::NONE };
}

/// One such stranger.
pub(super) struct Greedy {
    socket: UdpSocket,
    server: SocketAddr,
    bare: Bare,
    bytes: usize,
    packets: usize,
    pieces: usize,
    retired: u64,
    is_over: bool,
    /// Where the next single byte goes, of each stream and of TLS.
    next: [u64; 3],
}

impl Greedy {
    /// One at the `from`-th address that has shown that address, and knows what the server says to its ClientHello. It
    /// has not answered that.
    async fn begun(server: SocketAddr, from: usize) -> Result<(Self, Vec<Vec<u8>>), Failure> {
        let socket = UdpSocket::bind(SocketAddr::new(address(from), 0)).await?;
        // Different ones, for the same address may come again.
        let bare = Bare::new(&socket.local_addr()?.port().to_be_bytes().repeat(4))?;
        let mut greedy = Self {
            socket,
            server,
            bare,
            bytes: 0,
            packets: 0,
            pieces: 0,
            retired: 0,
            is_over: false,
            next: [2, 2, 2],
        };
        let began = Instant::now();
        loop {
            let hello = greedy.bare.hello()?;
            greedy.pieces += 1;
            greedy.send(&hello).await?;
            while let Ok(datagram) = timeout(AGAIN_AFTER, greedy.datagram()).await {
                let datagram = datagram?;
                let is_retry = retry(&datagram).is_some();
                let answers = greedy.bare.receive(&datagram)?;
                if greedy.bare.is_closed() {
                    return Err("a stranger's connection is closed before TLS is done".into());
                } else if is_retry && !answers.is_empty() {
                    // From here on it counts.
                    (greedy.bytes, greedy.packets, greedy.pieces) = (0, 0, 1);
                    for answer in answers {
                        greedy.send(&answer).await?;
                    }
                } else if !answers.is_empty() {
                    return Ok((greedy, answers));
                }
            }
            if began.elapsed() > PATIENCE {
                return Err("the server says nothing to a stranger".into());
            }
        }
    }

    /// One that never ends TLS. It sends single bytes of the rest of it in packets of the least size that a first one may
    /// have, to the end of what it may send or, if `is_beyond`, until long after it; `of_each` of them.
    pub(super) async fn half(
        server: SocketAddr,
        from: usize,
        of_each: usize,
        is_beyond: bool,
    ) -> Result<Self, Failure> {
        let (mut greedy, _) = Self::begun(server, from).await?;
        let (bytes_max, pieces_max) =
            if is_beyond { (4 * TLS_BYTES_MAX, 1000) } else { (TLS_BYTES_MAX, PIECES_MAX) };
        while greedy.bytes + 1200 < bytes_max && greedy.pieces + of_each + APART < pieces_max {
            let frames: Vec<u8> = (0..of_each).flat_map(|_| greedy.piece(2)).collect();
            let datagram = greedy.bare.say_handshake(&frames)?;
            greedy.send(&datagram).await?;
        }
        Ok(greedy)
    }

    /// One that has come through TLS.
    async fn connected(server: SocketAddr, from: usize) -> Result<Self, Failure> {
        let (mut greedy, answers) = Self::begun(server, from).await?;
        for answer in answers {
            greedy.pieces += 1;
            greedy.send(&answer).await?;
        }
        // Connection IDs come when the server's side of TLS is done, too.
        while greedy.bare.identifiers() == 1 {
            let datagram = greedy.datagram().await?;
            greedy.bare.receive(&datagram)?;
        }
        Ok(greedy)
    }

    /// One that sends what `greed` says, and whatever else it may if that `is_within` what it may.
    pub(super) async fn sated(
        server: SocketAddr,
        from: usize,
        greed: Greed,
        is_within: bool,
    ) -> Result<Self, Failure> {
        let mut greedy = Self::connected(server, from).await?;
        if is_within {
            while greedy.packets + greed.packets + APART < PACKETS_MAX {
                let frames = greedy.renewals(greed.retired).await?;
                greedy.say(frames, 0).await?;
            }
            // What comes together with pieces counts as they do.
            greedy.settle().await?;
        }
        let of_each = greed.pieces.div_ceil(greed.packets.max(1));
        let pieces_max = if is_within { PIECES_MAX - APART } else { usize::MAX };
        for packet in 0..greed.packets {
            let mut frames = greedy.renewals(greed.retired).await?;
            for piece in 0..of_each {
                if greedy.pieces < pieces_max {
                    frames.extend(greedy.piece((packet * of_each + piece) % 3));
                }
            }
            if greedy.is_over {
                break;
            }
            greedy.say(frames, greed.packet_bytes).await?;
        }
        Ok(greedy)
    }

    /// Waits until the server has seen all that was said.
    async fn settle(&mut self) -> Result<(), Failure> {
        // PATH_CHALLENGE, which is answered.
        let challenge = self.bare.say(&[0x1a, 1, 2, 3, 4, 5, 6, 7, 8])?;
        self.send(&challenge).await?;
        while self.bare.responses() == 0 && !self.is_over {
            let datagram = self.datagram().await?;
            self.is_over = self.bare.receive(&datagram).is_err() || self.bare.is_closed();
        }
        Ok(())
    }

    async fn say(&mut self, mut frames: Vec<u8>, packet_bytes: usize) -> Result<(), Failure> {
        frames.resize(frames.len().max(packet_bytes.saturating_sub(OVERHEAD)).max(4), 0);
        // A ping, which has to be acknowledged.
        frames.push(1);
        let datagram = self.bare.say(&frames)?;
        self.send(&datagram).await
    }

    /// Gives up all connection IDs that there are, until it was `retired_max`; but for the first, by which packets arrive.
    async fn renewals(&mut self, retired_max: u64) -> Result<Vec<u8>, Failure> {
        let mut frames = Vec::new();
        if self.retired >= retired_max || self.is_over {
            return Ok(frames);
        }
        while self.bare.identifiers() < self.retired + IDENTIFIERS {
            let Ok(datagram) = timeout(ISSUED_WITHIN, self.datagram()).await else { break };
            // From a server that has forgotten the connection comes a reset, which looks like noise.
            self.is_over = self.bare.receive(&datagram?).is_err() || self.bare.is_closed();
            if self.is_over {
                return Ok(frames);
            }
        }
        // No other than have been seen: it would be closed for that.
        let until = (self.bare.identifiers() - 1).min(retired_max);
        for number in self.retired + 1..=until {
            frames.push(0x19);
            varint(number, &mut frames);
        }
        self.retired = until;
        Ok(frames)
    }

    /// A byte of one of the streams, or of TLS, which those before it never follow.
    fn piece(&mut self, of: usize) -> Vec<u8> {
        self.pieces += 1;
        let at = self.next[of];
        self.next[of] += 2;
        match of {
            0 => stream_frame(0, at, &[3]),
            1 => stream_frame(4, at, &[3]),
            _ => crypto_frame(at, &[3]),
        }
    }

    async fn send(&mut self, datagram: &[u8]) -> Result<(), Failure> {
        self.bytes += datagram.len();
        self.packets += 1;
        self.socket.send_to(datagram, self.server).await?;
        Ok(())
    }

    async fn datagram(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; 1 << 16];
        let received = timeout(PATIENCE, self.socket.recv(&mut bytes)).await;
        let length = received.map_err(|_| "the server stops talking to a stranger")??;
        bytes.truncate(length);
        Ok(bytes)
    }
}
