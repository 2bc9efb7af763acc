//! Taking a validator's request in: within its time, and within the memory that one connection may fill with requests
//! that are not answered yet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::config::LightningServerConfig;
use crate::transport::frame_io::{FrameReadError, FrameReader};
use crate::wire::FrameHeader;

/// Requests up to this size are not counted, in bytes: the connection's number of streams bounds what they take.
const SMALL_BYTES: u32 = 64 * 1024;

/// What a connection's larger requests may take together, in frames of the largest size. One could be in the way of all
/// others; with two, a request of the largest size is read while another is being served.
const LARGEST_AT_ONCE: usize = 2;

/// How memory is counted, in bytes.
const UNIT_BYTES: u32 = 4096;

/// A request has the handler's time to arrive, and more for its size: at this rate, in bytes a second.
const RATE_LEAST: u32 = 64 * 1024;

/// One connection's way in.
pub(super) struct Intake {
    large: Arc<Semaphore>,
    patience: Duration,
}

/// A request's payload, and its share of the connection's memory for as long as this is held.
pub(super) struct Taken {
    pub(super) payload: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Intake {
    pub(super) fn new(config: &LightningServerConfig) -> Self {
        let units = config.max_frame_payload_bytes.div_ceil(UNIT_BYTES as usize) * LARGEST_AT_ONCE;
        Self { large: Arc::new(Semaphore::new(units)), patience: config.handler_timeout() }
    }

    /// The payload that `header` announced. `None` when it does not arrive in time, or its stream fails.
    pub(super) async fn payload(&self, reader: &mut FrameReader, header: FrameHeader) -> Option<Taken> {
        timeout(self.time_for(header.payload_bytes), async {
            let share = self.share(header.payload_bytes).await?;
            let payload = reader.payload(header).await.ok()?;
            Some(Taken { payload, _share: share })
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

    fn time_for(&self, payload_bytes: u32) -> Duration {
        self.patience + Duration::from_secs(u64::from(payload_bytes / RATE_LEAST))
    }

    /// Waits for room for a large request; a small one needs none.
    async fn share(&self, payload_bytes: u32) -> Option<Option<OwnedSemaphorePermit>> {
        if payload_bytes <= SMALL_BYTES {
            return Some(None);
        }
        let units = payload_bytes.div_ceil(UNIT_BYTES);
        // The semaphore is never closed.
        self.large.clone().acquire_many_owned(units).await.ok().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_requests_are_free_and_large_ones_share_what_there_is() {
        let config = LightningServerConfig { max_frame_payload_bytes: 1 << 20, ..Default::default() };
        let intake = Intake::new(&config);
        assert!(intake.share(SMALL_BYTES).await.unwrap().is_none());
        let first = intake.share(1 << 20).await.unwrap();
        let _second = intake.share(1 << 20).await.unwrap();
        let mut third = std::pin::pin!(intake.share(SMALL_BYTES + 1));
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(third.as_mut().poll(cx).is_pending())).await
        );
        drop(first);
        assert!(third.await.unwrap().is_some());
    }

    #[test]
    fn a_large_request_has_more_time() {
        let intake = Intake::new(&LightningServerConfig::default());
        assert_eq!(intake.time_for(1000), Duration::from_secs(30));
        assert_eq!(intake.time_for(64 << 20), Duration::from_secs(30 + 1024));
    }
}
