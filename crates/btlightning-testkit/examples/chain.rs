//! Runs an in-memory Subtensor until standard input ends, and prints what is on it as one line of JSON.
//!
//! Standard input may start with a line of JSON that describes the subnet: `{"netuid": 2, "neurons": [{"name": "alice",
//! "axon": "203.0.113.7:8091", "permit": true, "stake": 1000000000, "active": true}]}`. Every field has a default; a
//! neuron's hotkey is that of the sr25519 seed that `keys::seed(name)` is, which is printed too. Each further line is
//! answered by one line of JSON:
//!
//! - `block` makes a block, and prints its number. `extrinsics`, `requests`: what was sent, and what was asked.
//! - A neuron, as above: it becomes as described, and is registered if it was not. `"replaces"` names another, whose place
//!   it takes.
//! - `down`: every node refuses connections. `up`: they take them again.

use btlightning_testkit::{
    chain::{AccountId, Chain, Failure, Neuron, Subnet, ss58},
    keys,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{error::Error, io::Write, net::SocketAddr};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

/// The subnet, as standard input describes it.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Description {
    netuid: u16,
    neurons: Vec<Described>,
    /// Blocks between two `serve_axon` of a neuron.
    serving_rate_limit: u64,
}

/// A neuron of it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Described {
    name: String,
    axon: Option<SocketAddr>,
    permit: bool,
    stake: u64,
    inactive: bool,
    /// Whose uid it takes.
    replaces: Option<String>,
}

impl Default for Description {
    fn default() -> Self {
        let named = |name: &str| Described { name: name.into(), ..Described::default() };
        let at = |address: &str| address.parse().ok();
        Self {
            netuid: 2,
            serving_rate_limit: 50,
            neurons: vec![
                Described { permit: true, stake: 5_000_000_000, ..named("validator") },
                Described { axon: at("203.0.113.7:8091"), ..named("miner") },
                Described { axon: at("[2001:db8::7]:8091"), inactive: true, ..named("miner-v6") },
                named("newcomer"),
            ],
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let description = match input.next_line().await? {
        Some(line) if !line.trim().is_empty() => serde_json::from_str(&line)?,
        _ => Description::default(),
    };
    let chain = Chain::builder().start().await?;
    let neurons = populate(&chain, &description);
    say(
        &json!({ "url": chain.url(), "netuid": description.netuid, "block": chain.block_number(), "neurons": neurons }),
    )?;
    obey(&chain, description.netuid, &mut input).await
}

/// Does what each line asks for, until there are no more lines.
async fn obey(chain: &Chain, netuid: u16, input: &mut Lines<BufReader<Stdin>>) -> Result<(), Box<dyn Error>> {
    while let Some(line) = input.next_line().await? {
        match line.trim() {
            "block" => say(&json!({ "block": chain.produce_block() }))?,
            "extrinsics" => {
                let extrinsics = chain.extrinsics();
                let lines = extrinsics.iter().map(|extrinsic| format!("{:?}", extrinsic.outcome));
                say(&json!({ "extrinsics": lines.collect::<Vec<_>>() }))?;
            }
            "requests" => {
                let requests = chain.requests();
                say(&json!({ "requests": requests.iter().collect::<std::collections::BTreeMap<_, _>>() }))?;
            }
            "down" => {
                chain.fail(Failure::Refuse).await?;
                say(&json!({ "nodes": "down" }))?;
            }
            "up" => {
                chain.heal().await?;
                say(&json!({ "nodes": "up" }))?;
            }
            neuron if neuron.starts_with('{') => {
                let described: Described = serde_json::from_str(neuron)?;
                say(&chain.update(|state| settle(state.subnet(netuid), &described)))?;
            }
            other => say(&json!({ "error": format!("`{other}` is not understood") }))?,
        }
    }
    Ok(())
}

fn populate(chain: &Chain, description: &Description) -> Vec<Value> {
    chain.update(|state| {
        let subnet = state.add_subnet(description.netuid);
        subnet.owner_hotkey = hotkey("owner");
        subnet.owner_coldkey = hotkey("coldkey");
        subnet.hyperparameters.serving_rate_limit = description.serving_rate_limit;
        description.neurons.iter().map(|described| settle(subnet, described)).collect()
    })
}

/// Has the subnet have a neuron as described, and says how it is.
fn settle(subnet: &mut Subnet, described: &Described) -> Value {
    let mut neuron = Neuron::new(hotkey(&described.name), hotkey("coldkey"));
    neuron.stake = described.stake;
    neuron.validator_permit = described.permit;
    neuron.active = !described.inactive;
    if let Some(address) = described.axon {
        neuron = neuron.serving(address);
    }
    let before = described.replaces.as_ref().unwrap_or(&described.name);
    let uid = match subnet.uid(&hotkey(before)) {
        Some(uid) => {
            subnet.replace(uid, neuron.clone());
            uid
        }
        None => subnet.register(neuron.clone()),
    };
    json!({
        "uid": uid,
        "name": described.name,
        "seed": hex::encode(keys::seed(&described.name)),
        "hotkey": ss58(&neuron.hotkey),
        "coldkey": ss58(&neuron.coldkey),
        "axon": described.axon,
        "validator_permit": neuron.validator_permit,
        "stake": neuron.stake,
        "active": neuron.active,
    })
}

/// The hotkey of the seed that goes by `name`.
fn hotkey(name: &str) -> AccountId {
    let seed = schnorrkel::MiniSecretKey::from_bytes(&keys::seed(name));
    let seed = seed.expect("32 bytes are a seed");
    seed.expand_to_public(schnorrkel::ExpansionMode::Ed25519).to_bytes()
}

fn say(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}
