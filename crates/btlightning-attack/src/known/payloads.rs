//! Small messages that are to become large ones.

use btlightning_proto::wire::encode_packet_frame;
use btlightning_testkit::by_hand::{Visitor, unix_secs};

use super::validator;
use crate::honest::Honest;
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::payloads::nils;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Order, Setup, Victim};

pub(super) const EXPANSION: Attack = Attack {
    name: "payload-expansion",
    promise: "4 MiB of nils do not become 500 MiB of values, for a handler of maps or of types",
    carry_out: |scale| Box::pin(expansion(scale)),
};

pub(super) const NESTING: Attack = Attack {
    name: "payload-nesting",
    promise: "no depth of nesting overflows a stack",
    carry_out: |_| Box::pin(nesting()),
};

/// What decoding may take of such a request, as SECURITY.md has it.
const BUDGET_BYTES: u64 = (64 << 20) + 8 * (4 << 20);

async fn expansion(scale: Scale) -> Result<Verdict, Failure> {
    let mut victim = Victim::start(Setup::default()).await?;
    let visitor = validator(&victim, 0, "bad").await?;
    let mut verdict = Verdict::default();
    for handler in ["echo", "typed"] {
        let frame = nils(handler, 4 << 20)?;
        let before = victim.order(Order::ForgetPeak).await?.usage.rss_bytes;
        let rounds = scale.of(2, 8);
        for _ in 0..rounds {
            let answer = visitor.exchange(&frame).await?;
            verdict_of(&answer)?;
        }
        let peak = victim.report().await?.usage.rss_peak_bytes.saturating_sub(before);
        // The frame itself, and its windows, beside what its values may take.
        let bound = if handler == "typed" { 32 << 20 } else { BUDGET_BYTES + (32 << 20) };
        verdict.hold(
            peak < bound,
            format!("{handler}: {:.0} MiB at most for 4 MiB on the wire", peak as f64 / (1 << 20) as f64),
        );
    }
    let asked = Honest::connect(&victim).await?.ask().await;
    verdict.hold(asked.is_ok(), "others are answered");
    Ok(verdict)
}

/// An answer, whatever it says.
fn verdict_of(answer: &[u8]) -> Result<(), Failure> {
    match answer.first() {
        Some(4) => Ok(()),
        other => Err(format!("an answer that begins with {other:?}").into()),
    }
}

async fn nesting() -> Result<Verdict, Failure> {
    let victim = Victim::start(Setup::default()).await?;
    let visitor = validator(&victim, 0, "bad").await?;
    let mut verdict = Verdict::default();
    let mut depths = Vec::new();
    for depth in [127, 128, 129, 1_015, 100_000, 4 << 20] {
        for handler in ["echo", "typed"] {
            verdict_of(&deep(&visitor, handler, depth).await?)?;
        }
        depths.push(depth);
    }
    let asked = Honest::connect(&victim).await?.ask().await;
    let build = if cfg!(debug_assertions) { "unoptimised" } else { "optimised" };
    verdict.hold(asked.is_ok(), format!("depths of {depths:?} answered and survived, {build} build"));
    Ok(verdict)
}

/// Arrays in arrays in a map.
async fn deep(visitor: &Visitor, name: &str, depth: usize) -> Result<bytes::Bytes, Failure> {
    let frame = encode_packet_frame(name, unix_secs(), 1 << 26, |out| {
        out.extend([0x81, 0xa1, b'n']);
        out.resize(out.len() + depth, 0x91);
        out.push(0xc0);
        Ok(())
    })?;
    visitor.exchange(&frame).await
}
