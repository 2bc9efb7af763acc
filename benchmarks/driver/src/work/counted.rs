//! What is done through a relay: counting bytes, and the long path.

use super::{End, Pair, Turn, WITHIN, apart, count_for};
use crate::{
    peer::PeerError,
    plan::{IN_FLIGHT, ONE_KB, ONE_MB, PATH_DELAY, PATH_LOSS, Work},
    protocol::{Latency, Order, Server, Throughput},
    relay::{Path, Relay, Traffic},
    results::{Layout, Subject},
    systems::Transport,
};
use std::time::{Duration, Instant};

/// Requests whose bytes are counted. Enough that acknowledgements and the odd keep-alive come to their share.
const COUNTED: u64 = 2_000;

/// For a system that takes its time over each.
const COUNTED_MIN: u64 = 50;

/// Counting does not want to be quiet, so it may take longer than a measurement.
const COUNTED_FOR: Duration = Duration::from_millis(400);

/// Every client of a path pays for some round trips of 50 ms.
const PATH_WITHIN: Duration = Duration::from_secs(90);

impl Turn<'_> {
    pub(super) fn wire(&mut self) -> Result<(), End> {
        let (mut pair, servers) = self.start(1)?;
        let relay = match self.transport {
            Transport::Udp => Relay::udp(servers[0].addr, None),
            Transport::Tcp => Relay::tcp(servers[0].addr),
        };
        let relay = relay.map_err(|error| PeerError::Lost(format!("no relay: {error}")))?;
        pair.connect(Some(&[Server { addr: relay.addr(), ..servers[0].clone() }]))?;
        let one = Subject::new("wire", Layout::TwoProcesses, ONE_KB);
        (self.progress)("one after another");
        let outcome =
            self.count_bytes(&mut pair, &relay, &one, |count| Order::Latency { bytes: ONE_KB, count });
        self.settle(&one, outcome)?;
        let many = Subject::new("wire-in-flight", Layout::TwoProcesses, ONE_KB);
        (self.progress)("many at a time");
        let order = |count| Order::Throughput { bytes: ONE_KB, count, in_flight: IN_FLIGHT };
        let outcome = self.count_bytes(&mut pair, &relay, &many, order);
        self.settle(&many, outcome)
    }

    fn count_bytes<'o>(
        &mut self,
        pair: &mut Pair,
        relay: &Relay,
        subject: &Subject,
        order: impl Fn(u64) -> Order<'o>,
    ) -> Result<(), PeerError> {
        let each = pair.warm_up(COUNTED_FOR, IN_FLIGHT, &order)?;
        let count = count_for(COUNTED_FOR, each, COUNTED_MIN, COUNTED);
        let before = relay.traffic();
        let _: serde_json::Value = pair.client.ask(&order(count), WITHIN)?;
        let Traffic { to_server, to_clients } = relay.traffic() - before;
        let measures = [
            ("to_server_bytes", to_server.bytes),
            ("to_client_bytes", to_clients.bytes),
            ("to_server_datagrams", to_server.datagrams),
            ("to_client_datagrams", to_clients.datagrams),
            ("dropped_datagrams", to_server.dropped + to_clients.dropped),
        ];
        let with_datagrams = self.transport == Transport::Udp;
        for (measure, total) in measures {
            if with_datagrams || measure.ends_with("_bytes") {
                self.record(subject, measure, total as f64 / count as f64, count);
            }
        }
        Ok(())
    }

    pub(super) fn path(&mut self) -> Result<(), End> {
        if self.transport == Transport::Tcp {
            let why = "the simulated path is one of datagrams, and this system's are the kernel's";
            return Err(PeerError::Skipped(why.into()).into());
        }
        let (mut pair, servers) = self.start(1)?;
        // The same path for every system, and another one in another round.
        let path = Path { delay: PATH_DELAY, loss: PATH_LOSS, seed: u64::from(self.round) };
        let relay = Relay::udp(servers[0].addr, Some(path));
        let relay = relay.map_err(|error| PeerError::Lost(format!("no relay: {error}")))?;
        pair.connect(Some(&[Server { addr: relay.addr(), ..servers[0].clone() }]))?;

        let subject = apart(Work::Path, ONE_KB);
        (self.progress)("1 KB latency");
        let outcome = self.path_latency(&mut pair, &subject, ONE_KB, 4);
        self.settle(&subject, outcome)?;
        let subject = Subject::new("path-throughput", Layout::TwoProcesses, ONE_KB);
        (self.progress)("1 KB throughput");
        let outcome = self.path_throughput(&mut pair, &subject);
        self.settle(&subject, outcome)?;
        // Last: the requests before have opened the congestion window, as those of a connection in use have.
        let subject = apart(Work::Path, ONE_MB);
        (self.progress)("1 MB latency");
        let outcome = self.path_latency(&mut pair, &subject, ONE_MB, 1);
        self.settle(&subject, outcome)?;
        self.record_losses(&relay.traffic());
        Ok(())
    }

    /// What the path lost, as it should, and what it had to drop, which should be nothing.
    fn record_losses(&mut self, traffic: &Traffic) {
        let (there, back) = (traffic.to_server, traffic.to_clients);
        let datagrams = there.datagrams + back.datagrams;
        let subject = apart(Work::Path, None);
        self.record(&subject, "lost_share", (there.lost + back.lost) as f64 / datagrams as f64, datagrams);
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
}
