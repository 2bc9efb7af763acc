//! Keeping the threads of others busy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use btlightning_testkit::by_hand::{Visitor, unix_secs};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Nothing, request, validator};
use crate::honest::{Honest, Times};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::{key, place, stranger};
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

/// The slowest one while signatures are verified all the time, in the run for the figures.
const FLOODED_MAX: Duration = Duration::from_millis(300);

/// How many handlers block at once when no thread is left for another one.
const POOL: usize = 448;

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
    let report = victim.becomes(Duration::from_secs(10), |report| report.handlers_alive >= POOL).await?;
    let busy = arrivals(&victim, 8).await?;
    let mut verdict = Verdict::default();
    verdict.hold(report.handlers_alive >= POOL, format!("{} handlers block", report.handlers_alive));
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
    let (mut flood, tried) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let (flooders, arriving) = scale.of((32, 8), (96, 32));
    for index in 0..flooders {
        let visitor = stranger(&victim, index).await?;
        flood.spawn(forge_signatures(visitor, victim.addr, tried.clone()));
    }
    let (began, before) = (Instant::now(), tried.load(Ordering::Relaxed));
    let busy = arrivals(&victim, arriving).await?;
    let tried = tried.load(Ordering::Relaxed) - before;
    let a_second = tried as f64 / began.elapsed().as_secs_f64();
    let mut verdict = Verdict::default();
    verdict.hold(
        busy.quantile(1.0) < scale.of(SOON, FLOODED_MAX),
        format!("an arrival meanwhile: {busy}; before: {quiet}"),
    );
    let (mut ended, mut why) = (0, String::new());
    while let Some(flooder) = flood.try_join_next() {
        ended += 1;
        let Err(failure) = flooder?;
        why = format!(", {failure}");
    }
    verdict.hold(
        tried > 0 && ended == 0,
        format!("{a_second:.0} refusals/s from {flooders} addresses, {ended} of which have given up{why}"),
    );
    flood.abort_all();
    Ok(verdict)
}

/// Offers one wrong signature after another, for as long as it may; on another connection when one is closed, for too many
/// have failed on it.
async fn forge_signatures(
    mut visitor: Visitor,
    addr: SocketAddr,
    tried: Arc<AtomicUsize>,
) -> Result<Infallible, Failure> {
    loop {
        let (request, _) = visitor.opening(&key("nobody"), unix_secs(), |request| {
            // Of another: right in form, and wrong.
            request.validator_hotkey = key("somebody").hotkey().to_string();
        })?;
        while let Ok(Ok(_)) = timeout(SOON * 5, visitor.handshake(&request)).await {
            tried.fetch_add(1, Ordering::Relaxed);
        }
        visitor = place(&visitor.endpoint, addr).await?;
    }
}
