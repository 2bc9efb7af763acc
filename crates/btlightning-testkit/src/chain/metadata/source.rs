//! Where the metadata comes from: a file of a registry package, found on this machine or fetched by cargo.

use sp_crypto_hashing::sha2_256;
use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The environment variable that names a metadata file and wins over every other place.
pub const METADATA_VARIABLE: &str = "BTLIGHTNING_CHAIN_METADATA";

const PACKAGE: &str = "bittensor-rs";
const VERSION: &str = "0.1.1";
const FILE_IN_PACKAGE: &str = "metadata/finney.scale";

/// SHA-256 of the file: spec 365 of the main network, metadata version 16.
const SHA256: &str = "4fcee8d89551a48e96b6b04a4484b445621f8983c170885f670d5130a1182f9f";

/// A slow registry is given up on after this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
const FETCH_POLL: Duration = Duration::from_millis(50);

/// Why there is no metadata to make a chain of.
#[derive(thiserror::Error)]
pub enum MetadataError {
    /// The package is nowhere, and cargo could not fetch it.
    #[error("{PACKAGE} {VERSION} is not unpacked under {}: {why}; run `cargo info {PACKAGE}@{VERSION}`", registry.display())]
    Missing {
        /// The directory that was searched.
        registry: PathBuf,
        /// What cargo said, or why it was not asked.
        why: String,
    },
    /// The file is there and cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not the one that this chain was written for.
    #[error("{}: its SHA-256 is {found}, not {SHA256}", path.display())]
    WrongFile {
        /// The file.
        path: PathBuf,
        /// The hash of what is in it.
        found: String,
    },
    /// The bytes are right and do not decode; a defect of this crate.
    #[error("the metadata does not decode: {0}")]
    Undecodable(String),
}

/// A test unwraps it, and whoever runs the test must read what to do.
impl fmt::Debug for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes of the metadata, checked against [`SHA256`].
///
/// Looks at [`METADATA_VARIABLE`], then at the sources of registries that cargo has unpacked, then runs `cargo info`,
/// which unpacks this one package, and looks again. Blocks for up to [`FETCH_TIMEOUT`].
pub(super) fn read() -> Result<Vec<u8>, MetadataError> {
    match env::var_os(METADATA_VARIABLE) {
        Some(path) => read_checked(PathBuf::from(path)),
        None => read_checked(find_or_fetch()?),
    }
}

fn read_checked(path: PathBuf) -> Result<Vec<u8>, MetadataError> {
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(MetadataError::Unreadable { path, source }),
    };
    match hex::encode(sha2_256(&bytes)) {
        found if found == SHA256 => Ok(bytes),
        found => Err(MetadataError::WrongFile { path, found }),
    }
}

fn find_or_fetch() -> Result<PathBuf, MetadataError> {
    let registry = cargo_home().join("registry").join("src");
    if let Some(path) = find(&registry) {
        return Ok(path);
    }
    let why = match fetch() {
        Ok(()) => "cargo has fetched it to another place".to_owned(),
        Err(why) => why,
    };
    find(&registry).ok_or(MetadataError::Missing { registry, why })
}

fn cargo_home() -> PathBuf {
    let home = || env::home_dir().unwrap_or_default().join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// The file in whichever registry has it; each registry has a directory of its own.
fn find(registry: &Path) -> Option<PathBuf> {
    let registries = fs::read_dir(registry).ok()?;
    registries
        .filter_map(|entry| {
            Some(entry.ok()?.path().join(format!("{PACKAGE}-{VERSION}")).join(FILE_IN_PACKAGE))
        })
        .find(|path| path.is_file())
}

fn fetch() -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["info", "--quiet", &format!("{PACKAGE}@{VERSION}")])
        // Not in a workspace, where cargo would answer for a locked version.
        .current_dir(env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    let deadline = Instant::now() + FETCH_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("cargo failed: {status}")),
            Ok(None) if Instant::now() < deadline => thread::sleep(FETCH_POLL),
            Ok(None) => {
                // Both fail only for a process that is gone already.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("cargo took longer than {FETCH_TIMEOUT:?}"));
            }
            Err(error) => return Err(format!("cargo cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_and_none_are_refused_with_their_path() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let wrong = read_checked(manifest.clone()).unwrap_err();
        assert!(matches!(&wrong, MetadataError::WrongFile { path, .. } if *path == manifest), "{wrong}");
        let nowhere = read_checked(manifest.join("nowhere")).unwrap_err();
        assert!(matches!(nowhere, MetadataError::Unreadable { .. }), "{nowhere}");
    }
}
