//! `KEY=VALUE` as a change of the configuration.

use edge_mirror_settings::schema::{self, Kind};
use serde_json::{Map, Value};

/// Whether the values are right is for `config` to say.
pub(super) fn of(changes: &[(String, String)]) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in changes {
        schema::put(&mut patch, key, typed(key, value));
    }
    patch
}

fn typed(key: &str, text: &str) -> Value {
    if text == "null" {
        return Value::Null;
    }
    let read = || serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match schema::find(key).map(|setting| setting.kind) {
        Some(
            Kind::Host
            | Kind::PublicHost
            | Kind::Interface
            | Kind::Path
            | Kind::NodeId
            | Kind::Choice(_)
            | Kind::Secret,
        ) => text.into(),
        Some(Kind::Networks) if !text.starts_with('[') => {
            let networks = text.split(',').map(str::trim).filter(|network| !network.is_empty());
            networks.map(Value::from).collect::<Vec<_>>().into()
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
        ];
        let changes = changes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(
            Value::Object(of(&changes)),
            json!({
                "syncInterval": 5, "nodeId": "5", "publicIp": null, "syncIntervall": "x",
                "storage": {"path": "./a b", "autoCleanup": false},
                "security": {"allowFrom": ["10.0.0.0/8", "192.168.1.5"]},
            })
        );
    }
}
