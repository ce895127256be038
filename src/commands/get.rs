//! `edge-mirror get`: one package into a file, from any source that has it.

mod answer;
mod part;
mod sources;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use edge_mirror_base::tasks::{self, Interrupt};
use reqwest::{Client, StatusCode, header, redirect};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::client;
use crate::{
    cli::GetArgs,
    terminal::{
        self, Language,
        live::{TransferProgress, TransferView},
        say, words,
    },
};
use answer::{AttemptError, PackageAnswer};
use part::{DigestSource, LastSender, PartialDownload, ReceivedPackage};

/// The main server redirects to a node, and a proxy may redirect once.
const MAX_REDIRECTS: usize = 4;
/// Longest pause between rounds: it doubles from a second.
const LONGEST_PAUSE_S: u64 = 8;

pub(super) async fn run(
    args: &GetArgs,
    language: Language,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let target = target(&args.output)?;
    let http = client::http(&args.authority.trust())?
        .read_timeout(args.patience)
        .redirect(redirect::Policy::limited(MAX_REDIRECTS))
        .build()?;
    let counter = Arc::new(TransferProgress::default());
    let mut download = PackageDownload {
        http,
        asked: client::authority(&args.url),
        main_server: None,
        target: &target,
        part: None,
        counter: counter.clone(),
    };
    let (begun, mut view) = (Instant::now(), TransferView::new(language, args.json));
    let outcome = tokio::select! {
        outcome = download.download(args, &mut view) => Some(outcome),
        () = interrupt.recv() => None,
    };
    let Some(outcome) = outcome else {
        match download.part.as_ref().and_then(PartialDownload::kept) {
            Some(bytes) => {
                let bytes = words::format_bytes(bytes as f64);
                bail!(language.of(
                    format!("已中断；已收到 {bytes}，再次执行同样的命令会从这里继续"),
                    format!("interrupted; {bytes} were received, the same command resumes there"),
                ))
            }
            None => bail!(language.of("已中断", "interrupted")),
        }
    };
    let (from, received) = outcome?;
    tell(&args.output, &from, &received, begun.elapsed(), args.json, language)
}

/// Returns the output path, if it can be written.
fn target(output: &Path) -> Result<PathBuf> {
    let target = std::path::absolute(output)?;
    if target.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        bail!(say(
            format!("-o {}：这是文件夹，请写出文件名", output.display()),
            format!("-o {}: it is a folder; name the file, too", output.display()),
        ));
    }
    match target.parent() {
        Some(folder) if folder.is_dir() => Ok(target),
        Some(folder) => {
            bail!(say(
                format!("没有文件夹 {}；请先创建，或换一个 -o", folder.display()),
                format!("there is no folder {}; create it, or choose another -o", folder.display()),
            ))
        }
        None => bail!(say(
            format!("-o {} 不是文件名", output.display()),
            format!("-o {} names no file", output.display()),
        )),
    }
}

fn tell(
    output: &Path,
    from: &str,
    received: &ReceivedPackage,
    took: Duration,
    as_json: bool,
    language: Language,
) -> Result<()> {
    let (size, sha256, file) = (received.size_bytes, received.sha256, output.display());
    if as_json {
        let answer = json!({
            "file": output,
            "size": size,
            "sha256": sha256,
            "from": from,
            "digest_named": received.digest_of.is_some(),
            "digest_of": received.digest_of,
            "took_s": took.as_secs_f64(),
        });
        return Ok(terminal::print(format!("{answer:#}\n"))?);
    }
    let (size, took) = (words::format_bytes(size as f64), language.time(took.as_secs_f64()));
    let how = match received.digest_of {
        Some(DigestSource::Server) => {
            language.of("已按服务器给出的 SHA-256 校验", "verified against the server's SHA-256")
        }
        Some(DigestSource::MainServer) => language
            .of("已按主控服务器给出的 SHA-256 校验", "verified against the main server's SHA-256"),
        Some(DigestSource::Node) => language.of(
            "已按该节点自己给出的 SHA-256 校验；主控服务器没有给出，无从核对",
            "verified against that server's own SHA-256; the main server names none to compare with",
        ),
        None => language.of(
            "服务器没有给出 SHA-256，已校验压缩包自身的校验和",
            "the server gives no SHA-256; the archive's own checksums are right",
        ),
    };
    Ok(terminal::print(language.of(
        format!("{file}：{size}，来自 {from}，用时 {took}\n  {how}\n  SHA-256 {sha256}\n"),
        format!("{file}: {size} from {from} in {took}\n  {how}\n  SHA-256 {sha256}\n"),
    ))?)
}

/// Tells that one server failed, and another is asked.
fn failover_note(failed: &AttemptError, next: &str) -> String {
    say(
        format!("edge-mirror: {failed}；改用 {next}"),
        format!("edge-mirror: {failed}; trying {next}"),
    )
}

/// Tells of a retry; a repeated error is shown only once.
fn retry_note(why: Option<&str>, tries: u32, most: u32, pause: Duration) -> String {
    let pause = Language::from_env().time(pause.as_secs_f64());
    // After progress the retries start over.
    let which = match tries {
        0 => String::new(),
        n => say(format!("（第 {n} 次，共 {most} 次）"), format!(" ({n} of {most})")),
    };
    let why = why.map(|why| say(format!("{why}；"), format!("{why}; "))).unwrap_or_default();
    say(
        format!("edge-mirror: {why}{pause}后重试{which}"),
        format!("edge-mirror: {why}trying again in {pause}{which}"),
    )
}

struct PackageDownload<'a> {
    http: Client,
    /// `host:port` of the server on the command line.
    asked: String,
    /// The main server's own URL of the package, once known.
    main_server: Option<Url>,
    target: &'a Path,
    /// The part that is here.
    part: Option<PartialDownload>,
    counter: Arc<TransferProgress>,
}

impl PackageDownload<'_> {
    /// Asks all sources, again and again, until one gives it or none is expected to. Also
    /// returns the server that gave the end of it.
    async fn download(
        &mut self,
        args: &GetArgs,
        view: &mut TransferView,
    ) -> Result<(String, ReceivedPackage)> {
        let target = self.target.to_owned();
        self.part = tasks::block_in_place(|| PartialDownload::left_at(&target))?;
        let counter = self.counter.clone();
        let (mut tries, mut noted) = (0, String::new());
        loop {
            // Before anything fails: the server that knows the others may fail.
            let others = sources::others(&self.http, &args.url).await;
            self.main_server = others.last().cloned().or(self.main_server.take());
            let before = counter.done();
            let mut failed: Vec<AttemptError> = Vec::new();
            for source in std::iter::once(&args.url).chain(&others) {
                if failed.iter().any(|error| error.from == client::authority(source)) {
                    continue;
                }
                if let Some(before) = failed.last() {
                    view.note(&failover_note(before, &client::authority(source)));
                }
                match view.show_while(&counter, self.attempt(source)).await? {
                    Ok(done) => return Ok(done),
                    Err(error) => failed.push(error),
                }
            }
            tries = if counter.done() > before { 0 } else { tries + 1 };
            if tries > args.retries || !failed.iter().any(|error| error.passing) {
                let last = failed.pop().map(|error| error.to_string()).unwrap_or_default();
                bail!(say(
                    format!("无法下载会议包：{last}"),
                    format!("the package can't be downloaded: {last}"),
                ));
            }
            let pause = Duration::from_secs((1 << tries.min(6)).min(LONGEST_PAUSE_S));
            // Not before the first of the busy servers allows it.
            let wanted = failed.iter().filter_map(|error| error.again_after).min();
            let pause = pause.max(wanted.unwrap_or_default());
            let why = failed.last().map(ToString::to_string).unwrap_or_default();
            view.note(&retry_note(
                Some(&*why).filter(|why| *why != noted),
                tries,
                args.retries,
                pause,
            ));
            noted = why;
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes one request; an error is one of this machine, and another server would not
    /// help.
    async fn attempt(
        &mut self,
        source: &Url,
    ) -> Result<Result<(String, ReceivedPackage), AttemptError>> {
        let mut request = self.http.get(source.clone()).header(header::ACCEPT_ENCODING, "identity");
        let resumed = self.part.as_ref().and_then(|part| part.resumable_at(source));
        if let Some((from, tag)) = resumed {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            request = request.header(header::IF_RANGE, tag);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Err(AttemptError::unanswered(source, &error))),
        };
        let from = client::authority(response.url());
        let answer = PackageAnswer::of(&response);
        match (response.status(), self.part.as_mut()) {
            (StatusCode::OK, _) => self.begin(&answer)?,
            (StatusCode::PARTIAL_CONTENT, Some(part)) if part.is_continued_by(&answer) => {
                part.go_on()
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(part)) if part.is_complete_for(&answer) => {
                return self.finish(from).await;
            }
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                // The part that is here can't be continued.
                self.give_up_part();
                return Ok(Err(AttemptError::another_version(from)));
            }
            _ => return Ok(Err(AttemptError::refused(from, response).await)),
        }
        loop {
            let Some(part) = &mut self.part else { bail!("there is no file to write to") };
            self.counter.set(part.size_bytes(), answer.total_bytes);
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    if let Err(error) = tasks::block_in_place(|| part.write(&bytes)) {
                        self.give_up_part();
                        let target = self.target.display();
                        bail!(say(
                            format!("无法写入 {target}：{error}"),
                            format!("cannot write {target}: {error}"),
                        ));
                    }
                }
                Ok(None) => return self.finish(from).await,
                Err(error) => {
                    return Ok(Err(AttemptError::broken(from, part.size_bytes(), &error)));
                }
            }
        }
    }

    fn begin(&mut self, answer: &PackageAnswer) -> Result<()> {
        // The same version or another: an answer from the beginning is stored from the
        // beginning.
        drop(self.part.take());
        let begun = tasks::block_in_place(|| PartialDownload::begin(self.target, answer))?;
        self.part = Some(begun);
        Ok(())
    }

    fn give_up_part(&mut self) {
        if let Some(part) = self.part.take() {
            part.give_up();
        }
    }

    async fn finish(
        &mut self,
        from: String,
    ) -> Result<Result<(String, ReceivedPackage), AttemptError>> {
        let sender = self.last_sender(&from).await;
        let Some(part) = self.part.take() else { bail!("there is no file to finish") };
        match tasks::block_in_place(|| part.finish(sender))? {
            Ok(received) => Ok(Ok((from, received))),
            Err(wrong) => {
                self.counter.set(0, None);
                Ok(Err(AttemptError::wrong(from, &wrong)))
            }
        }
    }

    /// A server that nobody named is not trusted with the package's digest: anybody can
    /// register as a node.
    async fn last_sender(&self, from: &str) -> LastSender {
        let main_server = self.main_server.as_ref();
        if from == self.asked || main_server.is_some_and(|main| client::authority(main) == from) {
            return LastSender::Server;
        }
        LastSender::Node(match main_server {
            Some(main_server) => sources::digest_at(&self.http, main_server).await,
            None => None,
        })
    }
}
