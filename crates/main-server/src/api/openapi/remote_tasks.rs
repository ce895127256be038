//! The calls for remote tasks.

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::guarded,
    wire::openapi::{Operation, call, json, stream},
};
use edge_mirror_protocol::remote_tasks::{RunExchange, RunOrders};
use serde_json::json;

use super::{NODES, UNSAVED, takes};
use crate::{
    api::remote_tasks::{
        NodeWeights, OfferedTypes, RemoteTaskDetails, RemoteTaskPage, RemoteTaskView,
    },
    state::remote_tasks::{RemoteTaskPhase, RemoteTaskRequest},
};

const REMOTE_TASKS: &str = "Remote tasks";
const TOO_MANY: &str = "As many tasks are kept as may be.";

/// The call of nodes.
pub(super) fn of_nodes() -> Vec<Operation> {
    let exchange =
        call(Method::POST, "/api/v1/nodes/tasks", NODES, "What a node runs, and is to run");
    vec![
        takes(exchange)
            .text(
                "Answered once ends of runs are on disk, and once there is something to do that \
                 the node does not know of, or after ten seconds.",
            )
            .asks(&["Edge-Mirror-Node"])
            .body(true, vec![json::<RunExchange>()])
            .answers(200, "What it has to do.", vec![json::<RunOrders>()])
            .refuses(403, "No accepted node, or another site's page.")
            .refuses(503, UNSAVED),
    ]
}

pub(super) fn operations() -> Vec<Operation> {
    let one = |method, path, summary| {
        guarded(call(method, path, REMOTE_TASKS, summary))
            .in_path(
                "task",
                json!({"type": "string", "examples": ["019f2c3d4e5-0a1b2c3d"]}),
                "Its id.",
            )
            .refuses(404, "No such task.")
    };
    let limit = || json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100});
    vec![
        takes(guarded(call(
            Method::POST,
            "/api/v1/tasks",
            REMOTE_TASKS,
            "Have nodes do some work",
        )))
        .text("Answered once the task is on disk.")
        .body(true, vec![json::<RemoteTaskRequest>()])
        .answers(201, "The task.", vec![json::<RemoteTaskView<'_>>()])
        .answers(200, "The task that has this key already.", vec![json::<RemoteTaskView<'_>>()])
        .refuses(409, "Another request has this key.")
        .refuses(415, "No JSON.")
        .refuses(503, UNSAVED)
        .refuses(507, TOO_MANY),
        guarded(call(Method::GET, "/api/v1/tasks", REMOTE_TASKS, "The remote tasks that are kept"))
            .query(
                "status",
                schemars::schema_for!(RemoteTaskPhase).to_value(),
                "Those in this state.",
            )
            .query("type", json!({"type": "string"}), "Those of this type.")
            .query(
                "node",
                json!({"type": "string"}),
                "Those of which a run was given to this node.",
            )
            .query("before", json!({"type": "string"}), "Those before the one with this id.")
            .query("limit", limit(), "How many.")
            .answers(200, "The newest first.", vec![json::<RemoteTaskPage<'_>>()])
            .refuses(400, "A value that is not allowed."),
        guarded(call(
            Method::GET,
            "/api/v1/tasks/types",
            REMOTE_TASKS,
            "The types that nodes offer",
        ))
        .answers(200, "By name.", vec![json::<OfferedTypes>()]),
        one(Method::GET, "/api/v1/tasks/{task}", "A remote task, its runs and results")
            .query(
                "after",
                json!({"type": "integer", "minimum": 0}),
                "Runs after the part with this number.",
            )
            .query("limit", limit(), "How many runs.")
            .answers(200, "The task.", vec![json::<RemoteTaskDetails<'_>>()])
            .refuses(400, "A value that is not allowed."),
        one(
            Method::GET,
            "/api/v1/tasks/{task}/explain",
            "The nodes as they are weighed for a task",
        )
        .answers(200, "The best first.", vec![json::<NodeWeights>()]),
        stream(
            one(Method::GET, "/api/v1/tasks/{task}/events", "A remote task as it changes"),
            "An event `task` with the task each time, until it is finished.",
        ),
        one(Method::POST, "/api/v1/tasks/{task}/cancel", "Cancel a remote task")
            .careful()
            .text("No more of it is begun. It is cancelled once nodes have stopped what runs.")
            .answers(202, "The task.", vec![json::<RemoteTaskView<'_>>()])
            .refuses(503, UNSAVED),
        one(Method::POST, "/api/v1/tasks/{task}/retry", "Do again what failed of a finished task")
            .answers(202, "The new task.", vec![json::<RemoteTaskView<'_>>()])
            .refuses(409, "It is not finished, or nothing of it has failed.")
            .refuses(503, UNSAVED)
            .refuses(507, TOO_MANY),
    ]
}
