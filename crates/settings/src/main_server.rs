//! The main servers that a node asks: entries of `mainServers`, and how that list goes with
//! `mainServerIp`, `mainServerPort` and `mainServerTls`, which name the first one.
//!
//! A list that is not empty decides. A change of either side brings the other one into step;
//! a document in which they differ is refused.

use std::fmt;

use serde_json::{Map, Value};

use super::{
    Config, authority, check::SettingProblem, literal, merge::merge, schema, scheme,
    setting::parse_address,
};

pub(crate) const LIST: &str = "mainServers";
/// More main servers of one fleet are a mistake.
pub(crate) const MAX_MAIN_SERVERS: usize = 16;

/// The address of a main server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainServer {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

/// Reasons to refuse a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvalidList {
    /// The entry at this place, counted from 1.
    Entry(usize, String),
    /// No list of texts, or too long.
    Shape,
}

impl MainServer {
    pub(crate) fn base_url(&self) -> String {
        format!("{}://{}", scheme(self.tls), authority(&self.host, self.port))
    }

    /// Values of the three keys that name a single main server.
    fn keys(&self) -> [(&'static str, Value); 3] {
        [
            ("mainServerIp", self.host.as_str().into()),
            ("mainServerPort", self.port.into()),
            ("mainServerTls", self.tls.into()),
        ]
    }

    /// The one that a document's three keys name; none if they can't be read.
    fn of_keys(document: &Map<String, Value>) -> Option<Self> {
        let value = |key| match document.get(key) {
            Some(value) => Some(value.clone()),
            None => schema::find(key).map(|setting| setting.default.value()),
        };
        let port = value("mainServerPort")?.as_u64()?;
        Some(Self {
            host: value("mainServerIp")?.as_str()?.to_owned(),
            port: u16::try_from(port).ok()?,
            tls: value("mainServerTls")?.as_bool()?,
        })
    }
}

impl fmt::Display for MainServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_url())
    }
}

impl MainServer {
    /// Parses `host:port`, also after `http://` or `https://`; without a port, it is that of
    /// the scheme.
    fn parse(text: &str) -> Option<Self> {
        let (rest, tls) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => (text, false),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = parse_address(rest)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Some(Self { host: host.to_owned(), port, tls })
    }
}

/// Reads a list; an entry that names the same main server as one before is left out.
pub(crate) fn read_list(value: &Value) -> Result<Vec<MainServer>, InvalidList> {
    let list = value.as_array().filter(|list| list.len() <= MAX_MAIN_SERVERS);
    let mut servers: Vec<MainServer> = Vec::new();
    for (index, entry) in list.ok_or(InvalidList::Shape)?.iter().enumerate() {
        let invalid = || InvalidList::Entry(index + 1, entry.to_string());
        let server = entry.as_str().and_then(|text| MainServer::parse(text.trim()));
        let server = server.ok_or_else(invalid)?;
        if servers.iter().all(|known| known.base_url() != server.base_url()) {
            servers.push(server);
        }
    }
    Ok(servers)
}

impl InvalidList {
    /// In Chinese and in English.
    pub(crate) fn message(&self, wanted: (String, String)) -> (String, String) {
        let (zh, en) = wanted;
        match self {
            Self::Entry(place, entry) => (
                format!("第 {place} 项 {entry} 无效，应为{zh}"),
                format!("entry {place}, {entry}, is invalid; must be {en}"),
            ),
            Self::Shape => (format!("应为{zh}"), format!("must be {en}")),
        }
    }
}

/// Has the three keys name the first of the list; the error is a key that names another one.
/// A value that is the default counts as not set: generated files have all of them.
pub(crate) fn settle(
    document: &Map<String, Value>,
    known: &mut Map<String, Value>,
) -> Option<SettingProblem> {
    let servers = read_list(known.get(LIST)?).ok()?;
    let first = servers.first()?;
    for (key, value) in first.keys() {
        let default = schema::find(key).map(|setting| setting.default.value());
        let given = document.get(key).filter(|given| Some(*given) != default.as_ref());
        if let Some(given) = given.filter(|given| !is_same(given, &value)) {
            let zh = format!("与 {LIST} 矛盾，其第一项是 {first}；请改为一致，或删去此项");
            let en = format!(
                "contradicts {LIST}, the first of which is {first}; make them the same, or leave this one out"
            );
            return Some(SettingProblem::new(key, Some(given), zh, en));
        }
        schema::put(known, key, value);
    }
    None
}

/// Names are the same in any letter case, addresses however they are written.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_str(), b.as_str()) {
        (Some(a), Some(b)) => match (literal(a), literal(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a.eq_ignore_ascii_case(b),
        },
        _ => a == b,
    }
}

/// The three keys' values for the first of a list; none if it is empty or invalid.
pub(crate) fn keys_of_first(list: &Value) -> impl Iterator<Item = (&'static str, Value)> {
    let servers = read_list(list).unwrap_or_default();
    servers.into_iter().take(1).flat_map(|first| first.keys())
}

/// Completes a patch: a new list brings the three keys with it, and new values of these
/// replace the first of the list. A patch of both has to agree with itself.
pub(crate) fn complete_patch(document: &Map<String, Value>, patch: &mut Map<String, Value>) {
    match patch.get(LIST) {
        Some(list) => {
            for (key, value) in keys_of_first(list).collect::<Vec<_>>() {
                patch.entry(key).or_insert(value);
            }
        }
        None => complete_list(document, patch),
    }
}

fn complete_list(document: &Map<String, Value>, patch: &mut Map<String, Value>) {
    let Some(mut servers) = document.get(LIST).and_then(|list| read_list(list).ok()) else {
        return;
    };
    // A document may leave out what the list says.
    let mut keys: Map<String, Value> =
        keys_of_first(&document[LIST]).map(|(key, value)| (key.to_owned(), value)).collect();
    let mut is_changed = false;
    for (key, value) in &mut keys {
        if let Some(new) = patch.get(key) {
            (*value, is_changed) = (new.clone(), true);
        }
    }
    let first = is_changed.then(|| MainServer::of_keys(&keys)).flatten();
    if let Some(first) = first {
        for (key, value) in first.keys() {
            patch.insert(key.to_owned(), value);
        }
        servers[0] = first;
        let entries = servers.iter().map(|server| Value::from(server.base_url()));
        patch.insert(LIST.to_owned(), entries.collect());
    }
}

/// The first main server that a document names, as far as it can be read.
pub fn first_main_server(document: &Map<String, Value>) -> Option<MainServer> {
    let listed = document.get(LIST).and_then(|list| read_list(list).ok()).unwrap_or_default();
    listed.into_iter().next().or_else(|| MainServer::of_keys(document))
}

/// Puts an address into a document in place of that of its first main server.
pub fn put_main_server(document: &mut Map<String, Value>, host: &str, port: u16) {
    let keys = [("mainServerIp", Value::from(host)), ("mainServerPort", port.into())];
    let mut patch = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    complete_list(document, &mut patch);
    merge(document, &patch);
}

impl Config {
    /// The main servers in their order; the first one is the fleet's identity.
    pub fn main_servers(&self) -> &[MainServer] {
        &self.servers
    }

    /// True if one of them speaks HTTPS.
    pub fn has_secure_main_server(&self) -> bool {
        self.servers.iter().any(|server| server.tls)
    }

    pub(super) fn set_main_servers(&mut self) {
        let listed: Value =
            self.main_servers.iter().map(|text| Value::from(text.as_str())).collect();
        let mut servers = read_list(&listed).unwrap_or_default();
        if servers.is_empty() {
            servers.push(MainServer {
                host: self.main_server_ip.clone(),
                port: self.main_server_port,
                tls: self.main_server_tls,
            });
        }
        self.fleet = super::FleetOrigins::new(servers.iter().map(MainServer::base_url));
        self.servers = servers;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::check::{apply_patch, parse_config};

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn config(document: Value) -> Result<Config, Vec<SettingProblem>> {
        let mut document = object(document);
        document.insert("nodeId".to_owned(), "n".into());
        parse_config(&document, Path::new("/"))
    }

    fn base_urls(document: Value) -> Vec<String> {
        config(document).unwrap().fleet().base_urls().to_vec()
    }

    #[test]
    fn entries_are_addresses_with_and_without_a_scheme_and_duplicates_are_dropped() {
        let list = json!([
            "10.0.0.1:8000",
            " http://10.0.0.1:8000/ ",
            "https://main.example",
            "[fd00::1]:81",
            "b",
        ]);
        let expected = [
            "http://10.0.0.1:8000",
            "https://main.example:443",
            "http://[fd00::1]:81",
            "http://b:80",
        ];
        assert_eq!(base_urls(json!({LIST: list})), expected);
        assert_eq!(
            base_urls(json!({LIST: [], "mainServerIp": "10.0.0.9"})),
            ["http://10.0.0.9:80"],
            "as without the list"
        );
    }

    #[test]
    fn an_entry_that_is_none_is_named() {
        for bad in ["", "a:0", "http://", "ftp://a:80", "a/b", "http://a:80/path", "a:80:90"] {
            let problems = config(json!({LIST: ["10.0.0.1:80", bad]})).unwrap_err();
            let told = problems[0].to_string();
            let entry = format!("{bad:?}");
            assert!(told.contains(&format!("第 2 项 {entry}")), "{told}");
            assert!(told.contains(&format!("entry 2, {entry}, is invalid")), "{told}");
        }
        for bad in [json!("a:80"), json!([1]), json!(null), json!(vec!["a:80"; 17])] {
            assert!(config(json!({LIST: bad})).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_three_keys_are_the_first_of_the_list_and_may_say_nothing_else() {
        let list = json!(["https://main.example:8443", "10.0.0.2:80"]);
        let read = config(json!({LIST: list})).unwrap();
        let keys = (&*read.main_server_ip, read.main_server_port, read.main_server_tls);
        assert_eq!(keys, ("main.example", 8443, true));
        assert_eq!(read.main_server(), "https://main.example:8443");
        // A generated file has the defaults.
        let mut generated = schema::defaults();
        generated.insert(LIST.to_owned(), list.clone());
        assert!(config(Value::Object(generated)).is_ok());
        for (key, value) in [("mainServerIp", json!("10.0.0.2")), ("mainServerPort", json!(8000))] {
            let problems = config(json!({LIST: list, key: value})).unwrap_err();
            assert_eq!(problems[0].key, key);
            assert!(problems[0].en.contains("https://main.example:8443"), "{}", problems[0]);
        }
        let plain = json!({LIST: ["main.example:80"], "mainServerTls": true});
        assert_eq!(config(plain).unwrap_err()[0].key, "mainServerTls");
        assert!(config(json!({LIST: ["[::1]:80"], "mainServerIp": "[0::1]"})).is_ok());
    }

    #[test]
    fn a_change_of_either_side_keeps_the_other_one_in_step() {
        let patched = |document: Value, patch: Value| {
            let mut document = object(document);
            document.insert("nodeId".to_owned(), "n".into());
            let typed = |whole: &Map<String, Value>| parse_config(whole, Path::new("/"));
            apply_patch(&document, &object(patch), typed)
        };
        let single = json!({"mainServerIp": "10.0.0.1", "mainServerPort": 8000});
        let (document, config) =
            patched(single.clone(), json!({LIST: ["10.0.0.1:8000", "https://b"]})).unwrap();
        assert_eq!(config.fleet().base_urls(), ["http://10.0.0.1:8000", "https://b:443"]);
        assert_eq!(document["mainServerIp"], "10.0.0.1");
        let (document, _) = patched(single, json!({LIST: ["b:81", "10.0.0.1:8000"]})).unwrap();
        assert_eq!(
            (&document["mainServerIp"], &document["mainServerPort"]),
            (&json!("b"), &json!(81))
        );

        let listed = json!({LIST: ["10.0.0.1:8000", "b:80"], "mainServerIp": "10.0.0.1", "mainServerPort": 8000});
        let (_, config) = patched(listed.clone(), json!({"mainServerIp": "10.0.0.7"})).unwrap();
        assert_eq!(config.fleet().base_urls(), ["http://10.0.0.7:8000", "http://b:80"]);
        let (_, config) = patched(listed.clone(), json!({LIST: []})).unwrap();
        assert_eq!(config.fleet().base_urls(), ["http://10.0.0.1:8000"]);
        let only_list = json!({LIST: ["https://a:8443", "b:80"]});
        let (document, config) = patched(only_list, json!({"mainServerPort": 9443})).unwrap();
        assert_eq!(config.fleet().base_urls(), ["https://a:9443", "http://b:80"]);
        let mut document = document;
        put_main_server(&mut document, "c", 81);
        let first = first_main_server(&document).unwrap();
        assert_eq!(
            (first.base_url(), &*document[LIST][1].to_string()),
            ("https://c:81".to_owned(), "\"http://b:80\"")
        );
        assert_eq!(document["mainServerTls"], true);
        let both = json!({LIST: ["c:80", "b:80"], "mainServerIp": "10.0.0.7"});
        assert_eq!(patched(listed, both).unwrap_err()[0].key, "mainServerIp");
    }
}
