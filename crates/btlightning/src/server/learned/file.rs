//! The file that a learned list is kept in.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use btlightning_proto::sources::RosterRecord;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::draft::{self, Draft};
use crate::error::{LightningError, Result};
use crate::transport::close::printable_within;
use crate::util::unix_timestamp_secs;

/// Raised when a file would be misread by those who read the version before.
const VERSION: u32 = 1;

/// The largest file that is read, in bytes. A full list takes less; see the test.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The longest words about a file that are kept, in bytes.
const WORDS_BYTES_MAX: usize = 512;

/// Names that a file set aside may get, when others have them.
const NAMES_MAX: u32 = 16;

/// Where a list is kept, and which subnet it is of.
#[derive(Debug, Clone)]
pub(super) struct SourcesFile {
    path: PathBuf,
    netuid: u16,
    genesis: String,
}

/// What was in the file.
#[derive(Debug)]
pub(super) enum Content {
    /// There is none.
    Nothing,
    Record(RosterRecord),
    /// It was of no use, and is now under another name. Says why.
    SetAside(String),
}

/// What a file of any version says of itself.
#[derive(Deserialize)]
struct Header {
    version: u32,
    netuid: u16,
    genesis: String,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    netuid: u16,
    genesis: &'a str,
    /// For people; in Unix seconds.
    saved_at: u64,
    roster: &'a RosterRecord,
}

#[derive(Deserialize)]
struct Body {
    roster: RosterRecord,
}

impl SourcesFile {
    pub(super) fn new(path: PathBuf, netuid: u16, genesis: [u8; 32]) -> Self {
        let digits: String = genesis.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path, netuid, genesis: format!("0x{digits}") }
    }

    /// Reads the list. A file that is of no use is renamed; unfinished ones that were left behind are removed.
    ///
    /// # Errors
    /// `Config` when there can be no such file, or one that is of no use cannot be renamed: it would be overwritten.
    pub(super) fn read(&self) -> Result<Content> {
        let shown = self.path.display();
        let directory = self.directory();
        if !directory.is_dir() {
            return Err(LightningError::Config(format!(
                "the file of learned sources {shown} cannot be: {} is no directory",
                directory.display()
            )));
        }
        draft::remove_stale(directory, &self.path);
        let why = match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::Nothing),
            // To open a pipe would wait for its other end.
            Ok(metadata) if !metadata.is_file() => {
                return Err(LightningError::Config(format!("{shown} is no file to keep learned sources in")));
            }
            Err(error) => error.to_string(),
            Ok(_) => match self.parse() {
                Ok(record) => return Ok(Content::Record(record)),
                Err(why) => why,
            },
        };
        let why = printable_within(why.as_bytes(), WORDS_BYTES_MAX);
        let aside = self.set_aside().map_err(|error| {
            LightningError::Config(format!(
                "the file of learned sources {shown} is of no use ({why}) and cannot be renamed: {error}"
            ))
        })?;
        let words =
            format!("{shown} is of no use ({why}); it is {} now, and learning begins anew", aside.display());
        warn!("learned sources: {words}");
        Ok(Content::SetAside(words))
    }

    /// Writes the list in place of the one before: whoever reads the file finds either, whenever the machine stops.
    pub(super) fn write(&self, record: &RosterRecord, saved_at: u64) -> io::Result<()> {
        let Self { path, netuid, genesis } = self;
        let written = Written { version: VERSION, netuid: *netuid, genesis, saved_at, roster: record };
        let mut json = serde_json::to_vec(&written)?;
        json.push(b'\n');
        // Others may keep a list of their own there by mistake.
        Draft::write(path, &json)?.replace(path)?;
        sync_directory(self.directory())
    }

    fn parse(&self) -> std::result::Result<RosterRecord, String> {
        let read = File::open(&self.path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let bytes = read.map_err(|error| error.to_string())?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
        }
        self.record_in(&bytes)
    }

    fn record_in(&self, bytes: &[u8]) -> std::result::Result<RosterRecord, String> {
        let header: Header = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if header.version != VERSION {
            return Err(format!("it is of version {}, not {VERSION}", header.version));
        }
        if header.netuid != self.netuid {
            return Err(format!("it is of subnet {}, not {}", header.netuid, self.netuid));
        }
        if header.genesis != self.genesis {
            return Err(format!("it is of the chain {}, not {}", header.genesis, self.genesis));
        }
        let body: Body = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(body.roster)
    }

    /// Renames the file, to a name that nobody has.
    fn set_aside(&self) -> io::Result<PathBuf> {
        let now = unix_timestamp_secs();
        let names = (0..NAMES_MAX).map(|n| self.beside(&format!(".{now}.{n}.set-aside")));
        for name in names {
            if !fs::exists(&name)? {
                fs::rename(&self.path, &name)?;
                return Ok(name);
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, "too many files were set aside"))
    }

    /// A path in the same directory, hence on the same disk.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(self.path.file_name().unwrap_or_default());
        name.push(ending);
        self.path.with_file_name(name)
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => &self.path,
        }
    }
}

/// The list in a file of that subnet that holds these bytes.
pub(crate) fn record_in(
    bytes: &[u8],
    netuid: u16,
    genesis: [u8; 32],
) -> std::result::Result<RosterRecord, String> {
    SourcesFile::new(PathBuf::new(), netuid, genesis).record_in(bytes)
}

/// Waits until the new name is on the disk, too.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};
    use std::time::{Duration, SystemTime};

    use btlightning_proto::sources::{
        ADDRESSES_PER_HOTKEY_MAX, HOTKEYS_MAX, HotkeyRecord, Mode, SeenAddress,
    };

    use super::*;
    use crate::Hotkey;
    use crate::testing::{Directory, lines};

    const GENESIS: [u8; 32] = [0x2f; 32];

    fn file(directory: &Directory) -> SourcesFile {
        SourcesFile::new(directory.path().join("sources.json"), 2, GENESIS)
    }

    fn hotkey(n: usize) -> Hotkey {
        let mut key = [0xff; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        Hotkey::from_public_key(key).unwrap()
    }

    fn record(hotkeys: usize, addresses: usize) -> RosterRecord {
        let address = |n: usize| {
            // Nothing of it is left out when it is written.
            let ip = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX - n as u128));
            SeenAddress { ip, first_seen: u64::MAX, last_seen: u64::MAX }
        };
        let hotkeys = (0..hotkeys).map(|n| HotkeyRecord {
            hotkey: hotkey(n),
            stake: u64::MAX,
            lost_at: Some(u64::MAX),
            addresses: (0..addresses).map(address).collect(),
        });
        RosterRecord {
            mode: Mode::Enforcing,
            learned_secs: u64::MAX,
            permitted_at: Some(u64::MAX),
            hotkeys: hotkeys.collect(),
        }
    }

    fn names(directory: &Directory) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_left() {
        let directory = Directory::new("sources-file");
        let file = file(&directory);
        assert!(matches!(file.read(), Ok(Content::Nothing)));
        for hotkeys in [3, 1] {
            file.write(&record(hotkeys, 2), 7).unwrap();
            let Ok(Content::Record(read)) = file.read() else { panic!("not read") };
            assert_eq!(read, record(hotkeys, 2));
        }
        assert_eq!(names(&directory), ["sources.json"]);
    }

    #[test]
    fn a_full_list_is_not_too_large() {
        let directory = Directory::new("sources-file-full");
        let full = record(HOTKEYS_MAX, ADDRESSES_PER_HOTKEY_MAX);
        file(&directory).write(&full, u64::MAX).unwrap();
        let Ok(Content::Record(read)) = file(&directory).read() else { panic!("not read") };
        assert_eq!(read, full);
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = Directory::new("sources-file-mode");
        let file = file(&directory);
        fs::write(&file.path, "").unwrap();
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();
        file.write(&record(1, 1), 7).unwrap();
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_of_no_use_is_set_aside_whole() {
        let directory = Directory::new("sources-file-aside");
        let file = file(&directory);
        file.write(&record(1, 1), 7).unwrap();
        let good = fs::read_to_string(&file.path).unwrap();
        let cases = [
            (String::new(), "EOF"),
            ("\0\u{1b}[31m".to_owned(), "expected value"),
            (good[..good.len() / 2].to_owned(), "EOF"),
            (good.replace("\"version\":1", "\"version\":2"), "it is of version 2, not 1"),
            (good.replace("\"netuid\":2", "\"netuid\":3"), "it is of subnet 3, not 2"),
            (good.replace("0x2f2f", "0x2f2e"), "it is of the chain 0x2f2e"),
            (good.replace("\"5", "\"6"), "hotkey"),
            (good.replace("\"roster\"", "\"rooster\""), "missing field `roster`"),
            (format!("{good}{good}"), "trailing characters"),
            (" ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1), "it is larger than"),
        ];
        for (number, (bad, expected)) in cases.iter().enumerate() {
            fs::write(&file.path, bad).unwrap();
            let mut read = None;
            let logged = lines(|| read = Some(file.read()));
            let Some(Ok(Content::SetAside(why))) = read else { panic!("{expected}: {read:?}") };
            assert!(why.contains(expected), "{expected}: {why}");
            assert!(!why.contains('\u{1b}') && why.len() < 1500);
            assert!(
                logged[0].starts_with("WARN learned sources: ") && logged[0].contains("learning begins anew")
            );
            assert_eq!(names(&directory).len(), number + 1);
            assert!(matches!(file.read(), Ok(Content::Nothing)));
        }
        // Nothing was lost.
        let mut kept: Vec<_> =
            names(&directory).iter().map(|name| fs::read(directory.path().join(name)).unwrap()).collect();
        let mut bad: Vec<_> = cases.into_iter().map(|(bad, _)| bad.into_bytes()).collect();
        kept.sort();
        bad.sort();
        assert_eq!(kept, bad);
    }

    #[test]
    fn a_path_that_can_be_no_file_is_refused_at_once() {
        let directory = Directory::new("sources-file-path");
        for path in [directory.path().join("missing").join("sources.json"), directory.path().to_owned()] {
            let refused = SourcesFile::new(path, 2, GENESIS).read();
            assert!(matches!(refused, Err(LightningError::Config(_))), "{refused:?}");
        }
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn a_disk_that_fails_leaves_the_file_as_it_was() {
        let directory = Directory::new("sources-file-fails");
        let file = file(&directory);
        file.write(&record(1, 1), 7).unwrap();
        // A name that leaves no room for one beside it.
        let long = SourcesFile::new(directory.path().join("x".repeat(250)), 2, GENESIS);
        fs::rename(&file.path, &long.path).unwrap();
        long.write(&record(2, 2), 7).unwrap_err();
        let Ok(Content::Record(read)) = long.read() else { panic!("not read") };
        assert_eq!(read, record(1, 1));

        // What was written and cannot be put in place is not left behind.
        fs::create_dir(&file.path).unwrap();
        file.write(&record(2, 2), 7).unwrap_err();
        assert_eq!(names(&directory), ["sources.json".to_owned(), "x".repeat(250)]);
    }

    #[test]
    fn of_many_that_write_one_file_each_writes_it_whole() {
        let directory = Directory::new("sources-file-many");
        let file = file(&directory);
        std::thread::scope(|scope| {
            for hotkeys in 1..=8 {
                let file = &file;
                scope.spawn(move || {
                    for _ in 0..20 {
                        file.write(&record(hotkeys * 20, 4), 7).unwrap();
                        let Ok(Content::Record(_)) = file.read() else { panic!("not whole") };
                    }
                });
            }
        });
        assert_eq!(names(&directory), ["sources.json"]);
    }

    #[test]
    fn what_a_machine_left_behind_when_it_stopped_is_removed() {
        let directory = Directory::new("sources-file-stale");
        let file = file(&directory);
        let make = |name: &str, age_secs| {
            let made = File::create(directory.path().join(name)).unwrap();
            made.set_modified(SystemTime::now() - Duration::from_secs(age_secs)).unwrap();
        };
        let day = 24 * 3600;
        make("sources.json.0123456789abcdef.new", day);
        // Somebody is writing it, or it is somebody else's.
        let kept = [
            "sources.json.fedcba9876543210.new",
            "sources.json.0123456789abcdeF.new",
            "sources.json.0123456789abcde.new",
            "sources.json.0123456789abcdef.new.old",
            "other.json.0123456789abcdef.new",
        ];
        make(kept[0], 0);
        kept[1..].iter().for_each(|name| make(name, day));
        fs::create_dir(directory.path().join("sources.json.0000000000000000.new")).unwrap();
        assert!(matches!(file.read(), Ok(Content::Nothing)));
        let mut expected: Vec<_> = kept.into_iter().chain(["sources.json.0000000000000000.new"]).collect();
        expected.sort_unstable();
        assert_eq!(names(&directory), expected);
    }
}
