//! Trying again and again to authenticate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use btlightning_testkit::by_hand::{self, Visitor, unix_secs};
use quinn::Endpoint;
use tokio::task::JoinSet;

use super::{connect, key, place, socket};
use crate::honest::{self, Honest};
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const LIMITER: Attack = Attack {
    name: "handshake-limit",
    promise: "an address has so many handshakes a minute, and each costs the same however many addresses have tried",
    carry_out: |scale| Box::pin(limiter(scale)),
};

pub(super) const GARBAGE: Attack = Attack {
    name: "handshake-garbage",
    promise: "garbage from an address does not lock out a permitted validator at the same address",
    carry_out: |scale| Box::pin(garbage(scale)),
};

pub(super) const FULL_TABLE: Attack = Attack {
    name: "handshake-table",
    promise: "filling the limiter's table from other addresses resets nobody's count",
    carry_out: |scale| Box::pin(full_table(scale)),
};

/// By default, of an address in a minute.
const OF_A_MINUTE: usize = 30;

/// Of one connection, before it is closed.
const OF_A_CONNECTION: usize = 8;

/// A cost is measured so often, and the least is what it is.
const ROUNDS: usize = 3;

/// A minute is long past by then, or an honest validator was locked out.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A hundred connections a second, on which there is nothing but garbage.
const GARBAGE_PACE: Duration = Duration::from_millis(10);

/// Many more strangers than by default, so that it is handshakes that an address is short of, and not places.
fn roomy() -> Setup {
    Setup {
        max_connections: Some(4096),
        max_unauthenticated_connections: Some(4096),
        max_unauthenticated_connections_per_ip: Some(1024),
        handshake_timeout_secs: Some(120),
        ..Setup::default()
    }
}

/// How many of `count` handshakes in a row from one address are accepted. Each is of another hotkey, and right.
async fn accepted_of(victim: &Victim, from: usize, count: usize) -> Result<usize, Failure> {
    let endpoint = socket(from)?;
    let mut accepted = 0;
    for attempt in 0..count {
        let visitor = place(&endpoint, victim.addr).await?;
        let name = format!("{from}-{attempt}");
        accepted += usize::from(visitor.authenticate(&key(&name)).await.is_ok());
    }
    Ok(accepted)
}

/// Tries `count` times, no more than a connection may, with signatures that are not those of the owner of `name`.
async fn try_garbage_on(visitor: &Visitor, name: &str, count: usize) -> Result<(), Failure> {
    for _ in 0..count {
        let (request, _) = visitor.opening(&key(name), unix_secs(), |request| {
            request.signature = request.signature.chars().rev().collect();
        })?;
        visitor.handshake(&request).await?;
    }
    Ok(())
}

/// Tries `count` times from one address, on as many connections as that takes.
async fn try_garbage(endpoint: Endpoint, addr: SocketAddr, name: &str, count: usize) -> Result<(), Failure> {
    for begun in (0..count).step_by(OF_A_CONNECTION) {
        let visitor = place(&endpoint, addr).await?;
        try_garbage_on(&visitor, name, OF_A_CONNECTION.min(count - begun)).await?;
    }
    Ok(())
}

async fn limiter(scale: Scale) -> Result<Verdict, Failure> {
    let mut victim = Victim::start(roomy()).await?;
    let mut verdict = Verdict::default();
    let tried = OF_A_MINUTE + 10;
    let began = Instant::now();
    let accepted = accepted_of(&victim, 0, tried).await?;
    // More in another minute, which it does not come to.
    let is_one_minute = began.elapsed() < Duration::from_secs(60);
    verdict.hold(
        accepted == OF_A_MINUTE && is_one_minute,
        format!("{accepted} of {tried} accepted from one address"),
    );

    // Attempts beyond the limit, which cost the limiter alone: first with few addresses known to it, then with many.
    let (attempts, others) = (scale.of(200, 1000), scale.of(200, 2000));
    let few = cpu_of(&mut victim, attempts).await?;
    for from in 1..=others {
        try_garbage(socket(from)?, victim.addr, "nobody", 1).await?;
    }
    let many = cpu_of(&mut victim, attempts).await?;
    verdict.hold(
        many < few * 1.5 + 20.0,
        format!("{few:.0} us of CPU an attempt, and {many:.0} us after {others} more addresses"),
    );
    Ok(verdict)
}

/// What an attempt from the first address costs the server, in microseconds of processor time. Its connections are there
/// before that.
async fn cpu_of(victim: &mut Victim, attempts: usize) -> Result<f64, Failure> {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        least = least.min(cpu_once(victim, attempts).await?);
    }
    Ok(least)
}

async fn cpu_once(victim: &mut Victim, attempts: usize) -> Result<f64, Failure> {
    let endpoint = socket(0)?;
    let mut visitors = Vec::new();
    for _ in 0..attempts / OF_A_CONNECTION {
        visitors.push(place(&endpoint, victim.addr).await?);
    }
    let before = victim.report().await?.usage.cpu;
    for visitor in &visitors {
        try_garbage_on(visitor, "nobody", OF_A_CONNECTION).await?;
    }
    let spent = victim.report().await?.usage.cpu - before;
    Ok(spent.as_secs_f64() * 1e6 / (visitors.len() * OF_A_CONNECTION) as f64)
}

async fn garbage(scale: Scale) -> Result<Verdict, Failure> {
    let honest = key(honest::NAME).hotkey().to_string();
    // With as few places for the strangers of an address as by default.
    let victim = Victim::start(Setup { permitted: Some(vec![honest]), ..Setup::default() }).await?;
    // From the address that the validator has, too.
    let addr = victim.addr;
    let here = || by_hand::socket(([127, 0, 0, 1], 0).into());
    let attempts = 20 * OF_A_MINUTE;
    try_garbage(here()?, addr, honest::NAME, attempts).await?;
    // And on and on, while it comes, on connections that stay for as long as they may.
    let endpoint = here()?;
    let mut trying = JoinSet::new();
    trying.spawn(async move {
        let mut kept = JoinSet::new();
        loop {
            let endpoint = endpoint.clone();
            kept.spawn(async move {
                let visitor = connect(endpoint, addr).await.ok()?.ok()?;
                try_garbage_on(&visitor, honest::NAME, OF_A_CONNECTION).await.ok()?;
                Some(visitor.connection.closed().await)
            });
            while kept.try_join_next().is_some() {}
            // sleeps: the pace of the attack, so that it is the places that are attacked and not the processors
            tokio::time::sleep(GARBAGE_PACE).await;
        }
    });
    // sleeps: until the attack would have all places
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, mut tries) = (Instant::now(), 1);
    let came_in = loop {
        let came_in = comes_in(&victim).await;
        if came_in.is_ok() || began.elapsed() > scale.time(WAIT_MAX) {
            break came_in;
        }
        tries += 1;
    };
    let waited = began.elapsed();
    let mut verdict = Verdict::default();
    let words = match &came_in {
        Ok(_) => format!("it is in at try {tries}, after {:.0} ms", waited.as_secs_f64() * 1e3),
        Err(failure) => failure.to_string(),
    };
    verdict.hold(
        came_in.is_ok() && waited < scale.time(WAIT_MAX) && trying.try_join_next().is_none(),
        format!("after {attempts} attempts in its name from its address, and amid more of them, {words}"),
    );
    Ok(verdict)
}

async fn comes_in(victim: &Victim) -> Result<Duration, Failure> {
    Honest::connect(victim).await?.ask().await
}

async fn full_table(scale: Scale) -> Result<Verdict, Failure> {
    let tracked = scale.of(64, 512);
    let victim = Victim::start(Setup { max_tracked_rate_ips: Some(tracked), ..roomy() }).await?;
    let began = Instant::now();
    let first = accepted_of(&victim, 0, 1).await?;
    try_garbage(socket(0)?, victim.addr, "nobody", 2 * OF_A_MINUTE).await?;
    let before = accepted_of(&victim, 0, 1).await?;
    for from in 1..=3 * tracked {
        try_garbage(socket(from)?, victim.addr, "nobody", 1).await?;
    }
    let after = accepted_of(&victim, 0, 1).await?;
    let mut verdict = Verdict::default();
    verdict.hold(first == 1 && before == 0, "an address is over its limit");
    verdict.hold(
        after == 0 && began.elapsed() < Duration::from_secs(60),
        format!("and still is after {} others, with room for {tracked}", 3 * tracked),
    );
    Ok(verdict)
}
