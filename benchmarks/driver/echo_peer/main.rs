//! A peer for the driver's tests: it answers every order of the protocol, with echoes over plain TCP or UDP, and it can
//! fail in the ways in which a system can.
//!
//! `--system tcp` and `--system udp` echo. `tcp-unavailable`, `tcp-crashing`, `tcp-silent`, `tcp-failing`,
//! `tcp-babbling` do what their names say.

#![allow(clippy::unwrap_used, reason = "a peer that panics is one of the things that tests want")]

mod echo;

use echo::{Client, Echo, Transport};
use serde_json::{Value, json};
use std::{
    env,
    io::{self, BufRead, Write},
    net::SocketAddr,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let system = value("--system").unwrap();
    let role = value("--role").unwrap();
    let (transport, trouble) = system.split_once('-').unwrap_or((&system, ""));
    let transport = if transport == "udp" { Transport::Udp } else { Transport::Tcp };
    if trouble == "unavailable" {
        say(&json!({"unavailable": "not on this machine"}));
        return ExitCode::SUCCESS;
    }
    let servers = match role.as_str() {
        "client" => 0,
        _ => value("--servers").map_or(1, |servers| servers.parse().unwrap()),
    };
    let servers =
        (0..servers).map(|_| Echo::start(transport, SocketAddr::from(([127, 0, 0, 1], 0)))).collect();
    let mut peer = TestPeer { transport, role, servers, clients: vec![], idle: vec![] };
    say(&peer.ready());
    for line in io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let what = order["do"].as_str().unwrap();
        match (trouble, what) {
            (_, "stop") => break,
            ("crashing", "latency") => {
                eprintln!("out of luck");
                return ExitCode::from(3);
            }
            ("silent", "latency") => continue,
            ("failing", "latency") => say(&json!({"error": "no such echo"})),
            ("babbling", "latency") => println!("latency is fine, thank you"),
            _ => say(&peer.obey(what, &order)),
        }
    }
    ExitCode::SUCCESS
}

fn say(answer: &Value) {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}").unwrap();
    out.flush().unwrap();
}

struct TestPeer {
    transport: Transport,
    role: String,
    servers: Vec<Echo>,
    clients: Vec<Client>,
    idle: Vec<Client>,
}

impl TestPeer {
    fn ready(&self) -> Value {
        if self.role == "server" {
            let servers: Vec<Value> =
                self.servers.iter().map(|server| json!({"addr": server.addr, "key": "none"})).collect();
            json!({"ready": {"servers": servers, "receive_buffer_bytes": 212_992}})
        } else {
            json!({"ready": {}})
        }
    }

    fn obey(&mut self, what: &str, order: &Value) -> Value {
        let number = |key: &str| order[key].as_u64().unwrap();
        match what {
            "connect" => {
                let started = Instant::now();
                let addrs = self.addrs(order);
                self.clients =
                    addrs.iter().map(|addr| Client::connect(self.transport, *addr).unwrap()).collect();
                json!({"connected": self.clients.len(), "elapsed_s": started.elapsed().as_secs_f64()})
            }
            "setup" => {
                let addr = self.addrs(order)[0];
                let one = |_| {
                    let started = Instant::now();
                    Client::connect(self.transport, addr).unwrap().echo(1024).unwrap();
                    started.elapsed().as_secs_f64() * 1e3
                };
                json!({"setup_ms": (0..number("repeat")).map(one).collect::<Vec<f64>>()})
            }
            "setup_again" => {
                let again = (0..number("repeat")).map(|_| {
                    let client = &mut self.clients[0];
                    *client = Client::connect(self.transport, client.addr).unwrap();
                    client.echo(1024).unwrap() / 1e3
                });
                json!({"setup_ms": again.collect::<Vec<f64>>()})
            }
            "latency" | "beside_stream" if number("bytes") > self.transport.bytes_max() => {
                json!({"skipped": "more than a datagram holds"})
            }
            "latency" | "beside_stream" => {
                let client = &mut self.clients[0];
                let samples: Result<Vec<f64>, _> =
                    (0..number("count")).map(|_| client.echo(number("bytes"))).collect();
                match samples {
                    Ok(samples) => json!({"latency_us": samples, "cpu_s": 0}),
                    Err(error) => json!({"error": error.to_string()}),
                }
            }
            "throughput" if number("bytes") > self.transport.bytes_max() => {
                json!({"skipped": "more than a datagram holds"})
            }
            "throughput" => {
                let (transport, addr) = (self.transport, self.clients[0].addr);
                let (bytes, count, in_flight) = (number("bytes"), number("count"), number("in_flight"));
                let started = Instant::now();
                // Each that is in flight has a connection of its own.
                let flights: Vec<_> = (0..in_flight)
                    .map(|place| {
                        let of_it = count / in_flight + u64::from(place < count % in_flight);
                        thread::spawn(move || -> Vec<f64> {
                            let mut client = Client::connect(transport, addr).unwrap();
                            (0..of_it).map(|_| client.echo(bytes).unwrap()).collect()
                        })
                    })
                    .collect();
                let samples: Vec<f64> =
                    flights.into_iter().flat_map(|flight| flight.join().unwrap()).collect();
                assert!(samples.len() as u64 == count);
                let elapsed_s = started.elapsed().as_secs_f64();
                json!({"elapsed_s": elapsed_s, "cpu_s": 0, "latency_us": samples})
            }
            "fan_out" => {
                let bytes = number("bytes");
                let mut one = |_| {
                    let started = Instant::now();
                    thread::scope(|all| {
                        for client in &mut self.clients {
                            all.spawn(move || client.echo(bytes).unwrap());
                        }
                    });
                    started.elapsed().as_secs_f64() * 1e3
                };
                json!({"elapsed_ms": (0..number("rounds")).map(&mut one).collect::<Vec<f64>>(), "cpu_s": 0})
            }
            "idle" => {
                let addr = self.addrs(order)[0];
                for _ in 0..number("connections") {
                    let mut client = Client::connect(self.transport, addr).unwrap();
                    client.echo(1).unwrap();
                    self.idle.push(client);
                }
                json!({"connected": self.idle.len()})
            }
            "reconnect" => self.reconnect(Duration::from_millis(number("until_ms"))),
            "restart" => {
                let addr = self.servers[0].addr;
                self.servers.clear();
                // sleeps: that is the order
                thread::sleep(Duration::from_millis(number("down_ms")));
                self.servers.push(Echo::start(self.transport, addr));
                self.ready()
            }
            "usage" => usage(),
            _ => json!({"error": format!("what is {what}?")}),
        }
    }

    fn addrs(&self, order: &Value) -> Vec<SocketAddr> {
        match order["servers"].as_array() {
            Some(servers) => {
                servers.iter().map(|server| server["addr"].as_str().unwrap().parse().unwrap()).collect()
            }
            None => self.servers.iter().map(|server| server.addr).collect(),
        }
    }

    fn reconnect(&mut self, until: Duration) -> Value {
        let (started, mut failures) = (Instant::now(), 0);
        let addr = self.clients[0].addr;
        while started.elapsed() < until {
            let found = Client::connect(self.transport, addr).and_then(|mut client| {
                client.echo(1024)?;
                Ok(client)
            });
            if let Ok(client) = found {
                self.clients[0] = client;
                return json!({"elapsed_ms": started.elapsed().as_secs_f64() * 1e3, "failures": failures});
            }
            failures += 1;
            thread::sleep(Duration::from_millis(1)); // sleeps: the protocol's pause between tries
        }
        json!({"error": "not found again"})
    }
}

/// Of Linux only; elsewhere nothing is known, which is enough for the protocol.
fn usage() -> Value {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // utime, stime in ticks; rss in pages.
    json!({"cpu_s": (field(11) + field(12)) / 100.0, "rss_bytes": field(21) as u64 * 4096})
}
