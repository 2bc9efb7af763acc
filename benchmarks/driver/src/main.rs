//! The benchmark's driver, as a program: `cargo xtask bench` builds what it needs and calls it.

mod options;

use bench_driver::{
    machine, peer,
    report::{self, Target},
    results::Results,
    run::Run,
    systems::{Language, SYSTEMS, System},
};
use options::{Command, Measuring};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match options::parse(&args) {
        Ok(Command::Help) => {
            print!("{}", options::HELP);
            Ok(())
        }
        Ok(Command::Understand) => Ok(()),
        Ok(Command::Run(measuring)) => measure(&measuring),
        Ok(Command::Report { root, from, check }) => make_report(&root, from.as_deref(), check),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-driver: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where a whole run's results are, from the root.
const RESULTS: &str = "benchmarks/results/results.json";

fn measure(measuring: &Measuring) -> Result<(), String> {
    // Nothing is dropped then, and nobody is to stay behind.
    ctrlc::set_handler(|| {
        peer::kill_all();
        process::exit(130);
    })
    .map_err(|error| error.to_string())?;

    let systems = systems(measuring);
    let work_dir = measuring.root.join("target/bench");
    let run = Run {
        systems,
        works: measuring.works.clone(),
        effort: measuring.effort,
        quick: measuring.quick,
        date: measuring.date.clone().unwrap_or_else(machine::today),
        commit: machine::commit(&measuring.root),
        kept: Some(work_dir.join("so-far.json")),
    };
    let results = run.run();

    // A part of a run would make a report with holes of the one that is published.
    let published = measuring.out.is_none() && !measuring.is_partial();
    let dir = measuring.out.clone().unwrap_or_else(|| work_dir.join("results"));
    let path = if published { measuring.root.join(RESULTS) } else { dir.join("results.json") };
    results.write(&path).map_err(|error| error.to_string())?;
    let target = if published { Target::Repository(&measuring.root) } else { Target::Directory(&dir) };
    report::write(&results, target)?;
    println!("{}", report::summary(&results));
    println!("results: {}", path.display());
    Ok(())
}

/// The systems that are asked for, each with the way to start it, or the reason why there is none.
fn systems(measuring: &Measuring) -> Vec<System> {
    let lock = fs::read_to_string(measuring.root.join("benchmarks/Cargo.lock")).unwrap_or_default();
    let mut systems = Vec::new();
    for description in &SYSTEMS {
        let name = description.name;
        let left_out = measuring.no_python && description.language == Language::Python;
        if left_out || !(measuring.only.is_empty() || measuring.only.iter().any(|only| only == name)) {
            continue;
        }
        let of = |pairs: &[(String, String)]| {
            pairs.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone())
        };
        let mut system = match (description.language, of(&measuring.unavailable), of(&measuring.pythons)) {
            (_, Some(why), _) => System::new(description, Err(why)),
            (Language::Rust, None, _) => System::new(description, launch(&measuring.peer, &[])),
            (Language::Python, None, Some(interpreter)) => {
                let program = measuring.root.join("benchmarks/python/peer.py");
                let mut system = System::new(description, launch(Path::new(&interpreter), &[program]));
                system.learn_installed_version(description, Path::new(&interpreter));
                system
            }
            (Language::Python, None, None) => System::new(description, Err("no interpreter is given".into())),
        };
        if description.language == Language::Rust {
            system.learn_locked_version(description, &lock);
        }
        systems.push(system);
    }
    systems
}

fn launch(program: &Path, args: &[PathBuf]) -> Result<peer::Launch, String> {
    for needed in [program].into_iter().chain(args.iter().map(PathBuf::as_path)) {
        if !needed.exists() {
            return Err(format!("there is no {}", needed.display()));
        }
    }
    let args = args.iter().map(|arg| arg.clone().into_os_string()).collect();
    Ok(peer::Launch { program: program.to_owned(), args })
}

fn make_report(root: &Path, from: Option<&Path>, check: bool) -> Result<(), String> {
    let path = from.map_or_else(|| root.join(RESULTS), |dir| dir.join("results.json"));
    if check && !path.exists() {
        return report::check_nothing(root);
    }
    let results = Results::read(&path).map_err(|error| error.to_string())?;
    let target = from.map_or(Target::Repository(root), Target::Directory);
    if check {
        return report::check(&results, target);
    }
    for written in report::write(&results, target)? {
        println!("{}", written.display());
    }
    println!("{}", report::summary(&results));
    Ok(())
}
