//! Steps that start everybody: the chain, the miners, the validators.

use std::net::IpAddr;
use std::time::Instant;

use btlightning::{Sr25519Signer, metagraph};
use tempfile::TempDir;

use super::super::miner::{Miner, Setup, fresh_seed};
use super::super::report::{LISTED_MAX, Outcome, and_more, expect, heading, ms, short};
use super::super::subnet::{Announced, NETUID, Subnet};
use super::super::validator::Validator;
use super::super::words::Question;
use super::Demo;

/// What the chain counts in: 10^-9 of the subnet's alpha.
const RAO: u64 = 1_000_000_000;

/// What the two validators have staked, in alpha.
const STAKES: [u64; 2] = [1_000, 500];

impl Demo {
    /// Starts everybody; miners listen at `ip`.
    pub(super) async fn start(miners: u16, ip: IpAddr, text: String) -> Outcome<Self> {
        let validator_seeds = [fresh_seed()?, fresh_seed()?];
        let miner_seeds: Vec<_> = (0..miners).map(|_| fresh_seed()).collect::<Outcome<_>>()?;
        let keys = TempDir::new()?;

        let subnet = start_chain(validator_seeds, &miner_seeds).await?;
        let miners = start_miners(&subnet, &miner_seeds, ip, &keys).await?;
        let [validator, other_validator] = connect(&subnet, validator_seeds, &miners).await?;
        let question = Question { text };
        Ok(Self { subnet, miners, validator, other_validator, question, _keys: keys })
    }
}

async fn start_chain(validators: [[u8; 32]; 2], miners: &[[u8; 32]]) -> Outcome<Subnet> {
    heading("Start a chain, with mainnet's metadata, and a subnet whose hotkeys are registered");
    let hotkey = |seed: &[u8; 32]| Sr25519Signer::from_seed(*seed).hotkey();
    let validators = [0, 1].map(|index| (hotkey(&validators[index]), STAKES[index] * RAO));
    let miners: Vec<_> = miners.iter().map(hotkey).collect();

    let began = Instant::now();
    let subnet = Subnet::start(&validators, &miners).await?;
    let took = began.elapsed();
    let metagraph = subnet.reread().await?;
    println!(
        "   {} after {}: subnet {NETUID} has {} hotkeys, two of them with a validator permit",
        subnet.chain.url(),
        ms(took),
        metagraph.n
    );
    for (hotkey, stake) in &validators {
        println!("   {}  may validate, with a stake of {} alpha", short(hotkey), stake / RAO);
    }
    expect(metagraph.neurons.len() == miners.len() + 2, "every hotkey is registered")?;
    let permitted = metagraph::permitted_hotkeys(&metagraph, 0);
    expect(permitted == validators, "exactly the validators hold a permit, with their stake")?;
    Ok(subnet)
}

async fn start_miners(
    subnet: &Subnet,
    seeds: &[[u8; 32]],
    ip: IpAddr,
    keys: &TempDir,
) -> Outcome<Vec<Miner>> {
    heading(&format!("Start {} miners, each of which says on the chain where it is", seeds.len()));
    let mut miners = Vec::new();
    let mut is_written = false;
    for seed in seeds {
        let tls_key_file = miners.is_empty().then(|| keys.path().join("tls-key.pem"));
        let setup = Setup { seed: *seed, permits: subnet.permits(), tls_key_file };
        let miner = Miner::start(setup, ip, 0).await?;
        let words = match subnet.announce(&miner).await? {
            Announced::Signed { block, after, .. } => format!("signed, in block {block} after {}", ms(after)),
            Announced::Written => {
                is_written = true;
                "written there".to_owned()
            }
        };
        let key = if miner.tls_key_pin().is_some() { ", with the hash of its TLS key" } else { "" };
        if miners.len() < LISTED_MAX {
            println!("   {}  {:<21}  {words}{key}", short(&miner.hotkey), miner.addr);
        }
        miners.push(miner);
    }
    and_more(miners.len());
    if is_written {
        println!(
            "   (the chain takes no axon at {ip}, and this machine has no other: the demo wrote them itself)"
        );
    }
    Ok(miners)
}

async fn connect(subnet: &Subnet, seeds: [[u8; 32]; 2], miners: &[Miner]) -> Outcome<[Validator; 2]> {
    heading("Connect two validators, which are told the chain and the subnet, and find the miners there");
    let start = async |seed| {
        let began = Instant::now();
        let validator = Validator::start(seed, subnet.chain.url()).await?;
        Outcome::Ok((validator, began.elapsed()))
    };
    let [first, other] = seeds.map(start);
    let (first, other) = tokio::try_join!(first, other)?;
    for (validator, took) in [&first, &other] {
        let status = validator.status()?;
        println!(
            "   {}  read {} neurons at block {}, and is connected to {} miners after {}",
            short(&validator.hotkey),
            status.sync.neurons,
            status.sync.block.unwrap_or_default(),
            status.miners,
            ms(*took)
        );
        expect(status.miners == miners.len(), "the validator has found every miner")?;
        let pins = validator.client.metagraph().map(|snapshot| snapshot.tls_keys.clone()).unwrap_or_default();
        for miner in miners {
            validator.path_to(&miner.hotkey)?;
            expect(pins.get(&miner.hotkey).copied() == miner.tls_key_pin(), "its TLS key is on the chain")?;
        }
    }
    for miner in miners.iter().take(LISTED_MAX) {
        let path = first.0.path_to(&miner.hotkey)?;
        let checked = if miner.tls_key_pin().is_some() { ", its TLS key checked" } else { "" };
        println!(
            "   {}  {:<21}  authenticated, path {}{checked}",
            short(&miner.hotkey),
            miner.addr,
            ms(path)
        );
    }
    and_more(miners.len());
    Ok([first.0, other.0])
}
