//! The tables of settings, from the one that the panel shows.

use serde_json::Value;

use super::{Language, Language::*, cell, compare};
use edge_mirror_settings::{Environment, meaning};

#[test]
fn the_tables_of_settings_are_those_of_the_program() {
    let described = meaning::described(&Environment::default());
    let described = serde_json::to_value(described).unwrap();
    for language in [English, Chinese] {
        compare(language, "configuration.md", "settings", &tables(&described, language));
    }
}

/// A table for each group, under its heading.
fn tables(described: &Value, language: Language) -> String {
    let settings = described["settings"].as_array().unwrap();
    let groups = described["groups"].as_array().unwrap().iter().map(|group| {
        let rows = settings.iter().filter(|setting| setting["group"] == group["name"]);
        let rows: String = rows.map(|setting| row(setting, language)).collect();
        let columns =
            language.of("配置项 | 默认值 | 允许的值 | 含义", "Key | Default | Allowed | Meaning");
        let title = words(&group["title"], language);
        format!("### {title}\n\n| {columns} |\n|---|---|---|---|\n{rows}")
    });
    groups.collect::<Vec<_>>().join("\n")
}

fn row(setting: &Value, language: Language) -> String {
    let key = setting["key"].as_str().unwrap();
    let mut meaning = words(&setting["meaning"], language).to_owned();
    if setting["caution"].is_object() {
        meaning += language.of("修改后：", " On change: ");
        meaning += &lower_first(words(&setting["caution"], language));
    }
    let default = default(setting, language);
    let allowed = allowed(setting, language);
    format!("| `{key}` | {default} | {} | {} |\n", cell(&allowed), cell(&meaning))
}

fn default(setting: &Value, language: Language) -> String {
    let value = &setting["default"];
    let unit = setting["unit"].as_str();
    match (value, unit) {
        (Value::Null, _) if setting["kind"] == "node_id" => {
            language.of("自动生成", "generated").to_owned()
        }
        (Value::Number(_), Some("s")) => format!("`{value}`{}", language.of(" 秒", " s")),
        (Value::Number(bytes), Some("bytes")) if bytes.as_u64() != Some(0) => {
            format!("`{value}`{}", size(bytes.as_u64().unwrap(), language))
        }
        _ => format!("`{value}`"),
    }
}

fn size(bytes: u64, language: Language) -> String {
    let shown = match bytes {
        gib if gib % (1 << 30) == 0 => format!("{} GiB", gib >> 30),
        mib if mib % (1 << 20) == 0 => format!("{} MiB", mib >> 20),
        _ => return String::new(),
    };
    language.of(format!("（{shown}）"), format!(" ({shown})"))
}

fn allowed(setting: &Value, language: Language) -> String {
    let allowed = words(&setting["allowed"], language);
    match setting["nullable"] == true {
        true => format!("{allowed}{}", language.of("，或 null", ", or null")),
        false => allowed.to_owned(),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}

fn words(value: &Value, language: Language) -> &str {
    value[language.of("zh", "en")].as_str().unwrap()
}
