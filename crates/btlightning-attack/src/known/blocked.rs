//! Keeping the threads of others busy.

use std::time::{Duration, Instant};

use btlightning_testkit::by_hand::unix_secs;
use tokio::task::JoinSet;

use super::{Nothing, request, validator};
use crate::honest::{Honest, Times};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::{connect, key, stranger};
use crate::verdict::{Failure, Verdict};
use crate::victim::{Order, Setup, Victim};

pub(super) const HANDLERS: Attack = Attack {
    name: "blocked-handlers",
    promise: "handshakes do not queue behind handlers that block, however many",
    carry_out: |_| Box::pin(handlers()),
};

pub(super) const SIGNATURES: Attack = Attack {
    name: "signature-flood",
    promise: "handshakes do not queue behind the signatures of a flood",
    carry_out: |scale| Box::pin(signatures(scale)),
};

/// What a handshake may take on a machine that others keep busy.
const SOON: Duration = Duration::from_secs(1);

/// How long each of some validators takes to connect, authenticate and have its first answer.
async fn arrivals(victim: &Victim, count: usize) -> Result<Times, Failure> {
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        Honest::connect(victim).await?.ask().await?;
        times.push(began.elapsed());
    }
    Ok(Times::of(times))
}

async fn handlers() -> Result<Verdict, Failure> {
    let setup = Setup { handler_timeout_secs: Some(100), ..Setup::default() };
    let mut victim = Victim::start(setup).await?;
    let quiet = arrivals(&victim, 8).await?;
    // More than there are threads for them: four connections of each of two hotkeys, 128 requests on each.
    let frame = request("block", &Nothing {})?;
    let mut held = Vec::new();
    for index in 0..8 {
        let visitor = validator(&victim, 10 + index, &format!("bad {}", index % 2)).await?;
        for _ in 0..100 {
            held.push(visitor.send(&frame).await?);
        }
        held.push(visitor.send(&frame).await?);
    }
    let report = victim.becomes(Duration::from_secs(10), |report| report.handlers_alive >= 448).await?;
    let busy = arrivals(&victim, 8).await?;
    let mut verdict = Verdict::default();
    verdict.hold(report.handlers_alive >= 300, format!("{} handlers block", report.handlers_alive));
    verdict.hold(busy.quantile(1.0) < SOON, format!("an arrival meanwhile: {busy}; before: {quiet}"));
    victim.order(Order::OpenDoor).await?;
    drop(held);
    let left = victim.becomes(Duration::from_secs(10), |report| report.handlers_alive == 0).await?;
    verdict.hold(left.handlers_alive == 0, format!("{} left when they may go on", left.handlers_alive));
    Ok(verdict)
}

async fn signatures(scale: Scale) -> Result<Verdict, Failure> {
    let setup = Setup { max_handshake_attempts_per_minute: Some(1_000_000), ..Setup::default() };
    let victim = Victim::start(setup).await?;
    let quiet = arrivals(&victim, 8).await?;
    let mut flood = JoinSet::new();
    for index in 0..32 {
        let mut visitor = stranger(&victim, index).await?;
        let addr = victim.addr;
        flood.spawn(async move {
            let mut tried = 0_usize;
            loop {
                let (request, _) = visitor.opening(&key("nobody"), unix_secs(), |request| {
                    // Of another: right in form, and wrong.
                    request.validator_hotkey = key("somebody").hotkey().to_string();
                })?;
                while let Ok(Ok(_)) = tokio::time::timeout(SOON * 5, visitor.handshake(&request)).await {
                    tried += 1;
                }
                // A connection on which too many fail is closed.
                match connect(visitor.endpoint.clone(), addr).await? {
                    Ok(another) => visitor = another,
                    Err(_) => return Ok::<_, Failure>(tried),
                }
            }
        });
    }
    let busy = arrivals(&victim, scale.of(8, 32)).await?;
    let mut verdict = Verdict::default();
    verdict.hold(busy.quantile(1.0) < SOON, format!("an arrival meanwhile: {busy}; before: {quiet}"));
    flood.abort_all();
    Ok(verdict)
}
