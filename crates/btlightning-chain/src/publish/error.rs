//! [`PublishError`]: why something was not published.

use std::time::Duration;

use btlightning_proto::error::LightningError;
use btlightning_proto::identity::Hotkey;

use super::AxonError;
use crate::error::ChainError;

/// Why something was not published. Texts are short and printable, whatever the node wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The chain would refuse the axon. Nothing was signed.
    #[error(transparent)]
    Axon(#[from] AxonError),
    /// The hotkey is not registered on the subnet. Nothing was signed.
    #[error("{hotkey} is not registered on subnet {netuid}")]
    NotRegistered {
        /// The subnet.
        netuid: u16,
        /// The hotkey.
        hotkey: Hotkey,
    },
    /// The hotkey has published too recently. Nothing was signed.
    #[error("published too recently: possible in {blocks_left} blocks, about {about:?}")]
    RateLimited {
        /// How many more blocks have to pass.
        blocks_left: u64,
        /// How long that takes, by the chain's own block time.
        about: Duration,
    },
    /// The signer made no signature, or not the hotkey's of what it was given.
    #[error("not signed: {reason}")]
    Signer {
        /// In the words of the signer.
        reason: String,
    },
    /// The signer took too long.
    #[error("not signed within {after:?}")]
    SignerTimedOut {
        /// The time it had.
        after: Duration,
    },
    /// The node did not take the extrinsic: the hotkey has another one under way, or the runtime forbids it.
    #[error("the node refused the extrinsic: {reason}")]
    Rejected {
        /// In the words of the node, with the runtime's name of its error where that is known.
        reason: String,
    },
    /// The extrinsic is in a block, and the chain refused to do what it says.
    #[error("the chain refused: {error}")]
    Failed {
        /// The chain's name for it, such as `SubtensorModule::ServingRateLimitExceeded`.
        error: String,
    },
    /// An extrinsic of the hotkey with the same nonce is in a block, and it did not do what was wanted: another one of the
    /// hotkey's, or this one, and the chain refused it where nobody looked.
    #[error("another extrinsic of the hotkey came first, or the chain refused this one")]
    Overtaken,
    /// The extrinsic was not seen in a block in time. It may still come into one of the next [`MORTALITY`] blocks.
    ///
    /// [`MORTALITY`]: super::MORTALITY
    #[error("not in a block within {after:?}{}", .last.as_ref().map(|last| format!("; {last}")).unwrap_or_default())]
    NotIncluded {
        /// The time it had.
        after: Duration,
        /// What the nodes did last, if it was their fault.
        last: Option<ChainError>,
    },
    /// The chain could not be asked, before anything was submitted.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl From<PublishError> for LightningError {
    fn from(error: PublishError) -> Self {
        let text = error.to_string();
        match error {
            PublishError::Axon(_) | PublishError::NotRegistered { .. } => Self::Config(text),
            PublishError::Signer { .. } | PublishError::SignerTimedOut { .. } => Self::Signing(text),
            PublishError::Chain(error) => error.into(),
            PublishError::RateLimited { .. }
            | PublishError::Rejected { .. }
            | PublishError::Failed { .. }
            | PublishError::Overtaken
            | PublishError::NotIncluded { .. } => Self::Transport(text),
        }
    }
}
