//! The calls of casts.

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::guarded,
    wire::openapi::{Operation, call, json},
};
use schemars::JsonSchema;
use serde_json::json;

use super::{UNSAVED, takes};
use crate::{
    api::casts::{CastPage, CastView, SentCasts},
    state::casts::CastRequest,
};

/// A cast, or a list of them.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description")]
#[schemars(untagged)]
enum OneOrMany {
    One(Box<CastRequest>),
    Many(Vec<CastRequest>),
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description")]
#[schemars(untagged)]
enum Sent<'a> {
    One(Box<CastView<'a>>),
    Many(SentCasts),
}

const CASTS: &str = "Casts";

pub(super) fn operations() -> Vec<Operation> {
    let one = |method, summary| {
        guarded(call(method, "/api/v1/casts/{cast}", CASTS, summary))
            .in_path("cast", json!({"type": "string", "examples": ["3fa94c0be1d2-17"]}), "Its id.")
            .answers(200, "The cast.", vec![json::<CastView<'_>>()])
            .refuses(404, "No such cast, or it was removed.")
    };
    vec![
        takes(guarded(call(Method::POST, "/api/v1/casts", CASTS, "Send messages to nodes")))
            .text(
                "Answered once they are on disk; of a list, all or none are. A cast with the key \
                 of an earlier one is answered as that was, and is not sent again.",
            )
            .body(true, vec![json::<OneOrMany>()])
            .answers(201, "The cast; of a list, their ids.", vec![json::<Sent<'_>>()])
            .refuses(409, "Another cast has this key.")
            .refuses(415, "No JSON.")
            .refuses(503, UNSAVED)
            .refuses(507, "As many casts are kept as may be, and none has expired."),
        guarded(call(Method::GET, "/api/v1/casts", CASTS, "The casts that are kept"))
            .query("topic", json!({"type": "string"}), "Those of this topic.")
            .query("search", json!({"type": "string"}), "Those whose body has this text.")
            .query("before", json!({"type": "string"}), "Those before the one with this id.")
            .query(
                "limit",
                json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
                "How many.",
            )
            .answers(200, "The newest first.", vec![json::<CastPage<'_>>()])
            .refuses(400, "A value that is not allowed.")
            .refuses(503, "The database does not answer."),
        one(Method::GET, "A cast").refuses(503, "The database does not answer."),
        one(Method::DELETE, "Cancel a cast")
            .careful()
            .text("Nodes that do not have it yet will not get it.")
            .refuses(503, UNSAVED),
    ]
}
