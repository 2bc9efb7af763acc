//! Extrinsics: read by the metadata, checked as the chain checks them.

mod call;
pub(super) mod execute;
mod signed;
pub(super) mod validity;

use super::{block::Hash, metadata::Metadata, ss58::AccountId};
use parity_scale_codec::{Compact, Decode};
use signed::Signed;
use sp_crypto_hashing::blake2_256;

pub use call::Call;

/// The largest extrinsic that is looked at.
pub(super) const EXTRINSIC_BYTES_MAX: usize = 256 * 1024;

/// The top bits of an extrinsic's first byte say what follows, the rest which version of the format it is.
const KIND_BITS: u8 = 0b1100_0000;
const SIGNED: u8 = 0b1000_0000;
const GENERAL: u8 = 0b0100_0000;
const V4: u8 = 4;
const V5: u8 = 5;

/// An extrinsic that could be read, whatever it is worth.
pub(super) struct Extrinsic {
    pub(super) hash: Hash,
    /// As it came and as blocks contain it, with its length in front.
    pub(super) bytes: Vec<u8>,
    pub(super) call: Call,
    /// `None` if nobody is said to have signed it.
    pub(super) signed: Option<Signed>,
}

/// Why an extrinsic cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

impl From<parity_scale_codec::Error> for Malformed {
    fn from(error: parity_scale_codec::Error) -> Self {
        Self(error.to_string())
    }
}

impl Extrinsic {
    /// Reads an extrinsic with its length in front, as it is submitted.
    pub(super) fn decode(metadata: &Metadata, bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > EXTRINSIC_BYTES_MAX {
            return Err(Malformed(format!("longer than {EXTRINSIC_BYTES_MAX} bytes")));
        }
        let mut input = bytes;
        let length = Compact::<u32>::decode(&mut input)?.0;
        if input.len() != length as usize {
            return Err(Malformed(format!("{} bytes where the length says {length}", input.len())));
        }
        let first = u8::decode(&mut input)?;
        let signed = match (first & KIND_BITS, first & !KIND_BITS) {
            (0, V4 | V5) => None,
            (SIGNED, V4) => Some(Signed::decode(metadata, &mut input)?),
            // A general transaction names an origin in its extensions. No extension of this runtime does, so nobody
            // is said to have signed it.
            (GENERAL, V5) => {
                let _extension_version = u8::decode(&mut input)?;
                Signed::decode_extensions(metadata, &mut input)?;
                None
            }
            _ => return Err(Malformed(format!("of an unknown kind, {first:#04x}"))),
        };
        let call = Call::decode(metadata, input)?;
        Ok(Self { hash: blake2_256(bytes), bytes: bytes.to_vec(), call, signed })
    }

    pub(super) fn signer(&self) -> Option<AccountId> {
        self.signed.as_ref().map(|signed| signed.signer)
    }
}
