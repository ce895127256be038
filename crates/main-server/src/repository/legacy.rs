//! `state.json`, in which versions without a database kept the meetings. It is read once,
//! and stays beside the database under another name.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use edge_mirror_base::{atomic::PartialFile, tasks};
use edge_mirror_protocol::package::Sha256;
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;
use sha2::{Digest, Sha256 as Hasher};

use crate::{
    error::StateError,
    state::meetings::{Meeting, MeetingTable},
};

/// The only version of the file.
const FORM: u32 = 1;
const FILE: &str = "state.json";
const KEPT_AS: &str = "state.json.before-database";

/// The file's content.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct LegacyFile {
    form: u32,
    token: String,
    meetings: Vec<Meeting>,
}

/// The file and what is in it.
#[derive(Debug)]
pub(super) struct LegacyState {
    pub(super) path: PathBuf,
    pub(super) table: MeetingTable,
    /// Of the file's bytes.
    pub(super) digest: String,
}

impl LegacyState {
    /// None if there is no file. A malformed one is an error: to go on without it would be
    /// to lose every meeting.
    pub(super) async fn find(data: &Path) -> Result<Option<Self>, StateError> {
        let path = data.join(FILE);
        tasks::blocking(move || Self::load(path)).await
    }

    fn load(path: PathBuf) -> Result<Option<Self>, StateError> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StateError::ReadFile { path, cause }),
        };
        match parse(&bytes) {
            Ok(table) => {
                let digest = Sha256::new(Hasher::digest(&bytes).into()).to_string();
                Ok(Some(Self { path, table, digest }))
            }
            Err(cause) => Err(StateError::DamagedFile { path, cause }),
        }
    }

    /// Renames the file, now that all of it is in the database; returns its new path.
    pub(super) async fn set_aside(self) -> Result<PathBuf, StateError> {
        let path = self.path;
        tasks::blocking(move || {
            let kept = free_name(&path);
            let renamed = PartialFile::open(&path).and_then(|file| match file {
                Some(file) => file.persist(&kept),
                None => Err(io::Error::other("another process has it locked")),
            });
            renamed.map(|()| kept).map_err(|cause| StateError::RenameFile { path, cause })
        })
        .await
    }
}

/// A file that was kept before stays as it is.
fn free_name(path: &Path) -> PathBuf {
    let kept = path.with_file_name(KEPT_AS);
    let numbered = (2..).map(|number| path.with_file_name(format!("{KEPT_AS}.{number}")));
    let mut names = std::iter::once(kept).chain(numbered);
    names.find(|name| fs::symlink_metadata(name).is_err()).expect("numbers do not end")
}

fn parse(bytes: &[u8]) -> Result<MeetingTable, String> {
    let LegacyFile { form, token, meetings } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if form != FORM {
        return Err(format!("its form is {form}, this version knows {FORM}"));
    }
    let mut seen = HashSet::new();
    match meetings.iter().find(|meeting| !seen.insert(&meeting.id)) {
        Some(twice) => Err(format!("meeting {} is in it twice", twice.id)),
        None => Ok(MeetingTable { token, meetings }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use edge_mirror_base::clock::UnixMillis;

    use super::*;
    use crate::state::meetings::{Meeting, MeetingPhase};

    /// As versions wrote it that kept times as seconds with a fraction.
    pub(in super::super) const SAVED: &str = r#"{
  "form": 1,
  "token": "3f1a",
  "meetings": [
    {
      "id": "b",
      "title": "题目 <b>",
      "time": "t",
      "status": "未开始",
      "created_at": 1700000000.123,
      "started_at": null,
      "ended_at": null,
      "unannounced": false,
      "replacing": false,
      "versions": 0
    },
    {
      "id": "a",
      "title": "题目 <b>",
      "time": "t",
      "status": "进行中",
      "created_at": 1700000000.123,
      "started_at": 1763712345.678,
      "ended_at": null,
      "unannounced": true,
      "replacing": false,
      "versions": 0
    }
  ]
}"#;

    /// The meetings in it.
    pub(in super::super) fn saved() -> MeetingTable {
        let meetings = ["b", "a"].map(|id| {
            let created_at = UnixMillis::from_millis(1_700_000_000_123);
            Meeting::new(id.parse().unwrap(), "题目 <b>".into(), "t".into(), created_at)
        });
        let mut meetings = meetings.to_vec();
        meetings[1].status = MeetingPhase::Running;
        meetings[1].started_at = Some(UnixMillis::from_millis(1_763_712_345_678));
        meetings[1].unannounced = true;
        MeetingTable { token: "3f1a".into(), meetings }
    }

    #[test]
    fn a_file_of_an_older_version_is_read() {
        assert_eq!(parse(SAVED.as_bytes()), Ok(saved()));
        // Whole seconds, and what was not written yet.
        let older = r#"{"form":1,"token":"","meetings":[
            {"id":"a","title":"","time":"","status":"未开始","created_at":1700000000}]}"#;
        let meeting = parse(older.as_bytes()).unwrap().meetings.remove(0);
        assert_eq!(meeting.created_at, UnixMillis::from_secs(1_700_000_000));
        assert_eq!(meeting.started_at, None);
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(LegacyState::find(folder.path()).await.unwrap().is_none());
        let file = |form, meetings| {
            let file = LegacyFile { form, token: "3f1a".into(), meetings };
            serde_json::to_string(&file).unwrap()
        };
        let mut twice = saved().meetings;
        twice.push(twice[0].clone());
        let (twice, newer) = (file(FORM, twice), file(2, saved().meetings));
        for bad in ["", "{", "[]", r#"{"form":1}"#, &twice, &newer] {
            fs::write(&path, bad).unwrap();
            let error = LegacyState::find(folder.path()).await.unwrap_err().to_string();
            assert!(error.contains("state.json") && !error.contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_was_kept_before_is_kept_still() {
        let folder = tempfile::tempdir().unwrap();
        for kept in [KEPT_AS, "state.json.before-database.2"] {
            fs::write(folder.path().join(FILE), SAVED).unwrap();
            let found = LegacyState::find(folder.path()).await.unwrap().unwrap();
            assert_eq!(found.set_aside().await.unwrap(), folder.path().join(kept));
            assert_eq!(fs::read_to_string(folder.path().join(kept)).unwrap(), SAVED);
        }
        assert!(!folder.path().join(FILE).exists());
    }
}
