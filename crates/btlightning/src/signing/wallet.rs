//! Signers from Bittensor wallet files.

use bittensor_wallet::keyfile::{Keyfile, get_password_from_environment};
use bittensor_wallet::keypair::Keypair;
use bittensor_wallet::wallet::Wallet;

use super::Signer;
use crate::error::{LightningError, Result};

/// The crypto type of sr25519 in wallet files.
const SR25519: u8 = 1;

/// The environment variable with the password of an encrypted hotkey, as it is typed.
const PASSWORD_VARIABLE: &str = "BT_WALLET_PASSWORD";

/// A [`Signer`] with a key pair of the crate `btwallet`.
pub struct BtWalletSigner {
    keypair: Keypair,
}

impl BtWalletSigner {
    /// Signs with `keypair`, which must be sr25519 and hold its private key.
    pub fn new(keypair: Keypair) -> Self {
        Self { keypair }
    }

    /// Signs with the hotkey in the file `path/name/hotkeys/hotkey_name`; a leading `~` is the home directory.
    ///
    /// Never asks on the terminal: the password of an encrypted hotkey comes from the environment, either in the
    /// variable `BT_PW_<PATH>` that the Bittensor tools write, or as it is typed in `BT_WALLET_PASSWORD`.
    ///
    /// # Errors
    /// `Signing` when the file cannot be read, when it is encrypted and there is no password or a wrong one, and when it
    /// holds no sr25519 private key.
    pub fn from_wallet(name: &str, path: &str, hotkey_name: &str) -> Result<Self> {
        let wallet =
            Wallet::new(Some(name.to_owned()), Some(hotkey_name.to_owned()), Some(path.to_owned()), None);
        let file = wallet.hotkey_file().map_err(signing)?;
        // Reading first tells a missing file from one that is not encrypted.
        file.data().map_err(signing)?;
        let password = if file.is_encrypted().map_err(signing)? { Some(password_for(&file)?) } else { None };
        let keypair = file.get_keypair(password).map_err(signing)?;
        if keypair.crypto_type() != SR25519 {
            return Err(LightningError::Signing(format!("hotkey {hotkey_name:?} is not an sr25519 key")));
        }
        Ok(Self::new(keypair))
    }
}

fn password_for(file: &Keyfile) -> Result<String> {
    let variable = file.env_var_name().map_err(signing)?;
    if let Some(password) = get_password_from_environment(variable.clone()).map_err(signing)? {
        return Ok(password);
    }
    std::env::var(PASSWORD_VARIABLE).map_err(|_| {
        LightningError::Signing(format!(
            "the hotkey is encrypted, and neither {PASSWORD_VARIABLE} nor {variable} is set"
        ))
    })
}

fn signing(error: impl std::fmt::Display) -> LightningError {
    LightningError::Signing(error.to_string())
}

impl Signer for BtWalletSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.keypair.sign(message.to_vec()).map_err(signing)
    }
}

#[cfg(test)]
mod tests {
    use btlightning_proto::identity::{Hotkey, sr25519};

    use super::*;

    /// The well-known development key Alice, as the Bittensor tools write it.
    const ALICE: &str = r#"{
        "accountId": "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d",
        "publicKey": "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d",
        "secretSeed": "0xe5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a",
        "ss58Address": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    }"#;

    /// A directory of wallets that is removed when the test ends.
    struct Wallets(std::path::PathBuf);

    impl Wallets {
        fn with_hotkey(test: &str, content: &[u8]) -> Self {
            let root = std::env::temp_dir().join(format!("btlightning-{test}-{}", std::process::id()));
            let hotkeys = root.join("validator").join("hotkeys");
            std::fs::create_dir_all(&hotkeys).unwrap();
            std::fs::write(hotkeys.join("default"), content).unwrap();
            Self(root)
        }

        fn signer(&self, hotkey: &str) -> Result<BtWalletSigner> {
            BtWalletSigner::from_wallet("validator", self.0.to_str().unwrap(), hotkey)
        }
    }

    impl Drop for Wallets {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_plain_hotkey_file_signs_for_its_address() {
        let wallets = Wallets::with_hotkey("plain", ALICE.as_bytes());
        let signature = wallets.signer("default").unwrap().sign(b"message").unwrap();
        let alice: Hotkey = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".parse().unwrap();
        sr25519::verify(&alice, b"message", &signature).unwrap();
    }

    #[test]
    fn an_encrypted_hotkey_without_a_password_is_an_error_and_no_prompt() {
        let wallets = Wallets::with_hotkey("encrypted", b"$NACL0123456789012345678901234567890123456789");
        match wallets.signer("default") {
            Err(LightningError::Signing(why)) => assert!(why.contains("BT_WALLET_PASSWORD"), "{why}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("an encrypted file gave a signer"),
        }
    }

    #[test]
    fn a_missing_file_says_which() {
        let wallets = Wallets::with_hotkey("missing", ALICE.as_bytes());
        match wallets.signer("other") {
            Err(LightningError::Signing(why)) => assert!(why.contains("other"), "{why}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a missing file gave a signer"),
        }
    }
}
