//! The table of settings as a document: the panel's forms and the tables of
//! `docs/` are made of it.

use serde::Serialize;
use serde_json::Value;

use super::{
    Environment,
    schema::{DefaultValue, EXACT, Setting, SettingKind, Words},
    table::GROUPS,
};

/// `GET /api/config/schema`: everything that a page has to know to show and
/// edit the settings.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "Settings"))]
pub struct SettingsSchema {
    groups: Vec<GroupEntry>,
    settings: Vec<SettingEntry>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "SettingGroup"))]
struct GroupEntry {
    name: &'static str,
    title: Words,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "Setting"))]
struct SettingEntry {
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
    /// A secret that operators choose: random letters will do.
    generated: bool,
    /// Not to be changed here.
    fixed: bool,
    /// The variable that it comes from.
    environment: Option<String>,
    title: Words,
    meaning: Words,
    allowed: AllowedValues,
    caution: Option<Words>,
}

/// Allowed values, in Chinese and in English.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
struct AllowedValues {
    zh: String,
    en: String,
}

pub fn described(environment: &Environment) -> SettingsSchema {
    let groups =
        GROUPS.iter().map(|group| GroupEntry { name: group.name, title: group.title }).collect();
    let entries = GROUPS.iter().flat_map(|group| {
        let variable = |setting: &Setting| environment.variable(setting.key);
        group.settings.iter().map(move |setting| entry(group.name, setting, variable(setting)))
    });
    SettingsSchema { groups, settings: entries.collect() }
}

fn entry(group: &'static str, setting: &Setting, variable: Option<&str>) -> SettingEntry {
    let (kind, min, max) = match setting.kind {
        SettingKind::Bool => ("bool", Value::Null, Value::Null),
        SettingKind::Int { min, max } => ("int", min.into(), max.into()),
        SettingKind::Limit { max, .. } => ("int", 0.into(), max.into()),
        SettingKind::Size { min } => ("int", min.into(), EXACT.into()),
        SettingKind::Bandwidth { .. } => ("int", 0.into(), EXACT.into()),
        SettingKind::Float { min, max } => ("float", min.into(), max.into()),
        SettingKind::Choice(_) => ("choice", Value::Null, Value::Null),
        SettingKind::Host | SettingKind::PublicHost => ("host", Value::Null, Value::Null),
        SettingKind::Interface => ("interface", Value::Null, Value::Null),
        SettingKind::Address => ("address", Value::Null, Value::Null),
        SettingKind::Path => ("path", Value::Null, Value::Null),
        SettingKind::NodeId => ("node_id", Value::Null, Value::Null),
        SettingKind::Label { .. } => ("label", Value::Null, Value::Null),
        SettingKind::Networks => ("networks", Value::Null, Value::Null),
        SettingKind::MainServers => ("main_servers", Value::Null, Value::Null),
        SettingKind::Schedule => ("schedule", Value::Null, Value::Null),
        SettingKind::Secret { .. } => ("secret", Value::Null, Value::Null),
    };
    let choices = match setting.kind {
        SettingKind::Choice(choices) => Some(choices),
        _ => None,
    };
    let (zh, en) = setting.wanted();
    SettingEntry {
        key: setting.key,
        group,
        kind,
        min,
        max,
        choices,
        unit: setting.unit,
        default: setting.default.value(),
        nullable: setting.default == DefaultValue::Null && setting.kind != SettingKind::NodeId,
        advanced: setting.advanced,
        generated: setting.generated,
        fixed: setting.kind == SettingKind::NodeId || variable.is_some(),
        environment: variable.map(str::to_owned),
        title: setting.title,
        meaning: setting.description,
        allowed: AllowedValues { zh, en },
        caution: setting.caution,
    }
}
