//! The same runtime as metadata of versions 15 and 14, for clients and nodes that know no newer one.

use frame_metadata::{v14, v15, v16};
use scale_info::{PortableRegistry, Type, form::PortableForm};

/// The version of signed extrinsics, which is all that these metadata versions have room for.
const EXTRINSIC_VERSION: u8 = 4;

/// `None` if the metadata lacks a type that every runtime has.
pub(super) fn v15(from: &v16::RuntimeMetadataV16) -> Option<v15::RuntimeMetadataV15> {
    Some(v15::RuntimeMetadataV15 {
        types: from.types.clone(),
        pallets: from.pallets.iter().map(pallet_v15).collect(),
        extrinsic: v15::ExtrinsicMetadata {
            version: EXTRINSIC_VERSION,
            address_ty: from.extrinsic.address_ty,
            call_ty: from.extrinsic.call_ty,
            signature_ty: from.extrinsic.signature_ty,
            extra_ty: extensions_type(from)?.into(),
            signed_extensions: from.extrinsic.transaction_extensions.iter().map(extension_v15).collect(),
        },
        ty: runtime_type(&from.types)?.into(),
        apis: from.apis.iter().map(api_v15).collect(),
        outer_enums: from.outer_enums.clone(),
        custom: from.custom.clone(),
    })
}

/// `None` if the metadata lacks a type that every runtime has.
pub(super) fn v14(from: &v16::RuntimeMetadataV16) -> Option<v14::RuntimeMetadataV14> {
    Some(v14::RuntimeMetadataV14 {
        types: from.types.clone(),
        pallets: from.pallets.iter().map(pallet_v14).collect(),
        extrinsic: v14::ExtrinsicMetadata {
            ty: extrinsic_type(from)?.into(),
            version: EXTRINSIC_VERSION,
            signed_extensions: from.extrinsic.transaction_extensions.iter().map(extension_v14).collect(),
        },
        ty: runtime_type(&from.types)?.into(),
    })
}

fn runtime_type(types: &PortableRegistry) -> Option<u32> {
    let is_runtime = |ty: &Type<PortableForm>| ty.path.segments == ["node_subtensor_runtime", "Runtime"];
    types.types.iter().find(|entry| is_runtime(&entry.ty)).map(|entry| entry.id)
}

/// The type of an extrinsic: what `BlockBuilder_apply_extrinsic` takes.
fn extrinsic_type(from: &v16::RuntimeMetadataV16) -> Option<u32> {
    let api = from.apis.iter().find(|api| api.name == "BlockBuilder")?;
    let method = api.methods.iter().find(|method| method.name == "apply_extrinsic")?;
    Some(method.inputs.first()?.ty.id)
}

fn extensions_type(from: &v16::RuntimeMetadataV16) -> Option<u32> {
    let extrinsic = from.types.resolve(extrinsic_type(from)?)?;
    let parameter = extrinsic.type_params.iter().find(|parameter| parameter.name == "Extension")?;
    Some(parameter.ty?.id)
}

fn extension_v15(
    from: &v16::TransactionExtensionMetadata<PortableForm>,
) -> v15::SignedExtensionMetadata<PortableForm> {
    v15::SignedExtensionMetadata {
        identifier: from.identifier.clone(),
        ty: from.ty,
        additional_signed: from.implicit,
    }
}

fn extension_v14(
    from: &v16::TransactionExtensionMetadata<PortableForm>,
) -> v14::SignedExtensionMetadata<PortableForm> {
    v14::SignedExtensionMetadata {
        identifier: from.identifier.clone(),
        ty: from.ty,
        additional_signed: from.implicit,
    }
}

fn api_v15(from: &v16::RuntimeApiMetadata<PortableForm>) -> v15::RuntimeApiMetadata<PortableForm> {
    let method = |method: &v16::RuntimeApiMethodMetadata<PortableForm>| v15::RuntimeApiMethodMetadata {
        name: method.name.clone(),
        inputs: method.inputs.clone(),
        output: method.output,
        docs: method.docs.clone(),
    };
    v15::RuntimeApiMetadata {
        name: from.name.clone(),
        methods: from.methods.iter().map(method).collect(),
        docs: from.docs.clone(),
    }
}

fn pallet_v15(from: &v16::PalletMetadata<PortableForm>) -> v15::PalletMetadata<PortableForm> {
    let v14::PalletMetadata { name, storage, calls, event, constants, error, index } = pallet_v14(from);
    v15::PalletMetadata { name, storage, calls, event, constants, error, index, docs: from.docs.clone() }
}

fn pallet_v14(from: &v16::PalletMetadata<PortableForm>) -> v14::PalletMetadata<PortableForm> {
    let constant = |constant: &v16::PalletConstantMetadata<PortableForm>| v14::PalletConstantMetadata {
        name: constant.name.clone(),
        ty: constant.ty,
        value: constant.value.clone(),
        docs: constant.docs.clone(),
    };
    v14::PalletMetadata {
        name: from.name.clone(),
        storage: from.storage.as_ref().map(storage_v14),
        calls: from.calls.as_ref().map(|calls| v14::PalletCallMetadata { ty: calls.ty }),
        event: from.event.as_ref().map(|event| v14::PalletEventMetadata { ty: event.ty }),
        constants: from.constants.iter().map(constant).collect(),
        error: from.error.as_ref().map(|error| v14::PalletErrorMetadata { ty: error.ty }),
        index: from.index,
    }
}

fn storage_v14(from: &v16::PalletStorageMetadata<PortableForm>) -> v14::PalletStorageMetadata<PortableForm> {
    let entry = |entry: &v16::StorageEntryMetadata<PortableForm>| v14::StorageEntryMetadata {
        name: entry.name.clone(),
        modifier: entry.modifier.clone(),
        ty: entry.ty.clone(),
        default: entry.default.clone(),
        docs: entry.docs.clone(),
    };
    v14::PalletStorageMetadata {
        prefix: from.prefix.clone(),
        entries: from.entries.iter().map(entry).collect(),
    }
}
