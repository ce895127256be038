//! The main server's document: all calls of its router.

mod casts;
mod dispatch;
mod remote_tasks;
mod fleet_nodes;
mod virtual_nodes;

use std::{path::Path, sync::Arc, time::Duration};

use axum::http::Method;
use edge_mirror_http::{
    access::openapi::{self as access, guarded},
    wire::{
        Done,
        openapi::{
            self, HistorySchema, Operation, bytes, call, json, package, shared, stream, text,
        },
    },
};
use edge_mirror_protocol::{Heartbeat, Registration, Unregistration, package::PackageId};
use schemars::JsonSchema;
use serde_json::json;

use crate::{
    api::{
        audit, clients, downloads, history, manage, meeting_records, node_key, nodes, overview,
        readiness, routing,
    },
    node_status::NodePollAnswer,
    refusal::MalformedBody,
    server::Server,
};

#[derive(JsonSchema)]
#[expect(dead_code, reason = "read field by field, to tell what is wrong as the real one does")]
struct NewMeeting {
    #[schemars(length(min = 1, max = 200))]
    title: String,
    /// Generated if absent.
    id: Option<PackageId>,
    /// Free text; the current time if absent.
    #[schemars(length(max = 100))]
    time: Option<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct NewKey {
    /// Generated if absent.
    #[schemars(regex(pattern = "^[!-~]{16,256}$"))]
    key: Option<String>,
}

/// Every change has to reach the database.
const UNSAVED: &str = "Changes can't be saved now.";
const CLIENTS: &str = "Clients";
const NODES: &str = "Nodes";
const FLEET: &str = "Fleet";
const MEETINGS: &str = "Meetings";
const STATUS: &str = "Status";

type ChoiceSchema = routing::ChoiceView<'static>;
type MeetingSchema = manage::MeetingView<'static>;

fn operations() -> Vec<Operation> {
    let mut all = of_clients();
    all.extend(of_nodes());
    all.extend(fleet_nodes::operations());
    all.extend(of_meetings());
    all.extend(of_operators());
    all.extend(casts::of_groups());
    all.extend(virtual_nodes::operations());
    all.extend(casts::operations());
    all.push(casts::of_nodes());
    all.push(casts::of_programs());
    all.push(casts::of_readers());
    all.extend(dispatch::operations());
    all.extend(dispatch::of_nodes());
    all.extend(remote_tasks::operations());
    all.extend(remote_tasks::of_nodes());
    all.push(
        call(Method::GET, "/", "Pages and documents", "The page")
            .asks(&["If-None-Match"])
            .answers(200, "The page.", vec![text("text/html")])
            .with(&["ETag"])
            .answers(304, "Not modified.", vec![])
            .with(&["ETag"]),
    );
    all.extend(shared());
    all.extend(access::operations());
    all
}

/// A JSON body, read as the real main server does.
fn takes(operation: Operation) -> Operation {
    operation
        .refuses(400, "A value that is not allowed, or a body that did not arrive whole.")
        .refuses(408, "The body came too slowly.")
        .refuses(413, "The body is larger than a megabyte.")
        .answers(422, "Malformed, and how.", vec![json::<MalformedBody>()])
}

/// Further answers of calls that send a package.
fn kept(operation: Operation) -> Operation {
    package(operation)
        .refuses(500, "The meeting has no package, or the disk fails.")
        .refuses(503, "The package is being verified.")
}

fn of_clients() -> Vec<Operation> {
    vec![
        call(
            Method::GET,
            "/api/v1/meetings/status/token",
            CLIENTS,
            "The token, for clients that poll",
        )
        .answers(200, "All meetings.", vec![json::<clients::ClientPollAnswer<'_>>()]),
        call(Method::GET, "/api/v1/meetings/active/meetings", CLIENTS, "Running meetings").answers(
            200,
            "With their packages' addresses.",
            vec![json::<Vec<clients::PolledMeeting<'_>>>()],
        ),
        kept(call(Method::GET, "/api/v1/meetings/{id}/download-package", CLIENTS, "A package"))
            .text("From a node that has it, or else from here.")
            .answers(302, "A node has it.", vec![])
            .with(&["Location"])
            .refuses(404, "No such meeting, or it is not running."),
        call(
            Method::GET,
            "/api/v1/meetings/{id}/download-nodes-info",
            CLIENTS,
            "Where a package is to be had",
        )
        .answers(200, "The main server first.", vec![json::<Vec<downloads::DownloadSource>>()])
        .refuses(404, "No such meeting, or it is not running."),
        package(call(Method::GET, "/uploads/packages/{name}", CLIENTS, "A package as a file"))
            .in_path(
                "name",
                json!({"type": "string", "minLength": 1, "examples": ["meeting_m1_pdfs.zip"]}),
                "As `package_url` names it.",
            )
            .refuses(400, "No valid UTF-8 in the name.")
            .refuses(404, "There is no such package.")
            .refuses(500, "The disk fails.")
            .refuses(503, "The package is being verified."),
    ]
}

fn of_nodes() -> Vec<Operation> {
    // The header is the same; what it has to hold is not.
    let keyed = |operation: Operation| {
        takes(operation)
            .security(json!([{}, {"key_of_nodes": []}]))
            .refuses(401, "Nodes have to send a key, and this is not it.")
            .refuses(403, "Another site's page sent it.")
    };
    let post = |path, summary| keyed(call(Method::POST, path, NODES, summary));
    vec![
        post("/api/v1/nodes/register", "A node says that it is here")
            .body(true, vec![json::<Registration>()])
            .answers(200, "It is on the list, or waits for an operator.", vec![json::<Done>()])
            .refuses(429, "Too many new nodes from one address.")
            .refuses(503, "There are too many nodes, or too many large requests."),
        post("/api/v1/nodes/heartbeat", "A node says that it still is here")
            .body(true, vec![json::<Heartbeat>()])
            .answers(
                200,
                "It is on the list, or waits for an operator.",
                vec![json::<nodes::HeartbeatAnswer>()],
            )
            .refuses(429, "Too many new nodes from one address.")
            .refuses(503, "Too many nodes, listed meetings, or large requests."),
        post("/api/v1/nodes/unregister", "Unregister a node")
            .body(true, vec![json::<Unregistration>()])
            .answers(200, "It is off the list.", vec![json::<Done>()])
            .refuses(404, "It was not on it."),
        call(Method::GET, "/api/v1/nodes/list", NODES, "Nodes heard from lately").answers(
            200,
            "All of them.",
            vec![json::<Vec<nodes::list::ListedNode<'_>>>()],
        ),
        call(Method::GET, "/api/v1/nodes/available", NODES, "Nodes that clients can be sent to")
            .answers(200, "Their addresses.", vec![json::<nodes::list::AvailableNodes>()]),
        call(Method::GET, "/api/v1/meetings/status/node", NODES, "What nodes poll")
            .asks(&[
                "If-None-Match",
                "Prefer",
                "Edge-Mirror-Accept",
                "Edge-Mirror-Node",
                "X-API-Key",
            ])
            .answers(200, "Running meetings.", vec![json::<NodePollAnswer<'_>>()])
            .with(&["ETag", "Preference-Applied"])
            .answers(304, "Not modified.", vec![])
            .with(&["ETag", "Preference-Applied"]),
        kept(call(
            Method::GET,
            "/api/v1/meetings/{id}/download-package-direct",
            NODES,
            "A package, always from here",
        ))
        .refuses(404, "No such meeting."),
        call(
            Method::GET,
            "/api/v1/meetings/{id}/package-pieces",
            NODES,
            "Digests of a package's pieces",
        )
        .text("For nodes that pull the package from each other and check each piece.")
        .answers(
            200,
            "The SHA-256 digests of each piece of 1 MiB, 32 bytes each, one after the other. \
                 The entity tag is the package's own digest.",
            vec![bytes("application/octet-stream")],
        )
        .with(&["ETag"])
        .refuses(404, "No such meeting, or it has no package.")
        .refuses(500, "The disk fails.")
        .refuses(503, "The package is being verified."),
        takes(guarded(call(Method::POST, "/api/v1/nodes/key", NODES, "Have nodes send a key")))
            .careful()
            .body(true, vec![json::<NewKey>()])
            .answers(200, "The key, shown this once.", vec![json::<node_key::NodeKey>()])
            .refuses(415, "Not announced as JSON.")
            .refuses(500, "The disk fails."),
        guarded(call(Method::DELETE, "/api/v1/nodes/key", NODES, "Have nodes send no key"))
            .careful()
            .answers(200, "Nodes need no key any more.", vec![json::<Done>()])
            .refuses(500, "The disk fails."),
    ]
}
fn of_meetings() -> Vec<Operation> {
    let one = |method, path, summary| {
        guarded(call(method, path, MEETINGS, summary))
            .refuses(404, "No such meeting.")
            .refuses(500, "The disk fails.")
            .refuses(507, "No room on the disk.")
    };
    vec![
        call(Method::GET, "/api/v1/meetings", MEETINGS, "All meetings").answers(
            200,
            "In the order of their making.",
            vec![json::<Vec<manage::MeetingEntry<'_>>>()],
        ),
        takes(guarded(call(Method::POST, "/api/v1/meetings", MEETINGS, "Make a meeting")))
            .body(true, vec![json::<NewMeeting>()])
            .answers(201, "The meeting.", vec![json::<MeetingSchema>()])
            .refuses(409, "There is one with this id.")
            .refuses(415, "Not announced as JSON.")
            .refuses(500, "The disk fails.")
            .refuses(503, "There are too many meetings, or changes can't be saved now.")
            .refuses(507, "No room on the disk."),
        call(Method::GET, "/api/v1/meetings/{id}", MEETINGS, "A meeting")
            .answers(200, "The meeting.", vec![json::<MeetingSchema>()])
            .refuses(404, "No such meeting."),
        guarded(call(
            Method::GET,
            "/api/v1/meetings/{id}/explain",
            MEETINGS,
            "The node that a client would be sent to, and why",
        ))
        .query(
            "client",
            json!({"type": "string", "example": "10.3.0.7"}),
            "Its address; without it, that of the caller.",
        )
        .answers(200, "The candidates, and the others with reasons.", vec![json::<ChoiceSchema>()])
        .refuses(400, "No address, or no meeting id.")
        .refuses(404, "No such meeting."),
        call(
            Method::GET,
            "/api/v1/meetings/{id}/readiness",
            MEETINGS,
            "Which nodes have a meeting's package, and why the others don't",
        )
        .answers(200, "Each node.", vec![json::<readiness::MeetingReadiness<'_>>()])
        .refuses(404, "No such meeting."),
        one(Method::DELETE, "/api/v1/meetings/{id}", "Delete a meeting and its package")
            .careful()
            .refuses(503, UNSAVED)
            .answers(200, "It is gone.", vec![json::<Done>()]),
        one(Method::PUT, "/api/v1/meetings/{id}/package", "Upload a package")
            .careful()
            .text("Verified, and put in place in one piece or not at all.")
            .asks(&["Repr-Digest", "Content-Digest"])
            .body(true, vec![bytes("application/zip")])
            .answers(200, "The meeting.", vec![json::<MeetingSchema>()])
            .refuses(400, "Cut off, damaged, no ZIP, another digest, or no meeting id.")
            .refuses(408, "The upload stalled.")
            .refuses(409, "Another upload for this meeting is under way.")
            .refuses(503, "Too many uploads at once, or changes can't be saved now."),
        one(Method::POST, "/api/v1/meetings/{id}/start", "Start a meeting")
            .answers(200, "The meeting.", vec![json::<MeetingSchema>()])
            .refuses(503, UNSAVED),
        one(
            Method::POST,
            "/api/v1/meetings/{id}/distribute",
            "Distribute a package before the meeting starts",
        )
        .text("Nodes pull it in the background and keep it; clients get it from the start on.")
        .answers(200, "The meeting.", vec![json::<MeetingSchema>()])
        .refuses(409, "The meeting has no package.")
        .refuses(503, "Too many are distributed already, or changes can't be saved now."),
        one(Method::DELETE, "/api/v1/meetings/{id}/distribute", "Take a package back")
            .text("Nodes clean it, unless its meeting is running. No change if it was not distributed.")
            .answers(200, "The meeting.", vec![json::<MeetingSchema>()])
            .refuses(503, UNSAVED),
        one(Method::POST, "/api/v1/meetings/{id}/end", "End a meeting")
            .careful()
            .answers(200, "The meeting.", vec![json::<MeetingSchema>()])
            .refuses(503, UNSAVED),
    ]
}

fn of_operators() -> Vec<Operation> {
    vec![
        guarded(call(Method::GET, "/api/v1/overview", STATUS, "Everything, as it is now")).answers(
            200,
            "The main server.",
            vec![json::<overview::Overview<'_>>()],
        ),
        guarded(call(Method::GET, "/api/v1/traffic", STATUS, "The last quarter of an hour"))
            .answers(
                200,
                "Each sample: its end in seconds since 1970, clients sent to nodes and served \
                 from here in the step, downloads under way.",
                vec![json::<HistorySchema>()],
            ),
        guarded(call(Method::GET, "/api/v1/audit", STATUS, "The changes that operators made"))
            .query(
                "before",
                json!({"type": "integer"}),
                "Those before this number; without it, the newest.",
            )
            .query(
                "limit",
                json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
                "How many. A table has all that are kept, the last 10,000.",
            )
            .query("format", json!({"enum": ["json", "csv"]}), "`csv`: a table for spreadsheets.")
            .answers(200, "The newest first.", vec![json::<audit::AuditPage>(), text("text/csv")])
            .refuses(400, "A value that is not allowed.")
            .refuses(503, "The database does not answer."),
        guarded(call(
            Method::GET,
            "/api/v1/history",
            STATUS,
            "Downloads and nodes of the last thirty days",
        ))
        .query(
            "step",
            json!({"enum": ["minute", "hour"], "default": "hour"}),
            "`minute`: the last day.",
        )
        .query("format", json!({"enum": ["json", "csv"]}), "`csv`: a table for spreadsheets.")
        .answers(
            200,
            "The oldest period first.",
            vec![json::<history::PeriodList>(), text("text/csv")],
        )
        .refuses(400, "A value that is not allowed.")
        .refuses(503, "The database does not answer."),
        guarded(call(
            Method::GET,
            "/api/v1/history/meetings",
            STATUS,
            "Meetings of the last thirty days: when all nodes were ready, and when tablets came",
        ))
        .query("format", json!({"enum": ["json", "csv"]}), "`csv`: a table for spreadsheets.")
        .answers(
            200,
            "The one that was started last first.",
            vec![json::<meeting_records::MeetingRecordList>(), text("text/csv")],
        )
        .refuses(400, "A value that is not allowed."),
        guarded(stream(
            call(Method::GET, "/api/v1/events", STATUS, "The overview as it changes"),
            "Server-sent events: `status` (the overview), `traffic` (the last quarter of an \
             hour), and then `change` ({\"set\": {field: value}, \"lists\": {field: {\"changed\": \
             [items], \"removed\": [ids]}}}), `sample`; `session` where the reader's rights are \
             others now, after which the stream ends.",
        )),
    ]
}

#[test]
fn the_document_is_what_the_types_give() {
    let mut schemes = access::security_schemes();
    schemes["key_of_nodes"] = json!({
        "type": "apiKey", "in": "header", "name": "X-API-Key",
        "description": "What nodes have to send where `POST /api/v1/nodes/key` was called: \
            their security.mainServerKey.",
    });
    openapi::compare("main-server.json", "edge-mirror main server", schemes, operations());
}

#[tokio::test]
async fn the_document_has_every_route_of_the_main_server_and_no_other() {
    let folder = tempfile::tempdir().expect("there is room");
    openapi::compare_routes(crate::api::router(server(folder.path()).await), &operations()).await;
}

async fn server(data: &Path) -> Arc<Server> {
    let (state, live) = <(crate::StateLocation, crate::LiveOptions)>::default();
    let opened = crate::open(data, &state, Duration::from_secs(30), live).await;
    Arc::new(opened.expect("the folder is writable").server)
}
