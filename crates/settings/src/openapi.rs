//! The configuration in the API's description, built from the table of settings
//! that documents are checked by.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::main_server::MAX_MAIN_SERVERS;
use super::schema::{
    DefaultValue, EXACT, HIDDEN, MAX_NETWORKS, MAX_RANGES, MAX_SECRET_CHARS, Setting, SettingKind,
    settings,
};

/// All settings, as `GET /api/config` shows them.
pub struct ConfigDocument;

/// Some of them, as `POST /api/config` takes them.
pub struct ConfigPatch;

impl JsonSchema for ConfigDocument {
    fn schema_name() -> Cow<'static, str> {
        "Configuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        object(true)
    }
}

impl JsonSchema for ConfigPatch {
    fn schema_name() -> Cow<'static, str> {
        "ConfigurationChange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        object(false)
    }
}

fn object(whole: bool) -> Schema {
    let (mut plain, mut sections) = (Map::new(), Map::<String, Value>::new());
    for setting in settings() {
        match setting.key.split_once('.') {
            None => {
                plain.insert(setting.key.to_owned(), of(setting, whole));
            }
            Some((section, key)) => {
                let section = sections.entry(section).or_insert_with(|| json!({}));
                section[key] = of(setting, whole);
            }
        }
    }
    for (name, section) in sections {
        plain.insert(name, closed(section, whole));
    }
    let object = closed(Value::Object(plain), whole);
    object.try_into().unwrap_or_default()
}

fn closed(properties: Value, whole: bool) -> Value {
    let mut object = json!({"type": "object", "properties": properties});
    if whole {
        let keys = object["properties"].as_object().into_iter().flatten();
        object["required"] = keys.map(|(key, _)| key.clone()).collect();
    } else {
        object["additionalProperties"] = false.into();
    }
    object
}

fn of(setting: &Setting, whole: bool) -> Value {
    let text = || json!({"type": "string"});
    let mut value = match setting.kind {
        SettingKind::Bool => json!({"type": "boolean"}),
        SettingKind::Int { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        SettingKind::Limit { min, max } => json!({
            "anyOf": [{"const": 0}, {"type": "integer", "minimum": min, "maximum": max}],
        }),
        SettingKind::Size { min } => json!({"type": "integer", "minimum": min, "maximum": EXACT}),
        SettingKind::Bandwidth { min } => json!({
            "anyOf": [{"const": 0}, {"type": "integer", "minimum": min, "maximum": EXACT}],
        }),
        SettingKind::Float { min, max } => {
            json!({"type": "number", "minimum": min, "maximum": max})
        }
        SettingKind::Choice(choices) => json!({"type": "string", "enum": choices}),
        SettingKind::NodeId => json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}),
        SettingKind::Networks => {
            json!({"type": "array", "items": {"type": "string"}, "maxItems": MAX_NETWORKS})
        }
        SettingKind::MainServers => {
            json!({"type": "array", "items": {"type": "string"}, "maxItems": MAX_MAIN_SERVERS})
        }
        SettingKind::Label { max_chars } => {
            json!({"type": "string", "maxLength": max_chars})
        }
        SettingKind::Schedule => {
            json!({"type": "array", "items": {"type": "string"}, "maxItems": MAX_RANGES})
        }
        SettingKind::Secret { .. } if whole => json!({"const": HIDDEN}),
        SettingKind::Secret { min_chars } => {
            let pattern = format!("^[!-~]{{{min_chars},{MAX_SECRET_CHARS}}}$");
            json!({"type": "string", "pattern": pattern})
        }
        SettingKind::Host
        | SettingKind::Address
        | SettingKind::PublicHost
        | SettingKind::Interface
        | SettingKind::Path => text(),
    };
    // The id is generated at the first start.
    if setting.default == DefaultValue::Null && setting.kind != SettingKind::NodeId {
        let nothing = match whole {
            true => json!({"type": "null"}),
            // An empty field of a form.
            false => json!({"enum": [null, ""]}),
        };
        value = json!({"anyOf": [value, nothing]});
    }
    value["default"] = setting.default.value();
    if setting.kind == SettingKind::NodeId {
        value.as_object_mut().map(|value| value.remove("default"));
    }
    value["description"] =
        format!("{} It is {}.", setting.description.en, setting.allowed().1).into();
    value
}

#[test]
fn what_the_defaults_say_is_in_the_schema() {
    let object = object(true).to_value();
    for setting in settings() {
        let path = setting.key.replace('.', "/properties/");
        let value = object.pointer(&format!("/properties/{path}"));
        let default = value.and_then(|value| value.get("default"));
        let known = default.cloned().unwrap_or_default();
        assert_eq!(known, setting.default.value(), "{}", setting.key);
    }
    assert!(super::schema::is_section("storage"));
}
