//! Having the server read what it should not.

use btlightning_proto::wire::encode_packet_frame;
use btlightning_testkit::by_hand::unix_secs;

use super::{header, kib, stranger};
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Order, Setup, Victim};

pub(super) const NEVER_DECODED: Attack = Attack {
    name: "stranger-payloads",
    promise: "a stranger's synapse is never decoded, nor even read",
    carry_out: |scale| Box::pin(never_decoded(scale)),
};

pub(super) const UNIFORM_REFUSALS: Attack = Attack {
    name: "stranger-refusals",
    promise: "a stranger is answered the same whatever it asks",
    carry_out: |_| Box::pin(uniform_refusals()),
};

/// A request whose payload is an array of so many nils: a byte each on the wire, and many more as values.
pub(crate) fn nils(name: &str, count: u32) -> Result<Vec<u8>, Failure> {
    let frame = encode_packet_frame(name, unix_secs(), 1 << 26, |out| {
        // A map of one key, and an array of 2^32 elements at most.
        out.extend([0x81, 0xa1, b'n', 0xdd]);
        out.extend(count.to_be_bytes());
        out.resize(out.len() + count as usize, 0xc0);
        Ok(())
    })?;
    Ok(frame)
}

async fn never_decoded(scale: Scale) -> Result<Verdict, Failure> {
    let mut victim = Victim::start(Setup::default()).await?;
    let frame = nils("echo", 4 << 20)?;
    let before = victim.order(Order::ForgetPeak).await?;
    let rounds = scale.of(8, 64);
    for round in 0..rounds {
        let visitor = stranger(&victim, round).await?;
        let (mut send, mut receive) = visitor.connection.open_bi().await?;
        // Stopped by the server long before it is all sent.
        let _ = send.write_all(&frame).await;
        let _ = receive.read_to_end(4096).await;
    }
    let after = victim.report().await?;
    let begun = after.handlers_begun;
    let grown = after.usage.rss_peak_bytes.saturating_sub(before.usage.rss_bytes);
    let cpu = (after.usage.cpu - before.usage.cpu).as_secs_f64() * 1e3 / rounds as f64;
    let mut verdict = Verdict::default();
    verdict.hold(begun == 0, format!("{begun} handlers began"));
    verdict.hold(
        grown < 8 << 20,
        format!(
            "{} more memory at most during {rounds} requests of 4 MiB of nils, {cpu:.2} ms of CPU each",
            kib(grown)
        ),
    );
    Ok(verdict)
}

async fn uniform_refusals() -> Result<Verdict, Failure> {
    let victim = Victim::start(Setup::default()).await?;
    let visitor = stranger(&victim, 0).await?;
    let small = |name| {
        encode_packet_frame(name, unix_secs(), 4096, |out| {
            out.push(0x80);
            Ok(())
        })
    };
    let asked = [
        small("echo")?,
        small("typed")?,
        small("block")?,
        small("chunks")?,
        small("nobody knows")?,
        nils("echo", 9)?,
        header(3, 1 << 20),
        header(3, u32::MAX),
        header(2, 7),
        header(5, 0),
        header(0, 0),
        header(0xff, 12),
    ];
    let mut answers = Vec::new();
    for bytes in &asked {
        let mut answer = visitor.exchange(bytes).await?.to_vec();
        // The time, after the header, the array's marker, false, an empty map and its own marker.
        answer.drain(9.min(answer.len())..13.min(answer.len()));
        answers.push(answer);
    }
    answers.dedup();
    let mut verdict = Verdict::default();
    verdict
        .hold(answers.len() == 1, format!("{} kinds of answer to {} questions", answers.len(), asked.len()));
    Ok(verdict)
}
