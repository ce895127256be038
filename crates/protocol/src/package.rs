//! Pure types: names and digests of packages, and what the node knows of a
//! stored one. No disk and no network here.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    str::FromStr,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::object::{MediaType, ObjectKey, Retention, Verification};

/// The end of the year 9999, in seconds since 1970: no HTTP date is later,
/// and `httpdate` panics at one that is.
pub const LATEST_S: u64 = 253_402_300_799;

/// A meeting's id, which is also its package's.
///
/// An id becomes a folder's name as it is and, percent-encoded, a segment of a
/// URL. So it is any text that can't be more than one name: it has no `/`, `\` or
/// control character, and is neither `.` nor `..`, which URLs resolve even if they
/// are encoded. Ids are compared byte by byte, however alike they look.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct PackageId(Arc<str>);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", InvalidId::RULE)]
pub struct InvalidId;

impl InvalidId {
    pub const RULE: &str = r"a meeting id is 1 to 200 bytes of text without control characters, / and \, and not . or ..";
    pub const RULE_ZH: &str =
        r"会议 ID 应为 1 到 200 字节的文本，不含控制字符、/ 和 \，也不是 . 或 ..";
}

impl PackageId {
    /// In bytes. A file name has 255 at most, and packages are saved as
    /// `meeting_{id}_pdfs.zip` or under names that a browser adds a number to.
    pub(crate) const MAX_LEN: usize = 200;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Encodes it as a segment of a URL's path.
    pub fn segment(&self) -> Cow<'_, str> {
        percent_encoded(&self.0)
    }
}

/// Allows look-ups by text: an id hashes and compares as it does.
impl Borrow<str> for PackageId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
        let valid = (1..=Self::MAX_LEN).contains(&text.len())
            && !text.contains(odd)
            && text != "."
            && text != "..";
        valid.then(|| Self(text.into())).ok_or(InvalidId)
    }
}

impl TryFrom<String> for PackageId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl Serialize for PackageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Encodes all but the unreserved characters of RFC 3986, so that no part of a URL or
/// header takes any of the text for its own syntax.
pub fn percent_encoded(text: &str) -> Cow<'_, str> {
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, SET).into()
}

/// Decodes a segment of a URL's path; none if it is not UTF-8.
pub fn percent_decoded(segment: &str) -> Option<Cow<'_, str>> {
    // Most need no decoding; this check costs a fraction of it.
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    percent_decode_str(segment).decode_utf8().ok()
}

/// Thoroughness of the check before a package is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLevel {
    /// The archive's structure and every entry's CRC.
    Full,
    /// The archive's structure only.
    Structure,
}

/// A SHA-256, written as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256([u8; Sha256::BYTES]);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a digest of {} hexadecimal digits", 2 * Sha256::BYTES)]
pub struct InvalidDigest;

impl Sha256 {
    const BYTES: usize = 32;

    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Without an allocation: a status page has ten thousand of them.
    fn digits(&self) -> [u8; 2 * Self::BYTES] {
        let digit = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
        let mut digits = [0; 2 * Self::BYTES];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
        }
        digits
    }

    pub fn base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }
}

impl FromStr for Sha256 {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        if text.len() != 2 * Self::BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidDigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads the SHA-256 out of a `Repr-Digest` or `Content-Digest` value
/// (RFC 9530: `sha-256=:BASE64:`, among others).
pub fn sha256_of_field(value: &str) -> Option<Sha256> {
    value.split(',').find_map(|member| {
        let (name, value) = member.trim().split_once('=')?;
        let encoded = value.trim().strip_prefix(':')?.split(':').next()?;
        let bytes = BASE64_STANDARD.decode(encoded).ok()?;
        name.trim().eq_ignore_ascii_case("sha-256").then(|| bytes.try_into().ok().map(Sha256))?
    })
}

/// Validators by which the main server tells versions of a package apart.
///
/// Kept exactly as they were sent: the real main server's `ETag` is
/// unquoted and must be sent back so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validators {
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// True if both sides carry a validator of the same kind and all that can be
    /// compared is equal. False if there is nothing to compare.
    pub fn same_version(&self, other: &Self) -> bool {
        let compare = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => Some(a == b),
            (None, _) | (_, None) => None,
        };
        let etags = compare(&self.etag, &other.etag);
        let dates = compare(&self.last_modified, &other.last_modified);
        etags.or(dates).is_some() && etags != Some(false) && dates != Some(false)
    }
}

/// Origin of a package's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageRoute {
    /// The static file that the main server offers as `package_url`.
    PackageUrl,
    /// `download-package-direct`.
    Direct,
    /// Found on disk without a manifest, left by another node.
    Adopted,
    /// Uploaded to this machine (the embedded main server's own packages).
    Upload,
    /// A file of a task.
    Dispatch,
}

/// Source of a package, and its version there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSource {
    pub route: PackageRoute,
    /// Base URL of the main server; none for adopted and uploaded packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(default)]
    pub validators: Validators,
}

/// Identity of the file that a manifest describes; any difference means that the
/// file is another one and has to be verified again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    pub size_bytes: u64,
    pub inode: u64,
    pub mtime_ns: i128,
}

/// Facts about a verified object; stored beside it as JSON.
///
/// Those with a default were added later: manifests without them are of packages, and
/// nodes that don't know them read packages' manifests all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(rename = "id")]
    pub key: ObjectKey,
    pub title: String,
    pub size_bytes: u64,
    /// Number of files in the archive; of anything else, one.
    pub file_count: u64,
    pub sha256: Sha256,
    pub source: PackageSource,
    /// Date of this version in seconds since 1970: the main server's if it gave one.
    /// Later than that of the version that it replaced, but a package that was removed
    /// meanwhile may come back with any date.
    #[serde(deserialize_with = "time_s")]
    pub modified_s: u64,
    /// Seconds since 1970 when these bytes were verified.
    #[serde(deserialize_with = "time_s")]
    pub verified_s: u64,
    /// Last time that they were read again, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reread_s: Option<u64>,
    pub file: FileStamp,
    #[serde(default)]
    pub media_type: MediaType,
    #[serde(default)]
    pub verification: Verification,
    #[serde(default)]
    pub retention: Retention,
    /// Clients get nothing of it: its meeting has not been started, or it is a file for
    /// operators alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
}

/// Limits a time, as the file may have been edited and times are computed with and
/// written as dates.
fn time_s<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    u64::deserialize(input).map(|at_s| at_s.min(LATEST_S))
}

impl Manifest {
    /// Returns when the bytes were last read and found good.
    pub fn read_s(&self) -> u64 {
        self.reread_s.unwrap_or(0).max(self.verified_s)
    }

    /// The strong validator: the same on every node that holds these bytes.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    #[test]
    fn an_id_is_any_text_that_is_one_name() {
        let (most, chinese) = ("x".repeat(200), "会".repeat(66));
        for good in [
            "1",
            "a.b",
            "A_b-9",
            "...",
            "会议1",
            "a b",
            " ",
            "m#1",
            "50%",
            "%2e%2E",
            "x%2Fy",
            "a?b",
            "\u{fc}",
            "u\u{308}",
            "~",
            "\u{1f600}",
            &most,
            &chinese,
        ] {
            let id = good.parse::<PackageId>().unwrap();
            let segment = id.segment();
            assert_eq!(percent_decoded(&segment).unwrap(), good);
            let url = url::Url::parse(&format!("http://a/b/{segment}/c")).unwrap();
            assert_eq!(url.path(), format!("/b/{segment}/c"), "it stays as it is");
        }
        let (long, long_chinese) = ("x".repeat(201), "会".repeat(67));
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "a\\b",
            "a\0",
            "a\n",
            "\t",
            "a\u{7f}",
            "a\u{85}",
            &long,
            &long_chinese,
        ] {
            assert_eq!(bad.parse::<PackageId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn a_segment_is_decoded_once_or_is_no_text() {
        for (segment, text) in [
            ("m1", Some("m1")),
            ("%E4%BC%9A1", Some("会1")),
            ("会1", Some("会1")),
            ("a%20b+c", Some("a b+c")),
            ("%252e", Some("%2e")),
            ("50%", Some("50%")),
            ("a%2Fb", Some("a/b")),
            ("%ff", None),
        ] {
            assert_eq!(percent_decoded(segment).as_deref(), text, "{segment}");
        }
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Sha256::new(std::array::from_fn(|i| i as u8));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("+f".repeat(32).parse::<Sha256>().is_err());
        assert!("00".parse::<Sha256>().is_err());
    }

    #[test]
    fn a_manifest_with_facts_that_are_no_longer_kept_is_still_read() {
        let mut old = serde_json::to_value(manifest()).unwrap();
        old["md5"] = "900150983cd24fb0d6963f7d28e17f72".into();
        assert_eq!(serde_json::from_value::<Manifest>(old).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_from_before_there_were_files_is_read_and_a_package_still_writes_its_fields() {
        let old = r#"{"id":"m","title":"","size_bytes":10,"file_count":0,"sha256":"0101010101010101010101010101010101010101010101010101010101010101","source":{"route":"direct","validators":{}},"modified_s":1700000000,"verified_s":1700000000,"file":{"size_bytes":10,"inode":1,"mtime_ns":0}}"#;
        assert_eq!(serde_json::from_str::<Manifest>(old).unwrap(), manifest());

        let serde_json::Value::Object(mut new) = serde_json::to_value(manifest()).unwrap() else {
            panic!("a manifest is an object");
        };
        for (field, written) in [
            ("media_type", serde_json::json!("application/zip")),
            ("verification", serde_json::json!({"zip": "full"})),
            ("retention", serde_json::json!("meeting")),
        ] {
            assert_eq!(new.remove(field), Some(written));
        }
        assert_eq!(serde_json::from_str::<serde_json::Value>(old).unwrap(), serde_json::json!(new));
    }

    #[test]
    fn a_manifest_of_a_file_reads_what_it_writes() {
        let file = Manifest {
            key: "t/a.pdf".parse().unwrap(),
            media_type: "application/pdf".to_owned().try_into().unwrap(),
            verification: Verification::Digest,
            retention: Retention::Until(7),
            ..manifest()
        };
        let json = serde_json::to_value(&file).unwrap();
        assert_eq!(json["retention"], serde_json::json!({"until": 7}));
        assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), file);
    }

    #[test]
    fn a_time_in_a_manifest_is_one_that_can_be_written_as_a_date() {
        for (at_s, read) in
            [(1, 1), (LATEST_S, LATEST_S), (LATEST_S + 1, LATEST_S), (u64::MAX, LATEST_S)]
        {
            let mut edited = serde_json::to_value(manifest()).unwrap();
            (edited["modified_s"], edited["verified_s"]) = (at_s.into(), at_s.into());
            let manifest = serde_json::from_value::<Manifest>(edited).unwrap();
            assert_eq!((manifest.modified_s, manifest.verified_s), (read, read));
        }
    }

    #[test]
    fn a_digest_field_is_found_among_others() {
        let digest = Sha256::new([7; 32]);
        let field = format!("sha-512=:AAAA:, sha-256=:{}:", digest.base64());
        assert_eq!(sha256_of_field(&field), Some(digest));
        assert_eq!(sha256_of_field("sha-256=:AAAA:"), None);
        assert_eq!(sha256_of_field("nonsense"), None);
    }

    #[test]
    fn versions_are_the_same_only_when_something_says_so() {
        let v = |etag: Option<&str>, date: Option<&str>| Validators {
            etag: etag.map(Into::into),
            last_modified: date.map(Into::into),
        };
        assert!(v(Some("a"), Some("d")).same_version(&v(Some("a"), Some("d"))));
        assert!(v(None, Some("d")).same_version(&v(Some("a"), Some("d"))));
        assert!(!v(Some("a"), Some("d")).same_version(&v(Some("a"), Some("e"))));
        assert!(!v(Some("a"), None).same_version(&v(Some("b"), None)));
        assert!(!v(None, None).same_version(&v(None, None)));
        assert!(!v(Some("a"), None).same_version(&v(None, Some("d"))));
    }
}

#[cfg(feature = "openapi")]
mod openapi {
    //! Schemas of the two texts, for the API's description.

    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{PackageId, Sha256};

    impl JsonSchema for PackageId {
        fn schema_name() -> Cow<'static, str> {
            "PackageId".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string", "minLength": 1, "maxLength": Self::MAX_LEN,
                "pattern": r"^[^/\\\x00-\x1F\x7F-\x9F]+$", "not": {"enum": [".", ".."]},
                "examples": ["m1"],
                "description": "A meeting's id, which is also its package's; at most 200 bytes of UTF-8.",
            })
        }
    }

    impl JsonSchema for Sha256 {
        fn schema_name() -> Cow<'static, str> {
            "Sha256".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
        }
    }
}
