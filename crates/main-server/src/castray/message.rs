//! A message as a client writes it, and all that is wrong with one. Pure.

use serde_json::{Map, Value, json};

use super::body::flaw;

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CastKind {
    Unicast,
    Multicast,
    Broadcast,
}

impl CastKind {
    const NAMES: [(&'static str, Self); 3] = [
        ("unicast", Self::Unicast),
        ("multicast", Self::Multicast),
        ("broadcast", Self::Broadcast),
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
        }
    }
}

/// Flaws that are listed.
const MAX_FLAWS: usize = 100;

const CONTENT_KINDS: [(&str, &str); 3] = [("text", "text"), ("file", "file"), ("json", "json")];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct CastMessage {
    pub(super) id: String,
    pub(super) kind: CastKind,
    pub(super) content_kind: &'static str,
    /// A text or an object.
    pub(super) content: Value,
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) group_id: Option<String>,
    /// Seconds since 1970; now if absent.
    pub(super) timestamp: Option<f64>,
}

impl CastMessage {
    /// Reads a message; if it is none, all flaws of it.
    pub(super) fn read(fields: &Map<String, Value>) -> Result<Self, Vec<Value>> {
        let mut reader = MessageReader { fields, flaws: Vec::new() };
        let id = reader.text("id");
        let kind = reader.choice("cast_type", &CastKind::NAMES);
        let content_kind = reader.choice("message_type", &CONTENT_KINDS);
        let content = reader.content();
        let sender = reader.text("sender");
        let recipients = reader.recipients();
        let group_id = reader.optional("group_id", "string_type", "string", |value| {
            value.as_str().map(str::to_owned)
        });
        let timestamp = reader.optional("timestamp", "float_type", "number", |value| match value {
            Value::String(text) => {
                text.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite())
            }
            other => other.as_f64(),
        });
        reader.optional("file_path", "string_type", "string", |value| value.as_str().map(|_| ()));
        reader.optional("file_size", "int_type", "integer", |value| match value {
            Value::String(text) => text.trim().parse::<i64>().ok().map(|_| ()),
            other => other.as_f64().filter(|size| size.fract() == 0.0).map(|_| ()),
        });
        let (Some(id), Some(kind), Some(content_kind), Some(content), Some(sender), true) =
            (id, kind, content_kind, content, sender, reader.flaws.is_empty())
        else {
            return Err(reader.flaws);
        };
        Ok(Self { id, kind, content_kind, content, sender, recipients, group_id, timestamp })
    }
}

struct MessageReader<'a> {
    fields: &'a Map<String, Value>,
    flaws: Vec<Value>,
}

impl<'a> MessageReader<'a> {
    fn required(&mut self, name: &str) -> Option<&'a Value> {
        let found = self.fields.get(name);
        if found.is_none() {
            let whole = Value::Object(self.fields.clone());
            let at = [json!("body"), json!(name)];
            self.flaws.push(flaw("missing", &at, "Field required", &whole));
        }
        found
    }

    fn wrong(&mut self, at: &[Value], kind: &str, wanted: &str, input: &Value) {
        let at = [&[json!("body")], at].concat();
        let text = format!("Input should be a valid {wanted}");
        self.flaws.push(flaw(kind, &at, &text, input));
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let value = self.required(name)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(&[json!(name)], "string_type", "string", value);
        }
        text
    }

    fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T); 3]) -> Option<T> {
        let value = self.required(name)?;
        let chosen = choices.iter().find(|(choice, _)| value == choice);
        if chosen.is_none() {
            let [(first, _), (second, _), (third, _)] = choices;
            let expected = format!("'{first}', '{second}' or '{third}'");
            let at = [json!("body"), json!(name)];
            let mut flaw = flaw("enum", &at, &format!("Input should be {expected}"), value);
            flaw["ctx"] = json!({"expected": expected});
            self.flaws.push(flaw);
        }
        chosen.map(|(_, choice)| *choice)
    }

    fn content(&mut self) -> Option<Value> {
        let value = self.required("content")?;
        if value.is_string() || value.is_object() {
            return Some(value.clone());
        }
        self.wrong(&[json!("content"), json!("str")], "string_type", "string", value);
        let at = [json!("content"), json!("dict[any,any]")];
        self.wrong(&at, "dict_type", "dictionary", value);
        None
    }

    fn recipients(&mut self) -> Vec<String> {
        let Some(value) = self.fields.get("recipients") else { return Vec::new() };
        let Value::Array(items) = value else {
            self.wrong(&[json!("recipients")], "list_type", "list", value);
            return Vec::new();
        };
        let mut recipients = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            if self.flaws.len() >= MAX_FLAWS {
                break;
            }
            match item.as_str() {
                Some(id) => recipients.push(id.to_owned()),
                None => {
                    self.wrong(&[json!("recipients"), json!(n)], "string_type", "string", item);
                }
            }
        }
        recipients
    }

    /// Absent and null are the same.
    fn optional<T>(
        &mut self,
        name: &str,
        kind: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        let found = read(value);
        if found.is_none() {
            self.wrong(&[json!(name)], kind, wanted, value);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changed: Value) -> Result<CastMessage, Vec<Value>> {
        let mut message = json!({
            "id": "m1", "cast_type": "unicast", "message_type": "text", "content": "会议",
            "sender": "a",
        });
        for (name, value) in changed.as_object().unwrap() {
            message[name] = value.clone();
        }
        CastMessage::read(message.as_object().unwrap())
    }

    #[test]
    fn a_message_is_read_with_what_may_be_absent() {
        let read_one = read(json!({})).unwrap();
        assert_eq!((read_one.kind, read_one.content_kind), (CastKind::Unicast, "text"));
        assert_eq!((read_one.recipients.len(), read_one.timestamp), (0, None));
        let full = json!({
            "content": {"a": 1}, "recipients": ["b"], "group_id": "g", "timestamp": "1.5",
            "file_path": null, "file_size": 3.0, "more": 1,
        });
        let full = read(full).unwrap();
        assert_eq!((full.group_id.as_deref(), full.timestamp), (Some("g"), Some(1.5)));
    }

    #[test]
    fn each_flaw_names_its_place() {
        for (changed, kind, loc) in [
            (json!({"id": 5}), "string_type", json!(["body", "id"])),
            (json!({"cast_type": "anycast"}), "enum", json!(["body", "cast_type"])),
            (json!({"message_type": null}), "enum", json!(["body", "message_type"])),
            (json!({"content": 5}), "string_type", json!(["body", "content", "str"])),
            (json!({"recipients": "b"}), "list_type", json!(["body", "recipients"])),
            (json!({"recipients": null}), "list_type", json!(["body", "recipients"])),
            (json!({"recipients": ["b", 1]}), "string_type", json!(["body", "recipients", 1])),
            (json!({"group_id": 1}), "string_type", json!(["body", "group_id"])),
            (json!({"timestamp": "now"}), "float_type", json!(["body", "timestamp"])),
            (json!({"file_size": 1.5}), "int_type", json!(["body", "file_size"])),
        ] {
            let flaws = read(changed.clone()).unwrap_err();
            assert_eq!((&flaws[0]["type"], &flaws[0]["loc"]), (&json!(kind), &loc), "{changed}");
        }
        let flaws = read(json!({"recipients": vec![0; 5000]})).unwrap_err();
        assert_eq!(flaws.len(), MAX_FLAWS);
        let flaws = CastMessage::read(&Map::new()).unwrap_err();
        assert_eq!(flaws.len(), 5);
        assert!(flaws.iter().all(|flaw| flaw["type"] == "missing" && flaw["input"] == json!({})));
        let flaws = read(json!({"cast_type": "x"})).unwrap_err();
        assert_eq!(flaws[0]["ctx"]["expected"], "'unicast', 'multicast' or 'broadcast'");
    }
}
