//! The tables of everything that was measured, for systems of one language.

use super::{
    numbers::{number, size, spread},
    table::Table,
};
use crate::{
    plan::{BESIDE_BYTES, ONE_KB, ONE_MB, SIZES_BYTES},
    results::{Layout, Results, Subject},
    systems::{self, Language},
};

/// A table with its heading and a sentence on how to read it.
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) text: &'static str,
    pub(super) table: Table,
}

const TO_MS: f64 = 1e-3;

/// Every table that has something in it.
pub(super) fn sections(results: &Results, language: Language) -> Vec<Section> {
    let of = Tables { results, language };
    let mut sections = Vec::new();
    for layout in [Layout::OneProcess, Layout::TwoProcesses] {
        sections.extend([of.median_latency(layout), of.tail_latency(layout)]);
    }
    for layout in [Layout::OneProcess, Layout::TwoProcesses] {
        sections.push(of.throughput(layout));
    }
    sections.extend([
        of.loaded_latency(),
        of.cpu(),
        of.setup(),
        of.fan_out(),
        of.beside_stream(),
        of.path(),
        of.connections(),
        of.wire(),
    ]);
    sections.retain(|section| !section.table.is_empty());
    sections
}

struct Tables<'a> {
    results: &'a Results,
    language: Language,
}

/// What a column shows.
struct Column {
    head: String,
    subject: Subject,
    cell: Cell,
}

enum Cell {
    /// A measure's median and spread, times a unit.
    One(&'static str, f64),
    /// The medians of several measures, times a unit.
    Several(&'static [&'static str], f64),
    /// Of counted bytes, the share that is not payload.
    Overhead,
}

impl Tables<'_> {
    fn section(&self, heading: impl Into<String>, text: &'static str, columns: &[Column]) -> Section {
        let heads = ["system".to_owned()].into_iter().chain(columns.iter().map(|column| column.head.clone()));
        let mut table = Table::new(heads);
        for system in self.results.systems.iter().filter(|system| system.language == self.language) {
            table.row(title(&system.name), columns.iter().map(|column| self.cell(&system.name, column)));
        }
        Section { heading: heading.into(), text, table }
    }

    fn cell(&self, system: &str, column: &Column) -> Option<String> {
        let summary = |measure| self.results.summary(system, &column.subject, measure);
        match column.cell {
            Cell::One(measure, unit) => summary(measure).map(|summary| spread(&summary, unit)),
            Cell::Several(measures, unit) => {
                let cells: Option<Vec<String>> = measures
                    .iter()
                    .map(|measure| summary(measure).map(|summary| number(summary.median * unit)))
                    .collect();
                cells.map(|cells| cells.join(" / "))
            }
            Cell::Overhead => self.overhead(system, &column.subject),
        }
    }

    fn median_latency(&self, layout: Layout) -> Section {
        let columns = sizes("latency", layout, |_| Cell::One("p50_us", TO_MS));
        self.section(
            format!("Latency, median, {layout}"),
            "Milliseconds; one request after another.",
            &columns,
        )
    }

    fn tail_latency(&self, layout: Layout) -> Section {
        let columns = sizes("latency", layout, |_| Cell::Several(&["p95_us", "p99_us"], TO_MS));
        self.section(format!("Latency, p95 / p99, {layout}"), "Milliseconds.", &columns)
    }

    fn throughput(&self, layout: Layout) -> Section {
        let columns = sizes("throughput", layout, |_| Cell::One("per_second", 1.0));
        self.section(format!("Throughput, {layout}"), "Requests per second; 32 in flight.", &columns)
    }

    fn loaded_latency(&self) -> Section {
        let columns =
            sizes("throughput", Layout::TwoProcesses, |_| Cell::Several(&["p50_us", "p99_us"], TO_MS));
        let text = "Milliseconds, while 32 are in flight.";
        self.section("Latency under load, p50 / p99, two processes", text, &columns)
    }

    fn cpu(&self) -> Section {
        let column = |head: &str, work, bytes, measure| Column {
            head: head.into(),
            subject: Subject::new(work, Layout::TwoProcesses, bytes),
            cell: Cell::One(measure, 1.0),
        };
        let columns = [
            column("1 KB, client", "throughput", ONE_KB, "cpu_client_us"),
            column("1 KB, server", "throughput", ONE_KB, "cpu_server_us"),
            column("1 KB, both", "throughput", ONE_KB, "cpu_us"),
            column("1 KB one by one, both", "latency", ONE_KB, "cpu_us"),
            column("1 MB, both", "throughput", ONE_MB, "cpu_us"),
        ];
        let text = "Microseconds, user and system; two processes, 32 in flight unless it says one by one.";
        self.section("CPU per request", text, &columns)
    }

    fn setup(&self) -> Section {
        let column = |head: &str, layout, measure, unit| Column {
            head: head.into(),
            subject: Subject::new("setup", layout, None),
            cell: Cell::One(measure, unit),
        };
        let columns = [
            column("one process, p50", Layout::OneProcess, "p50_ms", 1.0),
            column("p95", Layout::OneProcess, "p95_ms", 1.0),
            column("two processes, p50", Layout::TwoProcesses, "p50_ms", 1.0),
            column("p95", Layout::TwoProcesses, "p95_ms", 1.0),
            column("CPU, both sides", Layout::TwoProcesses, "cpu_us", TO_MS),
        ];
        let again = |head: &str, layout| Column {
            head: head.into(),
            subject: Subject::new("setup-again", layout, None),
            cell: Cell::One("p50_ms", 1.0),
        };
        let columns = columns.into_iter().chain([
            again("coming back, one process, p50", Layout::OneProcess),
            again("two processes, p50", Layout::TwoProcesses),
        ]);
        let columns: Vec<Column> = columns.collect();
        let text = "Milliseconds; a new client connects, authenticates and has its first answer of 1 KB. Coming back: a client \
                    that was connected before, with the address tokens it was given; raw quinn resumes its TLS session as \
                    well.";
        self.section("Set-up with first answer", text, &columns)
    }

    fn fan_out(&self) -> Section {
        let column = |head: &str, measure| Column {
            head: head.into(),
            subject: Subject::new("fan-out", Layout::TwoProcesses, ONE_KB),
            cell: Cell::One(measure, 1.0),
        };
        let columns = [
            column("last answer, p50, ms", "p50_ms"),
            column("p95, ms", "p95_ms"),
            column("CPU per query, both, µs", "cpu_us"),
            column("client, µs", "cpu_client_us"),
            column("servers, µs", "cpu_server_us"),
            column("connecting to all, ms", "connect_ms"),
        ];
        self.section("Fan-out of 1 KB to 256 servers", "The servers are in another process.", &columns)
    }

    fn beside_stream(&self) -> Section {
        let column = |head: &str, work, cell| Column {
            head: head.into(),
            subject: Subject::new(work, Layout::TwoProcesses, BESIDE_BYTES),
            cell,
        };
        let columns = [
            column("alone, p50", "latency", Cell::One("p50_us", TO_MS)),
            column("p99", "latency", Cell::One("p99_us", TO_MS)),
            column("beside, p50", "beside-stream", Cell::One("p50_us", TO_MS)),
            column("p95", "beside-stream", Cell::One("p95_us", TO_MS)),
            column("p99", "beside-stream", Cell::One("p99_us", TO_MS)),
        ];
        let text =
            "Milliseconds for 256 bytes, while answers of 1 MB come on the same connection; two processes.";
        self.section("Small requests beside large answers", text, &columns)
    }

    fn path(&self) -> Section {
        let column = |head: &str, work, bytes: Option<u64>, cell| Column {
            head: head.into(),
            subject: Subject::new(work, Layout::TwoProcesses, bytes),
            cell,
        };
        let columns = [
            column("1 KB p50, ms", "path", Some(ONE_KB), Cell::One("p50_us", TO_MS)),
            column("1 KB p99, ms", "path", Some(ONE_KB), Cell::One("p99_us", TO_MS)),
            column("1 MB p50, ms", "path", Some(ONE_MB), Cell::One("p50_us", TO_MS)),
            column("1 KB requests per second", "path-throughput", Some(ONE_KB), Cell::One("per_second", 1.0)),
            column(
                "256 B beside 1 MB, p50, ms",
                "path-beside-stream",
                Some(BESIDE_BYTES),
                Cell::One("p50_us", TO_MS),
            ),
            column("set-up p50, ms", "path-setup", None, Cell::One("p50_ms", 1.0)),
            column("coming back p50, ms", "path-setup-again", None, Cell::One("p50_ms", 1.0)),
            column(
                "1 KB to 256, last answer p50, ms",
                "path-fan-out",
                Some(ONE_KB),
                Cell::One("p50_ms", 1.0),
            ),
            column("back after a restart, ms", "path-reconnect", None, Cell::One("ms", 1.0)),
            column("datagrams lost, %", "path", None, Cell::One("lost_share", 100.0)),
        ];
        let text = "25 ms each way, 1% of the datagrams lost each way, none of more than 1,472 bytes taken; 32 in flight for the \
                    requests per second. Every other round.";
        self.section("A path of 50 ms that loses", text, &columns)
    }

    fn connections(&self) -> Section {
        let column = |head: &str, work, measure, unit| Column {
            head: head.into(),
            subject: Subject::new(work, Layout::TwoProcesses, None),
            cell: Cell::One(measure, unit),
        };
        let columns = [
            column("memory of an idle one, KiB", "memory", "server_bytes", 1.0 / 1024.0),
            column("back after a restart, ms", "reconnect", "ms", 1.0),
        ];
        let text = "Memory on the server, of 256; time from the server's being back after 500 ms to the first answer.";
        self.section("Connections", text, &columns)
    }

    fn wire(&self) -> Section {
        let mut columns = Vec::new();
        for (work, how) in [("wire", "one by one"), ("wire-in-flight", "32 in flight")] {
            for (measure, what) in [("to_server_bytes", "request"), ("to_client_bytes", "answer")] {
                let subject = Subject::new(work, Layout::TwoProcesses, ONE_KB);
                columns.push(Column {
                    head: format!("{how}, {what}"),
                    subject,
                    cell: Cell::One(measure, 1.0),
                });
            }
        }
        for (work, how) in [("wire", "one by one"), ("wire-in-flight", "32 in flight")] {
            let subject = Subject::new(work, Layout::TwoProcesses, ONE_KB);
            columns.push(Column { head: format!("{how}, overhead"), subject, cell: Cell::Overhead });
        }
        let text = "Bytes on the wire for a payload of 1,024 bytes each way, acknowledgements included; as given to UDP \
                    or TCP, without their headers.";
        self.section("Wire", text, &columns)
    }

    /// What both directions have on top of the payload.
    fn overhead(&self, system: &str, subject: &Subject) -> Option<String> {
        let median = |measure| self.results.summary(system, subject, measure).map(|summary| summary.median);
        let bytes = median("to_server_bytes")? + median("to_client_bytes")?;
        let payload = 2.0 * ONE_KB as f64;
        Some(format!("{:.1}%", (bytes / payload - 1.0) * 100.0))
    }
}

fn sizes(work: &str, layout: Layout, cell: impl Fn(u64) -> Cell) -> Vec<Column> {
    let column =
        |bytes| Column { head: size(bytes), subject: Subject::new(work, layout, bytes), cell: cell(bytes) };
    SIZES_BYTES.into_iter().map(column).collect()
}

pub(super) fn title(system: &str) -> &str {
    systems::description(system).map_or(system, |system| system.title)
}
