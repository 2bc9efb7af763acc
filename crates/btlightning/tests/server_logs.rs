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
use btlightning_testkit::by_hand::packet::{
    FIRST_DATAGRAM_BYTES, Long, LongKind, crypto_frame, initial_keys,
};
use common::by_hand::Stranger;
use common::sim::{VALIDATOR_IP, World};
use common::{Miner, Raw, client_config, config, data, eventually, hotkey};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Every line that this package or QUIC logs on this thread: its level and its words.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<String>>>, Level);

impl Lines {
    fn catch() -> (Self, DefaultGuard) {
        Self::catch_from(Level::INFO)
    }

    /// Those of `level` and above.
    fn catch_from(level: Level) -> (Self, DefaultGuard) {
        let lines = Self(Arc::default(), level);
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
        let whose = ["btlightning::", "quinn", "rustls"];
        whose.iter().any(|whose| metadata.target().starts_with(whose)) && *metadata.level() <= self.1
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
async fn throw_away_hotkeys_do_not_flood_and_permitted_ones_have_their_lines() {
    let (lines, _guard) = Lines::catch();
    let config = here().max_handshake_attempts_per_minute(1000).max_connections_per_hotkey(1);
    let miner = Miner::with(config, |server| {
        let holders = HashSet::from([hotkey("alice").to_string()]);
        server.set_validator_permit_resolver(Answers::new([Some(holders)]));
    })
    .await;
    lines.has("INFO Initial validator permit resolution").await;
    let mut raws = Vec::new();
    for _ in 0..30 {
        raws.push(Raw::authenticated(&miner, "mallory").await);
    }
    assert_eq!(lines.count("INFO Handshake successful"), 20);
    assert_eq!(lines.count("WARN closing previous connection for validator"), 20);
    for _ in 0..30 {
        raws.push(Raw::authenticated(&miner, "alice").await);
    }
    assert_eq!(lines.count("INFO Handshake successful"), 50);
    assert_eq!(lines.count("WARN closing previous connection for validator"), 49);
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

#[tokio::test]
async fn packets_that_quic_warns_of_do_not_flood_either() {
    let (lines, _guard) = Lines::catch();
    let config = here().require_address_validation(false).max_unauthenticated_connections_per_ip(256);
    let miner = Miner::with(config, |_| {}).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut sent = 0;
    for stranger in 0..64 {
        let destination = [stranger; 8];
        let keys = initial_keys(&destination).unwrap();
        let packet = |number, token: &[u8], reserved| {
            let kind = LongKind::Initial { token };
            let packet = Long { kind, destination: &destination, source: &[], number, reserved };
            // The beginning of a ClientHello.
            packet.seal(&crypto_frame(0, &[1]), FIRST_DATAGRAM_BYTES, &keys.local).unwrap()
        };
        socket.send_to(&packet(0, &[], 0), miner.addr).await.unwrap();
        for number in 1..160 {
            // A token that it had not at first; and then bits that have to be zero.
            let packet = if number < 80 { packet(number, &[1], 0) } else { packet(number, &[], 3) };
            socket.send_to(&packet, miner.addr).await.unwrap();
            sent += 1;
        }
        // For the server, which is on this thread.
        tokio::task::yield_now().await;
    }
    Raw::authenticated(&miner, "alice").await;
    assert!(sent > 10_000);
    let warned = lines.count("illegal packet") + lines.count("invalid retry token");
    assert!((1..=20).contains(&warned), "{warned} lines for {sent} packets");
    // All of them: of a start, of a validator, and these.
    assert!(lines.0.lock().unwrap().len() < 40);
}

#[tokio::test(start_paused = true)]
async fn connections_that_fail_and_end_do_not_flood_at_any_level() {
    let (lines, _guard) = Lines::catch_from(Level::DEBUG);
    let world = World::new();
    let miner = world.miner(config().require_address_validation(false)).await;
    let socket = |alpn| world.socket_at(VALIDATOR_IP, 0, client_config(alpn, |_| {}));
    for _ in 0..30 {
        // Not let in by TLS.
        assert!(Raw::connect_from(socket(b"other"), miner.addr).await.is_err());
    }
    for name in [None, Some("mallory")] {
        for _ in 0..30 {
            let raw = Raw::connect_from(socket(b"btlightning"), miner.addr).await.unwrap();
            match name {
                Some(name) => drop(raw.accepted(name).await),
                // sleeps: virtual time, until the server has the end of TLS
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            raw.connection.close(0u8.into(), b"");
        }
    }
    for _ in 0..30 {
        // Sends more than it may.
        let mut stranger = Stranger::connected(&world, VALIDATOR_IP, miner.addr).await;
        for _ in 0..100 {
            stranger.say(&[1; 4]);
        }
        stranger.closed().await;
    }
    for words in
        ["DEBUG no connection from ", "had authenticated: ", " ended: ", "DEBUG closing the connection"]
    {
        let count = lines.count(words);
        assert!((1..=20).contains(&count), "{count} lines: {words}");
    }
}
