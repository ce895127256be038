//! The first documents of a database. Pure.

use std::{path::PathBuf, sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;

use super::{
    document::{InitialChanges, SavedState},
    legacy::LegacyState,
};
use crate::{
    error::StateError,
    state::{
        commands,
        fleet::{FleetRecord, NodeChange},
        groups::NodeGroups,
        master_state::{MasterState, StateChanges},
        meetings::{MeetingChange, MeetingChanges, MeetingTable, fresh_token},
        routing::RoutingRules,
    },
};

/// Files in the data folder that matter when a database is opened.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    pub(super) legacy: Option<LegacyState>,
    /// A database that is not the one to be used.
    pub(super) other: Option<PathBuf>,
}

/// The first start after an upgrade from a version that kept no nodes accepts those that
/// come: they were nodes before, and nobody is there to approve dozens of them.
const UPGRADE_WINDOW: Duration = Duration::from_secs(600);

/// Returns what to save: all of an older version's file where nothing was saved yet, and
/// what a kill made necessary.
pub(super) fn initial_changes(
    saved: Option<SavedState>,
    found: &FoundFiles,
    place: &str,
    now: UnixMillis,
) -> Result<InitialChanges, StateError> {
    let place = || place.to_owned();
    if let Some(SavedState { moved: Some(to), .. }) = saved {
        return Err(StateError::MovedAway { place: place(), to });
    }
    let has_fleet = saved.as_ref().is_some_and(|saved| saved.has_fleet);
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
            let state = MasterState { meetings, ..MasterState::default() };
            (state.clone(), all_of(state), Some(file.digest.clone()))
        }
        (None, None, None) => {
            let state = MasterState::default();
            (state.clone(), all_of(state), None)
        }
    };
    changes.extend(commands::recover(&state.meetings, fresh_token()).into());
    if !has_fleet {
        let is_upgrade = !state.meetings.meetings.is_empty();
        let open_until = is_upgrade.then(|| now + UPGRADE_WINDOW);
        let record = FleetRecord { open_until, ..FleetRecord::default() };
        changes.nodes.push(NodeChange::Record(Arc::new(record)));
    }
    Ok(InitialChanges { changes, imported })
}

fn all_of(state: MasterState) -> StateChanges {
    let MeetingTable { token, meetings } = state.meetings;
    let meetings = meetings.into_iter().map(MeetingChange::Put).collect();
    let meetings = MeetingChanges { meetings, token: Some(token) };
    let routing = (*state.routing != RoutingRules::default()).then(|| state.routing.clone());
    let groups = (*state.groups != NodeGroups::default()).then(|| state.groups.clone());
    let nodes = state.nodes.changes();
    StateChanges { meetings, nodes, routing, groups, ..StateChanges::default() }
}
