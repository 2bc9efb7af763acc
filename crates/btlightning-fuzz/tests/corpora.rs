//! Every input of every corpus, through its target: those that fuzzing found worth keeping, and those that once failed.
//!
//! One test and nothing beside it, because the targets measure the heap of the process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use btlightning_fuzz::TARGETS;

#[test]
fn every_input_of_every_corpus_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&corpora), names, "a corpus for each target, and no other");
    for (name, target) in TARGETS {
        let inputs: Vec<PathBuf> =
            names_in(&corpora.join(name)).iter().map(|file| corpora.join(name).join(file)).collect();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in inputs {
            let bytes = fs::read(&input).expect("a file");
            // Says which input it was, if that panics.
            let _named = NamedOnPanic(&input);
            target(&bytes);
        }
    }
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"))
        .collect()
}

struct NamedOnPanic<'a>(&'a Path);

impl Drop for NamedOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "a test that fails says where")]
            {
                eprintln!("it was {}", self.0.display());
            }
        }
    }
}
