//! Taking the places of others with hotkeys that cost nothing.

use super::{key, place, socket};
use crate::honest::{self, Honest};
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const THROW_AWAY_HOTKEYS: Attack = Attack {
    name: "throw-away-hotkeys",
    promise: "hotkeys made for the purpose cannot keep out a validator that holds a permit",
    carry_out: |scale| Box::pin(throw_away(scale)),
};

pub(super) const UNPERMITTED_HOTKEYS: Attack = Attack {
    name: "unpermitted-hotkeys",
    promise: "where a permit is required, hotkeys without one never hold a place",
    carry_out: |_| Box::pin(unpermitted()),
};

/// By default.
const PLACES: usize = 128;

/// Authenticates with new hotkeys from ever new addresses, and hands out the connections.
async fn crowd_in(
    victim: &Victim,
    count: usize,
) -> Result<Vec<btlightning_testkit::by_hand::Visitor>, Failure> {
    let mut inside = Vec::new();
    for index in 0..count {
        let visitor = place(&socket(index / 16)?, victim.addr).await?;
        if visitor.authenticate(&key(&format!("throw-away {index}"))).await.is_ok() {
            inside.push(visitor);
        }
    }
    Ok(inside)
}

async fn throw_away(scale: Scale) -> Result<Verdict, Failure> {
    let known = vec![key(honest::NAME).hotkey().to_string()];
    let mut victim = Victim::start(Setup { known_permitted: known, ..Setup::default() }).await?;
    let inside = crowd_in(&victim, scale.of(PLACES + 32, 4 * PLACES)).await?;
    let members = victim.report().await?.members;
    let mut verdict = Verdict::default();
    verdict.hold(
        inside.len() >= PLACES && members == PLACES,
        format!("{} of them let in, {members} at once", inside.len()),
    );
    let honest = Honest::connect(&victim).await?;
    let asked = honest.ask().await;
    let words = asked.as_ref().map_or_else(ToString::to_string, |_| "is answered".to_owned());
    verdict.hold(asked.is_ok(), format!("a validator that holds a permit: {words}"));
    // They come again, and it stays.
    let more = crowd_in(&victim, PLACES).await?;
    let stays = honest.ask().await;
    let members = victim.report().await?.members;
    verdict.hold(
        stays.is_ok() && !more.is_empty() && members == PLACES,
        format!("it stays while {} more are let in, {members} at once with it", more.len()),
    );
    Ok(verdict)
}

async fn unpermitted() -> Result<Verdict, Failure> {
    let permitted = vec![key(honest::NAME).hotkey().to_string()];
    let mut victim = Victim::start(Setup { permitted: Some(permitted), ..Setup::default() }).await?;
    let inside = crowd_in(&victim, 2 * PLACES).await?;
    let members = victim.report().await?.members;
    let mut verdict = Verdict::default();
    verdict.hold(inside.is_empty() && members == 0, format!("{} of {} let in", inside.len(), 2 * PLACES));
    let asked = Honest::connect(&victim).await?.ask().await;
    verdict.hold(asked.is_ok(), "who holds a permit is answered");
    Ok(verdict)
}
