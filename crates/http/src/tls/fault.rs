//! Faults of certificate and key files, and how to fix them.

use std::{fmt, io, path::PathBuf};

use edge_mirror_settings::SettingProblem;
use rustls::pki_types::pem;
use thiserror::Error;

/// A file of certificates or keys that can't be used: the setting that names it, and the
/// fix.
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
    NotPem(PemFault),
    KeyKind,
    /// The key belongs to another certificate than this file's.
    Mismatch(PathBuf),
    Unusable(String),
}

/// The way a file is not PEM. The parser's own message quotes the bytes it failed on,
/// which in a key's file are the key's: they must get into no answer or log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFault {
    /// It is truncated, or all on one line.
    NoEnd,
    Start,
    Letters,
}

impl From<pem::Error> for FileFault {
    fn from(error: pem::Error) -> Self {
        Self::NotPem(match error {
            pem::Error::MissingSectionEnd { .. } => PemFault::NoEnd,
            pem::Error::IllegalSectionStart { .. } => PemFault::Start,
            _ => PemFault::Letters,
        })
    }
}

impl PemFault {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NoEnd => (
                "缺少 -----END …----- 一行，可能被截断或少了换行",
                "a line -----END …----- is missing: it was cut short, or lost its line breaks",
            ),
            Self::Start => (
                "-----BEGIN …----- 没有单独成行",
                "a line -----BEGIN …----- does not end where it should",
            ),
            Self::Letters => {
                ("其中有不属于 Base64 的字符", "letters are in it that are none of Base64")
            }
        }
    }
}

impl FileFault {
    fn words(&self) -> (String, String) {
        match self {
            Self::Unreadable(cause) => (
                format!("无法读取（{cause}），请检查路径和权限"),
                format!("it can't be read ({cause}); check the path, and that this service may read it"),
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
            Self::NotPem(how) => {
                let (zh, en) = how.words();
                (
                    format!("不是有效的 PEM 文件（{zh}），请重新复制"),
                    format!("it is no valid PEM file ({en}); copy it anew"),
                )
            }
            Self::KeyKind => (
                "私钥类型不受支持，请使用 RSA（2048 至 8192 位）、ECDSA P-256 或 P-384、Ed25519".to_owned(),
                "it is a kind of key that is not supported; take RSA of 2048 to 8192 bits, \
                 ECDSA P-256 or P-384, or Ed25519".to_owned(),
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
    pub fn problem(&self) -> SettingProblem {
        let (zh, en) = self.fault.words();
        SettingProblem::new(self.setting, Some(&self.path.display().to_string().into()), zh, en)
    }
}
