//! Miners that want others to look slow.

use std::time::Duration;

use btlightning_testkit::by_hand::Manner;

use super::{Placed, TIMEOUT};
use crate::honest::Times;
use crate::run::Attack;
use crate::scale::Scale;
use crate::strangers::key;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Asked, Validator, ValidatorOrder};

pub(super) const SILENT: Attack = Attack {
    name: "miners-silent",
    promise: "hotkeys that never authenticate, at an honest miner's address and at others, do not delay it",
    carry_out: |scale| Box::pin(silent(scale)),
};

pub(super) const REFUSING: Attack = Attack {
    name: "miners-refusing",
    promise: "miners that refuse leave an honest one's latency as it was",
    carry_out: |scale| Box::pin(beside(scale, Manner::Refusing)),
};

pub(super) const STALLING: Attack = Attack {
    name: "miners-stalling",
    promise: "miners that never answer leave an honest one's latency as it was",
    carry_out: |scale| Box::pin(beside(scale, Manner::Stalling)),
};

pub(super) const FLAPPING: Attack = Attack {
    name: "miners-flapping",
    promise: "miners that close each connection leave an honest one's latency as it was",
    carry_out: |scale| Box::pin(beside(scale, Manner::Flapping)),
};

pub(super) const HALF_CLOSING: Attack = Attack {
    name: "miners-half-closing",
    promise: "miners that end streams without an answer leave an honest one's latency as it was",
    carry_out: |scale| Box::pin(beside(scale, Manner::HalfClosing)),
};

pub(super) const TRICKLING: Attack = Attack {
    name: "miners-trickling",
    promise: "miners that answer a byte at a time leave an honest one's latency as it was",
    carry_out: |scale| Box::pin(beside(scale, Manner::Trickling)),
};

pub(super) const CERTIFIED: Attack = Attack {
    name: "miners-certified",
    promise: "miners with thousands of certificates and hundreds of session tickets cost the validator little",
    carry_out: |scale| Box::pin(certified(scale)),
};

/// How many there are of them.
const MANY: usize = 64;

/// What the slower one of two medians may be of the other, on a machine that both sides share.
const AS_IT_WAS: f64 = 3.0;
const NOISE: Duration = Duration::from_millis(1);
/// What one of a hundred answers may wait for the processors.
const NOISE_P99: Duration = Duration::from_millis(20);

/// Sixty-four that are silent beside an honest one, some of them at its own address.
async fn silent(scale: Scale) -> Result<Verdict, Failure> {
    let mut validator = Validator::start()?;
    let honest = Placed::start(0, Manner::Honest)?;
    let many = scale.of(MANY / 4, MANY);
    let others =
        (1..=many).map(|index| Placed::start(index, Manner::Silent)).collect::<Result<Vec<_>, _>>()?;
    let mut wanted: Vec<_> = others.iter().map(Placed::wanted).collect();
    // Hotkeys that say they are where the honest one is.
    wanted.extend((0..many).map(|n| (key(&format!("squatter {n}")).hotkey().to_string(), honest.miner.addr)));
    wanted.push(honest.wanted());
    validator.order(ValidatorOrder::Follow(wanted)).await?;
    let asked = ask(&mut validator, &honest, 1, 1).await?;
    let mut verdict = Verdict::default();
    verdict.hold(
        asked.answered == 1 && asked.elapsed < scale.time(Duration::from_secs(2)),
        format!(
            "beside {} silent hotkeys at {many} addresses and {many} at its own, the honest miner {}",
            2 * many,
            asked.words()
        ),
    );
    Ok(verdict)
}

/// Asks an honest miner alone, and then beside many others that are asked, too.
async fn beside(scale: Scale, manner: Manner) -> Result<Verdict, Failure> {
    let honest = Placed::start(0, Manner::Honest)?;
    let (many, count) = (scale.of(MANY / 4, MANY), scale.of(500, 3000));
    let others = (1..=many).map(|index| Placed::start(index, manner)).collect::<Result<Vec<_>, _>>()?;

    let mut validator = Validator::start()?;
    validator.order(ValidatorOrder::Follow(vec![honest.wanted()])).await?;
    ask(&mut validator, &honest, 100, 1).await?;
    let alone = ask(&mut validator, &honest, count, 1).await?;

    let wanted = others.iter().chain([&honest]).map(Placed::wanted).collect();
    validator.order(ValidatorOrder::Follow(wanted)).await?;
    let miners = others.iter().map(Placed::wanted).collect();
    validator.order(ValidatorOrder::Pester { miners, timeout: TIMEOUT }).await?;
    let meanwhile = ask(&mut validator, &honest, count, 1).await?;
    let mut verdict = Verdict::default();
    let (before, after) = (Times::of(alone.times), Times::of(meanwhile.times));
    let bound = before.quantile(0.5).mul_f64(AS_IT_WAS) + scale.time(NOISE);
    let worst = before.quantile(0.99).mul_f64(AS_IT_WAS) + scale.time(NOISE_P99);
    verdict.hold(
        meanwhile.answered == count && after.quantile(0.5) < bound && after.quantile(0.99) < worst,
        format!(
            "{} of {count} answered beside {many}: {after}; alone: {before}{}",
            meanwhile.answered,
            meanwhile.failure.map_or_else(String::new, |why| format!("; the others: {why}"))
        ),
    );
    let begun = others.iter().map(|other| other.miner.begun()).sum::<usize>();
    verdict.hold(
        begun >= many,
        format!(
            "{:.0} us of CPU a call, {begun} connections begun",
            meanwhile.usage.cpu.saturating_sub(alone.usage.cpu).as_secs_f64() * 1e6 / count as f64,
        ),
    );
    Ok(verdict)
}

/// What a dial to such a miner costs, beside one to a miner that behaves.
async fn certified(scale: Scale) -> Result<Verdict, Failure> {
    let count = scale.of(4, 16);
    let mut verdict = Verdict::default();
    let mut costs = Vec::new();
    for manner in [Manner::Honest, Manner::Certified] {
        let miners = (1..=count).map(|index| Placed::start(index, manner)).collect::<Result<Vec<_>, _>>()?;
        let mut validator = Validator::start()?;
        let before = validator.order(ValidatorOrder::Report).await?.usage.cpu;
        validator.order(ValidatorOrder::Follow(miners.iter().map(Placed::wanted).collect())).await?;
        for miner in &miners {
            // Answered, or refused at once.
            ask(&mut validator, miner, 1, 1).await?;
        }
        let spent = validator.order(ValidatorOrder::Report).await?.usage.cpu - before;
        costs.push(spent.as_secs_f64() * 1e3 / count as f64);
    }
    let (honest, hostile) = (costs[0], costs[1]);
    verdict.hold(
        hostile < 5.0 * honest + 10.0,
        format!("{hostile:.1} ms of CPU a miner, {honest:.1} for one that behaves"),
    );
    Ok(verdict)
}

async fn ask(
    validator: &mut Validator,
    miner: &Placed,
    count: usize,
    at_once: usize,
) -> Result<Asked, Failure> {
    let (hotkey, addr) = miner.wanted();
    validator.order(ValidatorOrder::Ask { hotkey, addr, count, at_once, timeout: TIMEOUT }).await
}
