//! Python: the wheel and the sdist, built and checked, and the test suite that runs against the wheel.
//!
//! Everything happens in virtual environments under `target/python`, which pip fills from the index that it is
//! configured for (`PIP_INDEX_URL` and the like are passed on). Nothing is installed anywhere else.

mod bench;
mod interpreter;
mod published;
mod suite;
mod venv;
mod wheel;

pub(crate) use bench::bench_environments;
pub(crate) use suite::{interop, lint, test, types};
pub(crate) use wheel::wheel;

use crate::{Result, steps};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use venv::Venv;

/// Where things are, in the checkout and under `target`.
struct Places {
    root: PathBuf,
    target: PathBuf,
}

impl Places {
    fn new(root: &Path) -> Self {
        Self { root: root.into(), target: steps::target_dir(root) }
    }

    /// The crate of the extension module, which is the Python project.
    fn package(&self) -> PathBuf {
        self.root.join("crates/btlightning-py")
    }

    fn tests(&self) -> PathBuf {
        self.package().join("tests")
    }

    /// Pinned versions of what tests need.
    fn test_requirements(&self) -> PathBuf {
        self.tests().join("requirements.txt")
    }

    /// Python programs of ours that build and check.
    fn tools(&self) -> PathBuf {
        self.root.join("xtask/python")
    }

    /// Something that is built.
    fn built(&self, name: &str) -> PathBuf {
        self.target.join("python").join(name)
    }

    /// A directory with nothing in it, whatever was there before.
    fn emptied(&self, name: &str) -> Result<PathBuf> {
        let dir = self.built(name);
        remove(&dir)?;
        fs::create_dir_all(&dir).map_err(in_path(&dir))?;
        Ok(dir)
    }

    /// The environment that builds and lints, with pinned tools. Kept from one run to the next.
    fn build_venv(&self) -> Result<Venv> {
        Venv::kept(&self.built("build-venv"), &self.tools().join("requirements.txt"), &[])
    }

    /// pytest with the project's configuration, told what is tested: the package that is installed, not the checkout's.
    fn pytest(&self, venv: &Venv, wheel: &Path) -> Command {
        let mut pytest = venv.python();
        pytest.args(["-m", "pytest", "--config-file"]).arg(self.package().join("pyproject.toml"));
        pytest.env("BTLIGHTNING_WHEEL", wheel).env("BTLIGHTNING_VERSION", env!("CARGO_PKG_VERSION"));
        // Else the directory it is started from would be the first place to import from.
        pytest.env("PYTHONSAFEPATH", "1");
        pytest
    }
}

/// An error that says where.
fn in_path(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if dir.exists() => Err(in_path(dir)(error)),
        _ => Ok(()),
    }
}

/// Runs a command to its end, having said which.
fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    println!("$ {line}");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}: {line}")),
        Err(error) => Err(format!("cannot start {line}: {error}")),
    }
}

fn line_of(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The one file in `dir` whose name ends in `suffix`.
fn only_file(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(in_path(dir))? {
        let path = entry.map_err(in_path(dir))?.path();
        if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    match &found[..] {
        [path] => Ok(path.clone()),
        _ => Err(format!("{} files that end in {suffix} in {}, not one", found.len(), dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_only_if_it_is_the_only_one() {
        let places = Places::new(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        let dir = places.emptied("xtask-tests").unwrap();
        assert!(only_file(&dir, ".whl").is_err());
        fs::write(dir.join("a.whl"), "").unwrap();
        fs::write(dir.join("a.tar.gz"), "").unwrap();
        assert_eq!(only_file(&dir, ".whl"), Ok(dir.join("a.whl")));
        fs::write(dir.join("b.whl"), "").unwrap();
        assert!(only_file(&dir, ".whl").is_err());
        remove(&dir).unwrap();
        remove(&dir).unwrap();
    }
}
