//! The demo, step by step. A step prints what it has measured, and fails if what it shows does not hold.

mod chain;
mod miners;
mod queries;
mod start;

use std::net::IpAddr;

use tempfile::TempDir;

use super::miner::Miner;
use super::report::{Outcome, heading};
use super::subnet::Subnet;
use super::validator::Validator;
use super::words::Question;

/// Runs all of them, with so many miners, which listen at `ip`; with so many queries while a miner restarts.
pub(super) async fn run(miners: u16, queries: u32, ip: IpAddr, text: String) -> Outcome {
    let mut demo = Demo::start(miners, ip, text).await?;
    demo.ask_typed().await?;
    demo.ask_dynamic().await?;
    demo.stream().await?;
    demo.restart_a_miner(queries).await?;
    demo.fan_out().await?;
    demo.turn_away_an_impostor().await?;
    demo.move_a_miner().await?;
    demo.lose_the_chain().await?;
    demo.take_a_permit().await?;
    demo.close().await
}

/// A subnet in which everybody runs.
struct Demo {
    subnet: Subnet,
    /// The first one keeps its TLS key.
    miners: Vec<Miner>,
    /// Who asks, unless a step says otherwise.
    validator: Validator,
    other_validator: Validator,
    question: Question,
    /// Where the first miner's TLS key is.
    _keys: TempDir,
}

impl Demo {
    fn validators(&self) -> [&Validator; 2] {
        [&self.validator, &self.other_validator]
    }

    /// Closes everything in good order.
    async fn close(self) -> Outcome {
        heading("Close");
        for validator in self.validators() {
            validator.client.close_all_connections().await?;
        }
        for miner in self.miners {
            miner.stop().await?;
        }
        println!("   every connection was closed and every miner has stopped");
        Ok(())
    }
}
