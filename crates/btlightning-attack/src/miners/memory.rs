//! Miners that have a validator hold what it did not ask for.

use btlightning_testkit::by_hand::Manner;

use super::{Placed, TIMEOUT};
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::kib;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Decoded, Validator, ValidatorOrder};

pub(super) const UNENDING: Attack = Attack {
    name: "miner-unending-streams",
    promise: "a miner that answers and never ends a stream has the validator hold nothing of it for long",
    carry_out: |scale| Box::pin(unending(scale)),
};

pub(super) const FLOODING: Attack = Attack {
    name: "miner-flooding-answers",
    promise: "an answer that is announced as larger than the caller's limit is not read",
    carry_out: |scale| Box::pin(flooding(scale)),
};

/// What the validator's process may take, 64 Ki streams that were not ended included.
const PEAK_MAX: u64 = 96 << 20;

/// What an answer of 4 MiB may take that is refused before it is decoded: itself, with room for more, and its windows.
const REFUSED_MAX: u64 = 32 << 20;

async fn unending(scale: Scale) -> Result<Verdict, Failure> {
    let miner = Placed::start(0, Manner::Unending)?;
    let mut validator = Validator::start()?;
    validator.order(ValidatorOrder::Follow(vec![miner.wanted()])).await?;
    let (hotkey, addr) = miner.wanted();
    let ask =
        |count| ValidatorOrder::Ask { hotkey: hotkey.clone(), addr, count, at_once: 8, timeout: TIMEOUT };
    // A link is replaced when so many streams were not ended on it; after that, it is to take no more.
    let (warm, calls, grown_max) = scale.of((2_000, 4_000, 4 << 20), (80_000, 160_000, 8 << 20));
    let before = validator.order(ask(warm)).await?;
    let after = validator.order(ask(calls)).await?;
    let grown = after.usage.rss_bytes.saturating_sub(before.usage.rss_bytes);
    let mut verdict = Verdict::default();
    let words = after.failure.unwrap_or_else(|| "none failed".into());
    // Who has left as many open as a link takes is turned away.
    let is_turned_away = words.contains("does not end its streams");
    verdict.hold(
        after.answered == calls || is_turned_away,
        format!("{} of {calls} calls answered, {words}", after.answered),
    );
    let peak = after.usage.rss_peak_bytes;
    verdict.hold(peak < PEAK_MAX, format!("{} of the validator in all at most", kib(peak)));
    verdict.hold(
        grown < grown_max,
        format!(
            "{} more memory than after {warm}, {:.0} bytes a call",
            kib(grown),
            grown as f64 / calls as f64
        ),
    );
    Ok(verdict)
}

async fn flooding(scale: Scale) -> Result<Verdict, Failure> {
    let miner = Placed::start(0, Manner::Flooding)?;
    let mut validator = Validator::start()?;
    validator.order(ValidatorOrder::Follow(vec![miner.wanted()])).await?;
    let (hotkey, addr) = miner.wanted();
    let before = validator.order(ValidatorOrder::Report).await?;
    let count = scale.of(50, 500);
    let order = ValidatorOrder::Ask { hotkey, addr, count, at_once: 8, timeout: TIMEOUT };
    let after = validator.order(order).await?;
    let peak = after.usage.rss_peak_bytes.saturating_sub(before.usage.rss_bytes);
    let mut verdict = Verdict::default();
    let words = after.failure.unwrap_or_default();
    verdict.hold(after.answered == 0, format!("{count} calls failed: {words}"));
    verdict.hold(peak < 64 << 20, format!("{} more memory at most", kib(peak)));
    for (into, what) in [(Decoded::Values, "dynamic values"), (Decoded::Typed, "a type")] {
        expanding(&mut verdict, scale.of(4, 16), into, what).await?;
    }
    Ok(verdict)
}

/// What answers within the limit of bytes take that would be many more bytes as values than on the wire.
async fn expanding(verdict: &mut Verdict, count: usize, into: Decoded, what: &str) -> Result<(), Failure> {
    let miner = Placed::start(1, Manner::Expanding)?;
    let mut validator = Validator::start()?;
    validator.order(ValidatorOrder::Follow(vec![miner.wanted()])).await?;
    let (hotkey, addr) = miner.wanted();
    let before = validator.order(ValidatorOrder::Report).await?;
    let after = validator.order(ValidatorOrder::Decode { hotkey, addr, count, into }).await?;
    let peak = after.usage.rss_peak_bytes.saturating_sub(before.usage.rss_bytes);
    let failure = after.failure.map_or_else(String::new, |why| format!(": {why}"));
    verdict.hold(
        after.answered == 0 && peak < REFUSED_MAX,
        format!(
            "{} of {count} answers of 4 MiB of nils decoded into {what}{failure}; {} more memory at most",
            after.answered,
            kib(peak)
        ),
    );
    Ok(())
}
