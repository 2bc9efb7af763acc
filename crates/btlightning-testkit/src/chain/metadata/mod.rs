//! What the runtime says of itself: the types, indices and storage keys of everything that goes over the wire.

mod hostile;
mod older;
mod source;

use frame_metadata::{
    RuntimeMetadata, RuntimeMetadataPrefixed,
    v14::{StorageEntryType, StorageHasher},
    v16,
};
use parity_scale_codec::{Decode, Encode};
use scale_info::{PortableRegistry, TypeDef, TypeDefPrimitive, Variant, form::PortableForm};
use sp_crypto_hashing::{blake2_128, blake2_256, twox_64, twox_128, twox_256};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

pub use hostile::Hostility;
pub use source::{METADATA_VARIABLE, MetadataError};

/// The metadata of one runtime.
pub(super) struct Metadata {
    v16: v16::RuntimeMetadataV16,
    version: RuntimeVersion,
}

/// A storage entry: one value, or a map of them.
pub(super) struct StorageEntry<'a> {
    prefix: Vec<u8>,
    hashers: &'a [StorageHasher],
}

impl StorageEntry<'_> {
    /// The key of the value under `keys`, each encoded; with fewer of them than the map has, the prefix of all values
    /// whose keys begin so.
    pub(super) fn key(&self, keys: &[&[u8]]) -> Vec<u8> {
        debug_assert!(keys.len() <= self.hashers.len(), "the map has {} keys", self.hashers.len());
        let mut key = self.prefix.clone();
        for (part, hasher) in keys.iter().zip(self.hashers) {
            hash_into(&mut key, hasher, part);
        }
        key
    }
}

/// `sp_version::RuntimeVersion`.
#[derive(Clone, Encode, Decode)]
pub(super) struct RuntimeVersion {
    pub(super) spec_name: String,
    pub(super) impl_name: String,
    pub(super) authoring_version: u32,
    pub(super) spec_version: u32,
    pub(super) impl_version: u32,
    pub(super) apis: Vec<([u8; 8], u32)>,
    pub(super) transaction_version: u32,
    pub(super) system_version: u8,
}

/// In what the runtime that is served differs from the one that the metadata is of.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) spec_version: Option<u32>,
    /// Runtime APIs (`NeuronInfoRuntimeApi`) and methods (`NeuronInfoRuntimeApi_get_neurons_lite`) that do not exist.
    pub(super) missing: BTreeSet<String>,
    /// Prefixes of the names of methods whose answers are byte strings, with the answer encoded inside.
    pub(super) wrapped: Vec<&'static str>,
    pub(super) hostility: Option<Hostility>,
}

/// The metadata as this machine has it, read once a process.
pub(super) fn load() -> Result<Arc<Metadata>, MetadataError> {
    static LOADED: OnceLock<Arc<Metadata>> = OnceLock::new();
    if let Some(metadata) = LOADED.get() {
        return Ok(metadata.clone());
    }
    let metadata = Arc::new(Metadata::decode(&source::read()?)?);
    Ok(LOADED.get_or_init(|| metadata).clone())
}

impl Metadata {
    fn decode(mut bytes: &[u8]) -> Result<Self, MetadataError> {
        let undecodable = |what: String| MetadataError::Undecodable(what);
        let prefixed = RuntimeMetadataPrefixed::decode(&mut bytes).map_err(|e| undecodable(e.to_string()))?;
        let RuntimeMetadata::V16(v16) = prefixed.1 else {
            return Err(undecodable(format!("version {} where 16 was wanted", prefixed.1.version())));
        };
        let constant = version_constant(&v16).ok_or_else(|| undecodable("no System.Version".into()))?;
        let version =
            RuntimeVersion::decode(&mut &*constant.value).map_err(|e| undecodable(e.to_string()))?;
        Ok(Self { v16, version })
    }

    /// The metadata of a runtime that differs in `changes`.
    pub(super) fn changed(&self, changes: &Changes) -> Self {
        let mut v16 = self.v16.clone();
        let mut version = self.version.clone();
        version.spec_version = changes.spec_version.unwrap_or(version.spec_version);
        let absent: Vec<[u8; 8]> = changes.missing.iter().map(|name| api_hash(name)).collect();
        version.apis.retain(|(hash, _)| !absent.contains(hash));
        if let Some(constant) = version_constant_mut(&mut v16) {
            constant.value = version.encode();
        }
        let bytes_type = bytes_type(&v16.types);
        v16.apis.retain(|api| !changes.missing.contains(&api.name));
        for api in &mut v16.apis {
            let name = |method: &str| format!("{}_{method}", api.name);
            api.methods.retain(|method| !changes.missing.contains(&name(&method.name)));
            for method in &mut api.methods {
                let wrapped = changes.wrapped.iter().any(|prefix| name(&method.name).starts_with(prefix));
                if let (true, Some(bytes)) = (wrapped, bytes_type) {
                    method.output = bytes.into();
                }
            }
        }
        if let Some(hostility) = changes.hostility {
            hostility.apply(&mut v16);
        }
        Self { v16, version }
    }

    pub(super) fn runtime_version(&self) -> &RuntimeVersion {
        &self.version
    }

    pub(super) fn types(&self) -> &PortableRegistry {
        &self.v16.types
    }

    pub(super) fn extrinsic(&self) -> &v16::ExtrinsicMetadata<PortableForm> {
        &self.v16.extrinsic
    }

    /// The metadata in the form of version 14, 15 or 16, encoded; `None` for any other version.
    pub(super) fn encoded(&self, version: u32) -> Option<Vec<u8>> {
        let prefixed: RuntimeMetadataPrefixed = match version {
            14 => older::v14(&self.v16)?.into(),
            15 => older::v15(&self.v16)?.into(),
            16 => self.v16.clone().into(),
            _ => return None,
        };
        Some(prefixed.encode())
    }

    /// Whether the runtime has a method, named `Api_method`.
    pub(super) fn has_method(&self, name: &str) -> bool {
        self.method_output(name).is_some()
    }

    /// The names of the fields of what a method answers, in their order; `Option` and `Vec` are looked through.
    pub(super) fn answer_fields(&self, method: &str) -> Vec<&str> {
        self.method_output(method).map_or_else(Vec::new, |output| self.field_names(output))
    }

    /// The type of what a method, named `Api_method`, answers.
    pub(super) fn method_output(&self, name: &str) -> Option<u32> {
        let of = |api: &v16::RuntimeApiMetadata<PortableForm>| {
            let method = name.strip_prefix(&*api.name)?.strip_prefix('_')?;
            api.methods.iter().find(|candidate| candidate.name == method).map(|method| method.output.id)
        };
        self.v16.apis.iter().find_map(of)
    }

    /// Where the values of a storage entry are.
    ///
    /// # Panics
    ///
    /// If the runtime has no such entry.
    pub(super) fn storage(&self, pallet: &str, entry: &str) -> StorageEntry<'_> {
        let (prefix, entry) = self.storage_entry(pallet, entry);
        let prefix = [twox_128(prefix.as_bytes()), twox_128(entry.name.as_bytes())].concat();
        let hashers = match &entry.ty {
            StorageEntryType::Plain(_) => &[][..],
            StorageEntryType::Map { hashers, .. } => hashers,
        };
        StorageEntry { prefix, hashers }
    }

    fn storage_entry(&self, pallet: &str, entry: &str) -> (&str, &v16::StorageEntryMetadata<PortableForm>) {
        let storage = self.pallet(pallet).storage.as_ref();
        let found = storage.and_then(|storage| {
            Some((&*storage.prefix, storage.entries.iter().find(|candidate| candidate.name == entry)?))
        });
        found.unwrap_or_else(|| panic!("the runtime has no storage entry {pallet}.{entry}"))
    }

    /// Every storage entry: the pallet, the name, and the type of the values.
    #[cfg(test)]
    pub(super) fn storage_entries(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        let value = |ty: &StorageEntryType<PortableForm>| match ty {
            StorageEntryType::Plain(ty) | StorageEntryType::Map { value: ty, .. } => ty.id,
        };
        self.v16.pallets.iter().flat_map(move |pallet| {
            let entries = pallet.storage.iter().flat_map(|storage| &storage.entries);
            entries.map(move |entry| (&*pallet.name, &*entry.name, value(&entry.ty)))
        })
    }

    /// The index of a pallet and of one of its events.
    pub(super) fn event_index(&self, pallet: &str, event: &str) -> [u8; 2] {
        let pallet = self.pallet(pallet);
        let ty = pallet.event.as_ref().map(|events| events.ty.id);
        [pallet.index, self.variant(ty, event).index]
    }

    /// The index of a pallet and of one of its calls.
    pub(super) fn call_index(&self, pallet: &str, call: &str) -> [u8; 2] {
        let pallet = self.pallet(pallet);
        let ty = pallet.calls.as_ref().map(|calls| calls.ty.id);
        [pallet.index, self.variant(ty, call).index]
    }

    /// The names of the pallet and the call that an encoded call begins with.
    pub(super) fn call_names(&self, call: &[u8]) -> Option<(&str, &str)> {
        let [pallet, call, ..] = call else { return None };
        let pallet = self.v16.pallets.iter().find(|candidate| candidate.index == *pallet)?;
        let calls = self.v16.types.resolve(pallet.calls.as_ref()?.ty.id)?;
        let TypeDef::Variant(calls) = &calls.type_def else { return None };
        let call = calls.variants.iter().find(|candidate| candidate.index == *call)?;
        Some((&pallet.name, &call.name))
    }

    /// The index of a pallet and of one of its errors.
    pub(super) fn error_index(&self, pallet: &str, error: &str) -> [u8; 2] {
        let pallet = self.pallet(pallet);
        let ty = pallet.error.as_ref().map(|errors| errors.ty.id);
        [pallet.index, self.variant(ty, error).index]
    }

    fn field_names(&self, ty: u32) -> Vec<&str> {
        match self.v16.types.resolve(ty).map(|ty| (&ty.type_def, ty.path.ident())) {
            Some((TypeDef::Composite(composite), _)) => {
                composite.fields.iter().filter_map(|field| field.name.as_deref()).collect()
            }
            Some((TypeDef::Variant(variants), Some(ident))) if ident == "Option" => {
                let some = variants.variants.iter().find_map(|variant| variant.fields.first());
                some.map_or_else(Vec::new, |field| self.field_names(field.ty.id))
            }
            Some((TypeDef::Sequence(items), _)) => self.field_names(items.type_param.id),
            _ => Vec::new(),
        }
    }

    fn pallet(&self, name: &str) -> &v16::PalletMetadata<PortableForm> {
        let found = self.v16.pallets.iter().find(|pallet| pallet.name == name);
        found.unwrap_or_else(|| panic!("the runtime has no pallet {name}"))
    }

    fn variant(&self, ty: Option<u32>, name: &str) -> &Variant<PortableForm> {
        let found = match ty.and_then(|ty| self.v16.types.resolve(ty)).map(|ty| &ty.type_def) {
            Some(TypeDef::Variant(variants)) => variants.variants.iter().find(|variant| variant.name == name),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("the runtime has no variant {name}"))
    }
}

/// How a runtime API is named in the list that a runtime gives of its APIs.
fn api_hash(name: &str) -> [u8; 8] {
    sp_crypto_hashing::blake2_64(name.as_bytes())
}

fn version_constant(v16: &v16::RuntimeMetadataV16) -> Option<&v16::PalletConstantMetadata<PortableForm>> {
    let system = v16.pallets.iter().find(|pallet| pallet.name == "System")?;
    system.constants.iter().find(|constant| constant.name == "Version")
}

fn version_constant_mut(
    v16: &mut v16::RuntimeMetadataV16,
) -> Option<&mut v16::PalletConstantMetadata<PortableForm>> {
    let system = v16.pallets.iter_mut().find(|pallet| pallet.name == "System")?;
    system.constants.iter_mut().find(|constant| constant.name == "Version")
}

/// The type `Vec<u8>`.
fn bytes_type(types: &PortableRegistry) -> Option<u32> {
    let is_byte = |id: u32| {
        matches!(types.resolve(id).map(|ty| &ty.type_def), Some(TypeDef::Primitive(TypeDefPrimitive::U8)))
    };
    let is_bytes =
        |ty: &TypeDef<PortableForm>| matches!(ty, TypeDef::Sequence(items) if is_byte(items.type_param.id));
    types.types.iter().find(|entry| is_bytes(&entry.ty.type_def)).map(|entry| entry.id)
}

fn hash_into(key: &mut Vec<u8>, hasher: &StorageHasher, part: &[u8]) {
    match hasher {
        StorageHasher::Identity => key.extend(part),
        StorageHasher::Blake2_128 => key.extend(blake2_128(part)),
        StorageHasher::Blake2_256 => key.extend(blake2_256(part)),
        StorageHasher::Twox128 => key.extend(twox_128(part)),
        StorageHasher::Twox256 => key.extend(twox_256(part)),
        StorageHasher::Blake2_128Concat => {
            key.extend(blake2_128(part));
            key.extend(part);
        }
        StorageHasher::Twox64Concat => {
            key.extend(twox_64(part));
            key.extend(part);
        }
    }
}
