//! Virtual environments.

use super::{in_path, interpreter::Interpreter, remove, run};
use crate::Result;
use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// In the environment's directory: what it was made of. Written last, so that a half-made one is made again.
const STAMP: &str = "made-of.txt";

const FOREIGN: [&str; 4] = ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"];

pub(super) struct Venv {
    dir: PathBuf,
}

impl Venv {
    /// A new environment with nothing but pip, in place of whatever is there.
    pub(super) fn fresh(dir: &Path) -> Result<Self> {
        Self::made_by(&Interpreter::find()?, dir)
    }

    /// A new environment with what `requirements` lists, installed with these options of pip.
    pub(super) fn fresh_with(dir: &Path, requirements: &Path, options: &[&OsStr]) -> Result<Self> {
        let interpreter = Interpreter::find()?;
        let made_of = made_of(&interpreter, dir, requirements)?;
        let venv = Self::made_by(&interpreter, dir)?;
        venv.pip_install(&[options, &["--requirement".as_ref(), requirements.as_os_str()]].concat())?;
        fs::write(dir.join(STAMP), made_of).map_err(in_path(dir))?;
        Ok(venv)
    }

    /// The environment with what `requirements` lists, as it is if it was made of the same.
    pub(super) fn kept(dir: &Path, requirements: &Path, options: &[&OsStr]) -> Result<Self> {
        let wanted = made_of(&Interpreter::find()?, dir, requirements)?;
        match fs::read_to_string(dir.join(STAMP)) {
            Ok(there) if there == wanted => Ok(Self { dir: dir.into() }),
            _ => Self::fresh_with(dir, requirements, options),
        }
    }

    fn made_by(interpreter: &Interpreter, dir: &Path) -> Result<Self> {
        remove(dir)?;
        run(clean(&mut Command::new(&interpreter.program)).args(["-m", "venv"]).arg(dir))?;
        Ok(Self { dir: dir.into() })
    }

    fn programs(&self) -> PathBuf {
        self.dir.join(if cfg!(windows) { "Scripts" } else { "bin" })
    }

    pub(super) fn program(&self) -> PathBuf {
        self.programs().join(if cfg!(windows) { "python.exe" } else { "python" })
    }

    /// The environment's interpreter, to be given arguments. It finds the environment's other programs as well.
    pub(super) fn python(&self) -> Command {
        let mut command = Command::new(self.program());
        let others = env::var_os("PATH").unwrap_or_default();
        // Joining fails only if a directory has a separator in its name; then there is nothing to find by this way.
        if let Ok(path) = env::join_paths([self.programs()].into_iter().chain(env::split_paths(&others))) {
            command.env("PATH", path);
        }
        clean(&mut command);
        command
    }

    pub(super) fn pip_install(&self, args: &[&OsStr]) -> Result<()> {
        run(self.python().args(["-m", "pip", "install", "--quiet", "--no-input"]).args(args))
    }

    /// Installs a wheel of ours, by itself: it has no dependencies. One of the same version is replaced.
    pub(super) fn install_wheel(&self, wheel: &Path) -> Result<()> {
        self.pip_install(&["--no-index".as_ref(), "--force-reinstall".as_ref(), wheel.as_os_str()])
    }
}

/// Frees an interpreter from what the environment around us would change about it.
fn clean(command: &mut Command) -> &mut Command {
    for name in FOREIGN {
        command.env_remove(name);
    }
    crate::forget_our_package(command);
    // The checkout is read, not written to.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
}

/// An environment knows where it is, so that one that was moved is made again.
fn made_of(interpreter: &Interpreter, dir: &Path, requirements: &Path) -> Result<String> {
    let listed = fs::read_to_string(requirements).map_err(in_path(requirements))?;
    let (program, tag) = (interpreter.program.display(), &interpreter.cache_tag);
    Ok(format!("{}\n{program} {tag}\n{listed}", dir.display()))
}
