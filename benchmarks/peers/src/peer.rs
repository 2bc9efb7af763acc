//! A peer: orders in, answers out.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::measure;
use crate::place::{Place, Threads};
use crate::process;
use crate::protocol::{Answer, Order, Ready, SAMPLES_MAX};
use crate::system::{Client, Server, ServerAt, System};
use tokio::task::JoinSet;

/// What a peer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Servers, this many.
    Server(u32),
    /// A client.
    Client,
    /// Servers and a client of theirs.
    Both(u32),
}

/// For how long a port that was just stopped on is asked for again.
const PORT_FREE_MAX: Duration = Duration::from_secs(30);

/// How often it is asked for.
const PORT_TRY_EVERY: Duration = Duration::from_millis(5);

/// How long clients and servers may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Runs `system` in `role` until it is told to stop.
///
/// # Errors
/// When standard input cannot be read or standard output not be written.
pub fn run<S: System>(system: S, role: Role) -> Result<()> {
    process::raise_open_files();
    let mut out = std::io::stdout().lock();
    let mut say = |answer: &Answer| -> Result<()> {
        serde_json::to_writer(&mut out, answer)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    };
    let mut peer = match Peer::start(Arc::new(system), role) {
        Ok(peer) => peer,
        Err(why) => return say(&Answer::Unavailable { unavailable: format!("{why:#}") }),
    };
    say(&Answer::Ready { ready: peer.ready(None) })?;
    for line in std::io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?).context("not an order");
        let ends = matches!(order, Ok(Order::Stop));
        let answer = order.and_then(|order| peer.obey(order));
        say(&answer.unwrap_or_else(|why| Answer::Error { error: format!("{why:#}") }))?;
        if ends {
            return Ok(());
        }
    }
    peer.stop()
}

struct Peer<S: System> {
    system: Arc<S>,
    serving: Option<Serving<S>>,
    asking: Option<Asking<S>>,
}

impl<S: System> Peer<S> {
    fn start(system: Arc<S>, role: Role) -> Result<Self> {
        let layout = system.layout();
        let (servers, asks) = match role {
            Role::Server(servers) => (Some(servers), false),
            Role::Client => (None, true),
            Role::Both(servers) => (Some(servers), true),
        };
        let serving = match servers {
            Some(servers) => Some(Serving::start(&system, Place::new(layout.server)?, servers)?),
            None => None,
        };
        let shared = serving
            .as_ref()
            .filter(|_| (layout.server, layout.client) == (Threads::Multi, Threads::Multi))
            .map(|serving| serving.place.clone());
        let asking = match shared {
            _ if !asks => None,
            Some(place) => Some(Asking::new(&system, place)),
            None => Some(Asking::new(&system, Place::new(layout.client)?)),
        };
        Ok(Self { system, serving, asking })
    }

    fn ready(&self, down: Option<Duration>) -> Ready {
        let servers = self.serving.as_ref().map(Serving::at);
        let first = servers.as_ref().and_then(|servers| servers.first());
        let receive_buffer_bytes = first.and_then(|first| process::receive_buffer_bytes(first.addr.port()));
        Ready { servers, receive_buffer_bytes, down_ms: down.map(millis) }
    }

    fn obey(&mut self, order: Order) -> Result<Answer> {
        match order {
            Order::Usage => {
                let (cpu_s, rss_bytes) = (process::cpu().as_secs_f64(), process::rss_bytes()?);
                Ok(Answer::Usage { cpu_s, rss_bytes })
            }
            Order::Restart { down_ms } => {
                let serving = self.serving.as_mut().context("this peer has no server")?;
                let down = serving.restart(&self.system, Duration::from_millis(down_ms))?;
                Ok(Answer::Ready { ready: self.ready(Some(down)) })
            }
            Order::Stop => {
                self.stop()?;
                Ok(Answer::Stopped { stopped: true })
            }
            asked => {
                let own = self.serving.as_ref().map(Serving::at);
                self.asking.as_mut().context("this peer has no client")?.obey(asked, own)
            }
        }
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(mut asking) = self.asking.take() {
            asking.close(true)?;
        }
        if let Some(mut serving) = self.serving.take() {
            serving.stop()?;
        }
        Ok(())
    }
}

/// The servers' side of a peer.
struct Serving<S: System> {
    place: Place,
    servers: Vec<S::Server>,
}

impl<S: System> Serving<S> {
    fn start(system: &Arc<S>, place: Place, count: u32) -> Result<Self> {
        let ports = vec![0; count as usize];
        let servers = place.run(start_on(system.clone(), ports, Duration::ZERO))?;
        Ok(Self { place, servers })
    }

    fn at(&self) -> Vec<ServerAt> {
        self.servers.iter().map(Server::at).collect()
    }

    /// Stops, waits, starts on the same ports; how long nobody listened.
    fn restart(&mut self, system: &Arc<S>, down: Duration) -> Result<Duration> {
        let ports = self.at().iter().map(|server| server.addr.port()).collect();
        self.stop()?;
        let stopped = Instant::now();
        std::thread::sleep(down);
        self.servers = self.place.run(start_on(system.clone(), ports, PORT_FREE_MAX))?;
        Ok(stopped.elapsed())
    }

    fn stop(&mut self) -> Result<()> {
        let servers = std::mem::take(&mut self.servers);
        self.place.run(all_within(CLOSE_MAX, servers.into_iter().map(Server::stop)))
    }
}

/// Servers number 0 and on, on `ports`. One that is taken is tried again for `patience`.
async fn start_on<S: System>(system: Arc<S>, ports: Vec<u16>, patience: Duration) -> Result<Vec<S::Server>> {
    let give_up = Instant::now() + patience;
    let mut servers = Vec::with_capacity(ports.len());
    for (index, port) in (0..).zip(ports) {
        let server = loop {
            match system.start(index, port).await {
                Err(_) if Instant::now() < give_up => tokio::time::sleep(PORT_TRY_EVERY).await,
                started => break started.with_context(|| format!("server {index} on port {port}"))?,
            }
        };
        servers.push(server);
    }
    Ok(servers)
}

/// The client's side of a peer.
struct Asking<S: System> {
    system: Arc<S>,
    place: Place,
    connected: Option<Connected<S>>,
    idle: Vec<Arc<S::Client>>,
}

struct Connected<S: System> {
    client: Arc<S::Client>,
    /// How many servers it was given.
    servers: usize,
}

impl<S: System> Asking<S> {
    fn new(system: &Arc<S>, place: Place) -> Self {
        Self { system: system.clone(), place, connected: None, idle: Vec::new() }
    }

    /// Does what `order` says; `own` are the servers in this process.
    fn obey(&mut self, order: Order, own: Option<Vec<ServerAt>>) -> Result<Answer> {
        let or_own = |servers: Option<Vec<ServerAt>>| {
            let servers = servers.or(own).context("no servers")?;
            ensure!(!servers.is_empty(), "no servers");
            Ok(servers)
        };
        match order {
            Order::Connect { servers } => self.connect(or_own(servers)?),
            Order::Setup { servers, repeat } => {
                let samples = measure::setup(self.system.clone(), or_own(servers)?, repeat);
                Ok(Answer::Setup { setup_ms: all_millis(&self.place.run(samples)?) })
            }
            Order::Idle { servers, connections } => self.idle(or_own(servers)?, connections),
            timed => self.time(timed),
        }
    }

    fn connect(&mut self, servers: Vec<ServerAt>) -> Result<Answer> {
        self.close(false)?;
        let (count, system) = (servers.len(), self.system.clone());
        let connecting = Instant::now();
        let client = self.place.run(async move { system.connect(&servers, 0).await })?;
        let (client, elapsed) = (Arc::new(client), connecting.elapsed());
        self.connected = Some(Connected { client: client.clone(), servers: count });
        let connected = self.place.run(async move { Ok(client.connected().await) })?;
        Ok(Answer::Connected { connected, elapsed_s: elapsed.as_secs_f64() })
    }

    fn idle(&mut self, servers: Vec<ServerAt>, connections: u32) -> Result<Answer> {
        // Identity 0 is that of the connected client.
        let first = 1 + u32::try_from(self.idle.len())?;
        let connecting = Instant::now();
        let more = measure::idle(self.system.clone(), servers, first, connections);
        let more = self.place.run(more)?;
        let connected = more.len();
        self.idle.extend(more.into_iter().map(Arc::new));
        Ok(Answer::Connected { connected, elapsed_s: connecting.elapsed().as_secs_f64() })
    }

    fn time(&self, order: Order) -> Result<Answer> {
        let Connected { client, servers } = self.connected.as_ref().context("not connected")?;
        let client = client.clone();
        Ok(match order {
            Order::SetupAgain { repeat } => {
                let samples = self.place.run(measure::setup_again(client, repeat))?;
                Answer::Setup { setup_ms: all_millis(&samples) }
            }
            Order::Latency { bytes, count } => {
                let (samples, spent) = self.place.run(measure::latency(client, bytes, count))?;
                Answer::Latency { latency_us: all_micros(&samples), cpu_s: spent.cpu.as_secs_f64() }
            }
            Order::Throughput { bytes, count, in_flight } => {
                let timed = measure::throughput(client, bytes, count, in_flight);
                let (samples, spent) = self.place.run(timed)?;
                Answer::Throughput {
                    elapsed_s: spent.elapsed.as_secs_f64(),
                    cpu_s: spent.cpu.as_secs_f64(),
                    latency_us: all_micros(&thinned(samples)),
                }
            }
            Order::FanOut { bytes, rounds } => {
                let timed = measure::fan_out(client, *servers, bytes, rounds);
                let (samples, spent) = self.place.run(timed)?;
                Answer::FanOut { elapsed_ms: all_millis(&samples), cpu_s: spent.cpu.as_secs_f64() }
            }
            Order::BesideStream { bytes, count } => {
                let timed = measure::beside_stream(client, bytes, count);
                let (samples, beside_bytes_per_s) = self.place.run(timed)?;
                Answer::BesideStream { latency_us: all_micros(&samples), beside_bytes_per_s }
            }
            Order::Reconnect { until_ms } => {
                let timed = measure::reconnect(client, Duration::from_millis(until_ms));
                let (elapsed, failures) = self.place.run(timed)?;
                Answer::Reconnect { elapsed_ms: millis(elapsed), failures }
            }
            other => bail!("{other:?} is not for a client"),
        })
    }

    /// Closes the connected client, and the idle ones too at the end.
    fn close(&mut self, at_the_end: bool) -> Result<()> {
        let mut clients: Vec<_> =
            self.connected.take().into_iter().map(|connected| connected.client).collect();
        if at_the_end {
            clients.append(&mut self.idle);
        }
        let closing = clients.into_iter().map(|client| async move { client.close().await });
        self.place.run(all_within(CLOSE_MAX, closing))
    }
}

/// Does all of `work` at once.
fn all_within<F>(
    limit: Duration,
    work: impl Iterator<Item = F>,
) -> impl Future<Output = Result<()>> + Send + 'static
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let work: Vec<F> = work.collect();
    async move {
        let mut tasks: JoinSet<_> = work.into_iter().collect();
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            Ok(())
        };
        tokio::time::timeout(limit, all).await.with_context(|| format!("not closed within {limit:?}"))?
    }
}

/// At most [`SAMPLES_MAX`] of `samples`, evenly spread.
fn thinned(samples: Vec<Duration>) -> Vec<Duration> {
    let step = samples.len().div_ceil(SAMPLES_MAX).max(1);
    samples.into_iter().step_by(step).collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

fn all_millis(samples: &[Duration]) -> Vec<f64> {
    samples.iter().copied().map(millis).collect()
}

fn all_micros(samples: &[Duration]) -> Vec<f64> {
    samples.iter().map(|sample| sample.as_nanos() as f64 / 1e3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_samples_are_thinned_evenly() {
        let samples = |count: usize| (0..count as u64).map(Duration::from_millis).collect::<Vec<_>>();
        for count in [0, 1, SAMPLES_MAX] {
            assert_eq!(thinned(samples(count)), samples(count), "{count}");
        }
        let thin = thinned(samples(2 * SAMPLES_MAX + 1));
        assert!(thin.len() > SAMPLES_MAX / 2 && thin.len() <= SAMPLES_MAX, "{}", thin.len());
        assert!(thin.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(3)));
    }
}
