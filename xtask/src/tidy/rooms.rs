//! ARCHITECTURE.md's rules about who may know whom, as far as a word in the wrong place shows it.

use super::{
    Finding, TextFile, house,
    source::{code_lines, has_word},
};

/// A part of the source, the words that must not stand in it, and the rule they would break.
struct Room {
    under: &'static str,
    except: &'static str,
    words: &'static [&'static str],
    rule: &'static str,
}

const ROOMS: [Room; 6] = [
    Room {
        under: "crates/btlightning/src/client/",
        except: "",
        words: &["crate::server"],
        rule: "the client and the server never import each other",
    },
    Room {
        under: "crates/btlightning/src/server/",
        except: "",
        words: &["crate::client"],
        rule: "the client and the server never import each other",
    },
    Room {
        under: "crates/btlightning/src/transport/",
        except: "",
        words: &["crate::client", "crate::server"],
        rule: "the transport serves the client and the server, and knows neither",
    },
    Room {
        under: "crates/btlightning/src/",
        except: "crates/btlightning/src/transport/tls/",
        words: &["rustls"],
        rule: "only transport::tls knows rustls",
    },
    Room {
        under: "crates/btlightning-chain/src/",
        except: "",
        words: &["quinn", "rustls", "std::fs"],
        rule: "the chain is read and written to by subxt alone, and knows no QUIC and no files",
    },
    Room {
        under: "crates/btlightning-proto/src/",
        except: "",
        words: &[
            "tokio",
            "quinn",
            "rustls",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
            "Mutex",
            "RwLock",
            "getrandom",
        ],
        rule: "the protocol has no runtime, socket, TLS, clock, file, lock or random number of its own",
    },
];

/// Tests are free to look into any room.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let is_excepted = |room: &Room| !room.except.is_empty() && file.path.starts_with(room.except);
    let rooms = ROOMS.iter().filter(|room| file.path.starts_with(room.under) && !is_excepted(room));
    let rooms: Vec<&Room> = rooms.collect();
    if rooms.is_empty() || house::is_test_file(&file.path) {
        return Vec::new();
    }
    let code = code_lines(&file.text);
    let tests_start = house::unit_tests_start(&code);
    let mut findings = Vec::new();
    for (index, line) in code[..tests_start].iter().enumerate() {
        for room in &rooms {
            for word in room.words.iter().filter(|word| has_word(line, word, "")) {
                findings.push(Finding::at(&file.path, index, format!("`{word}`: {}", room.rule)));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_the_wrong_room_is_found() {
        let cases = [
            ("crates/btlightning/src/client/dial.rs", "use crate::server::Session;", 1),
            ("crates/btlightning/src/client/dial.rs", "use crate::transport::tls;", 0),
            ("crates/btlightning/src/client/dial.rs", "use rustls::Error;", 1),
            ("crates/btlightning/src/transport/tls/mod.rs", "use rustls::Error;", 0),
            ("crates/btlightning/src/transport/tls/mod.rs", "use crate::client::Slot;", 1),
            ("crates/btlightning-proto/src/peers/backoff.rs", "let now = Instant::now();", 1),
            (
                "crates/btlightning-proto/src/peers/backoff.rs",
                "fn next(now: Instant) // no Instant::now()",
                0,
            ),
            (
                "crates/btlightning-proto/src/peers/backoff.rs",
                "#[cfg(test)]\nmod tests {\n Instant::now();\n}",
                0,
            ),
            ("crates/btlightning/src/client/tests.rs", "use crate::server::Session;", 0),
            ("crates/btlightning-testkit/src/net/mod.rs", "use tokio::time;", 0),
        ];
        for (path, text, found) in cases {
            let file = TextFile { path: path.into(), text: text.into() };
            assert_eq!(check(&file).len(), found, "{path}: {text}");
        }
    }
}
