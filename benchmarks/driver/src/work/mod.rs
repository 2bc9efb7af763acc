//! How each work is done: one system's turn at one block.

mod counted;
mod echo;
mod gathering;
mod path;

use crate::{
    peer::{Launch, Peer, PeerError},
    plan::{Block, Effort, Work},
    protocol::{Order, Ready, Role, Server},
    results::{Layout, Results, Sample, Subject},
    systems::{Language, Transport},
};
use std::time::{Duration, Instant};

/// Time for an order that is meant to take a part of a second.
const WITHIN: Duration = Duration::from_secs(45);

/// Time to connect to all servers.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

/// A system's turn at a block.
pub struct Turn<'a> {
    /// The system, as peers know it.
    pub system: &'a str,
    /// What it is written in.
    pub language: Language,
    /// What its bytes go over.
    pub transport: Transport,
    /// How to start its peers.
    pub launch: &'a Launch,
    /// Which round, from 0.
    pub round: u32,
    /// How much is done.
    pub effort: Effort,
    /// What was asked for; a block leaves out the rest.
    pub works: &'a [Work],
    /// Takes in what is found.
    pub results: &'a mut Results,
    /// Is told what comes next.
    pub progress: &'a mut dyn FnMut(&str),
}

/// A connected client, and its server if that is another process.
struct Pair {
    client: Peer,
    server: Option<Peer>,
}

/// CPU time of an order, on each side. Of one process, on the client's.
struct Cost {
    client_s: f64,
    server_s: Option<f64>,
}

/// What ended a block before its time.
enum End {
    /// It has been recorded for the work that met it.
    Recorded(PeerError),
    /// It met the block as a whole.
    OfBlock(PeerError),
}

impl From<PeerError> for End {
    fn from(error: PeerError) -> Self {
        Self::OfBlock(error)
    }
}

impl Turn<'_> {
    /// Does the block. What fails is recorded, and the rest of the block done if it can be.
    ///
    /// # Errors
    /// What ended the block: [`PeerError::Unavailable`] if the system cannot run here at all. Everything else has been
    /// recorded.
    pub fn run(&mut self, block: Block) -> Result<(), PeerError> {
        let outcome = match block {
            Block::OneProcess => self.one_process(),
            Block::TwoProcesses => self.two_processes(),
            Block::Wire => self.wire(),
            Block::FanOut => self.fan_out(),
            Block::Memory => self.memory(),
            Block::Reconnect => self.reconnect(),
            Block::Path => self.path(),
            Block::PathFanOut => self.path_fan_out(),
        };
        let error = match outcome {
            Ok(()) => return Ok(()),
            Err(End::Recorded(error)) => return Err(error),
            Err(End::OfBlock(error)) => error,
        };
        if !matches!(error, PeerError::Unavailable(_)) {
            let layout = if block == Block::OneProcess { Layout::OneProcess } else { Layout::TwoProcesses };
            for work in block.works().iter().filter(|work| self.works.contains(work)) {
                self.record_absence(&Subject::new(work.name(), layout, None), &error);
            }
        }
        Err(error)
    }

    fn wants(&self, work: Work) -> bool {
        self.works.contains(&work)
    }

    /// Starts a server and a client at the same time, and waits for both.
    fn start(&mut self, servers: usize) -> Result<(Pair, Vec<Server>), PeerError> {
        self.start_as(self.launch, servers)
    }

    fn start_as(&mut self, launch: &Launch, servers: usize) -> Result<(Pair, Vec<Server>), PeerError> {
        let mut server = Peer::start(launch, self.system, Role::Server { servers })?;
        let mut client = Peer::start(launch, self.system, Role::Client)?;
        let ready = server.ready()?;
        self.learn(&ready);
        client.ready()?;
        if ready.servers.len() != servers {
            let (is, system) = (ready.servers.len(), self.system);
            return Err(PeerError::Lost(format!("{system} says that it has {is} servers, not {servers}")));
        }
        Ok((Pair { client, server: Some(server) }, ready.servers))
    }

    /// Starts both in one process.
    fn start_both(&mut self) -> Result<Pair, PeerError> {
        let mut client = Peer::start(self.launch, self.system, Role::Both)?;
        let ready = client.ready()?;
        self.learn(&ready);
        Ok(Pair { client, server: None })
    }

    fn learn(&mut self, ready: &Ready) {
        if let Some(system) = self.results.systems.iter_mut().find(|system| system.name == self.system) {
            system.receive_buffer_bytes = ready.receive_buffer_bytes.or(system.receive_buffer_bytes);
            system.receive_buffer_asked_bytes =
                ready.receive_buffer_asked_bytes.or(system.receive_buffer_asked_bytes);
        }
    }

    fn record(&mut self, subject: &Subject, measure: &str, value: f64, of: u64) {
        let sample = Sample { round: self.round, value, of };
        self.results.record(self.system, subject, measure, sample);
    }

    /// Records why there is no figure, unless there is one. Passes on what ends the block.
    fn settle(&mut self, subject: &Subject, outcome: Result<(), PeerError>) -> Result<(), End> {
        let Err(error) = outcome else { return Ok(()) };
        self.record_absence(subject, &error);
        match error {
            PeerError::Skipped(_) | PeerError::Failed(_) => Ok(()),
            PeerError::Unavailable(_) | PeerError::Lost(_) => Err(End::Recorded(error)),
        }
    }

    fn record_absence(&mut self, subject: &Subject, error: &PeerError) {
        let (failed, why) = match error {
            PeerError::Skipped(why) | PeerError::Unavailable(why) => (false, why),
            PeerError::Failed(why) | PeerError::Lost(why) => (true, why),
        };
        self.results.record_absence(self.system, subject, self.round, failed, why);
    }
}

impl Pair {
    /// Connects the client to all of them, or within its own process.
    fn connect(&mut self, servers: Option<&[Server]>) -> Result<Duration, PeerError> {
        let started = Instant::now();
        let connected: crate::protocol::Connected =
            self.client.ask(&Order::Connect { servers }, CONNECTED_WITHIN)?;
        let (is, wanted) = (connected.connected, servers.map_or(1, <[Server]>::len) as u64);
        if is != wanted {
            return Err(PeerError::Lost(format!("connected to {is} of {wanted} servers")));
        }
        Ok(connected.elapsed_s.map_or(started.elapsed(), Duration::from_secs_f64))
    }

    /// Has an order done, and says what that cost on each side.
    fn measured<T: serde::de::DeserializeOwned>(
        &mut self,
        order: &Order<'_>,
        within: Duration,
    ) -> Result<(T, Cost), PeerError> {
        let server_before = self.server.as_mut().map(Peer::usage).transpose()?;
        let client_before = self.client.usage()?;
        let answer = self.client.ask(order, within)?;
        let client_s = self.client.usage()?.cpu_s - client_before.cpu_s;
        let server_after = self.server.as_mut().map(Peer::usage).transpose()?;
        let server_s = server_after.zip(server_before).map(|(after, before)| after.cpu_s - before.cpu_s);
        Ok((answer, Cost { client_s, server_s }))
    }

    /// Warms a work up, and says how long one of it takes.
    fn warm_up<'o>(
        &mut self,
        target: Duration,
        first: u64,
        order: impl Fn(u64) -> Order<'o>,
    ) -> Result<Duration, PeerError> {
        let mut count = first;
        for _ in 0..4 {
            let started = Instant::now();
            let _: serde_json::Value = self.client.ask(&order(count), WITHIN)?;
            let elapsed = started.elapsed();
            if elapsed >= target / 6 {
                return Ok(elapsed.div_f64(count as f64));
            }
            let each = elapsed.div_f64(count as f64).max(Duration::from_nanos(100));
            count = count_for(target / 4, each, count, count * 64);
        }
        let started = Instant::now();
        let _: serde_json::Value = self.client.ask(&order(count), WITHIN)?;
        Ok(started.elapsed().div_f64(count as f64))
    }
}

/// How many of what takes `each` take `target`, within limits.
fn count_for(target: Duration, each: Duration, min: u64, max: u64) -> u64 {
    let count = target.as_secs_f64() / each.as_secs_f64().max(1e-9);
    (count.round() as u64).clamp(min, max)
}

/// Quantiles of the samples, under these names. Of no samples, an error: something was measured that was not done.
fn quantiles<const N: usize>(
    samples: &[f64],
    which: [(&'static str, f64); N],
) -> Result<[(&'static str, f64); N], PeerError> {
    if samples.is_empty() {
        return Err(PeerError::Failed("the answer has no samples".into()));
    }
    Ok(which.map(|(name, q)| (name, crate::statistics::quantile(samples, q).unwrap_or(f64::NAN))))
}

/// The subject of a work whose client and server are two processes.
fn apart(work: Work, bytes: impl Into<Option<u64>>) -> Subject {
    Subject::new(work.name(), Layout::TwoProcesses, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_from_speed_within_limits() {
        let (target, ms) = (Duration::from_millis(300), Duration::from_millis);
        assert_eq!(count_for(target, ms(1), 10, 10_000), 300);
        assert_eq!(count_for(target, ms(100), 10, 10_000), 10);
        assert_eq!(count_for(target, Duration::ZERO, 10, 10_000), 10_000);
    }
}
