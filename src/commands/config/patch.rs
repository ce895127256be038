//! Parses `KEY=VALUE` as a change of the configuration.

use edge_mirror_base::quantity;
use edge_mirror_settings::schema::{self, SettingKind};
use serde_json::{Map, Value};

/// The values are checked by `config`.
pub(super) fn of(changes: &[(String, String)]) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in changes {
        schema::put(&mut patch, key, typed(key, value));
    }
    for (key, value) in changes {
        if let Some((host, port_key, port)) = host_and_port(key, value)
            && schema::get(&patch, port_key).is_none_or(|given| *given == port)
        {
            schema::put(&mut patch, key, host.into());
            schema::put(&mut patch, port_key, port.into());
        }
    }
    patch
}

/// Splits a host and the port, which is a setting of its own.
fn host_and_port<'a>(key: &str, text: &'a str) -> Option<(&'a str, &'static str, u16)> {
    let port_key = match key {
        "mainServerIp" => "mainServerPort",
        "publicIp" => "publicPort",
        _ => return None,
    };
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = text.rsplit_once(':')?;
    let is_whole = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
    Some((host, port_key, port.parse().ok().filter(|_| is_whole)?))
}

fn typed(key: &str, text: &str) -> Value {
    if text == "null" {
        return Value::Null;
    }
    let read = || serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match schema::find(key).map(|setting| setting.kind) {
        Some(SettingKind::Size { .. }) => quantity::parse_size(text).map_or_else(read, Value::from),
        Some(SettingKind::Bandwidth { .. }) => {
            quantity::parse_rate(text).map_or_else(read, Value::from)
        }
        Some(
            SettingKind::Host
            | SettingKind::PublicHost
            | SettingKind::Interface
            | SettingKind::Address
            | SettingKind::Path
            | SettingKind::NodeId
            | SettingKind::Label { .. }
            | SettingKind::Choice(_)
            | SettingKind::Secret { .. },
        ) => text.into(),
        Some(SettingKind::Networks | SettingKind::Schedule | SettingKind::MainServers)
            if !text.starts_with('[') =>
        {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(Value::from).collect::<Vec<_>>().into()
        }
        _ => read(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_what_their_setting_takes() {
        let changes = [
            ("syncInterval", "5"),
            ("nodeId", "5"),
            ("storage.path", "./a b"),
            ("storage.autoCleanup", "false"),
            ("publicIp", "null"),
            ("security.allowFrom", "10.0.0.0/8, 192.168.1.5"),
            ("syncIntervall", "x"),
            ("storage.maxSize", "10GB"),
            ("serve.bandwidth", "50 MiB/s"),
            ("network.bandwidth", "fast"),
            ("network.schedule", "08:00-18:00 10 MB/s, 22:00-06:00 off"),
            ("site", "5"),
        ];
        let changes = changes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(
            Value::Object(of(&changes)),
            json!({
                "syncInterval": 5, "nodeId": "5", "publicIp": null, "syncIntervall": "x",
                "storage": {"path": "./a b", "autoCleanup": false, "maxSize": 10_000_000_000_u64},
                "serve": {"bandwidth": 52_428_800}, "site": "5",
                "network": {
                    "bandwidth": "fast", "schedule": ["08:00-18:00 10 MB/s", "22:00-06:00 off"],
                },
                "security": {"allowFrom": ["10.0.0.0/8", "192.168.1.5"]},
            })
        );
    }
    #[test]
    fn a_host_may_come_with_its_port() {
        let of = |changes: &[(&str, &str)]| {
            let changes: Vec<_> = changes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            Value::Object(of(&changes))
        };
        let both = json!({"mainServerIp": "10.0.0.5", "mainServerPort": 8000});
        assert_eq!(of(&[("mainServerIp", "10.0.0.5:8000")]), both);
        assert_eq!(of(&[("mainServerIp", "http://10.0.0.5:8000/")]), both);
        assert_eq!(
            of(&[("publicIp", "[fd00::1]:81")]),
            json!({"publicIp": "[fd00::1]", "publicPort": 81})
        );
        // Contradictions are left to the check.
        let two = [("mainServerIp", "10.0.0.5:8000"), ("mainServerPort", "80")];
        assert_eq!(of(&two)["mainServerIp"], "10.0.0.5:8000");
        assert_eq!(of(&[("mainServerIp", "fd00::1")]), json!({"mainServerIp": "fd00::1"}));
    }
}
