//! Who is who: hotkeys, signatures, the handshake, the replay window and the handshake limiter.
