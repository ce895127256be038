//! Builds the OpenAPI documents, in tests: the schemas are those of the handlers' types,
//! and each server's own file says which call returns what. A document that differs from
//! its types, or that lists other routes than the router has, fails a test.

use std::{collections::BTreeSet, env, fs, path::Path};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, header},
};
use edge_mirror_protocol::package::PackageId;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::{Detail, feed, health};
use crate::listen::PeerAddress;

/// A media type, and a schema of the types that `Document` gathers.
pub struct Content {
    media_type: &'static str,
    schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

pub fn json<T: JsonSchema>() -> Content {
    Content { media_type: "application/json", schema: Some(SchemaGenerator::subschema_for::<T>) }
}

pub fn text(media_type: &'static str) -> Content {
    Content { media_type, schema: Some(SchemaGenerator::subschema_for::<String>) }
}

/// Bytes have no schema in OpenAPI 3.1.
pub fn bytes(media_type: &'static str) -> Content {
    Content { media_type, schema: None }
}

/// One operation.
pub struct Operation {
    method: Method,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    text: Option<&'static str>,
    parameters: Vec<Value>,
    security: Option<Value>,
    body: Option<(bool, Vec<Content>)>,
    asks_first: bool,
    answers: Vec<OperationAnswer>,
}

struct OperationAnswer {
    status: u16,
    text: &'static str,
    headers: Vec<&'static str>,
    contents: Vec<Content>,
}

pub fn call(
    method: Method,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
) -> Operation {
    let parameters = path.contains("{id}").then(|| json!({"$ref": "#/components/parameters/id"}));
    let this = Operation {
        method,
        path,
        tag,
        summary,
        text: None,
        parameters: parameters.into_iter().collect(),
        security: None,
        body: None,
        asks_first: false,
        answers: Vec::new(),
    };
    match path.contains("{id}") {
        true => this.refuses(400, "No meeting id, or a body that did not arrive whole."),
        false => this,
    }
}

impl Operation {
    pub fn text(mut self, text: &'static str) -> Self {
        self.text = Some(text);
        self
    }

    pub fn query(mut self, name: &str, schema: Value, text: &str) -> Self {
        self.parameters
            .push(json!({"name": name, "in": "query", "schema": schema, "description": text}));
        self
    }

    pub fn in_path(mut self, name: &str, schema: Value, text: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": schema, "description": text,
        }));
        self
    }

    pub fn asks(mut self, headers: &[&str]) -> Self {
        self.parameters.extend(
            headers.iter().map(|name| json!({"$ref": format!("#/components/parameters/{name}")})),
        );
        self
    }

    pub fn body(mut self, required: bool, contents: Vec<Content>) -> Self {
        self.body = Some((required, contents));
        self
    }

    /// Makes the page ask before sending.
    pub fn careful(mut self) -> Self {
        self.asks_first = true;
        self
    }

    pub fn security(mut self, security: Value) -> Self {
        self.security = Some(security);
        self
    }

    pub fn answers(mut self, status: u16, text: &'static str, contents: Vec<Content>) -> Self {
        // A more exact description replaces it.
        self.answers.retain(|answer| answer.status != status);
        self.answers.push(OperationAnswer { status, text, headers: Vec::new(), contents });
        self
    }

    pub fn refuses(self, status: u16, text: &'static str) -> Self {
        self.answers(status, text, vec![json::<Detail>()])
    }

    /// Adds headers to the last answer.
    pub fn with(mut self, headers: &[&'static str]) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.extend(headers);
        }
        self
    }

    fn written(self, answered: &mut SchemaGenerator, asked: &mut SchemaGenerator) -> Value {
        let mut written = json!({
            "tags": [self.tag], "summary": self.summary, "operationId": operation_id(&self),
        });
        if let Some(text) = self.text {
            written["description"] = text.into();
        }
        if self.asks_first {
            written["x-asks-first"] = true.into();
        }
        if !self.parameters.is_empty() {
            written["parameters"] = self.parameters.into();
        }
        if let Some((required, contents)) = self.body {
            written["requestBody"] =
                json!({"required": required, "content": content(contents, asked)});
        }
        let mut answers = self.answers;
        answers.sort_by_key(|answer| answer.status);
        let responses: Map<_, _> = answers
            .into_iter()
            .map(|answer| (answer.status.to_string(), answer.written(answered)))
            .collect();
        written["responses"] = responses.into();
        written["security"] = self.security.unwrap_or_else(|| json!([]));
        written
    }
}

/// Returns `post_api_meetings_id_sync`, for example.
fn operation_id(operation: &Operation) -> String {
    let path = operation.path.replace(['{', '}', '*'], "").replace(['/', '-', '.'], "_");
    let method = operation.method.as_str().to_ascii_lowercase();
    format!("{method}{path}").trim_end_matches('_').to_owned()
}

impl OperationAnswer {
    fn written(self, answered: &mut SchemaGenerator) -> Value {
        let mut written = json!({"description": self.text});
        if !self.headers.is_empty() {
            let named = self.headers.into_iter();
            let headers: Map<_, _> = named
                .map(|name| {
                    (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))
                })
                .collect();
            written["headers"] = headers.into();
        }
        if !self.contents.is_empty() {
            written["content"] = content(self.contents, answered);
        }
        written
    }
}

fn content(contents: Vec<Content>, schemas: &mut SchemaGenerator) -> Value {
    let written = contents.into_iter().map(|content| {
        let schema = content.schema.map(|schema| json!({"schema": schema(schemas)}));
        (content.media_type.to_owned(), schema.unwrap_or_else(|| json!({})))
    });
    Value::Object(written.collect())
}

/// Returns the calls of both.
pub fn shared() -> Vec<Operation> {
    const HEALTH: &str = "Health";
    const PAGES: &str = "Pages and documents";
    let page = |path, summary| {
        call(Method::GET, path, PAGES, summary)
            .asks(&["If-None-Match"])
            .answers(304, "Not modified.", vec![])
            .with(&["ETag"])
    };
    vec![
        call(Method::GET, health::LIVE, HEALTH, "The process answers").answers(
            200,
            "It does.",
            vec![json::<health::Live>()],
        ),
        call(Method::GET, health::READY, HEALTH, "Whether it can serve and take in packages")
            .answers(200, "It can.", vec![json::<health::Ready>()])
            .answers(503, "It can't, and why.", vec![json::<health::Ready>()]),
        call(Method::GET, "/metrics", HEALTH, "Figures for Prometheus").answers(
            200,
            "Prometheus' text format, version 0.0.4.",
            vec![text("text/plain")],
        ),
        page("/api/openapi.json", "This document")
            .answers(200, "OpenAPI 3.1.", vec![bytes("application/json")])
            .with(&["ETag"]),
        page("/api/docs", "A page to read and try all this")
            .answers(200, "The page.", vec![text("text/html")])
            .with(&["ETag"]),
        page("/static/{path}", "The parts of the pages")
            .in_path(
                "path",
                json!({"type": "string", "minLength": 1, "examples": ["js/docs.js", "icon.svg"]}),
                "It may have slashes in it.",
            )
            .answers(
                200,
                "The file.",
                ["text/html", "text/css", "text/javascript", "image/svg+xml"].map(text).into(),
            )
            .with(&["ETag"])
            .refuses(404, "There is no such file."),
    ]
}

/// Adds conditions and answers of a package.
pub fn package(operation: Operation) -> Operation {
    const VALIDATORS: [&str; 3] = ["ETag", "Last-Modified", "Cache-Control"];
    const OF_WHOLE: [&str; 4] =
        ["Accept-Ranges", "Content-Disposition", "Repr-Digest", "Content-Length"];
    let conditions = [
        "Range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
    ];
    operation
        .asks(&conditions)
        .answers(200, "The whole package.", vec![bytes("application/zip")])
        .with(&VALIDATORS)
        .with(&OF_WHOLE)
        .answers(206, "The part that was asked for.", vec![bytes("application/zip")])
        .with(&VALIDATORS)
        .with(&OF_WHOLE)
        .with(&["Content-Range"])
        .answers(304, "Not modified.", vec![])
        .with(&VALIDATORS)
        .refuses(412, "It is another version than was asked for.")
        .refuses(416, "The range begins behind the end of the package.")
        .with(&["Content-Range"])
}

/// Describes an event stream.
pub fn stream(operation: Operation, text_of_it: &'static str) -> Operation {
    operation
        .text(text_of_it)
        .answers(200, "Events, without an end.", vec![text("text/event-stream")])
        .refuses(503, "Too many follow already: poll instead.")
}

pub type HistorySchema = feed::HistoryView<'static>;

/// Compares a document of all `operations` with the file of this name; with
/// RECORD_OPENAPI=1 in the environment it is written there instead.
#[expect(clippy::disallowed_methods, reason = "a document of the repository, written by a test")]
pub fn compare(name: &str, title: &str, security_schemes: Value, operations: Vec<Operation>) {
    let made = document(title, security_schemes, operations);
    let text = lines(&made);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi").join(name);
    if env::var_os("RECORD_OPENAPI").is_some() {
        fs::write(path, text).expect("the document can be written");
        return;
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == text, "openapi/{name} is not what the types give now; write it: just openapi");
}

/// Puts each value on a line, so that a change can be read, without indentation.
fn lines(document: &Value) -> String {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, form);
    document.serialize(&mut writer).expect("memory takes whatever is written");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn document(title: &str, security_schemes: Value, operations: Vec<Operation>) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut answered = settings.clone().for_serialize().into_generator();
    // In requests and answers, a type may have two schemas: one has no name.
    let mut asked = settings
        .for_deserialize()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut paths = Map::new();
    for operation in operations {
        let (path, method) = (operation.path, operation.method.as_str().to_ascii_lowercase());
        let written = operation.written(&mut answered, &mut asked);
        let path = paths.entry(path).or_insert_with(|| json!({}));
        assert!(path.get(&method).is_none(), "described twice: {method} {path}");
        path[method] = written;
    }
    let id = answered.subschema_for::<PackageId>();
    let schemas = answered.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Every error is `{\"detail\": …}`. Where there is a GET there is a HEAD. \
                What is no HTTP is answered 400, an address or fields that are too long 414 and 431, \
                without a body. A method that a path has not is answered 405 with `Allow`, an \
                address that nothing is served at 404.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": security_schemes,
            "parameters": parameters(&id),
            "headers": headers(),
        },
    })
}

fn parameters(id: &Schema) -> Value {
    let header = |name: &str, example: &str, text: &str| {
        let schema = json!({"type": "string", "examples": [example]});
        json!({"name": name, "in": "header", "schema": schema, "description": text})
    };
    let date = "Sat, 21 Nov 2026 08:00:00 GMT";
    json!({
        "id": {"name": "id", "in": "path", "required": true, "schema": id, "description": "A meeting's id."},
        "Range": header("Range", "bytes=0-1023", "One range; several, or another unit, are as none."),
        "If-Range": header("If-Range", "\"0\"", "The range only of this version, else the whole."),
        "If-Match": header("If-Match", "\"0\"", "Only this version."),
        "If-None-Match": header("If-None-Match", "\"0\"", "Only another version."),
        "If-Modified-Since": header("If-Modified-Since", date, "Only a newer version."),
        "If-Unmodified-Since": header("If-Unmodified-Since", date, "Only if there is none newer."),
        "Prefer": header("Prefer", "wait=10", "RFC 7240: seconds to wait for an answer other than the one in If-None-Match, 60 at most."),
        "X-API-Key": header("X-API-Key", "0", "The nodes' key, where one is required."),
        "Edge-Mirror-Node": header("Edge-Mirror-Node", "node-1", "The node that asks, by its id: the answer names the nodes that it pulls packages from."),
        "Edge-Mirror-Accept": header("Edge-Mirror-Accept", "version=1, packages, relay", "What a node of ours understands in `edge_mirror`: the format's version at most, and the sections."),
        "Repr-Digest": header("Repr-Digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "RFC 9530: compared with what arrives."),
        "Content-Digest": header("Content-Digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "As Repr-Digest."),
    })
}

fn headers() -> Value {
    let text = |text: &str| json!({"schema": {"type": "string"}, "description": text});
    json!({
        "ETag": text("The version: of packages, their SHA-256; weak while one is still being pulled."),
        "Last-Modified": text("The version's date; not of a package that is still being pulled."),
        "Cache-Control": text("To be asked again whether it is current."),
        "Accept-Ranges": text("bytes"),
        "Content-Range": text("Which bytes, and of how many."),
        "Content-Disposition": text("The file's name."),
        "Content-Length": {"schema": {"type": "integer", "minimum": 0}, "description": "Bytes."},
        "Repr-Digest": text("RFC 9530: the SHA-256 of the whole."),
        "Location": text("Where to go."),
        "Set-Cookie": text("The session."),
        "WWW-Authenticate": text("How to prove rights."),
        "Preference-Applied": text("That it was waited, or would have been."),
        "Retry-After": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds."},
    })
}

/// Checks that a document describes the router's routes and no others. Only axum knows
/// the paths, and shows them in `Debug`; the methods are those that a path returns when
/// asked by another.
pub async fn compare_routes(router: Router, operations: &[Operation]) {
    let mut served = BTreeSet::new();
    for path in paths_of(&router) {
        let asked = path.replace("{*", "{").replace("{id}", "m").replace("{name}", "x");
        let asked = asked.replace("{path}", "x").replace("{file}", "x");
        let mut request = Request::builder().method("BREW").uri(&asked).body(Body::empty());
        if let Ok(request) = &mut request {
            request
                .headers_mut()
                .insert(header::HOST, header::HeaderValue::from_static("localhost"));
            request.extensions_mut().insert(PeerAddress(([127, 0, 0, 1], 9).into()));
        }
        let request = request.expect("the path is plain");
        let answer = router.clone().oneshot(request).await.expect("a router does not fail");
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()[header::ALLOW].to_str().unwrap_or_default().to_owned();
        let described = path.replace("{*", "{");
        served.extend(allowed.split(',').map(|method| format!("{described} {method}")));
    }
    let mut described = BTreeSet::new();
    for operation in operations {
        described.insert(format!("{} {}", operation.path, operation.method));
        if operation.method == Method::GET {
            described.insert(format!("{} HEAD", operation.path));
        }
    }
    let missing: Vec<_> = served.difference(&described).collect();
    let invented: Vec<_> = described.difference(&served).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not described: {missing:?}; not served: {invented:?}"
    );
    assert!(served.len() > 20, "axum tells its paths in another way now: {served:?}");
}

/// `Router { path_router: PathRouter { routes: …, node: Node { paths:
/// {RouteId(0): "/metrics", …} } }, fallback_router: …`.
fn paths_of(router: &Router) -> Vec<String> {
    let text = format!("{router:?}");
    let paths = text.split("Node { paths: {").nth(1).and_then(|rest| rest.split("} }").next());
    let paths = paths.unwrap_or_default().split('"').skip(1).step_by(2);
    paths.map(str::to_owned).collect()
}
