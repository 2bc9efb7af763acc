//! What somebody can do to a server that knows the hotkey: a validator that has gone bad.

mod answers;
mod blocked;
mod hotkeys;
mod payloads;

use btlightning_proto::wire::encode_packet_frame;
use btlightning_testkit::by_hand::{Visitor, unix_secs};
use serde::Serialize;

use crate::run::Attack;
use crate::strangers::{key, stranger};
use crate::verdict::Failure;
use crate::victim::Victim;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    payloads::EXPANSION,
    payloads::NESTING,
    blocked::HANDLERS,
    blocked::SIGNATURES,
    hotkeys::SHARE,
    answers::UNREAD,
    answers::ABANDONED,
];

/// A validator at the `index`-th address, who has authenticated under `name`.
async fn validator(victim: &Victim, index: usize, name: &str) -> Result<Visitor, Failure> {
    let visitor = stranger(victim, index).await?;
    visitor.authenticate(&key(name)).await?;
    Ok(visitor)
}

/// Data without anything in it.
#[derive(Debug, Serialize)]
struct Nothing {}

/// The frame of a request with `data`.
fn request<T: Serialize>(name: &str, data: &T) -> Result<Vec<u8>, Failure> {
    Ok(encode_packet_frame(name, unix_secs(), 1 << 26, |out| btlightning_proto::wire::to_payload(data, out))?)
}
