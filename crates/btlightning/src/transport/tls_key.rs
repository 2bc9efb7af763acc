//! A server's TLS key: made for one start, or kept in a file so that clients can know it in advance.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use btlightning_proto::identity::TlsKeyPin;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tracing::{info, warn};

use crate::draft::Draft;
use crate::error::{LightningError, Result};

/// The most that is read of a key file, in bytes. A P-256 key in PEM takes 241.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// An ECDSA key on P-256, and whether it will be the same at the next start.
pub(crate) struct TlsKey {
    pub(super) pair: KeyPair,
    is_kept: bool,
}

impl TlsKey {
    /// A new key, which nobody keeps.
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self { pair: new_pair()?, is_kept: false })
    }

    /// The key in the file at `path`; if there is no such file, a new key that is written there. Blocks.
    ///
    /// The file is PKCS#8 in PEM and made with mode 0600. It appears whole or not at all, and a file that somebody else
    /// makes meanwhile is left as it is and read.
    ///
    /// # Errors
    /// `Config` when the file can be neither read nor made, and when it holds something else than a P-256 key.
    pub(crate) fn kept_in(path: &Path) -> Result<Self> {
        let refused =
            |why: &dyn std::fmt::Display| LightningError::Config(format!("TLS key file {path:?}: {why}"));
        let text = match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path, &new_pair()?.serialize_pem())
                    .map_err(|error| refused(&format_args!("cannot be made: {error}")))?;
                info!("a new TLS key is kept in {path:?}");
                read(path)
            }
            read => read,
        };
        let text = text.map_err(|error| refused(&error))?;
        // What rcgen says of a bad key quotes nothing of it.
        let pair = KeyPair::from_pem(&text)
            .map_err(|error| refused(&format_args!("holds no private key in PKCS#8 PEM: {error}")))?;
        if !pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            return Err(refused(&"holds a key that is not ECDSA on P-256"));
        }
        Ok(Self { pair, is_kept: true })
    }

    /// What clients may know it by, if it will be the same at the next start.
    pub(crate) fn pin(&self) -> Option<TlsKeyPin> {
        self.is_kept.then(|| TlsKeyPin::of_public_key(&self.pair.public_key_der()))
    }
}

/// By hand: that of a [`KeyPair`] writes the private key out.
impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKey").field("pin", &self.pin()).finish_non_exhaustive()
    }
}

fn new_pair() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| LightningError::Config(format!("no TLS key: {error}")))
}

fn read(path: &Path) -> io::Result<String> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    warn_if_others_can_read(&file, path)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "too large for a key"));
    }
    Ok(text)
}

#[cfg(unix)]
fn warn_if_others_can_read(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warn!("TLS key file {path:?} is open to others than its owner (mode {mode:04o}): chmod 600 it");
    }
    Ok(())
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_file: &File, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes the file at `path`, unless one is there.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let draft = Draft::write(path, text.as_bytes())?;
    match draft.link(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        // Some file systems have no hard links. A rename would replace a file that was made just now.
        Err(_) if !path.exists() => draft.replace(path)?,
        linked => linked?,
    }
    #[cfg(unix)]
    File::open(directory(path))?.sync_all()?;
    Ok(())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::lines;

    #[test]
    fn the_key_is_made_once_and_read_from_then_on() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key.pem");
        let made = TlsKey::kept_in(&path).unwrap();
        let read = TlsKey::kept_in(&path).unwrap();
        assert_eq!(made.pin().unwrap(), read.pin().unwrap());
        assert_eq!(files(scratch.path()), ["key.pem"], "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "{}", &text[..40]);
        assert_eq!(
            TlsKey::generate().unwrap().pin(),
            None,
            "a key that is not kept cannot be known in advance"
        );
    }

    #[test]
    fn a_key_that_openssl_made_has_the_pin_that_openssl_says() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key.pem");
        fs::write(&path, OPENSSL_KEY).unwrap();
        assert_eq!(TlsKey::kept_in(&path).unwrap().pin().unwrap().to_string(), OPENSSL_PIN);
    }

    // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; made for this test.
    const OPENSSL_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVas7+MPeUHWQUs7Q\n\
        4A2ZuYqU/7LsX/PKNJYBjNmJ8c2hRANCAARqDkQs224oaiQ++LJwPGzWy6R3Ewoz\n\
        qYhKsyApG5Eu17KA1+vIPv14CnucNczzZnKxqYIzLnUlMsNAID6dVdGx\n\
        -----END PRIVATE KEY-----\n";
    const OPENSSL_PIN: &str = "914ede5375498e39ca10f9bb0a97285d28ff61ef6c4c7dbbeb7961730cb72a20";

    #[test]
    fn of_many_that_make_the_file_at_once_all_have_the_same_key() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key.pem");
        let pins: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| TlsKey::kept_in(&path).unwrap().pin())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(pins.iter().all(|pin| pin.is_some() && *pin == pins[0]), "{pins:?}");
        assert_eq!(files(scratch.path()), ["key.pem"]);
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let cut = &OPENSSL_KEY[..100];
        let public = KeyPair::generate().unwrap().public_key_pem();
        let large = "x".repeat(FILE_BYTES_MAX as usize + 1);
        let cases: [(&[u8], &str); 8] = [
            (b"", "no private key"),
            (b"not a key", "no private key"),
            (cut.as_bytes(), "no private key"),
            (public.as_bytes(), "no private key"),
            (ed25519.as_bytes(), "not ECDSA on P-256"),
            (p384.as_bytes(), "not ECDSA on P-256"),
            (large.as_bytes(), "too large"),
            (b"\xff\xfe", "UTF-8"),
        ];
        let path = scratch.path().join("key.pem");
        for (content, why) in cases {
            fs::write(&path, content).unwrap();
            let error = TlsKey::kept_in(&path).unwrap_err();
            let LightningError::Config(words) = &error else { panic!("{error:?}") };
            assert!(words.contains(why) && words.contains("key.pem"), "{words}");
            assert_eq!(fs::read(&path).unwrap(), content, "it is somebody's file");
        }
    }

    #[test]
    fn where_no_file_can_be_is_said() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("file"), "").unwrap();
        for (path, why) in [
            (scratch.path().join("no/such/directory/key.pem"), "cannot be made"),
            (scratch.path().join("file/key.pem"), "key.pem"),
            (scratch.path().join(""), "not a regular file"),
        ] {
            let error = TlsKey::kept_in(&path).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    fn files(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;

        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key.pem");
        TlsKey::kept_in(&path).unwrap();
        assert_eq!(lines(|| drop(TlsKey::kept_in(&path).unwrap())), [""; 0]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let lines = lines(|| drop(TlsKey::kept_in(&path).unwrap()));
        assert!(lines.len() == 1 && lines[0].contains("0640") && lines[0].starts_with("WARN"), "{lines:?}");
    }
}
