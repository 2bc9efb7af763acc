//! What is on the wire: frames, messages, payloads.
