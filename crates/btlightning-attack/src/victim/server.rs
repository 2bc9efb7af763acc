//! The server's own process.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use btlightning::server::{
    Call, Caller, Handler, Response, SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver,
};
use btlightning::{LightningServer, LightningServerConfig, Sr25519Signer};
use btlightning_testkit::keys;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};

use super::door::Door;
use super::log::Counted;
use super::{NAME, Order, Ready, Report, Setup, pipe};
use crate::process::{Usage, forget_peak, raise_open_files};
use crate::verdict::Failure;

/// The argument that has this program be one.
pub(crate) const ROLE: &str = "victim-server";

/// Does what it is told over standard input, until that ends.
pub(crate) fn run() -> Result<(), Failure> {
    raise_open_files();
    let log = Counted::default();
    tracing::subscriber::set_global_default(log.clone())?;
    let runtime = Runtime::new()?;
    let mut served: Option<Served> = None;
    pipe::serve(|line| match &mut served {
        None => {
            let (started, ready) =
                runtime.block_on(Served::start(serde_json::from_str(line)?, log.clone()))?;
            served = Some(started);
            Ok(serde_json::to_string(&ready)?)
        }
        Some(served) => {
            let report = runtime.block_on(served.carry_out(serde_json::from_str(line)?))?;
            Ok(serde_json::to_string(&report)?)
        }
    })?;
    if let Some(served) = served {
        served.door.open();
    }
    Ok(())
}

/// A server that serves.
struct Served {
    server: Arc<LightningServer>,
    door: Arc<Door>,
    log: Counted,
}

impl Served {
    async fn start(setup: Setup, log: Counted) -> Result<(Self, Ready), Failure> {
        let signer = Sr25519Signer::from_seed(keys::seed(NAME));
        let hotkey = signer.hotkey().to_string();
        let mut server = LightningServer::with_config(hotkey.clone(), "127.0.0.1".into(), 0, config(&setup))?;
        server.set_miner_signer(Box::new(signer));
        if let Some(allowed) = &setup.allowed {
            server.set_source_address_resolver(Box::new(Sources(allowed.iter().copied().collect())));
        }
        let permitted = setup.permitted.as_ref().unwrap_or(&setup.known_permitted);
        if setup.permitted.is_some() || !permitted.is_empty() {
            server.set_validator_permit_resolver(Box::new(Permits(permitted.iter().cloned().collect())));
        }
        let door = Arc::new(Door::default());
        register(&server, &door);
        server.start().await?;
        let addr = server.local_addr()?;
        let server = Arc::new(server);
        tokio::spawn({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        Ok((Self { server, door, log }, Ready { addr, hotkey }))
    }

    async fn carry_out(&mut self, order: Order) -> Result<Report, Failure> {
        match order {
            Order::Report => {}
            Order::ForgetPeak => forget_peak()?,
            Order::OpenDoor => self.door.open(),
            Order::Stop => {
                self.door.open();
                self.server.stop().await?;
            }
        }
        let (handlers_begun, handlers_alive) = self.door.counts();
        let (log_lines, log_line_bytes_max, log_lines_unprintable) = self.log.counts();
        let holdings = self.server.holdings();
        Ok(Report {
            usage: Usage::now()?,
            strangers: holdings.strangers,
            requests_held: holdings.requests,
            admitted: holdings.admitted,
            members: holdings.members.len(),
            handlers_begun,
            handlers_alive,
            log_lines,
            log_line_bytes_max,
            log_lines_unprintable,
            holders: holdings.holders,
            tasks: Handle::current().metrics().num_alive_tasks() + holdings.io_tasks,
        })
    }
}

fn config(setup: &Setup) -> LightningServerConfig {
    let mut config = LightningServerConfig::default();
    config.require_validator_permit = setup.permitted.is_some();
    config.enforce_source_allowlist = setup.allowed.is_some();
    let set = |value: Option<usize>, setting: &mut usize| *setting = value.unwrap_or(*setting);
    set(setup.max_unauthenticated_connections, &mut config.max_unauthenticated_connections);
    set(setup.max_unauthenticated_connections_per_ip, &mut config.max_unauthenticated_connections_per_ip);
    set(setup.max_connections, &mut config.max_connections);
    set(setup.max_tracked_rate_ips, &mut config.max_tracked_rate_ips);
    let set = |value: Option<u64>, setting: &mut u64| *setting = value.unwrap_or(*setting);
    set(setup.handshake_timeout_secs, &mut config.handshake_timeout_secs);
    set(setup.handler_timeout_secs, &mut config.handler_timeout_secs);
    let set = |value: Option<u32>, setting: &mut u32| *setting = value.unwrap_or(*setting);
    set(setup.max_handshake_attempts_per_minute, &mut config.max_handshake_attempts_per_minute);
    set(setup.max_concurrent_bidi_streams, &mut config.max_concurrent_bidi_streams);
    if let Some(required) = setup.require_address_validation {
        config.require_address_validation = required;
    }
    config
}

/// How much is asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Much {
    bytes: usize,
    chunks: usize,
}

/// What an attacked miner answers.
fn register(server: &LightningServer, door: &Arc<Door>) {
    // A map of dynamic values: the form whose decoding can be made to cost most.
    let at = door.clone();
    server.register(
        "echo",
        Handler::unary(move |call: Call| {
            let alive = at.enter();
            async move {
                let _alive = alive;
                Response::from_map(&call.to_map()?)
            }
        }),
    );
    // A type of one's own, which needs no tree of values.
    let at = door.clone();
    server.register(
        "typed",
        Handler::typed(move |_: Caller, much: Much| {
            let alive = at.enter();
            async move {
                let _alive = alive;
                Ok::<_, String>(much.bytes + much.chunks)
            }
        }),
    );
    // Waits for ever, as a handler that waits for a model does.
    let at = door.clone();
    server.register(
        "wait",
        Handler::unary(move |_: Call| {
            let alive = at.enter();
            async move {
                let _alive = alive;
                std::future::pending().await
            }
        }),
    );
    // Blocks its thread until the door is opened.
    let at = door.clone();
    server.register(
        "block",
        Handler::blocking(move |_| {
            let _alive = at.enter();
            at.wait();
            Response::from_map(&HashMap::new())
        }),
    );
    let at = door.clone();
    server.register(
        "large",
        Handler::unary(move |call: Call| {
            let alive = at.enter();
            async move {
                let _alive = alive;
                let much: Much = call.decode()?;
                Response::from_map(&HashMap::from([("data".to_owned(), Value::Binary(vec![7; much.bytes]))]))
            }
        }),
    );
    let at = door.clone();
    server.register(
        "chunks",
        Handler::streaming(move |call, chunks| {
            let alive = at.enter();
            async move {
                let _alive = alive;
                let much: Much = call.decode()?;
                for _ in 0..much.chunks {
                    chunks.send(vec![7; much.bytes]).await?;
                }
                Ok(())
            }
        }),
    );
}

struct Permits(HashSet<String>);

impl ValidatorPermitResolver for Permits {
    fn resolve_permitted_validators(&self) -> btlightning::Result<HashSet<String>> {
        Ok(self.0.clone())
    }
}

struct Sources(HashSet<IpAddr>);

impl SourceAddressResolver for Sources {
    fn resolve_allowed_sources(&self) -> btlightning::Result<SourceAllowlist> {
        Ok(SourceAllowlist::Enforce(self.0.clone()))
    }
}
