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
    /// A package was put in place, or not: `before` and `after` tell.
    FinishReplacement {
        id: PackageId,
        before: Option<Sha256>,
        after: Option<Sha256>,
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
    // A start that nobody knows of yet is announced with the new package, in its own
    // time.
    let known = meeting.is_running() && !meeting.unannounced;
    MeetingChanges::put(meeting).with_token_if(known, next_token)
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
mod tests {
    use super::*;
    use MeetingCommand::*;

    fn at(seconds: f64) -> UnixMillis {
        UnixMillis::from_secs_f64(seconds)
    }

    fn id(text: &str) -> PackageId {
        text.parse().unwrap()
    }

    fn change(book: &mut MeetingTable, command: MeetingCommand) -> MeetingChanges {
        let next_token = format!("{}+", book.token);
        execute(book, &command, next_token).unwrap()
    }

    fn book() -> MeetingTable {
        let mut book = MeetingTable::default();
        change(&mut book, Create(Meeting::new(id("m"), "T".into(), String::new(), at(1.0))));
        book
    }

    fn start(seconds: f64) -> MeetingCommand {
        Start { id: id("m"), at: at(seconds) }
    }

    fn end(seconds: f64) -> MeetingCommand {
        End { id: id("m"), at: at(seconds) }
    }

    fn finish(before: Option<u8>, after: Option<u8>) -> MeetingCommand {
        let digest = |n: Option<u8>| n.map(|n| Sha256::new([n; 32]));
        FinishReplacement { id: id("m"), before: digest(before), after: digest(after) }
    }

    fn started() -> MeetingTable {
        let mut book = book();
        change(&mut book, start(2.0));
        change(&mut book, Announce(vec![id("m")]));
        book
    }

    /// True if `command` gave the table another token.
    fn renews(mut book: MeetingTable, command: MeetingCommand) -> bool {
        let before = book.token.clone();
        change(&mut book, command);
        book.token != before
    }

    #[test]
    fn the_token_changes_exactly_when_clients_have_to_look() {
        let (a, b) = (Some(1), Some(2));
        assert!(!renews(book(), start(2.0)), "nodes come first");
        assert!(renews(started(), end(3.0)));
        assert!(renews(started(), Delete(id("m"))));
        assert!(renews(started(), finish(a, b)));
        assert!(renews(started(), finish(None, b)));
        assert!(!renews(started(), finish(a, a)));
        assert!(!renews(started(), start(3.0)));
        assert!(!renews(started(), Announce(vec![id("m")])), "once");
        assert!(!renews(book(), end(3.0)));
        assert!(!renews(book(), Delete(id("m"))));
        assert!(!renews(book(), finish(a, b)));
    }

    #[test]
    fn a_package_is_spread_early_until_its_meeting_starts_or_ends() {
        let prestage = || Prestage(id("m"));
        let early = |mut book: MeetingTable| {
            change(&mut book, prestage());
            book
        };
        let count = |book: &MeetingTable| book.prestaged().count();
        assert_eq!(count(&early(book())), 1);
        assert!(!renews(book(), prestage()), "clients get nothing of it");
        assert!(change(&mut early(book()), prestage()).is_empty());
        assert!(change(&mut book(), EndPrestage(id("m"))).is_empty());
        for command in [start(3.0), end(3.0), Delete(id("m")), EndPrestage(id("m"))] {
            let mut book = early(book());
            assert!(!change(&mut book, command).is_empty());
            assert_eq!(count(&book), 0);
        }
        assert_eq!(count(&early(started())), 0, "it runs");
        let mut ended = started();
        change(&mut ended, end(3.0));
        let mut ended = early(ended);
        assert_eq!(count(&ended), 1, "it may start again");
        change(&mut ended, end(4.0));
        assert_eq!((count(&ended), ended.meetings[0].ended_at), (0, Some(at(3.0))));
        let mut many = MeetingTable::default();
        for n in 0..=MAX_PRESTAGED {
            let id = id(&n.to_string());
            change(&mut many, Create(Meeting::new(id, "T".into(), String::new(), at(1.0))));
        }
        let mut is_taken =
            |n: usize| execute(&mut many, &Prestage(id(&n.to_string())), String::new()).is_ok();
        let refused = (0..=MAX_PRESTAGED).position(|n| !is_taken(n));
        assert_eq!(refused, Some(MAX_PRESTAGED));
    }

    #[test]
    fn a_package_replaced_before_the_announcement_waits_with_it() {
        let mut book = book();
        change(&mut book, start(2.0));
        assert!(!renews(book.clone(), finish(None, Some(1))));
        assert!(!renews(book.clone(), Announce(Vec::new())));
        assert!(!renews(book.clone(), Announce(vec![id("gone")])));
        assert!(renews(book, Announce(vec![id("m")])));
    }

    #[test]
    fn an_ended_meeting_starts_again_and_has_to_be_announced_again() {
        let mut book = started();
        change(&mut book, end(3.0));
        assert_eq!(book.find(&id("m")).unwrap().ended_at, Some(at(3.0)));
        change(&mut book, start(4.0));
        let meeting = book.find(&id("m")).unwrap();
        assert_eq!((meeting.started_at, meeting.ended_at), (Some(at(4.0)), None));
        assert!(meeting.unannounced && meeting.is_running());
    }

    #[test]
    fn a_kill_in_the_middle_of_a_replacement_changes_the_token_at_the_next_start() {
        let mut book = started();
        change(&mut book, BeginReplacement(id("m")));
        let recovered = recover(&book, "next".into());
        assert_eq!(recovered.token.as_deref(), Some("next"));
        book.merge(&recovered);
        assert!(recover(&book, "next".into()).is_empty(), "once");
        let mut unsaved = started();
        change(&mut unsaved, BeginReplacement(id("m")));
        assert!(renews(unsaved, BeginReplacement(id("m"))));
        assert!(recover(&started(), "next".into()).is_empty());
    }

    #[test]
    fn a_replacement_that_began_before_the_start_is_recovered_as_well() {
        let mut book = book();
        change(&mut book, BeginReplacement(id("m")));
        change(&mut book, start(2.0));
        assert_eq!(recover(&book, "next".into()).token.as_deref(), Some("next"));
    }

    #[test]
    fn what_changes_nothing_saves_nothing() {
        assert!(change(&mut started(), start(9.0)).is_empty());
        assert!(change(&mut started(), Announce(vec![id("m")])).is_empty());
        let mut ended = started();
        change(&mut ended, end(3.0));
        assert!(change(&mut ended, end(4.0)).is_empty());
    }

    #[test]
    fn a_refused_command_leaves_no_trace() {
        let book = book();
        for command in [
            Start { id: id("x"), at: at(2.0) },
            End { id: id("x"), at: at(2.0) },
            Delete(id("x")),
            BeginReplacement(id("x")),
            FinishReplacement { id: id("x"), before: None, after: None },
        ] {
            let refused = apply(&book, &command, "next".into()).unwrap_err();
            assert!(matches!(refused, RequestError::UnknownMeeting(_)), "{command:?}");
        }
    }

    #[test]
    fn meetings_are_bounded_and_unique() {
        let mut book = book();
        let again = Create(Meeting::new(id("m"), "U".into(), String::new(), at(1.0)));
        assert!(matches!(apply(&book, &again, String::new()), Err(RequestError::Exists(_))));
        for n in 1..MAX_MEETINGS {
            book.meetings.push(Meeting::new(
                id(&format!("x{n}")),
                String::new(),
                String::new(),
                at(1.0),
            ));
        }
        let beyond = Create(Meeting::new(id("n"), "U".into(), String::new(), at(1.0)));
        let refused = apply(&book, &beyond, String::new());
        assert!(matches!(refused, Err(RequestError::TooManyMeetings(_))));
    }
}
