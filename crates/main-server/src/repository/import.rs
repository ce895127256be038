//! The first documents of a database. Pure.

use std::path::PathBuf;

use super::{
    document::{InitialChanges, SavedState},
    legacy::LegacyState,
};
use crate::{
    error::StateError,
    state::{
        commands,
        master_state::{MasterState, StateChanges},
        meetings::{MeetingChange, MeetingChanges, MeetingTable, fresh_token},
    },
};

/// Files in the data folder that matter when a database is opened.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    pub(super) legacy: Option<LegacyState>,
    /// A database that is not the one to be used.
    pub(super) other: Option<PathBuf>,
}

/// Returns what to save: all of an older version's file where nothing was saved yet, and
/// what a kill made necessary.
pub(super) fn initial_changes(
    saved: Option<SavedState>,
    found: &FoundFiles,
    place: &str,
) -> Result<InitialChanges, StateError> {
    let place = || place.to_owned();
    if let Some(SavedState { moved: Some(to), .. }) = saved {
        return Err(StateError::MovedAway { place: place(), to });
    }
    let (state, mut changes, imported) = match (saved, &found.legacy, &found.other) {
        (Some(saved), None, _) => (saved.state, StateChanges::default(), None),
        // A kill came between saving and renaming.
        (Some(saved), Some(file), _) if saved.imported.as_ref() == Some(&file.digest) => {
            (saved.state, StateChanges::default(), None)
        }
        (Some(_), Some(file), _) => {
            return Err(StateError::TwoStates { path: file.path.clone(), place: place() });
        }
        (None, _, Some(path)) => {
            return Err(StateError::OtherEngine { path: path.clone(), place: place() });
        }
        (None, Some(file), None) => {
            let meetings = file.table.clone();
            let state = MasterState { meetings };
            (state.clone(), all_of(state), Some(file.digest.clone()))
        }
        (None, None, None) => {
            let state = MasterState::default();
            (state.clone(), all_of(state), None)
        }
    };
    changes.extend(commands::recover(&state.meetings, fresh_token()).into());
    Ok(InitialChanges { changes, imported })
}

fn all_of(state: MasterState) -> StateChanges {
    let MeetingTable { token, meetings } = state.meetings;
    let meetings = meetings.into_iter().map(MeetingChange::Put).collect();
    MeetingChanges { meetings, token: Some(token) }.into()
}
