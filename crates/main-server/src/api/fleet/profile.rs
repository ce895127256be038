//! Reads what an operator writes of a node; each error names its field.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{api::json::JsonBody, refusal::RequestError, state::fleet::ProfileEdit};

const MAX_CHARS: usize = 200;
const MAX_LABELS: usize = 16;
const MAX_LABEL_CHARS: usize = 64;
const MAX_WEIGHT: u32 = 100;
const MAX_PRIORITY: u32 = 100;

pub(super) fn read_edit(body: &JsonBody) -> Result<ProfileEdit, RequestError> {
    let mut edit = ProfileEdit::default();
    for (field, value) in &body.0 {
        match field.as_str() {
            "name" => edit.name = Some(text(field, value)?),
            "location" => edit.location = Some(text(field, value)?),
            "site" => edit.site = Some(text(field, value)?),
            "labels" => edit.labels = Some(labels(value)?),
            "weight" => edit.weight = Some(number(field, value, 1, MAX_WEIGHT)?),
            "priority" => edit.priority = Some(number(field, value, 0, MAX_PRIORITY)?),
            "drained" => {
                let wrong = || wrong(field, "true 或 false", "true or false");
                edit.drained = Some(value.as_bool().ok_or_else(wrong)?);
            }
            _ => {
                return Err(RequestError::Invalid(format!(
                    "未知字段 {field} / unknown field {field}"
                )));
            }
        }
    }
    Ok(edit)
}

fn wrong(field: &str, chinese: &str, english: &str) -> RequestError {
    RequestError::Invalid(format!("{field} 应为{chinese} / {field} must be {english}"))
}

fn line(value: &Value, max_chars: usize) -> Option<String> {
    let text = value.as_str()?.trim();
    let is_line = text.chars().count() <= max_chars && !text.contains(char::is_control);
    is_line.then(|| text.to_owned())
}

fn text(field: &str, value: &Value) -> Result<String, RequestError> {
    let chinese = format!("最多 {MAX_CHARS} 个字符的一行文字");
    let english = format!("one line of at most {MAX_CHARS} characters");
    line(value, MAX_CHARS).ok_or_else(|| wrong(field, &chinese, &english))
}

/// Sorted, each once.
fn labels(value: &Value) -> Result<Vec<String>, RequestError> {
    let label = |item| line(item, MAX_LABEL_CHARS).filter(|label| !label.is_empty());
    let items = value.as_array().filter(|items| items.len() <= MAX_LABELS);
    let labels = items.and_then(|items| items.iter().map(label).collect::<Option<BTreeSet<_>>>());
    let chinese = format!("最多 {MAX_LABELS} 个标签的列表，每个 1 到 {MAX_LABEL_CHARS} 个字符");
    let english =
        format!("a list of at most {MAX_LABELS} labels of 1 to {MAX_LABEL_CHARS} characters each");
    let labels = labels.ok_or_else(|| wrong("labels", &chinese, &english))?;
    Ok(labels.into_iter().collect())
}

fn number(field: &str, value: &Value, least: u32, most: u32) -> Result<u32, RequestError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let chinese = format!(" {least} 到 {most} 的整数");
    let english = format!("a whole number from {least} to {most}");
    let fits = number.filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| wrong(field, &chinese, &english))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edit(body: Value) -> Result<ProfileEdit, String> {
        let Value::Object(fields) = body else { panic!("no object") };
        read_edit(&JsonBody(fields)).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_sent_changes() {
        let sent = json!({"name": " 大厅 ", "labels": ["b", "a", "b"], "drained": true});
        let expected = ProfileEdit {
            name: Some("大厅".into()),
            labels: Some(vec!["a".into(), "b".into()]),
            drained: Some(true),
            ..ProfileEdit::default()
        };
        assert_eq!(edit(sent), Ok(expected));
        assert_eq!(edit(json!({})), Ok(ProfileEdit::default()));
        assert_eq!(edit(json!({"location": ""})).unwrap().location, Some(String::new()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (field, value) in [
            ("name", json!(5)),
            ("name", json!("x".repeat(201))),
            ("site", json!("a\nb")),
            ("labels", json!("a")),
            ("labels", json!([""])),
            ("labels", json!(["a", 5])),
            ("labels", json!(vec!["a"; 17])),
            ("weight", json!(0)),
            ("weight", json!(101)),
            ("weight", json!("1")),
            ("weight", json!(1.5)),
            ("priority", json!(-1)),
            ("drained", json!("yes")),
            ("drianed", json!(true)),
        ] {
            let told = edit(json!({field: value})).unwrap_err();
            assert!(told.contains(field), "{field} {value}: {told}");
        }
        assert!(edit(json!({"name": "x".repeat(200), "weight": 100, "priority": 100})).is_ok());
    }
}
