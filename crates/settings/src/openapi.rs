//! The configuration in the API's description, built from the table of settings
//! that documents are checked by.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::schema::{DefaultValue, EXACT, HIDDEN, Kind, MAX_NETWORKS, Setting, settings};

/// All settings, as `GET /api/config` shows them.
pub struct Shown;

/// Some of them, as `POST /api/config` takes them.
pub struct Patch;

impl JsonSchema for Shown {
    fn schema_name() -> Cow<'static, str> {
        "Configuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        object(true)
    }
}

impl JsonSchema for Patch {
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
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Limit { min, max } => json!({
            "anyOf": [{"const": 0}, {"type": "integer", "minimum": min, "maximum": max}],
        }),
        Kind::Size { min } => json!({"type": "integer", "minimum": min, "maximum": EXACT}),
        Kind::Bandwidth { min } => json!({
            "anyOf": [{"const": 0}, {"type": "integer", "minimum": min, "maximum": EXACT}],
        }),
        Kind::Float { min, max } => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Choice(choices) => json!({"type": "string", "enum": choices}),
        Kind::NodeId => json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}),
        Kind::Networks => {
            json!({"type": "array", "items": {"type": "string"}, "maxItems": MAX_NETWORKS})
        }
        Kind::Secret if whole => json!({"const": HIDDEN}),
        Kind::Secret => json!({"type": "string", "pattern": "^[!-~]{8,256}$"}),
        Kind::Host | Kind::PublicHost | Kind::Interface | Kind::Path => text(),
    };
    // The id is generated at the first start.
    if setting.default == DefaultValue::Null && setting.kind != Kind::NodeId {
        let nothing = match whole {
            true => json!({"type": "null"}),
            // An empty field of a form.
            false => json!({"enum": [null, ""]}),
        };
        value = json!({"anyOf": [value, nothing]});
    }
    value["default"] = setting.default.value();
    if setting.kind == Kind::NodeId {
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
