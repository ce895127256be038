//! `edge-mirror run` and `edge-mirror tasks`: work that nodes do, through a main server.

mod check;
mod outcome;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use edge_mirror_base::tasks::{self, Interrupt};
use edge_mirror_protocol::package::percent_encoded;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    client::{self, ApiClient},
    place, push,
};
use crate::{
    cli::{
        Destination, FindTasksArgs, LoginArgs, MasterTargetArgs, RemoteTaskArgs, RunArgs,
        TaskTypesArgs, TasksArgs, TasksCommand,
    },
    terminal::{self, Language, words},
};

const TASKS: &str = "/api/v1/tasks";
/// More than any main server takes.
const MAX_INPUT_BYTES: u64 = 8 << 20;

pub(super) async fn run(
    args: &RunArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    tokio::select! {
        done = submit(args, language) => done,
        () = interrupt.recv() => bail!(terminal::say("已中断", "interrupted")),
    }
}

async fn submit(args: &RunArgs, language: Language) -> Result<()> {
    let input = match &args.input {
        Some(path) => Some(read_input(path).await?),
        None => None,
    };
    let api = connect(&args.at, &args.login).await?;
    let types = api.get(&format!("{TASKS}/types")).await?;
    let body = body(args, input, &types)?;
    let task = push::create(&api, TASKS, &body).await?;
    if !args.json {
        terminal::print_line(&tables::created(&task, language));
    }
    if args.wait {
        return outcome::wait(&api, &task, args.json, language).await;
    }
    if args.json {
        terminal::print(format!("{task:#}\n"))?;
    }
    Ok(())
}

fn body(args: &RunArgs, input: Option<String>, types: &Value) -> Result<Value> {
    // Whoever runs the same again without a key means another task.
    let key = args.key.clone().unwrap_or_else(|| format!("run-{:032x}", fastrand::u128(..)));
    let mut body = json!({
        "type": args.task_type, "parameters": parameters(args, types), "key": key,
        "priority": args.priority.name(), "timeout_s": args.timeout.as_secs().max(1),
    });
    let mut set = |name: &str, value: Value| body[name] = value;
    if !args.on.is_empty() {
        set("to", Destination::to_json(&args.on));
        if !args.best && !args.split {
            set("spread", json!("every"));
        }
    }
    match input {
        Some(text) if args.split => set("items", items(&text)),
        Some(text) => {
            let input = serde_json::from_str(&text)
                .with_context(|| terminal::say("--input 不是 JSON", "--input is no JSON"))?;
            set("input", input);
        }
        None => {}
    }
    if let Some(title) = &args.title {
        set("title", json!(title));
    }
    if let Some(deadline) = args.deadline {
        set("expires_in_s", json!(deadline.as_secs().max(1)));
    }
    Ok(body)
}

/// The parameters, with numbers and booleans where the type takes those.
fn parameters(args: &RunArgs, types: &Value) -> Map<String, Value> {
    let types = types["types"].as_array().into_iter().flatten();
    let known = types.filter(|known| known["name"] == *args.task_type);
    let known: Vec<_> =
        known.flat_map(|known| known["parameters"].as_array().into_iter().flatten()).collect();
    let value = |name: &str, text: &str| {
        let kind = known.iter().find(|known| known["name"] == name).map(|known| &known["kind"]);
        let is_text = kind
            .is_some_and(|kind| ["integer", "number", "boolean"].iter().all(|other| kind != other));
        let read = serde_json::from_str(text).ok().filter(|_| !is_text);
        read.unwrap_or_else(|| text.into())
    };
    args.parameters.iter().map(|(name, text)| (name.clone(), value(name, text))).collect()
}

/// A JSON list, or the lines of a text.
fn items(text: &str) -> Value {
    match serde_json::from_str::<Vec<Value>>(text) {
        Ok(items) => items.into(),
        Err(_) => text.lines().filter(|line| !line.trim().is_empty()).collect(),
    }
}

async fn read_input(path: &Path) -> Result<String> {
    let (named, shown) = (PathBuf::from(path), path.display().to_string());
    let read = tasks::blocking(move || {
        use std::io::Read;
        let mut text = String::new();
        let source: Box<dyn Read> = match named.as_os_str() == "-" {
            true => Box::new(std::io::stdin()),
            false => Box::new(std::fs::File::open(&named)?),
        };
        source.take(MAX_INPUT_BYTES + 1).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await.with_context(|| {
        terminal::say(format!("{shown} 无法读取"), format!("{shown} can't be read"))
    })?;
    if text.len() as u64 > MAX_INPUT_BYTES {
        bail!(terminal::say(
            format!("{shown} 超过 {MAX_INPUT_BYTES} 字节"),
            format!("{shown} has more than {MAX_INPUT_BYTES} bytes"),
        ));
    }
    Ok(text)
}

pub(super) async fn tasks(args: TasksArgs, language: Language) -> Result<()> {
    match args.command.unwrap_or(TasksCommand::List(args.list)) {
        TasksCommand::List(args) => list(&args, language).await,
        TasksCommand::Show(args) => {
            let task = call(&args, Method::GET, "").await?;
            print(&task, args.json, || tables::details(&task, language))
        }
        TasksCommand::Cancel(args) => {
            let task = call(&args, Method::POST, "/cancel").await?;
            print(&task, args.json, || tables::state_line(&task, language))
        }
        TasksCommand::Retry(args) => {
            let task = call(&args, Method::POST, "/retry").await?;
            print(&task, args.json, || tables::created(&task, language) + "\n")
        }
        TasksCommand::Explain(args) => {
            let choices = call(&args, Method::GET, "/explain").await?;
            print(&choices, args.json, || tables::choices(&choices, language))
        }
        TasksCommand::Types(args) => types(&args, language).await,
        TasksCommand::Check(args) => check::run(&args, language),
    }
}

async fn list(args: &FindTasksArgs, language: Language) -> Result<()> {
    let api = connect(&args.at, &args.login).await?;
    let status =
        args.status.as_deref().map(|status| format!("&status={}", percent_encoded(status)));
    let path = format!("{TASKS}?limit={}{}", args.limit, status.unwrap_or_default());
    let page = api.get(&path).await?;
    print(&page, args.json, || tables::tasks(&page, language))
}

async fn types(args: &TaskTypesArgs, language: Language) -> Result<()> {
    let api = connect(&args.at, &args.login).await?;
    let types = api.get(&format!("{TASKS}/types")).await?;
    print(&types, args.json, || tables::types(&types, language))
}

async fn call(args: &RemoteTaskArgs, method: Method, what: &str) -> Result<Value> {
    let api = connect(&args.at, &args.login).await?;
    Ok(api.call(method, &format!("{TASKS}/{}{what}", percent_encoded(&args.id)), None).await?)
}

async fn connect(at: &MasterTargetArgs, login: &LoginArgs) -> Result<ApiClient> {
    let (master, trust) = place::main_server(at).await;
    ApiClient::new(master, &trust, client::ServerKind::MainServer, client::token(login))
}

fn print(answer: &Value, is_json: bool, text: impl FnOnce() -> String) -> Result<()> {
    let shown = if is_json { format!("{answer:#}\n") } else { text() };
    Ok(terminal::print(shown)?)
}

/// A text of an answer, without what a terminal would act on.
fn shown(value: &Value) -> String {
    value.as_str().map(words::plain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn sent(line: &[&str], input: Option<&str>) -> Value {
        let line = Line::parse_from([&["run"], line].concat());
        let types = json!({"types": [{"name": "t", "parameters": [
            {"name": "count", "kind": "integer"}, {"name": "text", "kind": "string"},
        ]}]});
        let mut body = body(&line.run, input.map(str::to_owned), &types).unwrap();
        body.as_object_mut().unwrap().remove("key").unwrap();
        body
    }

    #[test]
    fn a_value_is_what_the_type_takes() {
        let body = sent(&["t", "count=3", "text=3", "other=true", "more=a=b"], None);
        let expected = json!({"count": 3, "text": "3", "other": true, "more": "a=b"});
        assert_eq!(body["parameters"], expected);
    }

    #[test]
    fn nodes_are_each_meant_unless_the_best_is_asked_for() {
        assert_eq!(sent(&["t"], None).get("spread"), None);
        let every = sent(&["t", "--on", "all"], None);
        assert_eq!((&every["spread"], &every["to"]["all"]), (&json!("every"), &json!(true)));
        let best = sent(&["t", "--on", "site:3F", "--best"], None);
        assert_eq!((best.get("spread"), &best["to"]["sites"][0]), (None, &json!("3F")));
    }

    #[test]
    fn items_are_a_list_or_lines() {
        let split =
            |input: &str| sent(&["t", "--split", "--input", "x"], Some(input))["items"].clone();
        assert_eq!(split("[1, {\"a\": 2}]"), json!([1, {"a": 2}]));
        assert_eq!(split("a b\n\nc\n"), json!(["a b", "c"]));
        assert_eq!(sent(&["t", "--input", "x"], Some("{\"a\":1}"))["input"], json!({"a": 1}));
    }
}
