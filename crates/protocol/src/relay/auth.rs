//! The authentication scheme of requests between nodes (RFC 9110, 11).
//!
//! A child that sends the scheme alone gets a challenge with a nonce. Its credentials
//! answer it: a MAC, made with the key that the fleet shares, over the nonce, both
//! addresses, the package or file, and its version. `Authentication-Info` (RFC 7615) of the
//! answer proves the same of the parent, with a nonce of the child's, and covers what
//! the parent says of itself. So neither is of use to anybody else, or twice.

use std::{fmt, str::FromStr, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256 as Hasher};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::{
    object::ObjectKey,
    package::{Manifest, Sha256, Validators, percent_decoded, percent_encoded},
};

pub const SCHEME: &str = "Edge-Mirror-Relay";
/// Names the parent's state in its answers.
pub const STATE_HEADER: &str = "edge-mirror-relay";
/// Most nodes between one and the main server that are named. Trees are far flatter, and
/// a chain of more is too slow.
pub const MAX_PATH: usize = 64;

/// The secret that the nodes of a fleet share.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayKey(Arc<str>);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a relay key is 16 to 256 visible ASCII characters")]
pub struct InvalidRelayKey;

impl RelayKey {
    pub const CHARS: std::ops::RangeInclusive<usize> = 16..=256;

    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn mac(&self, label: &str, fields: &[&str]) -> Sha256 {
        let mac = Hmac::<Hasher>::new_from_slice(self.0.as_bytes());
        let mut mac = mac.expect("a key of any length will do");
        for field in [label].iter().chain(fields) {
            // With its length, so that no two lists of fields are the same bytes.
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        Sha256::new(mac.finalize().into_bytes().into())
    }
}

impl FromStr for RelayKey {
    type Err = InvalidRelayKey;

    fn from_str(text: &str) -> Result<Self, InvalidRelayKey> {
        let good = Self::CHARS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        good.then(|| Self(text.into())).ok_or(InvalidRelayKey)
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKey(…)")
    }
}

/// Identifies a version of a package before either side has all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PackageVersion {
    /// The digest that our main server announced.
    Digest(Sha256),
    /// A main server's validators and length.
    Validators(Sha256),
    /// The token after which the pull began, at a main server without validators.
    Token(Sha256),
}

impl PackageVersion {
    /// None if there is nothing that tells versions apart.
    pub fn from_validators(validators: &Validators, length: Option<u64>) -> Option<Self> {
        let length = length.filter(|_| !validators.is_empty())?.to_string();
        let mut hasher = Hasher::new();
        for field in
            [validators.etag.as_deref(), validators.last_modified.as_deref(), Some(&length)]
        {
            let field = field.unwrap_or_default();
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field.as_bytes());
        }
        Some(Self::Validators(Sha256::new(hasher.finalize().into())))
    }

    /// `origin` is the main server's base URL.
    pub fn from_token(origin: &str, token: &str) -> Self {
        let mut hasher = Hasher::new_with_prefix((origin.len() as u64).to_be_bytes());
        hasher.update(origin.as_bytes());
        hasher.update(token.as_bytes());
        Self::Token(Sha256::new(hasher.finalize().into()))
    }

    /// True if a stored package is of this version. Its manifest says nothing of tokens.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        match self {
            Self::Digest(sha256) => manifest.sha256 == *sha256,
            Self::Validators(_) => {
                let validators = &manifest.source.validators;
                Self::from_validators(validators, Some(manifest.size_bytes)).as_ref() == Some(self)
            }
            Self::Token(_) => false,
        }
    }

    /// The digest, where that is what identifies it.
    pub fn digest(&self) -> Option<Sha256> {
        match self {
            Self::Digest(sha256) => Some(*sha256),
            Self::Validators(_) | Self::Token(_) => None,
        }
    }
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(sha256) => write!(f, "sha-256:{sha256}"),
            Self::Validators(hash) => write!(f, "validators:{hash}"),
            Self::Token(hash) => write!(f, "token:{hash}"),
        }
    }
}

impl FromStr for PackageVersion {
    type Err = InvalidHeader;

    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        let (kind, hash) = text.split_once(':').ok_or(InvalidHeader)?;
        let hash = hash.parse().map_err(|_| InvalidHeader)?;
        match kind {
            "sha-256" => Ok(Self::Digest(hash)),
            "validators" => Ok(Self::Validators(hash)),
            "token" => Ok(Self::Token(hash)),
            _ => Err(InvalidHeader),
        }
    }
}

/// A field of the scheme that can't be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a header of {SCHEME}")]
pub struct InvalidHeader;

/// The subject of a request between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRequest {
    pub child_id: String,
    /// `host:port` of each side, as the child knows them.
    pub child_address: String,
    pub parent_address: String,
    pub version: PackageVersion,
    /// Nonce of the parent, and of the child.
    pub nonce: String,
    pub cnonce: String,
}

/// Contents of `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayCredentials {
    /// The scheme alone: asks for a challenge.
    Challenge,
    Proof {
        request: RelayRequest,
        mac: Sha256,
    },
}

/// State of a parent's copy of the package; contents of [`STATE_HEADER`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentState {
    /// The parent itself: the list that it was found in may name it otherwise.
    pub node_id: String,
    /// The place where it is; empty if it has no name, or it is of the version before.
    pub site: String,
    /// Bytes of the package that it has.
    pub received_bytes: u64,
    pub children: u32,
    /// The nodes that its own bytes come through, the nearest first.
    pub path: Vec<String>,
    /// Digest of the whole, once it is known to be right.
    pub sha256: Option<Sha256>,
}

impl RelayRequest {
    fn fields<'a>(&'a self, key: &'a ObjectKey, version: &'a str) -> [&'a str; 7] {
        let Self { child_id, child_address, parent_address, nonce, cnonce, .. } = self;
        [nonce, cnonce, child_id, child_address, parent_address, key.as_str(), version]
    }

    /// Proof of the child.
    pub fn sign(&self, secret: &RelayKey, key: &ObjectKey) -> Sha256 {
        secret.mac("child 1", &self.fields(key, &self.version.to_string()))
    }

    /// Proof of the parent, over its answer. `certificate` is that of the connection.
    pub fn sign_answer(
        &self,
        secret: &RelayKey,
        key: &ObjectKey,
        status: u16,
        state: &str,
        certificate: Option<Sha256>,
    ) -> Sha256 {
        let version = self.version.to_string();
        let (status, certificate) =
            (status.to_string(), certificate.map_or(String::new(), |sha256| sha256.to_string()));
        let fields = self.fields(key, &version);
        let answer = [&*status, state, &*certificate];
        secret.mac("parent 1", &[&fields[..], &answer[..]].concat())
    }
}

/// True if both are equal, in a time that tells nothing.
pub fn is_same_mac(a: Sha256, b: Sha256) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

impl RelayCredentials {
    /// Reads `Authorization`; none if it is of another scheme.
    pub fn parse(value: &str) -> Option<Result<Self, InvalidHeader>> {
        let (scheme, params) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        if params.trim().is_empty() {
            return Some(Ok(Self::Challenge));
        }
        Some(Self::from_params(&Params::parse(params)))
    }

    fn from_params(params: &Params) -> Result<Self, InvalidHeader> {
        let request = RelayRequest {
            child_id: params.text("node")?,
            child_address: params.text("address")?,
            parent_address: params.text("parent")?,
            version: params.text("version")?.parse()?,
            nonce: params.text("nonce")?,
            cnonce: params.text("cnonce")?,
        };
        let mac = params.text("mac")?.parse().map_err(|_| InvalidHeader)?;
        Ok(Self::Proof { request, mac })
    }
}

impl fmt::Display for RelayCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Proof { request, mac } = self else { return f.write_str(SCHEME) };
        let quoted = percent_encoded;
        write!(
            f,
            r#"{SCHEME} node="{}", address="{}", parent="{}", version="{}", nonce="{}", cnonce="{}", mac="{mac}""#,
            quoted(&request.child_id),
            quoted(&request.child_address),
            quoted(&request.parent_address),
            request.version,
            quoted(&request.nonce),
            quoted(&request.cnonce),
        )
    }
}

/// Contents of `WWW-Authenticate`.
pub fn challenge(nonce: &str) -> String {
    format!(r#"{SCHEME} nonce="{nonce}""#)
}

/// Reads the nonce of a challenge; none if it is none of ours.
pub fn nonce_of_challenge(value: &str) -> Option<String> {
    let (scheme, params) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| Params::parse(params).text("nonce").ok())?
}

/// Contents of `Authentication-Info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerProof {
    pub mac: Sha256,
    /// Nonce for the next request.
    pub next_nonce: String,
}

impl fmt::Display for AnswerProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"mac="{}", nextnonce="{}""#, self.mac, self.next_nonce)
    }
}

impl FromStr for AnswerProof {
    type Err = InvalidHeader;

    fn from_str(value: &str) -> Result<Self, InvalidHeader> {
        let params = Params::parse(value);
        let mac = params.text("mac")?.parse().map_err(|_| InvalidHeader)?;
        Ok(Self { mac, next_nonce: params.text("nextnonce")? })
    }
}

impl fmt::Display for ParentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<_> =
            self.path.iter().take(MAX_PATH).map(|node| percent_encoded(node)).collect();
        write!(f, r#"node="{}", "#, percent_encoded(&self.node_id))?;
        if !self.site.is_empty() {
            write!(f, r#"site="{}", "#, percent_encoded(&self.site))?;
        }
        write!(f, "received={}, children={}", self.received_bytes, self.children)?;
        write!(f, r#", path="{}""#, path.join(" "))?;
        self.sha256.map_or(Ok(()), |sha256| write!(f, r#", sha256="{sha256}""#))
    }
}

impl FromStr for ParentState {
    type Err = InvalidHeader;

    fn from_str(value: &str) -> Result<Self, InvalidHeader> {
        let params = Params::parse(value);
        let number = |name| params.raw(name)?.parse().map_err(|_| InvalidHeader);
        let nodes = params.raw("path")?.split(' ').filter(|node| !node.is_empty());
        let node = |text: &str| percent_decoded(text).map(Into::into).ok_or(InvalidHeader);
        let path: Result<Vec<_>, _> = nodes.take(MAX_PATH).map(node).collect();
        let sha256 = params.raw("sha256").ok();
        Ok(Self {
            node_id: params.text("node")?,
            site: params.text("site").unwrap_or_default(),
            received_bytes: number("received")?,
            children: number("children")?.try_into().map_err(|_| InvalidHeader)?,
            path: path?,
            sha256: sha256.map(str::parse).transpose().map_err(|_| InvalidHeader)?,
        })
    }
}

/// A list of `name=value` or `name="value"` (RFC 9110, 11.2), all values of which are
/// percent-encoded, so that none has a comma or a quotation mark.
struct Params<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Params<'a> {
    fn parse(text: &'a str) -> Self {
        let params = text.split(',').filter_map(|param| param.trim().split_once('='));
        Self(params.map(|(name, value)| (name, value.trim_matches('"'))).collect())
    }

    fn raw(&self, name: &str) -> Result<&'a str, InvalidHeader> {
        let found = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value).ok_or(InvalidHeader)
    }

    fn text(&self, name: &str) -> Result<String, InvalidHeader> {
        percent_decoded(self.raw(name)?).map(Into::into).ok_or(InvalidHeader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> RelayKey {
        text.parse().unwrap()
    }

    fn request() -> RelayRequest {
        RelayRequest {
            child_id: "node-\"会\", a".into(),
            child_address: "[fd00::1]:8001".into(),
            parent_address: "10.0.0.2:8001".into(),
            version: PackageVersion::Digest(Sha256::new([7; 32])),
            nonce: "n1".into(),
            cnonce: "c1".into(),
        }
    }

    #[test]
    fn a_key_is_16_to_256_visible_characters() {
        for (text, good) in [
            ("x".repeat(15), false),
            ("x".repeat(16), true),
            ("x".repeat(256), true),
            ("x".repeat(257), false),
            (format!("{} ", "x".repeat(16)), false),
            ("会".repeat(16), false),
        ] {
            assert_eq!(text.parse::<RelayKey>().is_ok(), good, "{text}");
        }
        assert!(!format!("{:?}", key("0123456789abcdef")).contains("0123"));
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        let (request, key) = (request(), key("0123456789abcdef"));
        let mac = request.sign(&key, &"m".parse().unwrap());
        let proof = RelayCredentials::Proof { request, mac };
        assert_eq!(RelayCredentials::parse(&proof.to_string()), Some(Ok(proof)));
        let bare = RelayCredentials::Challenge;
        assert_eq!(RelayCredentials::parse(&bare.to_string()), Some(Ok(bare)));
        assert_eq!(RelayCredentials::parse("Bearer x"), None);
        assert_eq!(RelayCredentials::parse(&format!("{SCHEME} x")), Some(Err(InvalidHeader)));
        assert_eq!(nonce_of_challenge(&challenge("abc")).as_deref(), Some("abc"));
        assert_eq!(nonce_of_challenge("Basic realm=\"x\""), None);
        let info = AnswerProof { mac, next_nonce: "n2".into() };
        assert_eq!(info.to_string().parse(), Ok(info));
        for state in [
            ParentState::default(),
            ParentState {
                node_id: "b \", 会".into(),
                site: "Hall 1, 会".into(),
                received_bytes: u64::MAX,
                children: 3,
                path: vec!["a b".into(), "会,\"".into()],
                sha256: Some(mac),
            },
        ] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        for bad in [
            "",
            "received=1",
            "received=1, children=0, path=\"\"",
            "node=\"a\", received=-1, children=0, path=\"\"",
            "node=\"a\", received=1, children=4294967296, path=\"\"",
        ] {
            assert_eq!(bad.parse::<ParentState>(), Err(InvalidHeader), "{bad}");
        }
    }

    #[test]
    fn a_proof_is_of_one_request_with_one_key() {
        let (good, fleet, id) = (request(), key("0123456789abcdef"), "m".parse().unwrap());
        let child = good.sign(&fleet, &id);
        let answer = |request: &RelayRequest, status, state, certificate| {
            request.sign_answer(&fleet, &id, status, state, certificate)
        };
        let parent = answer(&good, 200, "s", None);
        assert!(is_same_mac(child, good.clone().sign(&fleet, &id)) && child != parent);
        assert_ne!(child, good.sign(&key("0123456789abcdeX"), &id));
        assert_ne!(child, good.sign(&fleet, &"n".parse().unwrap()));
        type Change = fn(&mut RelayRequest);
        let changes: [Change; 6] = [
            |r| r.child_id = "x".into(),
            |r| r.child_address = "x".into(),
            |r| r.parent_address = "x".into(),
            |r| r.version = PackageVersion::Token(Sha256::new([7; 32])),
            |r| r.nonce = "x".into(),
            // No byte may move from one field to the next.
            |r| (r.nonce, r.cnonce) = ("n".into(), "1c1".into()),
        ];
        for change in changes {
            let mut other = good.clone();
            change(&mut other);
            assert_ne!(other.sign(&fleet, &id), child, "{other:?}");
            assert_ne!(answer(&other, 200, "s", None), parent, "{other:?}");
        }
        for other in [
            answer(&good, 206, "s", None),
            answer(&good, 200, "t", None),
            answer(&good, 200, "s", Some(child)),
        ] {
            assert_ne!(other, parent);
        }
    }

    #[test]
    fn versions_are_told_apart() {
        let validators = |etag: Option<&str>, date: Option<&str>| Validators {
            etag: etag.map(Into::into),
            last_modified: date.map(Into::into),
        };
        let of =
            |etag, date, length| PackageVersion::from_validators(&validators(etag, date), length);
        assert_eq!(of(None, None, Some(1)), None);
        assert_eq!(of(Some("a"), None, None), None);
        let all = [
            of(Some("a"), None, Some(1)).unwrap(),
            of(None, Some("a"), Some(1)).unwrap(),
            of(Some("a"), None, Some(2)).unwrap(),
            of(Some("a1"), None, Some(1)).unwrap(),
            PackageVersion::from_token("http://a", "b"),
            PackageVersion::from_token("http://ab", ""),
            PackageVersion::Digest(Sha256::new([1; 32])),
        ];
        for (at, version) in all.iter().enumerate() {
            assert_eq!(version.to_string().parse::<PackageVersion>().as_ref(), Ok(version));
            assert!(!all[..at].contains(version), "{version}");
        }
    }
}
