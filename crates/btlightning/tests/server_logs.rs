//! The lines that operators were promised, and those that others can cause.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use btlightning::server::{Handler, SourceAddressResolver, SourceAllowlist, ValidatorPermitResolver};
use btlightning::{IoThreads, LightningError, LightningServerConfigBuilder, Result};
use common::{Miner, Raw, config, data, eventually, hotkey};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

/// Every line that this package logs on this thread: its level and its words.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn catch() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    fn count(&self, words: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    async fn has(&self, words: &str) {
        eventually(words, async || (self.count(words) > 0).then_some(())).await;
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("btlightning::") && *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("{}", event.metadata().level());
        event.record(&mut Words(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.0, " {value:?}").unwrap(),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

/// Says one thing after another, and the last one from then on.
struct Answers<T>(Mutex<Vec<Option<T>>>);

impl<T: Clone> Answers<T> {
    fn new<const N: usize>(mut answers: [Option<T>; N]) -> Box<Self> {
        answers.reverse();
        Box::new(Self(Mutex::new(answers.into())))
    }

    fn next(&self) -> Result<T> {
        let mut answers = self.0.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
        next.ok_or_else(|| LightningError::Handler("no chain\n".into()))
    }
}

impl SourceAddressResolver for Answers<SourceAllowlist> {
    fn resolve_allowed_sources(&self) -> Result<SourceAllowlist> {
        self.next()
    }
}

impl ValidatorPermitResolver for Answers<HashSet<String>> {
    fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
        self.next()
    }
}

fn only<const N: usize>(ips: [&str; N]) -> Option<SourceAllowlist> {
    Some(SourceAllowlist::Enforce(ips.iter().map(|ip| ip.parse().unwrap()).collect()))
}

const EMPTY: &str = "WARN source-address allowlist is empty under enforce_source_allowlist=true; ALL connections \
                     will be silently dropped";

/// A server on this thread, where the lines are collected.
fn here() -> LightningServerConfigBuilder {
    config().io_threads(IoThreads::Current)
}

#[tokio::test]
async fn the_lines_of_a_start_and_a_stop() {
    let (lines, _guard) = Lines::catch();
    let miner = Miner::with(here(), |_| {}).await;
    lines
        .has("INFO Validator permit checking is disabled -- any hotkey with a valid signature can connect")
        .await;
    lines.has("INFO QUIC address validation enabled -- clients without a token for their address must complete a Retry round-trip").await;
    assert_eq!(lines.count("INFO Starting Lightning QUIC server on 127.0.0.1:0"), 1);
    assert_eq!(lines.count(&format!("INFO QUIC endpoint created, listening on {}", miner.addr)), 1);
    let proven = Raw::connect(&miner).await.accepted("alice").await;
    lines.has(&format!("INFO Handshake successful, established connection: {}", proven.connection_id)).await;
    miner.server.stop().await.unwrap();
    assert_eq!(lines.count("INFO Lightning QUIC server stopped, all connections closed"), 1);
}

#[tokio::test]
async fn the_lines_of_an_allowlist() {
    let (lines, _guard) = Lines::catch();
    let config = here().enforce_source_allowlist(true).source_allowlist_refresh_secs(1);
    let _miner = Miner::with(config.require_address_validation(false), |server| {
        let answers = [only(["10.0.0.1", "10.0.0.2"]), only([]), Some(SourceAllowlist::Bypass)];
        server.set_source_address_resolver(Answers::new(answers));
    })
    .await;
    lines.has("INFO Initial source-address allowlist resolution: 2 allowed IPs").await;
    assert_eq!(lines.count(EMPTY), 0);
    lines.has("INFO Refreshed source-address allowlist: 0 allowed IPs").await;
    lines.has(EMPTY).await;
    lines.has("INFO Refreshed source-address allowlist: bypass").await;
    assert_eq!(lines.count("address validation"), 0);
}

#[tokio::test]
async fn the_lines_of_resolvers_that_fail() {
    let (lines, _guard) = Lines::catch();
    let config = here().enforce_source_allowlist(true).source_allowlist_refresh_secs(1);
    let config = config.require_validator_permit(true).validator_permit_refresh_secs(1);
    let _miner = Miner::with(config, |server| {
        server.set_source_address_resolver(Answers::new([None, None, only(["10.0.0.1"])]));
        let holders = HashSet::from([hotkey("alice").to_string(), "nobody".to_owned()]);
        server.set_validator_permit_resolver(Answers::new([None, None, Some(holders)]));
    })
    .await;
    lines.has("ERROR Initial source-address allowlist resolution failed: handler error: no chain\\n").await;
    lines.has("WARN enforce_source_allowlist=true with no resolved policy").await;
    lines.has(EMPTY).await;
    lines.has("ERROR Initial validator permit resolution failed: handler error: no chain\\n").await;
    lines.has("ERROR Source-address allowlist resolution failed").await;
    lines.has("ERROR Validator permit resolution failed").await;
    lines.has("INFO Refreshed source-address allowlist: 1 allowed IPs").await;
    lines.has("INFO Refreshed validator permit cache: 1 permitted validators").await;
}

#[tokio::test]
async fn the_lines_of_a_resolver_that_hangs() {
    struct Hangs {
        asked: Arc<AtomicUsize>,
        answers: Mutex<mpsc::Receiver<HashSet<String>>>,
    }
    impl ValidatorPermitResolver for Hangs {
        fn resolve_permitted_validators(&self) -> Result<HashSet<String>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answers.lock().unwrap().recv().map_err(LightningError::handler)
        }
    }
    let (lines, _guard) = Lines::catch();
    let asked = Arc::new(AtomicUsize::new(0));
    let (answer, answers) = mpsc::channel();
    let resolver = Box::new(Hangs { asked: asked.clone(), answers: Mutex::new(answers) });
    let _miner = Miner::with(here().validator_permit_refresh_secs(100), |server| {
        server.set_validator_permit_resolver(resolver);
    })
    .await;
    eventually("the question", async || (asked.load(Ordering::SeqCst) == 1).then_some(())).await;
    let hangs = "WARN the validator permit resolver does not return";
    tokio::time::pause();
    // After 30 s, and then whenever it would have been asked.
    for (secs, said) in [(29, 0), (2, 1), (98, 1), (4, 2), (104, 3)] {
        tokio::time::advance(Duration::from_secs(secs)).await;
        tokio::task::yield_now().await;
        assert_eq!(lines.count(hangs), said, "after another {secs} s");
    }
    tokio::time::resume();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    answer.send(HashSet::new()).unwrap();
    lines.has("INFO Initial validator permit resolution: 0 permitted validators").await;
    // It has returned, so it is asked again when it is time.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(101)).await;
    tokio::time::resume();
    eventually("another question", async || (asked.load(Ordering::SeqCst) == 2).then_some(())).await;
}

#[tokio::test]
async fn what_others_choose_is_escaped_and_bounded_and_does_not_flood() {
    let (lines, _guard) = Lines::catch();
    let miner = Miner::with(here(), |_| {}).await;
    let words = format!("a secret\nERROR all is well{}", "x".repeat(1 << 16));
    miner.server.register(
        "fails",
        Handler::unary(move |_| {
            let words = words.clone();
            async move { Err(words.into()) }
        }),
    );
    let raw = Raw::authenticated(&miner, "alice").await;
    for _ in 0..60 {
        raw.failure("no\nbody\u{1b}[31m", &data([])).await;
        raw.failure("fails", &data([])).await;
    }
    assert_eq!(lines.count("No handler registered for synapse type: no\\nbody\\u{1b}[31m"), 20);
    assert_eq!(lines.count("ERROR Handler error for fails: a secret\\nERROR all is well"), 20);
    let lines = lines.0.lock().unwrap();
    assert!(lines.iter().all(|line| line.len() < 2048 && !line.contains('\n')));
}
