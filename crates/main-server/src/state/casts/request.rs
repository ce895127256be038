//! Reads what operators send, and refuses what can't be cast.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::percent_encoded;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CastDetails, CastId, CastLimits, CastOrigin, CastPriority, KeptCast};
use crate::{
    refusal::RequestError,
    state::{
        destinations::{Audience, Destinations, UnusableDestinations},
        fingerprint::fingerprint,
    },
};

pub(crate) const MAX_TOPIC: usize = 200;
const MAX_KEY: usize = 200;
/// A cast expires after this time if its sender does not say when.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Levels of a JSON body: it has to be read by whoever gets it, within other objects.
const MAX_DEPTH: usize = 64;
/// Bytes of the lists of nodes in one request, about: far more than one list of all nodes of
/// a fleet.
const MAX_AUDIENCES: usize = 4 << 20;
const TOO_MANY_AUDIENCES: &str = "这些消息的目标组合太多、太大，请分几次发送 / these casts go to too many different, large groups of nodes: send them in several requests";
/// Bytes of a cast beside its texts, about.
const ROW_BYTES: usize = 128;

/// A cast as its sender writes it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NewCast"))]
#[serde(deny_unknown_fields)]
pub(crate) struct CastRequest {
    /// Consumers choose by it, and get the casts of one topic in order.
    topic: String,
    /// A text, or any JSON, of at most 4 KiB.
    body: Value,
    to: Destinations,
    #[serde(default)]
    priority: CastPriority,
    /// Seconds for which nodes that are away can still get it; a day if absent.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1)))]
    expires_in_s: Option<u64>,
    /// The same as a time, in seconds since 1970.
    #[serde(default)]
    expires_at: Option<f64>,
    /// The same cast with the same key is sent once, however often it is posted.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1, max = 200)))]
    key: Option<String>,
}

/// A live cast as its sender writes it.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "read as a cast, and refused with what it can't have")]
#[schemars(deny_unknown_fields)]
pub(crate) struct LiveCastRequest {
    topic: String,
    /// A text, or any JSON, of at most 4 KiB.
    body: Value,
    to: Destinations,
    #[schemars(default)]
    priority: CastPriority,
}

/// A cast that can be saved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewCast {
    pub(crate) topic: String,
    /// JSON.
    pub(crate) body: String,
    pub(crate) at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    /// Empty: there is none.
    pub(crate) key: String,
    pub(crate) audience: Arc<Audience>,
    pub(crate) audience_name: Arc<str>,
    pub(crate) details: CastDetails,
}

impl NewCast {
    /// The cast once it is saved under this id.
    pub(crate) fn kept(&self, id: &CastId) -> KeptCast {
        let cast = self.clone();
        KeptCast {
            seq: id.seq,
            stream: id.stream.clone(),
            at: cast.at,
            expires_at: cast.expires_at,
            cancelled_at: None,
            bytes: cast.bytes() as u64,
            audience: cast.audience_name,
            topic: cast.topic,
            key: cast.key,
            details: cast.details,
            body: cast.body,
        }
    }

    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.body.len() + self.key.len() + ROW_BYTES
    }
}

type NamedAudience = (Arc<str>, Arc<Audience>);

/// Reads casts; `resolve` knows the nodes. Of several, the error says which one is wrong.
pub(crate) fn read_casts(
    casts: Vec<Map<String, Value>>,
    limits: &CastLimits,
    origin: &CastOrigin,
    now: UnixMillis,
    resolve: impl Fn(&Destinations) -> Result<Audience, UnusableDestinations>,
) -> Result<Vec<NewCast>, RequestError> {
    let count = casts.len();
    if count == 0 || count as u64 > limits.max_batch {
        return Err(RequestError::Invalid(format!(
            "一次最多发送 {0} 条消息，至少 1 条 / from 1 to {0} casts can be sent at once",
            limits.max_batch
        )));
    }
    let mut audiences = HashMap::<Destinations, NamedAudience>::new();
    let mut audience_bytes = 0;
    let mut read = Vec::with_capacity(count);
    for (place, cast) in casts.into_iter().enumerate() {
        let cast = CastRequest::read(cast, limits, now).and_then(|(request, expires_at)| {
            let audience = match audiences.get(&request.to) {
                Some(audience) => audience.clone(),
                None => {
                    let audience = resolve(&request.to).map_err(|error| error.to_string())?;
                    audience_bytes += audience.bytes();
                    if audience_bytes > MAX_AUDIENCES {
                        return Err(TOO_MANY_AUDIENCES.to_owned());
                    }
                    let audience = (Arc::from(audience.name()), Arc::new(audience));
                    audiences.insert(request.to.clone(), audience.clone());
                    audience
                }
            };
            Ok(request.into_cast(origin, now, expires_at, audience))
        });
        let numbered = |text: String| match count {
            1 => text,
            _ => format!("第 {0} 条 / cast {0}: {text}", place + 1),
        };
        read.push(cast.map_err(|text| RequestError::Invalid(numbered(text)))?);
    }
    Ok(read)
}

/// The same of live casts, which expire within seconds.
pub(crate) fn read_live_casts(
    mut casts: Vec<Map<String, Value>>,
    limits: &CastLimits,
    origin: &CastOrigin,
    now: UnixMillis,
    resolve: impl Fn(&Destinations) -> Result<Audience, UnusableDestinations>,
) -> Result<Vec<NewCast>, RequestError> {
    for cast in &mut casts {
        for field in ["key", "expires_in_s", "expires_at"] {
            if cast.contains_key(field) {
                return Err(RequestError::Invalid(format!(
                    "实时消息不能有 {field} / a live cast has no {field}"
                )));
            }
        }
        cast.insert("expires_in_s".to_owned(), limits.live_for.as_secs().into());
    }
    let limits = CastLimits { max_lifetime: limits.live_for, ..*limits };
    read_casts(casts, &limits, origin, now, resolve)
}

impl CastRequest {
    fn read(
        cast: Map<String, Value>,
        limits: &CastLimits,
        now: UnixMillis,
    ) -> Result<(Self, UnixMillis), String> {
        let request: Self = serde_json::from_value(Value::Object(cast))
            .map_err(|error| format!("消息格式错误 / the cast is malformed: {error}"))?;
        check_name(&request.topic, "topic", MAX_TOPIC)?;
        if let Some(key) = &request.key {
            check_name(key, "key", MAX_KEY)?;
        }
        check_body(&request.body, limits.max_body)?;
        let expires_at = request.expires_at(limits, now)?;
        Ok((request, expires_at))
    }

    fn expires_at(&self, limits: &CastLimits, now: UnixMillis) -> Result<UnixMillis, String> {
        let expires_at = match (self.expires_in_s, self.expires_at) {
            (Some(_), Some(_)) => {
                return Err("expires_in_s 和 expires_at 只能填写一个 / expires_in_s and \
                            expires_at are the same, name one of them"
                    .to_owned());
            }
            (Some(seconds), None) => now + Duration::from_secs(seconds.min(u64::from(u32::MAX))),
            (None, Some(at)) => UnixMillis::from_secs_f64(at),
            (None, None) => now + DEFAULT_LIFETIME.min(limits.max_lifetime),
        };
        if expires_at <= now {
            return Err("消息已过期 / the cast has expired already".to_owned());
        }
        if expires_at.saturating_since(now) > limits.max_lifetime {
            let days = limits.max_lifetime.as_secs_f64() / 86_400.0;
            return Err(format!(
                "有效期最长 {days:.1} 天 / a cast expires after {days:.1} days at most"
            ));
        }
        Ok(expires_at)
    }

    fn into_cast(
        self,
        origin: &CastOrigin,
        at: UnixMillis,
        expires_at: UnixMillis,
        (audience_name, audience): NamedAudience,
    ) -> NewCast {
        let fingerprint = match &self.key {
            Some(_) => fingerprint(&self),
            None => String::new(),
        };
        let Self { topic, body, to, priority, key, .. } = self;
        let CastOrigin { by, from } = origin.clone();
        let key = key.map(|key| scoped_key(from.as_deref(), key)).unwrap_or_default();
        let details = CastDetails { to, priority, by, from, fingerprint };
        NewCast {
            topic,
            body: body.to_string(),
            at,
            expires_at,
            key,
            audience,
            audience_name,
            details,
        }
    }
}

/// A key that no other node's and no operator's cast has: keys have no line breaks.
fn scoped_key(from: Option<&str>, key: String) -> String {
    match from {
        Some(node) => format!("{}\n{key}", percent_encoded(node)),
        None => key,
    }
}

/// A key as its sender knows it.
pub(crate) fn shown_key(key: &str) -> &str {
    key.split_once('\n').map_or(key, |(_, key)| key)
}

fn check_name(text: &str, field: &str, most: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
        return Err(format!(
            "{field} 应为 1 到 {most} 字节，不含控制字符 / {field} must have 1 to {most} bytes and no control characters"
        ));
    }
    Ok(())
}

fn check_body(body: &Value, most: u64) -> Result<(), String> {
    let bytes = match body {
        Value::Null => {
            return Err("body 不能为空 / the body must not be null".to_owned());
        }
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    };
    if bytes as u64 > most {
        return Err(format!(
            "消息正文为 {bytes} 字节，上限 {most} 字节；更大的内容请作为文件发送 / the body has {bytes} bytes, at most {most} are allowed; send what is larger as a file"
        ));
    }
    if depth(body) > MAX_DEPTH {
        return Err(format!(
            "正文嵌套超过 {MAX_DEPTH} 层 / the body is nested more than {MAX_DEPTH} levels deep"
        ));
    }
    Ok(())
}

/// The parser allows 128 levels, so this does not go deeper.
fn depth(value: &Value) -> usize {
    let of_items = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + of_items.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::state::audit::{AuditedLogin, AuditedOperator};

    const NOW: UnixMillis = UnixMillis::from_secs(1_000_000);

    fn read(casts: Value) -> Result<Vec<NewCast>, String> {
        let by = AuditedOperator { address: [127, 0, 0, 1].into(), how: AuditedLogin::Local };
        let casts = serde_json::from_value(casts).unwrap();
        let resolve = |to: &Destinations| match to.all {
            true => Ok(Audience::All),
            false => Err(UnusableDestinations::Nothing),
        };
        let origin = CastOrigin::from(by);
        read_casts(casts, &CastLimits::default(), &origin, NOW, resolve).map_err(|e| e.to_string())
    }

    fn cast(changed: Value) -> Value {
        let mut cast = json!({"topic": "notices", "body": "moved to 10:30", "to": {"all": true}});
        for (name, value) in changed.as_object().unwrap() {
            cast[name] = value.clone();
        }
        cast
    }

    #[test]
    fn a_cast_is_kept_as_it_was_sent() {
        let read = read(json!([
            cast(json!({})),
            cast(
                json!({"body": {"room": 3, "text": "移到\n"}, "expires_in_s": 60, "priority": "urgent", "key": "k"})
            ),
        ]));
        let read = read.unwrap();
        assert_eq!(read[0].body, r#""moved to 10:30""#);
        assert_eq!(read[0].expires_at, NOW + DEFAULT_LIFETIME);
        assert_eq!((&*read[0].key, &*read[0].details.fingerprint), ("", ""));
        assert_eq!(read[1].body, r#"{"room":3,"text":"移到\n"}"#);
        assert_eq!(read[1].expires_at, NOW + Duration::from_secs(60));
        assert_eq!(read[1].details.priority, CastPriority::Urgent);
        assert!(Arc::ptr_eq(&read[0].audience, &read[1].audience), "looked up once");
    }

    #[test]
    fn only_the_same_content_has_the_same_fingerprint() {
        let print = |changed: Value| {
            let mut changed = changed;
            changed["key"] = json!("k");
            read(json!([cast(changed)])).unwrap().remove(0).details.fingerprint
        };
        let others = [
            json!({"topic": "x"}),
            json!({"body": "x"}),
            json!({"to": {"all": true, "nodes": ["a"]}}),
            json!({"priority": "low"}),
            json!({"expires_in_s": 60}),
        ];
        let prints: BTreeSet<_> = others.into_iter().map(print).collect();
        assert_eq!(prints.len(), 5);
        assert!(!prints.contains(&print(json!({}))));
        assert_eq!(print(json!({})), print(json!({"priority": "normal"})));
    }

    #[test]
    fn a_key_is_its_senders_alone() {
        let [of_a, of_b, of_operator] =
            [Some("a"), Some("b\0"), None].map(|node| scoped_key(node, "k".to_owned()));
        assert!(of_a != of_b && of_a != of_operator && !of_b.contains('\0'));
        assert_eq!([&of_a, &of_b, &of_operator].map(|key| shown_key(key)), ["k"; 3]);
    }

    #[test]
    fn lists_of_nodes_are_bounded_and_those_that_are_the_same_count_once() {
        let by = AuditedOperator { address: [127, 0, 0, 1].into(), how: AuditedLogin::Local };
        let resolve = |to: &Destinations| {
            let ids = (0..10_000).map(|n| format!("{}-{n:05}", to.sites[0]));
            Ok(Audience::Nodes(ids.collect()))
        };
        let read = |sites: std::ops::Range<usize>| {
            let casts = sites.map(|site| cast(json!({"to": {"sites": [format!("s{site}")]}})));
            let casts = serde_json::from_value(
                casts.chain([cast(json!({"to": {"sites": ["s1"]}}))]).collect(),
            )
            .unwrap();
            read_casts(casts, &CastLimits::default(), &by.clone().into(), NOW, resolve)
        };
        assert_eq!(read(0..5).unwrap().len(), 6);
        let refusal = read(0..9).unwrap_err().to_string();
        assert!(refusal.contains("send them in several requests"), "{refusal}");
    }

    #[test]
    fn what_can_not_be_cast_is_refused_with_a_reason() {
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        for (changed, told) in [
            (json!({"topic": ""}), "topic must have 1 to 200 bytes"),
            (json!({"topic": "a\u{7}"}), "no control characters"),
            (json!({"key": "x".repeat(201)}), "key must have"),
            (json!({"body": null}), "must not be null"),
            (json!({"body": "会".repeat(1366)}), "has 4098 bytes, at most 4096 are allowed; send"),
            (json!({"body": nested(65)}), "more than 64 levels"),
            (json!({"to": {}}), "no destination"),
            (json!({"to": {"group": ["x"]}}), "unknown field `group`"),
            (json!({"expires_at": 999_999}), "expired already"),
            (json!({"expires_in_s": 0}), "expired already"),
            (json!({"expires_in_s": 30 * 86_400 + 1}), "after 30.0 days at most"),
            (json!({"expires_in_s": u64::MAX}), "after 30.0 days at most"),
            (json!({"expires_in_s": 1, "expires_at": 2_000_000}), "name one of them"),
            (json!({"priority": "highest"}), "unknown variant `highest`"),
            (json!({"ttl": 1}), "unknown field `ttl`"),
        ] {
            let refusal = read(json!([cast(changed)])).unwrap_err();
            assert!(refusal.contains(told) && refusal.contains(" / "), "{refusal}");
        }
        let fits = [json!({"body": "x".repeat(4096)}), json!({"body": nested(64)})];
        assert_eq!(read(json!(fits.map(cast))).unwrap().len(), 2);
        let refusal = read(json!([cast(json!({})), cast(json!({"topic": ""}))])).unwrap_err();
        assert!(refusal.starts_with("第 2 条 / cast 2: "), "{refusal}");
        for count in [0, 1001] {
            let refusal = read(json!(vec![cast(json!({})); count])).unwrap_err();
            assert!(refusal.contains("from 1 to 1000"), "{refusal}");
        }
    }
}
