//! A man in the middle.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::{Connection, Endpoint};
use tokio::task::JoinHandle;

use super::Failure;
use super::tls::Shown;

/// What is passed on at most of one stream.
const PASSED_BYTES_MAX: usize = 1 << 20;

/// Answers QUIC with a certificate and a key of its choosing, and passes every stream's bytes on to a real miner and back,
/// word for word, so that every sr25519 signature in them is right.
#[derive(Debug)]
pub struct Impostor {
    /// Where it listens, on loopback.
    pub addr: SocketAddr,
    passed: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Impostor {
    /// Shows `shown`, and passes streams on over `onward`.
    ///
    /// # Errors
    /// When there is no port, or the key is none.
    pub fn start(shown: Shown, onward: Connection) -> Result<Self, Failure> {
        let endpoint = Endpoint::server(shown.server_config()?, (Ipv4Addr::LOCALHOST, 0).into())?;
        let addr = endpoint.local_addr()?;
        let passed = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn({
            let passed = passed.clone();
            async move {
                while let Some(incoming) = endpoint.accept().await {
                    let Ok(connection) = incoming.await else { continue };
                    let _ = pass_on(&connection, &onward, &passed).await;
                }
            }
        });
        Ok(Self { addr, passed, serving })
    }

    /// How many streams were passed on.
    pub fn passed_on(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Passes one stream on, in both directions.
async fn pass_on(from: &Connection, to: &Connection, passed: &AtomicUsize) -> Result<(), Failure> {
    let (mut back, mut asked) = from.accept_bi().await?;
    let request = asked.read_to_end(PASSED_BYTES_MAX).await?;
    passed.fetch_add(1, Ordering::SeqCst);
    let (mut ask, mut answered) = to.open_bi().await?;
    ask.write_all(&request).await?;
    ask.finish()?;
    back.write_all(&answered.read_to_end(PASSED_BYTES_MAX).await?).await?;
    back.finish()?;
    back.stopped().await?;
    Ok(())
}
