//! What decoding into types takes on the heap, as the allocator counts it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use btlightning_proto::wire::{
    DecodeError, MEMORY_BASE_BYTES, QuicResponse, ScanLimits, Scanned, from_payload, to_payload,
};
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const LIMIT: usize = 4 * 1024 * 1024;

/// 512 bytes that may come out of an empty map.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
struct Sparse {
    texts: [String; 20],
    more: Option<[u64; 3]>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Either {
    Large(Box<Sparse>),
    Small(u8),
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Chain {
    #[serde(default)]
    own: Sparse,
    next: Option<Box<Chain>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct W<T> {
    v: T,
}

/// `{"v": [element; length]}`
fn list(length: u32, element: &[u8]) -> Vec<u8> {
    let head = [&[0x81, 0xa1, b'v', 0xdd][..], &length.to_be_bytes()].concat();
    [head, element.repeat(length as usize)].concat()
}

/// `{"v": bytes}`
fn bin(length: u32) -> Vec<u8> {
    let head = [&[0x81, 0xa1, b'v', 0xc6][..], &length.to_be_bytes()].concat();
    [head, vec![7; length as usize]].concat()
}

/// What [`LIMIT`] makes of the payload, and so many times that limit was on the heap at most.
fn within_limit<T: DeserializeOwned>(payload: &[u8]) -> (Result<(), DecodeError>, f64) {
    let limits = ScanLimits { memory_bytes_max: LIMIT, ..ScanLimits::trusted() };
    let mut outcome = Ok(());
    let taken = allocation_counter::measure(|| {
        let payload = Scanned::whole(payload, &limits).expect("the scan lets it pass");
        outcome = from_payload::<W<T>>(payload).map(|_| ());
    });
    (outcome, taken.bytes_max as f64 / LIMIT as f64)
}

#[track_caller]
fn refused<T: DeserializeOwned>(payload: &[u8]) {
    let (outcome, taken) = within_limit::<T>(payload);
    assert_eq!(
        outcome,
        Err(DecodeError::TooMuchMemory { memory_bytes_max: LIMIT }),
        "{taken} times the limit"
    );
    assert!(taken < 2.0, "{taken} times the limit");
}

/// The largest list of such elements that the limits let pass takes no more than so many times the limit.
#[track_caller]
fn takes_at_most<T: DeserializeOwned>(times: f64, element: &[u8]) {
    let mut taken_most = 0.0_f64;
    let mut passes = 0;
    for length in (0..14).map(|doubled| 20 << doubled) {
        let payload = list(length, element);
        let limits = ScanLimits { memory_bytes_max: LIMIT, ..ScanLimits::trusted() };
        if Scanned::whole(&payload, &limits).is_err() {
            break;
        }
        let (outcome, taken) = within_limit::<Vec<T>>(&payload);
        taken_most = taken_most.max(taken);
        passes += u32::from(outcome.is_ok());
    }
    assert!(passes > 0);
    assert!(taken_most < times, "{taken_most} times the limit");
}

#[test]
fn a_byte_string_becomes_no_list_beyond_the_limit() {
    let payload = bin(LIMIT as u32 / 2);
    refused::<Vec<Value>>(&payload);
    refused::<Vec<u64>>(&payload);
    refused::<Vec<Box<Value>>>(&payload);
    assert_eq!(within_limit::<Vec<u8>>(&payload).0, Ok(()));
    assert_eq!(within_limit::<serde_bytes::ByteBuf>(&payload).0, Ok(()));
    assert_eq!(within_limit::<Vec<u64>>(&bin(LIMIT as u32 / 20)).0, Ok(()));
}

#[test]
fn what_is_next_to_nothing_on_the_wire_is_no_large_list() {
    refused::<Vec<Option<[u64; 30]>>>(&list(LIMIT as u32 / 50, &[0xc0]));
    refused::<Vec<Sparse>>(&list(LIMIT as u32 / 60, &[0x80]));
    refused::<BTreeSet<Sparse>>(&list(LIMIT as u32 / 60, &[0x90]));
    assert_eq!(within_limit::<Vec<Sparse>>(&list(1_000, &[0x80])).0, Ok(()));
}

#[test]
fn what_is_boxed_is_measured() {
    refused::<Vec<Box<Sparse>>>(&list(LIMIT as u32 / 60, &[0x80]));
    refused::<Vec<Option<Box<Sparse>>>>(&list(LIMIT as u32 / 60, &[0x80]));
    refused::<Vec<Either>>(&list(LIMIT as u32 / 200, &[0x81, 0, 0x80]));
    refused::<Vec<Chain>>(&list(LIMIT as u32 / 400, &[0x81, 0xa4, b'n', b'e', b'x', b't', 0x80]));
}

#[test]
fn what_passes_takes_a_small_multiple_of_the_limit() {
    // Lists, with the room that they have once they have grown, while the smaller half is copied.
    takes_at_most::<Value>(3.1, &[0xc0]);
    takes_at_most::<Option<[u64; 3]>>(3.1, &[0xc0]);
    takes_at_most::<Sparse>(3.1, &[0x80]);
    takes_at_most::<Vec<u8>>(3.1, &[0xc4, 1, 7]);
    takes_at_most::<Vec<Value>>(3.1, &[0x91, 0xc0]);
    takes_at_most::<Value>(3.1, &[0x91, 0xc0]);
    takes_at_most::<Value>(4.0, &[0x81, 0xc0, 0xc0]);
    takes_at_most::<String>(3.1, &[0xa1, b'x']);
    takes_at_most::<Either>(3.1, &[0x81, 0, 0x80]);
    takes_at_most::<HashMap<String, Value>>(3.1, &[0x81, 0xa0, 0xc0]);
    takes_at_most::<HashMap<u8, Sparse>>(3.1, &[0x81, 7, 0x80]);
    takes_at_most::<BTreeMap<u8, Sparse>>(5.0, &[0x81, 7, 0x80]);
    takes_at_most::<BTreeMap<String, Value>>(5.0, &[0x81, 0xa0, 0xc0]);
}

#[test]
fn a_map_of_a_peers_that_is_decoded_once_more_has_a_limit_too() {
    let elements = vec![Value::Map(Vec::new()); MEMORY_BASE_BYTES / 500];
    let data = HashMap::from([("v".to_owned(), Value::Array(elements))]);
    let response = QuicResponse { success: true, data, latency_ms: 0.0, error: None };
    let taken = allocation_counter::measure(|| {
        let error = response.deserialize_data::<W<Vec<Sparse>>>().map(|_| ()).expect_err("too large");
        assert!(error.to_string().contains("bytes of memory"), "{error}");
    });
    assert!(taken.bytes_max < 2 * MEMORY_BASE_BYTES as u64);
}

#[test]
fn honest_lists_pass_at_every_size() {
    fn passes<T: DeserializeOwned>(payload: &[u8]) {
        let payload = Scanned::whole(payload, &ScanLimits::for_payload(payload.len())).expect("scanned");
        assert!(from_payload::<T>(payload).is_ok());
    }
    #[derive(Serialize, Deserialize)]
    struct Row {
        name: String,
        score: f64,
        uid: u16,
    }
    let f32s = list(2_000_000, &[0xca, 0x3f, 0x80, 0, 0]);
    passes::<W<Vec<f32>>>(&f32s);
    passes::<HashMap<String, Value>>(&f32s);
    let mut row = Vec::new();
    to_payload(&Row { name: "miner".into(), score: 0.5, uid: 7 }, &mut row).expect("encodes");
    passes::<W<Vec<Row>>>(&list(300_000, &row));
}

#[test]
fn decoding_into_what_is_borrowed_builds_nothing() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        name: &'a str,
        #[serde(with = "serde_bytes", borrow)]
        tensor: &'a [u8],
        scores: [f32; 4],
    }
    #[derive(Serialize)]
    struct Owned {
        name: String,
        #[serde(with = "serde_bytes")]
        tensor: Vec<u8>,
        scores: [f32; 4],
        extra: Vec<Vec<u8>>,
    }
    let mut payload = Vec::new();
    let owned = Owned {
        name: "n".repeat(500_000),
        tensor: vec![7; 500_000],
        scores: [0.5; 4],
        extra: vec![vec![1; 10]; 1_000],
    };
    to_payload(&owned, &mut payload).expect("encodes");
    let taken = allocation_counter::measure(|| {
        let scanned = Scanned::whole(&payload, &ScanLimits::for_payload(payload.len())).expect("scanned");
        let borrowed: Borrowed<'_> = from_payload(scanned).expect("decodes");
        assert_eq!((borrowed.name.len(), borrowed.tensor.len()), (500_000, 500_000));
        assert_eq!(borrowed.scores, [0.5; 4]);
    });
    assert_eq!((taken.count_total, taken.bytes_total), (0, 0));
}

#[test]
fn decoding_into_what_is_owned_builds_that_and_nothing_else() {
    let payload = list(100_000, &[0xca, 0x3f, 0x80, 0, 0]);
    let taken = allocation_counter::measure(|| {
        let scanned = Scanned::whole(&payload, &ScanLimits::for_payload(payload.len())).expect("scanned");
        assert_eq!(from_payload::<W<Vec<f32>>>(scanned).expect("decodes").v.len(), 100_000);
    });
    assert_eq!((taken.count_total, taken.bytes_total), (1, 400_000));
}
