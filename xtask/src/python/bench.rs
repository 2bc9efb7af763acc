//! The environments that the benchmark's systems in Python run in, under `target/bench`.

use super::{
    Places, published,
    venv::Venv,
    wheel::{self, Profile},
};
use crate::Result;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// An environment, and the systems that run in it.
pub(crate) struct Environment {
    pub(crate) systems: &'static [&'static str],
    /// The interpreter that has what they need, or why there is none.
    pub(crate) interpreter: Result<PathBuf>,
}

type Make = fn(&Places, &Path, &Path) -> Result<Venv>;

/// Systems, the name of their environment and of their requirements, and how it is made.
const ENVIRONMENTS: [(&[&str], &str, Make); 4] = [
    (&["py-ours", "py-ours-async"], "ours", ours),
    (&["py-published"], "published", published),
    (&["py-bittensor"], "bittensor", from_index),
    (&["py-grpcio"], "grpcio", from_index),
];

/// Prepares the environments of the wanted systems. One that cannot be had says why, and the others are there.
pub(crate) fn bench_environments(root: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Vec<Environment> {
    let places = Places::new(root);
    let wanted = ENVIRONMENTS.iter().filter(|(systems, ..)| systems.iter().any(|system| is_wanted(system)));
    let prepare = |(systems, name, make): &(&'static [&'static str], &str, Make)| {
        let requirements = root.join(format!("benchmarks/python/requirements-{name}.txt"));
        let venv = make(&places, &places.target.join("bench").join(name), &requirements);
        Environment { systems, interpreter: venv.map(|venv| venv.program()) }
    };
    wanted.map(prepare).collect()
}

/// The wheel of the checkout, as it is released.
fn ours(places: &Places, dir: &Path, requirements: &Path) -> Result<Venv> {
    let wheel = wheel::build(places, &places.build_venv()?, Profile::Release)?;
    let venv = Venv::kept(dir, requirements, &[])?;
    venv.install_wheel(&wheel)?;
    Ok(venv)
}

/// The published package, built for speed where there is no wheel of it.
fn published(places: &Places, dir: &Path, requirements: &Path) -> Result<Venv> {
    let wheels = published::wheels(places, &places.build_venv()?, Profile::Release)?;
    Venv::kept(dir, requirements, &[OsStr::new("--find-links"), wheels.as_os_str()])
}

fn from_index(_: &Places, dir: &Path, requirements: &Path) -> Result<Venv> {
    Venv::kept(dir, requirements, &[])
}
