//! What a connection that does nothing holds.

use std::net::SocketAddr;
use std::time::Duration;

use btlightning_testkit::by_hand::{Manner, Miner, Visitor};

use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::{address, connect, key, kib, socket};
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Validator, ValidatorOrder, Victim};

pub(super) const SERVER: Attack = Attack {
    name: "idle-server",
    promise: "an idle authenticated connection holds less than 40 KiB of the server's memory",
    carry_out: |scale| Box::pin(server(scale)),
};

pub(super) const VALIDATOR: Attack = Attack {
    name: "idle-validator",
    promise: "an idle authenticated connection holds less than 40 KiB of the validator's memory",
    carry_out: |scale| Box::pin(validator(scale)),
};

/// The goal.
const BYTES_MAX: u64 = 40 * 1024;

/// For what was sent last.
const SETTLED: Duration = Duration::from_secs(2);

/// Room for so many connections that one machine makes.
pub(super) fn roomy(connections: usize) -> Setup {
    Setup {
        max_connections: Some(2 * connections),
        max_handshake_attempts_per_minute: Some(1_000_000),
        max_unauthenticated_connections: Some(2 * connections),
        max_unauthenticated_connections_per_ip: Some(2 * connections),
        ..Setup::default()
    }
}

/// The `index`-th of many authenticated connections: four to a hotkey, sixteen to an address.
pub(super) async fn member(victim: &Victim, index: usize) -> Result<Visitor, Failure> {
    let visitor = connect(socket(index / 16)?, victim.addr).await??;
    visitor.authenticate(&key(&format!("validator {}", index / 4))).await?;
    Ok(visitor)
}

async fn server(scale: Scale) -> Result<Verdict, Failure> {
    let (warm, connections) = scale.of((50, 100), (200, 1000));
    let mut victim = Victim::start(roomy(warm + connections)).await?;
    let mut held = Vec::new();
    for index in 0..warm {
        held.push(member(&victim, index).await?);
    }
    // sleeps: no event tells that another process has done what it still had to do
    tokio::time::sleep(SETTLED).await;
    let before = victim.report().await?;
    for index in warm..warm + connections {
        held.push(member(&victim, index).await?);
    }
    // sleeps: as above
    tokio::time::sleep(SETTLED).await;
    let after = victim.report().await?;
    let each = after.usage.rss_bytes.saturating_sub(before.usage.rss_bytes) / connections as u64;
    let mut verdict = Verdict::default();
    verdict.hold(after.members == warm + connections, format!("{} connections", after.members));
    verdict.measure(each < BYTES_MAX, format!("{} each", kib(each)), [("bytes_each", each as f64)]);
    Ok(verdict)
}

async fn validator(scale: Scale) -> Result<Verdict, Failure> {
    let (warm, connections) = scale.of((50, 100), (200, 800));
    let mut miners = Vec::new();
    for index in 0..warm + connections {
        let (addr, key) = (SocketAddr::new(address(index), 0), key(&format!("miner {index}")));
        let hotkey = key.hotkey().to_string();
        miners.push((Miner::start(addr, key, Manner::Honest)?, hotkey));
    }
    let wanted = |count: usize| {
        let wanted = miners.iter().take(count).map(|(miner, hotkey)| (hotkey.clone(), miner.addr));
        ValidatorOrder::Follow(wanted.collect())
    };
    let mut validator = Validator::start()?;
    validator.order(wanted(warm)).await?;
    let before = all_answer(&mut validator, &miners[..warm]).await?;
    validator.order(wanted(warm + connections)).await?;
    let after = all_answer(&mut validator, &miners).await?;
    let each = after.saturating_sub(before) / connections as u64;
    let mut verdict = Verdict::default();
    verdict.hold(true, format!("{} connections", warm + connections));
    verdict.measure(each < BYTES_MAX, format!("{} each", kib(each)), [("bytes_each", each as f64)]);
    Ok(verdict)
}

/// Asks each of the miners once; hands out the memory that the validator has after that.
async fn all_answer(validator: &mut Validator, miners: &[(Miner, String)]) -> Result<u64, Failure> {
    for (miner, hotkey) in miners {
        let (hotkey, addr, timeout) = (hotkey.clone(), miner.addr, Duration::from_secs(20));
        let asked =
            validator.order(ValidatorOrder::Ask { hotkey, addr, count: 1, at_once: 1, timeout }).await?;
        if asked.answered != 1 {
            return Err(asked.failure.unwrap_or_default().into());
        }
    }
    // sleeps: no event tells that another process has done what it still had to do
    tokio::time::sleep(SETTLED).await;
    Ok(validator.order(ValidatorOrder::Report).await?.usage.rss_bytes)
}
