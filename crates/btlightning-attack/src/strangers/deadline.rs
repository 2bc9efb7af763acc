//! Staying for long.

use std::time::{Duration, Instant};

use quinn::ConnectionError;
use tokio::time::timeout;

use super::{PATIENCE, close_reason, header, key, stranger};
use crate::run::Attack;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const DEADLINE: Attack = Attack {
    name: "stranger-deadline",
    promise: "an unauthenticated connection lives no longer than the handshake deadline, whatever it sends",
    carry_out: |_| Box::pin(deadline()),
};

/// The deadline that is set, and what a loaded machine may be late.
const DEADLINE_SECS: u64 = 2;
const LATE: Duration = Duration::from_millis(1500);

/// How many handshakes may fail on a connection.
const FAILURES_MAX: u64 = 8;

async fn deadline() -> Result<Verdict, Failure> {
    let setup = Setup { handshake_timeout_secs: Some(DEADLINE_SECS), ..Setup::default() };
    let victim = Victim::start(setup).await?;
    let began = Instant::now();
    let idle = stranger(&victim, 0).await?;
    let pinging = stranger(&victim, 1).await?;
    let halting = stranger(&victim, 2).await?;
    let trying = stranger(&victim, 3).await?;
    let failing = stranger(&victim, 4).await?;
    let flooding = stranger(&victim, 5).await?;

    // Something now and then, as keep-alives are; no more than a stranger may send.
    let ping = async {
        while let Ok((mut send, _)) = pinging.connection.open_bi().await {
            let _ = send.write_all(&[0]).await;
            let _ = send.reset(0u8.into());
            // sleeps: the pace of the attack
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // A header of which the last byte never comes.
    let halt = async {
        let (mut send, receive) = halting.connection.open_bi().await?;
        send.write_all(&header(1, 200)[..4]).await?;
        halting.connection.closed().await;
        drop((send, receive));
        Ok::<_, Failure>(())
    };
    // A handshake that fails, as often as that may be and spread over the time.
    let try_again = async {
        let (forged, _) = trying.opening(&key("nobody"), 0, |_| {})?;
        for _ in 0..FAILURES_MAX {
            trying.handshake(&forged).await?;
            // sleeps: the pace of the attack
            tokio::time::sleep(Duration::from_secs(DEADLINE_SECS).mul_f64(0.1)).await;
        }
        trying.connection.closed().await;
        Ok::<_, Failure>(())
    };
    // The same, again and again.
    let fail = async {
        let (forged, _) = failing.opening(&key("nobody"), 0, |_| {})?;
        while failing.handshake(&forged).await.is_ok() {}
        Ok::<_, Failure>(())
    };
    // What no handshake is, until nobody listens.
    let flood = async { while flooding.exchange(&header(3, 0)).await.is_ok() {} };
    let all = async { tokio::join!(ping, halt, try_again, fail, flood, idle.connection.closed()) };
    let ended = timeout(PATIENCE, all).await;
    let lasted = began.elapsed();
    let mut verdict = Verdict::default();
    let mut reasons = Vec::new();
    for (name, visitor, expected) in [
        ("idle", idle, "handshake_timeout"),
        ("pinging", pinging, "handshake_timeout"),
        ("halting", halting, "handshake_timeout"),
        ("trying again", trying, "handshake_timeout"),
        ("failing", failing, "too_many_handshakes"),
        ("flooding", flooding, "stranger_allowance"),
    ] {
        let reason = visitor.connection.close_reason().as_ref().map_or_else(|| "open".into(), close_reason);
        reasons.push(name);
        // Who sends on when it was told is told that nobody knows it.
        let is_forgotten = name == "flooding" && reason == ConnectionError::Reset.to_string();
        if reason != expected && !is_forgotten {
            verdict.hold(false, format!("{name}: {reason}, and not {expected}"));
        }
    }
    verdict.hold(
        ended.is_ok() && lasted < Duration::from_secs(DEADLINE_SECS) + LATE,
        format!(
            "{}: all closed after {:.2} s of {DEADLINE_SECS} s",
            reasons.join(", "),
            lasted.as_secs_f64()
        ),
    );
    Ok(verdict)
}
