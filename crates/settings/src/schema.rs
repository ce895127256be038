//! All settings: finding one, the defaults, and values at dotted keys.

use serde_json::{Map, Value};

pub use super::setting::{DefaultValue, Setting, SettingGroup, SettingKind, Words};
pub(crate) use super::setting::{EXACT, HIDDEN};
use super::table::GROUPS;
#[cfg(feature = "openapi")]
pub(crate) use super::{
    schedule::MAX_RANGES,
    setting::{MAX_NETWORKS, MAX_SECRET_CHARS},
};

/// Every setting, in the order in which a new file lists them.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

pub fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

/// True for the name of a section such as `storage`.
pub(crate) fn is_section(key: &str) -> bool {
    settings().any(|s| s.key.split_once('.').is_some_and(|(section, _)| section == key))
}

/// Returns the default document; `nodeId` is null.
pub fn defaults() -> Map<String, Value> {
    let mut document = Map::new();
    for setting in settings() {
        put(&mut document, setting.key, setting.default.value());
    }
    document
}

/// Sets the value at a dotted key, creating its section if need be.
pub fn put(document: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            document.insert(key.to_owned(), value);
        }
        Some((section, key)) => {
            let section = document.entry(section).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
    }
}

/// Returns the value at a dotted key.
pub fn get<'a>(document: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => document.get(key),
        Some((section, key)) => document.get(section)?.get(key),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::setting::MIN_BANDWIDTH;

    #[test]
    fn every_setting_is_listed_once_with_its_texts() {
        let mut keys: Vec<_> = settings().map(|setting| setting.key).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        for setting in settings() {
            let texts = [setting.title, setting.description];
            assert!(texts.iter().all(|text| !text.zh.is_empty() && !text.en.is_empty()));
            assert_ne!(setting.title.en, setting.key);
        }
    }

    #[test]
    fn every_default_is_allowed() {
        for setting in settings() {
            assert!(setting.accepts(&setting.default.value()), "{}", setting.key);
        }
    }

    #[test]
    fn hosts_are_names_and_addresses_and_nothing_else() {
        let host = find("mainServerIp").unwrap();
        for good in ["10.0.0.1", "::1", "[fe80::1]", "main", "main-1.example", "a_b"] {
            assert!(host.accepts(&json!(good)), "{good}");
        }
        for bad in
            ["", " ", "http://a", "a:80", "a/b", "256.1.1.1", "10.0.0", "a..b", "会议", "[a]"]
        {
            assert!(!host.accepts(&json!(bad)), "{bad}");
        }
        assert!(!host.accepts(&Value::Null));
        assert!(find("publicIp").unwrap().accepts(&Value::Null));
    }

    #[test]
    fn a_public_host_has_a_name_that_everybody_takes() {
        let host = find("publicIp").unwrap();
        for good in ["10.0.0.1", "2001:db8::1", "[2001:db8::1]", "n1", "3com.example", "a-1.B.cn"] {
            assert!(host.accepts(&json!(good)), "{good}");
        }
        for bad in
            ["a_b", "-a", "a-.example", "a.-b", "a..b", "a b", "a:80", "http://a", "节点", "1.2.3"]
        {
            assert!(!host.accepts(&json!(bad)), "{bad}");
        }
        let (zh, en) = host.allowed();
        assert!(zh.contains("连字符") && en.contains("hyphens"), "{zh} {en}");
    }

    #[test]
    fn an_interface_need_not_be_there() {
        let interface = find("advertiseInterface").unwrap();
        for good in [json!("eth0"), json!("enp0s31f6.100"), json!("wlan-会议"), json!(null)] {
            assert!(interface.accepts(&good), "{good}");
        }
        for bad in ["", "eth 0", "eth0:1", "../eth0", ".", "sixteen-letters!", "eth0\n"] {
            assert!(!interface.accepts(&json!(bad)), "{bad:?}");
        }
    }

    #[test]
    fn networks_are_addresses_with_and_without_a_length() {
        let list = find("security.allowFrom").unwrap();
        for good in [json!([]), json!(["10.0.0.0/8", "::1", "192.168.1.5", "fe80::/10"])] {
            assert!(list.accepts(&good), "{good}");
        }
        for bad in
            [json!(["10.0.0.0/33"]), json!(["main"]), json!("10.0.0.1"), json!([1]), json!([""])]
        {
            assert!(!list.accepts(&bad), "{bad}");
        }
        assert!(!list.accepts(&Value::Null));
    }

    #[test]
    fn numbers_have_their_ranges() {
        let port = find("nodePort").unwrap();
        assert!(port.accepts(&json!(1)) && port.accepts(&json!(65535)));
        for bad in [json!(0), json!(65536), json!(-1), json!(1.5), json!("80"), json!(true)] {
            assert!(!port.accepts(&bad), "{bad}");
        }
        let limit = find("serve.bandwidth").unwrap();
        assert!(limit.accepts(&json!(0)) && limit.accepts(&json!(MIN_BANDWIDTH)));
        for bad in [json!(-1), json!(100), json!(0.5), json!("1 MB"), Value::Null] {
            assert!(!limit.accepts(&bad), "{bad}");
        }
        assert!(!find("serve.maxDownloads").unwrap().accepts(&json!(100_001)));
        let threshold = find("storage.cleanupThreshold").unwrap();
        assert!(threshold.accepts(&json!(1)) && threshold.accepts(&json!(0.1)));
        assert!(!threshold.accepts(&json!(0.05)) && !threshold.accepts(&json!(1.1)));
    }
}
