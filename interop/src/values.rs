//! Dynamic values, shortly written. Both packages use the same `rmpv`.

use std::collections::HashMap;

use rmpv::Value;

/// A request's or an answer's payload.
pub type Data = HashMap<String, Value>;

/// A payload of these entries.
pub fn data<const N: usize>(entries: [(&str, Value); N]) -> Data {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A map value of these entries.
pub fn map<const N: usize>(entries: [(Value, Value); N]) -> Value {
    Value::Map(entries.into())
}

/// A MessagePack string that is not UTF-8, which Rust programs can only come by on the wire.
pub fn not_utf8() -> Value {
    rmpv::decode::read_value(&mut &[0xa2, 0xff, 0xfe][..]).expect("well formed")
}
