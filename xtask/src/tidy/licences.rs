//! Licences: every package that the published crates and the wheel build with can be distributed under terms on the list.

use super::{
    Finding,
    metadata::{Dependencies, Package},
};
use std::collections::BTreeMap;

/// Permissive: they ask for attribution at most.
const ALLOWED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    // For data; the root certificates of browsers come under it.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Copyleft by the file: harmless to those who use it unchanged, but theirs to decide. So only a quarantined feature,
/// which one asks for by name, may bring it.
const ALLOWED_IN_QUARANTINE: [&str; 1] = ["MPL-2.0"];

pub(super) fn check(dependencies: &Dependencies) -> Vec<Finding> {
    let by_name: BTreeMap<(&str, &str), &Package> = dependencies
        .third_party
        .iter()
        .map(|package| ((&*package.name, &*package.version), package))
        .collect();
    let mut findings = Vec::new();
    for named @ (name, version) in &dependencies.every_feature_tree {
        let quarantined = !dependencies.policy_tree.contains(named);
        let expression = by_name.get(&(name, version)).and_then(|package| package.license.as_deref());
        if let Err(problem) = acceptable(expression, quarantined) {
            findings.push(Finding::new(format!("{name} {version}"), problem));
        }
    }
    findings
}

fn acceptable(expression: Option<&str>, quarantined: bool) -> Result<(), String> {
    let expression = expression.ok_or("states no licence expression")?;
    let allowed = |licence: &str| {
        ALLOWED.contains(&licence) || (quarantined && ALLOWED_IN_QUARANTINE.contains(&licence))
    };
    match satisfied(expression, &allowed) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("its licence `{expression}` cannot be satisfied from the list")),
        Err(why) => Err(format!("its licence `{expression}` cannot be read: {why}")),
    }
}

/// Whether some choice that an SPDX expression leaves consists of allowed licences only.
///
/// `WITH` binds closer than `AND`, `AND` closer than `OR`. A slash, which old manifests write, is `OR`.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, allowed };
    let satisfied = parser.any_of()?;
    match parser.tokens {
        [] => Ok(satisfied),
        [token, ..] => Err(format!("`{token}` is not expected there")),
    }
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn any_of(&mut self) -> Result<bool, String> {
        let mut satisfied = self.all_of()?;
        while self.take("OR") {
            satisfied |= self.all_of()?;
        }
        Ok(satisfied)
    }

    fn all_of(&mut self) -> Result<bool, String> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let satisfied = self.any_of()?;
            return if self.take(")") { Ok(satisfied) } else { Err("a parenthesis is not closed".into()) };
        }
        let licence = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(licence))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        match *self.tokens {
            [] => Err("it ends too early".into()),
            ["OR" | "AND" | "WITH" | "(" | ")", ..] => {
                Err(format!("`{}` stands where a licence should", self.tokens[0]))
            }
            [name, ref rest @ ..] => {
                self.tokens = rest;
                Ok(name)
            }
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let taken = self.tokens.first() == Some(&token);
        if taken {
            self.tokens = &self.tokens[1..];
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_policy(expression: &str) -> Result<bool, String> {
        satisfied(expression, &|licence| ALLOWED.contains(&licence))
    }

    #[test]
    fn an_expression_is_satisfied_if_one_of_its_choices_is() {
        let cases = [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0-only AND MIT", false),
            ("Apache-2.0 AND ISC", true),
            ("MIT OR Apache-2.0 OR LGPL-2.1-or-later", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND OpenSSL", false),
            ("(GPL-3.0-only OR (MIT AND (ISC)))", true),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH Classpath-exception-2.0", false),
            ("GPL-2.0-only WITH Classpath-exception-2.0", false),
            ("MPL-2.0", false),
            ("Apache-2.0+", false),
            ("LicenseRef-ours", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(with_policy(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn and_binds_closer_than_or() {
        assert_eq!(with_policy("MIT OR GPL-3.0-only AND GPL-2.0-only"), Ok(true));
        assert_eq!(with_policy("GPL-3.0-only AND GPL-2.0-only OR MIT"), Ok(true));
        assert_eq!(with_policy("(MIT OR GPL-3.0-only) AND GPL-2.0-only"), Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for expression in [
            "",
            "()",
            "MIT OR",
            "OR MIT",
            "MIT Apache-2.0",
            "(MIT",
            "MIT)",
            "MIT WITH",
            "MIT AND OR ISC",
            "/",
        ] {
            assert!(with_policy(expression).is_err(), "{expression:?}");
        }
    }

    #[test]
    fn copyleft_by_the_file_stays_in_quarantine_and_no_licence_is_none() {
        let cases = [
            (Some("MIT"), false, true),
            (Some("MPL-2.0"), false, false),
            (Some("MPL-2.0"), true, true),
            (Some("GPL-3.0-only"), true, false),
            (None, true, false),
        ];
        for (expression, quarantined, expected) in cases {
            assert_eq!(acceptable(expression, quarantined).is_ok(), expected, "{expression:?} {quarantined}");
        }
    }
}
