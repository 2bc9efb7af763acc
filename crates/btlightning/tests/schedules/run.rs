//! A schedule is carried out: each action on whoever is there, and a look at everybody after it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use btlightning::server::Remains;
use btlightning::{Hotkey, QuicAxonInfo, TlsKeyPin};
use btlightning_testkit::SimNet;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::hostile::Intruder;
use crate::miner::{self, Miner};
use crate::oracle::{Findings, Oracle};
use crate::plan::{Action, Ask, At, Leaving, Named, Naming, Pin, SPOTS, Schedule, Step, Weather};
use crate::query::{DIALS_TAKE, Query, Target};
use crate::validator::{self, Validator};

pub(crate) struct Run {
    pub(crate) net: SimNet,
    pub(crate) oracle: Oracle,
    pub(crate) schedule: Schedule,
    pub(crate) validators: Vec<Validator>,
    /// Those that are up, by their spots.
    pub(crate) miners: BTreeMap<usize, Miner>,
    /// Where each miner is, or was last.
    pub(crate) homes: Vec<usize>,
    /// Who holds permits of each miner.
    holders: Vec<HashSet<String>>,
    pub(crate) queries: JoinSet<()>,
    /// Changes of registries that are under way.
    pub(crate) namings: JoinSet<()>,
    /// Miners and validators that are on their way out.
    pub(crate) leavings: JoinSet<()>,
    pub(crate) intruders: JoinSet<()>,
    /// Held while a miner leaves.
    spots: Vec<Arc<Mutex<()>>>,
    cuts: Vec<(IpAddr, IpAddr)>,
    darkened: Vec<SocketAddr>,
    asked: u64,
    intruded: u64,
    /// What all miners that there ever were have left.
    pub(crate) left: Vec<(usize, Remains, Arc<AtomicUsize>)>,
    /// How many know a miner that nobody is connected to.
    pub(crate) holders_at_rest: usize,
}

/// Runs a schedule from its beginning to its ending. Called on a paused clock.
pub(crate) async fn carry_out(schedule: &Schedule) -> Findings {
    let mut run = Run::begin(schedule).await;
    for step in &schedule.steps {
        run.step(step).await;
    }
    run.end().await
}

impl Run {
    async fn begin(schedule: &Schedule) -> Self {
        let (net, oracle) = (SimNet::new(schedule.seed), Oracle::new());
        net.set_default_link(schedule.setting.weather.link());
        let setting = &schedule.setting;
        let validators = setting
            .validators
            .iter()
            .enumerate()
            .map(|(n, setting)| Validator::new(&net, &oracle, n, setting));
        let everybody: HashSet<String> =
            setting.validators.iter().map(|setting| text(&validator::name(setting.hotkey))).collect();
        let mut run = Self {
            validators: validators.collect(),
            miners: BTreeMap::new(),
            homes: setting.miners.iter().map(|miner| miner.spot).collect(),
            holders: vec![everybody; setting.miners.len()],
            queries: JoinSet::new(),
            namings: JoinSet::new(),
            leavings: JoinSet::new(),
            intruders: JoinSet::new(),
            spots: SPOTS.iter().map(|_| Arc::default()).collect(),
            cuts: Vec::new(),
            darkened: Vec::new(),
            asked: 0,
            intruded: 0,
            left: Vec::new(),
            holders_at_rest: 0,
            schedule: schedule.clone(),
            net,
            oracle,
        };
        for number in 0..run.homes.len() {
            run.start(number, run.homes[number]).await;
        }
        pass(Duration::from_millis(50)).await;
        run.holders_at_rest = run.miners.values().next().map_or(0, |miner| miner.server.holdings().holders);
        let all: Vec<_> = (0..run.homes.len()).map(|miner| Named { miner, at: At::True }).collect();
        for number in 0..run.validators.len() {
            run.validators[number].come();
            if run.validators[number].setting.knows_miners {
                run.name(number, Naming::Connect, &all);
            }
        }
        run
    }

    async fn step(&mut self, step: &Step) {
        pass(step.pause).await;
        self.oracle.note(format_args!("{:?}", step.action));
        self.oracle.count(|counts| counts.actions += 1);
        self.act(&step.action).await;
        self.look().await;
    }

    async fn act(&mut self, action: &Action) {
        match action {
            Action::Ask { times, ask } => (0..*times).for_each(|_| self.ask(*ask)),
            Action::Name { validator, how, who } => self.name(*validator, *how, who),
            Action::Pin { validator, pins } => self.pin(*validator, pins),
            Action::Leave { validator, how } => self.leave(*validator, *how).await,
            Action::Come { validator } => self.validators[*validator].come(),
            Action::Rebind { validator, host, port } => {
                self.validators[*validator].rebind(([10, 0, 2, *host], *port).into());
            }
            Action::Start { miner, spot } => self.start(*miner, *spot).await,
            Action::Stop { spot } => self.stop(*spot),
            Action::Restart { spot } => {
                if let Some(miner) = self.miners.get_mut(spot) {
                    miner.restart().await;
                }
            }
            Action::Crash { spot, says_nothing } => {
                if let Some(miner) = self.miners.remove(spot) {
                    self.vacate(*spot, miner.crash(*says_nothing));
                }
            }
            Action::Permit { miner, holders, fails } => self.permit(*miner, holders, *fails),
            Action::Clean { spot, idle_secs } => {
                if let Some(miner) = self.miners.get(spot) {
                    miner.server.cleanup_stale_connections(*idle_secs).await.unwrap();
                }
            }
            Action::Cut { validator, spot } => {
                let cut = (self.validators[*validator].ip, addr(*spot).ip());
                self.net.partition(cut.0, cut.1);
                self.cuts.push(cut);
            }
            Action::Heal => self.heal(),
            Action::Weather(weather) => self.net.set_default_link(weather.link()),
            Action::Darken { spot, time } => {
                let (net, addr, time) = (self.net.clone(), addr(*spot), *time);
                net.blackhole(addr);
                self.darkened.push(addr);
                self.leavings.spawn(async move {
                    pass(time).await;
                    net.restore(addr);
                });
            }
            Action::Intrude { spot, kind } => {
                self.intruded += 1;
                let (net, oracle, number) = (self.net.clone(), self.oracle.clone(), self.intruded);
                let intruder =
                    Intruder { net, oracle, number, addr: addr(*spot), victim: validator::name(0) };
                self.intruders.spawn(intruder.go(*kind));
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let validator = &self.validators[ask.validator];
        let Some(client) = validator.client() else { return };
        self.asked += 1;
        let everyone = (0..self.homes.len()).map(|miner| self.target(Named { miner, at: ask.at })).collect();
        let target = self.target(Named { miner: ask.miner, at: ask.at });
        let (nonce, from, oracle) = (self.asked, validator.hotkey, self.oracle.clone());
        let query = Query { nonce, ask, client, from, target, everyone, oracle };
        self.queries.spawn(query.run());
    }

    fn target(&self, named: Named) -> Target {
        let hotkey = miner_hotkey(named.miner);
        let home = axon(hotkey, self.homes[named.miner]);
        let axon = match named.at {
            At::Unsaid => None,
            At::True => Some(home.clone()),
            At::Spot(spot) => Some(axon(hotkey, spot)),
        };
        Target { hotkey, axon, home }
    }

    fn name(&mut self, validator: usize, how: Naming, who: &[Named]) {
        let Some(client) = self.validators[validator].client() else { return };
        let axons = who.iter().map(|named| {
            let target = self.target(*named);
            target.axon.unwrap_or(target.home)
        });
        let (axons, oracle) = (axons.collect::<Vec<_>>(), self.oracle.clone());
        if how == Naming::Follow {
            client.follow_miners(axons).unwrap();
            return;
        }
        self.namings.spawn(async move {
            let change = async {
                match how {
                    Naming::Connect => client.connect(axons).await,
                    Naming::Update | Naming::Follow => client.update_miner_registry(axons).await,
                }
            };
            let what = || format!("{how:?} of validator {validator}'s registry");
            if let Some(Err(error)) = oracle.within(DIALS_TAKE, what, change).await {
                oracle.wrong(format!("{}: {error}", what()));
            }
        });
    }

    fn pin(&mut self, validator: usize, pins: &[Pin]) {
        let Some(client) = self.validators[validator].client() else { return };
        let pins: HashMap<Hotkey, TlsKeyPin> = pins
            .iter()
            .enumerate()
            .filter_map(|(number, pin)| {
                let up = self.miners.values().find(|miner| miner.number == number);
                let pin = match pin {
                    Pin::None => None,
                    Pin::True => up.and_then(Miner::tls_key_pin),
                    Pin::Wrong => Some(TlsKeyPin::from_bytes([7; 32])),
                };
                Some((miner_hotkey(number), pin?))
            })
            .collect();
        client.pin_tls_keys(pins).unwrap();
    }

    pub(crate) async fn leave(&mut self, number: usize, how: Leaving) {
        let validator = &mut self.validators[number];
        let seen = validator.sockets();
        validator.leave(how).await;
        // A host that has crashed can be reached again when nobody is left there of before.
        let net = self.net.clone();
        self.leavings.spawn(async move {
            for addr in seen {
                net.released(addr).await;
                net.restore(addr);
            }
        });
    }

    /// Starts a miner somewhere. It leaves where it was; whoever was there before it stops.
    async fn start(&mut self, number: usize, spot: usize) {
        if self.miners.get(&spot).is_some_and(|miner| miner.number == number) {
            return;
        }
        self.stop(spot);
        if self.miners.get(&self.homes[number]).is_some_and(|miner| miner.number == number) {
            self.stop(self.homes[number]);
        }
        let addr = addr(spot);
        let free = self.spots[spot].lock();
        drop(self.oracle.within(Duration::from_secs(40), || format!("the release of {addr}"), free).await);
        let setting = &self.schedule.setting.miners[number];
        let holders = self.holders[number].clone();
        let miner = Miner::start(&self.net, &self.oracle, number, setting, addr, holders).await;
        self.left.push((number, miner.server.remains(), miner.at_work.clone()));
        self.homes[number] = spot;
        self.miners.insert(spot, miner);
    }

    fn stop(&mut self, spot: usize) {
        if let Some(miner) = self.miners.remove(&spot) {
            self.vacate(spot, miner.stop());
        }
    }

    /// Nobody starts at the spot until its miner has left.
    fn vacate(&mut self, spot: usize, leaving: impl Future<Output = ()> + Send + 'static) {
        let spot = self.spots[spot].clone().try_lock_owned().expect("one miner was there");
        self.leavings.spawn(async move {
            leaving.await;
            drop(spot);
        });
    }

    fn permit(&mut self, number: usize, holders: &[bool], fails: bool) {
        let holders: HashSet<String> = holders
            .iter()
            .enumerate()
            .filter(|(_, holds)| **holds)
            .map(|(hotkey, _)| text(&validator::name(hotkey)))
            .collect();
        self.holders[number].clone_from(&holders);
        if let Some(miner) = self.miners.values().find(|miner| miner.number == number) {
            let is_news = self.asked.is_multiple_of(2);
            miner.permits.set(holders, fails, is_news);
        }
    }

    /// Has every server hear the latest of its permits.
    pub(crate) fn tell_permits(&self) {
        for miner in self.miners.values() {
            miner.permits.set(self.holders[miner.number].clone(), false, true);
        }
    }

    pub(crate) fn heal(&mut self) {
        for (a, b) in self.cuts.drain(..) {
            self.net.heal(a, b);
        }
        for addr in self.darkened.drain(..) {
            self.net.restore(addr);
        }
    }

    pub(crate) fn clear_weather(&self) {
        self.net.set_default_link(Weather::fair().link());
    }

    /// What holds at any moment.
    pub(crate) async fn look(&mut self) {
        for validator in &mut self.validators {
            validator.check_changes().await;
        }
        for miner in self.miners.values() {
            miner.check_bounds();
        }
        // Those that are done are let go of; one that panicked is a mistake of the test's, or a handler's panic let out.
        for set in [&mut self.queries, &mut self.namings, &mut self.leavings, &mut self.intruders] {
            while let Some(ended) = set.try_join_next() {
                note_panic(&self.oracle, ended);
            }
        }
    }
}

pub(crate) fn note_panic(oracle: &Oracle, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        oracle.wrong(format!("a task panicked: {error}"));
    }
}

/// Virtual time goes by.
pub(crate) async fn pass(time: Duration) {
    // sleeps: in virtual time
    tokio::time::sleep(time).await;
}

pub(crate) fn addr(spot: usize) -> SocketAddr {
    SPOTS[spot].parse().unwrap()
}

pub(crate) fn miner_hotkey(number: usize) -> Hotkey {
    crate::hotkey(&miner::name(number))
}

pub(crate) fn axon(hotkey: Hotkey, spot: usize) -> QuicAxonInfo {
    let addr = addr(spot);
    QuicAxonInfo::new(hotkey.to_string(), addr.ip().to_string(), addr.port(), 4)
}

fn text(name: &str) -> String {
    crate::hotkey(name).to_string()
}
