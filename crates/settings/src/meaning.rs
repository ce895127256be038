//! The table of settings as a document: the panel's forms and the tables of
//! `docs/` are made of it.

use serde::Serialize;
use serde_json::Value;

use super::{
    Environment,
    schema::{DefaultValue, EXACT, Kind, Setting, Words},
    table::GROUPS,
};

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
    let groups =
        GROUPS.iter().map(|group| Group { name: group.name, title: group.title }).collect();
    let entries = GROUPS.iter().flat_map(|group| {
        let variable = |setting: &Setting| environment.variable(setting.key);
        group.settings.iter().map(move |setting| entry(group.name, setting, variable(setting)))
    });
    Described { groups, settings: entries.collect() }
}

fn entry(group: &'static str, setting: &Setting, variable: Option<&str>) -> Entry {
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
        group,
        kind,
        min,
        max,
        choices,
        unit: setting.unit,
        default: setting.default.value(),
        nullable: setting.default == DefaultValue::Null && setting.kind != Kind::NodeId,
        advanced: setting.advanced,
        fixed: setting.kind == Kind::NodeId || variable.is_some(),
        environment: variable.map(str::to_owned),
        title: setting.title,
        meaning: setting.description,
        allowed: Allowed { zh, en },
        caution: setting.caution,
    }
}
