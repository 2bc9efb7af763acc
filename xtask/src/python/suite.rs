//! The test suite, against the wheel as it would be installed.

use super::{Places, published, run, venv::Venv, wheel};
use crate::{Result, cargo};
use std::path::{Path, PathBuf};

/// The tests against the published package: they want a peer, and have a step of their own.
const INTEROP: &str = "test_interop_published.py";

/// Every test but the interop, in an environment that is made for it; or what `args` selects, as pytest reads them.
pub(crate) fn test(root: &Path, args: &[&str]) -> Result<()> {
    let places = Places::new(root);
    let suite = Suite::fresh(&places)?;
    let tests = places.tests();
    let mut pytest = places.pytest(&suite.venv, &suite.wheel);
    pytest.env("BTLIGHTNING_CHAIN", chain(&places)?);
    // The official SDK says whether the in-memory chain is like the real one.
    let referee = places.root.join("crates/btlightning-testkit/referee");
    pytest.arg(&tests).arg("--ignore").arg(tests.join(INTEROP)).arg(&referee).args(args);
    run(pytest.current_dir(places.emptied("nowhere")?))
}

/// The in-memory chain that some tests start: an example of the testkit.
fn chain(places: &Places) -> Result<PathBuf> {
    let mut build = cargo();
    // With the features of the whole workspace, as the tests before have built it.
    build.args(["build", "--workspace", "--example", "chain", "--locked"]);
    build.args(["--features", "btlightning/subtensor,btlightning-testkit/chain"]);
    run(build.current_dir(&places.root))?;
    Ok(places.target.join("debug/examples").join(format!("chain{}", std::env::consts::EXE_SUFFIX)))
}

/// Ours against the published package.
pub(crate) fn interop(root: &Path, args: &[&str]) -> Result<()> {
    let places = Places::new(root);
    let suite = Suite::current(&places)?;
    let published = published::venv(&places, &places.build_venv()?)?;
    let mut pytest = places.pytest(&suite.venv, &suite.wheel);
    pytest.env("BTLIGHTNING_PUBLISHED_PYTHON", published.program());
    run(pytest.arg(places.tests().join(INTEROP)).args(args).current_dir(places.emptied("nowhere")?))
}

/// The annotations: that they hold, that they are complete, and that those of the extension module say what it has.
pub(crate) fn types(root: &Path) -> Result<()> {
    let places = Places::new(root);
    let suite = Suite::current(&places)?;
    let nowhere = places.emptied("nowhere")?;
    let config = places.package().join("pyproject.toml");

    let mut mypy = suite.venv.python();
    mypy.args(["-m", "mypy", "--strict", "--config-file"]).arg(&config);
    mypy.arg("--cache-dir").arg(places.built("mypy-cache"));
    run(mypy
        .arg(places.package().join("python/btlightning"))
        .args([places.tests(), places.tools()])
        .current_dir(&nowhere))?;

    let mut stubtest = suite.venv.python();
    stubtest.args(["-m", "mypy.stubtest", "btlightning", "--mypy-config-file"]).arg(&config);
    stubtest.arg("--allowlist").arg(places.tools().join("stubtest-allowlist.txt"));
    run(stubtest.current_dir(&nowhere))
}

/// Ruff's rules and its formatter, over all Python files of the project.
pub(crate) fn lint(root: &Path, fix: bool) -> Result<()> {
    let places = Places::new(root);
    let tools = places.build_venv()?;
    let ruff = |args: &[&str]| {
        let mut ruff = tools.python();
        ruff.args(["-m", "ruff"]).args(args).arg("--cache-dir").arg(places.built("ruff-cache"));
        run(ruff.arg(".").current_dir(root))
    };
    let (check, format): (&[&str], &[&str]) =
        if fix { (&["check", "--fix"], &["format"]) } else { (&["check"], &["format", "--check", "--diff"]) };
    ruff(check)?;
    ruff(format)
}

/// The environment that the suite runs in.
struct Suite {
    venv: Venv,
    wheel: PathBuf,
}

impl Suite {
    const NAME: &str = "test-venv";

    fn fresh(places: &Places) -> Result<Self> {
        let wheel = wheel::build(places, &places.build_venv()?, wheel::Profile::Dev)?;
        let venv = Venv::fresh_with(&places.built(Self::NAME), &places.test_requirements(), &[])?;
        venv.install_wheel(&wheel)?;
        run(venv.python().args(["-m", "pip", "check"]))?;
        Ok(Self { venv, wheel })
    }

    /// The environment of the last run with the wheel of now.
    fn current(places: &Places) -> Result<Self> {
        let wheel = wheel::build(places, &places.build_venv()?, wheel::Profile::Dev)?;
        let venv = Venv::kept(&places.built(Self::NAME), &places.test_requirements(), &[])?;
        venv.install_wheel(&wheel)?;
        Ok(Self { venv, wheel })
    }
}
