//! `GET /api/v1/history/meetings`: when nodes were ready and tablets came, by meeting.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::wire::ApiQuery;
use edge_mirror_protocol::package::PackageId;
use serde::{Deserialize, Serialize};

use crate::{
    api::csv::{CsvTable, TableFormat, local_time},
    server::Server,
    state::meeting_records::MeetingRecord,
};

#[derive(Deserialize)]
pub(crate) struct RecordQuery {
    #[serde(default)]
    format: TableFormat,
}

/// A meeting that was started in the last thirty days.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeetingRecordView {
    meeting: PackageId,
    #[serde(flatten)]
    record: MeetingRecord,
}

/// Records of meetings, the one that was started last first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeetingRecordList {
    meetings: Vec<MeetingRecordView>,
}

pub(crate) async fn show(
    State(server): State<Arc<Server>>,
    ApiQuery(asked): ApiQuery<RecordQuery>,
) -> Response {
    let meetings: Vec<_> = {
        let log = server.download_log();
        let views = log.meetings.list().into_iter().map(|(meeting, record)| MeetingRecordView {
            meeting: meeting.clone(),
            record: record.clone(),
        });
        views.collect()
    };
    match asked.format {
        TableFormat::Csv => table(&meetings).into_response("edge-mirror-meetings.csv"),
        TableFormat::Json => Json(MeetingRecordList { meetings }).into_response(),
    }
}

fn table(meetings: &[MeetingRecordView]) -> CsvTable {
    let mut table = CsvTable::new(&[
        "meeting",
        "title",
        "started",
        "ended",
        "all_nodes_ready",
        "nodes",
        "first_download",
        "last_download",
        "redirects",
        "own_downloads",
        "refused_downloads",
    ]);
    let time = |at: Option<UnixMillis>| at.map(local_time).unwrap_or_default();
    for MeetingRecordView { meeting, record } in meetings {
        table.push(&[
            meeting.as_str().to_owned(),
            record.title.clone(),
            local_time(record.started_at),
            time(record.ended_at),
            time(record.ready_at),
            record.nodes.to_string(),
            time(record.first_download),
            time(record.last_download),
            record.redirects.to_string(),
            record.own_downloads.to_string(),
            record.refused_downloads.to_string(),
        ]);
    }
    table
}
