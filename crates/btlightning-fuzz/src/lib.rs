//! What fuzzing runs: functions of arbitrary bytes that panic where an invariant does not hold.
//!
//! They call what production calls, and hold more than that it does not panic: what is accepted is held against a model or
//! a second way to the same answer, and what is allocated against the budget. `fuzz/` drives them with libFuzzer; an
//! ordinary test runs them over the corpora that are committed there, and over every input that ever failed.
//!
//! The first bytes of an input choose limits and the like. Targets of sequences read steps with the crate `arbitrary`.

mod backoff;
mod frames;
mod handshake;
mod heap;
mod limiter;
mod message;
mod payload;
mod peers;
mod reconcile;
mod registry;
mod replay;
mod sources;
mod value;

pub use self::backoff::backoff;
pub use self::frames::{frame, frame_reader};
pub use self::handshake::{handshake_client, handshake_server};
pub use self::limiter::{limiter, visitors};
pub use self::message::message;
pub use self::payload::{scan, typed};
pub use self::peers::{peers_list, texts};
pub use self::reconcile::reconcile;
pub use self::registry::registry;
pub use self::replay::replay;
pub use self::sources::sources_file;
pub use self::value::value;

/// What is run on an input. Panics where an invariant does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus, too.
pub const TARGETS: [(&str, Target); 17] = [
    ("backoff", backoff),
    ("frame", frame),
    ("frame_reader", frame_reader),
    ("handshake_client", handshake_client),
    ("handshake_server", handshake_server),
    ("limiter", limiter),
    ("message", message),
    ("peers_list", peers_list),
    ("reconcile", reconcile),
    ("registry", registry),
    ("replay", replay),
    ("scan", scan),
    ("sources_file", sources_file),
    ("texts", texts),
    ("typed", typed),
    ("value", value),
    ("visitors", visitors),
];
