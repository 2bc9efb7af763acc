//! The dependency policy: where packages come from, which are unwelcome, how many, how old a compiler they need.

use super::{
    Finding,
    metadata::{Dependencies, Named, Package},
};
use std::collections::{BTreeMap, BTreeSet};

/// How many third-party packages the default tree may have. Raise it in the commit that needs it, and say why there.
pub(super) const BUDGET: usize = 90;

/// In metadata a registry replaced by a mirror still goes by its own name.
const CRATES_IO: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

/// Unwelcome in the policy tree, and why. A quarantined feature may bring them.
const BANNED: [(&str, &str); 9] = [
    ("openssl", "TLS is rustls with ring; OpenSSL wants a system library and its headers"),
    ("openssl-sys", "TLS is rustls with ring; OpenSSL wants a system library and its headers"),
    ("native-tls", "TLS is rustls with ring, the same on every platform"),
    ("aws-lc-rs", "one crypto provider is enough; this one wants CMake, and was measured to be no faster"),
    ("aws-lc-sys", "one crypto provider is enough; this one wants CMake, and was measured to be no faster"),
    ("aws-lc-fips-sys", "one crypto provider is enough; this one wants CMake and Go"),
    ("sp-core", "hundreds of packages for what schnorrkel and bs58 do"),
    ("sp-runtime", "hundreds of packages for what schnorrkel and bs58 do"),
    ("libsodium-sys", "a C library beside ring and schnorrkel, built by its own configure script"),
];

/// A crate that the default tree holds in more than one incompatible version: the older series and who still wants it.
struct Duplicate {
    name: &'static str,
    series: &'static str,
    wanted_by: &'static str,
}

const DUPLICATES: [Duplicate; 5] = [
    Duplicate {
        name: "cpufeatures",
        series: "0.2",
        wanted_by: "schnorrkel 0.11, by curve25519-dalek 4 and sha2 0.10",
    },
    Duplicate {
        name: "getrandom",
        series: "0.2",
        wanted_by: "ring 0.17, and schnorrkel 0.11 by rand_core 0.6",
    },
    Duplicate { name: "rand", series: "0.8", wanted_by: "schnorrkel 0.11, by getrandom_or_panic" },
    Duplicate { name: "rand_core", series: "0.6", wanted_by: "schnorrkel 0.11" },
    Duplicate { name: "syn", series: "2", wanted_by: "the derives of zeroize 1 and curve25519-dalek 4" },
];

pub(super) fn check(dependencies: &Dependencies) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(dependencies.third_party.iter().filter_map(not_from_crates_io));
    findings.extend(banned(&dependencies.policy_tree));
    findings.extend(duplicates(&dependencies.default_tree, &DUPLICATES));
    findings.extend(over_budget(dependencies.default_tree.len()));
    findings.extend(rust_versions(&dependencies.members, &dependencies.third_party));
    findings
}

fn not_from_crates_io(package: &Package) -> Option<Finding> {
    let source = package.source.as_deref().unwrap_or("a path outside the workspace");
    (!CRATES_IO.contains(&source)).then(|| {
        Finding::new(
            package.place(),
            format!("comes from {source}; dependencies come from crates.io, where they stay"),
        )
    })
}

fn banned(tree: &BTreeSet<Named>) -> Vec<Finding> {
    let ban = |name: &str| BANNED.iter().find(|(banned, _)| *banned == name);
    let finding = |(name, version): &Named| {
        ban(name).map(|(_, why)| {
            let way_out = format!("find who wants it: cargo tree --workspace --invert {name}@{version}");
            Finding::new(format!("{name} {version}"), format!("is banned: {why}; {way_out}"))
        })
    };
    tree.iter().filter_map(finding).collect()
}

fn over_budget(count: usize) -> Option<Finding> {
    (count > BUDGET).then(|| {
        let problem =
            format!("{count} third-party packages in btlightning's default tree; the budget is {BUDGET}");
        Finding::new("Cargo.lock", problem)
    })
}

fn duplicates(tree: &BTreeSet<Named>, allowed: &[Duplicate]) -> Vec<Finding> {
    let mut series_of: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, version) in tree {
        series_of.entry(name).or_default().insert(compatible_series(version));
    }
    let mut findings = Vec::new();
    for duplicate in allowed {
        let there = series_of.get_mut(duplicate.name).is_some_and(|series| series.remove(duplicate.series));
        let still_double = series_of.get(duplicate.name).is_some_and(|series| !series.is_empty());
        if !(there && still_double) {
            let Duplicate { name, series, wanted_by } = duplicate;
            let problem =
                format!("is no longer a second version ({wanted_by}); strike it off the list of duplicates");
            findings.push(Finding::new(format!("{name} {series}"), problem));
        }
    }
    for (name, series) in series_of.iter().filter(|(_, series)| series.len() > 1) {
        let series: Vec<_> = series.iter().map(String::as_str).collect();
        let problem = format!(
            "more than once in the default tree, as {}; agree on one, or list it with a reason",
            series.join(" and ")
        );
        findings.push(Finding::new(*name, problem));
    }
    findings
}

/// The part of a version that says what it is compatible with: `1`, `0.2`, `0.0.3`.
fn compatible_series(version: &str) -> String {
    let numbers = version.split(['-', '+']).next().unwrap_or(version);
    let parts: Vec<&str> = numbers.split('.').collect();
    let leading_zeros = parts.iter().take_while(|part| **part == "0").count();
    parts[..parts.len().min(leading_zeros + 1)].join(".")
}

/// Each published crate states the oldest compiler it takes, and no dependency asks for a newer one.
///
/// Dependencies of tests count: who builds with that compiler must be able to test with it. That our own code keeps to
/// it is clippy's part (`incompatible_msrv`).
fn rust_versions(members: &[Package], third_party: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut oldest: Option<(Vec<u64>, &str)> = None;
    for member in members.iter().filter(|member| member.is_published()) {
        let Some(stated) = member.rust_version.as_deref() else {
            findings.push(Finding::new(member.place(), "is published without a rust-version"));
            continue;
        };
        let numbers = numbers(stated);
        if oldest.as_ref().is_none_or(|(oldest, _)| numbers < *oldest) {
            oldest = Some((numbers, stated));
        }
    }
    let Some((oldest, stated)) = oldest else { return findings };
    for package in third_party {
        if let Some(wants) = package.rust_version.as_deref().filter(|wants| numbers(wants) > oldest) {
            let problem = format!(
                "needs Rust {wants}, the workspace promises {stated}: pin an older version, or raise it"
            );
            findings.push(Finding::new(package.place(), problem));
        }
    }
    findings
}

/// `1.88` and `1.88.0` are the same version.
fn numbers(version: &str) -> Vec<u64> {
    let mut numbers: Vec<u64> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    numbers.resize(3, 0);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::tests::{package, tree};

    fn places(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_version_belongs_to_the_series_that_cargo_would_unify_it_with() {
        let cases = [
            ("1.2.3", "1"),
            ("10.0.0", "10"),
            ("0.2.17", "0.2"),
            ("0.0.3", "0.0.3"),
            ("0.0.0", "0.0.0"),
            ("2.0.0-rc.1", "2"),
            ("1.0.4+wasi-0.2.12", "1"),
        ];
        for (version, series) in cases {
            assert_eq!(compatible_series(version), series, "{version}");
        }
    }

    #[test]
    fn packages_come_from_crates_io() {
        let mut elsewhere = package("fork", "1.0.0");
        assert_eq!(not_from_crates_io(&elsewhere), None);
        for source in
            [None, Some("git+https://example.org/fork#0123"), Some("registry+https://example.org/index")]
        {
            elsewhere.source = source.map(String::from);
            assert!(not_from_crates_io(&elsewhere).is_some(), "{source:?}");
        }
    }

    #[test]
    fn banned_packages_are_found_by_their_whole_name() {
        let found = banned(&tree(&[("openssl", "0.10.0"), ("openssl-probe", "0.1.0"), ("ring", "0.17.0")]));
        assert_eq!(places(found), ["openssl 0.10.0"]);
    }

    #[test]
    fn a_second_incompatible_version_wants_a_reason_and_an_idle_reason_goes() {
        let allowed = || [Duplicate { name: "rand", series: "0.8", wanted_by: "somebody" }];
        let both = [("rand", "0.8.5"), ("rand", "0.10.1")];
        type Case<'a> = (&'a [(&'a str, &'a str)], bool, &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (&both, true, &[]),
            (&both, false, &["rand"]),
            (&[("rand", "0.10.1"), ("rand", "0.10.2")], false, &[]),
            (&[("rand", "0.8.5")], true, &["rand 0.8"]),
            (&[("rand", "0.10.1")], true, &["rand 0.8"]),
            (&[("rand", "0.8.5"), ("rand", "0.9.0"), ("rand", "0.10.1")], true, &["rand"]),
        ];
        for (packages, excused, expected) in cases {
            let allowed = allowed();
            let allowed = if excused { &allowed[..] } else { &[] };
            assert_eq!(places(duplicates(&tree(packages), allowed)), expected, "{packages:?} {excused}");
        }
    }

    #[test]
    fn the_budget_itself_is_within_the_budget() {
        assert_eq!(over_budget(BUDGET), None);
        assert!(over_budget(BUDGET + 1).is_some());
    }

    #[test]
    fn no_dependency_needs_a_newer_compiler_than_promised() {
        let mut ours = package("ours", "0.3.0");
        assert_eq!(places(rust_versions(&[package("ours", "0.3.0")], &[])), ["ours 0.3.0"]);
        ours.rust_version = Some("1.88".into());
        for (wants, found) in
            [("1.88", 0), ("1.88.0", 0), ("1.9", 0), ("1.88.1", 1), ("1.100", 1), ("2.0", 1)]
        {
            let mut theirs = package("theirs", "1.0.0");
            theirs.rust_version = Some(wants.into());
            assert_eq!(rust_versions(std::slice::from_ref(&ours), &[theirs]).len(), found, "{wants}");
        }
    }
}
