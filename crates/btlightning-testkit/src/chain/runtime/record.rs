//! A composite, encoded field by field in the order in which the runtime has them.

use parity_scale_codec::Encode;

/// Fields by name, each encoded.
#[derive(Default)]
pub(super) struct Record(Vec<(&'static str, Vec<u8>)>);

impl Record {
    pub(super) fn field(mut self, name: &'static str, value: &impl Encode) -> Self {
        self.0.push((name, value.encode()));
        self
    }

    /// The composite with the fields `names`; ours that are not among them are newer or older than the runtime.
    ///
    /// # Panics
    ///
    /// If a field is missing.
    pub(super) fn encode(&self, names: &[&str]) -> Vec<u8> {
        names.iter().flat_map(|name| self.get(name)).copied().collect()
    }

    /// The composite with the fields `names`, each of them optional, of which only those are present whose index is in
    /// `selected`. The first field is not optional: it is the netuid, and 0 when it is not selected.
    ///
    /// # Panics
    ///
    /// If a field is missing.
    pub(super) fn encode_selected(&self, names: &[&str], selected: &[u16]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (index, name) in (0_u16..).zip(names) {
            match (index, selected.contains(&index)) {
                (0, true) => encoded.extend(self.get(name)),
                (_, false) => encoded.push(0),
                (_, true) => {
                    encoded.push(1);
                    encoded.extend(self.get(name));
                }
            }
        }
        encoded
    }

    fn get(&self, name: &str) -> &[u8] {
        let found = self.0.iter().find(|(candidate, _)| *candidate == name);
        &found.unwrap_or_else(|| panic!("the chain has nothing to say of `{name}`")).1
    }
}
