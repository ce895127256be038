//! What each setting is for, in the words of those who run a node. The panel
//! shows these texts; what a value may be is `schema`'s to say.

mod table;

use serde_json::{Value, json};

use super::{
    Environment,
    schema::{Default, Kind, SETTINGS, Setting},
};
use table::{GROUPS, MEANINGS, Meaning};

/// `GET /api/config/schema`: everything that a page has to know to show and
/// edit the settings.
pub fn described(environment: &Environment) -> Value {
    let groups: Vec<_> =
        GROUPS.iter().map(|(name, title)| json!({"name": name, "title": title})).collect();
    let settings: Vec<_> = MEANINGS
        .iter()
        .filter_map(|meaning| {
            let setting = SETTINGS.iter().find(|setting| setting.key == meaning.key)?;
            Some(entry(setting, meaning, environment.variable(setting.key)))
        })
        .collect();
    json!({"groups": groups, "settings": settings})
}

fn entry(setting: &Setting, meaning: &Meaning, variable: Option<&str>) -> Value {
    let (kind, min, max) = match setting.kind {
        Kind::Bool => ("bool", Value::Null, Value::Null),
        Kind::Int { min, max } => ("int", min.into(), max.into()),
        Kind::Limit { max, .. } => ("int", 0.into(), max.into()),
        Kind::Float { min, max } => ("float", min.into(), max.into()),
        Kind::Choice(_) => ("choice", Value::Null, Value::Null),
        Kind::Host => ("host", Value::Null, Value::Null),
        Kind::Path => ("path", Value::Null, Value::Null),
        Kind::NodeId => ("node_id", Value::Null, Value::Null),
        Kind::Networks => ("networks", Value::Null, Value::Null),
        Kind::Secret => ("secret", Value::Null, Value::Null),
    };
    let choices = match setting.kind {
        Kind::Choice(choices) => json!(choices),
        _ => Value::Null,
    };
    let (zh, en) = setting.wanted();
    json!({
        "key": setting.key,
        "group": meaning.group,
        "kind": kind,
        "min": min,
        "max": max,
        "choices": choices,
        "unit": meaning.unit,
        "default": setting.default.value(),
        "nullable": setting.default == Default::Null && setting.kind != Kind::NodeId,
        "fixed": setting.kind == Kind::NodeId || variable.is_some(),
        "environment": variable,
        "title": meaning.title,
        "meaning": meaning.text,
        "allowed": {"zh": zh, "en": en},
        "caution": meaning.caution,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_meaning_and_a_group() {
        let described = described(&Environment::default());
        let keys: Vec<_> =
            described["settings"].as_array().unwrap().iter().map(|s| &s["key"]).collect();
        assert_eq!(keys.len(), SETTINGS.len());
        for setting in SETTINGS {
            assert!(keys.contains(&&json!(setting.key)), "{} has no meaning", setting.key);
        }
        for meaning in MEANINGS {
            assert!(GROUPS.iter().any(|(name, _)| *name == meaning.group), "{}", meaning.key);
        }
    }
}
