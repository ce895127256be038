//! One list of cases, on both engines.

mod at_once;
mod casts;
mod presence;

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::access::{AuthMethod, Operator};
use edge_mirror_protocol::package::{PackageId, Sha256};
use sha2::{Digest, Sha256 as Hasher};
use sqlx::{Any, AssertSqlSafe, Row};

use super::*;
use crate::state::{
    audit::{AuditAction, AuditEvent, AuditRecord},
    commands::MeetingCommand,
    fleet::{AvailabilityChange, LearnedNode, ProfileEdit, RefusedNode, commands::NodeCommand},
    history::{HistoryChange, HistoryPeriod, HistoryStep, PeriodFigures},
    master_state::MasterCommand,
    meetings::{Meeting, MeetingPhase, fresh_token},
};
use document::{SavedDocument, WriteFault};
use testing::{PASSWORD, TestPostgres};

/// An empty database, and a data folder.
struct TestDatabase {
    location: StateLocation,
    folder: tempfile::TempDir,
}

impl TestDatabase {
    fn data(&self) -> &Path {
        self.folder.path()
    }

    async fn open(&self) -> Result<(StateRepository, MasterState), StateError> {
        let OpenedRepository { repository, state, .. } =
            StateRepository::open(&self.location, self.data()).await?;
        Ok((repository, state))
    }

    async fn opened(&self) -> (StateRepository, MasterState) {
        self.open().await.unwrap()
    }

    /// Runs a statement that the program would not.
    async fn run(&self, sql: &str) {
        let database = StateDatabase::new(&self.location, self.data());
        let mut connection = database.connect().await.unwrap();
        let query = sqlx::query::<Any>(AssertSqlSafe(sql.to_owned()));
        query.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    fn write_legacy(&self) -> std::path::PathBuf {
        let path = self.data().join("state.json");
        fs::write(&path, legacy::tests::SAVED).unwrap();
        path
    }
}

async fn opened(location: &StateLocation, data: &Path) -> (StateRepository, MasterState) {
    let opened = StateRepository::open(location, data).await.unwrap();
    (opened.repository, opened.state)
}

fn id(text: &str) -> PackageId {
    text.parse().unwrap()
}

fn create(text: &str) -> MeetingCommand {
    let at = UnixMillis::from_millis(1_763_712_345_678);
    MeetingCommand::Create(Meeting::new(id(text), format!("题目 '{text}' <\"\\>"), "t".into(), at))
}

fn start(text: &str) -> MeetingCommand {
    MeetingCommand::Start { id: id(text), at: UnixMillis::from_millis(1_763_712_345_679) }
}

/// The changes of these commands together.
fn changes<C: Clone + Into<MasterCommand>>(
    table: &mut MasterState,
    commands: &[C],
) -> StateChanges {
    let mut changes = StateChanges::default();
    for command in commands {
        let command: MasterCommand = command.clone().into();
        changes.extend(table.execute(&command, fresh_token()).unwrap());
    }
    changes
}

async fn commit<C: Clone + Into<MasterCommand>>(
    repository: &mut StateRepository,
    table: &mut MasterState,
    commands: &[C],
) {
    let saved = repository.commit(&changes(table, commands)).await.unwrap();
    assert_eq!(saved, CommitOutcome::Saved);
}

async fn what_is_saved_is_read_again_in_the_order_of_creation(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    assert!(table.meetings.meetings.is_empty() && !table.meetings.token.is_empty());
    commit(&mut repository, &mut table, &[create("z"), create("a")]).await;
    commit(&mut repository, &mut table, &[start("z"), create("会议 '1'; --"), create("k")]).await;
    commit(&mut repository, &mut table, &[MeetingCommand::Delete(id("k"))]).await;
    commit(&mut repository, &mut table, &[create("b"), MeetingCommand::Announce(vec![id("z")])])
        .await;
    let ids: Vec<_> = table.meetings.meetings.iter().map(|meeting| meeting.id.as_str()).collect();
    assert_eq!(ids, ["z", "a", "会议 '1'; --", "b"]);
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
    repository.close().await;
    assert_eq!(database.opened().await.1, table);
}

fn unchanged(_: &MasterState) -> StateChanges {
    StateChanges::default()
}

fn record(subject: usize) -> AuditRecord {
    let operator = Operator { address: Ipv4Addr::LOCALHOST.into(), how: AuthMethod::Local };
    let event = AuditEvent {
        subject: Some(format!("\0'{subject}")),
        ..AuditEvent::new(AuditAction::NodeRemoved)
    };
    AuditRecord::new(event, &operator, UnixMillis::from_millis(1_763_712_345_678))
}

async fn note(repository: &mut StateRepository, records: std::ops::Range<usize>) {
    let audit = records.map(record).collect();
    let saved =
        repository.commit(&StateChanges { audit, ..StateChanges::default() }).await.unwrap();
    assert_eq!(saved, CommitOutcome::Saved);
}

/// The numbers on a page of the log, which has what was noted.
async fn numbers(reader: &StateReader, before: Option<i64>, limit: u32) -> Vec<i64> {
    let page = reader.log_page(LogTopic::Audit, before, limit).await.unwrap();
    for entry in &page {
        assert_eq!(entry.at, record(0).at);
        let noted: AuditRecord = serde_json::from_str(&entry.body).unwrap();
        assert_eq!(noted.by, record(0).by);
    }
    page.iter().map(|entry| entry.seq).collect()
}

async fn a_log_is_numbered_without_holes_and_keeps_the_newest(database: TestDatabase) {
    let (mut repository, _) = database.opened().await;
    let reader = repository.reader();
    assert_eq!(numbers(&reader, None, 10).await, [0; 0]);
    note(&mut repository, 0..2).await;
    note(&mut repository, 2..5).await;
    assert_eq!(numbers(&reader, None, 10).await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers(&reader, Some(4), 2).await, [3, 2]);
    repository.close().await;
    // As after ten thousand more.
    database.run("UPDATE edge_mirror_head SET seq = 10002").await;
    let (mut repository, _) = database.opened().await;
    note(&mut repository, 5..6).await;
    assert_eq!(numbers(&reader, None, 10).await, [10_003, 5, 4]);
    reader.close().await;
}

fn period(at_s: u64, redirects: u64) -> HistoryPeriod {
    let figures = PeriodFigures { redirects, ..PeriodFigures::default() };
    HistoryPeriod { at: UnixMillis::from_secs(at_s), figures }
}

async fn keep(repository: &mut StateRepository, periods: Vec<HistoryPeriod>, kept_from_s: u64) {
    let kept_from = UnixMillis::from_secs(kept_from_s);
    let change = HistoryChange { step: HistoryStep::Hour, periods, kept_from };
    let history = vec![change];
    let saved =
        repository.commit(&StateChanges { history, ..StateChanges::default() }).await.unwrap();
    assert_eq!(saved, CommitOutcome::Saved);
}

async fn a_period_goes_on_and_old_ones_are_dropped(database: TestDatabase) {
    let (mut repository, _) = database.opened().await;
    let reader = repository.reader();
    let hours = async |from_s| {
        reader.history(HistoryStep::Hour, UnixMillis::from_secs(from_s)).await.unwrap()
    };
    keep(&mut repository, vec![period(7200, 3), period(3600, 1)], 0).await;
    keep(&mut repository, vec![period(7200, 4)], 0).await;
    assert_eq!(hours(0).await, [period(3600, 1), period(7200, 4)]);
    assert_eq!(hours(3601).await, [period(7200, 4)]);
    keep(&mut repository, vec![period(10800, 5)], 7200).await;
    assert_eq!(hours(0).await, [period(7200, 4), period(10800, 5)]);
    assert_eq!(reader.history(HistoryStep::Minute, UnixMillis::from_secs(0)).await.unwrap(), []);
}

async fn a_database_of_before_there_were_logs_is_backed_up_and_gets_them(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    commit(&mut repository, &mut table, &[create("z")]).await;
    repository.close().await;
    for table in ["log", "head", "history"] {
        database.run(&format!("DROP TABLE edge_mirror_{table}")).await;
    }
    let file = database.data().join("backup");
    assert_eq!(back_up(&database.location, database.data(), &file).await.unwrap(), 1);
    let (mut repository, _) = database.opened().await;
    note(&mut repository, 0..1).await;
    assert_eq!(numbers(&repository.reader(), None, 10).await, [1]);
}

async fn of_one_meeting_the_last_change_of_a_transaction_counts(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    let end = MeetingCommand::End { id: id("m"), at: UnixMillis::from_secs(2) };
    let gone = MeetingCommand::Delete(id("gone"));
    commit(&mut repository, &mut table, &[create("m"), create("gone"), start("m"), end, gone])
        .await;
    assert_eq!(table.meetings.meetings.len(), 1);
    assert_eq!(table.meetings.meetings[0].status, MeetingPhase::Ended);
    // The order is that of creation, whatever changed last.
    commit(&mut repository, &mut table, &[create("z"), create("a"), start("z")]).await;
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
    // Deleted and created again, within one transaction and over two.
    let again = [MeetingCommand::Delete(id("m")), create("m"), start("m")];
    commit(&mut repository, &mut table, &again).await;
    commit(&mut repository, &mut table, &[MeetingCommand::Delete(id("m"))]).await;
    commit(&mut repository, &mut table, &[create("m")]).await;
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
}

async fn changes_are_saved_all_or_none_and_not_over_others(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    commit(&mut repository, &mut table, &[create("a"), create("b")]).await;
    let saved = table.clone();
    database.run("UPDATE edge_mirror_doc SET revision = 99 WHERE id = 'b'").await;
    let both = changes(&mut table, &[create("c"), start("a"), start("b")]);
    let refused = repository.commit(&both).await.unwrap_err();
    assert!(matches!(refused, StateError::Conflict { .. }), "{refused}");
    let refused = repository.commit(&both).await.unwrap_err();
    assert!(matches!(refused, StateError::Unavailable { .. }), "only after reading: {refused}");
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), saved);
    assert_eq!(repository.commit(&both).await.unwrap(), CommitOutcome::Saved);
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
}

/// Carries out commands as a main server does that shares the state with others. True if
/// nobody came first.
async fn share<C: Clone + Into<MasterCommand>>(
    repository: &mut StateRepository,
    table: &mut MasterState,
    commands: &[C],
) -> bool {
    let mut after = table.clone();
    let wanted = changes(&mut after, commands);
    if repository.commit(&wanted).await.unwrap() == CommitOutcome::Saved {
        *table = after;
        return true;
    }
    let changing = async |found| {
        take_in(table, found);
        changes(table, commands)
    };
    repository.commit_after_others(changing).await.unwrap();
    false
}

async fn catch_up(repository: &mut StateRepository, table: &mut MasterState) {
    take_in(table, repository.follow().await.unwrap());
}

fn take_in(table: &mut MasterState, found: Option<FollowedState>) {
    match found {
        None => {}
        Some(FollowedState::Changes(changes)) => table.merge(&changes),
        Some(FollowedState::All(state)) => *table = state,
    }
}

async fn who_shares_it_sees_what_others_save_and_loses_nothing_of_it(database: TestDatabase) {
    let (mut first, mut here) = database.opened().await;
    share(&mut first, &mut here, &[create("a"), create("b"), create("c")]).await;
    let (mut second, mut there) = database.opened().await;
    assert_eq!(there, here);
    catch_up(&mut second, &mut there).await;
    assert_eq!(there, here, "nothing to see yet");
    // Both at once, and the same meetings.
    share(&mut first, &mut here, &[start("a"), create("z")]).await;
    let wanted = changes(&mut there.clone(), &[start("b")]);
    assert_eq!(second.commit(&wanted).await.unwrap(), CommitOutcome::Outdated);
    share(&mut second, &mut there, &[start("b"), create("d"), MeetingCommand::Delete(id("c"))])
        .await;
    let ids: Vec<_> = there.meetings.meetings.iter().map(|meeting| meeting.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "z", "d"]);
    catch_up(&mut first, &mut here).await;
    assert_eq!(here, there);
    // Deleted and created again: at the end of the list.
    share(&mut first, &mut here, &[MeetingCommand::Delete(id("a")), create("a")]).await;
    let node = || MasterCommand::from(NodeCommand::Learn(vec![learned("a/\u{0}b")]));
    share(&mut first, &mut here, &[node()]).await;
    let rules = serde_json::from_str(r#"{"overflow": 7}"#).unwrap();
    share(&mut first, &mut here, &[MasterCommand::Route(rules)]).await;
    catch_up(&mut second, &mut there).await;
    assert_eq!(there, here);
    let LearnedNode { id, address, heard_at: at, .. } = learned("a/\u{0}b");
    let refused = RefusedNode { id: id.clone(), address, client: [10, 0, 0, 9].into(), at };
    share(&mut second, &mut there, &[NodeCommand::Refuse(refused)]).await;
    catch_up(&mut first, &mut here).await;
    assert_eq!((here.nodes.len(), here.nodes.refused().count()), (there.nodes.len(), 1));
    share(&mut first, &mut here, &[NodeCommand::Remove(id)]).await;
    catch_up(&mut second, &mut there).await;
    assert_eq!((there.nodes.len(), there.nodes.refused().count()), (0, 0));
    assert_eq!(there, here);
    assert_eq!(first.reconnect(unchanged).await.unwrap(), there);
}

async fn who_is_far_behind_reads_the_whole_state(database: TestDatabase) {
    let (mut first, mut here) = database.opened().await;
    let (mut second, mut there) = database.opened().await;
    for n in 0..3 {
        share(&mut first, &mut here, &[create(&format!("m{n}"))]).await;
    }
    database.run("DELETE FROM edge_mirror_log WHERE topic = 'state' AND seq = 3").await;
    assert!(matches!(second.follow().await, Ok(Some(FollowedState::All(state))) if state == here));
    share(&mut first, &mut here, &[create("m9")]).await;
    there.clone_from(&here);
    catch_up(&mut second, &mut there).await;
    assert_eq!(there, here);
    share(&mut second, &mut there, &[start("m0")]).await;
}

async fn an_older_version_that_opens_it_has_it_alone(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    share(&mut repository, &mut table, &[create("a")]).await;
    let older =
        "UPDATE edge_mirror_doc SET revision = revision + 1, json = '{}' WHERE kind = 'holder'";
    database.run(older).await;
    let late = changes(&mut table.clone(), &[create("late")]);
    for refused in
        [repository.commit(&late).await.map(drop), repository.reconnect(unchanged).await.map(drop)]
    {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StateError::Replaced { .. }), "{refused}");
    }
    // And then this one again: whatever the older one still wants to save is refused.
    let (repository, found) = database.opened().await;
    assert_eq!((found, repository.known.generation()), (table, 3));
}

async fn a_newer_schema_is_refused(database: TestDatabase) {
    database.opened().await.0.close().await;
    database.run("UPDATE edge_mirror_schema SET version = 2").await;
    let refused = database.open().await.unwrap_err();
    assert!(matches!(refused, StateError::Newer { found: 2, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("install that version"), "{refused}");
}

async fn a_damaged_document_is_named_and_left_alone(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    commit(&mut repository, &mut table, &[create("m")]).await;
    repository.close().await;
    database.run("UPDATE edge_mirror_doc SET json = '{' WHERE kind = 'meeting'").await;
    let refused = database.open().await.unwrap_err().to_string();
    assert!(refused.contains("meeting 'm'") && !refused.contains(PASSWORD), "{refused}");
}

async fn an_older_versions_file_is_taken_over_once(database: TestDatabase) {
    let path = database.write_legacy();
    let (repository, table) = database.opened().await;
    assert_eq!(table.meetings, legacy::tests::saved());
    repository.close().await;
    assert!(!path.exists());
    let kept = path.with_file_name("state.json.before-database");
    assert_eq!(fs::read_to_string(kept).unwrap(), legacy::tests::SAVED);
    // A kill came before it was renamed; meanwhile nothing can have changed, but
    // even then the database counts.
    let (mut repository, mut table) = database.opened().await;
    commit(&mut repository, &mut table, &[create("new")]).await;
    repository.close().await;
    database.write_legacy();
    let (repository, found) = database.opened().await;
    assert_eq!((found, path.exists()), (table, false));
    repository.close().await;
}

async fn a_file_that_an_older_version_wrote_meanwhile_is_not_dropped(database: TestDatabase) {
    let path = database.write_legacy();
    database.opened().await.0.close().await;
    let other = legacy::tests::SAVED.replace("3f1a", "4f1a");
    fs::write(&path, &other).unwrap();
    let refused = database.open().await.unwrap_err();
    assert!(matches!(refused, StateError::TwoStates { .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), other);
    fs::remove_file(&path).unwrap();
    database.opened().await.0.close().await;
}

async fn a_kill_before_the_transaction_ends_leaves_the_old_file(database: TestDatabase) {
    let path = database.write_legacy();
    let inner = StateDatabase::new(&database.location, database.data());
    let mut connection = inner.connect().await.unwrap();
    let found = LegacyState::find(database.data()).await.unwrap();
    let found = FoundFiles { legacy: found, other: None };
    let never: Result<_, StateError> = Err(StateError::Conflict { place: "killed".into() });
    let opening = transaction::open(&mut connection, inner.begin(), "", |saved| {
        import::initial_changes(saved, &found, "here", UnixMillis::now()).unwrap();
        never
    });
    opening.await.unwrap_err();
    drop(connection);
    assert!(path.exists());
    assert_eq!(database.opened().await.1.meetings, legacy::tests::saved());
}

async fn a_backup_is_made_while_it_is_used_and_restored_as_it_was(database: TestDatabase) {
    let (location, data) = (&database.location, database.data());
    let file = data.join("backup.jsonl");
    let refused = back_up(location, data, &file).await.unwrap_err();
    assert!(matches!(refused, StateError::NoState { .. }), "{refused}");
    let (mut repository, mut table) = database.opened().await;
    commit(&mut repository, &mut table, &[create("z"), create("a"), start("z")]).await;
    assert_eq!(back_up(location, data, &file).await.unwrap(), 2);
    let saved = table.clone();
    commit(&mut repository, &mut table, &[create("later"), MeetingCommand::Delete(id("z"))]).await;
    let text = fs::read_to_string(&file).unwrap();
    let broken = data.join("broken.jsonl");
    fs::write(&broken, &text[..text.len() / 2]).unwrap();
    let refused = restore(location, data, &broken).await.unwrap_err();
    assert!(matches!(refused, StateError::DamagedBackup { .. }), "{refused}");
    commit(&mut repository, &mut table, &[create("untouched")]).await;

    let (count, kept) = restore(location, data, &file).await.unwrap();
    assert_eq!(count, 2);
    let late = repository.commit(&changes(&mut table.clone(), &[create("late")])).await;
    assert!(matches!(late, Err(StateError::Replaced { .. })), "{late:?}");
    repository.close().await;
    let (repository, restored) = database.opened().await;
    assert_eq!(restored, saved);
    repository.close().await;
    // What was replaced is in a file of its own.
    restore(location, data, &kept.unwrap()).await.unwrap();
    assert_eq!(database.opened().await.1, table);
}

async fn what_was_saved_meanwhile_is_not_replaced(database: TestDatabase) {
    let inner = StateDatabase::new(&database.location, database.data());
    let (begin, mut connection) = (inner.begin(), inner.connect().await.unwrap());
    let refusing = |_: &[SavedDocument]| Err(inner.unavailable("refused"));
    let (mut repository, mut table) = database.opened().await;
    let taking = transaction::take_over(&mut connection, begin, refusing);
    assert!(matches!(taking.await, Err(WriteFault::State(_))));
    commit(&mut repository, &mut table, &[create("a")]).await;

    let taking = transaction::take_over(&mut connection, begin, |_| Ok(()));
    let taken = taking.await.unwrap();
    let (mut repository, _) = database.opened().await;
    commit(&mut repository, &mut table, &[create("b")]).await;
    let (position, documents) = (taken.position, taken.documents.clone());
    let replacing = transaction::replace(&mut connection, begin, position.clone(), documents);
    assert!(matches!(replacing.await, Err(WriteFault::Outdated)));
    let place = "elsewhere".to_owned();
    let marking = transaction::mark_moved(&mut connection, begin, position, place);
    assert!(matches!(marking.await, Err(WriteFault::Outdated)));
    repository.close().await;
    assert_eq!(database.opened().await.1, table);

    // Who only began to use it meanwhile saves nothing any more.
    let taking = transaction::take_over(&mut connection, begin, |_| Ok(()));
    let taken = taking.await.unwrap();
    let (mut repository, _) = database.opened().await;
    let mut documents = taken.documents;
    documents.retain(|found| found.kind != "holder");
    let replacing = transaction::replace(&mut connection, begin, taken.position, documents);
    replacing.await.unwrap();
    let late = repository.commit(&changes(&mut table.clone(), &[create("late")])).await;
    assert!(matches!(late, Err(StateError::Replaced { .. })), "{late:?}");
}

fn learned(id: &str) -> LearnedNode {
    let (client, at) = ([10, 0, 0, 1].into(), UnixMillis::from_millis(1_763_712_345_678));
    LearnedNode::new(id.into(), "10.0.0.1:8001".into(), client, at)
}

fn refused(id: &str) -> NodeCommand {
    let LearnedNode { id, address, heard_at: at, .. } = learned(id);
    NodeCommand::Refuse(RefusedNode { id, address, client: [10, 0, 0, 6].into(), at })
}

async fn what_is_saved_of_nodes_is_read_again(database: TestDatabase) {
    let (mut repository, mut table) = database.opened().await;
    let hall = "大厅 '1'; --\0\n/%";
    let ids = [hall, "b", "c"];
    let learn = NodeCommand::Learn(ids.map(learned).to_vec());
    commit(&mut repository, &mut table, &[learn, refused(hall), refused("x")]).await;
    let name = Some("1 号厅".to_owned());
    let edit = ProfileEdit { name, drained: Some(true), ..ProfileEdit::default() };
    let at = UnixMillis::from_secs(9);
    let silent = AvailabilityChange { at, present: false };
    let edits = [
        NodeCommand::Edit { id: hall.into(), edit },
        NodeCommand::NotePresence(vec![(hall.into(), silent), ("b".into(), silent)]),
        NodeCommand::RecordSightings(ids.map(|id| (id.to_owned(), at)).into()),
        NodeCommand::Remove("b".into()),
        NodeCommand::Remove("x".into()),
    ];
    commit(&mut repository, &mut table, &edits).await;
    // Gone and back within one transaction.
    let again = [NodeCommand::Remove("c".into()), NodeCommand::Learn(vec![learned("c")])];
    commit(&mut repository, &mut table, &again).await;
    commit(&mut repository, &mut table, &[create("m")]).await;
    let rules =
        r#"{"rules": [{"clients": ["10.3.0.0/16"], "sites": ["三楼 '1'"]}], "overflow": 7}"#;
    let rules = serde_json::from_str(rules).unwrap();
    commit(&mut repository, &mut table, &[MasterCommand::Route(rules)]).await;
    assert_eq!(table.routing.overflow, 7);
    let known = table.nodes.iter().map(|node| &*node.id).collect::<Vec<_>>();
    assert_eq!(known, ["c", hall]);
    assert_eq!(table.nodes.refused().count(), 1);
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
    repository.close().await;
    assert_eq!(database.opened().await.1, table);
}

async fn a_backup_has_the_nodes_and_one_of_before_lets_them_in_again(database: TestDatabase) {
    let (location, data) = (&database.location, database.data());
    let (mut repository, mut table) = database.opened().await;
    let now = UnixMillis::now();
    assert_eq!(table.nodes.open_until(now), None, "nobody used this before");
    commit(&mut repository, &mut table, &[create("m")]).await;
    commit(&mut repository, &mut table, &[NodeCommand::Learn(vec![learned("a")])]).await;
    let file = data.join("backup.jsonl");
    back_up(location, data, &file).await.unwrap();
    commit(&mut repository, &mut table, &[NodeCommand::Remove("a".into())]).await;
    repository.close().await;
    restore(location, data, &file).await.unwrap();
    let (repository, restored) = database.opened().await;
    assert!(restored.nodes.get("a").is_some());
    assert_eq!(restored.nodes.open_until(now), None);
    repository.close().await;

    // As versions wrote it that kept no nodes and casts.
    let text = fs::read_to_string(&file).unwrap();
    let (header, lines) = text.split_once('\n').unwrap();
    let is_older = |line: &&str| {
        ["node", "fleet", "cast head"]
            .iter()
            .all(|kind| !line.contains(&format!(r#""kind":"{kind}""#)))
    };
    let lines: String = lines.lines().filter(is_older).map(|line| format!("{line}\n")).collect();
    let mut header: serde_json::Value = serde_json::from_str(header).unwrap();
    header["documents"] = lines.lines().count().into();
    header["sha256"] = Sha256::new(Hasher::digest(&lines).into()).to_string().into();
    assert_eq!(header["documents"], 2);
    fs::write(&file, format!("{header}\n{lines}")).unwrap();
    restore(location, data, &file).await.unwrap();
    let (repository, upgraded) = database.opened().await;
    assert_eq!((upgraded.nodes.len(), upgraded.meetings.meetings.len()), (0, 1));
    let until = upgraded.nodes.open_until(now).unwrap();
    repository.close().await;
    let (_, again) = database.opened().await;
    assert_eq!(again.nodes.open_until(now), Some(until), "a restart makes it no longer");
}

/// Runs each case on a database of its own, one after the other.
macro_rules! on_each {
    ($database:expr; $($case:ident)*) => {
        $(
            println!("{}", stringify!($case));
            $case($database(stringify!($case)).await).await;
        )*
    };
}

macro_rules! all_cases {
    ($database:expr) => {
        on_each! {
            $database;
            what_is_saved_is_read_again_in_the_order_of_creation
            a_log_is_numbered_without_holes_and_keeps_the_newest
            a_period_goes_on_and_old_ones_are_dropped
            a_database_of_before_there_were_logs_is_backed_up_and_gets_them
            of_one_meeting_the_last_change_of_a_transaction_counts
            changes_are_saved_all_or_none_and_not_over_others
            who_shares_it_sees_what_others_save_and_loses_nothing_of_it
            who_is_far_behind_reads_the_whole_state
            an_older_version_that_opens_it_has_it_alone
            a_newer_schema_is_refused
            a_damaged_document_is_named_and_left_alone
            an_older_versions_file_is_taken_over_once
            a_file_that_an_older_version_wrote_meanwhile_is_not_dropped
            a_kill_before_the_transaction_ends_leaves_the_old_file
            a_backup_is_made_while_it_is_used_and_restored_as_it_was
            what_was_saved_meanwhile_is_not_replaced
            what_is_saved_of_nodes_is_read_again
            a_backup_has_the_nodes_and_one_of_before_lets_them_in_again
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_state() {
    all_cases!(async |_: &str| TestDatabase {
        location: StateLocation::DataFolder,
        folder: tempfile::tempdir().unwrap(),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_state() {
    let postgres = TestPostgres::start().await;
    all_cases!(async |name: &str| TestDatabase {
        // Longer names are cut off by PostgreSQL.
        location: postgres.database(&name[..name.len().min(60)]).await,
        folder: tempfile::tempdir().unwrap(),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_main_servers_each_has_its_own_figures_and_all_have_one_history() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (folder, bytes) in folders.iter().zip([3, 4]) {
        let (mut repository, mut table) = opened(&location, folder.path()).await;
        let figures = SavedFigures { served_bytes: bytes, ..SavedFigures::default() };
        let figures = MasterCommand::SaveFigures(Arc::new(figures));
        share(&mut repository, &mut table, &[figures]).await;
        keep(&mut repository, vec![period(3600, bytes)], 0).await;
        let reader = repository.reader();
        let own = reader.own_history(HistoryStep::Hour, UnixMillis::from_secs(0));
        assert_eq!(own.await.unwrap(), [period(3600, bytes)]);
        repository.close().await;
    }
    for (folder, bytes) in folders.iter().zip([3, 4]) {
        let opened = StateRepository::open(&location, folder.path()).await.unwrap();
        assert_eq!(opened.figures.served_bytes, bytes);
        let reader = opened.repository.reader();
        let hours = reader.history(HistoryStep::Hour, UnixMillis::from_secs(0)).await.unwrap();
        assert_eq!(hours, [period(3600, 7)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_told_without_the_password() {
    let postgres = TestPostgres::start().await;
    let folder = tempfile::tempdir().unwrap();
    let right = postgres.url("postgres");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, reason) in [
        (right.replace(PASSWORD, "wrong-secret"), "password authentication failed"),
        (right.replace("/postgres", "/nothing"), "does not exist"),
        (format!("postgres://fleet:hunter2@{nobody}/x"), "refused"),
    ] {
        let location = url.parse().unwrap();
        let error = StateRepository::open(&location, folder.path()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("secret") && !error.contains(PASSWORD), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_in_sqlite_is_not_left_behind_by_mistake() {
    let postgres = TestPostgres::start().await;
    let folder = tempfile::tempdir().unwrap();
    let here = StateLocation::DataFolder;
    opened(&here, folder.path()).await.0.close().await;
    let there = postgres.database("fleet").await;
    let refused = StateRepository::open(&there, folder.path()).await.unwrap_err();
    assert!(matches!(refused, StateError::OtherEngine { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_moved_there_and_back_is_the_same() {
    let postgres = TestPostgres::start().await;
    let database =
        TestDatabase { location: StateLocation::DataFolder, folder: tempfile::tempdir().unwrap() };
    let (here, there) = (StateLocation::DataFolder, postgres.database("fleet").await);
    let data = database.data();
    let (mut repository, mut table) = database.opened().await;
    commit(&mut repository, &mut table, &[create("z"), create("a"), start("z")]).await;
    let figures = SavedFigures { served_bytes: 7, ..SavedFigures::default() };
    let figures = MasterCommand::SaveFigures(Arc::new(figures));
    commit(&mut repository, &mut table, &[figures]).await;
    note(&mut repository, 0..3).await;
    keep(&mut repository, vec![period(3600, 9)], 0).await;
    repository.close().await;
    let refused = move_state(&here, &here, data).await.unwrap_err();
    assert!(matches!(refused, StateError::SamePlace { .. }), "{refused}");

    assert_eq!(move_state(&here, &there, data).await.unwrap(), 2);
    let refused = StateRepository::open(&here, data).await.unwrap_err().to_string();
    assert!(refused.contains("was moved to postgres://fleet@127.0.0.1"), "{refused}");
    assert!(!refused.contains(PASSWORD), "{refused}");
    let refused = move_state(&here, &there, data).await.unwrap_err();
    assert!(matches!(refused, StateError::MovedAway { .. }), "{refused}");
    let (mut moved, found) = opened(&there, data).await;
    assert_eq!(found, table);
    commit(&mut moved, &mut table, &[create("there")]).await;
    note(&mut moved, 3..4).await;

    assert_eq!(move_state(&there, &here, data).await.unwrap(), 3);
    let late = moved.commit(&changes(&mut table.clone(), &[create("late")])).await;
    assert!(matches!(late, Err(StateError::Replaced { .. })), "{late:?}");
    let back = StateRepository::open(&here, data).await.unwrap();
    assert_eq!((back.state, back.figures.served_bytes), (table, 7));
    let reader = back.repository.reader();
    assert_eq!(numbers(&reader, None, 10).await, [4, 3, 2, 1]);
    let hours = reader.history(HistoryStep::Hour, UnixMillis::from_secs(0)).await.unwrap();
    assert_eq!(hours, [period(3600, 9)]);
    let refused = StateRepository::open(&there, data).await.unwrap_err();
    assert!(matches!(refused, StateError::MovedAway { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_moved_over_other_meetings() {
    let postgres = TestPostgres::start().await;
    let [one, other] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let (here, there) = (StateLocation::DataFolder, postgres.database("fleet").await);
    for folder in [&one, &other] {
        let (mut repository, mut table) = opened(&here, folder.path()).await;
        commit(&mut repository, &mut table, &[create("m")]).await;
        repository.close().await;
    }
    move_state(&here, &there, one.path()).await.unwrap();
    let (mut running, mut table) = opened(&there, one.path()).await;
    let (mut source, mut kept) = opened(&here, other.path()).await;
    let refused = move_state(&here, &there, other.path()).await.unwrap_err();
    assert!(matches!(refused, StateError::NotEmpty { .. }), "{refused}");
    // Both are in use still.
    commit(&mut running, &mut table, &[create("n")]).await;
    commit(&mut source, &mut kept, &[create("n")]).await;
}

/// Waits until a connection waits for another one's lock.
async fn until_one_waits(database: &TestDatabase) {
    let inner = StateDatabase::new(&database.location, database.data());
    let mut connection = inner.connect().await.unwrap();
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
    while sqlx::query::<Any>(waiting).fetch_one(&mut connection).await.unwrap().get::<i64, _>(0)
        == 0
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_is_just_saving_is_in_what_is_taken_over() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    let (mut first, mut table) = database.opened().await;
    commit(&mut first, &mut table, &[create("m")]).await;
    let inner = StateDatabase::new(&database.location, database.data());
    let mut saving = inner.connect().await.unwrap();
    let mut transaction = saving.begin().await.unwrap();
    for statement in [
        "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder'",
        "UPDATE edge_mirror_doc SET revision = revision + 1, json = replace(json, '题目', 'late') WHERE kind = 'meeting'",
    ] {
        sqlx::query::<Any>(statement).execute(&mut *transaction).await.unwrap();
    }
    let (opened, ()) = tokio::join!(database.open(), async {
        until_one_waits(&database).await;
        transaction.commit().await.unwrap();
    });
    let (mut second, found) = opened.unwrap();
    assert!(found.meetings.meetings[0].title.starts_with("late"), "{found:?}");
    table = found;
    commit(&mut second, &mut table, &[start("m")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_only_read_is_not_back() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    let location = postgres.database("other").await;
    let other = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    let (mut repository, table) = database.opened().await;
    other.run("ALTER DATABASE fleet SET default_transaction_read_only = on").await;
    let refused = repository.reconnect(unchanged).await.unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    other.run("ALTER DATABASE fleet RESET default_transaction_read_only").await;
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_takes_long_to_read_is_read_after_an_error() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    let (mut repository, table) = database.opened().await;
    let longer = ANSWER_TIMEOUT.as_secs_f64() + 0.2;
    database.run("ALTER TABLE edge_mirror_doc RENAME TO quick_doc").await;
    let slow =
        format!("SELECT * FROM quick_doc WHERE kind <> 'token' OR pg_sleep({longer}) IS NOT NULL");
    database.run(&format!("CREATE VIEW edge_mirror_doc AS {slow}")).await;
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_another_has_locked_is_not_waited_for_for_long() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    let (mut repository, table) = database.opened().await;
    let inner = StateDatabase::new(&database.location, database.data());
    let mut other = inner.connect().await.unwrap();
    let mut transaction = other.begin().await.unwrap();
    let lock = "UPDATE edge_mirror_doc SET json = json WHERE kind = 'holder'";
    sqlx::query::<Any>(lock).execute(&mut *transaction).await.unwrap();
    let refused = repository.reconnect(unchanged).await.unwrap_err().to_string();
    assert!(refused.contains("no answer within 3 s"), "{refused}");
    transaction.rollback().await.unwrap();
    assert_eq!(repository.reconnect(unchanged).await.unwrap(), table);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_is_told_so() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    database.opened().await.0.close().await;
    database.run(&format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")).await;
    let guest = postgres.url("fleet").replace("//fleet:", "//guest:").parse().unwrap();
    let file = database.data().join("backup.jsonl");
    let refused = back_up(&guest, database.data(), &file).await.unwrap_err().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
}
