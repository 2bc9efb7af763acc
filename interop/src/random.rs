//! Randomness that is the same in every run.

use rmpv::Value;

use crate::Data;

/// A SplitMix64 sequence.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Of as many bits as chance will have it, so that every width of integer comes up.
    pub fn integer(&mut self) -> u64 {
        let width = self.below(65);
        self.bits().checked_shr(64 - width as u32).unwrap_or(0)
    }

    /// A length up to `longest`, mostly a short one; those at which MessagePack changes its markers come up often.
    pub fn length(&mut self, longest: usize) -> usize {
        const EDGES: [usize; 10] = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536];
        match self.below(3) {
            0 => Some(EDGES[self.below(EDGES.len())]).filter(|edge| *edge <= longest).unwrap_or(0),
            _ => self.below(longest.min(40) + 1),
        }
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.bits() as u8).collect()
    }

    /// A string of up to `longest` bytes.
    pub fn text(&mut self, longest: usize) -> String {
        const LETTERS: [char; 8] = ['a', 'Z', '0', ' ', 'é', '漢', '🦀', '\0'];
        let length = self.length(longest);
        let mut text = String::new();
        while text.len() < length {
            let letter = LETTERS[self.below(LETTERS.len())];
            text.push(if text.len() + letter.len_utf8() > length { 'b' } else { letter });
        }
        text
    }

    /// Any value, at most `depth` deep.
    pub fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 8 } else { 10 }) {
            0 => Value::Nil,
            1 => Value::Boolean(self.bits() & 1 == 1),
            2 => Value::from(self.integer()),
            3 => Value::from((self.integer() >> 1) as i64 * if self.bits() & 1 == 1 { -1 } else { 1 }),
            4 if self.bits() & 1 == 1 => Value::F32(f32::from_bits(self.bits() as u32)),
            4 => Value::F64(f64::from_bits(self.bits())),
            5 => Value::from(self.text(300)),
            6 => {
                let longest = if self.below(20) == 0 { 70_000 } else { 300 };
                let length = self.length(longest);
                Value::Binary(self.bytes(length))
            }
            7 => {
                let length = [0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 300][self.below(11)];
                Value::Ext(self.bits() as i8, self.bytes(length))
            }
            8 => Value::Array((0..self.length(17)).map(|_| self.value(depth - 1)).collect()),
            _ => Value::Map(
                (0..self.below(5)).map(|_| (self.value(depth - 1), self.value(depth - 1))).collect(),
            ),
        }
    }

    /// A payload of up to `entries` entries.
    pub fn data(&mut self, entries: usize) -> Data {
        (0..self.below(entries + 1)).map(|_| (self.text(40), self.value(2))).collect()
    }
}
