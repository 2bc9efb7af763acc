//! QUIC packets made by hand (RFC 9000, section 17; RFC 9001, section 5), with whatever frames one likes in them.

use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{DirectionalKeys, Keys, Version};

use super::Failure;

/// The bytes that a packet number takes here, which is the most it may.
const NUMBER_BYTES: usize = 4;

/// What authenticates a packet, in bytes, in every cipher suite of QUIC.
const TAG_BYTES: usize = 16;

/// The least that a datagram with a client's first packet has, in bytes.
pub const FIRST_DATAGRAM_BYTES: usize = 1200;

const VERSION_1: [u8; 4] = [0, 0, 0, 1];

/// The keys that anybody can work out who has seen the connection ID that the client chose for the server.
///
/// # Errors
/// None with this provider.
pub fn initial_keys(destination: &[u8]) -> Result<Keys, Failure> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
    let suite = suite.ok_or("the provider has no QUIC")?;
    Ok(suite.keys(destination, Side::Client, Version::V1))
}

/// A client's packet with a long header.
#[derive(Debug, Clone, Copy)]
pub struct Long<'a> {
    /// What kind it is.
    pub kind: LongKind<'a>,
    /// The connection ID of the server; at first one that the client makes up.
    pub destination: &'a [u8],
    /// The connection ID of the client.
    pub source: &'a [u8],
    /// Its number.
    pub number: u32,
    /// The two bits that have to be zero.
    pub reserved: u8,
}

/// The kinds of packets with a long header that a client says.
#[derive(Debug, Clone, Copy)]
pub enum LongKind<'a> {
    /// Before there are keys, with what the server gave to show that the address is real, if it did.
    Initial {
        /// Of a Retry, or of an earlier connection.
        token: &'a [u8],
    },
    /// While there are those of the handshake.
    Handshake,
}

impl Long<'_> {
    /// The packet, as it is sent, filled up with padding so that all of it takes at least `bytes`.
    ///
    /// # Errors
    /// When it is too long.
    pub fn seal(&self, frames: &[u8], bytes: usize, keys: &DirectionalKeys) -> Result<Vec<u8>, Failure> {
        let kind = match self.kind {
            LongKind::Initial { .. } => 0,
            LongKind::Handshake => 2,
        };
        let mut packet = vec![0xc0 | kind << 4 | (self.reserved & 3) << 2 | (NUMBER_BYTES as u8 - 1)];
        packet.extend(VERSION_1);
        for id in [self.destination, self.source] {
            packet.push(u8::try_from(id.len())?);
            packet.extend(id);
        }
        if let LongKind::Initial { token } = self.kind {
            varint(token.len() as u64, &mut packet);
            packet.extend(token);
        }
        let overhead = packet.len() + 2 + NUMBER_BYTES + TAG_BYTES;
        let mut frames = frames.to_vec();
        frames.resize(frames.len().max(bytes.saturating_sub(overhead)), 0);
        let rest = u16::try_from(NUMBER_BYTES + frames.len() + TAG_BYTES)?;
        packet.extend((rest | 0x4000).to_be_bytes());
        protect(packet, self.number, frames, keys)
    }
}

/// A packet with a short header.
///
/// # Errors
/// When it is too long.
pub fn short(
    destination: &[u8],
    number: u32,
    frames: &[u8],
    keys: &DirectionalKeys,
) -> Result<Vec<u8>, Failure> {
    short_in_phase(destination, number, frames, false, keys)
}

/// The same, which says whether the keys were updated an odd number of times.
///
/// # Errors
/// When it is too long.
pub fn short_in_phase(
    destination: &[u8],
    number: u32,
    frames: &[u8],
    phase: bool,
    keys: &DirectionalKeys,
) -> Result<Vec<u8>, Failure> {
    let mut packet = vec![0x40 | u8::from(phase) << 2 | (NUMBER_BYTES as u8 - 1)];
    packet.extend(destination);
    protect(packet, number, frames.to_vec(), keys)
}

/// Ends the header with the packet's number, and encrypts.
fn protect(
    mut packet: Vec<u8>,
    number: u32,
    mut frames: Vec<u8>,
    keys: &DirectionalKeys,
) -> Result<Vec<u8>, Failure> {
    let number_at = packet.len();
    packet.extend(number.to_be_bytes());
    let tag = keys.packet.encrypt_in_place(u64::from(number), &packet, &mut frames)?;
    packet.extend(frames);
    packet.extend(tag.as_ref());
    let (header, rest) = packet.split_at_mut(number_at + NUMBER_BYTES);
    let sample = rest.get(..keys.header.sample_len()).ok_or("too short to be a packet")?;
    let (first, number) = header.split_at_mut(1);
    let number_at = number_at - 1;
    keys.header.encrypt_in_place(sample, &mut first[0], &mut number[number_at..])?;
    Ok(packet)
}

/// The server's connection ID and the token in a Retry; `None` if it is none.
pub fn retry(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = datagram.split_first()?;
    if first & 0xf0 != 0xf0 {
        return None;
    }
    let (_destination, rest) = id(rest.get(4..)?)?;
    let (source, rest) = id(rest)?;
    Some((source, rest.get(..rest.len().checked_sub(TAG_BYTES)?)?))
}

fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Says that the connection is closed.
pub fn close_frame() -> Vec<u8> {
    vec![0x1c, 0, 0, 0]
}

/// Says a part of the TLS handshake.
pub fn crypto_frame(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x06];
    varint(offset, &mut frame);
    varint(bytes.len() as u64, &mut frame);
    frame.extend(bytes);
    frame
}

/// Says a part of a stream.
pub fn stream_frame(stream: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x0e];
    varint(stream, &mut frame);
    varint(offset, &mut frame);
    varint(bytes.len() as u64, &mut frame);
    frame.extend(bytes);
    frame
}

/// Says all of a stream, and that it ends there.
pub fn whole_stream_frame(stream: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream_frame(stream, 0, bytes);
    frame[0] |= 1;
    frame
}

/// Says that a connection ID of the peer's is not used any more.
pub fn retire_frame(sequence: u64) -> Vec<u8> {
    let mut frame = vec![0x19];
    varint(sequence, &mut frame);
    frame
}

/// A number as QUIC writes it (RFC 9000, section 16).
pub fn varint(value: u64, out: &mut Vec<u8>) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend((value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend((value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend((value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}
