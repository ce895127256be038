//! `edge-mirror config`: settings, in the file or through a running node; both follow
//! `config`'s rules.

mod patch;
mod source;

use std::io;

use anyhow::Result;
use edge_mirror_settings::{SettingProblem, check, schema};
use serde_json::{Map, Value, json};

use super::CheckFailed;
use crate::{
    cli::ConfigCommand,
    terminal::{self, Language, words},
};
use source::ConfigSource;

pub(super) async fn run(command: ConfigCommand, language: Language) -> Result<()> {
    match command {
        ConfigCommand::Get { keys, of } => {
            let settings = ConfigSource::of(&of)?.settings().await?;
            Ok(terminal::print(shown(&settings, &keys, of.json)?)?)
        }
        ConfigCommand::Set { changes, of } => {
            let source = ConfigSource::of(&of)?;
            let changed = source.change(patch::of(&changes)).await?;
            Ok(tell_set(&source, changed, of.json, language)?)
        }
        ConfigCommand::Check { changes, of } => {
            let source = ConfigSource::of(&of)?;
            let problems = source.check(patch::of(&changes)).await?;
            tell_check(&source, &problems, of.json, language)?;
            if problems.is_empty() { Ok(()) } else { Err(CheckFailed.into()) }
        }
    }
}

/// Formats all settings, or those that are named; for one, the bare value.
fn shown(settings: &Map<String, Value>, keys: &[String], as_json: bool) -> Result<String> {
    let known: Vec<&str> = schema::settings().map(|setting| setting.key).collect();
    if let Some(key) = keys.iter().find(|key| !known.contains(&key.as_str())) {
        let mut alone = Map::new();
        schema::put(&mut alone, key, Value::Null);
        match check::unknown_keys(&alone).first() {
            Some(unknown) => anyhow::bail!(terminal::say(
                format!("{}：{}", unknown.key, unknown.zh),
                format!("{}: {}", unknown.key, unknown.en),
            )),
            None => anyhow::bail!(terminal::say(
                format!("{key} 是一组配置，请写出其中的一项"),
                format!("{key}: it is a section; name a setting in it"),
            )),
        }
    }
    let wanted: Vec<&str> = match keys.is_empty() {
        true => known,
        false => keys.iter().map(String::as_str).collect(),
    };
    let value = |key: &str| schema::get(settings, key).cloned().unwrap_or_default();
    if as_json {
        let all: Map<_, _> = wanted.iter().map(|key| ((*key).to_owned(), value(key))).collect();
        return Ok(format!("{:#}\n", Value::Object(all)));
    }
    if let (1, [key]) = (keys.len(), &wanted[..]) {
        return Ok(format!("{}\n", bare(&value(key))));
    }
    Ok(wanted.iter().map(|key| format!("{key}={}\n", bare(&value(key)))).collect())
}

/// Formats a value as `set` takes it.
fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => words::plain(text),
        other => other.to_string(),
    }
}

fn tell_set(
    source: &ConfigSource,
    changed: bool,
    as_json: bool,
    language: Language,
) -> io::Result<()> {
    if as_json {
        let answer = json!({"of": source.to_string(), "changed": changed});
        return terminal::print(format!("{answer:#}\n"));
    }
    let outcome = match changed {
        true => language.of("已更新", "changed"),
        false => language.of("没有变化", "unchanged"),
    };
    terminal::print(language.of(format!("{source}：{outcome}\n"), format!("{source}: {outcome}\n")))
}

fn tell_check(
    source: &ConfigSource,
    problems: &[SettingProblem],
    as_json: bool,
    language: Language,
) -> io::Result<()> {
    if as_json {
        let answer = json!({"of": source.to_string(), "problems": problems});
        return terminal::print(format!("{answer:#}\n"));
    }
    if problems.is_empty() {
        let none = language.of("没有错误", "no problems found");
        return terminal::print(
            language.of(format!("{source}：{none}\n"), format!("{source}: {none}\n")),
        );
    }
    let mut lines = String::new();
    for problem in problems {
        let one = std::slice::from_ref(problem);
        lines += &words::plain(&check::list_in(one, language == Language::Chinese));
        lines.push('\n');
    }
    terminal::print(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_as_set_takes_them() {
        let settings = json!({
            "mainServerIp": "10.0.0.1", "publicIp": null, "storage": {"maxSize": 5, "autoCleanup": true},
        });
        let settings = settings.as_object().unwrap();
        let shown = |keys: &[&str], as_json| {
            let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
            super::shown(settings, &keys, as_json)
        };
        assert_eq!(shown(&["mainServerIp"], false).unwrap(), "10.0.0.1\n");
        assert_eq!(
            shown(&["storage.maxSize", "publicIp"], false).unwrap(),
            "storage.maxSize=5\npublicIp=null\n"
        );
        let json: Value =
            serde_json::from_str(&shown(&["storage.maxSize"], true).unwrap()).unwrap();
        assert_eq!(json, json!({"storage.maxSize": 5}));
        assert!(shown(&[], false).unwrap().contains("\nstorage.autoCleanup=true\n"));
        let wrong = shown(&["storage.maxsize"], false).unwrap_err().to_string();
        assert!(wrong.contains("did you mean storage.maxSize?"), "{wrong}");
        assert!(shown(&["storage"], false).unwrap_err().to_string().contains("section"));
    }
}
