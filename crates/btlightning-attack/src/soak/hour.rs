//! An hour's requests in as little time as they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use btlightning_proto::wire::encode_packet_frame;
use btlightning_testkit::by_hand::{Visitor, unix_secs};
use tokio::task::JoinSet;

use super::idle::{member, roomy};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::kib;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Order, Report, Victim};

pub(super) const HOUR: Attack = Attack {
    name: "soak",
    promise: "an hour's requests on a thousand connections, with reconnects, leave memory flat and nothing behind",
    carry_out: |scale| Box::pin(hour(scale)),
};

/// A request each twelve seconds, as blocks come.
const REQUESTS_OF_AN_HOUR: usize = 300;

/// In so many rounds; after each, as large a part of the connections is replaced.
const ROUNDS: usize = 20;

/// What may be on the heap after the last round that was not there after the middle one, in a small run and in a large one.
const HEAP_SLACK_BYTES: (u64, u64) = (512 << 10, 1 << 20);

/// What is remembered of a handshake beyond the end of its connection: its nonce, for five minutes, and whose it was.
const REMEMBERED_BYTES: u64 = 1024;

/// What the resident set may be of the one after the middle round. It is the allocator's: several threads free what others
/// have allocated, and the gaps are not given back.
const RSS_TIMES_MAX: u64 = 2;

/// What is left of a connection that was closed is kept for a second.
const FORGOTTEN: Duration = Duration::from_millis(1500);

async fn hour(scale: Scale) -> Result<Verdict, Failure> {
    let (connections, requests) = scale.of((400, 60), (1000, REQUESTS_OF_AN_HOUR));
    let heap_slack = scale.of(HEAP_SLACK_BYTES.0, HEAP_SLACK_BYTES.1);
    let mut victim = Victim::start(roomy(connections)).await?;
    // One comes and goes, so that all that the server keeps going has begun.
    member(&victim, 0).await?.connection.close(0u8.into(), b"");
    let gone = |report: &Report| report.members == 0 && report.strangers == 0;
    victim.becomes(Duration::from_secs(5), gone).await?;
    let fresh = forgotten(&mut victim).await?;
    let mut members = Vec::new();
    for index in 0..connections {
        members.push(Arc::new(member(&victim, index).await?));
    }
    let busy = victim.report().await?.tasks;
    let (began, mut answered, mut middle) = (Instant::now(), 0, fresh.usage);
    for round in 0..ROUNDS {
        answered += talk(&members, requests / ROUNDS).await?;
        let replaced = (0..connections).filter(|index| index % ROUNDS == round);
        for index in replaced {
            members[index].connection.close(0u8.into(), b"");
            members[index] = Arc::new(member(&victim, index).await?);
        }
        if round + 1 == ROUNDS / 2 {
            middle = forgotten(&mut victim).await?.usage;
        }
    }
    let took = began.elapsed();
    let mut verdict = Verdict::default();
    verdict.hold(
        answered == connections * (requests / ROUNDS) * ROUNDS,
        format!("{answered} requests answered on {connections} connections in {:.0} s", took.as_secs_f64()),
    );
    let last = forgotten(&mut victim).await?.usage;
    let growth = last.heap_bytes as f64 - middle.heap_bytes as f64;
    let heaps = [middle.heap_bytes, last.heap_bytes].map(kib);
    verdict.measure(
        last.heap_bytes < middle.heap_bytes + heap_slack,
        format!("{} on the heap after {} rounds, {} after {ROUNDS}", heaps[0], ROUNDS / 2, heaps[1]),
        [("requests", answered as f64), ("growth_bytes", growth)],
    );
    verdict.hold(
        last.rss_bytes < middle.rss_bytes * RSS_TIMES_MAX,
        format!("{} and {} resident", kib(middle.rss_bytes), kib(last.rss_bytes)),
    );

    for member in members {
        member.connection.close(0u8.into(), b"");
    }
    let left = victim.becomes(Duration::from_secs(20), gone).await?;
    verdict.hold(
        gone(&left) && left.handlers_alive == 0 && left.requests_held == 0,
        format!(
            "when all are closed: {} members, {} strangers, {} handlers, {} requests",
            left.members, left.strangers, left.handlers_alive, left.requests_held
        ),
    );
    let calm = |report: &Report| report.tasks <= fresh.tasks && report.holders <= fresh.holders;
    let left = victim.becomes(Duration::from_secs(20), calm).await?;
    verdict.hold(
        calm(&left),
        format!(
            "{} tasks, {busy} with all connections, {} at the start; {} and {} holders of the server",
            left.tasks, fresh.tasks, left.holders, fresh.holders
        ),
    );
    let (heap, heap_fresh) = (forgotten(&mut victim).await?.usage.heap_bytes, fresh.usage.heap_bytes);
    // Each of the connections was replaced once.
    let handshakes = 2 * connections as u64;
    verdict.hold(
        heap < heap_fresh + handshakes * REMEMBERED_BYTES + heap_slack,
        format!("{} on the heap after {handshakes} handshakes, {} at the start", kib(heap), kib(heap_fresh)),
    );
    victim.order(Order::Stop).await?;
    Ok(verdict)
}

/// The victim when nothing is left of the connections that were closed.
async fn forgotten(victim: &mut Victim) -> Result<Report, Failure> {
    // sleeps: no event tells of the end of what is left
    tokio::time::sleep(FORGOTTEN).await;
    victim.report().await
}

/// Asks on every connection so many times, one after another; on all of them at once. Says how many answers there were.
async fn talk(members: &[Arc<Visitor>], requests: usize) -> Result<usize, Failure> {
    let mut talking = JoinSet::new();
    for member in members {
        let member = member.clone();
        talking.spawn(async move {
            let mut answered = 0;
            for _ in 0..requests {
                let frame = encode_packet_frame("echo", unix_secs(), 1 << 20, |out| {
                    // A map of one binary of 1,024 bytes.
                    out.extend([0x81, 0xa1, b'd', 0xc5, 4, 0]);
                    out.resize(out.len() + 1024, 7);
                    Ok(())
                })?;
                answered += usize::from(member.exchange(&frame).await?.len() > 1024);
            }
            Ok::<_, Failure>(answered)
        });
    }
    let mut answered = 0;
    while let Some(talked) = talking.join_next().await {
        answered += talked??;
    }
    Ok(answered)
}
