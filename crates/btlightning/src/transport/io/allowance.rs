//! What a stranger may send before it has authenticated.
//!
//! QUIC's windows bound the bytes of streams, and not what it takes to keep them: a datagram of which one byte is wanted
//! is kept whole, each piece of a stream or of a TLS message that is not next has an entry of its own, and so has each
//! packet that is sent and never acknowledged, and each connection id. All of these are bounded by what has arrived. An
//! honest client says two packets of TLS, one of its handshake, a few connection ids of its own, and what acknowledges and
//! repeats them.

use quinn::ConnectionStats;

use crate::transport::floods::about_addresses;

/// Until TLS is done. The first flight of a client is sent twice in a round of repetition, and there are five rounds in
/// ten seconds.
const TLS_BYTES_MAX: u64 = 16 * 1024;

/// In all. After TLS there are probes for larger packets, of up to 6,500 bytes in private networks.
const BYTES_MAX: u64 = 32 * 1024;

/// After TLS, in datagrams with pieces in them, and in those that came together with such. Probes have none.
const BYTES_WITH_PIECES_MAX: u64 = 12 * 1024;

const PACKETS_MAX: u64 = 72;

/// Frames with pieces of streams or of TLS in them, and connection IDs, which a client gives four of.
const PIECES_MAX: u64 = 48;

/// Connection IDs that are given up. For each there is a new one, in a packet of its own. Honest clients give up one when
/// their address changes.
const RETIRED_MAX: u64 = 4;

/// Frames about connection ids, paths and the like. Four connection ids come with the end of TLS, and again when they are
/// lost, and requests for acknowledgement with each packet that is repeated. These cost time, and no memory.
const UPKEEP_FRAMES_MAX: u64 = 256;

/// What a stranger has sent so far, as far as it is not in quinn's counts.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    bytes: u64,
    pieces: u64,
    bytes_with_pieces: u64,
}

impl Allowance {
    /// Takes note of what has arrived since the last time, and says whether it is more now than a stranger may send.
    pub(super) fn is_used_up(&mut self, stats: &ConnectionStats) -> bool {
        let (arrived, frames) = (&stats.udp_rx, &stats.frame_rx);
        let is_tls_done = stats.frame_tx.handshake_done > 0;
        let pieces = frames.crypto + frames.stream + frames.new_connection_id;
        if is_tls_done && pieces > self.pieces {
            self.bytes_with_pieces += arrived.bytes - self.bytes;
        }
        (self.bytes, self.pieces) = (arrived.bytes, pieces);
        arrived.bytes > if is_tls_done { BYTES_MAX } else { TLS_BYTES_MAX }
            || self.bytes_with_pieces > BYTES_WITH_PIECES_MAX
            || arrived.ios.max(arrived.datagrams) > PACKETS_MAX
            || pieces > PIECES_MAX
            || frames.retire_connection_id > RETIRED_MAX
            || about_addresses(frames) > UPKEEP_FRAMES_MAX
    }
}
