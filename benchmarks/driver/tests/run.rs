//! A whole run, with systems that answer and systems that fail.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use bench_driver::{
    peer::Launch,
    plan::{Effort, SIZES_BYTES, WORKS, Work},
    report::{self, Target},
    results::{Layout, NotMeasured, Results, Subject},
    run::Run,
    systems::{Language, System, Transport},
};
use std::time::Duration;

fn system(name: &str, transport: Transport) -> System {
    let launch = Launch { program: env!("CARGO_BIN_EXE_echo-peer").into(), args: vec![] };
    System {
        name: name.into(),
        language: Language::Rust,
        transport,
        version: Some("echo 1".into()),
        build: None,
        launch: Ok(launch),
    }
}

fn run(systems: Vec<System>, works: &[Work], rounds: u32) -> Results {
    let effort = Effort {
        rounds,
        measurement: Duration::from_millis(5),
        path_measurement: Duration::from_millis(100),
    };
    Run {
        systems,
        works: works.to_vec(),
        effort,
        quick: true,
        date: "2026-02-28".into(),
        commit: None,
        kept: None,
    }
    .run()
}

fn absences<'a>(results: &'a Results, system: &str) -> Vec<&'a NotMeasured> {
    results.not_measured.iter().filter(|absence| absence.system == system).collect()
}

#[test]
fn a_run_measures_every_work_of_a_system_over_datagrams() {
    let results = run(vec![system("udp", Transport::Udp)], &WORKS, 1);
    let value = |work, layout, bytes: Option<u64>, measure| {
        let subject = Subject::new(work, layout, bytes);
        let samples = results.samples("udp", &subject, measure);
        assert_eq!(samples.len(), 1, "{work} {layout} {bytes:?} {measure}: {:?}", results.not_measured);
        samples[0].1
    };
    for layout in [Layout::OneProcess, Layout::TwoProcesses] {
        for bytes in &SIZES_BYTES[..3] {
            for measure in ["p50_us", "p95_us", "p99_us"] {
                assert!(value("latency", layout, Some(*bytes), measure) > 0.0);
            }
            assert!(value("throughput", layout, Some(*bytes), "per_second") > 0.0);
        }
        assert!(value("setup", layout, None, "p50_ms") > 0.0);
    }
    let apart = |work, bytes, measure| value(work, Layout::TwoProcesses, bytes, measure);
    // An echo of datagrams has no overhead, so that the relay's count is known.
    assert_eq!(apart("wire", Some(1_024), "to_server_bytes"), 1_024.0);
    assert_eq!(apart("wire-in-flight", Some(1_024), "to_client_bytes"), 1_024.0);
    assert_eq!(apart("wire", Some(1_024), "to_client_datagrams"), 1.0);
    assert!(apart("fan-out", Some(1_024), "p50_ms") > 0.0);
    assert!(apart("memory", None, "server_bytes") >= 0.0);
    assert!(apart("beside-stream", Some(256), "p99_us") > 0.0);
    assert!(apart("path", Some(1_024), "p50_us") >= 50_000.0);
    for (work, bytes, measure) in [
        ("path-setup", None, "p50_ms"),
        ("path-setup-again", None, "p50_ms"),
        ("path-fan-out", Some(1_024), "p50_ms"),
    ] {
        assert!(apart(work, bytes, measure) >= 50.0, "{work}");
    }
    assert!(apart("path-beside-stream", Some(256), "p50_us") >= 50_000.0);
    assert!((0.0..30_000.0).contains(&apart("path-reconnect", None, "ms")));
    assert_eq!(apart("path", None, "too_large_datagrams"), 0.0);
    for layout in [Layout::OneProcess, Layout::TwoProcesses] {
        assert!(value("setup-again", layout, None, "p50_ms") > 0.0);
    }
    // The server is away for half a second; what counts is the time after it.
    assert!((0.0..5_000.0).contains(&apart("reconnect", None, "ms")));
    for side in ["cpu_client_us", "cpu_server_us", "cpu_us"] {
        assert!(apart("throughput", Some(1_024), side) >= 0.0);
    }
    // Only what no datagram holds is missing, in its own words.
    let missing = absences(&results, "udp");
    assert!(missing.iter().all(|absence| !absence.failed && absence.why == "more than a datagram holds"));
    assert!(missing.iter().all(|absence| absence.subject.bytes > Some(60_000)), "{missing:?}");
    assert_eq!(results.systems[0].receive_buffer_bytes, Some(212_992));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.json");
    results.write(&path).unwrap();
    assert_eq!(Results::read(&path).unwrap(), results);
    report::write(&results, Target::Directory(dir.path())).unwrap();
    let page = std::fs::read_to_string(dir.path().join("RESULTS.md")).unwrap();
    assert!(page.contains("### Wire") && page.contains("### A path of 50 ms that loses"), "{page}");
}

#[test]
fn a_system_that_fails_is_reported_and_the_others_go_on() {
    let names = ["tcp-unavailable", "tcp-crashing", "tcp-failing", "tcp-babbling", "tcp"];
    let mut systems: Vec<System> = names.map(|name| system(name, Transport::Tcp)).into();
    systems[4].launch = Err("not built".into());
    systems.push(system("tcp", Transport::Tcp));
    systems[5].name = "tcp-fine".into();
    let works = [Work::Latency, Work::Wire, Work::Path];
    let results = run(systems, &works, 3);

    assert_eq!(results.systems[0].unavailable.as_deref(), Some("not on this machine"));
    assert_eq!(results.systems[4].unavailable.as_deref(), Some("not built"));
    assert!(absences(&results, "tcp-unavailable").is_empty() && absences(&results, "tcp").is_empty());

    let of_latency = |system| -> Vec<&NotMeasured> {
        let mut found = absences(&results, system);
        found.retain(|absence| absence.subject.work == "latency");
        found
    };
    // After the second time it is not tried again.
    let crashed = of_latency("tcp-crashing");
    assert_eq!(crashed.len(), 2, "{crashed:?}");
    assert!(crashed[0].failed && crashed[0].why.contains("out of luck") && crashed[0].rounds == [0, 1]);
    assert!(of_latency("tcp-babbling")[0].why.contains("latency is fine"));
    // An order that fails leaves the peer as it was, for the next.
    let failed = of_latency("tcp-failing");
    assert_eq!(failed.len(), 2 * SIZES_BYTES.len());
    assert!(failed.iter().all(|absence| absence.why == "no such echo" && absence.rounds == [0, 1, 2]));

    let latency = Subject::new("latency", Layout::TwoProcesses, 1_048_576);
    assert_eq!(results.samples("tcp-fine", &latency, "p50_us").len(), 3);
    // A length of four bytes is its overhead.
    let wire = Subject::new("wire", Layout::TwoProcesses, 1_024);
    assert_eq!(results.samples("tcp-fine", &wire, "to_server_bytes"), [(0, 1_028.0), (2, 1_028.0)]);
    let path: Vec<_> = absences(&results, "tcp-fine");
    assert!(path.len() == 1 && !path[0].failed && path[0].why.contains("path"), "{path:?}");
}
