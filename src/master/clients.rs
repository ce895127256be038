//! What clients poll, and which packages are offered where. Answered from
//! memory, whatever the disk does. What nodes poll is `status`'.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::server::Server;
use crate::package::PackageId;

type Shared = State<Arc<Server>>;

/// The name under which the package is offered as a static file.
pub fn file_name(id: &PackageId) -> String {
    format!("meeting_{id}_pdfs.zip")
}

/// The meeting whose package has this name.
pub fn id_of_file(name: &str) -> Option<PackageId> {
    name.strip_prefix("meeting_")?.strip_suffix("_pdfs.zip")?.parse().ok()
}

pub async fn status_for_clients(State(server): Shared) -> Json<Value> {
    let book = server.book();
    let meetings = book.meetings.iter().map(|meeting| {
        json!({
            "id": meeting.id,
            "title": meeting.title,
            "time": meeting.time,
            "status": meeting.status,
        })
    });
    let meetings: Vec<_> = meetings.collect();
    let timestamp = server.clock.now_s();
    Json(json!({"id": book.token, "timestamp": timestamp, "meetings": meetings}))
}

pub async fn active(State(server): Shared) -> Json<Value> {
    let book = server.book();
    let active = book.running().map(|meeting| {
        let mut item = json!({
            "id": meeting.id,
            "title": meeting.title,
            "time": meeting.time,
            "status": meeting.status,
        });
        if server.store.get(&meeting.id).is_some() {
            item["package_url"] = json!(format!("/uploads/packages/{}", file_name(&meeting.id)));
        }
        item
    });
    Json(active.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_leads_back_to_its_meeting() {
        let id: PackageId = "a_pdfs.zip".parse().unwrap();
        assert_eq!(id_of_file(&file_name(&id)), Some(id));
        for bad in ["meeting__pdfs.zip", "meeting_a.zip", "a_pdfs.zip", "meeting_.._pdfs.zip"] {
            assert_eq!(id_of_file(bad), None, "{bad}");
        }
    }
}
