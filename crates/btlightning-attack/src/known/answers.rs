//! Asking for answers and not reading them.

use std::time::Duration;

use btlightning_testkit::by_hand::{Visitor, tls};
use quinn::{Endpoint, RecvStream, SendStream, VarInt};
use serde::Serialize;

use super::{Nothing, request, validator};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::{address, connect, key, kib};
use crate::verdict::{Failure, Verdict};
use crate::victim::{Order, Setup, Victim};

pub(super) const UNREAD: Attack = Attack {
    name: "unread-answers",
    promise: "answers that the peer does not read are given up on after their time, and their memory is free again",
    carry_out: |scale| Box::pin(unread(scale)),
};

pub(super) const ABANDONED: Attack = Attack {
    name: "abandoned-handlers",
    promise: "handlers whose caller is gone are dropped",
    carry_out: |_| Box::pin(abandoned()),
};

#[derive(Serialize)]
struct Much {
    bytes: usize,
    chunks: usize,
}

async fn unread(scale: Scale) -> Result<Verdict, Failure> {
    let setup = Setup { handler_timeout_secs: Some(2), ..Setup::default() };
    let mut victim = Victim::start(setup).await?;
    let before = victim.order(Order::ForgetPeak).await?.usage.rss_bytes;
    let answers = scale.of(16, 40);
    let mut verdict = Verdict::default();
    // What the first round let go of has to be enough for the second: an allocator need not give it back to the system.
    let mut peaks = Vec::new();
    for round in 1..=2 {
        let held = ask_and_not_read(&victim, round, answers).await?;
        let busy =
            victim.becomes(Duration::from_secs(5), |report| report.handlers_begun >= round * answers).await?;
        let left = victim
            .becomes(GIVEN_UP_AFTER, |report| report.handlers_alive == 0 && report.requests_held == 0)
            .await?;
        verdict.hold(
            busy.handlers_begun >= round * answers && left.handlers_alive == 0 && left.requests_held == 0,
            format!(
                "{answers} answers of 1 MiB and more unread, later {} handlers and {} requests",
                left.handlers_alive, left.requests_held
            ),
        );
        peaks.push(left.usage.rss_peak_bytes.saturating_sub(before));
        drop(held);
    }
    // Of each stream one chunk is being written, and one may wait whatever the others hold.
    let bound = CHUNKS_BYTES_MAX + answers as u64 * 2 * ANSWER_BYTES as u64 + (32 << 20);
    verdict.hold(peaks[0] < bound, format!("{} at most", kib(peaks[0])));
    verdict.hold(peaks[1] < peaks[0] + peaks[0] / 4, format!("{} when it is done again", kib(peaks[1])));
    Ok(verdict)
}

/// An answer, or a chunk of one.
const ANSWER_BYTES: usize = 1 << 20;

/// What the chunks of one connection take that wait to be written, where there are more of them than streams.
const CHUNKS_BYTES_MAX: u64 = 64 << 20;

/// The handlers' two seconds, two more for the answers, sixteen for the 1 MiB of each that may be behind, and some for a
/// machine that is busy.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2 + 2 + 16 + 5);

/// A validator with a window that takes a hundred bytes of each answer, and what it asks for.
async fn ask_and_not_read(
    victim: &Victim,
    index: usize,
    answers: usize,
) -> Result<(Visitor, Vec<(SendStream, RecvStream)>), Failure> {
    let mut endpoint = Endpoint::client((address(index), 0).into())?;
    endpoint.set_default_client_config(tls::client_config(tls::ALPN, |transport| {
        transport.stream_receive_window(VarInt::from_u32(100));
    })?);
    let visitor: Visitor = connect(endpoint, victim.addr).await??;
    visitor.authenticate(&key("bad")).await?;
    let mut held = Vec::new();
    for index in 0..answers {
        let name = if index % 2 == 0 { "large" } else { "chunks" };
        held.push(visitor.send(&request(name, &Much { bytes: ANSWER_BYTES, chunks: 64 })?).await?);
    }
    Ok((visitor, held))
}

async fn abandoned() -> Result<Verdict, Failure> {
    let mut victim = Victim::start(Setup { handler_timeout_secs: Some(100), ..Setup::default() }).await?;
    let visitor = validator(&victim, 0, "bad").await?;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(visitor.send(&request("wait", &Nothing {})?).await?);
    }
    let begun = victim.becomes(Duration::from_secs(5), |report| report.handlers_alive == 100).await?;
    let mut verdict = Verdict::default();
    verdict.hold(begun.handlers_alive == 100, format!("{} handlers wait", begun.handlers_alive));
    for (_, receive) in held.drain(..50).collect::<Vec<_>>().iter_mut() {
        receive.stop(0u8.into())?;
    }
    let stopped = victim.becomes(Duration::from_secs(5), |report| report.handlers_alive <= 50).await?;
    verdict.hold(
        stopped.handlers_alive == 50,
        format!("{} after 50 answers were declined", stopped.handlers_alive),
    );
    visitor.connection.close(0u8.into(), b"");
    let closed = victim.becomes(Duration::from_secs(5), |report| report.handlers_alive == 0).await?;
    verdict.hold(
        closed.handlers_alive == 0,
        format!("{} after the connection was closed", closed.handlers_alive),
    );
    Ok(verdict)
}
