//! `state.json`: the meetings and the token on disk. Packages are the store's
//! and are not repeated here.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge_mirror_base::{atomic, tasks};

use crate::{
    error::{MasterError, StateError},
    state::{
        index::IndexedMeetings,
        meetings::{FORM, MeetingChanges, MeetingTable},
    },
};

/// None if there is no file yet. A malformed file is an error: to go on without it
/// would be to lose every meeting at the next save.
pub(crate) fn load(path: &Path) -> Result<Option<MeetingTable>, MasterError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(MasterError::ReadState { path: path.to_owned(), cause }),
    };
    let broken = |cause: String| MasterError::BrokenState { path: path.to_owned(), cause };
    let book: MeetingTable =
        serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if book.form != FORM {
        return Err(broken(format!("its form is {}, this version knows {FORM}", book.form)));
    }
    let mut seen = HashSet::new();
    match book.meetings.iter().find(|meeting| !seen.insert(&meeting.id)) {
        Some(twice) => Err(broken(format!("meeting {} is in it twice", twice.id))),
        None => Ok(Some(book)),
    }
}

/// Where the meetings are kept.
#[derive(Debug)]
pub(crate) struct StateRepository {
    path: PathBuf,
}

impl StateRepository {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Saves `table`, in which `changes` are made already.
    pub(crate) async fn commit(
        &mut self,
        table: &Arc<IndexedMeetings>,
        _changes: &MeetingChanges,
    ) -> Result<(), StateError> {
        let (path, table) = (self.path.clone(), table.clone());
        let saved = tasks::blocking(move || {
            save(&path, &table).map_err(|cause| StateError::Write { path, cause })
        });
        saved.await
    }
}

pub(crate) fn save(path: &Path, book: &MeetingTable) -> io::Result<()> {
    atomic::write(path, &serde_json::to_vec_pretty(book)?)
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::clock::UnixMillis;

    use super::*;
    use crate::state::{
        commands::{MeetingCommand, execute},
        meetings::Meeting,
    };

    fn book() -> MeetingTable {
        let mut book = MeetingTable::default();
        for id in ["b", "a"] {
            let id = id.parse().unwrap();
            let created_at = UnixMillis::from_millis(1_700_000_000_123);
            book.meetings.push(Meeting::new(id, "题目 <b>".into(), "t".into(), created_at));
        }
        let at = UnixMillis::from_millis(1_763_712_345_678);
        execute(&mut book, &MeetingCommand::Start { id: "a".parse().unwrap(), at }, String::new())
            .unwrap();
        book
    }

    #[test]
    fn what_is_saved_is_what_is_loaded_in_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(load(&path).unwrap(), None);
        save(&path, &book()).unwrap();
        let loaded = load(&path).unwrap().unwrap();
        assert_eq!(loaded.meetings, book().meetings);
    }

    /// As versions wrote it that kept times as seconds with a fraction.
    const SAVED: &str = r#"{
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

    #[test]
    fn a_file_of_an_older_version_is_read_and_written_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, SAVED).unwrap();
        let loaded = load(&path).unwrap().unwrap();
        assert_eq!(loaded, MeetingTable { token: "3f1a".into(), ..book() });
        save(&path, &loaded).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), SAVED);
        // Whole seconds, and what was not written yet.
        let older = r#"{"form":1,"token":"","meetings":[
            {"id":"a","title":"","time":"","status":"未开始","created_at":1700000000}]}"#;
        fs::write(&path, older).unwrap();
        let meeting = load(&path).unwrap().unwrap().meetings.remove(0);
        assert_eq!(meeting.created_at, UnixMillis::from_secs(1_700_000_000));
        assert_eq!(meeting.started_at, None);
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut twice = book();
        twice.meetings.push(twice.meetings[0].clone());
        let twice = serde_json::to_string(&twice).unwrap();
        let newer = serde_json::to_string(&MeetingTable { form: 2, ..book() }).unwrap();
        for bad in ["", "{", "[]", r#"{"form":1}"#, &twice, &newer] {
            fs::write(&path, bad).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("state.json") && !error.contains('\n'), "{error}");
        }
    }
}
