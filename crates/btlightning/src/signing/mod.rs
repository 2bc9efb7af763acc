//! Who signs: [`Signer`] and its implementations.

#[cfg(feature = "btwallet")]
mod wallet;

use btlightning_proto::identity::{Hotkey, Keypair};

#[cfg(feature = "btwallet")]
pub use self::wallet::BtWalletSigner;
use crate::error::Result;

/// Makes sr25519 signatures with a hotkey (signing context `substrate`).
///
/// Called on threads that do nothing else, so an implementation may block for as long as a handshake may take; a server
/// makes one call at a time, a client up to eight. One that [is immediate](Self::is_immediate) is called in place.
pub trait Signer: Send + Sync {
    /// The 64 bytes of a signature of `message`.
    ///
    /// # Errors
    /// [`LightningError::Signing`](crate::LightningError::Signing) when no signature can be made; the dial or the
    /// handshake then fails with its words.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;

    /// Whether a signature takes some tens of microseconds and never waits for anything, as with a key in memory. It is
    /// then made on the thread that needs it, which moves packets, too; several may at once. To go to another thread for it
    /// would take longer. Default: no.
    fn is_immediate(&self) -> bool {
        false
    }
}

/// A [`Signer`] that holds the key in memory.
pub struct Sr25519Signer {
    keypair: Keypair,
}

impl Sr25519Signer {
    /// The key pair of a 32-byte seed (a Substrate mini secret), as `subkey` and the Bittensor wallets derive it.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { keypair: Keypair::from_seed(seed) }
    }

    /// Whom it signs for.
    pub fn hotkey(&self) -> Hotkey {
        self.keypair.hotkey()
    }
}

impl Signer for Sr25519Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.keypair.sign(message).to_vec())
    }

    fn is_immediate(&self) -> bool {
        true
    }
}

/// A [`Signer`] that calls a closure: a hardware key, a remote wallet, another language.
///
/// ```
/// use btlightning::{CallbackSigner, LightningError};
///
/// let signer = CallbackSigner::new(|message: &[u8]| {
///     ask_the_wallet(message).map_err(|error| LightningError::Signing(error.to_string()))
/// });
/// # fn ask_the_wallet(_: &[u8]) -> Result<Vec<u8>, std::fmt::Error> { Ok(vec![0; 64]) }
/// # let _: Box<dyn btlightning::Signer> = Box::new(signer);
/// ```
pub struct CallbackSigner<F: Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync> {
    callback: F,
}

impl<F: Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync> CallbackSigner<F> {
    /// Signs by calling `callback` with the message.
    pub fn new(callback: F) -> Self {
        Self { callback }
    }
}

impl<F: Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync> Signer for CallbackSigner<F> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        (self.callback)(message)
    }
}
