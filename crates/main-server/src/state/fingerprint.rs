//! Tells a request that is repeated from another one with the same key.

use edge_mirror_protocol::package::Sha256;
use serde::Serialize;
use sha2::{Digest, Sha256 as Hasher};

/// Returns a digest that only requests with the same content have.
pub(crate) fn fingerprint(request: &impl Serialize) -> String {
    // Text keys alone: it can't fail.
    let text = serde_json::to_vec(request).unwrap_or_default();
    Sha256::new(Hasher::digest(text).into()).to_string()
}
