//! The published package, as the peer that ours is tested against.
//!
//! It is imported by the same name, so it lives in an environment of its own and runs in a process of its own.

use super::{Places, in_path, interpreter::Interpreter, remove, run, venv::Venv, wheel::Profile};
use crate::{Result, steps};
use std::{ffi::OsStr, fs, path::PathBuf};

/// What its tests spend their time in. To optimize all 400 packages would take minutes more.
const OPTIMIZED: [&str; 6] = ["curve25519-dalek", "quinn-proto", "ring", "rmp", "rmp-serde", "rmpv"];

/// The environment that has it.
pub(super) fn venv(places: &Places, tools: &Venv) -> Result<Venv> {
    let requirements = requirements(places);
    let wheels = wheels(places, tools, Profile::Dev)?;
    let from = [OsStr::new("--no-index"), "--find-links".as_ref(), wheels.as_os_str()];
    Venv::kept(&places.built("published-venv"), &requirements, &from)
}

fn requirements(places: &Places) -> PathBuf {
    places.tools().join("published.txt")
}

/// A directory with its wheel, and with those that it needs, for this interpreter.
///
/// For most platforms it is published as source only, and takes minutes to build. So the wheels are kept, but not what
/// cargo made on the way, which is large.
pub(super) fn wheels(places: &Places, tools: &Venv, profile: Profile) -> Result<PathBuf> {
    let requirements = &requirements(places);
    let kept = match profile {
        Profile::Dev => places.built("published-wheels"),
        Profile::Release => places.built("published-wheels-release"),
    };
    let kept = kept.join(Interpreter::find()?.cache_tag);
    // Written last, and says which versions they are of.
    let stamp = kept.join("requirements.txt");
    let wanted = fs::read(requirements).map_err(in_path(requirements))?;
    if fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(kept);
    }
    remove(&kept)?;
    let build = places.emptied("published-build")?;
    let mut pip = tools.python();
    pip.args(["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--verbose"]);
    pip.arg("--wheel-dir").arg(&kept).arg("--requirement").arg(requirements);
    let mut args = format!("--locked --profile {} --auditwheel skip --compatibility linux", profile.name());
    if profile == Profile::Dev {
        for package in OPTIMIZED {
            args += &format!(" --config profile.dev.package.{package}.opt-level=1");
        }
    }
    pip.env("MATURIN_PEP517_ARGS", args);
    pip.env("CARGO_TARGET_DIR", &build).env("CARGO_PROFILE_DEV_DEBUG", "false");
    if steps::wallet_feature() == "btwallet" {
        // It brings an OpenSSL of its own, which takes as long to build as all the rest. The system's will do.
        pip.env("OPENSSL_NO_VENDOR", "1");
    }
    run(&mut pip)?;
    remove(&build)?;
    fs::write(&stamp, wanted).map_err(in_path(&stamp))?;
    Ok(kept)
}
