//! Every system as the driver meets it: a process that takes orders. The figures are not looked at, for machines differ.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

/// Debug builds of eleven systems at once on a small machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

struct Peer {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    ready: Value,
}

impl Peer {
    fn start(system: &str, role: &str, servers: u32) -> Self {
        let servers = servers.to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_peer"));
        command.args(["--system", system, "--role", role, "--servers", &servers]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, answers) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let orders = child.stdin.take();
        let mut peer = Self { child, orders, answers, ready: Value::Null };
        peer.ready = peer.answer()["ready"].clone();
        assert!(peer.ready.is_object(), "{system} {role}: {:?}", peer.ready);
        peer
    }

    fn servers(&self) -> &Value {
        &self.ready["servers"]
    }

    fn answer(&self) -> Value {
        let line = self.answers.recv_timeout(ANSWER_WITHIN).expect("an answer in time");
        serde_json::from_str(&line).expect("an answer in JSON")
    }

    fn ask(&mut self, order: Value) -> Value {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.answer()
    }

    /// The numbers in the field `name` of the answer to `order`, all of them above zero.
    fn samples(&mut self, order: Value, name: &str) -> usize {
        let answer = self.ask(order);
        let samples = answer[name].as_array().unwrap_or_else(|| panic!("no {name}: {answer}"));
        assert!(samples.iter().all(|sample| sample.as_f64().is_some_and(|sample| sample > 0.0)), "{answer}");
        samples.len()
    }

    /// Ends the orders and waits for the exit.
    fn end(mut self) {
        drop(self.orders.take());
        let rest: Vec<String> = self.answers.iter().collect();
        assert!(rest.is_empty(), "{rest:?}");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn one_process(system: &str) {
    let mut peer = Peer::start(system, "both", 1);
    let unconnected = peer.ask(json!({"do": "latency", "bytes": 10, "count": 1}));
    assert_eq!(unconnected, json!({"error": "not connected"}));
    assert_eq!(peer.ask(json!({"do": "connect"}))["connected"], 1);
    assert_eq!(peer.samples(json!({"do": "setup", "repeat": 2}), "setup_ms"), 2);
    if system != "grpc" {
        assert_eq!(peer.samples(json!({"do": "setup_again", "repeat": 2}), "setup_ms"), 2);
    }
    assert_eq!(peer.samples(json!({"do": "latency", "bytes": 1, "count": 3}), "latency_us"), 3);
    assert_eq!(peer.samples(json!({"do": "latency", "bytes": 1_000_000, "count": 2}), "latency_us"), 2);
    let throughput = json!({"do": "throughput", "bytes": 10_000, "count": 10, "in_flight": 4});
    assert_eq!(peer.samples(throughput, "latency_us"), 10);
    assert_eq!(peer.ask(json!({"do": "stop"})), json!({"stopped": true}));
    peer.end();
}

fn two_processes(system: &str) {
    let (mut server, mut client) = (Peer::start(system, "server", 3), Peer::start(system, "client", 1));
    let servers = server.servers().clone();
    assert_eq!(servers.as_array().map(Vec::len), Some(3));
    assert!(client.servers().is_null());

    assert_eq!(client.ask(json!({"do": "connect"})), json!({"error": "no servers"}));
    assert_eq!(client.ask(json!({"do": "connect", "servers": servers}))["connected"], 3);
    assert_eq!(client.samples(json!({"do": "fan_out", "bytes": 100, "rounds": 2}), "elapsed_ms"), 2);
    let beside = json!({"do": "beside_stream", "bytes": 100, "count": 3});
    assert_eq!(client.samples(beside, "latency_us"), 3);
    let idle = json!({"do": "idle", "connections": 4, "servers": servers});
    for _ in 0..2 {
        assert_eq!(client.ask(idle.clone())["connected"], 4);
    }
    let usage = client.ask(json!({"do": "usage"}));
    assert!(usage["cpu_s"].as_f64().is_some_and(|cpu_s| cpu_s > 0.0), "{usage}");
    assert!(usage["rss_bytes"].as_u64().is_some_and(|rss_bytes| rss_bytes > 100_000), "{usage}");

    let restarted = server.ask(json!({"do": "restart", "down_ms": 10}));
    assert_eq!(restarted["ready"]["servers"], servers, "{restarted}");
    assert!(restarted["ready"]["down_ms"].as_f64().is_some_and(|down_ms| down_ms >= 10.0), "{restarted}");
    let reconnected = client.ask(json!({"do": "reconnect", "until_ms": 50_000}));
    assert!(reconnected["elapsed_ms"].as_f64().is_some_and(|elapsed_ms| elapsed_ms > 0.0), "{reconnected}");

    assert_eq!(server.ask(json!({"do": "connect"})), json!({"error": "this peer has no client"}));
    assert_eq!(
        client.ask(json!({"do": "restart", "down_ms": 1})),
        json!({"error": "this peer has no server"})
    );
    assert!(client.ask(json!({"do": "nothing"}))["error"].is_string());
    client.end();
    server.end();
}

macro_rules! systems {
    ($($name:ident: $system:literal;)*) => {$(
        mod $name {
            #[test]
            fn obeys_in_one_process() {
                super::one_process($system);
            }

            #[test]
            fn obeys_in_two_processes() {
                super::two_processes($system);
            }
        }
    )*};
}

systems! {
    ours_dynamic: "ours-dynamic";
    ours_async: "ours-async";
    ours_typed: "ours-typed";
    ours_typed_local: "ours-typed-local";
    published: "published";
    published_async: "published-async";
    quinn: "quinn";
    quinn_split: "quinn-split";
    quinn_called: "quinn-called";
    quinn_server_thread: "quinn-server-thread";
    grpc: "grpc";
}

#[test]
fn a_system_that_is_not_there_is_an_error_of_the_caller() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peer"));
    let output = command.args(["--system", "carrier-pigeon", "--role", "both"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no system carrier-pigeon"));
}
