//! One of the systems that the benchmark compares, as a process that takes orders on standard input and answers on
//! standard output: `peer --system NAME --role server|client|both`. See `benchmarks/README.md`.

mod distance;
mod keys;
mod measure;
mod peer;
mod place;
mod process;
mod protocol;
mod system;
mod systems;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use distance::Distance;
use peer::Role;
use place::Threads;
use systems::grpc::Grpc;
use systems::quinn::Quinn;
use systems::typed::Typed;
use systems::{on_ours, on_published};

const USAGE: &str = "usage: peer --system NAME --role server|client|both [--servers N] [--distance here|far]
systems: ours-dynamic, ours-async, ours-typed, ours-typed-local, published, published-async, quinn, quinn-split,
         quinn-called, quinn-server-thread, grpc";

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::from(2)
        }
    }
}

fn complain(why: &anyhow::Error) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "peer: {why:#}");
}

struct Arguments {
    system: String,
    role: Role,
    distance: Distance,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut system, mut role, mut servers, mut distance) = (None, None, 1, Distance::Here);
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} without a value\n{USAGE}"))?;
            match word.as_str() {
                "--system" => system = Some(value),
                "--role" => role = Some(value),
                "--servers" => servers = value.parse().context("--servers")?,
                "--distance" => {
                    distance = match value.as_str() {
                        "here" => Distance::Here,
                        "far" => Distance::Far,
                        _ => bail!("--distance must be here or far\n{USAGE}"),
                    };
                }
                _ => bail!("{word} is not known\n{USAGE}"),
            }
        }
        ensure!(servers > 0, "--servers must be at least 1");
        let role = match role.as_deref() {
            Some("server") => Role::Server(servers),
            Some("client") => Role::Client,
            Some("both") => Role::Both(servers),
            _ => bail!("--role must be server, client or both\n{USAGE}"),
        };
        let system = system.with_context(|| format!("--system is missing\n{USAGE}"))?;
        Ok(Self { system, role, distance })
    }
}

fn run(Arguments { system, role, distance }: Arguments) -> Result<()> {
    match system.as_str() {
        "ours-dynamic" => peer::run(on_ours::dynamic::Dynamic { async_handler: false, distance }, role),
        "ours-async" => peer::run(on_ours::dynamic::Dynamic { async_handler: true, distance }, role),
        "published" => peer::run(on_published::dynamic::Dynamic { async_handler: false, distance }, role),
        "published-async" => {
            peer::run(on_published::dynamic::Dynamic { async_handler: true, distance }, role)
        }
        "ours-typed" => peer::run(Typed { client: Threads::Multi, distance }, role),
        "ours-typed-local" => peer::run(Typed { client: Threads::Own, distance }, role),
        "quinn" => peer::run(Quinn::shared(distance)?, role),
        "quinn-split" => peer::run(Quinn::split(distance)?, role),
        "quinn-called" => peer::run(Quinn::called(distance)?, role),
        "quinn-server-thread" => peer::run(Quinn::server_thread(distance)?, role),
        "grpc" => peer::run(Grpc::new()?, role),
        _ => bail!("there is no system {system}\n{USAGE}"),
    }
}
