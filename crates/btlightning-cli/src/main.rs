//! The `btlightning` program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a program is for")]

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

/// Authenticated QUIC between Bittensor validators and miners.
#[derive(Parser)]
#[command(name = "btlightning", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print what the library logs, to standard error.
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole subnet on this machine and watch it work: a chain, miners that announce themselves on it, and validators
    /// that find them there, ask, stream, fan out, and survive what goes wrong.
    Demo(demo::DemoArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.verbose {
        let subscriber =
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::INFO);
        subscriber.init();
    }
    let done = match arguments.command {
        Command::Demo(arguments) => demo::run(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("btlightning: {error}");
            ExitCode::FAILURE
        }
    }
}
