//! Settings from the environment: `EDGE_MIRROR_NETWORK__RETRY_COUNT=5` is
//! `network.retryCount`. They override the file's and are never saved to it.

use std::ffi::OsString;

use edge_mirror_base::quantity;
use serde_json::{Map, Value};

use super::{
    check::SettingProblem,
    main_server,
    schema::{self, Setting, SettingKind, settings},
};

const PREFIX: &str = "EDGE_MIRROR_";
/// Not settings: commands log in with it.
const OTHERS: &[&str] = &["EDGE_MIRROR_TOKEN"];
/// Names of two settings in containers of other systems.
const ALIASES: &[(&str, &str)] = &[("NODE_PORT", "nodePort"), ("NODE_NAME", "nodeId")];

/// The environment's settings at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    set: Vec<EnvironmentSetting>,
    unknown: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct EnvironmentSetting {
    key: &'static str,
    variable: String,
    value: Value,
}

impl Environment {
    pub fn from_process() -> Result<Self, Vec<SettingProblem>> {
        Self::read(std::env::vars_os())
    }

    /// A setting's own variable takes precedence over an alias.
    pub fn read(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Vec<SettingProblem>> {
        let (mut this, mut problems) = (Self::default(), Vec::new());
        let mut named: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX) || is_alias(name))
            .filter(|(name, _)| !OTHERS.contains(&name.as_str()))
            .collect();
        named.sort_by_key(|(name, _)| (is_alias(name), name.clone()));
        for (variable, value) in named {
            let Some(setting) = find_setting(&variable) else {
                this.unknown.push(variable);
                continue;
            };
            if this.variable(setting.key).is_some() {
                continue;
            }
            match value.into_string().ok().and_then(|text| read_as(setting, &text)) {
                Some(value) if setting.accepts(&value) => {
                    this.set.push(EnvironmentSetting { key: setting.key, variable, value })
                }
                unusable => {
                    let (zh, en) = setting.error_message(&unusable.unwrap_or_default());
                    let zh = format!("环境变量{zh}");
                    let en = format!("the environment variable {en}");
                    problems.push(SettingProblem::new(&variable, None, zh, en));
                }
            }
        }
        this.derive_main_server();
        if problems.is_empty() { Ok(this) } else { Err(problems) }
    }

    /// The keys of the first main server come with the list.
    fn derive_main_server(&mut self) {
        let Some(list) = self.set.iter().find(|set| set.key == main_server::LIST).cloned() else {
            return;
        };
        for (key, value) in main_server::keys_of_first(&list.value) {
            if self.variable(key).is_none() {
                self.set.push(EnvironmentSetting { key, variable: list.variable.clone(), value });
            }
        }
    }

    /// The variable that a setting comes from.
    pub(crate) fn variable(&self, key: &str) -> Option<&str> {
        self.set.iter().find(|set| set.key == key).map(|set| set.variable.as_str())
    }

    /// Variables that look like settings but are none.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Overrides a document.
    pub fn overlay(&self, document: &Map<String, Value>) -> Map<String, Value> {
        let mut document = document.clone();
        for set in &self.set {
            // A value in place of a section is the file's own mistake, which
            // is found when the result is checked.
            schema::put(&mut document, set.key, set.value.clone());
        }
        document
    }

    /// Removes what the environment sets anyway from a patch; other values would be
    /// saved without effect, and are problems.
    pub fn strip(
        &self,
        patch: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<SettingProblem>> {
        let (mut rest, mut problems) = (patch.clone(), Vec::new());
        for set in &self.set {
            let Some(value) = take(&mut rest, set.key) else { continue };
            let secret = schema::find(set.key).is_some_and(Setting::is_secret);
            if value == set.value || secret && value == schema::HIDDEN {
                continue;
            }
            let variable = &set.variable;
            problems.push(SettingProblem::new(
                set.key,
                (!secret).then_some(&value),
                format!("由环境变量 {variable} 设定，请在那里修改并重启"),
                format!(
                    "is set by the environment variable {variable}; change it there, and restart"
                ),
            ));
        }
        if problems.is_empty() { Ok(rest) } else { Err(problems) }
    }
}

fn is_alias(name: &str) -> bool {
    ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// `storage.maxSize` is `EDGE_MIRROR_STORAGE__MAX_SIZE`, also without the inner
/// underscores.
fn find_setting(variable: &str) -> Option<&'static Setting> {
    if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == variable) {
        return schema::find(key);
    }
    let name = variable.strip_prefix(PREFIX)?;
    let bare = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let name: Vec<String> = name.split("__").map(bare).collect();
    settings().find(|setting| setting.key.split('.').map(bare).eq(name.iter().cloned()))
}

/// Texts need no quotes, lists are separated by commas, empty is null. Whether the value
/// is allowed is for the setting to say.
fn read_as(setting: &Setting, text: &str) -> Option<Value> {
    let text = text.trim();
    Some(match setting.kind {
        SettingKind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true.into(),
            "false" | "0" | "no" | "off" => false.into(),
            _ => return None,
        },
        SettingKind::Int { .. } | SettingKind::Limit { .. } => text.parse::<u64>().ok()?.into(),
        SettingKind::Size { .. } => quantity::parse_size(text)?.into(),
        SettingKind::Bandwidth { .. } => quantity::parse_rate(text)?.into(),
        SettingKind::Float { .. } => text.parse::<f64>().ok()?.into(),
        SettingKind::Networks | SettingKind::Schedule | SettingKind::MainServers => {
            text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Value::from).collect()
        }
        SettingKind::Choice(choices) => {
            // In any letter case: levels are often in small letters.
            let same = choices.iter().find(|choice| choice.eq_ignore_ascii_case(text));
            same.map_or_else(|| text.into(), |choice| Value::from(*choice))
        }
        SettingKind::Host
        | SettingKind::PublicHost
        | SettingKind::Interface
        | SettingKind::Address
        | SettingKind::Path
        | SettingKind::NodeId
        | SettingKind::Secret { .. } => match text {
            "" => Value::Null,
            text => text.into(),
        },
        SettingKind::Label { .. } => text.into(),
    })
}

/// Takes the value at a dotted key out of a document.
fn take(document: &mut Map<String, Value>, key: &str) -> Option<Value> {
    match key.split_once('.') {
        None => document.shift_remove(key),
        Some((section, key)) => document.get_mut(section)?.as_object_mut()?.shift_remove(key),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Settings;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, Vec<SettingProblem>> {
        Environment::read(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_setting_has_a_variable_of_its_own() {
        for setting in settings() {
            let variable: String = setting
                .key
                .chars()
                .flat_map(|c| match c {
                    '.' => vec!['_', '_'],
                    c if c.is_uppercase() => vec!['_', c],
                    c => vec![c.to_ascii_uppercase()],
                })
                .collect();
            let found = find_setting(&format!("{PREFIX}{variable}"));
            assert_eq!(found.map(|s| s.key), Some(setting.key), "{variable}");
        }
    }

    #[test]
    fn values_are_read_by_their_kind_and_go_over_the_files() {
        let environment = read(&[
            ("EDGE_MIRROR_MAIN_SERVER_IP", "main.local"),
            ("EDGE_MIRROR_NETWORK__RETRY_COUNT", " 7 "),
            ("EDGE_MIRROR_STORAGE__CLEANUPTHRESHOLD", "0.5"),
            ("EDGE_MIRROR_STORAGE__MAX_SIZE", "10GiB"),
            ("EDGE_MIRROR_CLEANUP__ENABLED", "off"),
            ("EDGE_MIRROR_LOGGING__LEVEL", "debug"),
            ("EDGE_MIRROR_SECURITY__ALLOW_FROM", "10.0.0.0/8, ::1"),
            ("EDGE_MIRROR_NETWORK__SCHEDULE", "08:00-18:00 10MB, 22:00-06:00 off"),
            ("EDGE_MIRROR_SITE", " 北楼 "),
            ("EDGE_MIRROR_TOKEN", "secret"),
            ("EDGE_MIRROR_NOD_PORT", "1"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        let file = object(json!({"network": {"retryCount": 3, "mine": 1}, "other": true}));
        let over = Value::Object(environment.overlay(&file));
        assert_eq!(
            over,
            json!({
                "network": {
                    "retryCount": 7,
                    "mine": 1,
                    "schedule": ["08:00-18:00 10MB", "22:00-06:00 off"],
                },
                "other": true,
                "cleanup": {"enabled": false},
                "logging": {"level": "DEBUG"},
                "mainServerIp": "main.local",
                "site": "北楼",
                "security": {"allowFrom": ["10.0.0.0/8", "::1"]},
                "storage": {"cleanupThreshold": 0.5, "maxSize": 10_737_418_240_u64},
            })
        );
        assert_eq!(environment.unknown(), ["EDGE_MIRROR_NOD_PORT"]);
        assert_eq!(
            environment.variable("network.retryCount"),
            Some("EDGE_MIRROR_NETWORK__RETRY_COUNT")
        );
        assert_eq!(environment.variable("nodePort"), None);
    }

    #[test]
    fn aliases_are_understood_and_come_last() {
        let environment = read(&[("NODE_PORT", "8900"), ("NODE_NAME", "Worker-1")]).unwrap();
        let over = Value::Object(environment.overlay(&Map::new()));
        assert_eq!(over, json!({"nodeId": "Worker-1", "nodePort": 8900}));
        let both = read(&[("NODE_PORT", "8900"), ("EDGE_MIRROR_NODE_PORT", "9000")]).unwrap();
        assert_eq!(both.overlay(&Map::new())["nodePort"], 9000);
    }

    #[test]
    fn a_new_file_has_nothing_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node_config.json");
        let environment =
            read(&[("EDGE_MIRROR_MAIN_SERVER_IP", "127.0.0.1"), ("NODE_NAME", "here")]).unwrap();
        let settings = Settings::load(&path, environment).unwrap();
        assert_eq!(settings.current().main_server(), "http://127.0.0.1:80");
        assert_eq!(settings.current().node_id, "here");
        let saved = std::fs::read(&path).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&saved).unwrap(),
            Value::Object(schema::defaults())
        );
    }

    #[test]
    fn a_list_of_main_servers_brings_the_first_ones_keys_with_it() {
        let environment = read(&[("EDGE_MIRROR_MAIN_SERVERS", "https://a, b:81")]).unwrap();
        let file =
            object(json!({"mainServerIp": "10.0.0.1", "mainServerPort": 8000, "nodeId": "n"}));
        let over = environment.overlay(&file);
        let config = crate::check::parse_config(&over, std::path::Path::new("/")).unwrap();
        assert_eq!(config.fleet().base_urls(), ["https://a:443", "http://b:81"]);
        let saved = environment.strip(&object(json!({"mainServerIp": "10.0.0.2"})));
        assert!(saved.unwrap_err()[0].en.contains("EDGE_MIRROR_MAIN_SERVERS"));
        // Of one of these in the environment, a file's list can say nothing else.
        let environment = read(&[("EDGE_MIRROR_MAIN_SERVER_IP", "c")]).unwrap();
        let file = object(json!({"mainServers": ["a", "b"], "nodeId": "n"}));
        let over = environment.overlay(&file);
        let refused = crate::check::parse_config(&over, std::path::Path::new("/")).unwrap_err();
        assert_eq!(refused[0].key, "mainServerIp");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_variable_and_without_secrets() {
        let wrong = read(&[
            ("EDGE_MIRROR_NODE_PORT", "99999"),
            ("NODE_NAME", "a b"),
            ("EDGE_MIRROR_CLEANUP__ENABLED", "perhaps"),
            ("EDGE_MIRROR_SECURITY__MAIN_SERVER_KEY", "short"),
            ("EDGE_MIRROR_RELAY__KEY", "fifteen-letters"),
            ("EDGE_MIRROR_NETWORK__SCHEDULE", "08:00-18:00 0"),
        ])
        .unwrap_err();
        let keys: Vec<&str> = wrong.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "EDGE_MIRROR_CLEANUP__ENABLED",
                "EDGE_MIRROR_NETWORK__SCHEDULE",
                "EDGE_MIRROR_NODE_PORT",
                "EDGE_MIRROR_RELAY__KEY",
                "EDGE_MIRROR_SECURITY__MAIN_SERVER_KEY",
                "NODE_NAME",
            ]
        );
        assert!(wrong[1].en.contains("\"off\""), "{}", wrong[1]);
        assert!(wrong[2].en.contains("from 1 to 65535"), "{}", wrong[2]);
        for secret in ["short", "fifteen"] {
            assert!(!wrong.iter().any(|problem| problem.to_string().contains(secret)));
        }
    }

    #[test]
    fn a_patch_is_left_without_what_the_environment_says() {
        let environment = read(&[
            ("EDGE_MIRROR_NODE_PORT", "9000"),
            ("EDGE_MIRROR_SECURITY__MAIN_SERVER_KEY", "long-enough"),
        ])
        .unwrap();
        let same = object(json!({
            "nodePort": 9000, "syncInterval": 5, "security": {"mainServerKey": schema::HIDDEN},
        }));
        let rest = environment.strip(&same).unwrap();
        assert_eq!(Value::Object(rest), json!({"syncInterval": 5, "security": {}}));
        let other = object(json!({"nodePort": 9001, "security": {"mainServerKey": "another-key"}}));
        let problems = environment.strip(&other).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].en.contains("EDGE_MIRROR_NODE_PORT"), "{}", problems[0]);
        assert!(!problems[1].to_string().contains("another-key"));
    }
}
