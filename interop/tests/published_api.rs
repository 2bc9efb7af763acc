//! One program text that uses the whole published API (`src/published_api.rs`) compiles against the published package and
//! against ours, and does the same with both.

use btlightning_interop::{on_ours, on_theirs, within};

#[tokio::test]
async fn the_program_runs_on_the_published_package() {
    within("the program", on_theirs::run()).await.expect("a program that works");
}

#[tokio::test]
async fn the_same_program_runs_on_ours() {
    within("the program", on_ours::run()).await.expect("a program that works");
}
