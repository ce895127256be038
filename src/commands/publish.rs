//! `edge-mirror publish`: creates a meeting from a package, on a main server.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use edge_mirror_base::tasks::{self, Interrupt};
use edge_mirror_protocol::{
    object::MediaType,
    package::{PackageId, Sha256, VerifyLevel},
};
use edge_mirror_store::verify;
use futures_util::StreamExt;
use reqwest::{Body, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{
    client::{self, ApiClient, CallError},
    place,
};
use crate::{
    cli::{MasterTargetArgs, PublishArgs},
    terminal::{
        self, Language,
        live::{TransferProgress, TransferView},
        words,
    },
};

const MEETINGS: &str = "/api/v1/meetings";
/// Main servers' status of a meeting that has not started.
const PREPARED: &str = "未开始";
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// For deleting a meeting whose package did not arrive.
const GOODBYE: Duration = Duration::from_secs(5);

/// A valid package to send.
struct PackageFile {
    file: File,
    size_bytes: u64,
    sha256: Sha256,
}

pub(super) async fn run(
    args: &PublishArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    if let Some(id) = &args.id {
        id.parse::<PackageId>().with_context(|| format!("--id '{id}'"))?;
    }
    let package = opened(&args.file).await?;
    let (master, trust) = place::main_server(&args.at).await;
    let at = MasterTargetArgs { master, ..args.at.clone() };
    let (args, token) = (&PublishArgs { at, ..args.clone() }, client::token(&args.login));
    let api =
        ApiClient::new(args.at.master.clone(), &trust, client::ServerKind::MainServer, token)?;
    let TargetMeeting { id, anew } = create_meeting(&api, args).await?;
    let mut view = TransferView::new(language, args.json);
    let sent = tokio::select! {
        sent = upload(&api, &id, package, &mut view) => sent,
        () = interrupt.recv() => Err(anyhow::anyhow!(language.of("已中断", "interrupted"))),
    };
    if let Err(error) = sent {
        if !anew {
            return Err(error);
        }
        // A meeting without a package would only be in the way.
        let place = place_of(&id);
        let gone = api.call(Method::DELETE, &place, None);
        return match tokio::time::timeout(GOODBYE, gone).await {
            Ok(Ok(_)) => Err(error),
            _ => Err(error.context(language.of(
                format!("会议 {id} 已创建但没有会议包，请在主控服务器的页面上删除它"),
                format!(
                    "meeting {id} was created and has no package: delete it on the main \
                         server's page"
                ),
            ))),
        };
    }
    let meeting = match args.no_start {
        true => api.get(&place_of(&id)).await?,
        false => {
            let started = api.call(Method::POST, &format!("{}/start", place_of(&id)), None).await;
            started.with_context(|| {
                language.of(
                    format!("会议 {id} 的会议包已上传，但会议没有开始"),
                    format!("meeting {id} has its package, but was not started"),
                )
            })?
        }
    };
    tell(args, &meeting, &id, language)
}

/// Reads the whole file before any request: a bad package is found here, and its digest
/// is sent before it.
async fn opened(path: &Path) -> Result<PackageFile> {
    let shown = path.display().to_string();
    let path = path.to_owned();
    let read = tasks::blocking(move || -> Result<PackageFile> {
        let file = File::open(&path).with_context(|| {
            terminal::say("请检查路径和权限", "check the path and its permissions")
        })?;
        if !file.metadata()?.is_file() {
            bail!(terminal::say("它不是文件", "it is not a file"));
        }
        verify::check_zip(&file, VerifyLevel::Structure)?;
        let sha256 = verify::digest(&file)?;
        Ok(PackageFile { size_bytes: file.metadata()?.len(), file, sha256 })
    });
    read.await.with_context(|| {
        terminal::say(format!("{shown} 不能发布"), format!("{shown} can't be published"))
    })
}

fn place_of(id: &PackageId) -> String {
    format!("{MEETINGS}/{}", id.segment())
}

/// The meeting that gets the package.
struct TargetMeeting {
    id: PackageId,
    /// False if it existed before.
    anew: bool,
}

async fn create_meeting(api: &ApiClient, args: &PublishArgs) -> Result<TargetMeeting> {
    let body = json!({"title": args.title, "id": args.id, "time": args.time});
    let made = match api.call(Method::POST, MEETINGS, Some(&body)).await {
        Ok(made) => made,
        Err(error @ CallError::Refused { status: StatusCode::METHOD_NOT_ALLOWED, .. }) => {
            let why = terminal::say(
                "这个主控服务器有自己的管理页面，请在那里操作",
                "this main server has pages of its own for that",
            );
            return Err(anyhow::Error::from(error).context(why));
        }
        Err(error @ CallError::Refused { status: StatusCode::CONFLICT, .. }) => {
            return match find_unfinished(api, args).await {
                Some(id) => Ok(TargetMeeting { id, anew: false }),
                None => Err(anyhow::Error::from(error).context(terminal::say(
                    "请换一个 --id，或在主控服务器的页面上删除使用它的会议",
                    "choose another --id, or delete the meeting that has it on the main server's \
                     page",
                ))),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let id = made["id"].as_str().and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| api.unexpected_answer(&format!("POST {MEETINGS}")))?;
    Ok(TargetMeeting { id, anew: true })
}

/// Finds the meeting of an earlier run that was killed before the package arrived: it has
/// the same title, no package, and was not started.
async fn find_unfinished(api: &ApiClient, args: &PublishArgs) -> Option<PackageId> {
    let id: PackageId = args.id.as_ref()?.parse().ok()?;
    let there = api.get(&place_of(&id)).await.ok()?;
    let same = there["title"].as_str() == Some(&args.title);
    let untouched = there["sha256"].is_null() && there["status"] == PREPARED;
    (same && untouched).then_some(id)
}

async fn upload(
    api: &ApiClient,
    id: &PackageId,
    package: PackageFile,
    view: &mut TransferView,
) -> Result<()> {
    use std::io::Seek;
    let PackageFile { mut file, size_bytes, sha256 } = package;
    file.rewind()?;
    let counter = Arc::new(TransferProgress::of_total(size_bytes));
    let sent = counter.clone();
    let bytes = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
    let bytes = bytes.inspect(move |chunk| {
        sent.add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
    });
    let place = format!("{}/package", place_of(id));
    let sending = api.call_with(Method::PUT, &place, |request| {
        request
            .header(header::CONTENT_TYPE, MediaType::ZIP.as_str())
            .header(header::CONTENT_LENGTH, size_bytes)
            .header("repr-digest", format!("sha-256=:{}:", sha256.base64()))
            .body(Body::wrap_stream(bytes))
    });
    let meeting: Value = view.show_while(&counter, sending).await?;
    match meeting["sha256"].as_str() == Some(&sha256.to_string()) {
        true => Ok(()),
        false => bail!(terminal::say(
            "主控服务器收到的内容与发送的不同，请重新发布",
            "the main server received other bytes than were sent; publish it again",
        )),
    }
}

fn tell(args: &PublishArgs, meeting: &Value, id: &PackageId, language: Language) -> Result<()> {
    let url = args.at.master.at(&format!("{}/download-package", place_of(id)));
    if args.json {
        let mut meeting = meeting.clone();
        meeting["download_url"] = url.as_str().into();
        return Ok(terminal::print(format!("{meeting:#}\n"))?);
    }
    let size = words::format_bytes(meeting["size"].as_f64().unwrap_or(0.0));
    let done = match args.no_start {
        true => language.of("已上传，尚未开始", "is there, and not started yet"),
        false => language.of("已开始", "has started"),
    };
    let title = words::plain(&args.title);
    Ok(terminal::print(language.of(
        format!("会议 {id}（{title}）{done}，会议包 {size}\n  {url}\n"),
        format!("meeting {id} ({title}) {done}, with a package of {size}\n  {url}\n"),
    ))?)
}
