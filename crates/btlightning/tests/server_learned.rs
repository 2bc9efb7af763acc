//! The source allowlist that learns: who is let in before it is enforced, who afterwards, and what becomes of it over
//! weeks, moves, restarts and failures.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use btlightning::server::{
    LearnedSources, LearnedSourcesBuilder, LightningServerConfigBuilder, SourceAddressResolver,
    SourceAllowlist, SourcesMode, SourcesReason,
};
use btlightning::{Hotkey, LightningError, Result};
#[cfg(feature = "sources-file")]
use common::eventually;
use common::sim::World;
use common::{Miner, Raw, client_config, config, data, hotkey, within};
use quinn::Endpoint;
use tokio::time::{sleep, timeout};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How often the server looks at its list.
const REFRESH: Duration = Duration::from_secs(60);

/// Longer than a refresh takes to happen.
const REFRESHED: Duration = Duration::from_secs(65);

type List = Arc<[(Hotkey, u64)]>;

/// What a chain would say.
#[derive(Clone, Default)]
struct Stakes(Arc<Mutex<Option<List>>>);

impl Stakes {
    fn of<const N: usize>(stakes: [(&str, u64); N]) -> Self {
        let told = Self::default();
        told.tell(stakes);
        told
    }

    fn tell<const N: usize>(&self, stakes: [(&str, u64); N]) {
        *self.0.lock().unwrap() = Some(stakes.iter().map(|(name, stake)| (hotkey(name), *stake)).collect());
    }

    fn fall_silent(&self) {
        *self.0.lock().unwrap() = None;
    }

    /// A list that learns from this, with few visitors.
    fn learned(&self) -> LearnedSourcesBuilder {
        let told = self.clone();
        LearnedSources::builder(move || told.0.lock().unwrap().clone())
            .visitors_per_minute(60)
            .visitors_burst(3)
            .retries_per_second(5)
    }
}

fn enforced() -> LightningServerConfigBuilder {
    config().enforce_source_allowlist(true).source_allowlist_refresh_secs(REFRESH.as_secs())
}

/// A miner on a simulated network, and its list.
struct Place {
    world: World,
    miner: Miner,
    sources: LearnedSources,
}

impl Place {
    async fn with(config: LightningServerConfigBuilder, sources: LearnedSources) -> Self {
        Self::on(World::new(), config, sources).await
    }

    async fn on(world: World, config: LightningServerConfigBuilder, sources: LearnedSources) -> Self {
        let server = world.started(config).await;
        server.learn_sources(sources.clone());
        Self { world, miner: Miner::serve(server), sources }
    }

    fn socket(&self, ip: &str, port: u16) -> Endpoint {
        // Connections live for hours here.
        let config = client_config(b"btlightning", |transport| {
            transport.max_idle_timeout(None);
        });
        self.world.socket_at(ip, port, config)
    }

    /// A connection from `ip`, if it comes about within three seconds.
    async fn connects(&self, ip: &str, port: u16) -> Option<Raw> {
        let connecting = Raw::connect_from(self.socket(ip, port), self.miner.addr);
        timeout(Duration::from_secs(3), connecting).await.ok()?.ok()
    }

    async fn authenticates(&self, name: &str, ip: &str, port: u16) -> Raw {
        let raw = self.connects(ip, port).await.expect("a connection");
        raw.accepted(name).await;
        raw
    }

    fn mode(&self) -> SourcesMode {
        self.sources.status().mode
    }

    /// The addresses that are let in.
    fn allowed(&self) -> Vec<String> {
        let entries = self.sources.entries().into_iter();
        let mut ips: Vec<_> = entries.filter(|e| e.is_allowed).map(|e| e.ip.to_string()).collect();
        ips.sort();
        ips
    }
}

const ALICE: &str = "10.1.0.1";
const BOB: &str = "10.1.0.2";

/// Alice and Bob, who hold 90 % of the stake, are connected, and the list is enforced.
async fn enforcing(stakes: &Stakes) -> (Place, Raw, Raw) {
    stakes.tell([("alice", 60), ("bob", 30), ("carol", 10)]);
    let place = Place::with(enforced(), stakes.learned().build().unwrap()).await;
    let alice = place.authenticates("alice", ALICE, 9000).await;
    let bob = place.authenticates("bob", BOB, 9000).await;
    // sleeps: in virtual time, as all who call this
    sleep(HOUR + 2 * REFRESHED).await;
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    (place, alice, bob)
}

#[tokio::test(start_paused = true)]
async fn everybody_passes_until_enough_stake_is_known_and_then_only_those_who_are() {
    let stakes = Stakes::of([("alice", 60), ("bob", 30), ("carol", 10)]);
    let place = Place::with(enforced(), stakes.learned().build().unwrap()).await;
    assert!(place.miner.server.is_source_enforcement_bypassed().await);
    let alice = place.authenticates("alice", ALICE, 9000).await;
    let nobody = place.authenticates("mallory", "10.9.0.1", 9000).await;
    sleep(2 * HOUR).await;
    let status = place.sources.status();
    assert_eq!((status.mode, status.reason), (SourcesMode::Learning, SourcesReason::CoverageTooLow));
    assert_eq!((status.coverage_permille, status.known_hotkeys, status.permitted_hotkeys), (600, 1, 3));
    assert!(nobody.is_open());

    let bob = place.authenticates("bob", BOB, 9000).await;
    assert_eq!(nobody.closed_for().await, "source_not_allowed");
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    assert_eq!(place.miner.server.get_allowed_source_count().await, 2);
    assert!(!place.miner.server.is_source_enforcement_bypassed().await);
    // It needs no visit to come again.
    for port in 9001..9010 {
        place.connects(ALICE, port).await.expect("a connection");
    }
    sleep(REFRESHED).await;
    assert!(alice.is_open() && bob.is_open());
    assert_eq!(place.sources.status().visitors_admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_addresses_gets_few_packets_and_who_moved_comes_in() {
    let stakes = Stakes::default();
    let (place, alice, bob) = enforcing(&stakes).await;
    let strangers: Vec<String> = (1..=60).map(|n| format!("10.9.0.{n}")).collect();
    let sockets: Vec<_> = strangers.iter().map(|ip| place.socket(ip, 9000)).collect();
    let mut attempts = tokio::task::JoinSet::new();
    for socket in sockets {
        let attempt = Raw::connect_from(socket, place.miner.addr);
        // All at one moment, before anybody repeats a packet.
        attempts.spawn(timeout(Duration::from_millis(500), attempt));
    }
    let attempts = attempts.join_all().await;
    let visitors: Vec<_> = attempts.into_iter().filter_map(|attempt| attempt.ok()?.ok()).collect();
    let heard = strangers.iter().filter(|ip| place.world.sent_to(ip) > 0).count();
    let status = place.sources.status();
    assert_eq!((visitors.len(), heard), (3, 5), "the burst of visitors, and that of Retries");
    assert_eq!((status.visitors_admitted, status.visitors_turned_away), (3, 2));
    assert_eq!(status.attempts_dropped, 55);

    // Who does not prove a permitted hotkey goes as strangers do.
    visitors[0].refused("mallory").await;
    for visitor in &visitors {
        assert_eq!(visitor.closed_for().await, "handshake_timeout");
    }
    assert_eq!(place.allowed(), [ALICE, BOB]);

    // Bob has moved. He is let in as a visitor, and is on the list before he reads the answer.
    let moved = place.connects("10.1.0.77", 9000).await.expect("a visit");
    moved.accepted("bob").await;
    assert_eq!(place.allowed(), [ALICE, BOB, "10.1.0.77"]);
    for port in 9001..9010 {
        place.connects("10.1.0.77", port).await.expect("a connection, and no visit");
    }
    sleep(5 * REFRESHED).await;
    assert!(moved.is_open() && alice.is_open() && bob.is_open());
    assert_eq!(place.miner.server.get_allowed_source_count().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_comes_once_a_minute_and_tires_out_nobody_else() {
    let (place, ..) = enforcing(&Stakes::default()).await;
    let begun = tokio::time::Instant::now();
    let mut visits = 0;
    for port in 9000..9030 {
        visits += usize::from(place.connects("10.9.0.1", port).await.is_some());
    }
    let minutes = begun.elapsed().as_secs() / 60 + 1;
    assert!(begun.elapsed() > REFRESH && visits as u64 <= minutes && visits > 0, "{visits} in {minutes} min");
    place.connects("10.9.0.2", 9000).await.expect("another's visit");
}

#[tokio::test(start_paused = true)]
async fn who_loses_its_permit_is_closed_and_is_unknown() {
    let stakes = Stakes::default();
    let (place, alice, bob) = enforcing(&stakes).await;
    stakes.tell([("alice", 60), ("carol", 10)]);
    sleep(2 * REFRESHED).await;
    assert_eq!(bob.closed_for().await, "source_not_allowed");
    assert!(alice.is_open());
    assert_eq!(place.allowed(), [ALICE]);
    // He is a visitor now, and one that proves nothing that counts.
    let visitor = place.connects(BOB, 9001).await.expect("a visit");
    visitor.refused("bob").await;
    assert_eq!(visitor.closed_for().await, "handshake_timeout");
    assert_eq!(place.sources.status().visitors_admitted, 1);
    // The permit comes back, and the address with it.
    stakes.tell([("alice", 60), ("bob", 30), ("carol", 10)]);
    sleep(2 * REFRESHED).await;
    place.authenticates("bob", BOB, 9002).await;
    assert_eq!(place.sources.status().visitors_admitted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_fails_changes_nothing_and_one_that_comes_late_finds_who_is_connected() {
    let stakes = Stakes::default();
    let place = Place::with(enforced(), stakes.learned().build().unwrap()).await;
    assert_eq!(place.sources.status().reason, SourcesReason::NoPermits);
    let alice = place.authenticates("alice", ALICE, 9000).await;
    sleep(3 * HOUR).await;
    assert_eq!(place.sources.status().reason, SourcesReason::NoPermits);
    assert!(alice.is_open() && place.allowed().is_empty());
    stakes.tell([("alice", 60)]);
    sleep(2 * REFRESHED).await;
    assert_eq!(place.allowed(), [ALICE]);
    sleep(HOUR).await;
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    let troubles: [fn(&Stakes); 3] =
        [Stakes::fall_silent, |stakes| stakes.tell([]), |stakes| stakes.tell([("bob", 0)])];
    for trouble in troubles {
        trouble(&stakes);
        sleep(3 * REFRESHED).await;
        assert_eq!((place.mode(), place.allowed()), (SourcesMode::Enforcing, vec![ALICE.to_owned()]));
        assert!(alice.is_open());
    }
    assert!(place.sources.status().permits_age.unwrap() >= 9 * REFRESH);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_lives_keeps_its_address_and_one_that_is_gone_opens_the_door() {
    let stakes = Stakes::of([("alice", 60)]);
    let sources = stakes.learned().address_age_max(DAY).build().unwrap();
    // Few packets, for time to pass quickly.
    let config = enforced()
        .source_allowlist_refresh_secs(3600)
        .idle_timeout_secs(90_000)
        .keep_alive_interval_secs(40_000);
    let place = Place::with(config, sources).await;
    let alice = place.authenticates("alice", ALICE, 9000).await;
    sleep(5 * DAY).await;
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    assert!(alice.is_open());
    alice.connection.close(0u32.into(), b"");
    sleep(DAY - 2 * HOUR).await;
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    sleep(4 * HOUR).await;
    let status = place.sources.status();
    assert_eq!((status.mode, status.reason), (SourcesMode::Learning, SourcesReason::CoverageTooLow));
    place.authenticates("mallory", "10.9.0.1", 9000).await;
}

#[tokio::test(start_paused = true)]
async fn where_a_connection_was_moved_to_is_not_learned() {
    let (place, alice, _bob) = enforcing(&Stakes::default()).await;
    place.world.rebind("10.1.0.1:9000", "10.1.0.50:4000");
    assert_eq!(alice.failure("echo", &data([])).await, "unrecognized synapse type");
    sleep(3 * REFRESHED).await;
    assert!(alice.is_open(), "it is Alice's, wherever her packets come from");
    assert_eq!(place.allowed(), [ALICE, BOB]);
    // Not even by another handshake on it, which says nothing of where she was before, either.
    let last_seen = || {
        let entries = place.sources.entries();
        entries.iter().find(|entry| entry.ip.to_string() == ALICE).unwrap().last_seen
    };
    let before = last_seen();
    alice.accepted("alice").await;
    assert_eq!((place.allowed(), last_seen()), (vec![ALICE.to_owned(), BOB.to_owned()], before));
}

#[tokio::test(start_paused = true)]
async fn visitors_show_that_their_address_is_real_even_where_others_need_not() {
    let stakes = Stakes::of([("alice", 60)]);
    let sources = stakes.learned().learning_time_min(Duration::ZERO).retries_per_second(1).build().unwrap();
    let place = Place::with(enforced().require_address_validation(false), sources).await;
    let _alice = place.authenticates("alice", ALICE, 9000).await;
    sleep(2 * REFRESHED).await;
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    let (first, second) = (place.socket("10.9.0.1", 9000), place.socket("10.9.0.2", 9000));
    let connect = |socket| timeout(Duration::from_millis(500), Raw::connect_from(socket, place.miner.addr));
    let (first, second) = tokio::join!(connect(first), connect(second));
    assert!(first.is_ok() && second.is_err());
    assert_eq!(place.world.sent_to("10.9.0.2"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_decides_and_turns_nobody_away() {
    let stakes = Stakes::of([("alice", 60)]);
    let sources = stakes.learned().learning_time_min(Duration::ZERO).build().unwrap();
    let config = config().source_allowlist_refresh_secs(REFRESH.as_secs());
    let place = Place::with(config, sources).await;
    let _alice = place.authenticates("alice", ALICE, 9000).await;
    let nobody = place.authenticates("mallory", "10.9.0.1", 9000).await;
    sleep(3 * REFRESHED).await;
    assert_eq!(place.mode(), SourcesMode::Enforcing);
    assert_eq!(place.miner.server.get_allowed_source_count().await, 1);
    place.authenticates("mallory", "10.9.0.2", 9000).await;
    assert!(nobody.is_open());
    assert_eq!(place.sources.status().visitors_admitted, 0);
}

#[tokio::test]
async fn nobody_waits_for_a_chain_that_hangs() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let sources = LearnedSources::builder(move || {
        let _ = held.lock().unwrap().recv();
        None
    });
    let sources = sources.build().unwrap();
    let miner = Miner::with(enforced(), |server| server.set_learned_sources(sources.clone())).await;
    Raw::authenticated(&miner, "alice").await;
    assert_eq!(sources.status().reason, SourcesReason::NoPermits);
    drop(release);
}

struct Everybody;

impl SourceAddressResolver for Everybody {
    fn resolve_allowed_sources(&self) -> Result<SourceAllowlist> {
        Ok(SourceAllowlist::Bypass)
    }
}

#[tokio::test]
async fn addresses_are_resolved_or_learned_and_not_both() {
    let mut server = common::new_server(enforced());
    server.set_source_address_resolver(Box::new(Everybody));
    server.set_learned_sources(LearnedSources::builder(|| None).build().unwrap());
    server.start().await.unwrap();
    match within("the refusal", server.serve_forever()).await {
        Err(LightningError::Config(why)) => assert!(why.starts_with("both a SourceAddressResolver"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn servers_of_one_subnet_may_share_a_list() {
    let stakes = Stakes::of([("alice", 60)]);
    let sources = stakes.learned().learning_time_min(Duration::ZERO).build().unwrap();
    let one = Place::with(enforced(), sources.clone()).await;
    let other = Place::with(enforced(), sources).await;
    let nobody = other.authenticates("mallory", "10.9.0.1", 9000).await;
    let _alice = one.authenticates("alice", ALICE, 9000).await;
    assert_eq!(nobody.closed_for().await, "source_not_allowed");
    other.authenticates("alice", ALICE, 9000).await;
    assert_eq!(other.sources.status().visitors_admitted, 0);
}

#[cfg(feature = "sources-file")]
mod kept {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A directory of its own, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("btlightning-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("sources.json")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kept_in(directory: &Directory, stakes: &Stakes) -> LearnedSourcesBuilder {
        stakes.learned().learning_time_min(Duration::ZERO).file(directory.file(), 2, [0x2f; 32])
    }

    /// Runs a miner that alice comes to, until it enforces, and stops it.
    async fn run_once(directory: &Directory) {
        let stakes = Stakes::of([("alice", 60)]);
        let place = Place::with(enforced(), kept_in(directory, &stakes).build().unwrap()).await;
        let _alice = place.authenticates("alice", ALICE, 9000).await;
        sleep(2 * REFRESHED).await;
        assert_eq!(place.mode(), SourcesMode::Enforcing);
        within("the stop", place.miner.server.stop()).await.unwrap();
        assert_eq!(place.sources.status().last_error, None);
        assert!(place.sources.status().last_saved.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_goes_on_where_it_ended_without_a_chain() {
        let directory = Directory::new("restart");
        run_once(&directory).await;
        assert_eq!(directory.names(), ["sources.json"]);
        let place = Place::with(enforced(), kept_in(&directory, &Stakes::default()).build().unwrap()).await;
        assert_eq!((place.mode(), place.allowed()), (SourcesMode::Enforcing, vec![ALICE.to_owned()]));
        place.authenticates("alice", ALICE, 9000).await;
        place.connects("10.9.0.1", 9000).await.expect("a visit");
        assert!(place.connects("10.9.0.1", 9001).await.is_none(), "a second visit");
        assert_eq!(place.sources.status().visitors_admitted, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_of_no_use_or_of_another_subnet_is_kept_and_learning_begins_anew() {
        let directory = Directory::new("corrupt");
        run_once(&directory).await;
        let foreign = Stakes::default().learned().file(directory.file(), 3, [0x2f; 32]).build().unwrap();
        assert_eq!(foreign.status().mode, SourcesMode::Learning);
        assert!(foreign.status().last_error.unwrap().contains("it is of subnet 2, not 3"));
        assert_eq!(directory.names().len(), 1);

        fs::write(directory.file(), "{\"version\":1,").unwrap();
        let stakes = Stakes::of([("alice", 60)]);
        let place = Place::with(enforced(), kept_in(&directory, &stakes).build().unwrap()).await;
        assert_eq!((place.mode(), place.allowed().len()), (SourcesMode::Learning, 0));
        let _alice = place.authenticates("alice", ALICE, 9000).await;
        sleep(2 * REFRESHED).await;
        assert_eq!((place.mode(), place.allowed()), (SourcesMode::Enforcing, vec![ALICE.to_owned()]));
        assert_eq!(place.sources.status().last_error, None);
        assert_eq!(directory.names().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_learned_is_written_soon_and_a_crash_loses_no_more() {
        let directory = Directory::new("soon");
        let stakes = Stakes::of([("alice", 60)]);
        let place = Place::with(enforced(), kept_in(&directory, &stakes).build().unwrap()).await;
        sleep(REFRESHED).await;
        let _alice = place.authenticates("alice", ALICE, 9000).await;
        sleep(Duration::from_secs(11)).await;
        let written = async || {
            fs::read_to_string(directory.file()).is_ok_and(|text| text.contains(ALICE)).then_some(())
        };
        eventually("the file", written).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_fails_is_told_and_changes_nothing_else() {
        let directory = Directory::new("disk");
        let stakes = Stakes::of([("alice", 60)]);
        let place = Place::with(enforced(), kept_in(&directory, &stakes).build().unwrap()).await;
        fs::remove_dir_all(&directory.0).unwrap();
        let _alice = place.authenticates("alice", ALICE, 9000).await;
        sleep(2 * REFRESHED).await;
        let error = async || place.sources.status().last_error;
        assert!(!eventually("the error", error).await.is_empty());
        assert_eq!(place.mode(), SourcesMode::Enforcing);
        fs::create_dir_all(&directory.0).unwrap();
        sleep(2 * REFRESHED).await;
        let saved = async || place.sources.status().last_saved;
        eventually("the save", saved).await;
        assert_eq!(place.sources.status().last_error, None);
    }
}
