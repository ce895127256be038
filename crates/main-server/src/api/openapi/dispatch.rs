//! The calls for files that operators send.

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::guarded,
    wire::{
        Done,
        openapi::{Operation, bytes, call, json},
    },
};
use edge_mirror_protocol::dispatch::{DispatchReport, NodeFiles, TaskFiles, TaskList};
use serde_json::json;

use super::{NODES, UNSAVED, kept, takes};
use crate::{
    api::dispatch::{NodeDispatchState, TaskDetails, TaskPage, TaskView, uploads::UploadedFile},
    state::dispatch::DispatchRequest,
};

fn task_schema() -> serde_json::Value {
    json!({"type": "string", "examples": ["019f2c3d4e5-0a1b2c"]})
}

const DISPATCH: &str = "Dispatch";

/// The calls of nodes.
pub(super) fn of_nodes() -> Vec<Operation> {
    let named = |method, path, summary| {
        call(method, path, NODES, summary)
            .asks(&["Edge-Mirror-Node"])
            .refuses(403, "No accepted node, or another site's page.")
    };
    let of_task = |path, summary| {
        named(Method::GET, path, summary)
            .in_path("task", task_schema(), "Its id.")
            .refuses(404, "No such task for this node.")
    };
    vec![
        named(Method::GET, "/api/v1/nodes/dispatch", "The tasks that concern a node").answers(
            200,
            "The most urgent first.",
            vec![json::<TaskList>()],
        ),
        takes(named(Method::POST, "/api/v1/nodes/dispatch", "How far a node is"))
            .text("Answered once outcomes are on disk.")
            .body(true, vec![json::<DispatchReport>()])
            .answers(200, "Noted.", vec![json::<Done>()])
            .refuses(503, UNSAVED),
        of_task("/api/v1/nodes/dispatch/{task}", "The files of a task").answers(
            200,
            "In an order that never changes.",
            vec![json::<NodeFiles>()],
        ),
        kept(
            of_task("/api/v1/nodes/dispatch/{task}/files/{number}", "The bytes of a file").in_path(
                "number",
                json!({"type": "integer", "minimum": 0}),
                "Its place in the list.",
            ),
        ),
        of_task(
            "/api/v1/nodes/dispatch/{task}/files/{number}/pieces",
            "The SHA-256 digests of a file's pieces",
        )
        .text("One after the other: of each 1 MiB and of the rest.")
        .in_path("number", json!({"type": "integer", "minimum": 0}), "Its place in the list.")
        .answers(200, "32 bytes each.", vec![bytes("application/octet-stream")])
        .refuses(503, "The file can't be fetched from the package store now."),
        of_task("/api/v1/nodes/dispatch/{task}/bundle", "The bytes of small files")
            .text("One after the other, without anything between.")
            .query("first", json!({"type": "integer", "minimum": 0}), "The first one's number.")
            .query("count", json!({"type": "integer", "minimum": 1, "maximum": 1000}), "How many.")
            .answers(200, "The bytes.", vec![bytes("application/octet-stream")])
            .refuses(400, "No such files, or too large ones.")
            .refuses(503, "The files can't be fetched from the package store now."),
    ]
}

pub(super) fn operations() -> Vec<Operation> {
    let one = |method, path, summary| {
        guarded(call(method, path, DISPATCH, summary))
            .in_path("task", task_schema(), "Its id.")
            .refuses(404, "No such task.")
    };
    vec![
        guarded(call(Method::PUT, "/api/v1/dispatch/uploads", DISPATCH, "Upload a file"))
            .text("The answer, with a `name`, is one of the `files` of a task. It is kept for a day without one.")
            .asks(&["Repr-Digest", "Content-Digest"])
            // A file may be empty.
            .body(false, vec![bytes("application/octet-stream")])
            .answers(201, "It is here.", vec![json::<UploadedFile>()])
            .refuses(400, "Cut off, or another digest.")
            .refuses(408, "The upload stalled.")
            .refuses(503, "Too many uploads at once, or the package store can't be used now.")
            .refuses(507, "No room."),
        takes(guarded(call(Method::POST, "/api/v1/dispatch", DISPATCH, "Send files to nodes")))
            .text("Answered once the files were read and the task is on disk.")
            .body(true, vec![json::<DispatchRequest>()])
            .answers(201, "The task.", vec![json::<TaskView<'_>>()])
            .answers(
                200,
                "The task that was created with the same key and content before.",
                vec![json::<TaskView<'_>>()],
            )
            .refuses(409, "Its key is another task's.")
            .refuses(415, "No JSON.")
            .refuses(503, UNSAVED)
            .refuses(507, "As many tasks are kept as may be, or there is no room."),
        guarded(call(Method::GET, "/api/v1/dispatch", DISPATCH, "The tasks that are kept"))
            .query("before", json!({"type": "string"}), "Those before the one with this id.")
            .query(
                "limit",
                json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
                "How many.",
            )
            .answers(200, "The newest first.", vec![json::<TaskPage<'_>>()])
            .refuses(400, "A value that is not allowed."),
        one(Method::GET, "/api/v1/dispatch/{task}", "A task, and its nodes")
            .query("state", schemars::schema_for!(NodeDispatchState).to_value(), "Nodes in this state.")
            .query("after", json!({"type": "string"}), "Nodes after the one with this id.")
            .query(
                "limit",
                json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
                "How many nodes.",
            )
            .answers(200, "The task.", vec![json::<TaskDetails<'_>>()])
            .refuses(400, "A value that is not allowed."),
        one(Method::GET, "/api/v1/dispatch/{task}/files", "The files of a task").answers(
            200,
            "The files.",
            vec![json::<TaskFiles>()],
        ),
        one(Method::DELETE, "/api/v1/dispatch/{task}", "Cancel a task")
            .careful()
            .text(
                "Nobody gets the files any more, and nodes remove those that they have: \
                 `removal.done_at` says when all have. The outcome of a finished task stays.",
            )
            .answers(202, "The task.", vec![json::<TaskView<'_>>()])
            .refuses(503, UNSAVED),
        one(Method::POST, "/api/v1/dispatch/{task}/retry", "Try again at nodes that failed")
            .text("In the task, or in another one if it is finished.")
            .answers(202, "The task in which they try again.", vec![json::<TaskView<'_>>()])
            .refuses(409, "It was cancelled, or no node has failed.")
            .refuses(503, UNSAVED)
            .refuses(507, "As many tasks are kept as may be."),
    ]
}
