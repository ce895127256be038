//! Session cookies: `id.until.mac`. Valid sessions are not stored; one that was logged
//! out is remembered until it would have ended.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};

/// A week: a panel on the wall is not asked every morning.
pub(super) const SESSION_TTL_S: u64 = 7 * 24 * 3600;

/// A key that signs nothing but sessions.
pub(super) type SessionKey = [u8; 32];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub(crate) until_s: u64,
}

impl Session {
    pub(crate) fn seal(&self, key: &SessionKey) -> String {
        let mac = URL_SAFE_NO_PAD.encode(mac(key, &self.id, self.until_s).finalize().into_bytes());
        format!("{}.{}.{mac}", self.id, self.until_s)
    }

    /// Returns None unless we signed it and it is valid.
    pub(crate) fn unseal(sealed: &str, key: &SessionKey, now_s: u64) -> Option<Self> {
        let mut parts = sealed.split('.');
        let (id, until, tag, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        let until_s: u64 = until.parse().ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        // Compares in constant time.
        mac(key, id, until_s).verify_slice(&tag).ok()?;
        (now_s < until_s).then(|| Self { id: id.to_owned(), until_s })
    }
}

fn mac(key: &SessionKey, id: &str, until_s: u64) -> Hmac<sha2::Sha256> {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key);
    // HMAC takes keys of any length.
    let mac = mac.expect("a key of 32 bytes fits");
    mac.chain_update(id.as_bytes()).chain_update([0]).chain_update(until_s.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_signed_counts_and_only_until_it_ends() {
        let key = [7; 32];
        let session = Session { id: "abc".into(), until_s: 1000 };
        let sealed = session.seal(&key);
        assert_eq!(Session::unseal(&sealed, &key, 999), Some(session));
        assert_eq!(Session::unseal(&sealed, &key, 1000), None);
        assert_eq!(Session::unseal(&sealed, &[8; 32], 999), None);
        let longer = sealed.replacen("1000", "9000", 1);
        for forged in [&longer, "abc.1000.", "abc.1000", "", "...", &format!("{sealed}.x")] {
            assert_eq!(Session::unseal(forged, &key, 999), None, "{forged}");
        }
    }
}
