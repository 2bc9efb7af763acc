//! `cargo xtask wheel`: the wheel and the sdist, built, and checked by doing what somebody who installs them does.

use super::{Places, in_path, only_file, run, venv::Venv};
use crate::Result;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// As `cargo test` builds, whose artifacts it shares.
    Dev,
    Release,
}

impl Profile {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    profile: Profile,
    /// Where the wheel and the sdist go once they have passed every check.
    out: Option<PathBuf>,
}

/// Builds both, checks both, and only then puts them where they are asked for.
pub(crate) fn wheel(root: &Path, args: &[&str]) -> Result<()> {
    let options = options(args)?;
    let places = Places::new(root);
    let tools = places.build_venv()?;
    let wheel = build(&places, &tools, options.profile)?;
    let sdist = SourceDistribution::build(&places, &tools)?;
    let from_sdist = sdist.build_wheel(&places, &tools)?;
    check(&places, &wheel, &sdist.archive, &from_sdist)?;

    let profile = options.profile.name();
    let out = options.out.map_or_else(|| places.built(&format!("dist-{profile}")), |out| root.join(out));
    fs::create_dir_all(&out).map_err(in_path(&out))?;
    for file in [&wheel, &sdist.archive] {
        let to = out.join(file.file_name().unwrap_or_default());
        let bytes = fs::copy(file, &to).map_err(in_path(&to))?;
        println!("{} ({profile}, {} kB)", to.display(), bytes / 1000);
    }
    Ok(())
}

fn options(args: &[&str]) -> Result<Options> {
    let mut options = Options { profile: Profile::Release, out: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--release" => options.profile = Profile::Release,
            "--dev" => options.profile = Profile::Dev,
            "--out" => options.out = Some(args.next().ok_or("--out wants a directory")?.into()),
            _ => return Err(format!("cargo xtask wheel [--release|--dev] [--out DIR]; what is {arg}?")),
        }
    }
    Ok(options)
}

/// Builds the wheel of the checkout. It is in a directory of its own.
pub(super) fn build(places: &Places, tools: &Venv, profile: Profile) -> Result<PathBuf> {
    let out = places.emptied(&format!("wheel-{}", profile.name()))?;
    let mut maturin = maturin(places, tools, "build");
    maturin.args(["--locked", "--profile", profile.name(), "--interpreter"]).arg(tools.program());
    if profile == Profile::Release {
        maturin.arg("--strip");
    }
    run(maturin.arg("--out").arg(&out))?;
    only_file(&out, ".whl")
}

fn maturin(places: &Places, tools: &Venv, command: &str) -> Command {
    let mut maturin = tools.python();
    maturin.args(["-m", "maturin", command, "--manifest-path"]).arg(places.package().join("Cargo.toml"));
    maturin.current_dir(&places.root);
    maturin
}

struct SourceDistribution {
    archive: PathBuf,
    /// What is in the archive.
    unpacked: PathBuf,
}

impl SourceDistribution {
    /// Has maturin pack it, and then trims its `Cargo.lock`, without which `--locked` would refuse to build it.
    fn build(places: &Places, tools: &Venv) -> Result<Self> {
        let out = places.emptied("sdist")?;
        run(maturin(places, tools, "sdist").arg("--out").arg(&out))?;
        let archive = only_file(&out, ".tar.gz")?;
        run(tools.python().arg(places.tools().join("trim_sdist.py")).arg(&archive))?;
        let stem = archive.to_string_lossy().trim_end_matches(".tar.gz").to_owned();
        Ok(Self { archive, unpacked: stem.into() })
    }

    /// The wheel that pip builds of it, not optimized: that it can be built is what is to be known.
    ///
    /// Cargo has a directory of its own for it. In the checkout's, it would take the sdist's crates for the checkout's:
    /// they have the same names, at the same places in their workspaces.
    fn build_wheel(&self, places: &Places, tools: &Venv) -> Result<PathBuf> {
        let out = places.emptied("wheel-of-sdist")?;
        let mut pip = tools.python();
        pip.args(["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir"]);
        let plain = r#"--config 'profile.dev.package."*".opt-level=0' --config profile.dev.debug=false"#;
        pip.env("MATURIN_PEP517_ARGS", format!("--locked --profile dev {plain}"));
        pip.env("CARGO_TARGET_DIR", places.built("sdist-build"));
        run(pip.args(["--verbose", "--wheel-dir"]).arg(&out).arg(&self.unpacked))?;
        only_file(&out, ".whl")
    }
}

/// Installs the wheel where there is nothing else, and looks at everything that was built.
fn check(places: &Places, wheel: &Path, sdist: &Path, from_sdist: &Path) -> Result<()> {
    let venv = Venv::fresh(&places.built("check-venv"))?;
    venv.install_wheel(wheel)?;
    // Nothing but the package: what it needs besides Python would be missing now.
    let nowhere = places.emptied("nowhere")?;
    run(venv.python().arg(places.tests().join("smoke.py")).current_dir(&nowhere))?;
    let pinned = places.test_requirements();
    venv.pip_install(&[
        "--constraint".as_ref(),
        pinned.as_os_str(),
        "pytest".as_ref(),
        "pytest-timeout".as_ref(),
    ])?;
    run(venv.python().args(["-m", "pip", "check"]))?;
    let mut pytest = places.pytest(&venv, wheel);
    pytest.env("BTLIGHTNING_SDIST", sdist).env("BTLIGHTNING_WHEEL_OF_SDIST", from_sdist);
    run(pytest.arg(places.tests().join("test_package.py")).arg(places.tools()).current_dir(&nowhere))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_built_unless_it_is_asked_otherwise() {
        let case = |args: &[&str]| options(args).map(|options| (options.profile, options.out));
        assert_eq!(case(&[]), Ok((Profile::Release, None)));
        assert_eq!(case(&["--dev"]), Ok((Profile::Dev, None)));
        assert_eq!(case(&["--out", "dist", "--release"]), Ok((Profile::Release, Some("dist".into()))));
        for wrong in [&["--out"][..], &["--debug"], &["dist"]] {
            assert!(case(wrong).is_err(), "{wrong:?}");
        }
    }
}
