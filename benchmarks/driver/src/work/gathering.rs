//! Many connections, and a connection that is lost: fan-out, idle memory, reconnecting.

use super::{CONNECTED_WITHIN, Cost, End, Pair, Turn, WITHIN, apart, count_for, quantiles};
use crate::{
    peer::PeerError,
    plan::{DOWN, FAN_OUT_SERVERS, IDLE_CONNECTIONS, ONE_KB, Work},
    protocol::{Connected, FanOut, Order, Reconnected, Server, Started},
    results::Subject,
};
use std::time::{Duration, Instant};

/// Time to find a server again.
const RECONNECTED_WITHIN: Duration = Duration::from_secs(40);

/// Requests before memory is looked at, so that what is allocated once has been.
const WARMING: u64 = 64;

impl Turn<'_> {
    pub(super) fn fan_out(&mut self) -> Result<(), End> {
        (self.progress)("starting the servers");
        let (mut pair, servers) = self.start(FAN_OUT_SERVERS)?;
        let subject = apart(Work::FanOut, ONE_KB);
        let outcome = self.ask_all(&mut pair, &servers, &subject);
        self.settle(&subject, outcome)
    }

    fn ask_all(&mut self, pair: &mut Pair, servers: &[Server], subject: &Subject) -> Result<(), PeerError> {
        (self.progress)("connecting to all");
        let connecting = pair.connect(Some(servers))?;
        self.record(subject, "connect_ms", connecting.as_secs_f64() * 1e3, servers.len() as u64);
        (self.progress)("asking all");
        let order = |rounds| Order::FanOut { bytes: ONE_KB, rounds };
        // One that varies much needs many rounds, and each takes some tens of milliseconds.
        let target = self.effort.measurement * 5;
        let each = pair.warm_up(target, 1, order)?;
        let rounds = count_for(target, each, 3, 500);
        let (fan_out, cost): (FanOut, Cost) = pair.measured(&order(rounds), WITHIN)?;
        let of = fan_out.elapsed_ms.len() as u64;
        for (measure, value) in
            quantiles(&fan_out.elapsed_ms, [("p50_ms", 0.5), ("p95_ms", 0.95), ("max_ms", 1.0)])?
        {
            self.record(subject, measure, value, of);
        }
        self.record_cost(subject, &cost, rounds * servers.len() as u64);
        Ok(())
    }

    pub(super) fn memory(&mut self) -> Result<(), End> {
        let (mut pair, servers) = self.start(1)?;
        let subject = apart(Work::Memory, None);
        let outcome = self.idle(&mut pair, &servers, &subject);
        self.settle(&subject, outcome)
    }

    fn idle(&mut self, pair: &mut Pair, servers: &[Server], subject: &Subject) -> Result<(), PeerError> {
        pair.connect(Some(servers))?;
        let warming = Order::Latency { bytes: ONE_KB, count: WARMING };
        let _: serde_json::Value = pair.client.ask(&warming, WITHIN)?;
        let Some(server) = &mut pair.server else { return Ok(()) };
        let before = server.usage()?.rss_bytes;
        (self.progress)("opening connections");
        let order = Order::Idle { connections: IDLE_CONNECTIONS, servers };
        let opened: Connected = pair.client.ask(&order, CONNECTED_WITHIN)?;
        if opened.connected != IDLE_CONNECTIONS {
            let (is, wanted) = (opened.connected, IDLE_CONNECTIONS);
            return Err(PeerError::Failed(format!("{is} of {wanted} connections are there")));
        }
        let after = server.usage()?.rss_bytes;
        let each = after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64;
        self.record(subject, "server_bytes", each, IDLE_CONNECTIONS);
        Ok(())
    }

    pub(super) fn reconnect(&mut self) -> Result<(), End> {
        let (mut pair, servers) = self.start(1)?;
        let subject = apart(Work::Reconnect, None);
        let outcome = pair.connect(Some(&servers)).and_then(|_| self.lose_and_find(&mut pair, &subject));
        self.settle(&subject, outcome)
    }

    /// Has the server restart, and the client find it again.
    pub(super) fn lose_and_find(&mut self, pair: &mut Pair, subject: &Subject) -> Result<(), PeerError> {
        let warming = Order::Latency { bytes: ONE_KB, count: WARMING };
        let _: serde_json::Value = pair.client.ask(&warming, WITHIN)?;
        let Some(server) = &mut pair.server else { return Ok(()) };
        server.send(&Order::Restart { down_ms: DOWN.as_millis() as u64 })?;
        let mut failures = 0;
        let (answered, up) = loop {
            let order = Order::Reconnect { until_ms: RECONNECTED_WITHIN.as_millis() as u64 };
            pair.client.send(&order)?;
            let (answered, found): (Instant, Reconnected) =
                pair.client.receive(RECONNECTED_WITHIN + WITHIN)?;
            failures += found.failures;
            // A server takes a while until it is gone; an answer of that while does not count. It is long before the
            // server is up again, and one that counts is not.
            if let Some((up, _)) = server.receive_if_any::<Started>(DOWN / 5)? {
                break (answered, up);
            }
        };
        // An answer may overtake the server's word that it is up.
        let took = answered.saturating_duration_since(up);
        self.record(subject, "ms", took.as_secs_f64() * 1e3, 1);
        self.record(subject, "failures", failures as f64, 1);
        Ok(())
    }
}
