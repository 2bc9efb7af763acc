//! Metadata as no runtime has it, and a node may still give it.

use frame_metadata::{v14::StorageEntryType, v16};
use scale_info::{
    Field, Path, PortableType, Type, TypeDef, TypeDefComposite, TypeDefTuple, form::PortableForm,
};

/// What is wrong with the metadata; the runtime itself goes on as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// The keys of this storage entry are of a type that contains itself.
    EndlessKeys(&'static str),
    /// Extrinsics come from an address of a type that contains itself.
    EndlessAddress,
    /// There is no list of what extrinsics are extended by. Metadata of version 16 only.
    NoExtensions,
}

impl Hostility {
    pub(super) fn apply(self, v16: &mut v16::RuntimeMetadataV16) {
        match self {
            Self::NoExtensions => v16.extrinsic.transaction_extensions_by_version.clear(),
            Self::EndlessAddress => v16.extrinsic.address_ty = endless(v16).into(),
            Self::EndlessKeys(name) => {
                let endless = endless(v16);
                let pair = TypeDefTuple::new_portable(vec![endless.into(); 2]);
                let pair = add(v16, pair);
                let storages = v16.pallets.iter_mut().filter_map(|pallet| pallet.storage.as_mut());
                for entry in storages.flat_map(|storage| &mut storage.entries) {
                    if let (true, StorageEntryType::Map { hashers, key, .. }) =
                        (entry.name == name, &mut entry.ty)
                    {
                        *key = if hashers.len() == 2 { pair } else { endless }.into();
                    }
                }
            }
        }
    }
}

/// A type that contains itself and nothing else.
fn endless(v16: &mut v16::RuntimeMetadataV16) -> u32 {
    let itself = v16.types.types.len() as u32;
    add(v16, TypeDefComposite::new([Field::<PortableForm>::new(None, itself.into(), None, vec![])]))
}

fn add(v16: &mut v16::RuntimeMetadataV16, def: impl Into<TypeDef<PortableForm>>) -> u32 {
    let id = v16.types.types.len() as u32;
    let ty = Type::new(Path::default(), vec![], def, vec![]);
    v16.types.types.push(PortableType { id, ty });
    id
}
