//! Counting bytes, through a relay.

use super::{End, Pair, Turn, WITHIN, count_for};
use crate::{
    peer::PeerError,
    plan::{IN_FLIGHT, ONE_KB},
    protocol::{Order, Server},
    relay::{Relay, Traffic},
    results::{Layout, Subject},
    systems::Transport,
};
use std::time::Duration;

/// Requests whose bytes are counted. Enough that acknowledgements and the odd keep-alive come to their share.
const COUNTED: u64 = 2_000;

/// For a system that takes its time over each.
const COUNTED_MIN: u64 = 50;

/// Counting does not want to be quiet, so it may take longer than a measurement.
const COUNTED_FOR: Duration = Duration::from_millis(400);

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
}
