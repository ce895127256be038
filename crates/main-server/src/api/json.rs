//! Reads JSON bodies, and reports errors in one as the real main server does: 422
//! with a list of problems.

use std::{sync::Arc, time::Duration};

use axum::{
    body::HttpBody,
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use edge_mirror_http::{
    listen::rate_limit_key,
    wire::{
        MAX_JSON_BYTES,
        body::{self, BodyError},
    },
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    large_bodies::{LargeBodyPermit, SMALL_BYTES},
    refusal::{Context, Flaw, RequestError},
    server::Server,
};

/// Enough for a megabyte on any line.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Values in a body: a node with a thousand meetings sends a tenth of it. Each
/// takes some twenty times as much memory as its three bytes of text.
const MAX_VALUES: usize = 100_000;
/// Errors that are listed of one body.
const MAX_PROBLEMS: usize = 20;
/// Bytes of a wrong value that an error echoes.
const MAX_ECHO_BYTES: usize = 1000;

/// An answer whose JSON is written already.
pub(crate) struct WrittenJson(Vec<u8>);

impl WrittenJson {
    pub(crate) fn new(value: &impl Serialize) -> Self {
        // Text keys, strings and numbers only: serialization can't fail.
        Self(serde_json::to_vec(value).unwrap_or_default())
    }
}

impl IntoResponse for WrittenJson {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// A body that is a JSON object.
pub(crate) struct JsonBody(pub Map<String, Value>);

impl FromRequest<Arc<Server>> for JsonBody {
    type Rejection = RequestError;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, RequestError> {
        let outcome = read(request, server).await.and_then(|body| match body {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(not_an_object(&other)),
        });
        server.note_limit(&outcome);
        outcome
    }
}

/// Largest list of files: twenty thousand with a digest and a name each.
const MAX_FILES_BYTES: usize = 8 << 20;
/// Values in it: all that a file can have, and names with a few commas.
const MAX_FILES_VALUES: usize = 500_000;

/// A body that is a JSON object with a list of files, from an operator.
pub(crate) struct LargeJsonBody(pub(crate) Map<String, Value>);

impl FromRequest<Arc<Server>> for LargeJsonBody {
    type Rejection = RequestError;

    async fn from_request(request: Request, _: &Arc<Server>) -> Result<Self, RequestError> {
        let bytes = body::read(request.into_body(), MAX_FILES_BYTES, BODY_TIMEOUT).await?;
        match parse(&bytes, MAX_FILES_VALUES)? {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(not_an_object(&other)),
        }
    }
}

/// A body that is a JSON object, or a list of them.
pub(crate) struct JsonItems {
    pub(crate) items: Vec<Map<String, Value>>,
    pub(crate) is_list: bool,
}

impl FromRequest<Arc<Server>> for JsonItems {
    type Rejection = RequestError;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, RequestError> {
        let outcome = read(request, server).await.and_then(|body| {
            let (values, is_list) = match body {
                Value::Array(values) => (values, true),
                value => (vec![value], false),
            };
            let items = values.into_iter().map(|value| match value {
                Value::Object(fields) => Ok(fields),
                other => Err(not_an_object(&other)),
            });
            Ok(Self { items: items.collect::<Result<_, _>>()?, is_list })
        });
        server.note_limit(&outcome);
        outcome
    }
}

/// Extracted before the body, so that a wrong content type is reported as such and
/// not as a malformed body.
pub(crate) struct DeclaredJson;

impl<S: Sync> FromRequestParts<S> for DeclaredJson {
    type Rejection = RequestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RequestError> {
        if body::is_json(&parts.headers) { Ok(Self) } else { Err(RequestError::NotJson) }
    }
}

async fn read(request: Request, server: &Server) -> Result<Value, RequestError> {
    let (parts, body) = request.into_parts();
    // Held until the body is parsed: the result is small, or is used immediately.
    let large = body.size_hint().upper().is_none_or(|bytes| bytes > SMALL_BYTES);
    let permit = server.large_bodies.acquire(rate_limit_key(server.access.caller(&parts).address));
    let permit: Option<LargeBodyPermit> = match large {
        true => tokio::time::timeout(BODY_TIMEOUT, permit)
            .await
            .map_err(|_| RequestError::TooManyLargeBodies)?,
        false => None,
    };
    let read = body::read(body, MAX_JSON_BYTES, BODY_TIMEOUT);
    let read = match &permit {
        None => read.await,
        Some(permit) => tokio::select! {
            biased;
            read = read => read,
            () = permit.revoked() => return Err(RequestError::TooManyLargeBodies),
        },
    };
    let bytes = read?;
    if !body::is_json_or_untyped(&parts.headers) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        return Err(not_an_object(&Value::String(text)));
    }
    parse(&bytes, MAX_VALUES)
}

impl From<BodyError> for RequestError {
    fn from(unread: BodyError) -> Self {
        match unread {
            BodyError::TooLarge(limit) => Self::TooLarge(limit),
            BodyError::Slow => Self::Stalled,
            BodyError::Broken => Self::Cut(unread.to_string()),
        }
    }
}

fn parse(bytes: &[u8], max_values: usize) -> Result<Value, RequestError> {
    // No value is written without one of these before or behind it.
    let values = bytes.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > max_values {
        return Err(RequestError::TooManyValues(max_values));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        RequestError::Malformed(vec![Flaw {
            kind: "json_invalid".to_owned(),
            loc: vec![json!("body"), json!(error.column())],
            msg: "JSON decode error".to_owned(),
            input: json!({}),
            ctx: Some(Context { error: error.to_string() }),
        }])
    })
}

fn not_an_object(input: &Value) -> RequestError {
    let text = "Input should be a valid dictionary or object to extract fields from";
    RequestError::Malformed(vec![problem("model_attributes_type", &[json!("body")], text, input)])
}

fn problem(kind: &str, loc: &[Value], msg: &str, input: &Value) -> Flaw {
    let text = input.to_string();
    let input = match text.char_indices().nth(MAX_ECHO_BYTES) {
        Some((end, _)) => Value::String(text[..end].to_owned()),
        None => input.clone(),
    };
    Flaw { kind: kind.to_owned(), loc: loc.to_vec(), msg: msg.to_owned(), input, ctx: None }
}

/// Takes fields out of an object and gathers what is wrong with them.
pub(crate) struct FieldReader<'a> {
    fields: &'a Map<String, Value>,
    loc: Vec<Value>,
    problems: Vec<Flaw>,
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(JsonBody(fields): &'a JsonBody) -> Self {
        Self { fields, loc: vec![json!("body")], problems: Vec::new() }
    }

    pub(crate) fn text(&mut self, name: &str) -> String {
        match self.fields.get(name) {
            None => self.missing(name),
            Some(Value::String(text)) => return text.clone(),
            Some(other) => self.wrong(&[json!(name)], "string", other),
        }
        String::new()
    }

    /// Absent and null are the same.
    pub(crate) fn optional_text(&mut self, name: &str) -> Option<String> {
        self.fields.get(name).filter(|value| !value.is_null())?;
        Some(self.text(name))
    }

    /// Absent is fine, null is not.
    pub(crate) fn optional_texts(&mut self, name: &str) -> Option<Vec<String>> {
        let items = self.items(name, self.fields.get(name)?)?;
        let mut texts = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => self.wrong(&[json!(name), json!(n)], "string", other),
            }
        }
        Some(texts)
    }

    pub(crate) fn objects<T>(
        &mut self,
        name: &str,
        read: impl Fn(&mut FieldReader<'_>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.fields.get(name) else {
            self.missing(name);
            return Vec::new();
        };
        let mut found = Vec::new();
        for (n, item) in self.items(name, value).into_iter().flatten().enumerate() {
            let Value::Object(fields) = item else {
                self.wrong(&[json!(name), json!(n)], "dictionary", item);
                continue;
            };
            let loc = [&self.loc[..], &[json!(name), json!(n)]].concat();
            let mut inner = FieldReader { fields, loc, problems: Vec::new() };
            found.push(read(&mut inner));
            inner.problems.into_iter().for_each(|problem| self.note(problem));
        }
        found
    }

    pub(crate) fn finish(self) -> Result<(), RequestError> {
        if self.problems.is_empty() { Ok(()) } else { Err(RequestError::Malformed(self.problems)) }
    }

    fn items(&mut self, name: &str, value: &'a Value) -> Option<&'a Vec<Value>> {
        if !value.is_array() {
            self.wrong(&[json!(name)], "list", value);
        }
        value.as_array()
    }

    fn missing(&mut self, name: &str) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let loc = [&self.loc[..], &[json!(name)]].concat();
        let whole = Value::Object(self.fields.clone());
        self.note(problem("missing", &loc, "Field required", &whole));
    }

    fn wrong(&mut self, at: &[Value], wanted: &str, input: &Value) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let (kind, loc) = (format!("{wanted}_type"), [&self.loc[..], at].concat());
        let kind = if wanted == "dictionary" { "dict_type" } else { &kind };
        self.note(problem(kind, &loc, &format!("Input should be a valid {wanted}"), input));
    }

    fn note(&mut self, problem: Flaw) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(body: Value) -> Vec<(String, Value)> {
        let Value::Object(fields) = body else { panic!("no object") };
        let body = JsonBody(fields);
        let mut reader = FieldReader::new(&body);
        reader.text("name");
        reader.optional_text("maybe");
        reader.optional_texts("ids");
        reader.objects("items", |item| item.text("title"));
        let Err(RequestError::Malformed(problems)) = reader.finish() else { return Vec::new() };
        problems.into_iter().map(|p| (p.kind, json!(p.loc))).collect()
    }

    #[test]
    fn each_problem_names_its_place() {
        let good = json!({"name": "n", "ids": ["a"], "items": [{"title": "t", "more": 1}]});
        assert_eq!(problems(good), []);
        assert_eq!(problems(json!({"name": "n", "maybe": null, "items": []})), []);
        for (body, kind, loc) in [
            (json!({"items": []}), "missing", json!(["body", "name"])),
            (json!({"name": 5, "items": []}), "string_type", json!(["body", "name"])),
            (json!({"name": "n"}), "missing", json!(["body", "items"])),
            (json!({"name": "n", "items": null}), "list_type", json!(["body", "items"])),
            (json!({"name": "n", "items": ["x"]}), "dict_type", json!(["body", "items", 0])),
            (json!({"name": "n", "items": [{}]}), "missing", json!(["body", "items", 0, "title"])),
            (
                json!({"name": "n", "items": [{"title": null}]}),
                "string_type",
                json!(["body", "items", 0, "title"]),
            ),
            (json!({"name": "n", "items": [], "ids": null}), "list_type", json!(["body", "ids"])),
            (
                json!({"name": "n", "items": [], "ids": ["a", 2]}),
                "string_type",
                json!(["body", "ids", 1]),
            ),
        ] {
            assert_eq!(problems(body.clone()), [(kind.to_owned(), loc)], "{body}");
        }
    }

    #[test]
    fn a_body_has_a_bounded_number_of_values() {
        for (values, fits) in [(MAX_VALUES - 1, true), (MAX_VALUES, true), (MAX_VALUES + 1, false)]
        {
            // The object, the list, and then a comma between two of them.
            let body = format!("{{\"a\":[{}1]}}", "1,".repeat(values - 2));
            let outcome = parse(body.as_bytes(), MAX_VALUES);
            assert_eq!(outcome.is_ok(), fits, "{values}");
            let beyond = matches!(outcome, Err(RequestError::TooManyValues(MAX_VALUES)));
            assert_eq!(beyond, !fits, "{values}");
        }
    }

    #[test]
    fn an_answer_stays_short_whatever_was_sent() {
        let items: Vec<_> = (0..10_000).map(|_| json!({"x": "会".repeat(10)})).collect();
        assert_eq!(problems(json!({"name": "n", "items": items})).len(), MAX_PROBLEMS);
        let echoed = problem("missing", &[], "", &json!("会".repeat(1 << 20)));
        assert!(json!(echoed).to_string().len() < 5 * MAX_ECHO_BYTES);
    }
}
