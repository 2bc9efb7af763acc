//! Both decoders make the same of what a peer of another language or another version may send for a type.

use std::collections::HashMap;
use std::fmt::Debug;

use btlightning_interop::{Data, data, map};
use btlightning_ours as ours;
use btlightning_published as theirs;
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use crate::shapes::{Adjacent, Internal, Kind, Newtype, Two, Unit, Untagged, W};

/// What ours and theirs make of a payload, as text; `None` if it does not fit.
fn decoded<T: DeserializeOwned + Debug>(data: Data) -> [Option<String>; 2] {
    let response = ours::QuicResponse { success: true, data, latency_ms: 0.0, error: None };
    let by_ours = response.deserialize_data::<T>().ok().map(|value| format!("{value:?}"));
    let response = theirs::QuicResponse { success: true, data: response.data, latency_ms: 0.0, error: None };
    let by_theirs = response.deserialize_data::<T>().ok().map(|value| format!("{value:?}"));
    [by_ours, by_theirs]
}

/// Both read `value` in a field as a `T`, or neither does; says which.
#[track_caller]
fn fits<T: DeserializeOwned + Debug>(value: impl Into<Value>) -> bool {
    let value = value.into();
    let [by_ours, by_theirs] = decoded::<W<T>>(data([("v", value.clone())]));
    assert_eq!(by_ours, by_theirs, "{value:?}");
    by_theirs.is_some()
}

/// Only ours reads `value` in a field as a `T`.
#[track_caller]
fn fits_ours<T: DeserializeOwned + Debug>(value: impl Into<Value>) {
    let value = value.into();
    let [by_ours, by_theirs] = decoded::<W<T>>(data([("v", value.clone())]));
    assert!(by_ours.is_some() && by_theirs.is_none(), "{value:?}: ours {by_ours:?}, theirs {by_theirs:?}");
}

fn array<const N: usize>(elements: [Value; N]) -> Value {
    Value::Array(elements.into())
}

#[test]
fn numbers() {
    assert!(fits::<f64>(3) && fits::<f32>(3) && fits::<f64>(-3));
    assert!(fits::<f64>(Value::F32(1.1)) && fits::<f32>(Value::F64(1.1)));
    assert!(fits::<i8>(5));
    assert!(!fits::<u32>(3.0) && !fits::<u8>(300) && !fits::<u32>(-1) && !fits::<i64>(u64::MAX));
    assert!(!fits::<bool>(1) && !fits::<u128>(5) && !fits::<i128>(-5) && !fits::<char>(99));
}

#[test]
fn text_and_bytes() {
    assert!(fits::<String>(Value::Binary(b"abc".to_vec())) && !fits::<String>(Value::Binary(vec![0xff])));
    assert!(!fits::<String>(1) && !fits::<String>(Value::Nil));
    assert!(fits::<char>("c") && !fits::<char>("cc"));
    assert!(fits::<ByteBuf>("ab") && fits::<ByteBuf>(array([1.into(), 2.into()])));
    assert!(fits::<Vec<u8>>(array([1.into(), 2.into()])) && !fits::<Vec<u8>>("ab"));
    assert!(!fits::<[u8; 3]>(array([1.into(), 2.into()])));
    assert!(fits::<Value>(Value::Ext(5, vec![1, 2])) && !fits::<Vec<u8>>(Value::Ext(5, vec![1, 2])));
    // A published peer reads bytes only into types that say that they are bytes.
    fits_ours::<Vec<u8>>(Value::Binary(vec![1, 2]));
    fits_ours::<[u8; 2]>(Value::Binary(vec![1, 2]));
}

#[test]
fn collections() {
    assert!(!fits::<(u32, u32)>(array([1.into()])) && !fits::<Vec<u32>>(Value::Nil));
    assert!(!fits::<(u32, u32)>(array([1.into(), 2.into(), 3.into()])));
    assert!(!fits::<HashMap<u32, u32>>(map([("1".into(), 1.into())])));
    assert!(!fits::<HashMap<String, u32>>(map([(1.into(), 1.into())])));
}

#[test]
fn nothing() {
    assert!(fits::<Option<u32>>(Value::Nil) && fits::<Option<()>>(Value::Nil));
    assert!(fits::<()>(Value::Nil) && !fits::<()>(array([])) && !fits::<()>(0));
    assert!(fits::<Unit>(array([])) && !fits::<Unit>(map([])));
    fits_ours::<Unit>(Value::Nil);
    assert_eq!(
        decoded::<W<Option<u32>>>(data([])),
        [Some("W { v: None }".to_owned()), Some("W { v: None }".to_owned())]
    );
    assert_eq!(decoded::<W<u32>>(data([])), [None, None]);
}

#[test]
fn structs() {
    assert!(fits::<Two>(map([("b".into(), "x".into()), ("?".into(), Value::Nil), ("a".into(), 1.into())])));
    assert!(fits::<Two>(array([1.into(), "x".into()])));
    assert!(fits::<Two>(map([(0.into(), 1.into()), (1.into(), "x".into())])));
    assert!(!fits::<Two>(map([("a".into(), 1.into())])) && !fits::<Two>(array([1.into()])));
    assert!(fits::<Newtype<u32>>(1) && !fits::<Newtype<u32>>(array([1.into()])));
}

#[test]
fn variants_as_arrays() {
    let two = || array([1.into(), "x".into()]);
    assert!(fits::<Kind>(array([0.into()])) && fits::<Kind>(array([0.into(), array([])])));
    assert!(fits::<Kind>(array([1.into(), 4.into()])) && fits::<Kind>(array([2.into(), two()])));
    assert!(fits::<Kind>(array([3.into(), array([1.into()])])));
    assert!(fits::<Kind>(array([3.into(), map([("x".into(), 1.into())])])));
    assert!(!fits::<Kind>(array([])) && !fits::<Kind>(array([7.into()])) && !fits::<Kind>(array([1.into()])));
    assert!(!fits::<Kind>(array([1.into(), 2.into(), 3.into()])));
}

/// Of these a published peer reads none, though it writes the numbered ones.
#[test]
fn variants_by_number_and_by_name() {
    fits_ours::<Kind>(0);
    fits_ours::<Kind>("Unit");
    fits_ours::<Kind>(map([(0.into(), Value::Nil)]));
    fits_ours::<Kind>(map([("Unit".into(), Value::Nil)]));
    fits_ours::<Kind>(map([(1.into(), 4.into())]));
    fits_ours::<Kind>(map([("Newtype".into(), 4.into())]));
    fits_ours::<Kind>(map([("Struct".into(), map([("x".into(), 1.into())]))]));
    fits_ours::<Kind>(array(["Newtype".into(), 4.into()]));
    assert!(!fits::<Kind>(99) && !fits::<Kind>("Zed") && !fits::<Kind>(1) && !fits::<Kind>(Value::Nil));
    assert!(!fits::<Kind>(map([(1.into(), 4.into()), (2.into(), 4.into())])));
}

#[test]
fn tagged_variants() {
    let tagged = |tag: Value| map([("t".into(), tag), ("x".into(), 1.into())]);
    assert!(fits::<Internal>(tagged("Struct".into())) && fits::<Internal>(tagged(1.into())));
    assert!(!fits::<Internal>(tagged("Zed".into())) && !fits::<Internal>(map([])));
    assert!(fits::<Untagged>(map([("x".into(), 1.into())])) && !fits::<Untagged>(true));
    let tagged = |tag: Value| map([("t".into(), tag), ("c".into(), 1.into())]);
    fits_ours::<Adjacent>(tagged(1.into()));
    fits_ours::<Adjacent>(tagged("Newtype".into()));
}

#[test]
fn payloads() {
    let one = || data([("a", 1.into())]);
    assert_eq!(decoded::<u32>(one()), [None, None]);
    assert_eq!(decoded::<(u32,)>(one()), [None, None]);
    assert_eq!(decoded::<Vec<u32>>(one()), [None, None]);
    assert_eq!(decoded::<()>(data([])), [None, None]);
    assert_eq!(decoded::<Unit>(data([])), [None, None]);
    for [by_ours, by_theirs] in
        [decoded::<Value>(one()), decoded::<Option<Value>>(one()), decoded::<HashMap<String, Value>>(one())]
    {
        assert_eq!(by_ours, by_theirs);
        assert!(by_theirs.is_some());
    }
}
