//! Files from node to node. To virtual nodes goes a cast that names the file and its digests,
//! after the file was read; to real ones the file itself, as a task of dispatch.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use edge_mirror_http::access::{AuthMethod, Operator};
use edge_mirror_protocol::{dispatch::TaskId, package::Sha256};
use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    CastRayCaller, CastRayGateway, Gateway,
    body::{CastRayJson, CastRayRefusal},
    content::{SampleFile, SampleKind},
    figures::OpenTransfer,
    files::download_url,
    folder::{FileDigests, FolderError},
};
use crate::{
    refusal::RequestError,
    server::blob_key,
    state::{destinations::Audience, dispatch::DispatchRequest},
};

/// The file that is sent where none is named; it is made when it is needed.
const DEMO_FILE: &str = "demo_file.txt";
const DEMO_BYTES: u64 = 1024;
const FILE_TOPIC: &str = "castray.file";
const SEND_EVERY: Duration = Duration::from_secs(30);
/// Nodes that send by themselves in one round.
const MAX_AUTOMATIC: usize = 100;
/// A recipient has this long to get one of theirs; they would fill the mailboxes.
const AUTOMATIC_LIFETIME_S: u64 = 120;
/// Recipients of one call.
const MAX_RECIPIENTS: usize = 10_000;
/// Nodes that one task of dispatch may name.
const MAX_OF_TASK: usize = 1000;

/// The outcome for one recipient.
#[derive(Clone, Debug)]
pub(super) struct TransferResult {
    pub(super) recipient: String,
    pub(super) success: bool,
    pub(super) message: String,
}

pub(super) async fn send_manually(
    State(gateway): Gateway,
    CastRayCaller(operator): CastRayCaller,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let (sender, recipients) = gateway.sender_and_recipients(&body)?;
    let file = body.text("file_name", DEMO_FILE);
    gateway.tell_of_transfer("transfer_start", "手动传输", &sender, &file, &recipients);
    let results = gateway.transfer(&operator, (&sender, &file), &recipients, None).await;
    let successful = results.iter().filter(|result| result.success).count();
    let shown = results.iter().map(|result| {
        json!({"recipient": result.recipient, "success": result.success, "message": result.message})
    });
    Ok(Json(json!({
        "success": successful > 0,
        "message": format!("成功触发 {successful}/{} 个传输", results.len()),
        "results": shown.collect::<Vec<_>>(),
    })))
}

pub(super) async fn toggle(
    State(gateway): Gateway,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let (id, enabled) = (body.text("node_id", ""), body.flag("enabled", true));
    if !gateway.has_node(&id) {
        return Err(CastRayRefusal::unknown("节点未找到"));
    }
    gateway.figures().of(&id).sends_by_itself = enabled;
    let state = if enabled { "启用" } else { "禁用" };
    let message = format!("节点 {id} 自动传输已{state}");
    Ok(Json(json!({"success": true, "message": message, "enabled": enabled})))
}

/// Has nodes send the sample file to others by themselves, where clients want that.
pub(super) async fn send_by_themselves(gateway: Arc<CastRayGateway>, stop: CancellationToken) {
    let operator = Operator { address: [127, 0, 0, 1].into(), how: AuthMethod::Local };
    let mut ticks = tokio::time::interval(SEND_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let work = async {
        loop {
            ticks.tick().await;
            let mut senders = gateway.figures().automatic();
            fastrand::shuffle(&mut senders);
            senders.truncate(MAX_AUTOMATIC);
            for sender in senders {
                gateway.send_sample(&operator, &sender).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

impl CastRayGateway {
    /// The nodes that a call for a transfer names; unknown ones are left out.
    pub(super) fn sender_and_recipients(
        &self,
        body: &CastRayJson,
    ) -> Result<(String, Vec<String>), CastRayRefusal> {
        let sender = body.text("sender_id", "");
        if !self.has_node(&sender) {
            return Err(CastRayRefusal::unknown("发送节点未找到"));
        }
        let named = body.texts("recipients");
        if named.is_empty() {
            return Err(CastRayRefusal::bad("请指定接收节点"));
        }
        if named.len() > MAX_RECIPIENTS {
            return Err(CastRayRefusal::bad(format!(
                "一次最多 {MAX_RECIPIENTS} 个接收节点 / at most {MAX_RECIPIENTS} recipients at a time"
            )));
        }
        let known: BTreeSet<_> = named.into_iter().filter(|id| self.has_node(id)).collect();
        match known.is_empty() {
            true => Err(CastRayRefusal::bad("没有有效的接收节点")),
            false => Ok((sender, known.into_iter().collect())),
        }
    }

    fn tell_of_transfer(
        &self,
        kind: &str,
        manner: &str,
        sender: &str,
        file: &str,
        recipients: &[String],
    ) {
        let description = format!("{manner} {file} 到 {} 个节点", recipients.len());
        let told = json!({
            "type": kind, "node_id": sender, "description": description,
            "recipients": recipients, "file_name": file,
        });
        self.tell("transfer_activity", &told);
    }

    /// Sends the sample file to some other virtual node.
    async fn send_sample(&self, operator: &Operator, sender: &str) {
        let others: Vec<_> = {
            let virtual_nodes = self.server.virtual_nodes();
            let others = virtual_nodes.iter().filter(|node| node.id != sender);
            others.map(|node| node.id.clone()).collect()
        };
        let Some(recipient) = fastrand::choice(others) else { return };
        let recipients = [recipient];
        self.tell_of_transfer("auto_transfer", "自动传输", sender, DEMO_FILE, &recipients);
        let lifetime_s = Some(AUTOMATIC_LIFETIME_S);
        let sent = self.transfer(operator, (sender, DEMO_FILE), &recipients, lifetime_s);
        for result in sent.await {
            debug!("{sender} sent {DEMO_FILE} to {}: {}", result.recipient, result.message);
        }
    }

    /// Sends a file to nodes, which all are some, and counts what becomes of it. What tells
    /// virtual ones expires after `lifetime_s`, or a day.
    pub(super) async fn transfer(
        &self,
        operator: &Operator,
        (sender, file): (&str, &str),
        recipients: &[String],
        lifetime_s: Option<u64>,
    ) -> Vec<TransferResult> {
        let virtual_nodes = self.server.virtual_nodes();
        let (virtual_ones, real_ones): (BTreeSet<String>, BTreeSet<String>) =
            recipients.iter().cloned().partition(|id| virtual_nodes.has(id));
        let read = self.read_file(file, !real_ones.is_empty()).await;
        let digests = match read {
            Ok(digests) => digests,
            Err(error) => return self.fail_all(sender, recipients, &format!("{error}: {file}")),
        };
        let mut results = Vec::with_capacity(recipients.len());
        if !virtual_ones.is_empty() {
            let body = file_body(sender, file, &digests);
            let (to, from) = (Audience::Nodes(virtual_ones.clone()), Some(sender.to_owned()));
            let sent = self.cast((FILE_TOPIC, body), to, lifetime_s, from, operator).await;
            let (success, message) = match sent {
                Ok(_) => (true, format!("已送达，MD5 {}", digests.md5)),
                Err(error) => (false, error.to_string()),
            };
            let mut figures = self.figures();
            for recipient in virtual_ones {
                figures.of(sender).note_transfer(success, digests.bytes);
                results.push(TransferResult { recipient, success, message: message.clone() });
            }
        }
        let real_ones: Vec<_> = real_ones.into_iter().collect();
        for nodes in real_ones.chunks(MAX_OF_TASK) {
            let task = self.dispatch_file(operator, file, digests.sha256, nodes).await;
            let mut figures = self.figures();
            for recipient in nodes {
                let (success, message) = match &task {
                    Ok(task) => {
                        let transfer = OpenTransfer {
                            task: task.clone(),
                            recipient: recipient.clone(),
                            bytes: digests.bytes,
                        };
                        figures.of(sender).begin_transfer(transfer);
                        (true, format!("任务 {task} 已开始"))
                    }
                    Err(error) => {
                        figures.of(sender).note_transfer(false, 0);
                        (false, error.to_string())
                    }
                };
                results.push(TransferResult { recipient: recipient.clone(), success, message });
            }
        }
        results
    }

    fn fail_all(&self, sender: &str, to: &[String], message: &str) -> Vec<TransferResult> {
        let mut figures = self.figures();
        let failed = to.iter().map(|recipient| {
            figures.of(sender).note_transfer(false, 0);
            let (recipient, message) = (recipient.clone(), message.to_owned());
            TransferResult { recipient, success: false, message }
        });
        failed.collect()
    }

    /// Reads a whole file and, if real nodes are to get it, keeps its bytes for them.
    async fn read_file(
        &self,
        file: &str,
        keeps: bool,
    ) -> Result<FileDigests, CastRayTransferError> {
        if file == DEMO_FILE && !self.folder.has(file) {
            let (name, bytes) = (file.to_owned(), DEMO_BYTES);
            let sample = SampleFile { name, bytes, kind: SampleKind::Text, has_head: false };
            let placed = self.write_sample(sample).await?;
            if placed.name != file {
                // Another call has made it meanwhile.
                let folder = self.folder.clone();
                self.work(move || folder.remove(&placed.name)).await?;
            }
        }
        if keeps {
            return self.keep_file(file).await;
        }
        let (folder, name) = (self.folder.clone(), file.to_owned());
        Ok(self.work(move || folder.read(&name, |_| Ok(()))).await?)
    }

    async fn keep_file(&self, file: &str) -> Result<FileDigests, CastRayTransferError> {
        let (folder, name, store) =
            (self.folder.clone(), file.to_owned(), self.server.store.clone());
        let kept = self.work(move || {
            let mut pending = store
                .begin(blob_key(Sha256::new([0; 32])), None, u64::MAX)
                .map_err(RequestError::from)?;
            let mut refused = None;
            let read = folder.read(&name, |piece| {
                pending.write(piece).map_err(|error| {
                    refused = Some(RequestError::from(error));
                    std::io::Error::other("the store refuses it")
                })
            });
            match (read, refused) {
                (_, Some(refused)) => Err(CastRayTransferError::Core(refused)),
                (read, None) => {
                    let digests = read?;
                    let verified = pending.verify_as(blob_key).map_err(RequestError::from)?;
                    Ok((digests, verified))
                }
            }
        });
        let (digests, verified) = kept.await?;
        self.server.keep_upload(verified).await?;
        Ok(digests)
    }

    async fn dispatch_file(
        &self,
        operator: &Operator,
        file: &str,
        sha256: Sha256,
        to: &[String],
    ) -> Result<TaskId, RequestError> {
        let mut fields = Map::new();
        fields.insert("files".to_owned(), json!([{"sha256": sha256, "name": file}]));
        fields.insert("to".to_owned(), json!({"nodes": to}));
        let request = DispatchRequest::read(fields).map_err(RequestError::Invalid)?;
        Ok(self.server.create_task(request, operator).await?.task().id.clone())
    }
}

/// The cast that tells virtual nodes of a file.
fn file_body(sender: &str, file: &str, digests: &FileDigests) -> Value {
    json!({
        "file_name": file,
        "file_size": digests.bytes,
        "md5_hash": digests.md5,
        "sha256": digests.sha256,
        "sender": sender,
        "download_url": download_url(file),
    })
}

/// The reason that a file is not sent.
#[derive(Debug, thiserror::Error)]
enum CastRayTransferError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Core(#[from] RequestError),
}
