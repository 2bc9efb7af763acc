//! Typed values on the wire: the bytes that btlightning 0.2.15 makes of them, and the way back.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use btlightning_proto::error::LightningError;
use btlightning_proto::wire::{
    DecodeError, EncodeError, NESTING_MAX, QuicRequest, QuicResponse, ScanLimits, Scanned, from_payload,
    to_payload,
};
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct W<T> {
    v: T,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tuple(u32, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: u32,
    y: i32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Unit,
    Newtype(u32),
    Tuple(u32, String),
    Struct { x: u32 },
    List(Vec<u32>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t")]
enum Internal {
    Unit,
    Struct { x: u32 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    Newtype(u32),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Struct { x: u32 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat<T> {
    #[serde(flatten)]
    inner: T,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    to_payload(value, &mut out).map(|()| out)
}

fn decoded<'de, T: Deserialize<'de>>(payload: &'de [u8]) -> Result<T, DecodeError> {
    from_payload(Scanned::whole(payload, &ScanLimits::for_payload(payload.len()))?)
}

/// The payload of `value` is `golden`, and comes back as `value`.
#[track_caller]
fn both_ways<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, golden: &str) {
    let payload = encoded(&value).expect("encodes");
    assert_eq!(hex(&payload), golden, "{value:?}");
    assert_eq!(decoded(&payload), Ok(value));
}

/// As [`both_ways`], for a value in a struct's only field.
#[track_caller]
fn inside<T: Serialize + DeserializeOwned + PartialEq + Debug>(v: T, golden: &str) {
    both_ways(W { v }, &format!("81a176{golden}"));
}

/// What published peers may send for a `T` beside what we would.
#[track_caller]
fn also_read<T: DeserializeOwned + PartialEq + Debug>(field: Value, v: T) {
    let payload = encoded(&W { v: field }).expect("encodes");
    assert_eq!(decoded(&payload), Ok(W { v }));
}

#[test]
fn scalars() {
    inside((), "c0");
    inside(None::<u32>, "c0");
    inside(Some(5_u32), "05");
    inside(true, "c3");
    inside(200_u8, "ccc8");
    inside(60_000_u16, "cdea60");
    inside(u32::MAX, "ceffffffff");
    inside(u64::MAX, "cfffffffffffffffff");
    inside(-100_i8, "d09c");
    inside(-30_000_i16, "d18ad0");
    inside(i32::MIN, "d280000000");
    inside(i64::MIN, "d38000000000000000");
    inside(300_i64, "cd012c");
    inside(1.5_f32, "ca3fc00000");
    inside(1.5_f64, "cb3ff8000000000000");
    inside('é', "a2c3a9");
    inside("text".to_owned(), "a474657874");
    inside(
        "0123456789012345678901234567890123456789".to_owned(),
        "d92830313233343536373839303132333435363738393031323334353637383930313233343536373839",
    );
}

#[test]
fn bytes_are_bytes_only_if_they_say_so() {
    inside(ByteBuf::from([1, 2]), "c4020102");
    inside(ByteArray::new([1, 2]), "c4020102");
    inside(vec![1_u8, 200], "9201ccc8");
    inside([1_u8, 2], "920102");
    also_read(Value::Binary(vec![1, 2]), vec![1_u8, 2]);
    also_read(Value::Binary(vec![1, 2]), [1_u8, 2]);
    also_read(Value::Array(vec![1.into(), 2.into()]), ByteBuf::from([1, 2]));
    also_read(Value::from("ab"), ByteBuf::from(*b"ab"));
    also_read(Value::Binary(b"ab".to_vec()), "ab".to_owned());
}

#[test]
fn collections() {
    inside((1_u8, "a".to_owned(), 1.5_f32), "9301a161ca3fc00000");
    inside(vec![0_u8; 20], "dc00140000000000000000000000000000000000000000");
    inside(BTreeMap::from([(-1_i64, "a".to_owned()), (300, "b".to_owned())]), "82ffa161cd012ca162");
    inside(BTreeMap::from([((1_u8, 2_u8), true)]), "81920102c3");
    inside(vec![Some(Point { x: 1, y: -1 }), None], "9282a17801a179ffc0");
}

#[test]
fn structs() {
    inside(Unit, "c0");
    inside(Newtype(7), "07");
    inside(Tuple(7, "a".into()), "9207a161");
    inside(Point { x: 1, y: -1 }, "82a17801a179ff");
    inside(Flat { inner: W { v: 1_u8 } }, "81a17601");
    inside(Duration::from_millis(1_500), "82a47365637301a56e616e6f73ce1dcd6500");
    inside("1.2.3.4".parse::<IpAddr>().expect("an address"), "a7312e322e332e34");

    let array = |elements: Vec<Value>| Value::Array(elements);
    also_read(array(vec![]), Unit);
    also_read(array(vec![1.into(), (-1).into()]), Point { x: 1, y: -1 });
    also_read(Value::Map(vec![(0.into(), 1.into()), (1.into(), (-1).into())]), Point { x: 1, y: -1 });
    also_read(
        Value::Map(vec![
            ("y".into(), 2.into()),
            ("z".into(), array(vec![Value::Nil])),
            ("x".into(), 1.into()),
        ]),
        Point { x: 1, y: 2 },
    );
}

#[test]
fn enums() {
    inside(Kind::Unit, "00");
    inside(Kind::Newtype(300), "8101cd012c");
    inside(Kind::Tuple(1, "a".into()), "81029201a161");
    inside(Kind::Struct { x: 1 }, "810381a17801");
    inside(Kind::List(vec![1, 2]), "8104920102");
    inside(Ok::<u32, u32>(1), "810001");
    inside(Internal::Unit, "81a174a4556e6974");
    inside(Internal::Struct { x: 1 }, "82a174a6537472756374a17801");
    inside(Adjacent::Unit, "81a17400");
    inside(Adjacent::Newtype(1), "82a17401a16301");
    inside(Untagged::Number(1), "01");
    inside(Untagged::Struct { x: 1 }, "81a17801");
    inside(Flat { inner: W { v: Kind::Newtype(3) } }, "81a176810103");
    // serde itself names the variants of a flattened enum.
    inside(Flat { inner: Kind::Newtype(3) }, "81a74e65777479706503");
    inside(BTreeMap::from([(Kind::Unit, vec![Kind::Unit, Kind::Newtype(1)])]), "81009200810101");
    inside(Some(Some(Kind::Unit)), "00");
}

#[test]
fn variants_may_be_named() {
    also_read(Value::from("Unit"), Kind::Unit);
    also_read(Value::Map(vec![("Unit".into(), Value::Nil)]), Kind::Unit);
    also_read(Value::Map(vec![("Newtype".into(), 4.into())]), Kind::Newtype(4));
    also_read(
        Value::Map(vec![("Struct".into(), Value::Map(vec![("x".into(), 1.into())]))]),
        Kind::Struct { x: 1 },
    );
}

#[test]
fn variants_may_be_arrays() {
    let array = |elements: &[Value]| Value::Array(elements.to_vec());
    also_read(array(&[0.into()]), Kind::Unit);
    also_read(array(&[0.into(), array(&[])]), Kind::Unit);
    also_read(array(&[1.into(), 4.into()]), Kind::Newtype(4));
    also_read(array(&[1.into(), array(&[4.into()])]), Kind::Newtype(4));
    also_read(array(&[2.into(), array(&[1.into(), "q".into()])]), Kind::Tuple(1, "q".into()));
    also_read(array(&[3.into(), array(&[1.into()])]), Kind::Struct { x: 1 });
    also_read(array(&[3.into(), Value::Map(vec![("x".into(), 1.into())])]), Kind::Struct { x: 1 });
    also_read(array(&[4.into(), array(&[array(&[1.into()])])]), Kind::List(vec![1]));
    also_read(array(&[4.into(), array(&[1.into(), 2.into()])]), Kind::List(vec![1, 2]));
}

#[test]
fn what_is_no_variant_is_refused() {
    let array = |elements: &[Value]| Value::Array(elements.to_vec());
    for value in [
        Value::Nil,
        Value::from(99),
        Value::from(u64::MAX),
        Value::from("Zed"),
        Value::from(1),
        array(&[]),
        array(&[1.into()]),
        array(&[0.into(), 1.into()]),
        array(&[1.into(), 2.into(), 3.into()]),
        Value::Map(vec![(1.into(), 1.into()), (2.into(), 1.into())]),
        Value::Map(vec![(0.into(), 1.into())]),
        Value::Map(vec![(1.into(), array(&[1.into()]))]),
    ] {
        let payload = encoded(&W { v: value.clone() }).expect("encodes");
        assert!(decoded::<W<Kind>>(&payload).is_err(), "{value}");
    }
}

#[test]
fn numbers_fit_or_are_refused() {
    also_read(Value::from(3), 3.0_f64);
    also_read(Value::from(-3), -3.0_f32);
    also_read(Value::F32(1.5), 1.5_f64);
    also_read(Value::F64(1.5), 1.5_f32);
    fn refused<T: DeserializeOwned + Debug>(field: Value) {
        let payload = encoded(&W { v: field }).expect("encodes");
        assert!(matches!(decoded::<W<T>>(&payload), Err(DecodeError::Mismatch(_))));
    }
    refused::<u32>(Value::F64(3.0));
    refused::<u8>(Value::from(300));
    refused::<u32>(Value::from(-1));
    refused::<i64>(Value::from(u64::MAX));
    refused::<bool>(Value::from(1));
    refused::<String>(Value::from(1));
    refused::<String>(Value::Nil);
    refused::<(u32, u32)>(Value::Array(vec![1.into()]));
    refused::<(u32, u32)>(Value::Array(vec![1.into(), 2.into(), 3.into()]));
    refused::<u128>(Value::from(1));
}

#[test]
fn the_payloads_own_keys_are_strings() {
    both_ways(Kind::Newtype(1), "81a13101");
    both_ways(Kind::Tuple(1, "a".into()), "81a1329201a161");
    both_ways(Kind::Struct { x: 1 }, "81a13381a17801");
    both_ways(BTreeMap::from([(7_u32, 1_u32)]), "81a13701");
    both_ways(BTreeMap::from([(-7_i8, 1_u32)]), "81a22d3701");
    both_ways(BTreeMap::from([(true, 1_u32)]), "81a47472756501");
    both_ways(BTreeMap::from([("k".to_owned(), 1_u32)]), "81a16b01");
    both_ways(BTreeMap::from([(Kind::Unit, 1_u32)]), "81a13001");
    both_ways(BTreeMap::from([(Some('c'), 1_u32)]), "81a16301");
    both_ways(Some(W { v: 1_u32 }), "81a17601");
    both_ways(Flat { inner: W { v: 1_u32 } }, "81a17601");
    both_ways(Internal::Unit, "81a174a4556e6974");
    let pair_as_key = encoded(&BTreeMap::from([((1_u8, 2_u8), 1_u32)])).expect("encodes");
    assert_eq!(hex(&pair_as_key), "81a65b312c20325d01");
}

#[test]
fn a_payload_is_a_map() {
    fn refused<T: Serialize>(value: T) {
        let mut out = vec![9];
        assert_eq!(to_payload(&value, &mut out), Err(EncodeError::NotAMap));
        assert_eq!(out, [9], "an error leaves the vector as it was");
    }
    refused(());
    refused(Unit);
    refused(1_u32);
    refused("text");
    refused(vec![1_u32]);
    refused((1, 2));
    refused(Newtype(1));
    refused(Tuple(1, "a".into()));
    refused(None::<Point>);
    refused(Kind::Unit);
    refused(ByteBuf::from([1]));
    refused(Value::Array(vec![]));
}

#[test]
fn what_cannot_be_encoded_leaves_nothing_behind() {
    let mut out = vec![9];
    assert!(matches!(to_payload(&W { v: 1_u128 }, &mut out), Err(EncodeError::Refused(_))));
    assert!(matches!(to_payload(&(1, W { v: -1_i128 }), &mut out), Err(EncodeError::Refused(_))));
    assert_eq!(out, [9]);
}

#[test]
fn flattened_maps_of_every_size_have_the_smallest_head() {
    for length in [0_u32, 15, 16, 65_535, 65_536] {
        let inner: BTreeMap<String, u32> = (0..length).map(|n| (format!("{n:05}"), n)).collect();
        let flat = Flat { inner };
        let payload = encoded(&flat).expect("encodes");
        let mut plain = Vec::new();
        to_payload(&flat.inner, &mut plain).expect("encodes");
        assert_eq!(payload, plain, "{length}");
        assert_eq!(decoded(&payload), Ok(flat));
    }
}

#[test]
fn dynamic_values_pass_through_typed_ones() {
    inside(Value::Map(vec![(1.into(), "a".into())]), "8101a161");
    inside(Value::Ext(5, vec![1, 2]), "d5050102");
    inside(Value::Ext(-1, vec![0; 20]), &format!("c714ff{}", "00".repeat(20)));
    inside(Value::F32(1.5), "ca3fc00000");
    inside(HashMap::from([("k".to_owned(), Value::Ext(1, vec![]))]), "81a16bc70001");
    let not_utf8 = rmpv::decode::read_value(&mut &[0xa2, 0xff, 0xfe][..]).expect("well formed");
    assert_eq!(hex(&encoded(&W { v: not_utf8 }).expect("encodes")), "81a176c402fffe");
}

#[test]
fn types_may_borrow_from_the_payload() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Borrowing<'a> {
        text: &'a str,
        #[serde(with = "serde_bytes")]
        bytes: &'a [u8],
    }
    let payload = encoded(&Borrowing { text: "abc", bytes: &[1, 2] }).expect("encodes");
    let back: Borrowing<'_> = decoded(&payload).expect("decodes");
    assert_eq!(back, Borrowing { text: "abc", bytes: &[1, 2] });
    assert!(payload.as_ptr_range().contains(&back.text.as_ptr()));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

/// As deep a chain as `levels` says.
fn chain(levels: usize) -> Chain {
    (1..levels).fold(Chain { next: None }, |chain, _| Chain { next: Some(Box::new(chain)) })
}

#[test]
fn nesting_is_bounded_before_it_is_sent() {
    let deepest = chain(NESTING_MAX);
    let payload = encoded(&deepest).expect("at the limit");
    assert_eq!(decoded(&payload), Ok(deepest));
    assert_eq!(encoded(&chain(NESTING_MAX + 1)), Err(EncodeError::TooDeep { nesting_max: NESTING_MAX }));
}

#[test]
fn the_deepest_types_fit_a_common_stack() {
    fn arrays() -> Value {
        (1..NESTING_MAX).fold(Value::Array(vec![]), |value, _| Value::Array(vec![value]))
    }
    std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(|| {
            let payload = encoded(&chain(NESTING_MAX)).expect("at the limit");
            assert_eq!(decoded::<Chain>(&payload), Ok(chain(NESTING_MAX)));
            let Value::Array(inner) = arrays() else { unreachable!() };
            let value = W { v: inner.into_iter().next().expect("nested") };
            assert_eq!(decoded::<W<Value>>(&encoded(&value).expect("at the limit")), Ok(value));
        })
        .expect("a thread")
        .join()
        .expect("no overflow");
}

#[test]
fn requests_and_responses_hold_typed_data() {
    let request = QuicRequest::from_typed("kind", &Kind::Newtype(7)).expect("a map");
    assert_eq!(request.synapse_type, "kind");
    assert_eq!(request.data, HashMap::from([("1".to_owned(), 7.into())]));
    assert!(matches!(QuicRequest::from_typed("kind", &Kind::Unit), Err(LightningError::Serialization(_))));

    let response =
        QuicResponse { success: true, data: request.data, latency_ms: 1.5, error: Some("boom".into()) };
    assert_eq!(response.deserialize_data::<Kind>().expect("fits"), Kind::Newtype(7));
    assert!(matches!(response.deserialize_data::<Point>(), Err(LightningError::Serialization(_))));
    assert!(response.into_result().is_ok());
}

#[test]
fn a_failed_response_is_the_handlers_error() {
    let failed = |error: Option<&str>| {
        let response = QuicResponse {
            success: false,
            data: HashMap::new(),
            latency_ms: 0.0,
            error: error.map(str::to_owned),
        };
        match response.into_result() {
            Err(LightningError::Handler(words)) => words,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failed(Some("boom")), "boom");
    assert_eq!(failed(Some("")), "");
    assert_eq!(failed(None), "request failed");
    // A miner's words are bounded and one line, as an error; the field has them as they came.
    assert_eq!(failed(Some("no\nINFO all is well\x1b[2K")), "no\\nINFO all is well\\u{1b}[2K");
    assert_eq!(failed(Some(&"x".repeat(10_000_000))).len(), 1024);
}

#[test]
fn a_mismatch_repeats_nothing_that_cannot_be_printed() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {}

    let name = "x\ny\x1b[2K\u{202e}";
    let is_printable = |error: Result<(), DecodeError>| {
        let words = error.expect_err("does not fit").to_string();
        assert!(words.contains("x\\ny\\u{1b}[2K\\u{202e}"), "{words}");
    };
    let of_name = |value: Value| encoded(&HashMap::from([("v", value)])).expect("encodes");
    is_printable(decoded::<W<Kind>>(&of_name(name.into())).map(|_| ()));
    is_printable(decoded::<W<u8>>(&of_name(name.into())).map(|_| ()));
    is_printable(decoded::<Strict>(&encoded(&HashMap::from([(name, 1)])).expect("encodes")).map(|_| ()));
}
