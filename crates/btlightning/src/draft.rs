//! [`Draft`], a file that is not finished, beside the one that it is to become.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const ENDING: &str = ".new";

/// The hexadecimal digits in a draft's name.
const DIGITS: usize = 16;

/// A draft that nobody has written to for this long is nobody's any more.
#[cfg(feature = "sources-file")]
const STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// The most names in a directory that are looked at for drafts.
#[cfg(feature = "sources-file")]
const NAMES_MAX: usize = 10_000;

/// A file under a name that nobody else has, on the same disk. Removed when this is dropped.
pub(crate) struct Draft(PathBuf);

impl Draft {
    /// Writes `bytes` beside `path`, readable by its owner alone, and waits until they are on the disk. Blocks.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = OsString::from(path.file_name().unwrap_or_default());
        name.push(format!(".{:0DIGITS$x}{ENDING}", u64::from_ne_bytes(random)));
        let beside = path.with_file_name(name);
        let mut file = new_file(&beside)?;
        // From here on the file is ours to remove.
        let draft = Self(beside);
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Gives it the name `path`, in place of what was there.
    pub(crate) fn replace(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.0, path)
    }

    /// Gives it the name `path`, too. `AlreadyExists` if somebody has that.
    pub(crate) fn link(&self, path: &Path) -> io::Result<()> {
        fs::hard_link(&self.0, path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed away: then there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes drafts of `path` in `directory` that were left behind, by a machine that stopped, say. Of those that cannot be
/// removed, nothing is said: they do no harm.
#[cfg(feature = "sources-file")]
pub(crate) fn remove_stale(directory: &Path, path: &Path) {
    let Some(of) = path.file_name() else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.take(NAMES_MAX).flatten() {
        let is_stale = |metadata: fs::Metadata| {
            let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
            metadata.is_file() && age.is_some_and(|age| age > STALE_AFTER)
        };
        // Of an entry, the metadata are not those of what it links to.
        if is_draft(&entry.file_name(), of) && entry.metadata().is_ok_and(is_stale) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(feature = "sources-file")]
fn is_draft(name: &std::ffi::OsStr, of: &std::ffi::OsStr) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(of.as_encoded_bytes());
    let rest = rest.and_then(|rest| rest.strip_prefix(b"."));
    let digits = rest.and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
    digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}
