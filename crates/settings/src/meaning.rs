//! Explanations of the settings, in the words of those who run a node. The panel
//! shows these texts; allowed values are defined in `schema`.

mod table;

use serde::Serialize;
use serde_json::Value;

use super::{
    Environment,
    schema::{Default, EXACT, Kind, SETTINGS, Setting},
};
use table::{ADVANCED, GROUPS, MEANINGS, Meaning, Words};

/// `GET /api/config/schema`: everything that a page has to know to show and
/// edit the settings.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "Settings"))]
pub struct Described {
    groups: Vec<Group>,
    settings: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "SettingGroup"))]
struct Group {
    name: &'static str,
    title: Words,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "Setting"))]
struct Entry {
    /// Dotted where the setting is in a section.
    key: &'static str,
    group: &'static str,
    kind: &'static str,
    /// Smallest number.
    min: Value,
    max: Value,
    choices: Option<&'static [&'static str]>,
    unit: Option<&'static str>,
    default: Value,
    nullable: bool,
    /// Few people need it.
    advanced: bool,
    /// Not to be changed here.
    fixed: bool,
    /// The variable that it comes from.
    environment: Option<String>,
    title: Words,
    meaning: Words,
    allowed: Allowed,
    caution: Option<Words>,
}

/// Allowed values, in Chinese and in English.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
struct Allowed {
    zh: String,
    en: String,
}

pub fn described(environment: &Environment) -> Described {
    let groups = GROUPS.iter().map(|(name, title)| Group { name, title: *title }).collect();
    let settings = MEANINGS
        .iter()
        .filter_map(|meaning| {
            let setting = SETTINGS.iter().find(|setting| setting.key == meaning.key)?;
            Some(entry(setting, meaning, environment.variable(setting.key)))
        })
        .collect();
    Described { groups, settings }
}

fn entry(setting: &Setting, meaning: &Meaning, variable: Option<&str>) -> Entry {
    let (kind, min, max) = match setting.kind {
        Kind::Bool => ("bool", Value::Null, Value::Null),
        Kind::Int { min, max } => ("int", min.into(), max.into()),
        Kind::Limit { max, .. } => ("int", 0.into(), max.into()),
        Kind::Size { min } => ("int", min.into(), EXACT.into()),
        Kind::Bandwidth { .. } => ("int", 0.into(), EXACT.into()),
        Kind::Float { min, max } => ("float", min.into(), max.into()),
        Kind::Choice(_) => ("choice", Value::Null, Value::Null),
        Kind::Host | Kind::PublicHost => ("host", Value::Null, Value::Null),
        Kind::Interface => ("interface", Value::Null, Value::Null),
        Kind::Path => ("path", Value::Null, Value::Null),
        Kind::NodeId => ("node_id", Value::Null, Value::Null),
        Kind::Networks => ("networks", Value::Null, Value::Null),
        Kind::Secret => ("secret", Value::Null, Value::Null),
    };
    let choices = match setting.kind {
        Kind::Choice(choices) => Some(choices),
        _ => None,
    };
    let (zh, en) = setting.wanted();
    Entry {
        key: setting.key,
        group: meaning.group,
        kind,
        min,
        max,
        choices,
        unit: meaning.unit,
        default: setting.default.value(),
        nullable: setting.default == Default::Null && setting.kind != Kind::NodeId,
        advanced: ADVANCED.contains(&setting.key),
        fixed: setting.kind == Kind::NodeId || variable.is_some(),
        environment: variable.map(str::to_owned),
        title: meaning.title,
        meaning: meaning.text,
        allowed: Allowed { zh, en },
        caution: meaning.caution,
    }
}

/// For the API's description.
#[cfg(feature = "openapi")]
pub fn text_of(key: &str) -> Option<Words> {
    MEANINGS.iter().find(|meaning| meaning.key == key).map(|meaning| meaning.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_meaning_and_a_group() {
        let described = described(&Environment::default());
        let keys: Vec<_> = described.settings.iter().map(|entry| entry.key).collect();
        assert_eq!(keys.len(), SETTINGS.len());
        for setting in SETTINGS {
            assert!(keys.contains(&setting.key), "{} has no meaning", setting.key);
        }
        for key in ADVANCED {
            assert!(keys.contains(key), "{key}");
        }
        for meaning in MEANINGS {
            assert!(GROUPS.iter().any(|(name, _)| *name == meaning.group), "{}", meaning.key);
        }
    }
}
