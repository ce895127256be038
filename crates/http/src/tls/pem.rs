//! Reads certificate and key files.

use std::{fs, io, path::Path};

use rustls::{
    Error, InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use super::{
    fault::{FileError, FileFault},
    provider,
};

/// A chain of certificates takes some kilobytes, all CAs of a system some hundred; a
/// larger file is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// In an encrypted key of the old form (RFC 1421, 4.6.1.1).
const ENCRYPTED: &[u8] = b"\nProc-Type: 4,ENCRYPTED";

/// A setting, and the file that it names.
pub(super) type NamedFile<'a> = (&'static str, &'a Path);

fn failed((setting, path): NamedFile<'_>, fault: FileFault) -> FileError {
    FileError { setting, path: path.to_owned(), fault }
}

fn read(named: NamedFile<'_>) -> Result<Vec<u8>, FileError> {
    let read = || {
        let about = fs::metadata(named.1)?;
        // Reading a pipe would block until somebody writes.
        if !about.is_file() && !about.is_dir() {
            return Err(io::Error::other("it is not a file"));
        }
        if about.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("it is far too large"));
        }
        fs::read(named.1)
    };
    let read = || {
        let mut bytes = read()?;
        // Windows editors put it in front; the first line is invalid with it.
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(bytes)
    };
    read().map_err(|cause| failed(named, FileFault::Unreadable(cause)))
}

/// Returns a hash that shows whether a file has changed; None if it can't be read. Not
/// the bytes themselves: there may be a key among them.
pub fn fingerprint(path: &Path) -> Option<[u8; 32]> {
    read(("", path)).ok().map(|bytes| Sha256::digest(&bytes).into())
}

/// Reads all certificates of a file.
pub fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read((setting, path))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Err(cause) => Err(failed((setting, path), cause.into())),
        Ok(found) if found.is_empty() => Err(failed((setting, path), FileFault::NoCertificate)),
        Ok(found) => Ok(found),
    }
}

fn private_key(named: NamedFile<'_>) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = read(named)?;
    let locked = || bytes.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|cause| {
        let fault = match cause {
            pem::Error::NoItemsFound => FileFault::NoKey,
            pem::Error::Base64Decode(_) if locked() => FileFault::NoKey,
            other => other.into(),
        };
        failed(named, fault)
    })
}

/// Reads a chain of certificates and the key of its first.
pub(super) fn pair(cert: NamedFile<'_>, key: NamedFile<'_>) -> Result<CertifiedKey, FileError> {
    let chain = certificates(cert.0, cert.1)?;
    let secret = private_key(key)?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            failed(key, FileFault::Mismatch(cert.1.to_owned()))
        }
        Error::InvalidCertificate(cause) => failed(cert, FileFault::Unusable(cause.to_string())),
        // The key parser returns this for all that it can't read.
        Error::General(_) => failed(key, FileFault::KeyKind),
        other => failed(key, FileFault::Unusable(other.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    const MARK: &str = "\u{feff}";

    /// Loads files with these contents.
    fn read(cert: &str, key: &str) -> Result<CertifiedKey, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (folder.path().join("cert"), folder.path().join("key"));
        fs::write(&cert_file, cert).unwrap();
        fs::write(&key_file, key).unwrap();
        pair(("tls.cert", &cert_file), ("tls.key", &key_file))
    }

    fn made() -> (String, String) {
        let made = generate_simple_self_signed(["node".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn as_editors_and_tools_leave_them_they_are_good() {
        let (cert, key) = made();
        let dos = |text: &str| text.replace("\r\n", "\n").replace('\n', "\r\n");
        for (cert, key) in [
            (dos(&cert), dos(&key)),
            (format!("{MARK}{cert}"), format!("{MARK}{key}")),
            (format!("Bag Attributes\n  localKeyID: 01\n{cert}"), format!("{cert}{key}")),
        ] {
            assert!(read(&cert, &key).is_ok(), "{cert}{key}");
        }
    }

    #[test]
    fn what_is_said_of_a_broken_key_has_nothing_of_the_key_in_it() {
        let (cert, key) = made();
        let lines: Vec<_> = key.lines().collect();
        let secret = lines[1];
        for broken in [
            lines.concat(),
            key.replacen("-----\n", "-----", 1).replacen('\n', "\r", 1),
            key.replacen("-----\n", "", 1),
            key.replacen("-----\n", "----\n", 1),
            key.replacen(secret, &format!("{secret}!"), 1),
            key[..key.len() / 2].to_owned(),
        ] {
            let error = read(&cert, &broken).unwrap_err();
            let said = format!("{error} {error:?} {:?}", error.problem());
            let bytes = format!("{:?}", &secret.as_bytes()[..4]);
            let bytes = bytes.trim_matches(['[', ']']);
            assert!(said.contains("copy it anew"), "{broken}{said}");
            assert!(!said.contains(&secret[..4]) && !said.contains(bytes), "{broken}{said}");
        }
    }

    #[test]
    fn keys_that_are_locked_or_of_another_kind_are_told_as_such() {
        let (cert, key) = made();
        let locked = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                      DEK-Info: AES-128-CBC,00\n\nMAA=\n-----END RSA PRIVATE KEY-----\n";
        let said = |key: &str| read(&cert, key).unwrap_err().to_string();
        assert!(said(locked).contains("`openssl pkey"), "{}", said(locked));
        let other = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        assert!(said(other).contains("a kind of key that is not supported"), "{}", said(other));
        assert!(said(&key.replace("PRIVATE", "PUBLIC")).contains("no private key"));
        let long = "\n".repeat(MAX_FILE_BYTES as usize + 1);
        assert!(said(&long).contains("far too large"));
    }
}
