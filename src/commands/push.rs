//! `edge-mirror push`: sends files to nodes, through a main server.

mod files;
mod outcome;

use anyhow::{Context, Result, bail};
use edge_mirror_base::{
    backoff::backoff,
    tasks::{self, Interrupt},
};
use futures_util::StreamExt;
use reqwest::{Body, Method, StatusCode, header};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio_util::io::ReaderStream;

use super::{
    client::{self, ApiClient, CallError},
    place,
};
use crate::{
    cli::{Destination, PushArgs},
    terminal::{
        self, Language,
        live::{TransferProgress, TransferView},
        words,
    },
};
use files::SentFile;

const DISPATCH: &str = "/api/v1/dispatch";
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Tries of creating the task, for a main server that restarts meanwhile.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(
    args: &PushArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    tokio::select! {
        done = push(args, language) => done,
        () = interrupt.recv() => Err(anyhow::anyhow!(language.of("已中断", "interrupted"))),
    }
}

async fn push(args: &PushArgs, language: Language) -> Result<()> {
    if let Some(Destination::Virtual(name)) =
        args.to.iter().find(|to| matches!(to, Destination::Virtual(_)))
    {
        bail!(terminal::say(
            format!("不能向虚拟节点 {name} 发送文件"),
            format!("files can't be sent to a virtual node: {name}"),
        ));
    }
    let paths: Vec<PathBuf> = args.files.clone();
    let files = tasks::blocking(move || files::find(&paths)).await?;
    let (master, trust) = place::main_server(&args.at).await;
    let token = client::token(&args.login);
    let api = ApiClient::new(master, &trust, client::ServerKind::MainServer, token)?;
    let uploaded = upload_all(&api, files, args.json, language).await?;
    let task = create(&api, DISPATCH, &body(args, uploaded)).await?;
    if !args.json {
        terminal::print_line(&created(&task, language));
    }
    if args.wait {
        return outcome::wait(&api, &task, args.json, language).await;
    }
    if args.json {
        terminal::print(format!("{task:#}\n"))?;
    }
    Ok(())
}

/// Creates the task. If the answer is lost, it is asked for again, and its key keeps it from
/// being created twice.
pub(super) async fn create(api: &ApiClient, path: &str, body: &Value) -> Result<Value, CallError> {
    let is_full = |error: &CallError| {
        matches!(error, CallError::Refused { status: StatusCode::INSUFFICIENT_STORAGE, .. })
    };
    let mut tries = 1;
    loop {
        let created = api.call_with(Method::POST, path, |request| request.json(body)).await;
        match created {
            Err(error) if error.is_passing() && !is_full(&error) && tries < TRIES => {
                let pause = backoff(tries, FIRST_PAUSE, LONGEST_PAUSE, fastrand::f64());
                tokio::time::sleep(pause).await;
                tries += 1;
            }
            created => return created,
        }
    }
}

fn body(args: &PushArgs, files: Vec<Value>) -> Value {
    // Whoever sends the same again means another task.
    let key = format!("push-{:032x}", fastrand::u128(..));
    let mut body = json!({"files": files, "to": Destination::to_json(&args.to), "key": key});
    let mut set = |name: &str, value: Value| body[name] = value;
    if let Some(title) = &args.title {
        set("title", json!(title));
    }
    if args.urgent {
        set("priority", json!("urgent"));
    }
    if let Some(deadline) = args.deadline {
        set("expires_in_s", json!(deadline.as_secs().max(1)));
    }
    if args.keep {
        set("retention", json!("keep"));
    }
    if let Some(limit) = args.limit {
        set("rate_limit", json!(limit));
    }
    if args.open {
        set("access", json!("open"));
    }
    body
}

/// Uploads files one after the other; those that the main server has already are no news
/// to it.
async fn upload_all(
    api: &ApiClient,
    files: Vec<SentFile>,
    quiet: bool,
    language: Language,
) -> Result<Vec<Value>> {
    let total = files.iter().map(|file| file.size_bytes).sum();
    let counter = Arc::new(TransferProgress::of_total(total));
    let sending = async {
        let mut uploaded = Vec::with_capacity(files.len());
        for file in files {
            uploaded.push(upload(api, file, &counter).await?);
        }
        anyhow::Ok(uploaded)
    };
    TransferView::new(language, quiet).show_while(&counter, sending).await
}

async fn upload(api: &ApiClient, file: SentFile, counter: &Arc<TransferProgress>) -> Result<Value> {
    let SentFile { name, path, size_bytes } = file;
    let shown = path.display().to_string();
    let opened = tokio::fs::File::open(&path).await;
    let opened = opened.with_context(|| {
        terminal::say(format!("{shown} 无法读取"), format!("{shown} can't be read"))
    })?;
    let sent = counter.clone();
    let bytes = ReaderStream::with_capacity(opened, CHUNK_BYTES).inspect(move |chunk| {
        sent.add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
    });
    let place = format!("{DISPATCH}/uploads");
    let answer = api.call_with(Method::PUT, &place, |request| {
        request
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size_bytes)
            .body(Body::wrap_stream(bytes))
    });
    let mut answer = answer.await?;
    answer["name"] = name.into();
    Ok(answer)
}

fn created(task: &Value, language: Language) -> String {
    let id = task["id"].as_str().unwrap_or_default();
    let (files, nodes) = (&task["files"], &task["nodes"]["total"]);
    let size = words::format_bytes(task["bytes"].as_f64().unwrap_or(0.0));
    language.of(
        format!("任务 {id}：{files} 个文件，共 {size}，发往 {nodes} 个节点"),
        format!("task {id}: {files} files of {size} for {nodes} nodes"),
    )
}
