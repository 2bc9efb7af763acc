//! Echoes between a client and one server: set-up, latency, throughput and what they cost, in one process and in two.

use super::{Cost, End, Pair, Turn, WITHIN, count_for, quantiles};
use crate::{
    peer::PeerError,
    plan::{BESIDE_BYTES, IN_FLIGHT, SIZES_BYTES, Work},
    protocol::{Latency, Order, Server, SetUp, Throughput},
    results::{Layout, Subject},
    systems::{Language, Transport},
};

/// So many samples at least are asked for, however slow the system is.
const SAMPLES_MIN: u64 = 20;

/// So many samples are enough, however fast it is.
const SAMPLES_MAX: u64 = 20_000;

const REQUESTS_MAX: u64 = 500_000;

const CLIENTS_MIN: u64 = 10;
const CLIENTS_MAX: u64 = 200;

impl Turn<'_> {
    pub(super) fn one_process(&mut self) -> Result<(), End> {
        let mut pair = self.start_both()?;
        pair.connect(None)?;
        self.echoes(&mut pair, Layout::OneProcess, None)
    }

    pub(super) fn two_processes(&mut self) -> Result<(), End> {
        let (mut pair, servers) = self.start(1)?;
        pair.connect(Some(&servers))?;
        self.echoes(&mut pair, Layout::TwoProcesses, Some(&servers))?;
        if self.wants(Work::BesideStream) {
            let subject = Subject::new(Work::BesideStream.name(), Layout::TwoProcesses, BESIDE_BYTES);
            (self.progress)("beside large answers");
            let outcome = self.beside_stream(&mut pair, &subject);
            self.settle(&subject, outcome)?;
        }
        Ok(())
    }

    fn echoes(&mut self, pair: &mut Pair, layout: Layout, servers: Option<&[Server]>) -> Result<(), End> {
        for bytes in SIZES_BYTES {
            if self.wants(Work::Latency) {
                let subject = Subject::new(Work::Latency.name(), layout, bytes);
                (self.progress)(&format!("latency, {bytes} bytes"));
                let outcome = self.latency(pair, &subject, bytes);
                self.settle(&subject, outcome)?;
            }
            if self.wants(Work::Throughput) {
                let subject = Subject::new(Work::Throughput.name(), layout, bytes);
                (self.progress)(&format!("throughput, {bytes} bytes"));
                let outcome = self.throughput(pair, &subject, bytes);
                self.settle(&subject, outcome)?;
            }
        }
        // Last, when the processes are as warm as they get.
        if self.wants(Work::Setup) {
            let subject = Subject::new(Work::Setup.name(), layout, None);
            (self.progress)("set-up");
            let outcome = self.setup(pair, &subject, servers);
            self.settle(&subject, outcome)?;
            if self.can_come_back() {
                let subject = Subject::new("setup-again", layout, None);
                let outcome = self.setup_again(pair, &subject);
                self.settle(&subject, outcome)?;
            }
        }
        Ok(())
    }

    /// Whether its clients can be told to come back to a server. Peers in Python know no such order, and the others are
    /// compared for what QUIC has for it.
    pub(super) fn can_come_back(&self) -> bool {
        self.language == Language::Rust && self.transport == Transport::Udp
    }

    fn setup_again(&mut self, pair: &mut Pair, subject: &Subject) -> Result<(), PeerError> {
        let order = |repeat| Order::SetupAgain { repeat };
        let target = self.effort.measurement;
        let each = pair.warm_up(target, 3, order)?;
        let repeat = count_for(target, each, CLIENTS_MIN, CLIENTS_MAX);
        let set_up: SetUp = pair.client.ask(&order(repeat), WITHIN)?;
        self.record_setup(subject, &set_up)
    }

    pub(super) fn record_setup(&mut self, subject: &Subject, set_up: &SetUp) -> Result<(), PeerError> {
        let of = set_up.setup_ms.len() as u64;
        for (measure, value) in quantiles(&set_up.setup_ms, [("p50_ms", 0.5), ("p95_ms", 0.95)])? {
            self.record(subject, measure, value, of);
        }
        Ok(())
    }

    fn setup(
        &mut self,
        pair: &mut Pair,
        subject: &Subject,
        servers: Option<&[Server]>,
    ) -> Result<(), PeerError> {
        let order = |repeat| Order::Setup { repeat, servers };
        let target = self.effort.measurement;
        let each = pair.warm_up(target, 3, order)?;
        let repeat = count_for(target, each, CLIENTS_MIN, CLIENTS_MAX);
        let (set_up, cost): (SetUp, Cost) = pair.measured(&order(repeat), WITHIN)?;
        self.record_setup(subject, &set_up)?;
        self.record_cost(subject, &cost, set_up.setup_ms.len() as u64);
        Ok(())
    }

    pub(super) fn latency(
        &mut self,
        pair: &mut Pair,
        subject: &Subject,
        bytes: u64,
    ) -> Result<(), PeerError> {
        let order = |count| Order::Latency { bytes, count };
        let target = self.effort.measurement;
        let each = pair.warm_up(target, 8, order)?;
        let count = count_for(target, each, SAMPLES_MIN, SAMPLES_MAX);
        let (latency, cost): (Latency, Cost) = pair.measured(&order(count), WITHIN)?;
        self.record_latency(subject, &latency.latency_us)?;
        self.record_cost(subject, &cost, count);
        Ok(())
    }

    pub(super) fn record_latency(&mut self, subject: &Subject, latency_us: &[f64]) -> Result<(), PeerError> {
        let wanted = [("min_us", 0.0), ("p50_us", 0.5), ("p95_us", 0.95), ("p99_us", 0.99), ("max_us", 1.0)];
        for (measure, value) in quantiles(latency_us, wanted)? {
            self.record(subject, measure, value, latency_us.len() as u64);
        }
        Ok(())
    }

    pub(super) fn throughput(
        &mut self,
        pair: &mut Pair,
        subject: &Subject,
        bytes: u64,
    ) -> Result<(), PeerError> {
        let order = |count| Order::Throughput { bytes, count, in_flight: IN_FLIGHT };
        let target = self.effort.measurement;
        let each = pair.warm_up(target, IN_FLIGHT, order)?;
        let count = count_for(target, each, IN_FLIGHT, REQUESTS_MAX).next_multiple_of(IN_FLIGHT);
        let (throughput, cost): (Throughput, Cost) = pair.measured(&order(count), WITHIN)?;
        self.record(subject, "per_second", count as f64 / throughput.elapsed_s, count);
        let of = throughput.latency_us.len() as u64;
        for (measure, value) in quantiles(&throughput.latency_us, [("p50_us", 0.5), ("p99_us", 0.99)])? {
            self.record(subject, measure, value, of);
        }
        self.record_cost(subject, &cost, count);
        Ok(())
    }

    fn beside_stream(&mut self, pair: &mut Pair, subject: &Subject) -> Result<(), PeerError> {
        let order = |count| Order::BesideStream { bytes: BESIDE_BYTES, count };
        let target = self.effort.measurement;
        let each = pair.warm_up(target, 8, order)?;
        let count = count_for(target, each, SAMPLES_MIN, SAMPLES_MAX);
        let latency: Latency = pair.client.ask(&order(count), WITHIN)?;
        if let Some(large) = latency.beside_bytes_per_s {
            self.record(subject, "large_bytes_per_second", large, count);
        }
        self.record_latency(subject, &latency.latency_us)
    }

    /// What one request cost, on each side and on both. Of one process, on both only.
    pub(super) fn record_cost(&mut self, subject: &Subject, cost: &Cost, requests: u64) {
        let each_us = |seconds: f64| seconds * 1e6 / requests as f64;
        if let Some(server_s) = cost.server_s {
            self.record(subject, "cpu_client_us", each_us(cost.client_s), requests);
            self.record(subject, "cpu_server_us", each_us(server_s), requests);
        }
        let both_s = cost.client_s + cost.server_s.unwrap_or_default();
        self.record(subject, "cpu_us", each_us(both_s), requests);
    }
}
