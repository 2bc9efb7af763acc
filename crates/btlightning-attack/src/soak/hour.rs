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

/// What memory may grow by between the middle round and the last. Before that, an allocator finds its size.
const FLAT_BYTES: u64 = 8 << 20;

async fn hour(scale: Scale) -> Result<Verdict, Failure> {
    let (connections, requests) = scale.of((400, 60), (1000, REQUESTS_OF_AN_HOUR));
    let mut victim = Victim::start(roomy(connections)).await?;
    // One comes and goes, so that all that the server keeps going has begun.
    member(&victim, 0).await?.connection.close(0u8.into(), b"");
    let gone = |report: &Report| report.members == 0 && report.strangers == 0;
    victim.becomes(Duration::from_secs(5), gone).await?;
    // sleeps: what is left of it is kept for a second, and no event tells of its end
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let fresh = victim.report().await?;
    let mut members = Vec::new();
    for index in 0..connections {
        members.push(Arc::new(member(&victim, index).await?));
    }
    let busy = victim.report().await?.tasks;
    let (began, mut answered, mut sizes) = (Instant::now(), 0, Vec::new());
    for round in 0..ROUNDS {
        answered += talk(&members, requests / ROUNDS).await?;
        let replaced = (0..connections).filter(|index| index % ROUNDS == round);
        for index in replaced {
            members[index].connection.close(0u8.into(), b"");
            members[index] = Arc::new(member(&victim, index).await?);
        }
        sizes.push(victim.report().await?.usage.rss_bytes);
    }
    let took = began.elapsed();
    let mut verdict = Verdict::default();
    verdict.hold(
        answered == connections * (requests / ROUNDS) * ROUNDS,
        format!("{answered} requests answered on {connections} connections in {:.0} s", took.as_secs_f64()),
    );
    let (middle, last) = (sizes[ROUNDS / 2 - 1], sizes[ROUNDS - 1]);
    let growth = last as f64 - middle as f64;
    verdict.measure(
        last < middle + FLAT_BYTES,
        format!("{} after {} rounds, {} after {ROUNDS}", kib(middle), ROUNDS / 2, kib(last)),
        [("requests", answered as f64), ("growth_bytes", growth)],
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
    victim.order(Order::Stop).await?;
    Ok(verdict)
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
