//! `btlightning demo`: a whole subnet on loopback, over real sockets: a chain, miners and two validators, with everything
//! that the library does for them shown and checked step by step.

mod miner;
mod report;
mod steps;
mod subnet;
mod text;
mod validator;
mod words;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use self::report::Outcome;

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

/// Runs every step, or fails with what went wrong.
pub(crate) async fn run(arguments: DemoArguments) -> Outcome {
    run_at(loopback(), arguments).await
}

async fn run_at(ip: IpAddr, arguments: DemoArguments) -> Outcome {
    let text = match &arguments.text {
        None => text::BUILT_IN.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
    };
    println!(
        "A subnet on this machine: a chain, {} miners and two validators, {} bytes of text to work on\n",
        arguments.miners,
        text.len()
    );
    let began = Instant::now();
    steps::run(arguments.miners, arguments.queries, ip, text).await?;
    println!("\nEvery step held, within {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Where miners listen: the chain takes no axon at 127.0.0.1, but at any other loopback address, which macOS has not.
fn loopback() -> IpAddr {
    let other = IpAddr::from([127, 0, 0, 2]);
    match UdpSocket::bind((other, 0)) {
        Ok(_) => other,
        Err(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_step_holds_where_127_0_0_1_is_the_only_loopback_address() {
        let arguments = DemoArguments { miners: 1, queries: 1, text: None };
        run_at(Ipv4Addr::LOCALHOST.into(), arguments).await.unwrap();
    }
}
