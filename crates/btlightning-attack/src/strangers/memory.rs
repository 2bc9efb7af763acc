//! What a stranger can have a server hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use btlightning_testkit::by_hand::{Valve, tls};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::greedy::{Greed, Greedy};
use super::{address, connect, header, kib, socket};
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const STREAMS: Attack = Attack {
    name: "stranger-memory",
    promise: "a stranger holds no more than 64 KiB of the server's memory, however much of everything it uses",
    carry_out: |scale| Box::pin(streams(scale)),
};

pub(super) const FRAGMENTS: Attack = Attack {
    name: "stranger-fragments",
    promise: "a stranger that sends single bytes with gaps between them holds no more than 64 KiB",
    carry_out: |scale| Box::pin(fragments(scale)),
};

pub(super) const HALF_HANDSHAKES: Attack = Attack {
    name: "stranger-half-handshakes",
    promise: "a connection whose TLS handshake never ends holds no more than 64 KiB",
    carry_out: |scale| Box::pin(half_handshakes(scale)),
};

/// What a stranger may hold.
const BYTES_MAX: u64 = 64 * 1024;

/// Of one address.
const OF_EACH: usize = 64;

/// How many attack at once.
const AT_ONCE: usize = 16;

/// How long the server has for what was sent last.
const SETTLED: Duration = Duration::from_millis(500);

/// What strangers have the server hold, and what becomes of them.
struct Held {
    bytes_each: u64,
    strangers: usize,
    /// How many are still connected.
    kept: usize,
}

/// What each of some strangers has a victim hold after `attack`, if some others have warmed it up. They stay while that is
/// measured, as far as the victim lets them.
async fn held_by_each<T: Send + 'static, F: Future<Output = Result<T, Failure>> + Send + 'static>(
    scale: Scale,
    attack: impl Fn(SocketAddr, usize) -> F,
) -> Result<Held, Failure> {
    let (warm, strangers) = scale.of((64, 256), (128, 1024));
    // Places for all, and for those who come back, of whom there are none.
    let mut victim = Victim::start(Setup {
        max_unauthenticated_connections: Some(2 * (warm + strangers)),
        max_unauthenticated_connections_per_ip: Some(OF_EACH),
        handshake_timeout_secs: Some(140),
        ..Setup::default()
    })
    .await?;
    let mut all = Vec::new();
    let mut before = None;
    for range in [0..warm, warm..warm + strangers] {
        let report = victim.report().await?;
        before = Some(report);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut attackers = JoinSet::new();
        for index in range {
            let (attacking, turns) = (attack(victim.addr, index / OF_EACH), turns.clone());
            attackers.spawn(async move {
                let _turn = turns.acquire().await;
                attacking.await
            });
        }
        while let Some(attacker) = attackers.join_next().await {
            all.push(attacker??);
        }
        // sleeps: no event tells that another process has read what was sent to it
        tokio::time::sleep(SETTLED).await;
    }
    let (before, after) = (before.ok_or("nobody attacked")?, victim.report().await?);
    let grown = after.usage.rss_bytes.saturating_sub(before.usage.rss_bytes);
    let kept = after.strangers.saturating_sub(before.strangers);
    Ok(Held { bytes_each: grown / strangers as u64, strangers, kept })
}

impl Held {
    /// Notes what strangers hold who send no more than they may: all of them have to be there.
    fn within(&self, verdict: &mut Verdict, what: &str) {
        self.note(verdict, what, self.kept == self.strangers);
    }

    /// Notes what those hold who send more: none of them may be there.
    fn beyond(&self, verdict: &mut Verdict, what: &str) {
        self.note(verdict, what, self.kept == 0);
    }

    fn note(&self, verdict: &mut Verdict, what: &str, is_as_expected: bool) {
        let Self { bytes_each, strangers, kept } = self;
        verdict.measure(
            *bytes_each < BYTES_MAX && is_as_expected,
            format!("{what}: {} a stranger, {kept} of {strangers} kept", kib(*bytes_each)),
            [("kib_each", *bytes_each as f64 / 1024.0)],
        );
    }
}

async fn streams(scale: Scale) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    let filled = held_by_each(scale, async |addr, from| {
        let mut endpoint = socket(from)?;
        // Probes for larger packets would use up what it may send.
        let config = tls::client_config(tls::ALPN, |transport| {
            transport.mtu_discovery_config(None);
        })?;
        endpoint.set_default_client_config(config);
        let visitor = connect(endpoint, addr).await??;
        let mut streams = Vec::new();
        // A handshake that is announced and does not come, on each stream that there may be.
        while let Ok(opened) = timeout(Duration::from_millis(20), visitor.connection.open_bi()).await {
            let (mut send, receive) = opened?;
            let mut frame = header(1, 4096);
            frame.extend([0xcc; 4095]);
            // The window may be too small for it.
            let _ = timeout(Duration::from_millis(20), send.write_all(&frame)).await;
            streams.push((send, receive));
        }
        Ok((visitor, streams))
    });
    filled.await?.within(&mut verdict, "all streams filled");
    let sated =
        |greed, is_within| held_by_each(scale, move |addr, from| Greedy::sated(addr, from, greed, is_within));
    sated(Greed::EVERYTHING, true).await?.within(&mut verdict, "all that is allowed");
    sated(Greed::MANY_PACKETS, false).await?.beyond(&mut verdict, "more packets");
    sated(Greed::MANY_BYTES, false).await?.beyond(&mut verdict, "more bytes");
    sated(Greed::MANY_IDENTIFIERS, false).await?.beyond(&mut verdict, "more connection IDs");
    Ok(verdict)
}

async fn fragments(scale: Scale) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    let sated =
        |greed, is_within| held_by_each(scale, move |addr, from| Greedy::sated(addr, from, greed, is_within));
    sated(Greed::FRAGMENTS, true).await?.within(&mut verdict, "as many as are allowed");
    sated(Greed::MANY_PIECES, false).await?.beyond(&mut verdict, "more of them");
    sated(Greed::MANY_BYTES_WITH_PIECES, false).await?.beyond(&mut verdict, "in larger packets");
    Ok(verdict)
}

async fn half_handshakes(scale: Scale) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    let silent = held_by_each(scale, async |addr, from| {
        let (endpoint, valve) = Valve::endpoint(SocketAddr::new(address(from), 0))?;
        // Begins a handshake, shows its address, and falls silent when the server's certificate is due.
        let connecting = endpoint.connect(addr, "127.0.0.1")?;
        // The first flight, and the one with the token that the Retry brought.
        while valve.sent() < 2 {
            tokio::task::yield_now().await;
        }
        valve.shut();
        Ok((endpoint, connecting))
    });
    silent.await?.within(&mut verdict, "silent");
    let half = |of_each, is_beyond| {
        held_by_each(scale, move |addr, from| Greedy::half(addr, from, of_each, is_beyond))
    };
    half(4, false).await?.within(&mut verdict, "pieces, as many as are allowed");
    half(90, true).await?.beyond(&mut verdict, "more of them");
    half(1, true).await?.beyond(&mut verdict, "in more packets");
    Ok(verdict)
}
