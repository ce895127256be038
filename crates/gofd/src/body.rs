//! Bodies as GoFD's server reads them, with its complaints: keys in any case, others
//! ignored, null and absent values empty, and what follows the document not looked at.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use thiserror::Error;

/// The fields of a JSON object.
#[derive(Debug)]
pub struct GoBody<'a> {
    bytes: &'a [u8],
    fields: Vec<(String, &'a RawValue)>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnreadableBody {
    #[error("Request body can't be empty")]
    Empty,
    #[error("unexpected EOF")]
    CutOff,
    #[error("Syntax error: offset={offset}, error={error}")]
    Syntax { offset: usize, error: String },
    #[error("Unmarshal type error: expected={expected}, got={got}, field={field}, offset={offset}")]
    Type { expected: &'static str, got: &'static str, field: String, offset: usize },
}

/// The fields of an object in their order.
struct FieldList<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for FieldList<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = FieldList<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(FieldList(fields))
            }
        }

        deserializer.deserialize_map(FieldVisitor)
    }
}

impl<'a> GoBody<'a> {
    /// Reads a body; `kind` is the name that GoFD gives what it expects.
    pub fn parse(bytes: &'a [u8], kind: &'static str) -> Result<Self, UnreadableBody> {
        if bytes.is_empty() {
            return Err(UnreadableBody::Empty);
        }
        let whole: &RawValue = first_value(bytes)?;
        let fields = match got(whole) {
            "null" => Vec::new(),
            "object" => first_value::<FieldList<'_>>(whole.get().as_bytes())?.0,
            got => {
                let offset = end_in(bytes, whole);
                return Err(UnreadableBody::Type {
                    expected: kind,
                    got,
                    field: String::new(),
                    offset,
                });
            }
        };
        Ok(Self { bytes, fields })
    }

    /// The last value of a key, unless it is null.
    fn value(&self, key: &str) -> Option<&'a RawValue> {
        let named = self.fields.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key));
        named.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    fn mismatch(&self, value: &RawValue, expected: &'static str, key: &str) -> UnreadableBody {
        let offset = end_in(self.bytes, value);
        UnreadableBody::Type { expected, got: got(value), field: key.to_owned(), offset }
    }

    pub fn text(&self, key: &str) -> Result<String, UnreadableBody> {
        let Some(value) = self.value(key) else { return Ok(String::new()) };
        serde_json::from_str(value.get()).map_err(|_| self.mismatch(value, "string", key))
    }

    pub fn texts(&self, key: &str) -> Result<Vec<String>, UnreadableBody> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let items: Vec<&RawValue> =
            serde_json::from_str(value.get()).map_err(|_| self.mismatch(value, "[]string", key))?;
        let text = |item: &&RawValue| match item.get() {
            "null" => Ok(String::new()),
            text => serde_json::from_str(text).map_err(|_| self.mismatch(item, "string", key)),
        };
        items.iter().map(text).collect()
    }

    pub fn number(&self, key: &str) -> Result<f64, UnreadableBody> {
        let Some(value) = self.value(key) else { return Ok(0.0) };
        serde_json::from_str(value.get()).map_err(|_| self.mismatch(value, "float32", key))
    }
}

fn first_value<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnreadableBody> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    T::deserialize(&mut deserializer).map_err(|error| match error.is_eof() {
        true => UnreadableBody::CutOff,
        false => {
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
            UnreadableBody::Syntax { offset: before + error.column(), error: reason }
        }
    })
}

/// The position behind a value that is a part of `bytes`.
fn end_in(bytes: &[u8], value: &RawValue) -> usize {
    let begin = value.get().as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
    begin + value.get().len()
}

/// The kind of a value in Go's words.
fn got(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        Some(_) | None => "number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Vec<String>, f64), UnreadableBody> {
        let body = GoBody::parse(text.as_bytes(), "server.CreateTask")?;
        Ok((body.text("id")?, body.texts("dispatchFiles")?, body.number("percentComplete")?))
    }

    #[test]
    fn keys_in_any_case_absent_ones_and_what_follows_are_as_in_go() {
        let all = read(r#"{"ID":"1","dispatchfiles":["a",null],"percentComplete":-1,"x":{}} {"#);
        assert_eq!(all, Ok(("1".into(), vec!["a".into(), String::new()], -1.0)));
        let nothing = Ok((String::new(), vec![], 0.0));
        assert_eq!(read("{}"), nothing);
        assert_eq!(read("null"), nothing);
        assert_eq!(read(r#"{"id":null,"dispatchFiles":null}"#), nothing);
        assert_eq!(read(r#"{"id":"1","Id":"2"}"#).unwrap().0, "2");
    }

    #[test]
    fn complaints_are_gofds() {
        for (text, told) in [
            ("", "Request body can't be empty"),
            ("{x", "Syntax error: offset=2, error=key must be a string"),
            ("{\n\"id\":\n,}", "Syntax error: offset=9, error=expected value"),
            (r#"{"id":"#, "unexpected EOF"),
            (r#"{"id":1"#, "unexpected EOF"),
            (
                r#"{"id":1}"#,
                "Unmarshal type error: expected=string, got=number, field=id, offset=7",
            ),
            (
                r#"{"dispatchFiles":"a"}"#,
                "Unmarshal type error: expected=[]string, got=string, field=dispatchFiles, offset=20",
            ),
            (
                r#"{"dispatchFiles":["a",true]}"#,
                "Unmarshal type error: expected=string, got=bool, field=dispatchFiles, offset=26",
            ),
            (
                r#"{"percentComplete":"1"}"#,
                "Unmarshal type error: expected=float32, got=string, field=percentComplete, offset=22",
            ),
            (
                "[1]",
                "Unmarshal type error: expected=server.CreateTask, got=array, field=, offset=3",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), told, "{text}");
        }
    }

    #[test]
    fn nesting_is_no_trouble() {
        let deep = format!(r#"{{"x":{}{},"id":"1"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep).map(|read| read.0), Ok("1".to_owned()));
    }
}
