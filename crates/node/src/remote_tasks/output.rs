//! The output of a run: in memory while it is small, and then a file of the store, which
//! operators can get from this node.

use std::time::Duration;

use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_protocol::{
    object::{FileKey, ObjectKey, Retention},
    remote_tasks::{MAX_RESULT_BYTES, ResultFile, RunKey, RunReport},
};
use edge_mirror_store::{PendingPackage, Provenance, Store, StoreError};
use edge_mirror_tasks::{BilingualText, declaration::ResultFormat};
use serde_json::Value;

/// Files with results, all together.
const MAX_BYTES: u64 = 1 << 30;
/// Time for which a file with a result is kept.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) struct RunOutput {
    store: Store,
    limit_bytes: u64,
    key: RunKey,
    inline: Vec<u8>,
    file: Option<PendingPackage>,
}

impl RunOutput {
    pub(super) fn new(store: Store, limit_bytes: u64, key: RunKey) -> Self {
        Self { store, limit_bytes, key, inline: Vec::new(), file: None }
    }

    pub(super) async fn add(&mut self, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.inline.extend(bytes);
        if self.inline.len() > MAX_RESULT_BYTES || self.file.is_some() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Moves what is in memory to the file.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let (pending, store, key) = (self.file.take(), self.store.clone(), file_key(&self.key));
        let (bytes, limit_bytes) = (std::mem::take(&mut self.inline), self.limit_bytes);
        let writing = tasks::blocking(move || {
            let mut pending = match pending {
                Some(pending) => pending,
                None => {
                    let limit_bytes = if has_room(&store) { limit_bytes } else { 0 };
                    store.begin(key?, None, limit_bytes)?
                }
            };
            pending.write(&bytes).map(|()| pending)
        });
        self.file = Some(writing.await?);
        Ok(())
    }

    /// Puts the result into the report: inline, or as a file.
    pub(super) async fn finish(
        mut self,
        format: ResultFormat,
        report: &mut RunReport,
    ) -> Result<(), BilingualText> {
        let not_kept = |error: StoreError| {
            BilingualText::new(
                format!("无法保存结果：{error}"),
                format!("the result can't be kept: {error}"),
            )
        };
        if self.file.is_none() {
            let value = parse(format, &self.inline)?;
            let bytes = value.as_ref().map_or(0, |value| value.to_string().len());
            if bytes <= MAX_RESULT_BYTES {
                report.result = value;
                return Ok(());
            }
        }
        self.flush().await.map_err(not_kept)?;
        let Some(pending) = self.file.take() else { return Ok(()) };
        let key = file_key(&self.key).map_err(not_kept)?;
        let until = Retention::Until(now_s().saturating_add(KEEP.as_secs()));
        let title = format!("result of task {}", self.key.task);
        let provenance = Provenance::of_file(title, until, false);
        let placing =
            tasks::blocking(move || pending.verify_as(|_| key.into())?.place(provenance, || true));
        let stored = placing.await.map_err(not_kept)?;
        let (sha256, size) = (stored.manifest.sha256, stored.manifest.size_bytes);
        report.result_file = Some(ResultFile { sha256, size });
        Ok(())
    }
}

/// Packages come first: results have a part of the storage only.
fn has_room(store: &Store) -> bool {
    let is_result =
        |key: &ObjectKey| matches!(key, ObjectKey::File(file) if file.task().starts_with(PREFIX));
    let stored = store.list();
    let results = stored.iter().filter(|stored| is_result(&stored.manifest.key));
    results.map(|stored| stored.manifest.size_bytes).sum::<u64>() < MAX_BYTES
}

/// No dispatched file has such a name: a dot is in no task's id.
const PREFIX: &str = "run.";

fn file_key(key: &RunKey) -> Result<FileKey, StoreError> {
    let name = format!("{}.{}.json", key.part, key.epoch);
    FileKey::new(&format!("{PREFIX}{}", key.task), &name).map_err(|_| StoreError::Unwanted)
}

fn parse(format: ResultFormat, bytes: &[u8]) -> Result<Option<Value>, BilingualText> {
    match format {
        ResultFormat::Text => Ok(Some(String::from_utf8_lossy(bytes).into())),
        ResultFormat::Json if bytes.trim_ascii().is_empty() => Ok(None),
        ResultFormat::Json => serde_json::from_slice(bytes).map(Some).map_err(|error| {
            BilingualText::new(
                format!("程序的输出不是 JSON：{error}"),
                format!("the program's output is not JSON: {error}"),
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::remote_tasks::RunState;
    use serde_json::json;

    use super::*;

    async fn finished(
        format: ResultFormat,
        printed: &[&[u8]],
    ) -> (Result<(), BilingualText>, RunReport) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().0;
        let key = RunKey { task: "t".parse().unwrap(), part: 0, epoch: 1 };
        let mut report = RunReport::new(key.clone(), RunState::Succeeded);
        let mut output = RunOutput::new(store.clone(), u64::MAX, key);
        for bytes in printed {
            output.add(bytes.to_vec()).await.unwrap();
        }
        let done = output.finish(format, &mut report).await;
        let stored = store.list();
        assert_eq!(stored.len(), usize::from(report.result_file.is_some()));
        assert!(stored.iter().all(|stored| stored.manifest.withheld));
        (done, report)
    }

    #[tokio::test]
    async fn a_small_result_is_in_the_report_and_a_large_one_a_file_for_operators() {
        let (done, report) = finished(ResultFormat::Json, &[b"{\"a\":", b" 1}\n"]).await;
        assert_eq!((done, report.result), (Ok(()), Some(json!({"a": 1}))));
        let (done, report) = finished(ResultFormat::Text, &[b"x\xff"]).await;
        assert_eq!((done, report.result), (Ok(()), Some(json!("x\u{fffd}"))));
        let (done, report) = finished(ResultFormat::Json, &[b""]).await;
        assert_eq!((done, report.result), (Ok(()), None));
        let large = vec![b'1'; 50_000];
        let (done, report) = finished(ResultFormat::Json, &[&large, &large, &large]).await;
        assert_eq!(done, Ok(()));
        assert_eq!(report.result_file.unwrap().size, 150_000);
        // Escaped, it is too large for a report.
        let quotes = vec![b'"'; 50_000];
        let (done, report) = finished(ResultFormat::Text, &[&quotes]).await;
        assert_eq!((done, report.result_file.unwrap().size), (Ok(()), 50_000));
    }

    #[tokio::test]
    async fn what_is_no_json_is_told() {
        let (done, report) = finished(ResultFormat::Json, &[b"hello"]).await;
        assert!(done.unwrap_err().en.contains("not JSON"));
        assert_eq!((report.result, report.result_file), (None, None));
    }
}
