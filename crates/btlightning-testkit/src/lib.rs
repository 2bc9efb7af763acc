//! What btlightning's tests stand on: a simulated network under quinn, keys with names, and, with the feature `chain`, an
//! in-memory Subtensor, with `by-hand`, peers that say what they should not.
//!
//! [`SimNet`] carries datagrams between [`SimSocket`]s with delay, loss, duplicates, reordering, a bandwidth, NAT
//! rebinding and partitions. It waits on tokio's timers alone, so under `#[tokio::test(start_paused = true)]` an hour of
//! simulated idling costs no real time. A QUIC endpoint on it is one line:
//!
//! ```
//! # use btlightning_testkit::{Link, SimNet};
//! # use std::time::Duration;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let net = SimNet::new(7);
//! net.set_default_link(Link { delay: Duration::from_millis(50), loss: 0.2, ..Link::default() });
//! let validator = net.endpoint("10.0.0.1:0".parse().unwrap(), None)?;
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```
//!
//! # What a seed determines
//!
//! Whether the n-th datagram from one IP address to another is lost, duplicated or held back, and by how much, depends
//! on the seed, the two addresses and n; on nothing else. It does not depend on what other hosts do, and a changed loss
//! rate leaves the draws for delay as they were.
//!
//! Whether two runs send the *same* datagrams is up to who sends them. quinn does, to the byte count and the virtual
//! millisecond, when three things hold: the clock is paused from the start, the endpoints have a seeded generator (those
//! of [`SimNet::endpoint`] do), and certificates and the signatures in the TLS handshake keep their length (those of
//! Ed25519 have one length, those of ECDSA in DER have several).
//! The bytes themselves differ in any case: TLS draws its keys from the operating system.
//!
//! # Under a paused clock
//!
//! - Time leaps to the next timer as soon as no task can run. Work on a thread that tokio does not know of does not
//!   count as running, so every deadline may pass while that thread works. `spawn_blocking` counts: time stands still
//!   until the closure returns, and for ever if it is a loop that waits for jobs. So a thread of one's own is safe if the
//!   wait for its answer is in `spawn_blocking`.
//! - tokio's timers tick in milliseconds: what is due between two ticks arrives at the later one, in its order.
//! - `std::time::Instant::now` and `SystemTime::now` do not leap. quinn takes every instant from its runtime, and is
//!   fine; the age of its address tokens and rustls' view of a certificate's validity are read off the system's clock.
//! - A network lives in the runtime it was made in, and carries nothing once that runtime is gone.

#[cfg(feature = "by-hand")]
pub mod by_hand;
#[cfg(feature = "chain")]
pub mod chain;
pub mod keys;
mod mix;
mod net;
mod quic;

pub use net::{Event, Link, SimNet, SimSocket, Stats, TAP_RECORDS_MAX, Tap, TapRecord};
