//! What cargo says about the workspace's packages.
//!
//! Two sources, because one would lie. `cargo metadata` knows sources, licences and versions, but resolves the features
//! of all members together with their development dependencies. `cargo tree` resolves what a build of the named
//! packages would.

use crate::{Result, cargo};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The published crate, whose default dependencies the README counts.
const PUBLISHED: &str = "btlightning";

/// Not published as a crate, but in the wheel.
const IN_WHEEL: &str = "btlightning-py";

/// The platform whose tree is counted: what nearly every miner and validator runs on.
const COUNTED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Features that exist to take in other people's code that the policy would not let in, for those who ask for it by
/// name. No other feature may bring that code. What they bring must still be free to distribute.
pub(super) const QUARANTINED_FEATURES: [&str; 2] = ["btwallet", "btwallet-vendored"];

#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) source: Option<String>,
    pub(super) license: Option<String>,
    pub(super) rust_version: Option<String>,
    pub(super) manifest_path: String,
    publish: Option<Vec<String>>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

/// A third-party package by name and version, as `cargo tree` names it.
pub(super) type Named = (String, String);

/// Everything the rules about dependencies look at.
pub(super) struct Dependencies {
    /// Every package that any member, feature, platform or test wants.
    pub(super) third_party: Vec<Package>,
    pub(super) members: Vec<Package>,
    /// What `btlightning` with default features links or runs as a macro on Linux: normal edges, proc-macros included,
    /// build scripts' own dependencies not.
    pub(super) default_tree: BTreeSet<Named>,
    /// What the distributed crates build on any platform with every feature but the quarantined ones.
    pub(super) policy_tree: BTreeSet<Named>,
    /// The same with every feature.
    pub(super) every_feature_tree: BTreeSet<Named>,
}

impl Dependencies {
    pub(super) fn load(root: &Path) -> Result<Self> {
        let json = cargo_output(root, &["metadata", "--locked", "--all-features", "--format-version", "1"])?;
        let metadata: Metadata =
            serde_json::from_str(&json).map_err(|error| format!("what cargo metadata printed: {error}"))?;
        let (members, third_party): (Vec<_>, Vec<_>) = metadata
            .packages
            .into_iter()
            .partition(|package| metadata.workspace_members.contains(&package.id));

        let tree = |args: &[&str]| -> Result<BTreeSet<Named>> {
            let args = [&["tree", "--locked", "--prefix", "none", "--format", "{p}"], args].concat();
            let members: BTreeSet<&str> = members.iter().map(|member| &*member.name).collect();
            parse_tree(&cargo_output(root, &args)?, &members)
        };
        let default_tree = tree(&["--package", PUBLISHED, "--edges", "normal", "--target", COUNTED_TARGET])?;
        let mut distributed = vec!["--edges", "normal,build", "--target", "all"];
        for member in members.iter().filter(|member| member.is_distributed()) {
            distributed.extend(["--package", &member.name]);
        }
        let allowed = unquarantined_features(&members).join(",");
        let policy_tree = tree(&[&distributed[..], &["--features", &allowed]].concat())?;
        let every_feature_tree = tree(&[&distributed[..], &["--all-features"]].concat())?;
        Ok(Self { third_party, members, default_tree, policy_tree, every_feature_tree })
    }
}

impl Package {
    pub(super) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    /// Whether others get it: what it builds with must be free to distribute.
    fn is_distributed(&self) -> bool {
        self.is_published() || self.name == IN_WHEEL
    }

    pub(super) fn place(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

fn unquarantined_features(members: &[Package]) -> Vec<String> {
    let of = |member: &Package| -> Vec<String> {
        let allowed = member.features.keys().filter(|name| !QUARANTINED_FEATURES.contains(&&***name));
        allowed.map(|feature| format!("{}/{feature}", member.name)).collect()
    };
    members.iter().filter(|member| member.is_distributed()).flat_map(of).collect()
}

/// Lines of the form `name v1.2.3`, `name v1.2.3 (proc-macro)`, `name v1.2.3 (*)` or `member v0.1.0 (/path)`.
fn parse_tree(text: &str, members: &BTreeSet<&str>) -> Result<BTreeSet<Named>> {
    let mut named = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) =
            (words.next(), words.next().and_then(|word| word.strip_prefix('v')))
        else {
            return Err(format!("cargo tree printed a line that is not `name vX.Y.Z`: {line}"));
        };
        if !members.contains(name) {
            named.insert((name.into(), version.into()));
        }
    }
    Ok(named)
}

fn cargo_output(root: &Path, args: &[&str]) -> Result<String> {
    let line = format!("cargo {}", args.join(" "));
    let output = cargo().args(args).current_dir(root).output().map_err(|error| format!("{line}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{line}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{line}: {error}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::tidy) fn package(name: &str, version: &str) -> Package {
        Package {
            id: format!("{name}@{version}"),
            name: name.into(),
            version: version.into(),
            source: Some("registry+https://github.com/rust-lang/crates.io-index".into()),
            license: Some("MIT".into()),
            rust_version: None,
            manifest_path: String::new(),
            publish: None,
            features: BTreeMap::new(),
        }
    }

    pub(in crate::tidy) fn tree(packages: &[(&str, &str)]) -> BTreeSet<Named> {
        packages.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect()
    }

    #[test]
    fn a_tree_is_its_third_party_packages_each_once() {
        let text = "ours v0.3.0 (/somewhere/ours)\nserde v1.0.1\nserde_derive v1.0.1 (proc-macro)\n\nserde v1.0.1 (*)\n";
        let parsed = parse_tree(text, &BTreeSet::from(["ours"])).unwrap();
        assert_eq!(parsed, tree(&[("serde", "1.0.1"), ("serde_derive", "1.0.1")]));
    }

    #[test]
    fn a_line_that_is_no_package_is_an_error_not_a_lower_count() {
        assert!(parse_tree("[build-dependencies]", &BTreeSet::new()).is_err());
    }

    #[test]
    fn the_policy_looks_at_every_feature_of_distributed_crates_but_the_quarantined() {
        let mut ours = package("ours", "0.3.0");
        for feature in ["default", "subtensor", "btwallet"] {
            ours.features.insert(feature.into(), vec![]);
        }
        let mut kit = package("kit", "0.3.0");
        kit.publish = Some(vec![]);
        kit.features.insert("extra".into(), vec![]);
        let mut extension = package(IN_WHEEL, "0.3.0");
        extension.publish = Some(vec![]);
        extension.features.insert("extra".into(), vec![]);
        let looked_at = unquarantined_features(&[ours, kit, extension]);
        assert_eq!(looked_at, ["ours/default", "ours/subtensor", "btlightning-py/extra"]);
    }
}
