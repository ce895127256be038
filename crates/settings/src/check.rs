//! Turns a JSON document into a typed configuration, or lists all its problems.

use std::{fmt, path::Path};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Config, main_server, merge::merge, schema};

/// One problem of a document: the key, the value, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SettingProblem {
    pub key: String,
    /// The offending value as JSON, shortened; none where the key is the problem.
    pub value: Option<String>,
    pub zh: String,
    pub en: String,
}

impl SettingProblem {
    pub fn new(
        key: &str,
        value: Option<&Value>,
        zh: impl Into<String>,
        en: impl Into<String>,
    ) -> Self {
        Self { key: key.to_owned(), value: value.map(shortened), zh: zh.into(), en: en.into() }
    }
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {} / {}", self.zh, self.en)
    }
}

/// All problems on one line, in Chinese or in English.
pub fn list_in(problems: &[SettingProblem], chinese: bool) -> String {
    let one = |problem: &SettingProblem| {
        let value = problem.value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
        let text = if chinese { &problem.zh } else { &problem.en };
        format!("{}{value}{} {text}", problem.key, if chinese { "：" } else { ":" })
            .replace("： ", "：")
    };
    let separator = if chinese { "；" } else { "; " };
    problems.iter().map(one).collect::<Vec<_>>().join(separator)
}

/// All problems on one line, each in both languages.
pub fn list(problems: &[SettingProblem]) -> String {
    problems.iter().map(SettingProblem::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads a whole document. Missing keys take their defaults, unknown keys are
/// ignored (see [`unknown_keys`]).
pub fn parse_config(
    document: &Map<String, Value>,
    folder: &Path,
) -> Result<Config, Vec<SettingProblem>> {
    let mut problems = Vec::new();
    let mut known = schema::defaults();
    for (key, value) in leaves(document) {
        match schema::find(&key) {
            Some(setting) => {
                let value = empty_is_null(setting, value);
                if setting.accepts(&value) {
                    schema::put(&mut known, &key, value);
                } else {
                    let (zh, en) = setting.error_message(&value);
                    let shown = (!setting.is_secret()).then_some(&value);
                    problems.push(SettingProblem::new(&key, shown, zh, en));
                }
            }
            None if schema::is_section(&key) => {
                let (zh, en) = ("应为 {…} 对象", "must be an object {…}");
                problems.push(SettingProblem::new(&key, Some(value), zh, en));
            }
            None => {}
        }
    }
    if problems.is_empty() {
        problems.extend(main_server::settle(document, &mut known));
        problems.extend(contradictions(&known));
    }
    if known["nodeId"].is_null() && problems.is_empty() {
        problems.push(SettingProblem::new("nodeId", None, "缺失", "is missing"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut config: Config = serde_json::from_value(Value::Object(known))
        .map_err(|error| vec![SettingProblem::new("?", None, "无法读取", error.to_string())])?;
    config.set_derived(folder);
    Ok(config)
}

/// Returns unknown keys, each with the setting that was probably meant.
pub fn unknown_keys(document: &Map<String, Value>) -> Vec<SettingProblem> {
    leaves(document)
        .filter(|(key, _)| schema::find(key).is_none() && !schema::is_section(key))
        .map(|(key, _)| match suggestion(&key) {
            // Written as one key, dots and all.
            Some(near) if near == key.trim_matches('"') => {
                let nested = near.replace('.', "\": {\"");
                let closed = "}".repeat(near.matches('.').count());
                let nested = format!("{{\"{nested}\": …{closed}}}");
                SettingProblem::new(
                    &key,
                    None,
                    format!("请写成 {nested}"),
                    format!("write it as {nested}"),
                )
            }
            Some(near) => SettingProblem::new(
                &key,
                None,
                format!("未知的配置项，是否想写 {near}？"),
                format!("unknown setting, did you mean {near}?"),
            ),
            None => SettingProblem::new(&key, None, "未知的配置项", "unknown setting"),
        })
        .collect()
}

/// Merges a patch into a document; the patch's unknown keys are problems.
pub fn apply_patch(
    document: &Map<String, Value>,
    patch: &Map<String, Value>,
    typed: impl FnOnce(&Map<String, Value>) -> Result<Config, Vec<SettingProblem>>,
) -> Result<(Map<String, Value>, Config), Vec<SettingProblem>> {
    let mut problems = unknown_keys(patch);
    let mut merged = document.clone();
    let mut patch = patch.clone();
    main_server::complete_patch(document, &mut patch);
    merge(&mut merged, &patch);
    restore_hidden(document, &mut merged);
    match typed(&merged) {
        Ok(config) if problems.is_empty() => Ok((merged, config)),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

/// Keeps the secrets that come back masked, as they were shown.
fn restore_hidden(document: &Map<String, Value>, merged: &mut Map<String, Value>) {
    let secrets = schema::settings().filter(|setting| setting.is_secret());
    for key in secrets.map(|setting| setting.key) {
        if schema::get(merged, key).is_some_and(|value| value == schema::HIDDEN) {
            let kept = schema::get(document, key).cloned().unwrap_or_default();
            schema::put(merged, key, kept);
        }
    }
}

/// Finds problems that single values can't show.
fn contradictions(known: &Map<String, Value>) -> Option<SettingProblem> {
    timeout_below_interval(known)
        .or_else(|| incomplete_pair(known))
        .or_else(|| invalid_redirect_port(known))
}

fn timeout_below_interval(known: &Map<String, Value>) -> Option<SettingProblem> {
    let heartbeat = &known["heartbeat"];
    let (interval, timeout) = (&heartbeat["interval"], &heartbeat["timeout"]);
    (timeout.as_u64() <= interval.as_u64()).then(|| {
        SettingProblem::new(
            "heartbeat.timeout",
            Some(timeout),
            format!("必须大于 heartbeat.interval（{interval}）"),
            format!("must be greater than heartbeat.interval ({interval})"),
        )
    })
}

/// A certificate is of no use without its key.
fn incomplete_pair(known: &Map<String, Value>) -> Option<SettingProblem> {
    let set = |key: &str| schema::get(known, key).is_some_and(|value| !value.is_null());
    [("tls.cert", "tls.key"), ("mainServerCert", "mainServerCertKey")].iter().find_map(|(a, b)| {
        let (missing, other) = match (set(a), set(b)) {
            (true, false) => (b, a),
            (false, true) => (a, b),
            (true, true) | (false, false) => return None,
        };
        let zh = format!("设置了 {other}，还需要设置 {missing}");
        let en = format!("is missing: {other} is set, and both or neither are needed");
        Some(SettingProblem::new(missing, None, zh, en))
    })
}

fn invalid_redirect_port(known: &Map<String, Value>) -> Option<SettingProblem> {
    let (tls, node_port) = (&known["tls"], &known["nodePort"]);
    let port = &tls["redirectPort"];
    if port == 0 {
        return None;
    }
    let (zh, en) = if tls["cert"].is_null() {
        (
            "需要先设置 tls.cert 和 tls.key，否则没有 HTTPS 可转",
            "there is no HTTPS to send on to; set tls.cert and tls.key, too, or 0 here",
        )
    } else if port == node_port {
        (
            "不能与 nodePort 相同",
            "can't be nodePort, which speaks HTTPS and sends on plain HTTP by itself",
        )
    } else {
        return None;
    };
    Some(SettingProblem::new("tls.redirectPort", Some(port), zh, en))
}

/// Top-level keys and the keys in known sections; what lies deeper is a value.
fn leaves(document: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    document.iter().flat_map(|(key, value)| match value {
        Value::Object(section) if schema::is_section(key) => {
            section.iter().map(|(inner, value)| (format!("{key}.{inner}"), value)).collect()
        }
        // Dots separate the parts of a path and are not in names.
        value if key.contains('.') => vec![(format!("\"{key}\""), value)],
        value => vec![(key.clone(), value)],
    })
}

/// The Python node's panel saved empty fields as "".
fn empty_is_null(setting: &schema::Setting, value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() && setting.default == schema::DefaultValue::Null => {
            Value::Null
        }
        value => value.clone(),
    }
}

/// Comparing takes quadratic time.
const MAX_SUGGESTED_BYTES: usize = 64;

/// The setting whose name differs by at most a third of its letters.
fn suggestion(key: &str) -> Option<&'static str> {
    if key.len() > MAX_SUGGESTED_BYTES {
        return None;
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_lowercase();
    let whole = |key: &str| key.to_lowercase();
    schema::settings()
        .map(|setting| {
            let by_name = strsim::levenshtein(&last(key), &last(setting.key));
            let by_path = strsim::levenshtein(&whole(key), &whole(setting.key));
            (by_name.min(by_path), by_path, setting.key)
        })
        .min()
        .filter(|(distance, _, near)| distance * 3 <= last(near).len())
        .map(|(_, _, near)| near)
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ScheduledLimit;

    fn read(document: Value) -> Result<Config, Vec<SettingProblem>> {
        let mut whole = json!({"nodeId": "node-1"}).as_object().cloned().unwrap();
        merge(&mut whole, document.as_object().unwrap());
        parse_config(&whole, Path::new("/etc/edge"))
    }

    fn keys(outcome: Result<Config, Vec<SettingProblem>>) -> Vec<String> {
        outcome.unwrap_err().into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn missing_keys_take_the_contracts_defaults() {
        let config = read(json!({"network": {"retryCount": 7}})).unwrap();
        assert_eq!(config.network.retry_count, 7);
        assert_eq!(config.network.retry_delay, 5);
        assert_eq!(config.main_server(), "http://192.168.110.10:80");
        assert_eq!(config.storage_path(), Path::new("/etc/edge/storage"));
        assert_eq!(
            (config.storage.max_size, config.storage.verify),
            (10_737_418_240, VerifyLevel::Full)
        );
        assert_eq!((config.shutdown_grace, config.cleanup.grace_seconds), (20, 30));
    }

    use edge_mirror_protocol::package::VerifyLevel;

    #[test]
    fn every_problem_is_listed_with_key_value_and_range() {
        let problems =
            read(json!({"syncInterval": 0, "network": {"retryCount": "x"}, "cleanup": 3}))
                .unwrap_err();
        let text = list(&problems);
        for part in
            ["syncInterval = 0", "from 1 to 3600", "network.retryCount = \"x\"", "cleanup = 3"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_schedule_says_which_of_its_ranges_is_wrong() {
        let schedule = |ranges: Value| read(json!({"network": {"schedule": ranges}}));
        let config = schedule(json!(["08:00-18:00 10MB", "22:00-06:00 off"])).unwrap();
        assert_eq!(config.network.schedule.limit_at(23 * 60), ScheduledLimit::Off);
        for (ranges, part) in [
            (json!(["08:00-18:00 0"]), "\"off\""),
            (json!(["08:00-18:00 10MB", "17:00-19:00 off"]), "overlap"),
            (json!([8]), "must be a list of times"),
            (json!("08:00-18:00 10MB"), "must be a list of times"),
            (json!(null), "must be a list of times"),
        ] {
            let problems = schedule(ranges).unwrap_err();
            assert_eq!(problems[0].key, "network.schedule");
            assert!(problems[0].en.contains(part), "{part} in {}", problems[0]);
        }
    }

    #[test]
    fn a_site_is_a_short_name_or_nothing() {
        for good in ["", "A", "北楼 2", &"楼".repeat(64)] {
            assert_eq!(read(json!({"site": good})).unwrap().site, good);
        }
        for bad in [" A", "A ", "A\nB", "\u{7f}", &"楼".repeat(65)] {
            assert_eq!(keys(read(json!({"site": bad}))), ["site"], "{bad:?}");
        }
        assert_eq!(keys(read(json!({"site": null}))), ["site"]);
    }

    #[test]
    fn a_section_that_is_no_object_is_a_problem() {
        assert_eq!(keys(read(json!({"heartbeat": "x"}))), ["heartbeat"]);
        assert_eq!(keys(read(json!({"heartbeat": null}))), ["heartbeat"]);
    }

    #[test]
    fn a_heartbeat_must_time_out_after_its_interval() {
        assert_eq!(keys(read(json!({"heartbeat": {"interval": 30}}))), ["heartbeat.timeout"]);
        assert!(read(json!({"heartbeat": {"interval": 30, "timeout": 31}})).is_ok());
    }

    #[test]
    fn a_certificate_needs_its_key_and_a_redirect_needs_both() {
        assert_eq!(keys(read(json!({"tls": {"cert": "a.pem"}}))), ["tls.key"]);
        assert_eq!(keys(read(json!({"tls": {"key": "a.pem"}}))), ["tls.cert"]);
        assert_eq!(keys(read(json!({"mainServerCert": "a"}))), ["mainServerCertKey"]);
        assert_eq!(keys(read(json!({"tls": {"redirectPort": 80}}))), ["tls.redirectPort"]);
        let tls = |port: u16| json!({"tls": {"cert": "a", "key": "/b", "redirectPort": port}});
        assert_eq!(keys(read(tls(8001))), ["tls.redirectPort"]);
        let config = read(tls(80)).unwrap();
        let files = ("/etc/edge/a".into(), "/b".into());
        assert_eq!((config.tls_files(), config.redirect_port()), (Some(files), Some(80)));
        assert_eq!(read(tls(0)).unwrap().redirect_port(), None);
        let main = read(json!({"mainServerTls": true, "mainServerIp": "::1"})).unwrap();
        assert_eq!(main.main_server(), "https://[::1]:80");
    }

    #[test]
    fn an_empty_public_address_is_none() {
        assert_eq!(read(json!({"publicIp": ""})).unwrap().public_ip, None);
    }

    #[test]
    fn a_mistyped_key_is_named_with_what_was_probably_meant() {
        let document = json!({
            "syncIntervall": 3, "storage": {"maxsize": 1}, "retryCount": 1, "colour": 1,
            "serve.maxDownloads": 1,
        });
        let problems = unknown_keys(document.as_object().unwrap());
        let said: Vec<_> = problems.iter().map(|p| p.en.as_str()).collect();
        assert_eq!(
            said,
            [
                "unknown setting, did you mean syncInterval?",
                "unknown setting, did you mean storage.maxSize?",
                "unknown setting, did you mean network.retryCount?",
                "unknown setting",
                "write it as {\"serve\": {\"maxDownloads\": …}}",
            ]
        );
    }

    #[test]
    fn a_patch_is_refused_for_its_own_unknown_keys_not_the_files() {
        let whole = |whole: &Map<String, Value>| parse_config(whole, Path::new("/"));
        let file = json!({"nodeId": "n", "note": "mine"}).as_object().cloned().unwrap();
        let patch = |v: Value| v.as_object().cloned().unwrap();
        let (merged, config) =
            apply_patch(&file, &patch(json!({"syncInterval": 5})), whole).unwrap();
        assert_eq!((merged["note"].as_str(), config.sync_interval), (Some("mine"), 5));
        assert!(apply_patch(&file, &patch(json!({"note2": 5})), whole).is_err());
    }

    #[test]
    fn a_path_is_no_key() {
        let wish = json!({"security.open": true, "security": {"open": false}});
        let unknown = unknown_keys(wish.as_object().unwrap());
        assert_eq!(unknown.len(), 1);
        assert_eq!(unknown[0].en, "write it as {\"security\": {\"open\": …}}");
        assert!(!read(wish).unwrap().security.open);
    }
}
