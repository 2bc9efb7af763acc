//! Accounts as people read them: SS58 with Bittensor's prefix.

use sp_crypto_hashing::blake2_512;

/// The 32 bytes of a public key, which is what the chain calls an account.
pub type AccountId = [u8; 32];

const PREFIX: u8 = 42;
const CHECKSUM_BYTES: usize = 2;

/// The account in SS58, `5...`.
pub fn ss58(account: &AccountId) -> String {
    let mut bytes = vec![PREFIX];
    bytes.extend(account);
    let checksum = checksum(&bytes);
    bytes.extend(checksum);
    bs58::encode(bytes).into_string()
}

/// The account that `text` spells, with whatever one-byte prefix; `None` if it spells none.
pub(super) fn account(text: &str) -> Option<AccountId> {
    let bytes = bs58::decode(text).into_vec().ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    (sum == checksum(body)).then_some(())?;
    body.get(1..)?.try_into().ok()
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake2_512(&[b"SS58PRE", body].concat());
    [hash[0], hash[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alice_is_spelled_as_everywhere_else() {
        let alice = hex::decode("d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d").unwrap();
        let alice: AccountId = alice.try_into().unwrap();
        let text = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
        assert_eq!(ss58(&alice), text);
        assert_eq!(account(text), Some(alice));
    }

    #[test]
    fn a_misspelled_account_is_none() {
        for text in
            ["", "5", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQZ", "0OIl", "5GrwvaEF5zXb26Fz9rc"]
        {
            assert_eq!(account(text), None, "{text}");
        }
    }
}
