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

fn blob(n: u8) -> PackageBlob {
    PackageBlob { sha256: Sha256::new([n; 32]), size: 1, file_count: 1, modified_s: 1 }
}

fn replace(before: Option<u8>, after: u8) -> MeetingCommand {
    let before = before.map(|n| blob(n).sha256);
    ReplacePackage { id: id("m"), before, package: blob(after) }
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
    assert!(renews(started(), replace(a, 2)));
    assert!(renews(started(), replace(None, 2)));
    assert!(!renews(started(), replace(a, 1)));
    assert!(!renews(book(), replace(a, 2)));
    assert!(!renews(started(), NamePackage { id: id("m"), package: blob(1) }));
}

#[test]
fn the_row_names_the_package_that_was_put_last_wherever_it_is() {
    let mut book = started();
    let named = |book: &MeetingTable| {
        let meeting = book.find(&id("m")).unwrap();
        (meeting.package.as_ref().map(|blob| blob.sha256.as_bytes()[0]), meeting.versions)
    };
    change(&mut book, NamePackage { id: id("m"), package: blob(1) });
    assert_eq!(named(&book), (Some(1), 0), "it had that before");
    change(&mut book, replace(Some(1), 2));
    assert_eq!(named(&book), (Some(2), 1));
    assert!(change(&mut book, replace(Some(2), 2)).is_empty());
    assert!(change(&mut book, replace(Some(1), 2)).is_empty(), "the row counts");
    let late = NamePackage { id: id("m"), package: blob(1) };
    assert!(change(&mut book, late).is_empty(), "an upload is newer than what was there");
    change(&mut book, BeginReplacement(id("m")));
    change(&mut book, finish(None, None));
    assert_eq!(named(&book), (Some(2), 1), "the upload failed");
    change(&mut book, BeginReplacement(id("m")));
    change(&mut book, finish(None, Some(3)));
    assert_eq!(named(&book), (None, 2), "it lies in the data folder");
    change(&mut book, replace(Some(3), 3));
    assert_eq!(named(&book), (Some(3), 2), "the same package, elsewhere");
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
        ReplacePackage { id: id("x"), before: None, package: blob(1) },
        NamePackage { id: id("x"), package: blob(1) },
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
