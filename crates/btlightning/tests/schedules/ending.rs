//! The ending of a schedule: everything is healed, everybody who should be connected is; everybody leaves, and nothing
//! is left.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use btlightning::{CallOptions, PeerState, QuicAxonInfo};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::miner::{Answer, HANDLER_TIMEOUT, IDLE_TIMEOUT, Miner, Question};
use crate::oracle::{Findings, Oracle};
use crate::plan::{DARKNESS_MS, Leaving, MinerSetting};
use crate::query::DIALS_TAKE;
use crate::run::{Run, addr, axon, miner_hotkey, note_panic, pass};
use crate::validator::{SLOW_PROBE, Validator};

/// The most that a schedule's own work may still take: a query, and the chunks of its answer.
const WORK_TAKES: Duration = Duration::from_secs(60);

/// In which the last probe of an address that was given up comes: they grow to ten times the first pause and a tenth.
const PROBES_TAKE: Duration = Duration::from_secs(SLOW_PROBE.as_secs() * 11 + 5);

/// How long a dead connection may be kept for its round trips' sake: three probe timeouts (RFC 9000, section 10.1), each of
/// them three round trips where there was but one (RFC 9002, sections 5.3 and 6.2.1), which went out into the dark and was
/// answered after it.
const ROUND_TRIPS_TAKE: Duration = Duration::from_secs(9 * (DARKNESS_MS / 1000 + 1));

/// In which whoever is dead is known to be, and whatever it had begun is over. The idle timeout is shorter than that of
/// round trips.
const DEAD_ARE_GONE_IN: Duration =
    Duration::from_secs(ROUND_TRIPS_TAKE.as_secs() + HANDLER_TIMEOUT.as_secs() + 3);
const _: () = assert!(IDLE_TIMEOUT.as_secs() < ROUND_TRIPS_TAKE.as_secs());

impl Run {
    pub(crate) async fn end(mut self) -> Findings {
        self.oracle.note("the ending");
        self.heal();
        self.clear_weather();
        self.intruders.abort_all();
        self.tell_permits();
        for validator in &mut self.validators {
            validator.come();
            if let Some(client) = validator.client() {
                client.pin_tls_keys(HashMap::new()).unwrap();
            }
        }
        self.settle().await;
        self.all_work_ends().await;
        self.all_find_their_miners().await;
        self.slots_are_free_again().await;
        self.nothing_is_left().await
    }

    /// Everything that was begun ends.
    async fn settle(&mut self) {
        for (what, set) in [
            ("queries", &mut self.queries),
            ("changes of registries", &mut self.namings),
            ("intruders", &mut self.intruders),
        ] {
            all_end(&self.oracle, what, set).await;
        }
        // Whoever leaves may have waited for a query.
        all_end(&self.oracle, "departures", &mut self.leavings).await;
    }

    /// No handler works for somebody who asks no more.
    async fn all_work_ends(&mut self) {
        let miners = &self.miners;
        let work = || miners.values().map(|miner| miner.at_work.load(Ordering::SeqCst)).sum::<usize>();
        let is_idle = eventually(HANDLER_TIMEOUT + Duration::from_secs(1), || work() == 0).await;
        self.oracle.holds(is_idle, || format!("{} handlers work for nobody", work()));
        let requests = || miners.values().map(|miner| miner.server.holdings().requests).sum::<usize>();
        let is_idle = eventually(DEAD_ARE_GONE_IN, || requests() == 0).await;
        self.oracle.holds(is_idle, || format!("{} requests are in flight, and nobody asks", requests()));
    }

    /// Every wanted peer that is up is connected, and answers; nobody else is.
    async fn all_find_their_miners(&mut self) {
        let axons: Vec<QuicAxonInfo> =
            (0..self.homes.len()).map(|number| axon(miner_hotkey(number), self.homes[number])).collect();
        // Until then a connection may look as if it were up whose end the network has swallowed. The limiter, where it
        // can be met, counts by the minute.
        let is_limited = self.miners.values().any(|miner| miner.setting.handshakes_per_minute < 100);
        pass(if is_limited { Duration::from_secs(61) } else { DEAD_ARE_GONE_IN }).await;
        let clients: Vec<_> = self.validators.iter().filter_map(Validator::client).collect();
        let takes = if self.schedule.setting.finds_by_itself {
            clients.iter().for_each(|client| client.follow_miners(axons.clone()).unwrap());
            PROBES_TAKE
        } else {
            for client in clients {
                let axons = axons.clone();
                self.namings.spawn(async move { client.update_miner_registry(axons).await.unwrap() });
            }
            all_end(&self.oracle, "updates of registries", &mut self.namings).await;
            DIALS_TAKE
        };
        let is_so = eventually(takes, || self.strays().is_empty()).await;
        self.oracle.holds(is_so, || format!("after {takes:?} {}", self.strays().join("; ")));
        self.look().await;
        let mut asked = 0;
        for validator in &self.validators {
            for miner in self.miners.values().filter(|miner| self.is_sure(validator, miner)) {
                asked += 1;
                ask(&self.oracle, validator, miner, asked).await;
            }
        }
    }

    /// Connections that should be there and are not, and the reverse.
    fn strays(&self) -> Vec<String> {
        let mut strays = Vec::new();
        for validator in &self.validators {
            for number in 0..self.homes.len() {
                let up = self.miners.get(&self.homes[number]).filter(|miner| miner.number == number);
                let client = validator.client();
                let state = client.and_then(|client| client.peer_state(&miner_hotkey(number)));
                let is_connected = state.as_ref().is_some_and(PeerState::is_connected);
                let fits = match up {
                    Some(miner) if !miner.permits.would_serve(&validator.hotkey.to_string()) => !is_connected,
                    Some(miner) => is_connected || !self.is_sure(validator, miner),
                    None => !is_connected,
                };
                if !fits {
                    strays.push(format!("validator {} has miner {number} {state:?}", validator.number));
                }
            }
        }
        strays
    }

    /// Whether the two are sure to be connected: nobody else can have the place, and the miner would serve.
    fn is_sure(&self, validator: &Validator, miner: &Miner) -> bool {
        let of_hotkey = self.validators.iter().filter(|other| other.hotkey == validator.hotkey).count();
        let MinerSetting { connections_max, connections_per_hotkey_max, strangers_max, .. } = miner.setting;
        miner.permits.would_serve(&validator.hotkey.to_string())
            && of_hotkey <= connections_per_hotkey_max
            && self.validators.len() <= connections_max
            // All of them may come at once, and from one host.
            && self.validators.len() <= strangers_max
            && self.homes.len() <= validator.setting.addresses_max
            // Who gives up for good after some failures does not find a miner that comes back by himself.
            && (validator.setting.probes_slowly || !self.schedule.setting.finds_by_itself)
    }

    /// When all have left, in whatever way, every place is free and can be taken again.
    async fn slots_are_free_again(&mut self) {
        for number in 0..self.validators.len() {
            self.leave(number, self.validators[number].setting.leaves_by).await;
        }
        let at_rest = self.holders_at_rest;
        let is_free = |miner: &Miner| {
            let held = miner.server.holdings();
            held.members.is_empty()
                && (held.strangers, held.stranger_sources, held.requests) == (0, 0, 0)
                && held.holders == at_rest
                && miner.at_work.load(Ordering::SeqCst) == 0
        };
        let all_free = eventually(DEAD_ARE_GONE_IN, || self.miners.values().all(is_free)).await;
        self.oracle.holds(all_free, || {
            let held: Vec<_> = self.miners.values().map(|miner| miner.server.holdings()).collect();
            format!("nobody is there, and miners hold {held:?}; at rest, {at_rest} know them")
        });
        if self.schedule.seed.is_multiple_of(3) {
            self.somebody_comes_again().await;
        }
    }

    async fn somebody_comes_again(&mut self) {
        let setting = &self.schedule.setting.validators[0];
        let mut validator = Validator::new(&self.net, &self.oracle, 99, setting);
        validator.come();
        let hotkey = validator.hotkey.to_string();
        let would_serve = self.miners.values().filter(|miner| miner.permits.would_serve(&hotkey));
        for (n, miner) in would_serve.take(setting.addresses_max).enumerate() {
            ask(&self.oracle, &validator, miner, 1000 + n as u64).await;
        }
        validator.leave(Leaving::Close).await;
    }

    /// When the miners have left, too, there is no socket and no task of theirs.
    async fn nothing_is_left(mut self) -> Findings {
        let addrs: Vec<_> = self.miners.keys().map(|spot| addr(*spot)).collect();
        for (_, miner) in std::mem::take(&mut self.miners) {
            match miner.number % 3 {
                0 => drop(self.leavings.spawn(miner.crash(false))),
                _ => drop(self.leavings.spawn(miner.stop())),
            }
        }
        all_end(&self.oracle, "departures", &mut self.leavings).await;
        for addr in addrs {
            self.oracle
                .within(Duration::ZERO, || format!("the release of {addr}"), self.net.released(addr))
                .await;
        }
        self.validators.clear();
        // The task that carries the network's datagrams is alive.
        let alive = || Handle::current().metrics().num_alive_tasks();
        let is_quiet = eventually(DEAD_ARE_GONE_IN, || alive() == 1).await;
        self.oracle.holds(is_quiet, || format!("{} tasks are alive when all have left", alive() - 1));
        for (number, remains, at_work) in &self.left {
            let (holders, at_work) = (remains.holders(), at_work.load(Ordering::SeqCst));
            self.oracle.holds((holders, at_work) == (0, 0), || {
                format!("miner {number} is gone, and {holders} know it; {at_work} handlers work")
            });
        }
        let totals = self.net.totals();
        self.oracle.note(format_args!("{totals:?}"));
        self.oracle.count(|counts| counts.schedules += 1);
        self.oracle.findings()
    }
}

/// A query that has to succeed.
async fn ask(oracle: &Oracle, validator: &Validator, miner: &Miner, nonce: u64) {
    let Some(client) = validator.client() else { return };
    let (from, to) = (validator.hotkey.to_string(), miner.hotkey.to_string());
    let question = Question { nonce, from: from.clone(), to: Some(to.clone()) };
    let spot = QuicAxonInfo::new(to.clone(), miner.addr.ip().to_string(), miner.addr.port(), 4);
    let options = CallOptions::new().timeout(Duration::from_secs(5));
    let called = client.call_with::<_, Answer>(spot, "echo", &question, options);
    let what = || format!("the last query of validator {} to miner {}", validator.number, miner.number);
    match oracle.within(Duration::from_secs(5), what, called).await {
        None => {}
        Some(Err(error)) => oracle.wrong(format!("{}: {error}", what())),
        Some(Ok(reply)) => {
            let expected = Answer { nonce, miner: to, caller: from, padding: String::new() };
            oracle.holds(reply.value == expected && reply.hotkey == miner.hotkey, || {
                format!("{}: {:?} of {}", what(), reply.value, reply.hotkey)
            });
        }
    }
}

async fn all_end(oracle: &Oracle, what: &str, set: &mut JoinSet<()>) {
    let ends = async {
        while let Some(ended) = set.join_next().await {
            note_panic(oracle, ended);
        }
    };
    oracle.within(WORK_TAKES, || format!("the last of all {what}"), ends).await;
}

/// Looks until it is so. What is looked at is counters, whose changes nobody announces.
async fn eventually(takes: Duration, is_so: impl Fn() -> bool) -> bool {
    let until = Instant::now() + takes;
    while !is_so() {
        if Instant::now() >= until {
            return false;
        }
        pass(Duration::from_millis(100)).await;
    }
    true
}
