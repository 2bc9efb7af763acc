//! Paths that programs written for btlightning 0.2 use, beside where things live now.

/// The wire's types under their old path.
pub mod types {
    pub use btlightning_proto::peers::{PeerAddr, QuicAxonInfo};
    pub use btlightning_proto::wire::{
        DEFAULT_MAX_FRAME_PAYLOAD, HandshakeRequest, HandshakeResponse, MessageType, QuicRequest,
        QuicResponse, StreamChunk, StreamEnd, SynapsePacket, SynapseResponse, parse_frame_header,
    };
}
