//! Being many.

use std::time::{Duration, Instant};

use btlightning_testkit::by_hand::Visitor;
use quinn::{ConnectionError, Endpoint};
use tokio::task::JoinSet;

use super::{PATIENCE, connect, key, place, socket};
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const CROWD: Attack = Attack {
    name: "stranger-crowd",
    promise: "strangers are bounded in all and by address, and a validator gets in beside them",
    carry_out: |scale| Box::pin(crowd(scale)),
};

/// By default.
const IN_ALL: usize = 256;
const OF_EACH: usize = 16;

/// Of these, those for addresses that nobody has authenticated from.
const UNKNOWN: usize = IN_ALL - IN_ALL / 4;

/// How many addresses a crowd comes from that could fill all places.
const FEW: usize = IN_ALL / OF_EACH + 1;

/// What a validator may wait for its place while the attacker, the server and it share the processors.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Holds a permit.
const COMES_BACK: &str = "validator";

/// Strangers, by their addresses.
struct Crowd(Vec<(Endpoint, Vec<Visitor>)>);

impl Crowd {
    /// Tries `of_each` times from each of so many addresses, of which the first is the `from`-th. Hands out how often it
    /// was let in, too.
    async fn gather(
        victim: &Victim,
        from: usize,
        addresses: usize,
        of_each: usize,
    ) -> Result<(Self, usize), Failure> {
        let (mut crowd, mut let_in) = (Vec::new(), 0);
        for index in from..from + addresses {
            let endpoint = socket(index)?;
            let mut visitors = Vec::new();
            for _ in 0..of_each {
                match connect(endpoint.clone(), victim.addr).await? {
                    Ok(visitor) => visitors.push(visitor),
                    Err(ConnectionError::ConnectionClosed(_)) => {}
                    Err(other) => return Err(other.into()),
                }
            }
            let_in += visitors.len();
            crowd.push((endpoint, visitors));
        }
        Ok((Self(crowd), let_in))
    }

    /// How many of each address are still there.
    fn there(&self) -> Vec<usize> {
        let is_there = |visitor: &&Visitor| visitor.connection.close_reason().is_none();
        self.0.iter().map(|(_, visitors)| visitors.iter().filter(is_there).count()).collect()
    }
}

async fn crowd(scale: Scale) -> Result<Verdict, Failure> {
    // The defaults, but for the time that it takes to fill the places.
    let setup = || Setup {
        handshake_timeout_secs: Some(60),
        known_permitted: vec![key(COMES_BACK).hotkey().to_string()],
        ..Setup::default()
    };
    let mut verdict = Verdict::default();
    from_few_addresses(scale, Victim::start(setup()).await?, &mut verdict).await?;
    from_many_addresses(Victim::start(setup()).await?, &mut verdict).await?;
    Ok(verdict)
}

/// One more than it may have from each address, from one address more than there are places for.
async fn from_few_addresses(scale: Scale, mut victim: Victim, verdict: &mut Verdict) -> Result<(), Failure> {
    let (crowd, let_in) = Crowd::gather(&victim, 0, FEW, OF_EACH + 1).await?;
    let held = victim.becomes(PATIENCE, |report| report.strangers <= UNKNOWN).await?.strangers;
    let there = crowd.there();
    let (least, most) = (there.iter().min().unwrap_or(&0), there.iter().max().unwrap_or(&0));
    verdict.hold(
        held == UNKNOWN && most - least <= 2,
        format!(
            "{let_in} of {} let in from {FEW} addresses, {held} at once, {least} to {most} of an address",
            FEW * (OF_EACH + 1)
        ),
    );

    // Validators come from elsewhere while each address of the crowd tries again and again.
    let addr = victim.addr;
    let mut pushing = JoinSet::new();
    for (endpoint, mut visitors) in crowd.0 {
        pushing.spawn(async move {
            loop {
                if let Ok(Ok(visitor)) = connect(endpoint.clone(), addr).await {
                    visitors.push(visitor);
                }
                visitors.retain(|visitor| visitor.connection.close_reason().is_none());
                // sleeps: the pace of the attack, so that it is the places that are attacked and not the processors
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let rounds = scale.of(8, 64);
    let (mut validators, mut waited) = (Vec::new(), Duration::ZERO);
    for round in 0..rounds {
        let began = Instant::now();
        let validator = place(&socket(1000 + round)?, addr).await?;
        validator.authenticate(&key(&format!("validator {round}"))).await?;
        waited = waited.max(began.elapsed());
        validators.push(validator);
    }
    let strangers = victim.report().await?.strangers;
    verdict.hold(
        waited < WAIT_MAX && strangers <= IN_ALL,
        format!(
            "{rounds} validators in meanwhile, each within {:.0} ms, beside {strangers} strangers",
            waited.as_secs_f64() * 1e3
        ),
    );

    // Who leaves has no place any more.
    pushing.shutdown().await;
    let left = victim.becomes(PATIENCE, |report| report.strangers == 0).await?;
    verdict.hold(left.strangers == 0 && left.members == rounds, format!("{} places lost", left.strangers));
    Ok(())
}

/// One of each of more addresses than there are places.
async fn from_many_addresses(mut victim: Victim, verdict: &mut Verdict) -> Result<(), Failure> {
    let known = socket(2000)?;
    place(&known, victim.addr).await?.authenticate(&key(COMES_BACK)).await?;
    let (crowd, _) = Crowd::gather(&victim, 0, IN_ALL + 16, 1).await?;
    let held = victim.report().await?.strangers;
    let began = Instant::now();
    let back = place(&known, victim.addr).await?;
    back.authenticate(&key(COMES_BACK)).await?;
    let waited = began.elapsed();
    verdict.hold(
        held == UNKNOWN && waited < WAIT_MAX,
        format!(
            "{held} let in from {} addresses, and a validator who comes back within {:.0} ms",
            crowd.0.len(),
            waited.as_secs_f64() * 1e3
        ),
    );
    Ok(())
}
