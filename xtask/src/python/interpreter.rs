//! Which Python everything runs in.

use crate::Result;
use std::{env, ffi::OsString, path::PathBuf, process::Command};

/// The oldest Python that the package promises to run on (`requires-python`).
const OLDEST: (u32, u32) = (3, 10);

/// Names another interpreter than the one in `PATH`: `PYTHON=python3.13 cargo xtask python`.
const CHOICE: &str = "PYTHON";

/// Says who it is before it imports what may be missing.
const PROBE: &str = "\
import sys
print(sys.executable)
print(sys.implementation.cache_tag)
print(*sys.version_info[:2])
import ensurepip, venv
print('venv')
";

/// An interpreter that can make virtual environments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub(super) program: PathBuf,
    /// As in the names of wheels and of compiled files: `cpython-311`.
    pub(super) cache_tag: String,
}

impl Interpreter {
    /// The interpreter that the environment names, else `python3`, else `python`.
    ///
    /// # Errors
    /// If there is none, it is too old, or it has no `venv`.
    pub(super) fn find() -> Result<Self> {
        let names: Vec<OsString> = match env::var_os(CHOICE).filter(|chosen| !chosen.is_empty()) {
            Some(chosen) => vec![chosen],
            None => vec!["python3".into(), "python".into()],
        };
        let mut refused = Vec::new();
        for name in names {
            // From elsewhere than the root, which may have a file that is called like a module.
            let probe = Command::new(&name).args(["-I", "-c", PROBE]).output();
            let name = name.to_string_lossy();
            match probe {
                Err(error) => refused.push(format!("{name}: {error}")),
                Ok(output) => match Self::read(&String::from_utf8_lossy(&output.stdout)) {
                    Ok(found) => return Ok(found),
                    Err(why) => refused.push(format!("{name}: {why}")),
                },
            }
        }
        let (major, minor) = OLDEST;
        Err(format!(
            "no Python {major}.{minor} or later with venv and pip ({}); put one into PATH as python3, or name it: {CHOICE}=...",
            refused.join("; ")
        ))
    }

    fn read(probe: &str) -> Result<Self> {
        let mut lines = probe.lines();
        let (Some(program), Some(cache_tag), Some(version)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err("does not say what it is".into());
        };
        let numbers: Vec<u32> = version.split(' ').filter_map(|number| number.parse().ok()).collect();
        let &[major, minor] = &numbers[..] else {
            return Err(format!("has the version `{version}`"));
        };
        if (major, minor) < OLDEST {
            return Err(format!("is Python {major}.{minor}"));
        }
        if lines.next() != Some("venv") {
            return Err("cannot make virtual environments (on Debian: apt-get install python3-venv)".into());
        }
        Ok(Self { program: program.into(), cache_tag: cache_tag.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_new_enough_and_makes_environments() {
        let cases = [
            ("/usr/bin/python3\ncpython-310\n3 10\nvenv\n", Ok("/usr/bin/python3")),
            ("C:\\Python\\python.exe\r\ncpython-314\r\n3 14\r\nvenv\r\n", Ok("C:\\Python\\python.exe")),
            ("/usr/bin/python3\ncpython-39\n3 9\nvenv\n", Err("is Python 3.9")),
            ("/usr/bin/python\nNone\n2 7\n", Err("is Python 2.7")),
            ("/usr/bin/python3\ncpython-312\n3 12\n", Err("apt-get install python3-venv")),
            ("Python was not found\n", Err("does not say")),
            ("", Err("does not say")),
        ];
        for (probe, expected) in cases {
            match (Interpreter::read(probe), expected) {
                (Ok(found), Ok(program)) => assert_eq!(found.program, PathBuf::from(program)),
                (Err(why), Err(part)) => assert!(why.contains(part), "{probe}: {why}"),
                (found, _) => panic!("{probe}: {found:?}"),
            }
        }
    }
}
