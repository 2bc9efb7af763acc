//! Taking a validator's request in: within its time, and within the memory that one connection may fill with requests
//! that are not decoded yet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::config::LightningServerConfig;
use super::pace::time_for;
use crate::transport::frame_io::{FrameReadError, FrameReader};
use crate::wire::FrameHeader;

/// Requests up to this size are not counted, in bytes, and so never wait: the connection's number of streams bounds
/// what they take.
pub(super) const SMALL_BYTES: u32 = 64 * 1024;

/// What a connection's larger requests may take together, in frames of the largest size, where that is more than
/// [`BUDGET_BYTES_LEAST`]. One could be in the way of all others; with two, a request of the largest size is read while
/// another is being served.
const LARGEST_AT_ONCE: usize = 2;

/// What a connection's larger requests may take together at the least, in bytes: a small frame limit must not make a
/// queue of requests that fit a default server many times over.
const BUDGET_BYTES_LEAST: usize = 128 * 1024 * 1024;

/// How memory is counted, in bytes.
const UNIT_BYTES: u32 = 4096;

/// What a connection's larger requests may take together, in bytes: whole units.
pub(super) fn budget_bytes(config: &LightningServerConfig) -> usize {
    let unit_bytes = UNIT_BYTES as usize;
    let largest = config.max_frame_payload_bytes.div_ceil(unit_bytes) * unit_bytes * LARGEST_AT_ONCE;
    largest.max(BUDGET_BYTES_LEAST)
}

/// One connection's way in.
pub(super) struct Intake {
    large: Arc<Semaphore>,
    patience: Duration,
}

/// A request's payload, and its share.
pub(super) struct Taken {
    pub(super) payload: Bytes,
    pub(super) share: Share,
}

/// A request's share of the memory of its connection, free again when dropped. Held together with the bytes.
#[derive(Debug)]
pub(super) struct Share {
    _units: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Of a request that is too small to count.
    pub(super) fn none() -> Self {
        Self { _units: None }
    }
}

impl Intake {
    pub(super) fn new(config: &LightningServerConfig) -> Self {
        let units = budget_bytes(config) / UNIT_BYTES as usize;
        Self { large: Arc::new(Semaphore::new(units)), patience: config.handler_timeout() }
    }

    /// The payload that `header` announced. `None` when it does not arrive in time, or its stream fails.
    ///
    /// While there is no room, what has arrived stays unread in the window of its own stream; later requests that do not
    /// fit either wait behind it.
    pub(super) async fn payload(&self, reader: &mut FrameReader, header: FrameHeader) -> Option<Taken> {
        timeout(time_for(self.patience, header.payload_bytes.into()), async {
            let share = self.share(header.payload_bytes).await?;
            let payload = reader.payload(header).await.ok()?;
            Some(Taken { payload, share })
        })
        .await
        .ok()?
    }

    /// The header of what comes first on a stream. `None` when it does not arrive in time.
    pub(super) async fn header(
        &self,
        reader: &mut FrameReader,
        payload_bytes_max: usize,
    ) -> Option<Result<Option<FrameHeader>, FrameReadError>> {
        timeout(self.patience, reader.header(payload_bytes_max)).await.ok()
    }

    /// Waits for room for a large request; a small one needs none.
    pub(super) async fn share(&self, payload_bytes: u32) -> Option<Share> {
        if payload_bytes <= SMALL_BYTES {
            return Some(Share::none());
        }
        // The semaphore is never closed.
        let units = self.large.clone().acquire_many_owned(payload_bytes.div_ceil(UNIT_BYTES)).await.ok()?;
        Some(Share { _units: Some(units) })
    }

    /// How much room there is, in bytes.
    #[cfg(test)]
    pub(super) fn free_bytes(&self) -> usize {
        self.large.available_permits() * UNIT_BYTES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(max_frame_payload_bytes: usize) -> Intake {
        Intake::new(&LightningServerConfig { max_frame_payload_bytes, ..Default::default() })
    }

    #[tokio::test]
    async fn small_requests_are_free_and_large_ones_share_what_there_is() {
        let intake = intake(128 << 20);
        let first = intake.share(128 << 20).await.unwrap();
        let _second = intake.share(128 << 20).await.unwrap();
        assert_eq!(intake.free_bytes(), 0);
        let mut third = std::pin::pin!(intake.share(SMALL_BYTES + 1));
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(third.as_mut().poll(cx).is_pending())).await
        );
        let _small = intake.share(SMALL_BYTES).await.unwrap();
        drop(first);
        let _third = third.await.unwrap();
        assert_eq!(intake.free_bytes(), (128 << 20) - 17 * 4096);
    }

    #[test]
    fn there_is_room_for_two_of_the_largest_and_for_many_that_are_not() {
        for (frame, room) in
            [(1 << 20, 128 << 20), (64 << 20, 128 << 20), ((64 << 20) + 1, (128 << 20) + 8192)]
        {
            assert_eq!(intake(frame).free_bytes(), room, "{frame}");
        }
        assert!(intake(u32::MAX as usize).free_bytes() >= 2 * u32::MAX as usize);
    }
}
