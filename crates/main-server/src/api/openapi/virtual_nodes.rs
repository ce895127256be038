//! The calls of virtual nodes.

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::guarded,
    wire::{
        Done,
        openapi::{Operation, call, json},
    },
};
use edge_mirror_protocol::casts::{CastAnswer, CastReadReport};
use serde_json::json;

use super::{UNSAVED, takes};
use crate::{
    api::virtual_nodes::{VirtualNodePage, VirtualNodeView},
    state::virtual_nodes::VirtualNodeProfile,
};

const ONE: &str = "/api/v1/virtual-nodes/{node}";

pub(super) fn operations() -> Vec<Operation> {
    let about = |method, path, summary| {
        guarded(call(method, path, super::FLEET, summary))
            .in_path("node", json!({"type": "string", "examples": ["alice"]}), "Its id.")
            .refuses(404, "No such virtual node.")
    };
    vec![
        guarded(call(Method::GET, "/api/v1/virtual-nodes", super::FLEET, "The virtual nodes"))
            .query("after", json!({"type": "string"}), "Those after this id.")
            .query(
                "limit",
                json!({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1000}),
                "How many.",
            )
            .answers(200, "By id.", vec![json::<VirtualNodePage<'_>>()])
            .refuses(400, "A value that is not allowed."),
        about(Method::GET, ONE, "A virtual node").answers(
            200,
            "The virtual node.",
            vec![json::<VirtualNodeView<'_>>()],
        ),
        takes(guarded(call(Method::PUT, ONE, super::FLEET, "Create or change a virtual node")))
            .in_path("node", json!({"type": "string", "examples": ["alice"]}), "Its id.")
            .text("Casts go to it as to nodes, and wait here until a program gets them.")
            .body(true, vec![json::<VirtualNodeProfile>()])
            .answers(200, "The virtual node.", vec![json::<VirtualNodeView<'_>>()])
            .refuses(409, "A node has this id.")
            .refuses(415, "No JSON.")
            .refuses(503, UNSAVED)
            .refuses(507, "There are as many as may be."),
        about(Method::DELETE, ONE, "Remove a virtual node")
            .careful()
            .answers(200, "Done.", vec![json::<Done>()])
            .refuses(503, UNSAVED),
        about(Method::GET, "/api/v1/virtual-nodes/{node}/casts", "Casts for a virtual node")
            .text(
                "As a node gets them: held back while there are none, if `Prefer: wait` allows. \
                 Asking for those after a number says that everything up to there was received.",
            )
            .asks(&["Prefer"])
            .query(
                "stream",
                json!({"type": "string"}),
                "The sequence of `after`; the present one if absent.",
            )
            .query(
                "after",
                json!({"type": "integer", "minimum": 0}),
                "The last number that was received.",
            )
            .query(
                "live",
                json!({"type": "string"}),
                "The place among live casts of the last answer.",
            )
            .answers(200, "The next ones, the oldest first.", vec![json::<CastAnswer>()])
            .with(&["Preference-Applied"])
            .refuses(400, "A value that is not allowed.")
            .refuses(503, "The database does not answer."),
        takes(about(
            Method::POST,
            "/api/v1/virtual-nodes/{node}/read",
            "What was read of a virtual node's casts",
        ))
        .text("The last cast of each topic that was read.")
        .body(true, vec![json::<CastReadReport>()])
        .answers(200, "Noted.", vec![json::<Done>()])
        .refuses(415, "No JSON."),
    ]
}
