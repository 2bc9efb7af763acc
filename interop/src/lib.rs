//! btlightning against the published package, 0.2.15, in both directions.
//!
//! The published package is the referee: what a test expects of ours, it has first been seen to do. The tests:
//!
//! | test | proves |
//! |---|---|
//! | `their_client_our_server` | the scenarios, with their client and our server |
//! | `our_client_their_server` | the same scenarios, with our client and their server |
//! | `referee` | the same scenarios between two published peers: the scenarios expect what the package does |
//! | `same_answers` | both servers answer the same bytes with the same bytes |
//! | `same_requests` | both clients send the same bytes, and take and refuse the same answers |
//! | `close_reasons` | the words with which connections are closed |
//! | `typed_values` | typed values are the same on the wire, and arrive in the other's types |
//! | `wire_bytes` | every message, and random values in them, byte for byte |
//! | `published_api` | one program that uses the whole published API compiles against both and runs |
//!
//! Where ours differs on purpose, a test says so, says why, and asserts the difference.
//!
//! Here is what they stand on: keys with names, waits with bounds, a client and a server of bare QUIC that see what the
//! packages do not show, and a UDP relay.

mod bare;
mod keys;
mod make;
pub mod on_ours;
pub mod on_theirs;
mod peers;
mod random;
mod relay;
mod values;
mod waiting;

pub use self::bare::{BareMiner, BareValidator, Close, Handshake, Link, frame};
pub use self::keys::{Keys, keys};
pub use self::make::{Class, Classified, Make};
pub use self::peers::{Answer, Failure, Miner, OurMiner, TheirMiner, Told, Validator};
pub use self::random::Random;
pub use self::relay::Relay;
pub use self::values::{Data, data, map, not_utf8};
pub use self::waiting::{eventually, within};
