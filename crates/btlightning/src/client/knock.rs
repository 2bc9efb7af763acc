//! Knocking: QUIC attempts at one address until one is answered.
//!
//! A single attempt doubles the pause before it repeats its first packet each time (RFC 9002, section 6.2), so a miner
//! that comes back after five seconds would not hear from it before the tenth. So an attempt that is not answered is
//! joined by a fresh one now and then. The older ones go on for a while, for the path may just be long; the first that
//! succeeds is the connection, and the others are dropped.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use quinn::{Connecting, Connection, ConnectionError};
use tokio::time::{Instant, sleep_until};

use super::dial_error::DialError;

/// How long the youngest attempt may stay unanswered before another joins it. A handshake with address validation takes
/// two round trips, so only paths of more than 1.5 s ever see two.
const KNOCK_EVERY: Duration = Duration::from_secs(3);

/// How many attempts go on at once. When one more is due, the oldest, which was not answered for nine seconds, gives way.
const ATTEMPTS_MAX: usize = 3;

/// Why nobody opened.
pub(crate) enum NotOpened {
    /// No attempt could be made.
    Dial(DialError),
    /// An attempt was answered, and failed.
    Connection(ConnectionError),
}

/// Makes attempts with `connect` until one is answered. Waits without a limit; dropping the future drops the attempts.
pub(crate) async fn knock(
    connect: impl Fn() -> Result<Connecting, DialError>,
) -> Result<Connection, NotOpened> {
    let mut attempts = vec![connect().map_err(NotOpened::Dial)?];
    let mut next = Instant::now() + KNOCK_EVERY;
    loop {
        tokio::select! {
            biased;
            answered = first(&mut attempts) => return answered.map_err(NotOpened::Connection),
            () = sleep_until(next) => {
                if attempts.len() >= ATTEMPTS_MAX {
                    attempts.remove(0);
                }
                attempts.push(connect().map_err(NotOpened::Dial)?);
                next += KNOCK_EVERY;
            }
        }
    }
}

/// The first of `attempts` that is over.
async fn first(attempts: &mut [Connecting]) -> Result<Connection, ConnectionError> {
    poll_fn(|cx| {
        for attempt in attempts.iter_mut() {
            if let Poll::Ready(answered) = Pin::new(attempt).poll(cx) {
                return Poll::Ready(answered);
            }
        }
        Poll::Pending
    })
    .await
}
