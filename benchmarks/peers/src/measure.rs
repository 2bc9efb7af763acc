//! What is timed, once for every system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::process;
use crate::system::{Client, ServerAt, System};

/// The payload of `setup` and `reconnect`.
const SMALL_BYTES: usize = 1024;

/// The payload that is under way beside small ones.
const LARGE_BYTES: usize = 1_000_000;

/// How many large payloads are under way beside small ones.
const LARGE_IN_FLIGHT: usize = 2;

/// The pause of `reconnect` after a failure.
const RETRY_EVERY: Duration = Duration::from_millis(1);

/// How many clients `idle` connects at once: servers admit only so many that have not shown who they are.
const CONNECTING_MAX: usize = 8;

/// Time and processor time of some work.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// On the clock.
    pub elapsed: Duration,
    /// The process's.
    pub cpu: Duration,
}

struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self { cpu: process::cpu(), started: Instant::now() }
    }

    fn stop(&self) -> Spent {
        Spent { elapsed: self.started.elapsed(), cpu: process::cpu().saturating_sub(self.cpu) }
    }
}

/// Pseudo-random bytes, the same each time.
fn payload(bytes: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// One echo, its length checked. The time is that of the whole call as a program sees it.
async fn timed_echo<C: Client>(client: &C, payload: &Bytes) -> Result<(Duration, C::Answer)> {
    let asked = Instant::now();
    let answer = client.echo(0, payload).await?;
    let took = asked.elapsed();
    check_length::<C>(&answer, payload)?;
    Ok((took, answer))
}

fn check_length<C: Client>(answer: &C::Answer, payload: &Bytes) -> Result<()> {
    let (got, sent) = (answer.as_ref().len(), payload.len());
    ensure!(got == sent, "{got} bytes came back of {sent}");
    Ok(())
}

fn check_content<C: Client>(answer: &C::Answer, payload: &Bytes) -> Result<()> {
    ensure!(answer.as_ref() == payload, "other bytes came back than were sent");
    Ok(())
}

/// `count` echoes one after another, the first one's content checked.
async fn echoes<C: Client>(client: &C, payload: &Bytes, count: usize) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(count);
    for n in 0..count {
        let (took, answer) = timed_echo(client, payload).await?;
        if n == 0 {
            check_content::<C>(&answer, payload)?;
        }
        samples.push(took);
    }
    Ok(samples)
}

/// Fresh clients, each to its first answer.
pub async fn setup<S: System>(
    system: Arc<S>,
    servers: Vec<ServerAt>,
    repeat: usize,
) -> Result<Vec<Duration>> {
    let payload = payload(SMALL_BYTES);
    let mut samples = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let started = Instant::now();
        let client = system.connect(&servers, 0).await?;
        let answer = client.echo(0, &payload).await?;
        samples.push(started.elapsed());
        check_content::<S::Client>(&answer, &payload)?;
        client.close().await?;
    }
    Ok(samples)
}

/// A client that hangs up and comes back, each time to its first answer.
pub async fn setup_again<C: Client>(client: Arc<C>, repeat: usize) -> Result<Vec<Duration>> {
    let payload = payload(SMALL_BYTES);
    let mut samples = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        client.hang_up().await?;
        let started = Instant::now();
        client.come_back().await?;
        let answer = client.echo(0, &payload).await?;
        samples.push(started.elapsed());
        check_content::<C>(&answer, &payload)?;
    }
    Ok(samples)
}

/// One echo after another.
pub async fn latency<C: Client>(
    client: Arc<C>,
    bytes: usize,
    count: usize,
) -> Result<(Vec<Duration>, Spent)> {
    let payload = payload(bytes);
    let watch = Stopwatch::start();
    let samples = echoes(&*client, &payload, count).await?;
    Ok((samples, watch.stop()))
}

/// `count` echoes by `in_flight` tasks, each of which makes one after another.
pub async fn throughput<C: Client>(
    client: Arc<C>,
    bytes: usize,
    count: usize,
    in_flight: usize,
) -> Result<(Vec<Duration>, Spent)> {
    ensure!(in_flight > 0, "in_flight must be at least 1");
    let payload = payload(bytes);
    let mut tasks = JoinSet::new();
    let mut samples = Vec::with_capacity(count);
    let watch = Stopwatch::start();
    for task in 0..in_flight {
        let share = count / in_flight + usize::from(task < count % in_flight);
        let (client, payload) = (client.clone(), payload.clone());
        tasks.spawn(async move { echoes(&*client, &payload, share).await });
    }
    while let Some(done) = tasks.join_next().await {
        samples.extend(done??);
    }
    Ok((samples, watch.stop()))
}

/// Echoes of all servers at once.
pub async fn fan_out<C: Client>(
    client: Arc<C>,
    servers: usize,
    bytes: usize,
    rounds: usize,
) -> Result<(Vec<Duration>, Spent)> {
    let payload = payload(bytes);
    let mut samples = Vec::with_capacity(rounds);
    let watch = Stopwatch::start();
    for round in 0..rounds {
        let asked = Instant::now();
        let answers = client.fan_out(servers, &payload).await?;
        samples.push(asked.elapsed());
        for answer in &answers {
            check_length::<C>(answer, &payload)?;
            if round == 0 {
                check_content::<C>(answer, &payload)?;
            }
        }
    }
    Ok((samples, watch.stop()))
}

/// Small echoes one after another while large ones are under way all the time; and the bytes a second of the latter.
pub async fn beside_stream<C: Client>(
    client: Arc<C>,
    bytes: usize,
    count: usize,
) -> Result<(Vec<Duration>, f64)> {
    let (small, large) = (payload(bytes), payload(LARGE_BYTES));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut beside = JoinSet::new();
    for _ in 0..LARGE_IN_FLIGHT {
        let (client, large, tell) = (client.clone(), large.clone(), tell.clone());
        let (stop, answered) = (stop.clone(), answered.clone());
        beside.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                timed_echo(&*client, &large).await?;
                answered.fetch_add(1, Ordering::Relaxed);
                let _ = tell.send(());
            }
            anyhow::Ok(())
        });
    }
    drop(tell);
    for _ in 0..LARGE_IN_FLIGHT {
        if told.recv().await.is_none() {
            break;
        }
    }
    let (before, started) = (answered.load(Ordering::Relaxed), Instant::now());
    let samples = echoes(&*client, &small, count).await;
    let (after, elapsed) = (answered.load(Ordering::Relaxed), started.elapsed());
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = beside.join_next().await {
        done?.context("beside the small ones")?;
    }
    let beside_bytes = (after - before) as f64 * LARGE_BYTES as f64;
    Ok((samples?, beside_bytes / elapsed.as_secs_f64()))
}

/// Echoes until one succeeds: the time from the order, and how many failed.
pub async fn reconnect<C: Client>(client: Arc<C>, until: Duration) -> Result<(Duration, usize)> {
    let payload = payload(SMALL_BYTES);
    let (ordered, mut failures) = (Instant::now(), 0);
    let mut last_failure = None;
    let asking = async {
        loop {
            match timed_echo(&*client, &payload).await {
                Ok((_, answer)) => return check_content::<C>(&answer, &payload),
                Err(failure) => {
                    failures += 1;
                    last_failure = Some(failure);
                }
            }
            client.mend(0).await;
            tokio::time::sleep(RETRY_EVERY).await;
        }
    };
    match tokio::time::timeout(until, asking).await {
        Ok(succeeded) => succeeded?,
        Err(_) => bail!(
            "no answer within {until:?}; {failures} failures, the last: {}",
            last_failure.map_or_else(|| "none".to_owned(), |failure| format!("{failure:#}"))
        ),
    }
    Ok((ordered.elapsed(), failures))
}

/// Clients number `first` and on, each of its own identity and connected to one of `servers`.
pub async fn idle<S: System>(
    system: Arc<S>,
    servers: Vec<ServerAt>,
    first: u32,
    connections: u32,
) -> Result<Vec<S::Client>> {
    ensure!(!servers.is_empty(), "no servers");
    let mut clients = Vec::new();
    let mut connecting = JoinSet::new();
    let mut identities = first..first + connections;
    loop {
        while connecting.len() < CONNECTING_MAX {
            let Some(identity) = identities.next() else { break };
            let (system, server) = (system.clone(), servers[identity as usize % servers.len()].clone());
            connecting.spawn(async move {
                let client = system.connect(&[server], identity).await?;
                ensure!(client.connected().await == 1, "client {identity} is not connected");
                Ok(client)
            });
        }
        match connecting.join_next().await {
            Some(client) => clients.push(client??),
            None => return Ok(clients),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what `make` makes of the payload.
    struct Fake(fn(&Bytes) -> Vec<u8>);

    impl Client for Fake {
        type Answer = Vec<u8>;

        async fn connected(&self) -> usize {
            1
        }

        async fn echo(&self, _server: usize, payload: &Bytes) -> Result<Vec<u8>> {
            tokio::task::yield_now().await;
            Ok((self.0)(payload))
        }

        async fn close(&self) -> Result<()> {
            Ok(())
        }
    }

    /// What all orders say; the last one gives up after `until`.
    async fn failures(make: fn(&Bytes) -> Vec<u8>, until: Duration) -> Vec<String> {
        let client = Arc::new(Fake(make));
        let failures = [
            latency(client.clone(), 9, 2).await.err(),
            throughput(client.clone(), 9, 5, 2).await.err(),
            fan_out(client.clone(), 3, 9, 1).await.err(),
            beside_stream(client.clone(), 9, 2).await.err(),
            reconnect(client, until).await.err(),
        ];
        failures.into_iter().flatten().map(|failure| format!("{failure:#}")).collect()
    }

    #[tokio::test]
    async fn an_answer_that_is_not_the_payload_fails_every_order() {
        assert_eq!(failures(|payload| payload.to_vec(), Duration::from_secs(30)).await, [""; 0]);
        let short = failures(|payload| payload[1..].to_vec(), Duration::from_millis(10)).await;
        assert_eq!(short.len(), 5, "{short:?}");
        let other = failures(|payload| vec![0; payload.len()], Duration::from_secs(30)).await;
        assert_eq!(other.len(), 5, "{other:?}");
    }

    #[tokio::test]
    async fn every_echo_is_made_and_sampled() {
        let client = Arc::new(Fake(|payload| payload.to_vec()));
        for (count, in_flight) in [(10, 4), (3, 8), (0, 1)] {
            let (samples, _) = throughput(client.clone(), 9, count, in_flight).await.unwrap();
            assert_eq!(samples.len(), count, "{in_flight} in flight");
        }
    }
}
