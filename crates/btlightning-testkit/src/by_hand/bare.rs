//! A QUIC client without QUIC: it comes through TLS, and from then on says what it is told to, packet by packet. It
//! acknowledges nothing by itself, keeps to no limit, and repeats nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use btlightning_proto::identity::CertFingerprint;
use rustls::quic::{ClientConnection, DirectionalKeys, KeyChange, Keys, Secrets, Version};

use super::packet::{
    FIRST_DATAGRAM_BYTES, Long, LongKind, crypto_frame, initial_keys, retry, short_in_phase, varint,
};
use super::{Failure, tls};

/// What is said in answer to a challenge.
const PATH_RESPONSE_BYTES: usize = 8;

/// What follows a new connection ID: the token of a stateless reset.
const RESET_TOKEN_BYTES: usize = 16;

/// How far a connection has come; what is said at one stage is encrypted with that stage's keys.
const INITIAL: usize = 0;
const HANDSHAKE: usize = 1;
const READY: usize = 2;

/// One such client's one connection. It does no I/O: its owner sends and receives.
pub struct Bare {
    tls: ClientConnection,
    /// The server's connection ID; at first one that is made up.
    destination: Vec<u8>,
    token: Vec<u8>,
    hello: Vec<u8>,
    keys: [Option<Keys>; 3],
    /// What the keys come from that follow those of the last stage, when the server updates them.
    later: Option<Secrets>,
    /// Whether it was updated an odd number of times.
    phase: bool,
    numbers: [u32; 3],
    received: [Received; 3],
    /// The numbers of packets that came since TLS was done, and were not acknowledged.
    unacknowledged: Vec<u64>,
    /// The number that is likely to come next.
    next: u64,
    is_answered: bool,
    is_closed: bool,
    identifiers: u64,
    responses: usize,
}

/// What has come of a TLS handshake at one stage.
#[derive(Default)]
struct Received {
    until: u64,
    apart: BTreeMap<u64, Vec<u8>>,
}

impl Bare {
    /// A connection to the server that will take the made-up `destination`, of 8 to 20 bytes, for its own.
    ///
    /// # Errors
    /// None with this provider.
    pub fn new(destination: &[u8]) -> Result<Self, Failure> {
        let config = Arc::new(tls::client(tls::ALPN)?);
        let name = "127.0.0.1".try_into()?;
        let mut tls = ClientConnection::new(config, Version::V1, name, parameters())?;
        let mut hello = Vec::new();
        tls.write_hs(&mut hello);
        Ok(Self {
            tls,
            destination: destination.to_vec(),
            token: Vec::new(),
            hello,
            keys: [Some(initial_keys(destination)?), None, None],
            later: None,
            phase: false,
            numbers: [0; 3],
            received: Default::default(),
            unacknowledged: Vec::new(),
            next: 0,
            is_answered: false,
            is_closed: false,
            identifiers: 1,
            responses: 0,
        })
    }

    /// The first datagram, with the whole ClientHello.
    ///
    /// # Errors
    /// None.
    pub fn hello(&mut self) -> Result<Vec<u8>, Failure> {
        let frames = crypto_frame(0, &self.hello.clone());
        self.seal(INITIAL, &frames, FIRST_DATAGRAM_BYTES)
    }

    /// Takes a datagram, and says what is to be sent for it.
    ///
    /// # Errors
    /// When it is not what a server says, or TLS fails.
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        if let Some((source, token)) = retry(datagram) {
            if !self.token.is_empty() {
                // A second one, for a first packet that was sent twice.
                return Ok(Vec::new());
            }
            (self.destination, self.token) = (source.to_vec(), token.to_vec());
            self.keys[INITIAL] = Some(initial_keys(source)?);
            return Ok(vec![self.hello()?]);
        }
        if self.is_closed {
            return Ok(Vec::new());
        }
        let mut rest = datagram.to_vec();
        let mut answers = Vec::new();
        while !rest.is_empty() {
            let next = self.packet(&mut rest)?;
            rest.drain(..next);
            // It may bring the keys of the next packet.
            self.answer(&mut answers)?;
        }
        Ok(answers)
    }

    /// Whether TLS is done.
    pub fn is_ready(&self) -> bool {
        self.keys[READY].is_some()
    }

    /// Whether the server has closed the connection, or forgotten it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Of the certificate that the server has shown; `None` before it has.
    pub fn fingerprint(&self) -> Option<CertFingerprint> {
        self.tls.peer_certificates()?.first().map(|shown| CertFingerprint::of_certificate(shown))
    }

    /// What acknowledges all packets that have come since TLS was done.
    pub fn acknowledgements(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        for number in self.unacknowledged.drain(..) {
            frames.push(2);
            varint(number, &mut frames);
            frames.extend([0; 3]);
        }
        frames
    }

    /// How many connection IDs the server has given itself, as far as it has said so.
    pub fn identifiers(&self) -> u64 {
        self.identifiers
    }

    /// How many challenges of a path the server has answered.
    pub fn responses(&self) -> usize {
        self.responses
    }

    /// A datagram of 1,200 bytes with one packet of `frames`, between the server's certificate and the end of TLS.
    ///
    /// # Errors
    /// Before that, or when it is too long.
    pub fn say_handshake(&mut self, frames: &[u8]) -> Result<Vec<u8>, Failure> {
        self.seal(HANDSHAKE, frames, FIRST_DATAGRAM_BYTES)
    }

    /// A datagram with one packet of `frames`, once TLS [is done](Self::is_ready).
    ///
    /// # Errors
    /// Before that, or when it is too long.
    pub fn say(&mut self, frames: &[u8]) -> Result<Vec<u8>, Failure> {
        self.seal(READY, frames, 0)
    }

    fn seal(&mut self, stage: usize, frames: &[u8], bytes: usize) -> Result<Vec<u8>, Failure> {
        let keys = self.keys[stage].as_ref().ok_or("there are no such keys yet")?;
        let number = self.numbers[stage];
        self.numbers[stage] += 1;
        let kind = match stage {
            INITIAL => LongKind::Initial { token: &self.token },
            HANDSHAKE => LongKind::Handshake,
            _ => return short_in_phase(&self.destination, number, frames, self.phase, &keys.local),
        };
        let packet = Long { kind, destination: &self.destination, source: &[], number, reserved: 0 };
        packet.seal(frames, bytes, &keys.local)
    }

    /// Reads the first packet of `bytes`, and says where the next one begins.
    fn packet(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        let mut at = Reader(bytes, 0);
        let first = at.byte()?;
        if first & 0x80 == 0 {
            self.short(bytes)?;
            return Ok(bytes.len());
        }
        at.skip(4)?;
        let length = usize::from(at.byte()?);
        at.skip(length)?;
        let length = usize::from(at.byte()?);
        let source = at.take(length)?.to_vec();
        let stage = match first >> 4 & 3 {
            0 => INITIAL,
            2 => HANDSHAKE,
            other => return Err(format!("a server's packet of kind {other}").into()),
        };
        if stage == INITIAL {
            let length = at.varint()?;
            at.skip(usize::try_from(length)?)?;
        }
        let length = usize::try_from(at.varint()?)?;
        let number_at = at.1;
        let end = number_at + length;
        let Some(keys) = &self.keys[stage] else { return Ok(end) };
        let (_, frames) = open(bytes, number_at, end, 0, &keys.remote)?;
        if !std::mem::replace(&mut self.is_answered, true) {
            self.destination = source;
        }
        self.frames(stage, &frames)?;
        Ok(end)
    }

    /// Reads a packet with a short header.
    fn short(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (Some(keys), Some(later)) = (&mut self.keys[READY], &mut self.later) else { return Ok(()) };
        let end = bytes.len();
        let mut opened = open(&mut bytes.to_vec(), 1, end, self.next, &keys.remote);
        if opened.is_err() {
            let updated = later.next_packet_keys();
            (keys.local.packet, keys.remote.packet) = (updated.local, updated.remote);
            self.phase = !self.phase;
            opened = open(&mut bytes.to_vec(), 1, end, self.next, &keys.remote);
        }
        let Ok((number, frames)) = opened else {
            // A stateless reset, which looks like a packet: the server has forgotten the connection.
            self.is_closed = true;
            return Ok(());
        };
        self.note(&frames)?;
        self.unacknowledged.push(number);
        self.next = self.next.max(number + 1);
        Ok(())
    }

    /// Takes note of what a server says after TLS, as far as it matters here: new connection IDs, and the close.
    fn note(&mut self, frames: &[u8]) -> Result<(), Failure> {
        let mut at = Reader(frames, 0);
        while at.1 < frames.len() {
            match at.byte()? {
                // Padding, a ping, and that the handshake is done.
                0 | 1 | 0x1e => {}
                kind @ (2 | 3) => at.acknowledgement(kind)?,
                0x1c | 0x1d => {
                    self.is_closed = true;
                    return Ok(());
                }
                6 => {
                    at.varint()?;
                    at.counted()?;
                }
                7 => at.counted()?,
                // Limits: of a connection, of streams, of one stream.
                0x10 | 0x12 | 0x13 => drop(at.varint()?),
                0x11 => {
                    at.varint()?;
                    at.varint()?;
                }
                0x1b => {
                    at.skip(PATH_RESPONSE_BYTES)?;
                    self.responses += 1;
                }
                0x18 => {
                    self.identifiers = self.identifiers.max(at.varint()? + 1);
                    at.varint()?;
                    let length = usize::from(at.byte()?);
                    at.skip(length + RESET_TOKEN_BYTES)?;
                }
                // Streams, and what is about them: nothing follows them that matters.
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn frames(&mut self, stage: usize, frames: &[u8]) -> Result<(), Failure> {
        let mut at = Reader(frames, 0);
        while at.1 < frames.len() {
            match at.byte()? {
                0 | 1 => {}
                kind @ (2 | 3) => at.acknowledgement(kind)?,
                6 => {
                    let offset = at.varint()?;
                    let length = usize::try_from(at.varint()?)?;
                    self.received[stage].apart.insert(offset, at.take(length)?.to_vec());
                }
                0x1c | 0x1d => {
                    self.is_closed = true;
                    return Ok(());
                }
                other => return Err(format!("a frame of kind {other} in a handshake").into()),
            }
        }
        let received = &mut self.received[stage];
        while let Some(next) = received.apart.remove(&received.until) {
            received.until += next.len() as u64;
            self.tls.read_hs(&next)?;
        }
        Ok(())
    }

    /// What TLS has to say.
    fn answer(&mut self, datagrams: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
        loop {
            let stage = if self.keys[HANDSHAKE].is_some() { HANDSHAKE } else { INITIAL };
            let mut said = Vec::new();
            let change = self.tls.write_hs(&mut said);
            if said.is_empty() && change.is_none() {
                return Ok(());
            }
            if !said.is_empty() {
                datagrams.push(self.seal(stage, &crypto_frame(0, &said), 0)?);
            }
            match change {
                Some(KeyChange::Handshake { keys }) => self.keys[HANDSHAKE] = Some(keys),
                Some(KeyChange::OneRtt { keys, next }) => {
                    (self.keys[READY], self.later) = (Some(keys), Some(next));
                }
                None => {}
            }
        }
    }
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// What the client says of itself (RFC 9000, section 18): that its connection ID is empty, that it acknowledges late,
/// and that it takes what it is sent, eight connection IDs of the server's among it.
fn parameters() -> Vec<u8> {
    let mut parameters = vec![0x0f, 0];
    for (id, value) in [(0x04, 1 << 20), (0x05, 1 << 16), (0x0b, 16_383), (0x0e, 8)] {
        let mut number = Vec::new();
        varint(value, &mut number);
        parameters.push(id);
        varint(number.len() as u64, &mut parameters);
        parameters.extend(number);
    }
    parameters
}

/// Decrypts the packet that ends at `end` and has its number at `number_at`, one about `next`. Says the number, and what
/// is in the packet.
fn open(
    bytes: &mut [u8],
    number_at: usize,
    end: usize,
    next: u64,
    keys: &DirectionalKeys,
) -> Result<(u64, Vec<u8>), Failure> {
    let packet = bytes.get_mut(..end).ok_or("a packet that is cut off")?;
    let (header, rest) = packet.split_at_mut_checked(number_at + 4).ok_or("a packet without a number")?;
    let sample = rest.get(..keys.header.sample_len()).ok_or("too short to be a packet")?;
    let (first, others) = header.split_at_mut(1);
    keys.header.decrypt_in_place(sample, &mut first[0], &mut others[number_at - 1..])?;
    let number_bytes = usize::from(packet[0] & 3) + 1;
    let (header, payload) = packet.split_at_mut(number_at + number_bytes);
    let number = header[number_at..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    // What is cut off of it is as in the nearest to the one that is expected (RFC 9000, appendix A.3).
    let window = 1 << (8 * number_bytes);
    let before = (next & !(window - 1)) | number;
    let number = match before {
        _ if before + window / 2 <= next => before + window,
        _ if before > next + window / 2 && before >= window => before - window,
        _ => before,
    };
    Ok((number, keys.packet.decrypt_in_place(number, header, payload)?.to_vec()))
}

struct Reader<'a>(&'a [u8], usize);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Failure> {
        let end = self.1.checked_add(count).ok_or("a length that is none")?;
        let taken = self.0.get(self.1..end).ok_or("a packet that is cut off")?;
        self.1 = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Failure> {
        self.take(count).map(drop)
    }

    /// Skips bytes that their number precedes.
    fn counted(&mut self) -> Result<(), Failure> {
        let count = usize::try_from(self.varint()?)?;
        self.skip(count)
    }

    fn byte(&mut self) -> Result<u8, Failure> {
        Ok(self.take(1)?[0])
    }

    /// Skips the rest of an ACK frame.
    fn acknowledgement(&mut self, kind: u8) -> Result<(), Failure> {
        self.varint()?;
        self.varint()?;
        let ranges = self.varint()?;
        for _ in 0..1 + 2 * ranges + if kind == 3 { 3 } else { 0 } {
            self.varint()?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Failure> {
        let first = self.byte()?;
        let rest = self.take((1 << (first >> 6)) - 1)?;
        Ok(rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
    }
}
