//! The decoder against real answers, and against bytes of all kinds.

use std::sync::OnceLock;

use proptest::prelude::*;
use scale_info::{
    Field, Path, PortableRegistry, PortableRegistryBuilder, Type, TypeDefArray, TypeDefCompact,
    TypeDefComposite, TypeDefPrimitive, TypeDefSequence, TypeDefTuple, TypeDefVariant, Variant,
    build::{FieldsBuilder, NamedFields, UnnamedFields},
    form::PortableForm,
};
use subxt::{ArcMetadata, OnlineClient, PolkadotConfig};

use super::*;

/// A value of the vectors: real answers of spec 293.
fn vector(kind: &str, name: &str) -> Vec<u8> {
    let text = include_str!("../../tests/vectors/chain-vectors-293.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let hex = vectors[kind][name].as_str().unwrap();
    (2..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn real_answer() -> Vec<u8> {
    vector("calls", "NeuronInfoRuntimeApi_get_neurons_lite(0x0200)")
}

/// Real metadata of spec 365, as subxt reads it from a node that offers it in one version.
fn metadata(version: u32) -> ArcMetadata {
    static READ: [OnceLock<ArcMetadata>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let read = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let builder = btlightning_testkit::chain::Chain::builder();
            let chain = builder.runtime(|runtime| runtime.metadata_versions = vec![version]).start().await;
            let url = chain.as_ref().unwrap().url();
            let client = OnlineClient::<PolkadotConfig>::from_insecure_url(&url).await.unwrap();
            client.at_current_block().await.unwrap().metadata()
        })
    };
    READ[version as usize - 14].get_or_init(read).clone()
}

/// A vector of bytes with `answer` in it.
fn wrapped(answer: &[u8]) -> Vec<u8> {
    let mut bytes = codec::Encode::encode(&Compact(u32::try_from(answer.len()).unwrap()));
    bytes.extend_from_slice(answer);
    bytes
}

const ALICE: [u8; 32] = [
    0xd4, 0x35, 0x93, 0xc7, 0x15, 0xfd, 0xd3, 0x1c, 0x61, 0x14, 0x1a, 0xbd, 0x04, 0xa9, 0x9f, 0xd6, 0x82,
    0x2c, 0x85, 0x58, 0x85, 0x4c, 0xcd, 0xe3, 0x9a, 0x56, 0x84, 0xe7, 0xa5, 0x6d, 0xa2, 0x7d,
];

fn is_the_real_subnet(neurons: &[ChainNeuron]) {
    let infos: Vec<NeuronInfo> = neurons.iter().cloned().filter_map(ChainNeuron::into_info).collect();
    let seen: Vec<_> = infos
        .iter()
        .map(|n| (n.uid, n.axon_ip.as_str(), n.axon_port, n.axon_protocol, n.is_active, n.validator_permit))
        .collect();
    assert_eq!(
        seen,
        [
            (0, "127.0.0.2", 9001, 4, true, true),
            (1, "2001:db8::1", 9002, 4, true, false),
            (2, "127.0.0.3", 9003, 4, true, false),
        ]
    );
    assert_eq!(neurons[0].hotkey, ALICE);
    assert_eq!(infos[0].hotkey, "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    assert!(infos[0].stake > 0);
    assert_eq!(infos[1].stake, 0);
}

#[test]
fn a_real_answer_is_read_under_every_metadata_version() {
    for version in [14, 15, 16] {
        let read = decode(&real_answer(), &metadata(version), 2).unwrap();
        is_the_real_subnet(&read);
        assert_eq!(Ok(read), by_layout(&real_answer(), 2), "V{version}");
    }
}

#[test]
fn an_answer_in_one_more_vector_is_read_too() {
    for version in [14, 16] {
        is_the_real_subnet(&decode(&wrapped(&real_answer()), &metadata(version), 2).unwrap());
        assert_eq!(decode(&wrapped(&[0]), &metadata(version), 2), Ok(vec![]));
    }
}

#[test]
fn a_subnet_without_neurons_is_an_empty_answer() {
    let empty = vector("calls", "NeuronInfoRuntimeApi_get_neurons_lite(0x0900)");
    assert_eq!(decode(&empty, &metadata(16), 9), Ok(vec![]));
    assert_eq!(decode(&empty, &metadata(14), 9), Ok(vec![]));
    assert!(matches!(decode(&[], &metadata(16), 9), Err(Unread::Malformed(_))));
}

#[test]
fn an_answer_cut_short_or_gone_on_is_refused() {
    let (described, not_described) = (metadata(16), metadata(14));
    let real = real_answer();
    for length in 0..real.len() {
        for metadata in [&described, &not_described] {
            assert!(decode(&real[..length], metadata, 2).is_err(), "{length} bytes");
        }
    }
    for byte in 0..=255 {
        let longer = [real.as_slice(), &[byte]].concat();
        assert!(decode(&longer, &described, 2).is_err() && decode(&longer, &not_described, 2).is_err());
    }
}

#[test]
fn neurons_of_another_subnet_and_uids_that_come_twice_are_refused() {
    for version in [14, 16] {
        assert!(matches!(decode(&real_answer(), &metadata(version), 3), Err(Unread::Malformed(_))));
        let mut twice = real_answer();
        let neuron = (twice.len() - 1) / 3;
        let first = twice[1..=neuron].to_vec();
        twice.truncate(1);
        twice[0] = 2 << 2;
        twice.extend(first.iter().chain(&first));
        let read = decode(&twice, &metadata(version), 2);
        assert!(matches!(read, Err(Unread::Malformed(_))), "{read:?}");
    }
}

#[test]
fn more_neurons_than_are_read_are_not_read() {
    let count = |n: u32| codec::Encode::encode(&Compact(n));
    for metadata in [metadata(14), metadata(16)] {
        assert_eq!(decode(&count(16_385), &metadata, 2), Err(Unread::TooMany(16_385)));
        assert_eq!(decode(&count(u32::MAX), &metadata, 2), Err(Unread::TooMany(u32::MAX.into())));
        assert!(matches!(decode(&count(16_384), &metadata, 2), Err(Unread::Malformed(_))));
    }
}

#[test]
fn addresses_are_read_by_their_type() {
    let ip = |ip_type, ip| Axon { ip, port: 1, ip_type, protocol: 4 }.ip().map(|ip| ip.to_string());
    assert_eq!(ip(4, 0x0808_0404).as_deref(), Some("8.8.4.4"));
    assert_eq!(ip(4, 0).as_deref(), Some("0.0.0.0"));
    assert_eq!(ip(4, 1 << 32), None);
    assert_eq!(ip(6, 0x2606_4700 << 96 | 1).as_deref(), Some("2606:4700::1"));
    assert_eq!(ip(0, 0), None);
    assert_eq!(ip(5, 0x0808_0404), None);
}

#[test]
fn a_hotkey_of_zeros_makes_no_neuron() {
    let mut neuron = by_layout(&real_answer(), 2).unwrap().remove(0);
    assert!(neuron.clone().into_info().is_some());
    neuron.hotkey = [0; 32];
    assert!(neuron.into_info().is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes, &metadata(14), 2);
        let _ = decode(&bytes, &metadata(16), 2);
    }

    #[test]
    fn a_real_answer_with_other_bytes_in_it_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_vector in any::<bool>(),
    ) {
        let mut bytes = real_answer();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if in_vector {
            bytes = wrapped(&bytes);
        }
        for metadata in [metadata(14), metadata(16)] {
            if let Ok(neurons) = decode(&bytes, &metadata, 2) {
                // No more than there are bytes for: a neuron takes some 150.
                prop_assert!(neurons.len() * 100 <= bytes.len());
            }
        }
    }
}

/// A registry built by hand; ids count up from 0.
struct Types(PortableRegistryBuilder);

impl Types {
    fn new() -> Self {
        Self(PortableRegistryBuilder::new())
    }

    fn add(&mut self, def: impl Into<TypeDef<PortableForm>>) -> u32 {
        self.0.register_type(Type::new(Path::default(), vec![], def, vec![]))
    }

    fn composite(&mut self, fields: &[(&str, u32)]) -> u32 {
        let named: FieldsBuilder<PortableForm, NamedFields> = FieldsBuilder::default();
        let fields = fields.iter().fold(named, |fields, &(name, ty)| {
            fields.field_portable(|field| field.name(name.to_owned()).ty(ty))
        });
        self.add(TypeDefComposite::new(fields.finalize()))
    }

    fn finish(self) -> PortableRegistry {
        self.0.finish()
    }
}

fn unnamed(id: u32) -> Vec<Field<PortableForm>> {
    vec![Field::new(None, id.into(), None, vec![])]
}

#[test]
fn a_runtime_that_adds_fields_is_still_understood() {
    let mut types = Types::new();
    let [byte, word, number, flag, wide] = [
        TypeDefPrimitive::U8,
        TypeDefPrimitive::U16,
        TypeDefPrimitive::U64,
        TypeDefPrimitive::Bool,
        TypeDefPrimitive::U128,
    ]
    .map(|primitive| types.add(primitive));
    let key = types.add(TypeDefArray::new(32, byte.into()));
    let newtype: FieldsBuilder<PortableForm, UnnamedFields> = FieldsBuilder::default();
    let account = types.add(TypeDefComposite::new(newtype.field_portable(|field| field.ty(key)).finalize()));
    let compact_word = types.add(TypeDefCompact::new(word.into()));
    let compact_number = types.add(TypeDefCompact::new(number.into()));
    let text = types.add(TypeDefSequence::new(byte.into()));
    let pair = types.add(TypeDefTuple::new_portable(vec![account.into(), compact_number.into()]));
    let stakes = types.add(TypeDefSequence::new(pair.into()));
    let axon = types.composite(&[
        ("port", word),
        ("host_name", text),
        ("ip_type", byte),
        ("protocol", byte),
        ("ip", wide),
    ]);
    let neuron = types.composite(&[
        ("validator_permit", flag),
        ("nickname", text),
        ("netuid", compact_word),
        ("uid", word),
        ("axon_info", axon),
        ("hotkey", account),
        ("active", flag),
        ("stake", stakes),
        ("shoe_size", compact_number),
    ]);
    let neurons = types.add(TypeDefSequence::new(neuron.into()));
    let mut answer = vec![1 << 2, 1, 3 << 2, b'a', b'b', b'c', 2 << 2, 7, 0];
    answer.extend([5, 0, 1 << 2, b'h', 4, 4]);
    answer.extend(0x0808_0808_u128.to_le_bytes());
    answer.extend(ALICE);
    answer.push(1);
    answer.push(2 << 2);
    for stake in [30u8, 12] {
        answer.extend(ALICE);
        answer.push(stake << 2);
    }
    answer.push(44 << 2);
    let read = by_name(&answer, &types.finish(), neurons, 2).unwrap();
    let axon = Axon { ip: 0x0808_0808, port: 5, ip_type: 4, protocol: 4 };
    assert_eq!(
        read,
        [ChainNeuron { hotkey: ALICE, uid: 7, active: true, axon, stake: 42, validator_permit: true }]
    );
}

#[test]
fn a_type_that_costs_more_than_its_bytes_pay_for_is_not_decoded() {
    let mut types = Types::new();
    let byte = types.add(TypeDefPrimitive::U8);
    let nothing = types.add(TypeDefTuple::new_portable(vec![]));
    let nothings = types.add(TypeDefSequence::new(nothing.into()));
    let many_nothings = types.add(TypeDefArray::new(u32::MAX, nothing.into()));
    // The next type's id is that of its own element.
    let itself = types.0.next_type_id();
    types.add(TypeDefSequence::new(itself.into()));
    let wrapper = types.0.next_type_id();
    types.composite(&[("inner", wrapper)]);
    let mut deep = byte;
    for _ in 0..40 {
        deep = types.add(TypeDefSequence::new(deep.into()));
    }
    let mut wide = types.composite(&[("byte", byte)]);
    for _ in 0..20 {
        wide = types.composite(&[("nothing", nothing), ("left", wide), ("right", wide)]);
    }
    let mut hollow = nothing;
    for _ in 0..7 {
        hollow = types.composite(&[("left", hollow), ("right", hollow)]);
    }
    let hollow = types.composite(&[("byte", byte), ("hollow", hollow)]);
    let hollows = types.add(TypeDefSequence::new(hollow.into()));
    let bytes = types.add(TypeDefSequence::new(byte.into()));
    let types = types.finish();
    for id in [nothings, many_nothings, itself, wrapper, deep, wide, hollows, 9_999] {
        assert!(layout::check(&types, id).is_err(), "{id}");
    }
    assert_eq!(layout::check(&types, bytes), Ok(()));
    assert_eq!(decode_value::<Vec<u8>>(&[2 << 2, 1, 2], &types, bytes), Ok(vec![1, 2]));
}

/// The values of one storage entry in the vectors, by key.
fn stored(entry: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = include_str!("../../tests/vectors/chain-vectors-293.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (2..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let values = vectors["storage"][entry].as_object().unwrap();
    values.iter().map(|(key, value)| (bytes(key), bytes(value.as_str().unwrap()))).collect()
}

fn decode_stored<T: DecodeAsType>(version: u32, entry: &str, bytes: &[u8]) -> Result<T, Unread> {
    let metadata = metadata(version);
    let info = subxt::ext::frame_decode::storage::StorageTypeInfo::storage_info(
        &*metadata,
        "SubtensorModule",
        entry,
    );
    decode_value(bytes, metadata.types(), info.unwrap().value_id)
}

#[test]
fn real_storage_values_are_the_neurons_of_the_real_answer_under_each_metadata_version() {
    for version in [14, 15, 16] {
        let neurons = decode(&real_answer(), &metadata(version), 2).unwrap();
        let one = |entry: &str| stored(entry).remove(0).1;
        assert_eq!(decode_stored::<u16>(version, "SubnetworkN", &one("SubnetworkN")).unwrap(), 3);
        let flags = |entry: &str| decode_stored::<Vec<bool>>(version, entry, &one(entry)).unwrap();
        let permits: Vec<bool> = neurons.iter().map(|neuron| neuron.validator_permit).collect();
        let active: Vec<bool> = neurons.iter().map(|neuron| neuron.active).collect();
        assert_eq!((flags("ValidatorPermit"), flags("Active")), (permits, active));
        for (key, value) in stored("Keys") {
            // The uid stands at the end of the key.
            let uid = u16::from_le_bytes(*key.last_chunk().unwrap());
            let hotkey: [u8; 32] = decode_stored(version, "Keys", &value).unwrap();
            assert_eq!(hotkey, neurons[usize::from(uid)].hotkey);
        }
        let axons = stored("Axons");
        assert_eq!(axons.len(), 3);
        for (key, value) in axons {
            let hotkey: [u8; 32] = *key.last_chunk().unwrap();
            let axon: Axon = decode_stored(version, "Axons", &value).unwrap();
            assert_eq!(axon, neurons.iter().find(|neuron| neuron.hotkey == hotkey).unwrap().axon);
        }
    }
}

proptest! {
    #[test]
    fn no_storage_value_makes_the_decoder_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        for entry in ["SubnetworkN", "Keys", "Axons", "ValidatorPermit", "Active"] {
            let (_, mut changed) = stored(entry).remove(0);
            let at = at.index(changed.len());
            changed[at] ^= flip;
            for bytes in [&bytes, &changed] {
                let _ = decode_stored::<Axon>(16, "Axons", bytes);
                let _ = decode_stored::<Vec<bool>>(15, "ValidatorPermit", bytes);
                let _ = decode_stored::<[u8; 32]>(14, "Keys", bytes);
            }
        }
    }
}

#[test]
fn what_was_measured_already_counts_with_all_its_depth() {
    let nested = |levels: u32| {
        let mut types = Types::new();
        let mut rungs = vec![types.add(TypeDefPrimitive::U8)];
        for _ in 0..levels {
            let inner = rungs[rungs.len() - 1];
            let variant = Variant::new("Rung".to_owned(), unnamed(inner), 0, vec![]);
            rungs.push(types.add(TypeDefVariant::new(vec![variant])));
        }
        // The flattest comes first, so each finds the one within it measured.
        let variants = rungs
            .iter()
            .zip(0..)
            .map(|(&rung, index)| Variant::new(format!("Of{index}"), unnamed(rung), index, vec![]));
        let ladder = types.add(TypeDefVariant::new(variants.collect::<Vec<_>>()));
        (types.finish(), ladder)
    };
    let (types, ladder) = nested(31);
    assert_eq!(layout::check(&types, ladder), Ok(()));
    for levels in [32, 200] {
        let (types, ladder) = nested(levels);
        assert_eq!(layout::check(&types, ladder), Err("type is nested too deep"), "{levels}");
    }
}
