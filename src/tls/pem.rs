//! Certificates and keys as they lie on disk, and what may be wrong with them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use thiserror::Error;

use super::provider;
use crate::config::Problem;

/// A chain of certificates takes some kilobytes, all authorities of a system
/// some hundred; what is larger is another file.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file of certificates or keys that can't be used: the setting that names
/// it, and what to do.
#[derive(Debug, Error)]
#[error("{setting}: {}: {fault}", path.display())]
pub struct FileError {
    pub setting: &'static str,
    pub path: PathBuf,
    pub fault: FileFault,
}

#[derive(Debug)]
pub enum FileFault {
    Unreadable(io::Error),
    NoCertificate,
    NoKey,
    NotPem(String),
    /// The key belongs to another certificate than this file's.
    Mismatch(PathBuf),
    Unusable(String),
}

impl FileFault {
    fn words(&self) -> (String, String) {
        match self {
            Self::Unreadable(cause) => (
                format!("无法读取（{cause}），请检查路径和权限"),
                format!("it can't be read ({cause}); check the path, and that the node may read it"),
            ),
            Self::NoCertificate => (
                "其中没有证书，应为 PEM 文件（-----BEGIN CERTIFICATE-----）".to_owned(),
                "it has no certificate; a PEM file is wanted (-----BEGIN CERTIFICATE-----)".to_owned(),
            ),
            Self::NoKey => (
                "其中没有未加密的私钥，应为 PEM 文件（-----BEGIN PRIVATE KEY-----）；可用 openssl pkey 解密".to_owned(),
                "it has no private key in the clear; a PEM file is wanted (-----BEGIN PRIVATE KEY-----), \
                 `openssl pkey -in FILE -out OTHER` decrypts one".to_owned(),
            ),
            Self::NotPem(cause) => (
                format!("不是有效的 PEM 文件（{cause}），请重新复制"),
                format!("it is no valid PEM file ({cause}); copy it anew"),
            ),
            Self::Mismatch(cert) => {
                let cert = cert.display();
                (
                    format!("私钥与证书 {cert} 不匹配，请使用同一次签发的证书和私钥"),
                    format!("the key is not that of the certificate {cert}; take the two that were made together"),
                )
            }
            Self::Unusable(cause) => (
                format!("无法使用（{cause}），请更换"),
                format!("it can't be used ({cause}); get another one"),
            ),
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().1)
    }
}

impl FileError {
    pub fn problem(&self) -> Problem {
        let (zh, en) = self.fault.words();
        Problem::new(self.setting, Some(&self.path.display().to_string().into()), zh, en)
    }
}

/// A setting, and the file that it names.
pub(super) type Named<'a> = (&'static str, &'a Path);

fn failed((setting, path): Named<'_>, fault: FileFault) -> FileError {
    FileError { setting, path: path.to_owned(), fault }
}

fn read(named: Named<'_>) -> Result<Vec<u8>, FileError> {
    let read = || {
        let about = fs::metadata(named.1)?;
        // Reading a pipe would wait for ever for somebody to write into it.
        if !about.is_file() && !about.is_dir() {
            return Err(io::Error::other("it is not a file"));
        }
        if about.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("it is far too large"));
        }
        fs::read(named.1)
    };
    read().map_err(|cause| failed(named, FileFault::Unreadable(cause)))
}

/// All certificates of a file.
pub fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read((setting, path))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Err(cause) => Err(failed((setting, path), FileFault::NotPem(cause.to_string()))),
        Ok(found) if found.is_empty() => Err(failed((setting, path), FileFault::NoCertificate)),
        Ok(found) => Ok(found),
    }
}

fn private_key(named: Named<'_>) -> Result<PrivateKeyDer<'static>, FileError> {
    use rustls::pki_types::pem::Error;
    let bytes = read(named)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|cause| {
        let fault = match cause {
            Error::NoItemsFound => FileFault::NoKey,
            other => FileFault::NotPem(other.to_string()),
        };
        failed(named, fault)
    })
}

/// A chain of certificates and the key of its first.
pub(super) fn pair(cert: Named<'_>, key: Named<'_>) -> Result<CertifiedKey, FileError> {
    let chain = certificates(cert.0, cert.1)?;
    let secret = private_key(key)?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            failed(key, FileFault::Mismatch(cert.1.to_owned()))
        }
        Error::InvalidCertificate(cause) => failed(cert, FileFault::Unusable(cause.to_string())),
        other => failed(key, FileFault::Unusable(other.to_string())),
    })
}
