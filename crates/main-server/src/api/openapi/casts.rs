//! The calls of casts.

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::guarded,
    wire::{
        Done,
        openapi::{Operation, call, json, stream},
    },
};
use edge_mirror_protocol::casts::{CastAnswer, CastReadReport, PATH, READ_PATH};
use schemars::JsonSchema;
use serde_json::json;

use super::{UNSAVED, takes};
use crate::{
    api::{
        casts::{CastPage, CastView, SentCasts},
        groups::{GroupList, GroupView},
        live_casts::{SentLiveCast, SentLiveCasts},
    },
    state::{
        casts::{CastRequest, LiveCastRequest},
        groups::NodeGroup,
    },
};

/// A cast, or a list of them.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description")]
#[schemars(untagged)]
enum OneOrMany {
    One(Box<CastRequest>),
    Many(Vec<CastRequest>),
}

/// A live cast, or a list of them.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description")]
#[schemars(untagged)]
enum OneOrManyLive {
    One(Box<LiveCastRequest>),
    Many(Vec<LiveCastRequest>),
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description")]
#[schemars(untagged)]
enum SentLive {
    One(SentLiveCast),
    Many(SentLiveCasts),
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description")]
#[schemars(untagged)]
enum Sent<'a> {
    One(Box<CastView<'a>>),
    Many(SentCasts),
}

const CASTS: &str = "Casts";

/// The call of nodes.
pub(super) fn of_readers() -> Operation {
    takes(call(Method::POST, READ_PATH, super::NODES, "What was read at a node"))
        .text("The last cast of each topic that a consumer there has read.")
        .asks(&["Edge-Mirror-Node"])
        .body(true, vec![json::<CastReadReport>()])
        .answers(200, "Noted.", vec![json::<Done>()])
        .refuses(403, "No accepted node, or another site's page.")
}

pub(super) fn of_nodes() -> Operation {
    call(Method::GET, PATH, super::NODES, "Casts for a node")
        .text(
            "Held back while there are none, if `Prefer: wait` allows. Asking for those after a \
             number says that everything up to there is on the node's disk.",
        )
        .asks(&["Prefer", "Edge-Mirror-Node"])
        .query("stream", json!({"type": "string"}), "The sequence of `after`.")
        .query("after", json!({"type": "integer", "minimum": 0}), "The last number it has.")
        .answers(200, "The next ones, the oldest first.", vec![json::<CastAnswer>()])
        .query("live", json!({"type": "string"}), "The place among live casts of the last answer.")
        .with(&["Preference-Applied"])
        .refuses(400, "A value that is not allowed.")
        .refuses(403, "No accepted node, or another site's page.")
        .refuses(503, "The database does not answer.")
}

/// The call of nodes for programs there.
pub(super) fn of_programs() -> Operation {
    takes(call(Method::POST, PATH, super::NODES, "Casts of programs at a node"))
        .text("As operators send them. A key is the node's own: no other sender can use it up.")
        .asks(&["Edge-Mirror-Node"])
        .body(true, vec![json::<OneOrMany>()])
        .answers(201, "The cast; of a list, their ids.", vec![json::<Sent<'_>>()])
        .refuses(403, "No accepted node, or another site's page.")
        .refuses(409, "Another cast of this node has this key.")
        .refuses(415, "No JSON.")
        .refuses(503, UNSAVED)
        .refuses(507, "As many casts are kept as may be, and none has expired.")
}

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
        takes(guarded(call(Method::POST, "/api/v1/casts/live", CASTS, "Send live messages")))
            .text(
                "From memory to nodes that wait for casts at this main server, and to those who \
                 follow them here. They are on no disk: who is not there does not get them.",
            )
            .body(true, vec![json::<OneOrManyLive>()])
            .answers(202, "The cast, and how many got it at once.", vec![json::<SentLive>()])
            .refuses(415, "No JSON."),
        stream(
            guarded(call(Method::GET, "/api/v1/casts/stream", CASTS, "All casts as they are sent")),
            "Server-sent events: `cast` and `live` are a cast as nodes get it; `dropped` \
             ({\"count\": number}) where the reader was too slow.",
        )
        .query("topic", json!({"type": "string"}), "Those of this topic.")
        .refuses(400, "A value that is not allowed.")
        .refuses(503, "Too many programs follow them."),
        one(Method::GET, "A cast")
            .query(
                "nodes",
                json!({"type": "integer", "minimum": 0}),
                "The most nodes that are listed of each state; all if absent.",
            )
            .refuses(400, "A value that is not allowed.")
            .refuses(503, "The database does not answer."),
        one(Method::DELETE, "Cancel a cast")
            .careful()
            .text("Nodes that do not have it yet will not get it.")
            .refuses(503, UNSAVED),
    ]
}

pub(super) fn of_groups() -> Vec<Operation> {
    let one = |method, summary| {
        guarded(call(method, "/api/v1/groups/{group}", super::FLEET, summary)).in_path(
            "group",
            json!({"type": "string", "examples": ["screens"]}),
            "Its name.",
        )
    };
    vec![
        guarded(call(Method::GET, "/api/v1/groups", super::FLEET, "The groups of nodes")).answers(
            200,
            "By name, and how many nodes each has now.",
            vec![json::<GroupList<'_>>()],
        ),
        one(Method::GET, "A group of nodes")
            .answers(200, "The group, and its nodes.", vec![json::<GroupView<'_>>()])
            .refuses(404, "No such group."),
        takes(one(Method::PUT, "Create or change a group of nodes"))
            .body(true, vec![json::<NodeGroup>()])
            .answers(200, "The group, and its nodes.", vec![json::<GroupView<'_>>()])
            .refuses(415, "No JSON.")
            .refuses(503, UNSAVED),
        one(Method::DELETE, "Remove a group of nodes")
            .careful()
            .text("What was sent to it stays with the nodes that were in it then.")
            .answers(200, "Done.", vec![json::<Done>()])
            .refuses(404, "No such group.")
            .refuses(503, UNSAVED),
    ]
}
