//! The validator's own process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning::{
    CallOptions, LightningClient, LightningClientConfig, QuicAxonInfo, QuicRequest, Sr25519Signer,
};
use btlightning_testkit::keys;

use tokio::task::JoinSet;

use super::{Asked, Decoded, ValidatorOrder, pipe};
use crate::process::{Usage, raise_open_files};
use crate::verdict::Failure;

/// The argument that has this program be one.
pub(crate) const ROLE: &str = "victim-validator";

/// The pause between two questions of which nobody waits for the answers.
const PESTERED_EVERY: Duration = Duration::from_millis(20);

/// Does what it is told over standard input, until that ends.
pub(crate) fn run() -> Result<(), Failure> {
    raise_open_files();
    // One thread, so that a miner that keeps it busy keeps the others waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Arc::new(runtime.block_on(client())?);
    pipe::serve(|line| {
        let began = Instant::now();
        let (times, failure) = runtime.block_on(carry_out(&client, serde_json::from_str(line)?))?;
        let (answered, elapsed, usage) = (times.len(), began.elapsed(), Usage::now()?);
        Ok(serde_json::to_string(&Asked { answered, failure, times, elapsed, usage })?)
    })
}

async fn client() -> Result<LightningClient, Failure> {
    let signer = Sr25519Signer::from_seed(keys::seed("validator"));
    let config = LightningClientConfig::default();
    let mut client = LightningClient::with_config(signer.hotkey().to_string(), config)?;
    client.set_signer(Box::new(signer));
    client.create_endpoint().await?;
    Ok(client)
}

async fn carry_out(
    client: &Arc<LightningClient>,
    order: ValidatorOrder,
) -> Result<(Vec<Duration>, Option<String>), Failure> {
    match order {
        ValidatorOrder::Report => Ok((Vec::new(), None)),
        ValidatorOrder::Follow(miners) => {
            client.follow_miners(miners.iter().map(|(hotkey, addr)| axon(hotkey, *addr)).collect())?;
            Ok((Vec::new(), None))
        }
        ValidatorOrder::Ask { hotkey, addr, count, at_once, timeout } => {
            ask(client, &axon(&hotkey, addr), count, at_once, timeout).await
        }
        ValidatorOrder::AskFor { hotkey, addr, lasting, pause } => {
            Ok(ask_for(client, &axon(&hotkey, addr), lasting, pause).await)
        }
        ValidatorOrder::Decode { hotkey, addr, count, into } => {
            Ok(decode(client, &axon(&hotkey, addr), count, into).await)
        }
        ValidatorOrder::Pester { miners, timeout } => {
            for (hotkey, addr) in miners {
                tokio::spawn(pester(client.clone(), axon(&hotkey, addr), timeout));
            }
            Ok((Vec::new(), None))
        }
    }
}

fn axon(hotkey: &str, addr: SocketAddr) -> QuicAxonInfo {
    QuicAxonInfo::new(hotkey.to_owned(), addr.ip().to_string(), addr.port(), 4)
}

/// Asks one miner so many times.
async fn ask(
    client: &Arc<LightningClient>,
    miner: &QuicAxonInfo,
    count: usize,
    at_once: usize,
    timeout: Duration,
) -> Result<(Vec<Duration>, Option<String>), Failure> {
    let mut asking = JoinSet::new();
    for share in 0..at_once {
        let (client, miner) = (client.clone(), miner.clone());
        let count = count / at_once + usize::from(share < count % at_once);
        asking.spawn(async move {
            let (mut times, mut failure) = (Vec::new(), None);
            for _ in 0..count {
                let began = Instant::now();
                let options = CallOptions::new().timeout(timeout);
                match client.call_with::<_, Empty>(&miner, "echo", &Empty {}, options).await {
                    Ok(_) => times.push(began.elapsed()),
                    Err(error) => failure = Some(error.to_string()),
                }
            }
            (times, failure)
        });
    }
    let (mut times, mut failure) = (Vec::new(), None);
    while let Some(asked) = asking.join_next().await {
        let (more, why) = asked?;
        times.extend(more);
        failure = why.or(failure);
    }
    times.sort_unstable();
    Ok((times, failure))
}

/// Asks one miner so many times, one question after another, and has a look at the answers.
async fn decode(
    client: &LightningClient,
    miner: &QuicAxonInfo,
    count: usize,
    into: Decoded,
) -> (Vec<Duration>, Option<String>) {
    let (mut times, mut failure) = (Vec::new(), None);
    for _ in 0..count {
        let began = Instant::now();
        let answer = match into {
            Decoded::Values => {
                let asked = client.query_axon(miner.clone(), QuicRequest::new("echo".into(), HashMap::new()));
                asked.await.map(|_| ()).map_err(|error| error.to_string())
            }
            Decoded::Typed => {
                let asked = client.call::<_, Names>(miner, "echo", &Empty {});
                asked.await.map(|names| drop(names.value.n)).map_err(|error| error.to_string())
            }
        };
        match answer {
            Ok(()) => times.push(began.elapsed()),
            Err(error) => failure = Some(error),
        }
    }
    (times, failure)
}

/// Asks one miner for as long as this process lives.
async fn pester(client: Arc<LightningClient>, miner: QuicAxonInfo, timeout: Duration) {
    loop {
        let options = CallOptions::new().timeout(timeout);
        let _ = client.call_with::<_, Empty>(&miner, "echo", &Empty {}, options).await;
        // sleeps: who is refused at once is asked again a little later, as a validator would
        tokio::time::sleep(PESTERED_EVERY).await;
    }
}

/// Asks one miner for so long, one question after another.
async fn ask_for(
    client: &LightningClient,
    miner: &QuicAxonInfo,
    lasting: Duration,
    pause: Duration,
) -> (Vec<Duration>, Option<String>) {
    let (mut times, mut failure, began) = (Vec::new(), None, Instant::now());
    while began.elapsed() < lasting {
        let asked = Instant::now();
        match client.call::<_, Empty>(miner, "echo", &Empty {}).await {
            Ok(_) => times.push(asked.elapsed()),
            Err(error) => failure = Some(error.to_string()),
        }
        // sleeps: the pace of the questions is a part of what is measured
        tokio::time::sleep(pause).await;
    }
    (times, failure)
}

/// An answer of names, which may be missing.
#[derive(Debug, serde::Deserialize)]
struct Names {
    n: Vec<Option<String>>,
}

/// A question that asks for nothing, and its answer.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Empty {}
