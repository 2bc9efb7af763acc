//! A value of every shape that serde knows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use btlightning_interop::{map, not_utf8};
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

/// A type that can be sent and received.
pub(crate) trait Shape: Serialize + DeserializeOwned + Debug + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Debug + Clone + Send + Sync + 'static> Shape for T {}

/// Who reads back as it was what was written of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Ours and published peers.
    Both,
    /// Only ours; a published peer reports an error.
    Ours,
    /// Nobody: it comes back as something else, or not at all.
    Nobody,
}
use Readers::{Both, Nobody, Ours};

/// What is done with each shape.
pub(crate) trait Visit {
    async fn shape<T: Shape>(&mut self, name: &str, value: T, readers: Readers);
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct W<T> {
    pub(crate) v: T,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Newtype<T>(pub(crate) T);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tuple(u32, String);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Two {
    pub(crate) a: u32,
    pub(crate) b: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    Unit,
    Newtype(u32),
    Tuple(u32, String),
    Struct { x: u32 },
    List(Vec<u32>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t")]
pub(crate) enum Internal {
    Unit,
    Struct { x: u32 },
    Newtype(Two),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
pub(crate) enum Adjacent {
    Unit,
    Newtype(u32),
    Tuple(u32, u32),
    Struct { x: u32 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Number(u32),
    Struct { x: u32 },
    Text(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flat<T> {
    a: u32,
    #[serde(flatten)]
    rest: T,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Skipped {
    a: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    o: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renamed {
    my_field: u32,
}

fn two() -> Two {
    Two { a: 1, b: "x".into() }
}

/// Values that are a payload by themselves: they are written as a map.
pub(crate) async fn payloads(visit: &mut impl Visit) {
    visit.shape("struct", two(), Both).await;
    visit.shape("empty struct", Empty {}, Both).await;
    visit.shape("newtype of a struct", Newtype(two()), Both).await;
    visit.shape("some struct", Some(two()), Both).await;
    visit.shape("map", BTreeMap::from([("a".to_owned(), 1_u32)]), Both).await;
    visit.shape("map of values", HashMap::from([("a".to_owned(), Value::F32(1.5))]), Both).await;
    visit.shape("map by char", BTreeMap::from([('c', 1_u32)]), Both).await;
    visit.shape("map by integer", BTreeMap::from([(7_u32, 1_u32)]), Ours).await;
    visit.shape("map by negative integer", BTreeMap::from([(-7_i8, 1_u32)]), Ours).await;
    visit.shape("map by bool", BTreeMap::from([(true, 1_u32)]), Ours).await;
    visit.shape("map by variant", BTreeMap::from([(Kind::Unit, 1_u32)]), Ours).await;
    visit.shape("map by pair", BTreeMap::from([((1_u8, 2_u8), 1_u32)]), Nobody).await;
    visit.shape("map by bytes", BTreeMap::from([(ByteBuf::from("k"), 1_u32)]), Nobody).await;
    visit.shape("empty map by integer", BTreeMap::<u32, u32>::new(), Both).await;
    visit.shape("newtype variant", Kind::Newtype(1), Ours).await;
    visit.shape("tuple variant", Kind::Tuple(1, "x".into()), Ours).await;
    visit.shape("struct variant", Kind::Struct { x: 1 }, Ours).await;
    visit.shape("list variant", Kind::List(vec![1]), Ours).await;
    visit.shape("result", Ok::<u32, u32>(1), Ours).await;
    visit.shape("internally tagged unit", Internal::Unit, Both).await;
    visit.shape("internally tagged struct", Internal::Struct { x: 1 }, Both).await;
    visit.shape("internally tagged newtype", Internal::Newtype(two()), Both).await;
    visit.shape("adjacently tagged unit", Adjacent::Unit, Ours).await;
    visit.shape("adjacently tagged newtype", Adjacent::Newtype(1), Ours).await;
    visit.shape("adjacently tagged tuple", Adjacent::Tuple(1, 2), Ours).await;
    visit.shape("adjacently tagged struct", Adjacent::Struct { x: 1 }, Ours).await;
    visit.shape("untagged struct", Untagged::Struct { x: 1 }, Both).await;
    visit.shape("flattened struct", Flat { a: 1, rest: W { v: 2_u8 } }, Both).await;
    visit.shape("flattened map", Flat { a: 1, rest: BTreeMap::from([("z".to_owned(), 2_u8)]) }, Both).await;
    visit.shape("flattened newtype variant", Flat { a: 1, rest: W { v: Kind::Newtype(3) } }, Both).await;
    visit.shape("flattened unit variant", Flat { a: 1, rest: W { v: Kind::Unit } }, Nobody).await;
    visit.shape("flattened enum", Flat { a: 1, rest: Kind::Newtype(3) }, Both).await;
    visit.shape("skipped field", Skipped { a: 1, o: None }, Both).await;
    visit.shape("field that was not skipped", Skipped { a: 1, o: Some(2) }, Both).await;
    visit.shape("renamed field", Renamed { my_field: 1 }, Both).await;
    visit.shape("dynamic map", map([("a".into(), 1.into())]), Both).await;
    visit.shape("dynamic map by integer", map([(1.into(), 1.into())]), Nobody).await;
}

/// Values in a struct's only field.
pub(crate) async fn fields(visit: &mut impl Visit) {
    numbers(visit).await;
    let v = visit;
    v.shape("unit", W { v: () }, Both).await;
    v.shape("unit struct", W { v: Unit }, Ours).await;
    v.shape("none", W { v: None::<u32> }, Both).await;
    v.shape("some", W { v: Some(1_u32) }, Both).await;
    v.shape("some none", W { v: Some(None::<u32>) }, Nobody).await;
    v.shape("some unit", W { v: Some(()) }, Nobody).await;
    v.shape("bool", W { v: true }, Both).await;
    v.shape("char", W { v: 'é' }, Both).await;
    for text in ["", "text", "é漢🦀\0", &"long".repeat(100)] {
        v.shape("string", W { v: text.to_owned() }, Both).await;
    }
    v.shape("bytes", W { v: ByteBuf::from([1, 2, 200]) }, Both).await;
    v.shape("array of bytes", W { v: ByteArray::new([1, 2]) }, Both).await;
    v.shape("vector of u8", W { v: vec![1_u8, 2, 200] }, Both).await;
    v.shape("array of u8", W { v: [1_u8, 2, 3, 4] }, Both).await;
    v.shape("empty vector", W { v: Vec::<u8>::new() }, Both).await;
    v.shape("vectors", W { v: vec![vec![1_u8], vec![]] }, Both).await;
    v.shape("set", W { v: HashSet::from([1_u32]) }, Both).await;
    v.shape("tuple", W { v: (1_u32, "a".to_owned(), 1.5_f32) }, Both).await;
    v.shape("tuple struct", W { v: Tuple(1, "x".into()) }, Both).await;
    v.shape("newtype", W { v: Newtype(1_u32) }, Both).await;
    v.shape("struct", W { v: two() }, Both).await;
    v.shape("box", W { v: Box::new(two()) }, Both).await;
    v.shape("structs", W { v: vec![Some(two()), None] }, Both).await;
    v.shape("empty struct", W { v: Empty {} }, Both).await;
    v.shape("map", W { v: BTreeMap::from([("a".to_owned(), 1_u32)]) }, Both).await;
    v.shape("map by integer", W { v: BTreeMap::from([(9_u32, 1_u32), (300, 2)]) }, Both).await;
    v.shape("map by negative integer", W { v: BTreeMap::from([(-9_i64, 1_u32)]) }, Both).await;
    v.shape("map by char", W { v: BTreeMap::from([('c', 1_u32)]) }, Both).await;
    v.shape("map by bool", W { v: BTreeMap::from([(true, 1_u32)]) }, Both).await;
    v.shape("map by pair", W { v: BTreeMap::from([((1_u8, 2_u8), 1_u32)]) }, Both).await;
    v.shape("map by variant", W { v: BTreeMap::from([(Kind::Unit, 1_u32)]) }, Ours).await;
    v.shape("duration", W { v: Duration::from_millis(1500) }, Both).await;
    for ip in ["1.2.3.4", "::1"] {
        v.shape("address", W { v: ip.parse::<IpAddr>().expect("an address") }, Both).await;
    }
    v.shape("socket", W { v: "1.2.3.4:5".parse::<SocketAddr>().expect("a socket") }, Both).await;
    enums(v).await;
    dynamic(v).await;
}

async fn numbers(visit: &mut impl Visit) {
    visit.shape("u8", W { v: u8::MAX }, Both).await;
    visit.shape("u16", W { v: u16::MAX }, Both).await;
    visit.shape("u32", W { v: u32::MAX }, Both).await;
    visit.shape("usize", W { v: 7_usize }, Both).await;
    visit.shape("i8", W { v: i8::MIN }, Both).await;
    visit.shape("i16", W { v: i16::MIN }, Both).await;
    visit.shape("i32", W { v: i32::MIN }, Both).await;
    for bits in [0, 7, 8, 16, 32, 63] {
        let bound = 1_u64 << bits;
        visit.shape("u64", W { v: bound }, Both).await;
        visit.shape("u64", W { v: bound - 1 }, Both).await;
        visit.shape("i64", W { v: (bound - 1) as i64 }, Both).await;
        visit.shape("i64", W { v: (bound as i64).wrapping_neg() }, Both).await;
    }
    visit.shape("u64", W { v: u64::MAX }, Both).await;
    visit.shape("u128", W { v: 5_u128 }, Nobody).await;
    visit.shape("i128", W { v: -5_i128 }, Nobody).await;
    for float in [0.0, -0.0, 1.1, f32::MAX, f32::NAN, f32::NEG_INFINITY] {
        visit.shape("f32", W { v: float }, Both).await;
        visit.shape("f64", W { v: f64::from(float) }, Both).await;
    }
}

async fn enums(visit: &mut impl Visit) {
    visit.shape("unit variant", W { v: Kind::Unit }, Ours).await;
    visit.shape("newtype variant", W { v: Kind::Newtype(7) }, Ours).await;
    visit.shape("tuple variant", W { v: Kind::Tuple(7, "y".into()) }, Ours).await;
    visit.shape("struct variant", W { v: Kind::Struct { x: 1 } }, Ours).await;
    visit.shape("list variant", W { v: Kind::List(vec![1, 2]) }, Ours).await;
    visit.shape("variants", W { v: vec![Kind::Unit, Kind::Newtype(1)] }, Ours).await;
    visit.shape("some variant", W { v: Some(Kind::Unit) }, Ours).await;
    visit.shape("ok", W { v: Ok::<u32, String>(1) }, Ours).await;
    visit.shape("err", W { v: Err::<u32, String>("e".into()) }, Ours).await;
    visit.shape("internally tagged unit", W { v: Internal::Unit }, Both).await;
    visit.shape("internally tagged struct", W { v: Internal::Struct { x: 1 } }, Both).await;
    visit.shape("internally tagged newtype", W { v: Internal::Newtype(two()) }, Both).await;
    visit.shape("untagged number", W { v: Untagged::Number(1) }, Both).await;
    visit.shape("untagged struct", W { v: Untagged::Struct { x: 1 } }, Both).await;
    visit.shape("untagged text", W { v: Untagged::Text("s".into()) }, Both).await;
    visit.shape("adjacently tagged unit", W { v: Adjacent::Unit }, Ours).await;
    visit.shape("adjacently tagged newtype", W { v: Adjacent::Newtype(1) }, Ours).await;
    visit.shape("adjacently tagged tuple", W { v: Adjacent::Tuple(1, 2) }, Ours).await;
    visit.shape("adjacently tagged struct", W { v: Adjacent::Struct { x: 1 } }, Ours).await;
}

async fn dynamic(visit: &mut impl Visit) {
    for value in [
        Value::Nil,
        Value::from(true),
        Value::from(u64::MAX),
        Value::from(-1),
        Value::F32(1.1),
        Value::F64(1.1),
        Value::from("s"),
        Value::Binary(vec![1, 2]),
        Value::Array(vec!["a".into(), Value::Array(vec![])]),
        map([(1.into(), true.into()), (Value::Nil, map([]))]),
    ] {
        visit.shape("value", W { v: value }, Both).await;
    }
    visit.shape("value that is not UTF-8", W { v: not_utf8() }, Nobody).await;
}
