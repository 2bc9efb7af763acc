//! One hotkey on many connections.

use super::validator;
use crate::run::Attack;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const SHARE: Attack = Attack {
    name: "hotkey-share",
    promise: "a hotkey holds four connections at once and no more; honest processes of one hotkey keep theirs",
    carry_out: |_| Box::pin(share()),
};

async fn share() -> Result<Verdict, Failure> {
    let mut victim = Victim::start(Setup::default()).await?;
    let mut connections = Vec::new();
    for index in 0..4 {
        connections.push(validator(&victim, index, "shared").await?);
    }
    let mut verdict = Verdict::default();
    let open = |visitor: &&btlightning_testkit::by_hand::Visitor| visitor.connection.close_reason().is_none();
    let together = connections.iter().filter(open).count();
    verdict.hold(together == 4, format!("{together} of 4 stay beside each other"));
    for index in 4..24 {
        connections.push(validator(&victim, index, "shared").await?);
    }
    let members = victim.report().await?.members;
    verdict.hold(members == 4, format!("{members} of {} in the end", connections.len()));
    Ok(verdict)
}
