//! The README's chain example, run as it is against the in-memory chain.

use btlightning_testkit::keys;

use crate::world::{Miner, chain_with, subnet_of, validator, within};

include!("readme_example.rs");

#[test]
fn the_readme_has_the_example_that_is_run() {
    let readme = include_str!("../../../../README.md");
    let example = include_str!("readme_example.rs");
    assert!(readme.contains(example), "README.md and readme_example.rs differ");
}

#[tokio::test]
async fn the_readmes_chain_example_runs_with_only_the_endpoint_replaced() {
    let (one, two) = (Miner::start("one").await, Miner::start("two").await);
    let chain = chain_with([validator("validator", 9), one.neuron(), two.neuron()]).await;
    let seed = keys::seed("validator");
    let answered = within(validate_subnet(subnet_of(&chain), seed)).await.unwrap();
    assert_eq!(answered, 2);
}
