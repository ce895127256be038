//! `edge-mirror meetings`: a main server's meetings, and how ready its nodes are for them.

use std::time::Duration;

use anyhow::Result;
use edge_mirror_base::tasks::Interrupt;
use serde_json::Value;

use super::{
    client::{self, ApiClient, CallError},
    place, readiness, until,
};
use crate::{
    cli::MeetingsArgs,
    terminal::{
        self, Language, live,
        table::{Table, clipped},
        watch::{self, WatchOutput},
        words,
    },
};

/// Interval of `--watch`.
const EVERY: Duration = Duration::from_secs(1);
/// Columns of a title; the rest of the row has to fit.
const TITLE_COLUMNS: usize = 40;
const MEETINGS: &str = "/api/v1/meetings";

/// The meetings, and the number of nodes if it is known.
struct MeetingsAnswer {
    json: Value,
    nodes: Option<usize>,
}

impl MeetingsAnswer {
    fn meetings(&self) -> &[Value] {
        self.json.as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

pub(super) async fn run(
    args: &MeetingsArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let (master, trust) = place::main_server(&args.at).await;
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, None)?;
    if args.watch {
        tokio::select! {
            gone = follow(&api, args, language) => return gone,
            // The usual end of watching.
            () = interrupt.recv() => return Ok(()),
        }
    }
    until(interrupt, async {
        let list = look(&api).await?;
        Ok(terminal::print(match args.json {
            true => format!("{:#}\n", list.json),
            false => text(&list, language),
        })?)
    })
    .await
}

async fn look(api: &ApiClient) -> Result<MeetingsAnswer, CallError> {
    let json = match api.get(MEETINGS).await {
        Ok(list) => list,
        // Only our main server has this list.
        Err(error) if error.is_not_found() => {
            api.get(client::OF_MAIN_SERVERS).await?["meetings"].take()
        }
        Err(error) => return Err(error),
    };
    if !json.is_array() {
        return Err(api.unexpected_answer(MEETINGS));
    }
    // Other main servers don't list them, or not all.
    let nodes = api.get(client::NODES).await.ok().and_then(|list| Some(list.as_array()?.len()));
    Ok(MeetingsAnswer { json, nodes })
}

/// Ends when the output is closed.
async fn follow(api: &ApiClient, args: &MeetingsArgs, language: Language) -> Result<()> {
    let (mut looks, mut output) = (tokio::time::interval(EVERY), WatchOutput::to_stdout(args.json));
    loop {
        looks.tick().await;
        let text = match (look(api).await, output.rows()) {
            (Ok(list), _) if args.json => {
                if !watch::print(&format!("{}\n", list.json)) {
                    return Ok(());
                }
                continue;
            }
            (Ok(list), Some(rows)) => brief(&list, language, rows),
            (Ok(list), None) => text(&list, language) + "\n",
            // A main server that restarts comes back; other servers don't become one.
            (Err(error @ (CallError::Stranger { .. } | CallError::OtherKind { .. })), _) => {
                return Err(error.into());
            }
            (Err(error), _) if args.json => {
                live::put(&format!("edge-mirror: {error}\n"));
                continue;
            }
            (Err(error), _) => format!("{error}\n"),
        };
        if !output.show(&text, &text) {
            return Ok(());
        }
    }
}

/// Formats all of them, in the main server's order.
fn text(list: &MeetingsAnswer, language: Language) -> String {
    let all: Vec<_> = list.meetings().iter().collect();
    match all.is_empty() {
        true => none(language),
        false => table(&all, list.nodes, language),
    }
}

fn none(language: Language) -> String {
    format!("{}\n", language.of("没有会议", "there are no meetings"))
}

/// Formats as many as fit into so many lines, most urgent first; the rest is counted.
fn brief(list: &MeetingsAnswer, language: Language, rows: usize) -> String {
    let mut all: Vec<_> = list.meetings().iter().collect();
    if all.is_empty() {
        return none(language);
    }
    all.sort_by_key(|meeting| urgency(meeting));
    // The headings, and a line for the rest.
    let places = rows.saturating_sub(2);
    let shown = if all.len() <= places + 1 { all.len() } else { places };
    let mut text = table(&all[..shown], list.nodes, language);
    let rest = &all[shown..];
    if !rest.is_empty() {
        let wrong = rest.iter().filter(|meeting| urgency(meeting) < Urgency::Ready).count();
        let count = rest.len();
        text += &match wrong {
            0 => language.of(format!("另有 {count} 个会议\n"), format!("{count} more\n")),
            _ => language.of(
                format!("另有 {count} 个会议，其中 {wrong} 个未就绪\n"),
                format!("{count} more, {wrong} of them not ready\n"),
            ),
        };
    }
    text
}

/// The order in which meetings need an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// It runs without a package.
    Bare,
    /// A node can't have it by itself.
    Stuck,
    /// Nodes are about to have it.
    Awaited,
    Ready,
    /// It is not at the nodes, and not to be.
    Idle,
}

fn urgency(meeting: &Value) -> Urgency {
    let (runs, readiness) = (meeting["status"] == "进行中", &meeting["readiness"]);
    let stuck = ["failing", "away", "unreachable"]
        .iter()
        .any(|state| readiness[*state].as_u64().is_some_and(|count| count > 0));
    match (runs, readiness.is_object()) {
        (true, _) if meeting.get("size").is_some_and(Value::is_null) => Urgency::Bare,
        (_, true) if stuck => Urgency::Stuck,
        (_, true) if !readiness::is_ready(readiness) => Urgency::Awaited,
        (_, true) | (true, false) => Urgency::Ready,
        (false, false) => Urgency::Idle,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map(words::plain).unwrap_or_default()
}

fn state(meeting: &Value, language: Language) -> String {
    let state = shown(&meeting["status"]);
    match state.as_str() {
        "进行中" if meeting.get("size").is_some_and(Value::is_null) => {
            language.of("进行中，缺会议包", "running, no package").to_owned()
        }
        "进行中" => language.of("进行中", "running").to_owned(),
        "未开始" if meeting["prestaged"] == true => {
            language.of("未开始，提前分发", "not started, distributed").to_owned()
        }
        "未开始" => language.of("未开始", "not started").to_owned(),
        "已结束" => language.of("已结束", "ended").to_owned(),
        _ => state,
    }
}

/// `all` is the number of nodes, if it is known.
fn table(meetings: &[&Value], all: Option<usize>, language: Language) -> String {
    let mut table = Table::new(language.of(
        ["会议", "标题", "时间", "状态", "大小", "已有节点", "节点就绪情况"],
        ["MEETING", "TITLE", "TIME", "STATE", "SIZE", "ON NODES", "NODES"],
    ));
    for meeting in meetings {
        let readiness = &meeting["readiness"];
        let have = meeting["nodes"].as_array().map(Vec::len);
        let all = readiness["total"].as_u64().and_then(|n| usize::try_from(n).ok()).or(all);
        let nodes = have.map(|have| match all {
            Some(all) => language.of(format!("{have} / {all}"), format!("{have} of {all}")),
            None => have.to_string(),
        });
        table.add([
            shown(&meeting["id"]),
            clipped(&shown(&meeting["title"]), TITLE_COLUMNS),
            shown(&meeting["time"]),
            state(meeting, language),
            meeting["size"].as_f64().map(words::format_bytes).unwrap_or_default(),
            nodes.unwrap_or_default(),
            readiness::states(readiness, language),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn meetings_are_told_in_the_readers_language() {
        let meetings = [
            json!({"id": "m1", "title": "董事会", "time": "9:00", "status": "进行中",
                "size": 30_000_000, "nodes": ["a", "b"],
                "readiness": {"total": 4, "ready": 2, "failing": 1, "pulling": 1}}),
            json!({"id": "m2", "title": "Board", "time": "", "status": "未开始"}),
            json!({"id": "m3", "title": "Council", "time": "", "status": "进行中", "size": null}),
            json!({"id": "m4", "title": "Old", "time": "", "status": "已结束", "nodes": ["a"]}),
        ];
        let all: Vec<_> = meetings.iter().collect();
        assert_eq!(
            table(&all, Some(3), Language::English),
            "MEETING  TITLE    TIME  STATE                SIZE      ON NODES  NODES\n\
             m1       董事会   9:00  running              28.6 MiB  2 of 4    1 failing, 1 pulling\n\
             m2       Board          not started\n\
             m3       Council        running, no package\n\
             m4       Old            ended                          1 of 3\n"
        );
        let chinese = table(&all, None, Language::Chinese);
        assert!(chinese.contains("未开始") && chinese.contains("拉取失败 1 个，拉取中 1 个"));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_needs_an_operator_stands_first() {
        let idle = |n: u32| json!({"id": format!("i{n}"), "status": "未开始"});
        let running = |id: &str, readiness: Value| json!({"id": id, "status": "进行中", "size": 1, "readiness": readiness});
        let mut meetings: Vec<_> = (0..60).map(idle).collect();
        meetings.extend([
            running("ready", json!({"is_ready": true, "total": 1})),
            running("pulling", json!({"is_ready": false, "pulling": 1})),
            running("away", json!({"is_ready": false, "away": 1})),
            json!({"id": "bare", "status": "进行中", "size": null}),
        ]);
        let list = MeetingsAnswer { json: json!(meetings), nodes: None };
        let text = brief(&list, Language::English, 6);
        let first = |line: &str| line.split(' ').next().unwrap().to_owned();
        let begins: Vec<_> = text.lines().map(first).collect();
        assert_eq!(begins, ["MEETING", "bare", "away", "pulling", "ready", "60"], "{text}");
        assert!(text.ends_with("60 more\n"));
        let text = brief(&list, Language::English, 4);
        assert!(text.ends_with("62 more, 1 of them not ready\n"), "{text}");
        for rows in 0..70 {
            assert!(brief(&list, Language::Chinese, rows).lines().count() <= rows.max(2));
        }
        let few = MeetingsAnswer { json: json!(meetings[60..]), nodes: None };
        assert_eq!(brief(&few, Language::English, 6).lines().count(), 5);
    }
}
