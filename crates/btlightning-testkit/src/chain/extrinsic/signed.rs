//! The signed part of an extrinsic: who, with which signature, and what the extensions add to it.

use super::{
    super::{block::Hash, metadata::Metadata, ss58::AccountId},
    Malformed,
};
use parity_scale_codec::{Compact, Decode, Encode};
use schnorrkel::{PublicKey, Signature, signing_context};
use sp_crypto_hashing::blake2_256;

/// Payloads longer than this are hashed, and the hash is signed.
const PAYLOAD_BYTES_MAX: usize = 256;

const SIGNING_CONTEXT: &[u8] = b"substrate";

/// Who signed, and what the signature covers beside the call.
pub(in super::super) struct Signed {
    pub(in super::super) signer: AccountId,
    /// `None` if it is of a scheme other than sr25519.
    signature: Option<[u8; 64]>,
    pub(in super::super) extensions: Extensions,
    /// The extensions and the call, as they were encoded.
    payload: Vec<u8>,
}

/// What the extensions say.
#[derive(Default)]
pub(in super::super) struct Extensions {
    pub(in super::super) nonce: u32,
    pub(in super::super) tip: u64,
    pub(in super::super) era: Era,
    metadata_hash: bool,
}

/// How long an extrinsic is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Era {
    #[default]
    Immortal,
    Mortal {
        period: u64,
        phase: u64,
    },
}

/// What the chain knows and a signature covers without the extrinsic saying it.
pub(in super::super) struct Implicit {
    pub(in super::super) spec_version: u32,
    pub(in super::super) transaction_version: u32,
    pub(in super::super) genesis: Hash,
    /// The hash of the block in which the era began; of the genesis block for immortal extrinsics.
    pub(in super::super) birth: Hash,
}

impl Signed {
    /// Reads the address, the signature and the extensions; leaves the call in `input`.
    pub(super) fn decode(metadata: &Metadata, input: &mut &[u8]) -> Result<Self, Malformed> {
        const ADDRESS_ID: u8 = 0;
        match u8::decode(input)? {
            ADDRESS_ID => {}
            kind => return Err(Malformed(format!("signed by an address of kind {kind}"))),
        }
        let signer = AccountId::decode(input)?;
        let signature = decode_signature(input)?;
        let payload = *input;
        let extensions = Self::decode_extensions(metadata, input)?;
        // What is signed: call, extensions, implicit. On the wire the extensions come first.
        let (extra, call) = payload.split_at(payload.len() - input.len());
        Ok(Self { signer, signature, extensions, payload: [call, extra].concat() })
    }

    pub(super) fn decode_extensions(metadata: &Metadata, input: &mut &[u8]) -> Result<Extensions, Malformed> {
        let mut extensions = Extensions::default();
        for extension in &metadata.extrinsic().transaction_extensions {
            let mut bytes = *input;
            scale_value::scale::decode_as_type(input, extension.ty.id, metadata.types())
                .map_err(|error| Malformed(format!("{}: {error}", extension.identifier)))?;
            match &*extension.identifier {
                "CheckMortality" => extensions.era = Era::decode(&mut bytes)?,
                "CheckNonce" => extensions.nonce = Compact::<u32>::decode(&mut bytes)?.0,
                "ChargeTransactionPayment" => extensions.tip = Compact::<u64>::decode(&mut bytes)?.0,
                "CheckMetadataHash" => extensions.metadata_hash = bool::decode(&mut bytes)?,
                _ => {}
            }
        }
        Ok(extensions)
    }

    /// Whether the signature is the signer's, over this very call, by this chain and runtime, in this era.
    pub(super) fn is_genuine(&self, metadata: &Metadata, implicit: &Implicit) -> bool {
        // A runtime is built with the hash of its metadata or without; ours is without.
        if self.extensions.metadata_hash {
            return false;
        }
        let mut payload = self.payload.clone();
        for extension in &metadata.extrinsic().transaction_extensions {
            match &*extension.identifier {
                "CheckSpecVersion" => implicit.spec_version.encode_to(&mut payload),
                "CheckTxVersion" => implicit.transaction_version.encode_to(&mut payload),
                "CheckGenesis" => payload.extend(implicit.genesis),
                "CheckMortality" => payload.extend(implicit.birth),
                "CheckMetadataHash" => None::<Hash>.encode_to(&mut payload),
                _ => {}
            }
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            payload = blake2_256(&payload).to_vec();
        }
        let key = PublicKey::from_bytes(&self.signer).ok();
        let signature = self.signature.and_then(|bytes| Signature::from_bytes(&bytes).ok());
        key.zip(signature).is_some_and(|(key, signature)| {
            key.verify(signing_context(SIGNING_CONTEXT).bytes(&payload), &signature).is_ok()
        })
    }
}

/// Reads a `MultiSignature`.
fn decode_signature(input: &mut &[u8]) -> Result<Option<[u8; 64]>, Malformed> {
    const ED25519: u8 = 0;
    const SR25519: u8 = 1;
    const ECDSA: u8 = 2;
    match u8::decode(input)? {
        SR25519 => Ok(Some(Decode::decode(input)?)),
        ED25519 => <[u8; 64]>::decode(input).map(|_| None).map_err(Malformed::from),
        ECDSA => <[u8; 65]>::decode(input).map(|_| None).map_err(Malformed::from),
        scheme => Err(Malformed(format!("a signature of the unknown scheme {scheme}"))),
    }
}

impl Era {
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        let first = u8::decode(input)?;
        if first == 0 {
            return Ok(Self::Immortal);
        }
        let encoded = u64::from(u16::from_le_bytes([first, u8::decode(input)?]));
        let period = 2 << (encoded % 16);
        let quantum = (period >> 12).max(1);
        let phase = (encoded >> 4) * quantum;
        if period < 4 || phase >= period {
            return Err(Malformed("an era that is none".into()));
        }
        Ok(Self::Mortal { period, phase })
    }

    /// The block in which the era that `current` is in began.
    pub(in super::super) fn birth(self, current: u64) -> u64 {
        match self {
            Self::Immortal => 0,
            Self::Mortal { period, phase } => (current.max(phase) - phase) / period * period + phase,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras_are_read_as_substrate_writes_them() {
        // The examples of Substrate's own documentation and tests.
        let mortal = |bytes: &[u8]| Era::decode(&mut &*bytes).unwrap();
        assert_eq!(mortal(&[0]), Era::Immortal);
        assert_eq!(mortal(&[5 + 42 % 16 * 16, 42 / 16]), Era::Mortal { period: 64, phase: 42 });
        assert_eq!(mortal(&[0xe5, 0x01]), Era::Mortal { period: 64, phase: 30 });
        assert!(Era::decode(&mut &[1, 0xff][..]).is_err());
    }

    #[test]
    fn an_era_begins_at_its_phase() {
        let era = Era::Mortal { period: 64, phase: 42 };
        assert_eq!([41, 42, 105, 106].map(|current| era.birth(current)), [42, 42, 42, 106]);
        assert_eq!(Era::Immortal.birth(1_000), 0);
    }
}
