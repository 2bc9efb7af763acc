//! `cargo xtask tidy`: what the compiler and clippy cannot check, as findings with a place and a way out.

mod dependencies;
mod house;
mod licences;
mod markdown;
mod metadata;
mod python;
mod rooms;
mod source;

use crate::Result;
use metadata::Dependencies;
use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// One thing that is not as the rules want it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// `path`, `path:line` or `package version`.
    place: String,
    problem: String,
}

impl Finding {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }

    fn at(path: &str, line_index: usize, problem: impl Into<String>) -> Self {
        Self::new(format!("{path}:{}", line_index + 1), problem)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// A file of the project as text, its path relative to the root and with `/`.
#[derive(Clone)]
struct TextFile {
    path: String,
    text: String,
}

/// Checks everything; with `fix_counts` writes the number of dependencies into README.md first.
pub(crate) fn run(root: &Path, fix_counts: bool) -> Result<()> {
    let dependencies = Dependencies::load(root)?;
    if fix_counts {
        fix_readme_count(root, dependencies.default_tree.len())?;
    }
    let rust = read_all(root, "rs")?;
    let python = [read_all(root, "py")?, read_all(root, "pyi")?].concat();
    let markdown = read_all(root, "md")?;
    let mut findings = BTreeSet::new();
    findings.extend(dependencies::check(&dependencies));
    findings.extend(licences::check(&dependencies));
    findings.extend(house::check_lints_inherited(&dependencies));
    for file in &rust {
        findings.extend(house::check(file));
        findings.extend(rooms::check(file));
    }
    for file in &python {
        findings.extend(python::check(file));
    }
    for file in &markdown {
        findings.extend(markdown::check_paths(file, &|path| root.join(path).exists()));
    }
    let readme = markdown.iter().find(|file| file.path == README);
    findings.extend(markdown::check_count(readme, dependencies.default_tree.len()));

    if findings.is_empty() {
        println!(
            "tidy: {} third-party packages in the default tree (budget {}), {} with every feature and platform, \
             {} Rust files, {} Python files, {} Markdown files: all in order",
            dependencies.default_tree.len(),
            dependencies::BUDGET,
            dependencies.every_feature_tree.len(),
            rust.len(),
            python.len(),
            markdown.len()
        );
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!("tidy: {} findings", findings.len()))
}

const README: &str = "README.md";

fn fix_readme_count(root: &Path, count: usize) -> Result<()> {
    let path = root.join(README);
    let text = fs::read_to_string(&path).map_err(|error| format!("{README}: {error}"))?;
    let fixed = markdown::with_count(&text, count)?;
    if fixed != text {
        fs::write(&path, fixed).map_err(|error| format!("{README}: {error}"))?;
        println!("{README} now says {count}");
    }
    Ok(())
}

/// The project's files that end in `.{extension}`, in the order of their paths.
fn read_all(root: &Path, extension: &str) -> Result<Vec<TextFile>> {
    let mut paths = Vec::new();
    collect(root, extension, &mut paths)?;
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        let path = relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        Ok(TextFile { path, text })
    };
    paths.iter().map(read).collect()
}

/// What is built or fetched, not written; and directories of tools, which start with a dot.
const NOT_OURS: [&str; 3] = ["target", "node_modules", "__pycache__"];

fn collect(dir: &Path, extension: &str, paths: &mut Vec<PathBuf>) -> Result<()> {
    let in_dir = |error| format!("{}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(in_dir)? {
        let entry = entry.map_err(in_dir)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // The entry's own type: a symbolic link is not followed, so the walk ends.
        let kind = entry.file_type().map_err(in_dir)?;
        if kind.is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&&*name) {
            collect(&path, extension, paths)?;
        } else if kind.is_file() && path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    Ok(())
}
