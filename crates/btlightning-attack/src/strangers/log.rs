//! Writing into the log of others.

use std::time::Instant;

use btlightning_testkit::by_hand::unix_secs;

use super::{key, place, socket};
use crate::run::Attack;
use crate::scale::Scale;
use crate::verdict::{Failure, Verdict};
use crate::victim::{Setup, Victim};

pub(super) const NOISE: Attack = Attack {
    name: "log-noise",
    promise: "strangers cause few log lines a second, all of them short and printable",
    carry_out: |scale| Box::pin(noise(scale)),
};

/// A line of the log that strangers cause.
const LINE_BYTES_MAX: usize = 512;

async fn noise(scale: Scale) -> Result<Verdict, Failure> {
    let mut victim = Victim::start(Setup::default()).await?;
    let before = victim.report().await?.log_lines;
    let began = Instant::now();
    let rounds = scale.of(200, 2000);
    for round in 0..rounds {
        let visitor = place(&socket(round % 64)?, victim.addr).await?;
        let (request, _) = visitor.opening(&key("nobody"), unix_secs(), |request| {
            request.validator_hotkey = format!("\u{1b}[2J\n{}", "A".repeat(1500));
        })?;
        visitor.handshake(&request).await?;
        let (request, _) = visitor.opening(&key("nobody"), 7, |_| {})?;
        visitor.handshake(&request).await?;
        visitor.connection.close(7u8.into(), "\u{1b}]0;owned\u{7}\r\n".repeat(20).as_bytes());
    }
    let took = began.elapsed().as_secs_f64();
    let report = victim.report().await?;
    let lines = report.log_lines - before;
    let mut verdict = Verdict::default();
    // Twenty in ten seconds of each kind, of which there are two here.
    verdict.hold(
        (lines as f64) <= 40.0 * (took / 10.0).ceil(),
        format!("{lines} lines after {} refusals in {took:.1} s", 2 * rounds),
    );
    verdict.hold(
        report.log_line_bytes_max <= LINE_BYTES_MAX && report.log_lines_unprintable == 0,
        format!(
            "the longest of {} bytes, {} of them unprintable",
            report.log_line_bytes_max, report.log_lines_unprintable
        ),
    );
    Ok(verdict)
}
