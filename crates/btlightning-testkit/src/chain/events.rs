//! What happened in a block, as `System.Events` has it.

use super::{metadata::Metadata, ss58::AccountId};
use parity_scale_codec::{Compact, Encode};

/// The events of a block that is being made.
pub(super) struct Events<'a> {
    metadata: &'a Metadata,
    records: Vec<u8>,
    count: u32,
}

/// What kind of extrinsic it was.
#[derive(Clone, Copy)]
pub(super) enum Class {
    Normal = 0,
    /// An inherent.
    Mandatory = 2,
}

impl<'a> Events<'a> {
    pub(super) fn new(metadata: &'a Metadata) -> Self {
        Self { metadata, records: Vec::new(), count: 0 }
    }

    /// `SubtensorModule.AxonServed` or its like: a neuron published something.
    pub(super) fn served(&mut self, extrinsic: u32, event: &str, netuid: u16, hotkey: &AccountId) {
        let event = self.metadata.event_index("SubtensorModule", event);
        self.push(extrinsic, &(event, netuid, hotkey));
    }

    /// `System.ExtrinsicSuccess`.
    pub(super) fn success(&mut self, extrinsic: u32, class: Class) {
        let event = self.metadata.event_index("System", "ExtrinsicSuccess");
        self.push(extrinsic, &(event, dispatch_info(class)));
    }

    /// `System.ExtrinsicFailed`, with an error of a pallet.
    pub(super) fn failed(&mut self, extrinsic: u32, pallet: &str, error: &str) {
        const MODULE: u8 = 3;
        let event = self.metadata.event_index("System", "ExtrinsicFailed");
        let [pallet, error] = self.metadata.error_index(pallet, error);
        let error = (MODULE, pallet, [error, 0, 0, 0]);
        self.push(extrinsic, &(event, error, dispatch_info(Class::Normal)));
    }

    /// The encoded `Vec<EventRecord>`, and how many there are.
    pub(super) fn finish(self) -> (Vec<u8>, u32) {
        let mut encoded = Compact(self.count).encode();
        encoded.extend(self.records);
        (encoded, self.count)
    }

    fn push(&mut self, extrinsic: u32, event: &impl Encode) {
        const APPLY_EXTRINSIC: u8 = 0;
        let no_topics = Vec::<[u8; 32]>::new();
        (APPLY_EXTRINSIC, extrinsic, event, no_topics).encode_to(&mut self.records);
        self.count += 1;
    }
}

/// Weight, class and that it costs nothing.
fn dispatch_info(class: Class) -> (Compact<u64>, Compact<u64>, u8, u8) {
    const PAYS_NO_FEE: u8 = 1;
    (Compact(100_000_000), Compact(1_000), class as u8, PAYS_NO_FEE)
}
