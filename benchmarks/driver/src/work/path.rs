//! What is done over the long path, which is a relay. To both sides the other one is on the internet.

use super::{End, Pair, Turn, apart, count_for, quantiles};
use crate::{
    peer::{Launch, PeerError},
    plan::{BESIDE_BYTES, FAN_OUT_SERVERS, IN_FLIGHT, ONE_KB, ONE_MB, PATH_DELAY, PATH_LOSS, Work},
    protocol::{FanOut, Latency, Order, Server, SetUp, Throughput},
    relay::{Path, Relay, Traffic},
    results::{Layout, Subject},
    systems::{Language, Transport},
};
use std::time::{Duration, Instant};

/// Every client of a path pays for some round trips of 50 ms.
const PATH_WITHIN: Duration = Duration::from_secs(90);

/// Small requests beside large answers, each of which takes some round trips.
const BESIDE: u64 = 20;

/// New clients, and comings back; each takes some round trips.
const CLIENTS: u64 = 8;

impl Turn<'_> {
    /// How to start peers for which the path is one of the internet.
    ///
    /// # Errors
    /// If the system has no such peers.
    fn far(&self) -> Result<Launch, PeerError> {
        if self.transport == Transport::Tcp {
            let why = "the simulated path is one of datagrams, and this system's are the kernel's";
            return Err(PeerError::Skipped(why.into()));
        }
        if self.language == Language::Python {
            let why = "from Python nothing can say that an address of this host is one of the internet";
            return Err(PeerError::Skipped(why.into()));
        }
        Ok(self.launch.far())
    }

    /// A path to the server. The same for every system, and another one in another round.
    fn path_to(&self, server: &Server, number: u64) -> Result<Relay, PeerError> {
        let seed = u64::from(self.round) * FAN_OUT_SERVERS as u64 + number;
        let path = Path { delay: PATH_DELAY, loss: PATH_LOSS, seed };
        Relay::udp(server.addr, Some(path)).map_err(|error| PeerError::Lost(format!("no relay: {error}")))
    }

    pub(super) fn path(&mut self) -> Result<(), End> {
        let launch = self.far()?;
        let (mut pair, servers) = self.start_as(&launch, 1)?;
        let relay = self.path_to(&servers[0], 0)?;
        let servers = [Server { addr: relay.addr(), ..servers[0].clone() }];
        pair.connect(Some(&servers))?;

        let subject = apart(Work::Path, ONE_KB);
        (self.progress)("1 KB latency");
        let outcome = self.path_latency(&mut pair, &subject, ONE_KB, 4);
        self.settle(&subject, outcome)?;
        let subject = Subject::new("path-throughput", Layout::TwoProcesses, ONE_KB);
        (self.progress)("1 KB throughput");
        let outcome = self.path_throughput(&mut pair, &subject);
        self.settle(&subject, outcome)?;
        // After the requests before have opened the congestion window, as those of a connection in use have.
        let subject = apart(Work::Path, ONE_MB);
        (self.progress)("1 MB latency");
        let outcome = self.path_latency(&mut pair, &subject, ONE_MB, 1);
        self.settle(&subject, outcome)?;
        let subject = Subject::new("path-beside-stream", Layout::TwoProcesses, BESIDE_BYTES);
        (self.progress)("beside large answers");
        let outcome = self.path_beside_stream(&mut pair, &subject);
        self.settle(&subject, outcome)?;
        self.path_setups(&mut pair, &servers)?;
        self.record_losses(&relay.traffic());
        // Last: the server that comes back is a new one.
        let subject = Subject::new("path-reconnect", Layout::TwoProcesses, None);
        (self.progress)("reconnect");
        let outcome = self.lose_and_find(&mut pair, &subject);
        self.settle(&subject, outcome)
    }

    pub(super) fn path_fan_out(&mut self) -> Result<(), End> {
        let launch = self.far()?;
        (self.progress)("starting the servers");
        let (mut pair, servers) = self.start_as(&launch, FAN_OUT_SERVERS)?;
        let paths = (0..).zip(&servers).map(|(number, server)| self.path_to(server, number));
        let relays: Vec<Relay> = paths.collect::<Result<_, _>>()?;
        let behind = |(server, relay): (&Server, &Relay)| Server { addr: relay.addr(), ..server.clone() };
        let servers: Vec<Server> = servers.iter().zip(&relays).map(behind).collect();
        let subject = Subject::new("path-fan-out", Layout::TwoProcesses, ONE_KB);
        let outcome = self.ask_all_far_away(&mut pair, &servers, &subject);
        self.settle(&subject, outcome)
    }

    fn ask_all_far_away(
        &mut self,
        pair: &mut Pair,
        servers: &[Server],
        subject: &Subject,
    ) -> Result<(), PeerError> {
        (self.progress)("connecting to all");
        let connecting = pair.connect(Some(servers))?;
        self.record(subject, "connect_ms", connecting.as_secs_f64() * 1e3, servers.len() as u64);
        (self.progress)("asking all");
        let order = |rounds| Order::FanOut { bytes: ONE_KB, rounds };
        let each = pair.warm_up(Duration::from_millis(300), 1, order)?;
        let rounds = count_for(self.effort.path_measurement, each, 3, 100);
        let fan_out: FanOut = pair.client.ask(&order(rounds), PATH_WITHIN)?;
        for (measure, value) in quantiles(&fan_out.elapsed_ms, [("p50_ms", 0.5), ("p95_ms", 0.95)])? {
            self.record(subject, measure, value, fan_out.elapsed_ms.len() as u64);
        }
        Ok(())
    }

    /// What the path lost, as it should; what was too large for it; and what it had to drop, which should be nothing.
    fn record_losses(&mut self, traffic: &Traffic) {
        let (there, back) = (traffic.to_server, traffic.to_clients);
        let datagrams = there.datagrams + back.datagrams;
        let subject = apart(Work::Path, None);
        self.record(&subject, "lost_share", (there.lost + back.lost) as f64 / datagrams as f64, datagrams);
        self.record(&subject, "too_large_datagrams", (there.too_large + back.too_large) as f64, datagrams);
        self.record(&subject, "dropped_datagrams", (there.dropped + back.dropped) as f64, datagrams);
    }

    /// A few at a time, for as long as a measurement takes: at this loss, a large payload may take all of it.
    fn path_latency(
        &mut self,
        pair: &mut Pair,
        subject: &Subject,
        bytes: u64,
        at_a_time: u64,
    ) -> Result<(), PeerError> {
        let order = Order::Latency { bytes, count: at_a_time };
        let started = Instant::now();
        let mut samples = Vec::new();
        while started.elapsed() < self.effort.path_measurement {
            let latency: Latency = pair.client.ask(&order, PATH_WITHIN)?;
            samples.extend(latency.latency_us);
        }
        self.record_latency(subject, &samples)
    }

    fn path_throughput(&mut self, pair: &mut Pair, subject: &Subject) -> Result<(), PeerError> {
        let order = |count| Order::Throughput { bytes: ONE_KB, count, in_flight: IN_FLIGHT };
        let each = pair.warm_up(Duration::from_millis(300), IN_FLIGHT, order)?;
        let count = count_for(self.effort.path_measurement, each, 4 * IN_FLIGHT, 100_000);
        let throughput: Throughput = pair.client.ask(&order(count), PATH_WITHIN)?;
        self.record(subject, "per_second", count as f64 / throughput.elapsed_s, count);
        Ok(())
    }

    fn path_beside_stream(&mut self, pair: &mut Pair, subject: &Subject) -> Result<(), PeerError> {
        let order = Order::BesideStream { bytes: BESIDE_BYTES, count: BESIDE };
        let latency: Latency = pair.client.ask(&order, PATH_WITHIN)?;
        self.record_latency(subject, &latency.latency_us)
    }

    /// New clients, and the one that there is, as it comes back.
    fn path_setups(&mut self, pair: &mut Pair, servers: &[Server]) -> Result<(), End> {
        let orders = [
            ("path-setup", Order::Setup { repeat: CLIENTS, servers: Some(servers) }),
            ("path-setup-again", Order::SetupAgain { repeat: CLIENTS }),
        ];
        for (work, order) in orders {
            let subject = Subject::new(work, Layout::TwoProcesses, None);
            (self.progress)(work);
            let set_up: Result<SetUp, _> = pair.client.ask(&order, PATH_WITHIN);
            let outcome = set_up.and_then(|set_up| self.record_setup(&subject, &set_up));
            self.settle(&subject, outcome)?;
        }
        Ok(())
    }
}
