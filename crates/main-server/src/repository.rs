//! `state.json`: the meetings and the token on disk. Packages are the store's
//! and are not repeated here.

use std::{collections::HashSet, fs, io, path::Path};

use edge_mirror_base::atomic;

use crate::{
    error::MasterError,
    state::meetings::{FORM, MeetingTable},
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

pub(crate) fn save(path: &Path, book: &MeetingTable) -> io::Result<()> {
    atomic::write(path, &serde_json::to_vec_pretty(book)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::meetings::Meeting;

    fn book() -> MeetingTable {
        let mut book = MeetingTable::default();
        for id in ["b", "a"] {
            let id = id.parse().unwrap();
            book.create(Meeting::new(id, "题目 <b>".into(), "t".into(), 1_700_000_000.123))
                .unwrap();
        }
        book.start(&"a".parse().unwrap(), 1_763_712_345.678).unwrap();
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
