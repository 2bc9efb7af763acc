//! Both servers are told the same bytes and answer with the same bytes; where ours does not, it is written down here.
//!
//! A bare QUIC client speaks, so that the servers are also told what no package says.

mod handshakes;
mod requests;
mod servers;
mod strangers;
mod streams;
mod tls;
