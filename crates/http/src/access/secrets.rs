//! Content of the access file: digests of token, codes and the nodes' key, ended
//! sessions, and the key that signs sessions. Whoever reads that key could forge a
//! session until the next new token, so only the file's owner may. Tokens and codes are
//! random and long: a plain SHA-256 is enough, they can't be guessed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use edge_mirror_base::clock::now_s;
use edge_mirror_protocol::package::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use subtle::ConstantTimeEq;

use super::{VaultError, session::SessionKey};

/// Time after which an unused one-time code expires.
const CODE_TTL_S: u64 = 3600;
/// Each is 100 bytes in a file that is read whole.
const MAX_CODES: usize = 32;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct AccessSecrets {
    pub(crate) token_sha256: Sha256,
    /// Part of the cookie's name: a host's nodes share a browser's cookies.
    pub(crate) realm: String,
    pub(crate) session_key: String,
    #[serde(default)]
    pub codes: Vec<LoginCode>,
    #[serde(default)]
    pub ended: Vec<EndedSession>,
    /// The key that nodes send to a main server that requires one.
    #[serde(default)]
    pub(crate) node_key_sha256: Option<Sha256>,
    /// The text that the main servers had that share this file, when it was last merged; empty
    /// if the file is a new one by an operator's wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shared: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct LoginCode {
    pub sha256: Sha256,
    pub(crate) until_s: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct EndedSession {
    pub id: String,
    pub(crate) until_s: u64,
}

impl AccessSecrets {
    pub(super) fn generate() -> Result<(Self, String), VaultError> {
        let token = random_text()?;
        let secrets = Self {
            token_sha256: digest(&token),
            realm: random::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect(),
            session_key: URL_SAFE_NO_PAD.encode(random::<32>()?),
            codes: Vec::new(),
            ended: Vec::new(),
            node_key_sha256: None,
            shared: None,
        };
        Ok((secrets, token))
    }

    /// Accepts this code once, within the hour.
    pub(super) fn add_code(&mut self, code: &str) {
        if self.codes.len() >= MAX_CODES {
            self.codes.remove(0);
        }
        self.codes.push(LoginCode { sha256: digest(code), until_s: now_s() + CODE_TTL_S });
    }

    pub(super) fn to_text(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string_pretty(self).expect("secrets serialize")
    }

    /// The part that is shared itself.
    pub(super) fn without_shared(&self) -> Self {
        Self { shared: None, ..self.clone() }
    }

    pub(super) fn key(&self) -> Option<SessionKey> {
        URL_SAFE_NO_PAD.decode(&self.session_key).ok()?.try_into().ok()
    }

    pub(super) fn remove_expired(&mut self) {
        let now_s = now_s();
        self.codes.retain(|code| now_s < code.until_s);
        self.ended.retain(|ended| now_s < ended.until_s);
    }
}

pub(super) fn cookie_name(secrets: &AccessSecrets) -> String {
    format!("edge_mirror_{}", secrets.realm)
}

pub(super) fn digest(text: &str) -> Sha256 {
    Sha256::new(sha2::Sha256::digest(text).into())
}

pub(super) fn constant_time_eq(one: Sha256, other: Sha256) -> bool {
    one.as_bytes()[..].ct_eq(&other.as_bytes()[..]).into()
}

/// Returns 256 random bits, as text for a link or a header.
pub fn random_text() -> Result<String, VaultError> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(VaultError::NoRandomness)?;
    Ok(bytes)
}
