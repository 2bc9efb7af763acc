//! An honest validator, and how long it waits for its answers while others attack.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use btlightning::{LightningClient, LightningClientConfig, QuicAxonInfo, QuicRequest, Sr25519Signer};
use btlightning_testkit::keys;
use rmpv::Value;

use crate::verdict::Failure;
use crate::victim::Victim;

/// The name that its key is made from.
pub(crate) const NAME: &str = "honest";

/// A validator that uses the library as anybody does.
pub(crate) struct Honest {
    client: LightningClient,
    miner: QuicAxonInfo,
}

/// Some of a series of times, in order.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Honest {
    /// Connects, and has authenticated.
    pub(crate) async fn connect(victim: &Victim) -> Result<Self, Failure> {
        let signer = Sr25519Signer::from_seed(keys::seed(NAME));
        let config = LightningClientConfig::default();
        let mut client = LightningClient::with_config(signer.hotkey().to_string(), config)?;
        client.set_signer(Box::new(signer));
        let addr = victim.addr;
        let miner = QuicAxonInfo::new(victim.hotkey.clone(), addr.ip().to_string(), addr.port(), 4);
        client.initialize_connections(vec![miner.clone()]).await?;
        Ok(Self { client, miner })
    }

    /// One answer to 1 KB.
    pub(crate) async fn ask(&self) -> Result<Duration, Failure> {
        let data = [("data".to_owned(), Value::Binary(vec![7; 1024]))].into();
        let began = Instant::now();
        let answer =
            self.client.query_axon(self.miner.clone(), QuicRequest::new("echo".into(), data)).await?;
        let took = began.elapsed();
        match answer.success {
            true => Ok(took),
            false => Err(format!("the honest validator was told {:?}", answer.error).into()),
        }
    }
}

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of them stays within. Zero of none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
        let at = (last as f64 * share).round() as usize;
        self.0.get(at).copied().unwrap_or_default()
    }
}

impl Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |share| self.quantile(share).as_secs_f64() * 1e3;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms", millis(0.5), millis(0.99))
    }
}
