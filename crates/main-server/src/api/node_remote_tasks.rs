//! `POST /api/v1/nodes/tasks`: what nodes run for operators, in both directions. For accepted
//! nodes that name themselves, as the calls for files; one that waits is refused.

use std::{collections::HashSet, sync::Arc};

use axum::{body::Body, extract::State};
use edge_mirror_http::wire::body;
use edge_mirror_protocol::remote_tasks::{
    MAX_EXCHANGE_BYTES, MAX_PARAMETER_VALUES, MAX_PARAMETERS, MAX_RESULT_BYTES, MAX_RUNS,
    MAX_TEXT_CHARS, MAX_TYPES, ResultFile, RunExchange, RunReport, RunState, TaskTypeSummary,
};

use super::node_dispatch::AcceptedNode;
use crate::{
    api::json::{BODY_TIMEOUT, WrittenJson},
    refusal::RequestError,
    server::Server,
    state::remote_tasks::LOCAL_NODE,
};

const MAX_BOOT: usize = 64;
/// Bytes of JSON beside a result: white space, and escapes that another program writes.
const SLACK: usize = 1 << 10;

pub(crate) async fn exchange(
    State(server): State<Arc<Server>>,
    node: AcceptedNode,
    body: Body,
) -> Result<WrittenJson, RequestError> {
    let bytes = body::read(body, MAX_EXCHANGE_BYTES, BODY_TIMEOUT).await?;
    let exchange: RunExchange = serde_json::from_slice(&bytes).map_err(|error| {
        RequestError::Invalid(format!("报告格式错误 / the report is malformed: {error}"))
    })?;
    drop(bytes);
    let exchange = bounded(exchange).map_err(RequestError::Invalid)?;
    if node.id() == LOCAL_NODE {
        // What runs here is told apart by this name.
        return Err(RequestError::NoNode);
    }
    let orders = server.exchange_runs(node.id(), exchange).await?;
    Ok(WrittenJson::new(&orders))
}

/// Refuses what no node of ours sends, and cuts what is only too long.
fn bounded(mut exchange: RunExchange) -> Result<RunExchange, String> {
    let is_bad_boot =
        |boot: &str| boot.is_empty() || boot.len() > MAX_BOOT || boot.chars().any(char::is_control);
    if is_bad_boot(&exchange.boot) {
        return Err(format!(
            "boot 应为 1 到 {MAX_BOOT} 字节 / boot must have from 1 to {MAX_BOOT} bytes"
        ));
    }
    let known = exchange.runs.len() + exchange.more.len();
    if exchange.types.len() > MAX_TYPES || known > MAX_RUNS {
        return Err(format!(
            "类型最多 {MAX_TYPES} 个，运行最多 {MAX_RUNS} 个 / at most {MAX_TYPES} types and {MAX_RUNS} runs"
        ));
    }
    let names: HashSet<_> = exchange.types.iter().map(|offered| &offered.name).collect();
    if names.len() < exchange.types.len() {
        return Err("类型重复 / a type is there twice".to_owned());
    }
    exchange.types.iter_mut().for_each(bound_type);
    exchange.runs = exchange.runs.into_iter().map(bounded_run).collect();
    Ok(exchange)
}

fn bound_type(offered: &mut TaskTypeSummary) {
    offered.title = shortened(&offered.title);
    offered.parameters.truncate(MAX_PARAMETERS);
    for parameter in &mut offered.parameters {
        parameter.name = shortened(&parameter.name);
        parameter.values.truncate(MAX_PARAMETER_VALUES);
        for value in &mut parameter.values {
            *value = shortened(value);
        }
    }
}

/// A result that is too large fails its run: nobody would see it.
fn bounded_run(report: RunReport) -> RunReport {
    let mut report = report.cut();
    let written = report
        .result
        .as_ref()
        .map(|result| serde_json::to_vec(result).map_or(0, |json| json.len()));
    if written.is_some_and(|bytes| bytes > MAX_RESULT_BYTES + SLACK) {
        let text = format!(
            "结果超过 {MAX_RESULT_BYTES} 字节 / the result is larger than {MAX_RESULT_BYTES} bytes"
        );
        (report.result, report.error) = (None, Some(text));
        if report.state == RunState::Succeeded {
            report.state = RunState::Failed;
        }
    }
    // A file that is claimed to be larger than any disk is none.
    report.result_file = report.result_file.filter(|file: &ResultFile| file.size < 1 << 50);
    report
}

fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn exchange(fields: &Value) -> Result<RunExchange, String> {
        let mut exchange = json!({"boot": "b", "number": 1, "version": 0, "places": 1});
        for (name, value) in fields.as_object().unwrap() {
            exchange[name] = value.clone();
        }
        bounded(serde_json::from_value(exchange).unwrap())
    }

    #[test]
    fn what_no_node_sends_is_refused_or_cut() {
        let offered = |name: &str| json!({"name": name, "places": 1, "title": "x\n".repeat(500)});
        let many: Vec<_> = (0..101).map(|n| offered(&format!("t{n}"))).collect();
        for bad in [
            json!({"boot": ""}),
            json!({"boot": "x".repeat(65)}),
            json!({"types": many}),
            json!({"types": [offered("a"), offered("a")]}),
        ] {
            assert!(exchange(&bad).is_err(), "{bad}");
        }
        let cut = exchange(&json!({"types": [offered("a")]})).unwrap();
        assert_eq!(cut.types[0].title, "x".repeat(MAX_TEXT_CHARS));
        let run = json!({"key": {"task": "t", "part": 0, "epoch": 1}, "state": "succeeded",
            "result": "x".repeat(70_000)});
        let cut = exchange(&json!({"runs": [run]})).unwrap();
        assert_eq!((cut.runs[0].state, &cut.runs[0].result), (RunState::Failed, &None));
    }
}
