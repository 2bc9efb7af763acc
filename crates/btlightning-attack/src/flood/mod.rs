//! Floods, in the four modes that a server's door has: what each costs the server, and what an honest validator that is
//! connected sees of it.

mod handshakes;
mod packets;

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::honest::Times;
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Asked, Report, Setup, Validator, ValidatorOrder, Victim};

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[packets::FORGED, packets::REAL, handshakes::COMPLETE];

/// What the door of a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    NoDefences,
    Allowlist,
    AddressValidation,
    Both,
}

impl Mode {
    const ALL: [Self; 4] = [Self::NoDefences, Self::Allowlist, Self::AddressValidation, Self::Both];

    fn has_allowlist(self) -> bool {
        matches!(self, Self::Allowlist | Self::Both)
    }

    fn setup(self) -> Setup {
        Setup {
            // The honest validator's address; the attacker has the others.
            allowed: self.has_allowlist().then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
            require_address_validation: Some(matches!(self, Self::AddressValidation | Self::Both)),
            ..Setup::default()
        }
    }
}

impl Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDefences => "no defences",
            Self::Allowlist => "allowlist",
            Self::AddressValidation => "address validation",
            Self::Both => "both",
        })
    }
}

/// What a flood has done so far, counted by the attacker, and when it has to end.
#[derive(Debug, Default)]
struct Tally {
    packets: AtomicU64,
    /// Of TLS, come to their end.
    handshakes: AtomicU64,
    is_over: AtomicBool,
}

impl Tally {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn packets(&self, more: u64) {
        self.packets.fetch_add(more, Ordering::Relaxed);
    }

    fn handshake(&self) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often the honest validator asks.
const ASKS_EVERY: Duration = Duration::from_millis(5);

/// What it may wait for one of a hundred answers, while attacker, server and validator share the processors.
const P99_MAX: Duration = Duration::from_millis(100);

/// What an honest validator that comes in the middle of the flood may need for its first answer.
const NEWCOMER_MAX: Duration = Duration::from_secs(5);

/// Floods a server in each mode for some seconds, while an honest validator asks, and another one comes; `flood` returns when
/// the tally is over. Where it `is_kept_out` nobody of it may get a place.
async fn in_each_mode<F: Future<Output = Result<(), Failure>> + Send + 'static>(
    scale: Scale,
    is_kept_out: fn(Mode) -> bool,
    flood: impl Fn(std::net::SocketAddr, Arc<Tally>) -> F,
) -> Result<Verdict, Failure> {
    let (mut verdict, lasting) = (Verdict::default(), Duration::from_secs(scale.of(2, 10)));
    for mode in Mode::ALL {
        let mut victim = Victim::start(mode.setup()).await?;
        let mut honest = Validator::start()?;
        let ask_for = |lasting| {
            let (hotkey, addr, pause) = (victim.hotkey.clone(), victim.addr, ASKS_EVERY);
            ValidatorOrder::AskFor { hotkey, addr, lasting, pause }
        };
        let (quietly, meanwhile) = (ask_for(lasting / 4), ask_for(lasting));
        honest.order(ValidatorOrder::Follow(vec![(victim.hotkey.clone(), victim.addr)])).await?;
        // Dials, which is no part of either.
        honest.order(ask_for(ASKS_EVERY)).await?;
        let at_first = victim.report().await?;
        let quiet = honest.order(quietly).await?;

        let tally = Arc::new(Tally::default());
        let before = victim.report().await?;
        let began = Instant::now();
        let flooding = tokio::spawn(flood(victim.addr, tally.clone()));
        let (seen, newcomer) = tokio::join!(honest.order(meanwhile), come_in(&victim, lasting / 4));
        let (seen, newcomer) = (seen?, newcomer?);
        tally.is_over.store(true, Ordering::Relaxed);
        let took = began.elapsed();
        let after = victim.report().await?;
        flooding.await??;
        let reports = [&at_first, &before, &after];
        note(&mut verdict, mode, &tally, took, reports, (quiet, seen), scale.time(P99_MAX));
        let comes = format!("{mode}: who came meanwhile {}", newcomer.words());
        let is_in = newcomer.answered == 1 && newcomer.elapsed < scale.time(NEWCOMER_MAX);
        let elapsed = [("newcomer_ms", newcomer.elapsed.as_secs_f64() * 1e3)];
        verdict.measure(is_in || !is_kept_out(mode), comes, elapsed);
        if is_kept_out(mode) {
            let (admitted, made) =
                (after.admitted - before.admitted, tally.handshakes.load(Ordering::Relaxed));
            // The newcomer is the one.
            verdict.hold(
                admitted <= 1 && made == 0,
                format!("{mode}: {admitted} admitted, {made} TLS handshakes of the flood"),
            );
        }
    }
    Ok(verdict)
}

/// An honest validator that begins after a while, and asks once.
async fn come_in(victim: &Victim, after: Duration) -> Result<Asked, Failure> {
    // sleeps: until the flood is in full swing
    tokio::time::sleep(after).await;
    let mut newcomer = Validator::start()?;
    let (hotkey, addr) = (victim.hotkey.clone(), victim.addr);
    newcomer.order(ValidatorOrder::Follow(vec![(hotkey.clone(), addr)])).await?;
    let asked = ValidatorOrder::Ask { hotkey, addr, count: 1, at_once: 1, timeout: NEWCOMER_MAX };
    newcomer.order(asked).await
}

/// Notes what the flood cost the server, and what the honest validator saw of it, which has its answers if 99 of 100 come within
/// `p99_max`. `reports` are from before the quiet time, from after it, and from after the flood.
fn note(
    verdict: &mut Verdict,
    mode: Mode,
    tally: &Tally,
    took: Duration,
    reports: [&Report; 3],
    (quiet, seen): (Asked, Asked),
    p99_max: Duration,
) {
    let (quiet, failure, seen) = (Times::of(quiet.times), seen.failure, Times::of(seen.times));
    let (secs, [at_first, before, after]) = (took.as_secs_f64(), reports);
    let packets = tally.packets.load(Ordering::Relaxed) as f64;
    // Without what as many answers cost when it was quiet.
    let an_answer = (before.usage.cpu - at_first.usage.cpu).as_secs_f64() / quiet.count().max(1) as f64;
    let cpu_secs = (after.usage.cpu - before.usage.cpu).as_secs_f64() - an_answer * seen.count() as f64;
    let cpu_us = cpu_secs.max(0.0) * 1e6;
    let figures = [
        ("packets_per_sec", packets / secs),
        ("accepts_per_sec", (after.admitted - before.admitted) as f64 / secs),
        ("handshakes_per_sec", tally.handshakes.load(Ordering::Relaxed) as f64 / secs),
        ("cpu_us_per_packet", cpu_us / packets.max(1.0)),
        ("cpu_share", cpu_us / 1e6 / secs),
        ("rss_growth_mib", after.usage.rss_bytes.saturating_sub(before.usage.rss_bytes) as f64 / 1048576.0),
        ("quiet_p50_ms", quiet.quantile(0.5).as_secs_f64() * 1e3),
        ("quiet_p99_ms", quiet.quantile(0.99).as_secs_f64() * 1e3),
    ];
    let [sent, accepts, handshakes, cpu, share, grown, ..] = figures.map(|(_, figure)| figure);
    let costs = format!(
        "{mode}: {sent:.0} packets/s, {accepts:.0} accepts/s, {handshakes:.0} TLS handshakes/s, {cpu:.1} us of CPU a packet ({:.0}% of a processor), {grown:.1} MiB",
        share * 100.0
    );
    // At the slowest pace at which they are soon enough; of no answers, none is late.
    let answers_min = (took.as_secs_f64() / p99_max.as_secs_f64()).max(1.0);
    let honest = [
        ("honest_answers", seen.count() as f64),
        ("honest_p50_ms", seen.quantile(0.5).as_secs_f64() * 1e3),
        ("honest_p99_ms", seen.quantile(0.99).as_secs_f64() * 1e3),
    ];
    let failed = failure.as_ref().map_or_else(String::new, |why| format!(", and {why}"));
    verdict.measure(
        failure.is_none() && seen.count() as f64 >= answers_min && seen.quantile(0.99) < p99_max,
        format!("{costs}, honest {seen} of {} answers{failed}", seen.count()),
        figures.into_iter().chain(honest),
    );
}
