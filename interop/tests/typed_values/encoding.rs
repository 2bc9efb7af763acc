//! Both encoders make the same of every shape, and both decoders read it back.

use btlightning_interop::{Class, Classified, Data};
use btlightning_ours as ours;
use btlightning_proto::wire::{ScanLimits, Scanned, decode_map, to_payload};
use btlightning_published as theirs;
use rmpv::Value;
use serde::Serialize;

use crate::shapes::{Kind, Newtype, Readers, Shape, Unit, Visit, W, fields, payloads};

/// What both make of a value, if they make anything of it.
fn encoded<T: Serialize>(name: &str, value: &T) -> Option<Data> {
    let by_ours = ours::QuicRequest::from_typed(name, value);
    let by_theirs = theirs::QuicRequest::from_typed(name, value);
    match (by_ours, by_theirs) {
        (Ok(by_ours), Ok(by_theirs)) => {
            assert_eq!(
                format!("{:?}", sorted(&by_ours.data)),
                format!("{:?}", sorted(&by_theirs.data)),
                "{name}"
            );
            // What goes straight into the frame says the same.
            let mut payload = Vec::new();
            to_payload(value, &mut payload).expect("encodes");
            let scanned = Scanned::whole(&payload, &ScanLimits::trusted()).expect("well formed");
            let in_frame = decode_map(scanned).expect("a map");
            assert_eq!(
                format!("{:?}", sorted(&in_frame)),
                format!("{:?}", sorted(&by_theirs.data)),
                "{name}"
            );
            Some(by_theirs.data)
        }
        (Err(by_ours), Err(by_theirs)) => {
            assert_eq!([by_ours.class(), by_theirs.class()], [Class::Serialization; 2], "{name}");
            None
        }
        (by_ours, by_theirs) => panic!("{name}: ours {by_ours:?}, theirs {by_theirs:?}"),
    }
}

/// In an order, and comparable as text, since numbers that are not numbers do not equal themselves.
fn sorted(data: &Data) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = data.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

struct ThereAndBack;

impl Visit for ThereAndBack {
    async fn shape<T: Shape>(&mut self, name: &str, value: T, readers: Readers) {
        let Some(data) = encoded(name, &value) else {
            assert_eq!(readers, Readers::Nobody, "{name}: not written");
            return;
        };
        let text = format!("{value:?}");
        let response = ours::QuicResponse { success: true, data: data.clone(), latency_ms: 0.0, error: None };
        let by_ours = response.deserialize_data::<T>().map(|back| format!("{back:?}") == text);
        let response = theirs::QuicResponse { success: true, data, latency_ms: 0.0, error: None };
        let by_theirs = response.deserialize_data::<T>().map(|back| format!("{back:?}") == text);
        match readers {
            Readers::Both => assert!(matches!((by_ours, by_theirs), (Ok(true), Ok(true))), "{name}"),
            Readers::Ours => assert!(matches!((by_ours, by_theirs), (Ok(true), Err(_))), "{name}"),
            Readers::Nobody => {
                assert!(!matches!(by_ours, Ok(true)) && !matches!(by_theirs, Ok(true)), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn every_payload_is_written_alike_and_read_back() {
    payloads(&mut ThereAndBack).await;
}

#[tokio::test]
async fn every_field_is_written_alike_and_read_back() {
    fields(&mut ThereAndBack).await;
}

#[test]
fn what_is_no_payload_is_one_for_neither() {
    assert_eq!(encoded("unit", &()), None);
    assert_eq!(encoded("unit struct", &Unit), None);
    assert_eq!(encoded("newtype", &Newtype(1_u32)), None);
    assert_eq!(encoded("bool", &true), None);
    assert_eq!(encoded("integer", &-5_i8), None);
    assert_eq!(encoded("float", &1.5_f64), None);
    assert_eq!(encoded("char", &'c'), None);
    assert_eq!(encoded("string", &"text"), None);
    assert_eq!(encoded("vector", &vec![1_u32]), None);
    assert_eq!(encoded("tuple", &(1, 2)), None);
    assert_eq!(encoded("bytes", &serde_bytes::ByteBuf::from([1])), None);
    assert_eq!(encoded("none", &None::<W<u32>>), None);
    assert_eq!(encoded("unit variant", &Kind::Unit), None);
    assert_eq!(encoded("dynamic array", &Value::Array(vec![])), None);
    assert_eq!(encoded("dynamic nil", &Value::Nil), None);
}

#[test]
fn borrowed_types_are_written_as_owned_ones() {
    #[derive(Serialize)]
    struct Borrowing<'a> {
        text: &'a str,
        #[serde(with = "serde_bytes")]
        bytes: &'a [u8],
        numbers: &'a [u8],
    }
    let data = encoded("borrowing", &Borrowing { text: "q", bytes: &[1], numbers: &[2] }).expect("a map");
    assert_eq!(data["bytes"], Value::Binary(vec![1]));
    assert_eq!(data["numbers"], Value::Array(vec![2.into()]));
}

/// An extension in a typed value becomes an array of its tag and its bytes in a published peer, which cannot be told from
/// one. Ours keeps it. In a dynamic value, which is not encoded by type, both keep it.
#[test]
fn ours_keeps_extensions() {
    let value = W { v: Value::Ext(5, vec![1, 2]) };
    let by_ours = ours::QuicRequest::from_typed("ext", &value).expect("a map");
    let by_theirs = theirs::QuicRequest::from_typed("ext", &value).expect("a map");
    assert_eq!(by_ours.data["v"], value.v);
    assert_eq!(by_theirs.data["v"], Value::Array(vec![5.into(), Value::Binary(vec![1, 2])]));
}
