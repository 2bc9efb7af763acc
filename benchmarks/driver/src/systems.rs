//! The systems that are measured.

use crate::peer::Launch;
use serde::{Deserialize, Serialize};
use std::{path::Path, process::Command};

/// What a system is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust.
    Rust,
    /// Python.
    Python,
}

/// What a system's bytes go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// QUIC, over UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// Whose work a system is; charts have a colour for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This project.
    Ours,
    /// The published package.
    Published,
    /// QUIC with nothing on top, which is what ours could come to.
    Bare,
    /// Other ways to ask.
    Other,
}

/// A system, as far as it is known without running it.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// As peers know it.
    pub name: &'static str,
    /// As tables and charts name it.
    pub title: &'static str,
    /// Whose it is.
    pub origin: Origin,
    /// What it is written in.
    pub language: Language,
    /// What its bytes go over.
    pub transport: Transport,
    /// The package whose version counts.
    pub package: &'static str,
}

/// Every system, in the order of tables and charts.
pub const SYSTEMS: [Description; 16] = {
    use Language::{Python, Rust};
    use Origin::{Bare, Other, Ours, Published};
    use Transport::{Tcp, Udp};
    const fn system(
        name: &'static str,
        title: &'static str,
        origin: Origin,
        language: Language,
        transport: Transport,
        package: &'static str,
    ) -> Description {
        Description { name, title, origin, language, transport, package }
    }
    [
        system("ours-dynamic", "ours, unchanged program", Ours, Rust, Udp, "btlightning"),
        system("ours-async", "ours, async handler", Ours, Rust, Udp, "btlightning"),
        system("ours-typed", "ours, typed calls", Ours, Rust, Udp, "btlightning"),
        system("ours-typed-local", "ours, typed, runtime per side", Ours, Rust, Udp, "btlightning"),
        system("published", "published package", Published, Rust, Udp, "btlightning"),
        system("published-async", "published, async handler", Published, Rust, Udp, "btlightning"),
        system("quinn", "raw quinn, one runtime", Bare, Rust, Udp, "quinn"),
        system("quinn-server-thread", "raw quinn, server on a thread", Bare, Rust, Udp, "quinn"),
        system("quinn-called", "raw quinn, threads of its own", Bare, Rust, Udp, "quinn"),
        system("quinn-split", "raw quinn, runtime per side", Bare, Rust, Udp, "quinn"),
        system("grpc", "gRPC (tonic, TLS)", Other, Rust, Tcp, "tonic"),
        system("py-ours", "ours, threads", Ours, Python, Udp, "btlightning"),
        system("py-ours-async", "ours, asyncio", Ours, Python, Udp, "btlightning"),
        system("py-published", "published package", Published, Python, Udp, "btlightning"),
        system("py-bittensor", "bittensor axon/dendrite", Other, Python, Tcp, "bittensor"),
        system("py-grpcio", "grpcio", Other, Python, Tcp, "grpcio"),
    ]
};

/// What is known of the system of this name.
#[must_use]
pub fn description(name: &str) -> Option<&'static Description> {
    SYSTEMS.iter().find(|system| system.name == name)
}

/// A system that is to be run.
#[derive(Debug, Clone)]
pub struct System {
    /// As peers know it.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// What its bytes go over.
    pub transport: Transport,
    /// Its package and version, as far as known.
    pub version: Option<String>,
    /// How it was built, where that is not the same for all.
    pub build: Option<String>,
    /// How to start it, or why it cannot be.
    pub launch: Result<Launch, String>,
}

impl System {
    /// A described system, to be started like this.
    #[must_use]
    pub fn new(description: &Description, launch: Result<Launch, String>) -> Self {
        Self {
            name: description.name.to_owned(),
            language: description.language,
            transport: description.transport,
            version: None,
            build: None,
            launch,
        }
    }

    /// Learns the version of a Rust system from the lock file that it was built with.
    pub fn learn_locked_version(&mut self, description: &Description, lock: &str) {
        let published = description.origin != Origin::Ours;
        let version = locked_version(lock, description.package, published);
        self.version = version.map(|version| format!("{} {version}", description.package));
    }

    /// Learns the version of a Python system, and how it was built, from the interpreter that has it installed.
    pub fn learn_installed_version(&mut self, description: &Description, interpreter: &Path) {
        let asked = Command::new(interpreter).args(["-c", INSTALLED, description.package]).output();
        let said = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        let said = said.and_then(|said| String::from_utf8(said).ok()).unwrap_or_default();
        let mut lines = said.lines();
        if let (Some(version), Some(python), tag) = (lines.next(), lines.next(), lines.next()) {
            self.version = Some(format!("{} {version}", description.package));
            // pip's own builds are for this Linux; wheels that others get are for many.
            let from_source = tag.is_some_and(|tag| tag.contains("-linux_"));
            let how = match (description.origin, from_source) {
                (Origin::Ours, _) => "release wheel of the checkout",
                (_, true) => "built from source by pip",
                (_, false) => "wheel from the index",
            };
            self.build = Some(format!("Python {python}, {how}"));
        }
    }
}

const INSTALLED: &str = "\
import importlib.metadata, platform, sys
found = importlib.metadata.distribution(sys.argv[1])
print(found.version)
print(platform.python_version())
tags = (found.read_text('WHEEL') or '').splitlines()
print(*[line.removeprefix('Tag: ') for line in tags if line.startswith('Tag: ')])
";

/// The version of a package in a `Cargo.lock`, of the one that comes from a registry or of the one that does not.
fn locked_version(lock: &str, package: &str, from_registry: bool) -> Option<String> {
    let field = |entry: &str, key: &str| {
        let value = entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
        Some(value.trim_matches('"').to_owned())
    };
    let mut entries = lock.split("[[package]]").filter(|entry| {
        field(entry, "name").as_deref() == Some(package) && field(entry, "source").is_some() == from_registry
    });
    field(entries.next()?, "version")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "btlightning"
version = "0.2.15"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "00"

[[package]]
name = "btlightning"
version = "0.3.0"
dependencies = [
 "quinn",
]

[[package]]
name = "quinn"
version = "0.11.12"
source = "registry+https://github.com/rust-lang/crates.io-index"
"#;

    #[test]
    fn ours_and_theirs_are_told_apart_by_where_they_come_from() {
        assert_eq!(locked_version(LOCK, "btlightning", true).as_deref(), Some("0.2.15"));
        assert_eq!(locked_version(LOCK, "btlightning", false).as_deref(), Some("0.3.0"));
        assert_eq!(locked_version(LOCK, "quinn", true).as_deref(), Some("0.11.12"));
        assert_eq!(locked_version(LOCK, "tonic", true), None);
    }

    #[test]
    fn names_are_unique_and_titles_fit_into_a_chart() {
        for (index, system) in SYSTEMS.iter().enumerate() {
            assert!(SYSTEMS[..index].iter().all(|other| other.name != system.name), "{}", system.name);
            assert!(system.title.len() <= 29, "{}", system.title);
        }
    }
}
