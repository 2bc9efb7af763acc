//! What a schedule is: who is on the network and what happens to them, drawn from one number before anything runs.

use std::time::Duration;

use fastrand::Rng;

/// All that is going to happen. Printed with `{:#?}` it can be read; its seed makes it again.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) setting: Setting,
    pub(crate) steps: Vec<Step>,
}

/// Who there is at the beginning.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) validators: Vec<ValidatorSetting>,
    pub(crate) miners: Vec<MinerSetting>,
    pub(crate) weather: Weather,
    /// How the ending has the validators find their miners again.
    pub(crate) finds_by_itself: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ValidatorSetting {
    /// Several may have one hotkey, as processes of one validator do.
    pub(crate) hotkey: usize,
    /// Several may be on one host.
    pub(crate) host: usize,
    pub(crate) probes_slowly: bool,
    /// Whether it has heard of all miners when it comes for the first time.
    pub(crate) knows_miners: bool,
    pub(crate) addresses_max: usize,
    pub(crate) leaves_by: Leaving,
}

#[derive(Debug, Clone)]
pub(crate) struct MinerSetting {
    /// Where it starts; nowhere if somebody is there already.
    pub(crate) spot: usize,
    pub(crate) requires_permit: bool,
    pub(crate) permit_refresh: Duration,
    pub(crate) keeps_tls_key: bool,
    pub(crate) validates_addresses: bool,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_hotkey_max: usize,
    pub(crate) streams_max: u32,
    pub(crate) strangers_max: usize,
    pub(crate) handshakes_per_minute: u32,
    pub(crate) grace: Duration,
}

/// How a validator goes at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    Close,
    Drop,
    Crash,
}

/// Where miners can be: the second has the host of the first.
pub(crate) const SPOTS: [&str; 5] =
    ["10.0.0.2:8443", "10.0.0.2:8444", "10.0.0.3:8443", "10.0.0.4:8443", "10.0.0.5:9"];

/// Something happens after a pause.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) action: Action,
}

/// Where it makes no sense at the time (the miner is down, the spot is taken), it does nothing.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Ask { times: usize, ask: Ask },
    Name { validator: usize, how: Naming, who: Vec<Named> },
    Pin { validator: usize, pins: Vec<Pin> },
    Leave { validator: usize, how: Leaving },
    Come { validator: usize },
    Rebind { validator: usize, host: u8, port: u16 },
    Start { miner: usize, spot: usize },
    Stop { spot: usize },
    Restart { spot: usize },
    Crash { spot: usize, says_nothing: bool },
    Permit { miner: usize, holders: Vec<bool>, fails: bool },
    Clean { spot: usize, idle_secs: u64 },
    Cut { validator: usize, spot: usize },
    Heal,
    Weather(Weather),
    Darken { spot: usize, time: Duration },
    Intrude { spot: usize, kind: Hostile },
}

/// A miner's spot is dark for less than this, in milliseconds.
pub(crate) const DARKNESS_MS: u64 = 9000;

/// How long datagrams take and how many get there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
}

/// One query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) validator: usize,
    pub(crate) miner: usize,
    pub(crate) way: Way,
    /// Named by its hotkey, or as an axon.
    pub(crate) at: At,
    pub(crate) synapse: Synapse,
    pub(crate) timeout: Duration,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) cancelled_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Typed,
    Dynamic,
    Raw,
    FanOut,
    Stream,
    PublishedStream,
}

/// Where a miner is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Nothing is said.
    Unsaid,
    /// Where it runs, or ran last.
    True,
    Spot(usize),
}

/// What a handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synapse {
    Echo,
    Slow,
    Hang,
    Block,
    Fail,
    Panic,
    TooLarge,
    /// In chunks.
    Count,
    Break,
    Stall,
    Flood,
}

impl Synapse {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Slow => "slow",
            Self::Hang => "hang",
            Self::Block => "block",
            Self::Fail => "fail",
            Self::Panic => "panic",
            Self::TooLarge => "too large",
            Self::Count => "count",
            Self::Break => "break",
            Self::Stall => "stall",
            Self::Flood => "flood",
        }
    }

    /// Whether it can succeed.
    pub(crate) fn answers(self) -> bool {
        matches!(self, Self::Echo | Self::Slow | Self::Block | Self::Count)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Update,
    Follow,
    Connect,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) miner: usize,
    pub(crate) at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    None,
    True,
    Wrong,
}

/// A peer that means harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hostile {
    /// Connects, and stays.
    Idles,
    /// Fills streams with what is no handshake.
    Babbles,
    /// Says a handshake of its own again, on another connection.
    Replays,
    /// Says that it is a validator, whose key it does not have, and asks.
    Poses,
    /// Authenticates with a hotkey that nobody knows, asks and leaves without a word.
    Visits,
}

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let setting = Setting::draw(&mut rng);
        let count = rng.usize(16..44);
        let steps = (0..count)
            .map(|_| Step { pause: pause(&mut rng), action: Action::draw(&mut rng, &setting) })
            .collect();
        Self { seed, setting, steps }
    }
}

impl Setting {
    fn draw(rng: &mut Rng) -> Self {
        let hotkeys = rng.usize(1..=3);
        let crowd = rng.u8(..10) == 0;
        let validators = if crowd { 6 } else { rng.usize(1..=3) };
        let validators = (0..validators)
            .map(|n| ValidatorSetting {
                hotkey: if crowd { 0 } else { rng.usize(..hotkeys) },
                host: if rng.u8(..4) == 0 { 0 } else { n },
                probes_slowly: rng.u8(..6) > 0,
                knows_miners: rng.u8(..6) > 0,
                addresses_max: if rng.u8(..10) == 0 { 2 } else { 1024 },
                leaves_by: leaving(rng),
            })
            .collect();
        let miners = (0..rng.usize(1..=3)).map(|n| MinerSetting::draw(rng, n)).collect();
        Self { validators, miners, weather: Weather::draw(rng), finds_by_itself: rng.u8(..12) == 0 }
    }
}

impl MinerSetting {
    fn draw(rng: &mut Rng, n: usize) -> Self {
        Self {
            spot: n,
            requires_permit: rng.u8(..3) == 0,
            permit_refresh: Duration::from_secs(rng.u64(1..=6)),
            keeps_tls_key: rng.bool(),
            validates_addresses: rng.u8(..3) > 0,
            connections_max: mostly(rng, 64, 2),
            connections_per_hotkey_max: mostly(rng, 4, 1),
            streams_max: mostly(rng, 128, 2),
            strangers_max: mostly(rng, 16, 2),
            handshakes_per_minute: mostly(rng, 10_000, 30),
            grace: Duration::from_secs(rng.u64(..=2)),
        }
    }
}

impl Action {
    fn draw(rng: &mut Rng, setting: &Setting) -> Self {
        let validator = rng.usize(..setting.validators.len());
        let miner = rng.usize(..setting.miners.len());
        let spot = rng.usize(..SPOTS.len());
        match rng.u8(..100) {
            0..48 => {
                let times = if rng.u8(..6) == 0 { rng.usize(2..12) } else { 1 };
                Self::Ask { times, ask: Ask::draw(rng, validator, miner) }
            }
            48..58 => Self::Name {
                validator,
                how: [Naming::Update, Naming::Follow, Naming::Connect][rng.usize(..3)],
                who: named(rng, setting),
            },
            58..60 => Self::Pin {
                validator,
                pins: setting
                    .miners
                    .iter()
                    .map(|_| [Pin::None, Pin::True, Pin::Wrong][rng.usize(..3)])
                    .collect(),
            },
            60..63 => Self::Leave { validator, how: leaving(rng) },
            63..67 => Self::Come { validator },
            67..70 => Self::Rebind { validator, host: rng.u8(100..104), port: rng.u16(20_000..20_008) },
            70..74 => Self::Start { miner, spot },
            74..76 => Self::Stop { spot },
            76..79 => Self::Restart { spot },
            79..81 => Self::Crash { spot, says_nothing: rng.bool() },
            81..86 => Self::Permit {
                miner,
                holders: (0..3).map(|_| rng.u8(..3) > 0).collect(),
                fails: rng.u8(..5) == 0,
            },
            86..88 => Self::Clean { spot, idle_secs: rng.u64(..4) },
            88..90 => Self::Cut { validator, spot },
            90..92 => Self::Heal,
            92..94 => Self::Weather(Weather::draw(rng)),
            94..95 => Self::Darken { spot, time: Duration::from_millis(rng.u64(10..DARKNESS_MS)) },
            _ => Self::Intrude {
                spot,
                kind: [Hostile::Idles, Hostile::Babbles, Hostile::Replays, Hostile::Poses, Hostile::Visits]
                    [rng.usize(..5)],
            },
        }
    }
}

impl Ask {
    fn draw(rng: &mut Rng, validator: usize, miner: usize) -> Self {
        let way =
            [Way::Typed, Way::Typed, Way::Dynamic, Way::Raw, Way::FanOut, Way::Stream, Way::PublishedStream]
                [rng.usize(..7)];
        let in_chunks = matches!(way, Way::Stream | Way::PublishedStream);
        let synapse = match rng.u8(..20) {
            0..4 if in_chunks => Synapse::Break,
            4..6 if in_chunks => Synapse::Stall,
            6 if in_chunks => Synapse::Flood,
            _ if in_chunks => Synapse::Count,
            0..8 => Synapse::Echo,
            8..12 => Synapse::Slow,
            12..14 => Synapse::Hang,
            14..16 => Synapse::Block,
            16 => Synapse::Panic,
            17 => Synapse::TooLarge,
            _ => Synapse::Fail,
        };
        Self {
            validator,
            miner,
            way,
            at: at(rng),
            synapse,
            timeout: if rng.bool() { Duration::from_secs(10) } else { millis(rng, 10..12_000) },
            first_byte: (rng.u8(..8) == 0).then(|| millis(rng, 5..3000)),
            cancelled_after: (rng.u8(..5) == 0).then(|| millis(rng, 0..2000)),
        }
    }
}

impl Weather {
    fn draw(rng: &mut Rng) -> Self {
        let is_fair = rng.bool();
        let share = |rng: &mut Rng, most: f64| if is_fair { 0.0 } else { rng.f64() * most };
        Self {
            delay: Duration::from_millis([1, 10, 40, 150][rng.usize(..4)]),
            jitter: Duration::from_millis(if is_fair { 0 } else { rng.u64(..20) }),
            loss: share(rng, 0.2),
            duplicate: share(rng, 0.1),
            reorder: share(rng, 0.1),
        }
    }
}

fn named(rng: &mut Rng, setting: &Setting) -> Vec<Named> {
    let mut who = Vec::new();
    for miner in 0..setting.miners.len() {
        if rng.u8(..4) > 0 {
            let is_wrong = rng.u8(..5) == 0;
            let at = if is_wrong { At::Spot(rng.usize(..SPOTS.len())) } else { At::True };
            who.push(Named { miner, at });
        }
    }
    rng.shuffle(&mut who);
    who
}

fn at(rng: &mut Rng) -> At {
    match rng.u8(..10) {
        0..5 => At::Unsaid,
        5..9 => At::True,
        _ => At::Spot(rng.usize(..SPOTS.len())),
    }
}

fn leaving(rng: &mut Rng) -> Leaving {
    [Leaving::Close, Leaving::Drop, Leaving::Crash][rng.usize(..3)]
}

/// Now and then what is rare.
fn mostly<T>(rng: &mut Rng, usual: T, rare: T) -> T {
    if rng.u8(..8) == 0 { rare } else { usual }
}

/// Mostly short, so that things meet.
fn pause(rng: &mut Rng) -> Duration {
    match rng.u8(..20) {
        0..6 => Duration::ZERO,
        6..12 => millis(rng, 1..60),
        12..18 => millis(rng, 60..900),
        _ => millis(rng, 900..9000),
    }
}

/// Evenly over the orders of magnitude, about: short ones are as likely as long ones.
fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    let most = if rng.bool() { range.end } else { range.start + (range.end - range.start) / 16 + 1 };
    Duration::from_millis(rng.u64(range.start..most))
}
