//! A miner: a server, its permits, and handlers that tell on whoever should not have called them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use btlightning::server::{Call, Caller, Handler, HandlerError, LightningServer, ValidatorPermitResolver};
use btlightning::{Hotkey, LightningError, LightningServerConfig, TlsKeyPin};
use btlightning_testkit::{SimNet, keys};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::network::Host;
use crate::oracle::Oracle;
use crate::plan::MinerSetting;

/// The longest that a handler may take.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a stranger may stay.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection lives on which nothing arrives.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What every query asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) nonce: u64,
    /// Whoever asks.
    pub(crate) from: String,
    /// Whoever is asked; nobody in particular in a fan-out, whose request is one for all.
    pub(crate) to: Option<String>,
}

/// What every answer says, beside what it was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) nonce: u64,
    /// Whoever answers.
    pub(crate) miner: String,
    /// Whom the handler was told to have asked.
    pub(crate) caller: String,
    pub(crate) padding: String,
}

/// Who holds permits, and what the server has been told of it.
pub(crate) struct Permits {
    is_required: bool,
    state: Mutex<PermitState>,
    news: watch::Sender<u64>,
}

struct PermitState {
    holders: HashSet<String>,
    fails: bool,
    /// What was last told, and when.
    told: Option<(Instant, HashSet<String>)>,
    told_before: HashSet<String>,
}

impl Permits {
    fn new(is_required: bool, holders: HashSet<String>) -> Arc<Self> {
        let state = PermitState { holders, fails: false, told: None, told_before: HashSet::new() };
        Arc::new(Self { is_required, state: Mutex::new(state), news: watch::Sender::new(0) })
    }

    /// Changes who holds one; the server hears of it when it asks next, or, with `is_news`, at once.
    pub(crate) fn set(&self, holders: HashSet<String>, fails: bool, is_news: bool) {
        let mut state = self.state.lock().unwrap();
        (state.holders, state.fails) = (holders, fails);
        drop(state);
        if is_news {
            self.news.send_modify(|version| *version += 1);
        }
    }

    /// Whether the server, by what it was told until now, may serve `hotkey`. In the moment of a change both answers are
    /// right.
    fn may_serve(&self, hotkey: &str) -> bool {
        let state = self.state.lock().unwrap();
        let Some((at, told)) = &state.told else { return !self.is_required };
        let is_moment = *at == Instant::now() && state.told_before.contains(hotkey);
        !self.is_required || told.contains(hotkey) || is_moment
    }

    /// Whether `hotkey` is served once the server has heard the latest.
    pub(crate) fn would_serve(&self, hotkey: &str) -> bool {
        !self.is_required || self.state.lock().unwrap().holders.contains(hotkey)
    }
}

/// Handed to the server.
struct Resolver(Arc<Permits>);

impl ValidatorPermitResolver for Resolver {
    fn resolve_permitted_validators(&self) -> btlightning::Result<HashSet<String>> {
        let mut state = self.0.state.lock().unwrap();
        if state.fails && state.told.is_some() {
            return Err(LightningError::handler("the chain is not there"));
        }
        let before = state.told.take().map(|(_, told)| told).unwrap_or_default();
        state.told_before = before;
        state.told = Some((Instant::now(), state.holders.clone()));
        Ok(state.holders.clone())
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        Some(self.0.news.subscribe())
    }
}

/// A running miner.
pub(crate) struct Miner {
    pub(crate) server: Arc<LightningServer>,
    pub(crate) number: usize,
    pub(crate) hotkey: Hotkey,
    pub(crate) addr: SocketAddr,
    pub(crate) setting: MinerSetting,
    pub(crate) permits: Arc<Permits>,
    /// Handlers that have begun and are not dropped.
    pub(crate) at_work: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    net: SimNet,
    oracle: Oracle,
}

impl Miner {
    pub(crate) async fn start(
        net: &SimNet,
        oracle: &Oracle,
        number: usize,
        setting: &MinerSetting,
        addr: SocketAddr,
        holders: HashSet<String>,
    ) -> Self {
        let name = name(number);
        let hotkey = crate::hotkey(&name);
        let network = Host::new(net, addr.ip());
        let (ip, port) = (addr.ip().to_string(), addr.port());
        let mut server =
            LightningServer::with_network(hotkey.to_string(), ip, port, config(setting), network).unwrap();
        server.set_miner_keypair(keys::seed(&name));
        if setting.keeps_tls_key {
            server.set_tls_key_file(tls_key_file(number));
        }
        let permits = Permits::new(setting.requires_permit, holders);
        server.set_validator_permit_resolver(Box::new(Resolver(permits.clone())));
        let at_work = Arc::new(AtomicUsize::new(0));
        let desk = Desk {
            hotkey: hotkey.to_string(),
            permits: permits.clone(),
            at_work: at_work.clone(),
            oracle: oracle.clone(),
        };
        register(&server, &desk);
        server.start().await.unwrap();
        let server = Arc::new(server);
        let (net, oracle, setting) = (net.clone(), oracle.clone(), setting.clone());
        Self { serving: serve(&server), server, number, hotkey, addr, setting, permits, at_work, net, oracle }
    }

    /// Stops in good order and leaves the address.
    pub(crate) async fn stop(mut self) {
        self.halt().await;
        drop(self.server);
        released(&self.net, &self.oracle, self.addr).await;
    }

    /// Stops in good order, and begins again as what it was.
    pub(crate) async fn restart(&mut self) {
        self.halt().await;
        if let Err(error) = self.server.listen().await {
            self.oracle.wrong(format!("miner {} does not start again: {error}", self.number));
        }
        self.serving = serve(&self.server);
    }

    async fn halt(&mut self) {
        let number = self.number;
        // The grace, and twice the time for farewells.
        let bound = self.setting.grace + Duration::from_secs(4);
        self.oracle.within(bound, || format!("the stop of miner {number}"), self.server.stop()).await;
        let ended =
            self.oracle.within(Duration::ZERO, || format!("miner {number} serving"), &mut self.serving).await;
        if let Some(Err(error)) = ended {
            self.oracle.wrong(format!("the task of miner {number}: {error}"));
        }
        let at_work = self.at_work.load(Ordering::SeqCst);
        self.oracle.holds(at_work == 0, || format!("{at_work} handlers outlive the stop of miner {number}"));
    }

    /// Goes without being stopped, and, if it `says_nothing`, without a last packet.
    pub(crate) async fn crash(self, says_nothing: bool) {
        if says_nothing {
            self.net.blackhole(self.addr);
        }
        self.serving.abort();
        drop(self.server);
        released(&self.net, &self.oracle, self.addr).await;
        self.net.restore(self.addr);
        let at_work = self.at_work.load(Ordering::SeqCst);
        self.oracle.holds(at_work == 0, || format!("{at_work} handlers outlive miner {}", self.number));
    }

    /// What no server may ever hold.
    pub(crate) fn check_bounds(&self) {
        let (held, setting, number) = (self.server.holdings(), &self.setting, self.number);
        let mut shares: HashMap<Hotkey, usize> = HashMap::new();
        for member in &held.members {
            *shares.entry(*member).or_default() += 1;
        }
        let share = shares.values().max().copied().unwrap_or_default();
        let fits = held.members.len() <= setting.connections_max
            && share <= setting.connections_per_hotkey_max
            && held.strangers <= setting.strangers_max * 2;
        self.oracle.holds(fits, || format!("miner {number} holds more than it may: {held:?}"));
    }

    pub(crate) fn tls_key_pin(&self) -> Option<TlsKeyPin> {
        self.server.tls_key_pin()
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("miner {number}")
}

/// A socket is let go of soon after the last task that drives it: a closed connection drains for three times its
/// probe timeout (RFC 9000, section 10.2), which grows with what is lost.
async fn released(net: &SimNet, oracle: &Oracle, addr: SocketAddr) {
    oracle.within(Duration::from_secs(30), || format!("the release of {addr}"), net.released(addr)).await;
}

fn serve(server: &Arc<LightningServer>) -> JoinHandle<()> {
    let server = server.clone();
    tokio::spawn(async move { server.serve_forever().await.unwrap() })
}

fn config(setting: &MinerSetting) -> LightningServerConfig {
    LightningServerConfig::builder()
        .idle_timeout_secs(IDLE_TIMEOUT.as_secs())
        .keep_alive_interval_secs(6)
        .handshake_timeout_secs(HANDSHAKE_TIMEOUT.as_secs())
        .handler_timeout_secs(HANDLER_TIMEOUT.as_secs())
        .max_connections(setting.connections_max)
        .max_connections_per_hotkey(setting.connections_per_hotkey_max)
        .max_concurrent_bidi_streams(setting.streams_max)
        .max_unauthenticated_connections(setting.strangers_max * 2)
        .max_unauthenticated_connections_per_ip(setting.strangers_max)
        .max_handshake_attempts_per_minute(setting.handshakes_per_minute)
        .require_validator_permit(setting.requires_permit)
        .validator_permit_refresh_secs(setting.permit_refresh.as_secs())
        .require_address_validation(setting.validates_addresses)
        .shutdown_grace_secs(setting.grace.as_secs())
        .build()
        .unwrap()
}

/// The files are made once a process: what is in them is no part of a schedule.
fn tls_key_file(number: usize) -> PathBuf {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory: &Path = DIRECTORY.get_or_init(|| tempfile::tempdir().unwrap()).path();
    directory.join(format!("{number}.pem"))
}

/// What all handlers of a miner know.
#[derive(Clone)]
struct Desk {
    hotkey: String,
    permits: Arc<Permits>,
    at_work: Arc<AtomicUsize>,
    oracle: Oracle,
}

/// A handler that works, until it is dropped.
struct AtWork {
    count: Arc<AtomicUsize>,
    began: Instant,
    oracle: Oracle,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        let worked = self.began.elapsed();
        let in_time = worked <= HANDLER_TIMEOUT + Duration::from_millis(20);
        self.oracle.holds(in_time, || format!("a handler worked for {worked:?}"));
    }
}

impl Desk {
    fn begin(&self, caller: &Caller, question: &Question) -> AtWork {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        let (asks, asked) = (caller.hotkey.to_string(), &self.hotkey);
        self.oracle.holds(asks == question.from, || {
            format!("{asked} was told that {asks} asks, and it was {}", question.from)
        });
        self.oracle.holds(question.to.as_ref().is_none_or(|to| to == asked), || {
            format!("a query to {:?} came to {asked}", question.to)
        });
        self.oracle
            .holds(self.permits.may_serve(&asks), || format!("{asked} serves {asks}, who has no permit"));
        AtWork { count: self.at_work.clone(), began: Instant::now(), oracle: self.oracle.clone() }
    }

    fn answer(&self, caller: &Caller, question: &Question) -> Answer {
        let (miner, caller) = (self.hotkey.clone(), caller.hotkey.to_string());
        Answer { nonce: question.nonce, miner, caller, padding: String::new() }
    }

    /// A handler that answers after some `work`.
    fn unary<F, Fut>(&self, work: F) -> Handler
    where
        F: Fn(Answer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answer, String>> + Send + 'static,
    {
        let desk = self.clone();
        Handler::typed(move |caller: Caller, question: Question| {
            let at_work = desk.begin(&caller, &question);
            let working = work(desk.answer(&caller, &question));
            async move {
                let _at_work = at_work;
                working.await
            }
        })
    }

    /// A handler that sends chunks, told what each is to say.
    fn streaming<F, Fut>(&self, send: F) -> Handler
    where
        F: Fn(btlightning::server::ChunkSender, Answer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let desk = self.clone();
        Handler::streaming(move |call: Call, chunks| {
            let caller = *call.caller();
            let begun = call.decode::<Question>().map(|question| {
                let at_work = desk.begin(&caller, &question);
                (at_work, send(chunks, desk.answer(&caller, &question)))
            });
            async move {
                let (_at_work, sending) = begun?;
                sending.await
            }
        })
    }
}

/// How many chunks a query for `count` gets: some streams are longer than the queue and the window.
pub(crate) fn chunks_of(nonce: u64) -> u64 {
    [0, 1, 7, 80][(nonce % 4) as usize]
}

/// What the chunk with this number says.
pub(crate) fn chunk(answer: &Answer, number: u64) -> Vec<u8> {
    let Answer { nonce, miner, caller, .. } = answer;
    let mut chunk = format!("{nonce} {miner} {caller} {number}").into_bytes();
    chunk.resize(chunk.len() + (nonce % 900) as usize, b' ');
    chunk
}

fn register(server: &LightningServer, desk: &Desk) {
    server.register("echo", desk.unary(async |answer| Ok(answer)));
    server.register(
        "slow",
        desk.unary(async |answer: Answer| {
            // sleeps: in virtual time; now and then for longer than a handler may take
            tokio::time::sleep(HANDLER_TIMEOUT.mul_f64((answer.nonce % 11) as f64 / 10.0)).await;
            Ok(answer)
        }),
    );
    server.register("hang", desk.unary(|_| std::future::pending()));
    server.register("fail", desk.unary(async |_| Err("out of luck".to_owned())));
    server.register(
        "panic",
        // Without the hook that would print it.
        desk.unary(async |_| std::panic::resume_unwind(Box::new("a handler's panic"))),
    );
    server.register(
        "too large",
        desk.unary(async |answer: Answer| {
            Ok(Answer { padding: "x".repeat(crate::validator::FRAME_BYTES_MAX), ..answer })
        }),
    );
    let blocking = desk.clone();
    server.register(
        "block",
        // Virtual time stands still until it returns.
        Handler::typed_blocking(move |caller, question: Question| {
            let _at_work = blocking.begin(&caller, &question);
            std::thread::yield_now();
            Ok::<_, String>(blocking.answer(&caller, &question))
        }),
    );
    server.register(
        "count",
        desk.streaming(async |chunks, answer: Answer| {
            for number in 0..chunks_of(answer.nonce) {
                chunks.send(chunk(&answer, number)).await?;
                if answer.nonce.is_multiple_of(3) {
                    // sleeps: in virtual time
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Ok(())
        }),
    );
    server.register(
        "break",
        desk.streaming(async |chunks, answer: Answer| {
            chunks.send(chunk(&answer, 0)).await?;
            Err("out of luck".into())
        }),
    );
    server.register(
        "stall",
        desk.streaming(async |chunks, answer: Answer| {
            chunks.send(chunk(&answer, 0)).await?;
            std::future::pending().await
        }),
    );
    server.register(
        "flood",
        desk.streaming(async |chunks, _| {
            loop {
                chunks.send(Vec::new()).await?;
            }
        }),
    );
}
