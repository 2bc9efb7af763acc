//! [`Publisher`]: a miner says on the chain where it is, and which TLS key it holds.
//!
//! The chain stores what it is told and checks little of it. So everything that it would refuse is refused here first,
//! before anything is signed; nothing is submitted that the chain has already; and what was submitted counts as
//! published when a block has it, read back.

mod axon;
mod call;
mod certificate;
mod error;
mod extrinsic;
mod signer;
mod standing;

use std::time::Duration;

use btlightning_proto::identity::TlsKeyPin;
use subxt::error::{
    AccountNonceError, BackendError, BlocksError, ExtrinsicError, TransactionEventsError,
    TransactionProgressError,
};
use tokio::time::{Instant, sleep, timeout_at};

pub use self::axon::{Axon, AxonError};
pub use self::certificate::TLS_KEY_PIN_ALGORITHM;
pub(crate) use self::certificate::tls_key_pins;
pub use self::error::PublishError;
pub use self::extrinsic::MORTALITY;
use self::extrinsic::{Extrinsic, Outcome, Submission};
pub use self::signer::HotkeySigner;
use self::standing::{Head, Standing, lost};
use crate::chain::Chain;
use crate::error::{ChainError, NodeError};
use crate::neurons::Unread;
use crate::node::{self, within};

/// How long it takes until nodes that have all failed are asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long one node is followed at a time while blocks pass.
const WATCH_TIME: Duration = Duration::from_secs(60);

/// The longest that any of the timeouts may be.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Publishes for one hotkey on one subnet.
///
/// ```no_run
/// # use btlightning_chain::chain::{Chain, ChainConfig};
/// # use btlightning_chain::publish::{Axon, HotkeySigner, PublishError, Publisher};
/// # async fn announce(signer: HotkeySigner) -> Result<(), PublishError> {
/// let chain = Chain::new(ChainConfig::default())?;
/// let publisher = Publisher::new(&chain, 2, signer);
/// let published = publisher.publish(Axon::new([203, 0, 114, 7].into(), 8443)).await?;
/// println!("{published:?}");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Publisher {
    chain: Chain,
    netuid: u16,
    signer: HotkeySigner,
    head: Head,
    rate_limit_wait: Duration,
    inclusion_timeout: Duration,
    signer_timeout: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The chain had it already; nothing was submitted.
    Unchanged,
    /// The chain has it now.
    Included {
        /// The block since which it has it.
        block_number: u64,
        /// A block that was read and has it: that one, or a later one.
        block_hash: [u8; 32],
    },
}

/// What the chain shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    axon: Axon,
    /// `None` leaves the certificate as it is, `Some(None)` clears a pin.
    key: Option<Option<TlsKeyPin>>,
}

impl Publisher {
    /// Publishes for the signer's hotkey on the subnet `netuid`.
    pub fn new(chain: &Chain, netuid: u16, signer: HotkeySigner) -> Self {
        Self {
            chain: chain.clone(),
            netuid,
            signer,
            head: Head::Best,
            rate_limit_wait: Duration::ZERO,
            inclusion_timeout: Duration::from_secs(60),
            signer_timeout: Duration::from_secs(30),
        }
    }

    /// How long to wait, at most a day, until the chain's rate limit allows to publish. Default: not at all, but to fail with
    /// [`PublishError::RateLimited`].
    pub fn wait_for_rate_limit(mut self, at_most: Duration) -> Self {
        self.rate_limit_wait = at_most.min(TIMEOUT_MAX);
        self
    }

    /// How long to wait, at most a day, until a block has what was submitted. Default: 60 s.
    pub fn inclusion_timeout(mut self, timeout: Duration) -> Self {
        self.inclusion_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How long the signer may take, at most a day. Default: 30 s.
    pub fn signer_timeout(mut self, timeout: Duration) -> Self {
        self.signer_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// Waits for a block that cannot be replaced any more. Default: any block of the best chain will do, which is some 20
    /// seconds sooner.
    pub fn finalized(mut self, finalized: bool) -> Self {
        self.head = if finalized { Head::Finalized } else { Head::Best };
        self
    }

    /// What the chain has: the axon, and the pin of the TLS key. Takes as long as [`Chain::run`] may.
    ///
    /// # Errors
    /// [`ChainError::NoNode`] when no node answers.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the answer.
    pub async fn published(&self) -> Result<(Option<Axon>, Option<TlsKeyPin>), ChainError> {
        let standing = self.standing().await?;
        let pin = standing.certificate.as_ref().and_then(certificate::Certificate::pin);
        Ok((standing.axon(), pin))
    }

    /// Says that the miner is at `axon`, unless the chain has that. What the chain has of the TLS key stays.
    ///
    /// Takes as long as the three waits of this publisher and the questions to the chain allow. The extrinsic costs no fee.
    /// An address that the internet cannot reach is warned of in the log.
    ///
    /// # Errors
    /// [`PublishError`]. After [`PublishError::NotIncluded`] it may be published all the same, a little later.
    ///
    /// # Cancel safety
    /// If the future is dropped, what was submitted may still come into a block. Another call then finds it there, or
    /// publishes what it is told.
    pub async fn publish(&self, axon: Axon) -> Result<Published, PublishError> {
        self.carry_out(Wanted { axon: axon.checked()?, key: None }).await
    }

    /// Says that the miner is at `axon` and holds the TLS key with this pin, in one extrinsic, unless the chain has both. The
    /// pin replaces whatever certificate the chain has.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_with_tls_key(&self, axon: Axon, pin: TlsKeyPin) -> Result<Published, PublishError> {
        self.carry_out(Wanted { axon: axon.checked()?, key: Some(Some(pin)) }).await
    }

    /// Says that the miner is at `axon` and holds no TLS key that could be pinned: a pin that the chain has is taken back in
    /// the same extrinsic. Certificates of other kinds stay.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_without_tls_key(&self, axon: Axon) -> Result<Published, PublishError> {
        let axon = axon.checked()?;
        let (_, pin) = self.published().await?;
        self.carry_out(Wanted { axon, key: pin.map(|_| None) }).await
    }

    /// Takes the axon down: validators find an address that cannot be dialled. Does nothing if there is none.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn reset(&self) -> Result<Published, PublishError> {
        match self.standing().await?.axon() {
            Some(axon) if !axon.is_reset() => self.carry_out(Wanted { axon: Axon::reset(), key: None }).await,
            _ => Ok(Published::Unchanged),
        }
    }

    /// Takes the pin back; the axon stays where it is. Does nothing if there is none, and leaves certificates of other kinds.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn clear_tls_key(&self) -> Result<Published, PublishError> {
        match self.published().await? {
            (axon, Some(_)) => {
                let axon = axon.unwrap_or_else(Axon::reset).checked()?;
                self.carry_out(Wanted { axon, key: Some(None) }).await
            }
            (_, None) => Ok(Published::Unchanged),
        }
    }

    async fn carry_out(&self, wanted: Wanted) -> Result<Published, PublishError> {
        if !wanted.axon.is_routable() && !wanted.axon.is_reset() {
            tracing::warn!(axon = %wanted.axon.ip, "the internet cannot reach the address that is published");
        }
        if self.ready(&wanted).await? == Ready::Unchanged {
            return Ok(Published::Unchanged);
        }
        let extrinsic =
            Extrinsic::make(&self.chain, self.netuid, &wanted, &self.signer, self.signer_timeout).await?;
        let published = self.submit(&wanted, &extrinsic).await?;
        let (hotkey, netuid) = (self.signer.hotkey(), self.netuid);
        tracing::info!(%hotkey, netuid, axon = ?wanted.axon, "published");
        Ok(published)
    }

    /// Whether there is anything to do. Waits for the rate limit, if it may.
    async fn ready(&self, wanted: &Wanted) -> Result<Ready, PublishError> {
        let until = Instant::now() + self.rate_limit_wait;
        loop {
            let standing = self.standing().await?;
            if standing.has(wanted) {
                return Ok(Ready::Unchanged);
            }
            if !standing.is_registered {
                let (netuid, hotkey) = (self.netuid, self.signer.hotkey());
                return Err(PublishError::NotRegistered { netuid, hotkey });
            }
            let blocks_left = standing.blocks_left();
            if blocks_left == 0 {
                return Ok(Ready::ToDo);
            }
            if Instant::now() >= until {
                let blocks = u32::try_from(blocks_left).unwrap_or(u32::MAX);
                let about = standing.block_time.saturating_mul(blocks);
                return Err(PublishError::RateLimited { blocks_left, about });
            }
            tracing::debug!(blocks_left, "published too recently; waiting");
            self.block_passes(standing.block_number.saturating_add(blocks_left), until).await?;
        }
    }

    /// Waits until the chain is at this block, or for a while.
    async fn block_passes(&self, number: u64, until: Instant) -> Result<(), ChainError> {
        const DOING: &str = "while waiting for blocks";
        let config = self.chain.config();
        let (call, node_time) = (config.call_timeout, config.operation_timeout / 2);
        self.chain
            .run(move |client| async move {
                let until = until.min(Instant::now() + WATCH_TIME.min(node_time));
                let mut blocks = within(call, DOING, client.stream_best_blocks()).await?;
                while let Ok(block) = timeout_at(until, blocks.next()).await {
                    let block = block.ok_or_else(|| lost(DOING))?.map_err(|err| fault(DOING, err))?;
                    if block.number() >= number {
                        break;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Submits until the chain has it or says no, for as long as it may take.
    async fn submit(&self, wanted: &Wanted, extrinsic: &Extrinsic) -> Result<Published, PublishError> {
        let after = self.inclusion_timeout;
        let until = Instant::now() + after;
        let mut last = None;
        while Instant::now() < until {
            let Ok(submitted) = timeout_at(until, self.submit_once(wanted, extrinsic, until)).await else {
                break;
            };
            match submitted {
                Ok(Outcome::Done(published)) => return Ok(published),
                Ok(Outcome::Failed(error)) => return Err(error),
                Ok(Outcome::Pending) => {}
                Err(error) if error.is_fault_of_node() => {
                    // It may be in a pool by now, so only time can tell that it is not published.
                    last = Some(error);
                    sleep(RETRY_INTERVAL.min(until.saturating_duration_since(Instant::now()))).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(PublishError::NotIncluded { after, last })
    }

    async fn submit_once(
        &self,
        wanted: &Wanted,
        extrinsic: &Extrinsic,
        until: Instant,
    ) -> Result<Outcome, ChainError> {
        let config = self.chain.config();
        let (call, node_time) = (config.call_timeout, config.operation_timeout / 2);
        let (netuid, hotkey, head) = (self.netuid, self.signer.hotkey(), self.head);
        self.chain
            .run(move |client| async move {
                let until = until.min(Instant::now() + WATCH_TIME.min(node_time));
                Submission { netuid, hotkey, wanted, extrinsic, head, call, until }.submit(&client).await
            })
            .await
    }

    async fn standing(&self) -> Result<Standing, ChainError> {
        let call = self.chain.config().call_timeout;
        let (netuid, hotkey) = (self.netuid, self.signer.hotkey());
        self.chain
            .run(move |client| async move {
                let at = Head::Best.at(&client, call).await?;
                Standing::read(&at, netuid, &hotkey, call).await
            })
            .await
    }
}

#[derive(PartialEq, Eq)]
enum Ready {
    ToDo,
    Unchanged,
}

/// What an error of subxt says about the node, for the parts of subxt that only publishing uses.
fn fault(doing: &'static str, err: impl Into<subxt::Error>) -> NodeError {
    use subxt::Error as E;
    let backend = |err: BackendError| node::fault(doing, err);
    match err.into() {
        E::BlocksError(BlocksError::CannotGetCurrentBlock(err)) => node::fault(doing, err),
        E::BlocksError(
            BlocksError::CannotGetBlockHeaderStream(err) | BlocksError::CannotGetBlockHeader(err),
        ) => backend(err),
        E::ExtrinsicError(
            ExtrinsicError::ErrorSubmittingTransaction(err)
            | ExtrinsicError::AccountNonceError { reason: AccountNonceError::CouldNotRetrieve(err), .. },
        ) => backend(err),
        E::TransactionProgressError(TransactionProgressError::CannotGetNextProgressUpdate(err)) => {
            backend(err)
        }
        E::TransactionEventsError(TransactionEventsError::CannotFetchBlockBody { error, .. }) => {
            backend(error)
        }
        E::TransactionEventsError(TransactionEventsError::CannotInstantiateClientAtBlock(err)) => {
            node::fault(doing, err)
        }
        other => node::fault(doing, other),
    }
}

fn garbage(doing: &'static str, unread: &Unread) -> NodeError {
    let reason = match unread {
        Unread::TooMany(count) => format!("{count} of them"),
        Unread::Malformed(reason) => reason.clone(),
    };
    NodeError::Garbage { doing, reason }
}
