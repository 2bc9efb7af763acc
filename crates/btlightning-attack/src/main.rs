//! Attacks on a running server and a running client, over loopback, and what becomes of them.
//!
//! Every attack has a victim of its own: a process that does what a miner or a validator does, and that says over a pipe
//! what it costs it. The attacker is this program; it knows no more than a stranger, or a peer, on the internet does.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal: printing is its purpose"
)]

mod flood;
mod honest;
mod known;
mod miners;
mod process;
mod report;
mod results;
mod run;
mod scale;
mod soak;
mod strangers;
mod verdict;
mod victim;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Attacks on a running server and a running client.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carries the attacks out and prints one line for each.
    Run {
        /// Fewer of everything: what can be shown within a minute or two.
        #[arg(long)]
        quick: bool,
        /// Only the attacks whose names contain one of these.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Where the figures go, as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Lists the attacks.
    List,
    /// Makes the tables of README.md and SECURITY.md of the results of the last full run.
    Report {
        /// The root of the checkout.
        #[arg(long, default_value = ".")]
        root: PathBuf,
        /// Changes nothing; fails if they are not what the results say.
        #[arg(long)]
        check: bool,
    },
    /// A server that is attacked: started by `run`, and told over its standard input what to do.
    #[command(hide = true)]
    VictimServer,
    /// A validator that is attacked, in the same way.
    #[command(hide = true)]
    VictimValidator,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { quick, only, json } => run::run(quick, &only, json.as_deref()),
        Command::List => {
            run::list();
            Ok(true)
        }
        Command::Report { root, check } => report::report(&root, check).map(|()| true),
        Command::VictimServer => victim::server::run().map(|()| true),
        Command::VictimValidator => victim::validator::run().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("btlightning-attack: {failure}");
            ExitCode::FAILURE
        }
    }
}
