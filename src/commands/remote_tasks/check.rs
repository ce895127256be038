//! `edge-mirror tasks check`: reads declarations as the node does, and tells all mistakes.

use std::path::PathBuf;

use anyhow::{Result, bail};
use edge_mirror_settings::Settings;
use edge_mirror_tasks::folder::{self, TypeFolder};
use serde_json::{Value, json};

use crate::{
    cli::TypeCheckArgs,
    commands::{CheckFailed, place},
    terminal::{self, Language},
};

/// Tells all mistakes of a folder.
pub(super) fn run(args: &TypeCheckArgs, language: Language) -> Result<()> {
    let at: PathBuf = match &args.folder {
        Some(folder) => folder.clone(),
        None => Settings::read(&place::config_file(args.config.as_deref()))?.tasks_folder(),
    };
    if !at.is_dir() {
        let path = at.display();
        bail!(terminal::say(format!("没有文件夹 {path}"), format!("there is no folder {path}")));
    }
    let found = folder::read(&at);
    terminal::print(match args.json {
        true => format!("{:#}\n", as_json(&found)),
        false => as_text(&found, language),
    })?;
    if found.faults.is_empty() { Ok(()) } else { Err(CheckFailed.into()) }
}

fn as_text(found: &TypeFolder, language: Language) -> String {
    let mut text = String::new();
    for declared in found.types.values() {
        let names: Vec<&str> =
            declared.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let names = names.join(", ");
        let (name, title) = (&declared.name, &declared.title);
        text += &language.of(
            format!("{name}：{title}（参数：{names}）\n"),
            format!("{name}: {title} (parameters: {names})\n"),
        );
    }
    for fault in &found.faults {
        text += &format!("{}\n", fault.in_language(language == Language::Chinese));
    }
    let (good, bad) = (found.types.len(), found.faults.len());
    text += &language.of(
        format!("{good} 种任务可用，{bad} 处错误\n"),
        format!("{good} task types are valid, {bad} mistakes\n"),
    );
    text
}

fn as_json(found: &TypeFolder) -> Value {
    let types = found.types.values().map(|declared| {
        let parameters = declared.parameters.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "kind": parameter.kind.name(),
                "required": parameter.required,
            })
        });
        json!({
            "name": declared.name,
            "title": declared.title,
            "repeatable": declared.repeatable,
            "parameters": parameters.collect::<Vec<_>>(),
        })
    });
    let faults = found.faults.iter().map(|fault| {
        json!({
            "file": fault.file,
            "key": fault.fault.key,
            "line": fault.fault.line,
            "zh": fault.fault.wording.zh,
            "en": fault.fault.wording.en,
        })
    });
    json!({"types": types.collect::<Vec<_>>(), "faults": faults.collect::<Vec<_>>()})
}
