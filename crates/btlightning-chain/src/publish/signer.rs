//! [`HotkeySigner`]: a hotkey, and whoever signs for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use btlightning_proto::identity::{Hotkey, sr25519};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::PublishError;
use crate::words::printable;

type Sign = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync;

/// Signs extrinsics for a hotkey (sr25519, signing context `substrate`).
#[derive(Clone)]
pub struct HotkeySigner {
    hotkey: Hotkey,
    sign: Arc<Sign>,
    /// One call at a time: a signer that hangs takes one thread, however often it is asked.
    turn: Arc<Semaphore>,
}

impl HotkeySigner {
    /// `sign` makes the 64 bytes of a signature of what it is given, or says why not. It may block: it is called on a
    /// thread for such work, one call at a time, with a deadline. What it returns is checked before it is sent anywhere.
    pub fn new(
        hotkey: Hotkey,
        sign: impl Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { hotkey, sign: Arc::new(sign), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Whom it signs for.
    pub fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    /// A signature of `payload` that is this hotkey's.
    pub(super) async fn sign(
        &self,
        payload: Vec<u8>,
        after: Duration,
    ) -> Result<[u8; sr25519::SIGNATURE_BYTES], PublishError> {
        let signer_error = |why: String| PublishError::Signer { reason: printable(why) };
        let (sign, hotkey, turn) = (self.sign.clone(), self.hotkey, self.turn.clone());
        let job = async {
            let turn = turn.acquire_owned().await;
            let signed = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let signature = sign(&payload)?;
                sr25519::verify(&hotkey, &payload, &signature).map_err(|error| error.to_string())?;
                <[u8; sr25519::SIGNATURE_BYTES]>::try_from(signature).map_err(|_| "wrong length".to_owned())
            });
            signed.await
        };
        match timeout(after, job).await {
            Ok(Ok(signed)) => signed.map_err(signer_error),
            Ok(Err(ended)) => Err(signer_error(format!("the signer failed: {ended}"))),
            Err(_) => Err(PublishError::SignerTimedOut { after }),
        }
    }
}

impl fmt::Debug for HotkeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotkeySigner").field("hotkey", &self.hotkey).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use btlightning_proto::identity::Keypair;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    fn key(n: u8) -> Keypair {
        Keypair::from_seed([n; 32])
    }

    #[tokio::test]
    async fn only_the_hotkeys_own_signature_of_the_payload_is_taken() {
        let good = HotkeySigner::new(key(1).hotkey(), |payload| Ok(key(1).sign(payload).to_vec()));
        good.sign(b"payload".to_vec(), TIME).await.unwrap();

        let elses = HotkeySigner::new(key(1).hotkey(), |payload| Ok(key(2).sign(payload).to_vec()));
        let other = HotkeySigner::new(key(1).hotkey(), |_| Ok(key(1).sign(b"other").to_vec()));
        let short = HotkeySigner::new(key(1).hotkey(), |payload| Ok(key(1).sign(payload)[..63].to_vec()));
        let locked = HotkeySigner::new(key(1).hotkey(), |_| Err("the wallet\nis locked".to_owned()));
        let panics = HotkeySigner::new(key(1).hotkey(), |_| panic!("at the disco"));
        for (signer, words) in [
            (elses, "does not match"),
            (other, "does not match"),
            (short, "63 bytes"),
            (locked, "the wallet\u{fffd}is locked"),
            (panics, "failed"),
        ] {
            let error = signer.sign(b"payload".to_vec(), TIME).await.unwrap_err();
            let PublishError::Signer { reason } = &error else { panic!("{error:?}") };
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_signer_that_hangs_is_given_up() {
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let hangs = HotkeySigner::new(key(1).hotkey(), move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = held.lock().unwrap().recv();
            Err("let go".to_owned())
        });
        let after = Duration::from_millis(10);
        let error = hangs.sign(b"payload".to_vec(), after).await.unwrap_err();
        assert_eq!(error, PublishError::SignerTimedOut { after });
        let again = hangs.clone().sign(b"payload".to_vec(), after).await.unwrap_err();
        assert_eq!(again, PublishError::SignerTimedOut { after });
        assert_eq!(begun.load(Ordering::SeqCst), 1, "it holds one thread, not two");
        drop(let_go);
    }
}
