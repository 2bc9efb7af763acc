//! `btlightning demo`: miners and a validator on loopback, over real sockets, with everything that the transport does
//! for them shown step by step.

mod miner;
mod steps;
mod text;
mod words;

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use self::miner::Miner;
use self::steps::Demo;

/// The most miners that a demo starts.
const MINERS_MAX: u16 = 256;

#[derive(Args)]
pub(crate) struct DemoArguments {
    /// How many miners to start.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=i64::from(MINERS_MAX)))]
    miners: u16,
    /// How many queries are asked while a miner restarts.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queries: u32,
    /// A text for the miners to work on, instead of the one that is built in.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Runs every step, or fails with what went wrong.
pub(crate) async fn run(arguments: DemoArguments) -> Outcome {
    let text = match &arguments.text {
        None => text::BUILT_IN.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
    };
    println!(
        "{} miners and a validator on this machine, {} bytes of text to work on\n",
        arguments.miners,
        text.len()
    );

    let mut miners = Vec::new();
    for _ in 0..arguments.miners {
        miners.push(Miner::start(miner::fresh_seed()?, 0).await?);
    }
    let mut demo = Demo::connect(miners, text).await?;
    demo.ask_typed().await?;
    demo.ask_dynamic().await?;
    demo.stream().await?;
    demo.restart_a_miner(arguments.queries).await?;
    demo.fan_out().await?;
    demo.turn_away_an_impostor().await?;
    demo.close().await
}
