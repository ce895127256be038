//! The changes of meetings as data, and what each of them does. Pure: the time and the
//! next token are passed in.
//!
//! A command never changes the meetings by itself: [`apply`] answers what would be
//! different, `repository` saves just that, and then readers get it.

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    package::{PackageId, Sha256},
    relay::MAX_PRESTAGED,
};

use crate::{
    refusal::RequestError,
    state::meetings::{
        MAX_MEETINGS, Meeting, MeetingChange, MeetingChanges, MeetingPhase, MeetingTable,
        PackageBlob,
    },
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MeetingCommand {
    Create(Meeting),
    /// The token changes later, with [`Announce`](Self::Announce).
    Start {
        id: PackageId,
        at: UnixMillis,
    },
    End {
        id: PackageId,
        at: UnixMillis,
    },
    Delete(PackageId),
    /// Nodes get the package of a meeting that does not run, until it starts or ends.
    Prestage(PackageId),
    /// Takes it back: nodes clean the package.
    EndPrestage(PackageId),
    /// Saved before a package is put in place: after a kill in between, a node that has
    /// the old one must not count as having the new one.
    BeginReplacement(PackageId),
    /// A package was put in place in the data folder, or not: `before` and `after`, which
    /// lay there, tell.
    FinishReplacement {
        id: PackageId,
        before: Option<Sha256>,
        after: Option<Sha256>,
    },
    /// The meeting gets a package that is in the shared store; this very change is the
    /// replacement. `before` is what lay in the data folder, where the row names none.
    ReplacePackage {
        id: PackageId,
        before: Option<Sha256>,
        package: PackageBlob,
    },
    /// The package that the meeting had in the data folder alone is in the shared store
    /// from now on; nothing changes for anybody.
    NamePackage {
        id: PackageId,
        package: PackageBlob,
    },
    /// Tells clients of started meetings.
    Announce(Vec<PackageId>),
}

/// Returns what `command` changes, with `next_token` where clients have to look again.
pub(crate) fn apply(
    table: &MeetingTable,
    command: &MeetingCommand,
    next_token: String,
) -> Result<MeetingChanges, RequestError> {
    match command {
        MeetingCommand::Create(meeting) => create(table, meeting),
        MeetingCommand::Start { id, at } => start(table.get(id)?, *at),
        MeetingCommand::End { id, at } => end(table.get(id)?, *at, next_token),
        MeetingCommand::Delete(id) => {
            let ran = table.get(id)?.is_running();
            let meetings = vec![MeetingChange::Remove(id.clone())];
            Ok(MeetingChanges { meetings, token: None }.with_token_if(ran, next_token))
        }
        MeetingCommand::Prestage(id) => prestage(table, table.get(id)?),
        MeetingCommand::EndPrestage(id) => Ok(match table.get(id)? {
            meeting if meeting.prestaged => {
                MeetingChanges::put(Meeting { prestaged: false, ..meeting.clone() })
            }
            _ => MeetingChanges::default(),
        }),
        MeetingCommand::BeginReplacement(id) => {
            let mut meeting = table.get(id)?.clone();
            meeting.versions = meeting.versions.saturating_add(1);
            // Still set: the last replacement's end could not be saved, and its
            // token with it.
            let interrupted = std::mem::replace(&mut meeting.replacing, true);
            Ok(MeetingChanges::put(meeting).with_token_if(interrupted, next_token))
        }
        MeetingCommand::FinishReplacement { id, before, after } => {
            let replaced = before != after;
            Ok(finish_replacement(table.get(id)?, replaced, next_token))
        }
        MeetingCommand::ReplacePackage { id, before, package } => {
            let meeting = table.get(id)?;
            // Another main server may have replaced it meanwhile.
            let before = meeting.package.map(|package| package.sha256).or(*before);
            let is_news = before != Some(package.sha256);
            Ok(replace_package(meeting, package, is_news, next_token))
        }
        MeetingCommand::NamePackage { id, package } => Ok(match table.get(id)? {
            // Replaced meanwhile.
            meeting if meeting.package.is_some() => MeetingChanges::default(),
            meeting => {
                let package = Some(*package);
                MeetingChanges::put(Meeting { package, ..meeting.clone() })
            }
        }),
        MeetingCommand::Announce(ids) => Ok(announce(table, ids, next_token)),
    }
}

/// Applies `command` to `table` itself, which stays as it is where that is refused.
#[cfg(test)]
pub(crate) fn execute(
    table: &mut MeetingTable,
    command: &MeetingCommand,
    next_token: String,
) -> Result<MeetingChanges, RequestError> {
    let changes = apply(table, command, next_token)?;
    table.merge(&changes);
    Ok(changes)
}

fn create(table: &MeetingTable, meeting: &Meeting) -> Result<MeetingChanges, RequestError> {
    if table.find(&meeting.id).is_some() {
        return Err(RequestError::Exists(meeting.id.clone()));
    }
    if table.meetings.len() >= MAX_MEETINGS {
        return Err(RequestError::TooManyMeetings(MAX_MEETINGS));
    }
    Ok(MeetingChanges::put(meeting.clone()))
}

fn start(meeting: &Meeting, at: UnixMillis) -> Result<MeetingChanges, RequestError> {
    if meeting.is_running() {
        return Ok(MeetingChanges::default());
    }
    Ok(MeetingChanges::put(Meeting {
        status: MeetingPhase::Running,
        started_at: Some(at),
        ended_at: None,
        unannounced: true,
        prestaged: false,
        ..meeting.clone()
    }))
}

fn prestage(table: &MeetingTable, meeting: &Meeting) -> Result<MeetingChanges, RequestError> {
    if meeting.is_running() || meeting.prestaged {
        return Ok(MeetingChanges::default());
    }
    if table.prestaged().count() >= MAX_PRESTAGED {
        return Err(RequestError::TooManyPrestaged(MAX_PRESTAGED));
    }
    Ok(MeetingChanges::put(Meeting { prestaged: true, ..meeting.clone() }))
}

fn end(
    meeting: &Meeting,
    at: UnixMillis,
    next_token: String,
) -> Result<MeetingChanges, RequestError> {
    if meeting.status == MeetingPhase::Ended && !meeting.prestaged {
        return Ok(MeetingChanges::default());
    }
    let ended = Meeting {
        status: MeetingPhase::Ended,
        ended_at: meeting.ended_at.filter(|_| meeting.status == MeetingPhase::Ended).or(Some(at)),
        unannounced: false,
        prestaged: false,
        ..meeting.clone()
    };
    Ok(MeetingChanges::put(ended).with_token_if(meeting.is_running(), next_token))
}

fn finish_replacement(meeting: &Meeting, replaced: bool, next_token: String) -> MeetingChanges {
    let mut meeting = Meeting { replacing: false, ..meeting.clone() };
    if !replaced {
        meeting.versions = meeting.versions.saturating_sub(1);
        return MeetingChanges::put(meeting);
    }
    // What is in the data folder counts from now on.
    meeting.package = None;
    let is_known = is_known(&meeting);
    MeetingChanges::put(meeting).with_token_if(is_known, next_token)
}

fn replace_package(
    meeting: &Meeting,
    package: &PackageBlob,
    is_news: bool,
    next_token: String,
) -> MeetingChanges {
    if !is_news && meeting.package.is_some() {
        return MeetingChanges::default();
    }
    let versions = meeting.versions.saturating_add(u32::from(is_news));
    let meeting = Meeting { package: Some(*package), versions, ..meeting.clone() };
    let is_told = is_news && is_known(&meeting);
    MeetingChanges::put(meeting).with_token_if(is_told, next_token)
}

/// False before the start is announced: that tells of a new package, too, in its own time.
fn is_known(meeting: &Meeting) -> bool {
    meeting.is_running() && !meeting.unannounced
}

fn announce(table: &MeetingTable, ids: &[PackageId], next_token: String) -> MeetingChanges {
    let waiting = ids.iter().filter_map(|id| table.find(id)).filter(|meeting| meeting.unannounced);
    changed_all(
        waiting.map(|meeting| Meeting { unannounced: false, ..meeting.clone() }),
        next_token,
    )
}

/// Returns what a kill during a replacement makes necessary at the next start. One change
/// of the token too many costs a poll; one too few leaves old pages on every tablet.
pub(crate) fn recover(table: &MeetingTable, next_token: String) -> MeetingChanges {
    let interrupted = table.meetings.iter().filter(|meeting| meeting.replacing);
    changed_all(
        interrupted.map(|meeting| Meeting { replacing: false, ..meeting.clone() }),
        next_token,
    )
}

/// These meetings, and a token if there are any.
fn changed_all(meetings: impl Iterator<Item = Meeting>, next_token: String) -> MeetingChanges {
    let meetings: Vec<_> = meetings.map(MeetingChange::Put).collect();
    let is_news = !meetings.is_empty();
    MeetingChanges { meetings, token: None }.with_token_if(is_news, next_token)
}

#[cfg(test)]
mod tests;
