//! A signed extrinsic, from the call to a block.

use std::time::Duration;

use btlightning_proto::identity::Hotkey;
use subxt::config::DefaultExtrinsicParamsBuilder;
use subxt::error::{BackendError, ExtrinsicError, RpcError, TransactionEventsError};
use subxt::transactions::{TransactionInBlock, TransactionProgress, TransactionStatus};
use subxt::utils::{AccountId32, MultiSignature};
use subxt::{OnlineClient, PolkadotConfig, rpcs};
use tokio::time::{Instant, timeout_at};

use super::call::ServeCall;
use super::signer::HotkeySigner;
use super::standing::{Head, Standing, lost};
use super::{PublishError, Published, Wanted, fault};
use crate::chain::Chain;
use crate::error::{ChainError, NodeError};
use crate::layout;
use crate::node::within;
use crate::reading::AtBlock;
use crate::words::printable;

/// For how many blocks an extrinsic is good; a chain of 12-second blocks makes them in 13 minutes.
pub const MORTALITY: u64 = 64;

/// The node's code for an extrinsic that it knows already.
const ALREADY_IMPORTED: i32 = 1013;

/// A signed extrinsic.
#[derive(Debug)]
pub(super) struct Extrinsic {
    bytes: Vec<u8>,
    nonce: u64,
}

impl Extrinsic {
    /// Makes the extrinsic for `wanted`, good for the next [`MORTALITY`] blocks after the last finalized one.
    pub(super) async fn make(
        chain: &Chain,
        netuid: u16,
        wanted: &Wanted,
        signer: &HotkeySigner,
        signer_timeout: Duration,
    ) -> Result<Self, PublishError> {
        const DOING: &str = "for what an extrinsic is made of";
        let call_timeout = chain.config().call_timeout;
        let account = AccountId32(*signer.hotkey().as_bytes());
        let call = ServeCall::new(netuid, wanted);
        let unsignable = |err: ExtrinsicError| ChainError::from(fault(DOING, err));
        // Whatever depends on the metadata is done within, where a panic is the node's fault.
        let (mut signable, payload, nonce) = chain
            .run(|client| {
                let (account, call) = (&account, &call);
                async move {
                    let at = Head::Finalized.at(&client, call_timeout).await?;
                    let best = Head::Best.at(&client, call_timeout).await?;
                    let nonce = nonce(&best, account, call_timeout).await?;
                    if !call.is_known_to(at.metadata_ref()) {
                        return Err(not_in_runtime(&at, call.name()));
                    }
                    let params = DefaultExtrinsicParamsBuilder::<PolkadotConfig>::new()
                        .nonce(nonce)
                        .mortal_from_unchecked(MORTALITY, at.block_number(), at.block_hash())
                        .build();
                    // Version 4, which every runtime takes: what is signed begins with the call, and with nothing of the
                    // node's choosing.
                    let mut signable =
                        at.tx().create_v4_signable_offline(call, params).map_err(unsignable)?;
                    let payload = signable.signer_payload().map_err(unsignable)?;
                    // With no signature yet, to see that it can be put together with one.
                    let none = MultiSignature::Sr25519([0; 64]);
                    signable.sign_with_account_and_signature(account, &none).map_err(unsignable)?;
                    Ok((signable, payload, nonce))
                }
            })
            .await?;
        let signature = MultiSignature::Sr25519(signer.sign(payload, signer_timeout).await?);
        let signed = signable.sign_with_account_and_signature(&account, &signature).map_err(unsignable)?;
        Ok(Self { bytes: signed.into_encoded(), nonce })
    }
}

fn not_in_runtime(at: &AtBlock, what: &'static str) -> ChainError {
    ChainError::NotInRuntime { spec_version: at.spec_version(), what }
}

async fn nonce(at: &AtBlock, account: &AccountId32, call: Duration) -> Result<u64, ChainError> {
    const DOING: &str = "for the hotkey's nonce";
    let nonce = async { at.tx().account_nonce(account).await.map_err(|err| fault(DOING, err)) };
    tokio::time::timeout(call, nonce)
        .await
        .unwrap_or(Err(NodeError::TimedOut { doing: DOING, after: call }))
        .map_err(ChainError::from)
}

/// What came of a look at the chain, or of a submission.
pub(super) enum Outcome {
    /// The chain has what is wanted.
    Done(Published),
    /// It will not have it.
    Failed(PublishError),
    /// It is not known yet.
    Pending,
}

impl From<PublishError> for Outcome {
    fn from(error: PublishError) -> Self {
        Self::Failed(error)
    }
}

/// Who submits what, and when that is over.
pub(super) struct Submission<'a> {
    pub(super) netuid: u16,
    pub(super) hotkey: Hotkey,
    pub(super) wanted: &'a Wanted,
    pub(super) extrinsic: &'a Extrinsic,
    pub(super) head: Head,
    /// For one question.
    pub(super) call: Duration,
    pub(super) until: Instant,
}

impl Submission<'_> {
    /// Submits the extrinsic to a node, unless the chain has what is wanted, and follows it into a block. May be done again
    /// with this node or another: the same extrinsic is good once.
    pub(super) async fn submit(&self, client: &OnlineClient<PolkadotConfig>) -> Result<Outcome, ChainError> {
        const DOING: &str = "while submitting an extrinsic";
        let at = self.head.at(client, self.call).await?;
        match self.look(&at).await? {
            Outcome::Pending => {}
            settled => return Ok(settled),
        }
        let tx = at.tx().from_bytes(self.extrinsic.bytes.clone());
        let submitted = match tokio::time::timeout(self.call, tx.submit_and_watch()).await {
            Err(_) => return Err(NodeError::TimedOut { doing: DOING, after: self.call }.into()),
            Ok(submitted) => submitted,
        };
        match submitted {
            Ok(progress) => self.follow(client, progress).await,
            Err(error) => match refusal(&error) {
                None => Err(fault(DOING, error).into()),
                Some(refused) if refused.code == ALREADY_IMPORTED => self.wait_for_it(client).await,
                Some(refused) => self.refused(client, words(refused)).await,
            },
        }
    }

    /// Whether it is known at this block what came of it.
    async fn look(&self, at: &AtBlock) -> Result<Outcome, ChainError> {
        let standing = Standing::read(at, self.netuid, &self.hotkey, self.call).await?;
        if standing.has(self.wanted) {
            let block_number = standing.served_at().unwrap_or(standing.block_number);
            // The block that is known to have it; the one that it was served in may be gone from this node.
            return Ok(Outcome::Done(Published::Included { block_number, block_hash: standing.block_hash }));
        }
        let account = AccountId32(*self.hotkey.as_bytes());
        if nonce(at, &account, self.call).await? > self.extrinsic.nonce {
            return Ok(PublishError::Overtaken.into());
        }
        Ok(Outcome::Pending)
    }

    async fn follow(
        &self,
        client: &OnlineClient<PolkadotConfig>,
        mut progress: TransactionProgress<PolkadotConfig, AtBlockImpl>,
    ) -> Result<Outcome, ChainError> {
        const DOING: &str = "while waiting for an extrinsic's block";
        loop {
            let Ok(status) = timeout_at(self.until, progress.next()).await else {
                return Ok(Outcome::Pending);
            };
            let status = status.ok_or_else(|| lost(DOING))?.map_err(|err| fault(DOING, err))?;
            match status {
                TransactionStatus::InBestBlock(block) if self.head == Head::Best => {
                    return self.settle(&block).await;
                }
                TransactionStatus::InFinalizedBlock(block) => return self.settle(&block).await,
                TransactionStatus::Error { message }
                | TransactionStatus::Invalid { message }
                | TransactionStatus::Dropped { message } => {
                    // What the legacy methods have a code for, the newer ones say in words.
                    return match message.to_ascii_lowercase().contains("already imported") {
                        true => self.wait_for_it(client).await,
                        false => self.refused(client, named(&message)).await,
                    };
                }
                TransactionStatus::Validated
                | TransactionStatus::Broadcasted
                | TransactionStatus::NoLongerInBestBlock
                | TransactionStatus::InBestBlock(_) => {}
            }
        }
    }

    /// What came of the extrinsic in the block that it is in.
    async fn settle(
        &self,
        block: &TransactionInBlock<PolkadotConfig, AtBlockImpl>,
    ) -> Result<Outcome, ChainError> {
        let at = within(self.call, "for an extrinsic's block", block.at()).await?;
        let standing = Standing::read(&at, self.netuid, &self.hotkey, self.call).await?;
        if standing.has(self.wanted) {
            let (block_number, block_hash) = (standing.block_number, standing.block_hash);
            return Ok(Outcome::Done(Published::Included { block_number, block_hash }));
        }
        Ok(PublishError::Failed { error: self.reason(&at, block).await? }.into())
    }

    /// Why the chain refused the extrinsic, in its own words. Events are looked at only here, for they are of all kinds, and
    /// what they are made of is for the node to say.
    async fn reason(
        &self,
        at: &AtBlock,
        block: &TransactionInBlock<PolkadotConfig, AtBlockImpl>,
    ) -> Result<String, ChainError> {
        const DOING: &str = "for an extrinsic's events";
        let events = at.metadata_ref().outer_enums().event_enum_ty();
        if layout::check(at.metadata_ref().types(), events).is_err() {
            return Ok("for a reason that cannot be read".to_owned());
        }
        match tokio::time::timeout(self.call, block.wait_for_success()).await {
            Err(_) => Err(NodeError::TimedOut { doing: DOING, after: self.call }.into()),
            Ok(Ok(_)) => Ok("it was carried out, and the chain does not have what it said".to_owned()),
            Ok(Err(TransactionEventsError::ExtrinsicFailed(error))) => Ok(printable(error.to_string())),
            Ok(Err(error)) => Err(fault(DOING, error).into()),
        }
    }

    /// A node that has the extrinsic already does not tell what becomes of it; the chain does.
    async fn wait_for_it(&self, client: &OnlineClient<PolkadotConfig>) -> Result<Outcome, ChainError> {
        const DOING: &str = "while waiting for blocks";
        let mut blocks = match self.head {
            Head::Best => within(self.call, DOING, client.stream_best_blocks()).await?,
            Head::Finalized => within(self.call, DOING, client.stream_blocks()).await?,
        };
        loop {
            let Ok(block) = timeout_at(self.until, blocks.next()).await else {
                return Ok(Outcome::Pending);
            };
            let block = block.ok_or_else(|| lost(DOING))?.map_err(|err| fault(DOING, err))?;
            let at = within(self.call, DOING, block.at()).await?;
            match self.look(&at).await? {
                Outcome::Pending => {}
                settled => return Ok(settled),
            }
        }
    }

    /// The node does not want the extrinsic. That is fine if it came into a block by another way.
    async fn refused(
        &self,
        client: &OnlineClient<PolkadotConfig>,
        reason: String,
    ) -> Result<Outcome, ChainError> {
        let at = self.head.at(client, self.call).await?;
        match self.look(&at).await? {
            Outcome::Pending => Ok(PublishError::Rejected { reason }.into()),
            settled => Ok(settled),
        }
    }
}

type AtBlockImpl = subxt::client::OnlineClientAtBlockImpl<PolkadotConfig>;

/// What the node itself said no with.
fn refusal(error: &ExtrinsicError) -> Option<&rpcs::UserError> {
    match error {
        ExtrinsicError::ErrorSubmittingTransaction(BackendError::Rpc(RpcError::ClientError(
            rpcs::Error::User(refused),
        ))) => Some(refused),
        _ => None,
    }
}

fn words(refused: &rpcs::UserError) -> String {
    let detail = refused.data.as_ref().map(|data| format!(": {}", data.get())).unwrap_or_default();
    named(&format!("{}{detail}", refused.message))
}

/// `reason`, with the runtime's name for its custom errors.
fn named(reason: &str) -> String {
    let number = reason
        .split_once("Custom error: ")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let name = match number.as_deref() {
        Some("10") => " (the hotkey is not registered)",
        Some("11") => " (invalid IP address)",
        Some("12") => " (published too recently)",
        Some("13") => " (invalid port)",
        _ => "",
    };
    printable(format!("{reason}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_errors_are_named() {
        assert_eq!(named("Custom error: 12"), "Custom error: 12 (published too recently)");
        assert_eq!(named("Invalid: \"Custom error: 1\""), "Invalid: \"Custom error: 1\"");
        assert_eq!(named("\n"), "");
    }
}
