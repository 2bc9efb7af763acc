//! The calls `serve_axon` and `serve_axon_tls`, in bytes.
//!
//! A call is encoded by the layout that runtimes have had from the first to today's, and the node's metadata must agree.
//! Encoded by the metadata alone, it would be the node that decides what the hotkey signs.

use scale_info::{TypeDef, TypeDefPrimitive as Primitive};
use subxt::Metadata;
use subxt::ext::codec::Encode;
use subxt::ext::frame_decode::extrinsics::ExtrinsicTypeInfo;
use subxt::ext::scale_encode::{self, EncodeAsFields, FieldIter, TypeResolver};
use subxt::transactions::Payload;

use super::{Wanted, certificate};
use crate::layout;
use crate::reading::PALLET;

/// The pallet's number in every runtime of Subtensor.
const PALLET_INDEX: u8 = 7;

/// How often a type may be wrapped in another.
const WRAPPERS_MAX: usize = 4;

const ARGUMENTS: [(&str, Primitive); 8] = [
    ("netuid", Primitive::U16),
    ("version", Primitive::U32),
    ("ip", Primitive::U128),
    ("port", Primitive::U16),
    ("ip_type", Primitive::U8),
    ("protocol", Primitive::U8),
    ("placeholder1", Primitive::U8),
    ("placeholder2", Primitive::U8),
];

/// A call that serves an axon.
#[derive(Debug)]
pub(super) struct ServeCall {
    name: &'static str,
    index: u8,
    arguments: Arguments,
}

#[derive(Debug)]
pub(super) struct Arguments(Vec<u8>);

impl ServeCall {
    pub(super) fn new(netuid: u16, wanted: &Wanted) -> Self {
        let axon = &wanted.axon;
        let (ip, ip_type) = axon.number_and_type();
        let placeholders = [0u8; 2];
        let mut arguments =
            (netuid, axon.version, ip, axon.port, ip_type, axon.protocol, placeholders).encode();
        let (name, index) = match &wanted.key {
            None => ("serve_axon", 4),
            Some(pin) => {
                certificate::argument(pin.as_ref()).encode_to(&mut arguments);
                ("serve_axon_tls", 40)
            }
        };
        Self { name, index, arguments: Arguments(arguments) }
    }

    /// The call's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the call means the same by `metadata`, and what is signed and sent with it can be encoded by it.
    ///
    /// # Panics
    /// For metadata that does not say what extrinsics are extended by.
    pub(super) fn is_known_to(&self, metadata: &Metadata) -> bool {
        let Some(pallet) = metadata.pallet_by_name(PALLET) else { return false };
        let Some(call) = pallet.call_variant_by_name(self.name) else { return false };
        let plain = ARGUMENTS.iter().zip(&call.fields);
        let are_plain = plain.fold(true, |so_far, ((name, primitive), field)| {
            so_far
                && field.name.as_deref() == Some(name)
                && is_primitive(metadata, field.ty.id, primitive.clone())
        });
        let is_rest_known = match call.fields.get(ARGUMENTS.len()..) {
            Some([]) => self.index == 4,
            Some([certificate]) => self.index == 40 && is_bytes(metadata, certificate.ty.id),
            _ => false,
        };
        let extensions = metadata.extrinsic().transaction_extensions_to_use_for_encoding();
        let extension_types = extensions.flat_map(|one| [one.extra_ty(), one.additional_ty()]);
        let Ok(signature) = metadata.extrinsic_signature_info() else { return false };
        let mut types = extension_types.chain([signature.address_id, signature.signature_id]);
        (pallet.call_index(), call.index) == (PALLET_INDEX, self.index)
            && are_plain
            && is_rest_known
            && types.all(|id| layout::check(metadata.types(), id).is_ok())
    }
}

fn is_primitive(metadata: &Metadata, mut id: u32, wanted: Primitive) -> bool {
    for _ in 0..=WRAPPERS_MAX {
        match metadata.types().resolve(id).map(|found| &found.type_def) {
            Some(TypeDef::Primitive(found)) => return *found == wanted,
            Some(TypeDef::Composite(composite)) if composite.fields.len() == 1 => {
                id = composite.fields[0].ty.id;
            }
            _ => return false,
        }
    }
    false
}

fn is_bytes(metadata: &Metadata, id: u32) -> bool {
    match metadata.types().resolve(id).map(|found| &found.type_def) {
        Some(TypeDef::Sequence(sequence)) => is_primitive(metadata, sequence.type_param.id, Primitive::U8),
        _ => false,
    }
}

impl Payload for ServeCall {
    type CallData = Arguments;

    fn pallet_name(&self) -> &str {
        PALLET
    }

    fn call_name(&self) -> &str {
        self.name
    }

    fn call_data(&self) -> &Arguments {
        &self.arguments
    }
}

impl EncodeAsFields for Arguments {
    fn encode_as_fields_to<R: TypeResolver>(
        &self,
        _fields: &mut dyn FieldIter<'_, R::TypeId>,
        _types: &R,
        out: &mut Vec<u8>,
    ) -> Result<(), scale_encode::Error> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use btlightning_proto::identity::TlsKeyPin;

    use super::super::Axon;
    use super::*;

    #[test]
    fn the_arguments_are_laid_out_as_the_runtime_reads_them() {
        let axon = Axon { version: 0x0102_0304, ..Axon::new("192.0.2.7".parse().unwrap(), 8443) };
        let call = ServeCall::new(0x0203, &Wanted { axon, key: None });
        let mut expected = vec![0x03, 0x02, 0x04, 0x03, 0x02, 0x01, 0x07, 0x02, 0x00, 0xc0];
        expected.extend([0; 12]);
        expected.extend([0xfb, 0x20, 4, 4, 0, 0]);
        assert_eq!((call.name(), &call.arguments.0), ("serve_axon", &expected));

        let pin = TlsKeyPin::from_bytes([9; 32]);
        let call = ServeCall::new(0x0203, &Wanted { axon, key: Some(Some(pin)) });
        let mut with_pin = expected.clone();
        with_pin.extend([33 << 2, certificate::TLS_KEY_PIN_ALGORITHM]);
        with_pin.extend([9; 32]);
        assert_eq!((call.name(), &call.arguments.0), ("serve_axon_tls", &with_pin));

        let call = ServeCall::new(0x0203, &Wanted { axon, key: Some(None) });
        assert_eq!(call.arguments.0, [expected.as_slice(), &[1 << 2, 0]].concat());
    }

    #[tokio::test]
    async fn only_what_real_metadata_means_by_the_same_name_is_signed() {
        let chain = btlightning_testkit::chain::Chain::builder().start().await.unwrap();
        let client =
            subxt::OnlineClient::<subxt::PolkadotConfig>::from_insecure_url(chain.url()).await.unwrap();
        let at = client.at_current_block().await.unwrap();
        let is_known = |name, index| {
            ServeCall { name, index, arguments: Arguments(Vec::new()) }.is_known_to(at.metadata_ref())
        };
        assert!(is_known("serve_axon", 4) && is_known("serve_axon_tls", 40));
        // The name of one with the number or the arguments of another, as a node might have it that wants something else
        // signed.
        for (name, index) in [
            ("serve_axon", 40),
            ("serve_axon", 5),
            ("serve_axon_tls", 4),
            ("serve_prometheus", 5),
            ("set_weights", 0),
            ("not_there", 4),
        ] {
            assert!(!is_known(name, index), "{name} {index}");
        }
        let calls = at.metadata().pallet_by_name(PALLET).unwrap().call_index();
        assert_eq!(calls, PALLET_INDEX);
    }
}
