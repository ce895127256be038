//! Casts where states are opened, moved and restored.

use super::*;
use crate::state::{
    audit::{AuditedLogin, AuditedOperator},
    casts::{CastGap, CastId, CastLimits, CastReadMark, KeptCast, NewCast, NodeCursor, read_casts},
    destinations::Destinations,
    groups::{AddressedNode, GroupCommand, NodeGroup, NodeGroups},
};

const TABLES: [&str; 3] = ["cast", "cast_head", "cast_audience"];

fn new_casts(bodies: std::ops::Range<usize>, to: &str) -> Vec<NewCast> {
    let by = AuditedOperator { address: Ipv4Addr::LOCALHOST.into(), how: AuditedLogin::Token };
    let one = |body: usize| serde_json::json!({"topic": "t\"'", "body": ["移到", body], "to": {"nodes": [to]}, "key": format!("k{body}")});
    let items = bodies.map(|body| one(body).as_object().unwrap().clone()).collect();
    let resolve = |to: &Destinations| {
        let nodes = ["a", "节点\0"].map(|id| AddressedNode { id, site: "", labels: &[] });
        to.resolve(&NodeGroups::default(), nodes.into_iter())
    };
    read_casts(items, &CastLimits::default(), &by.into(), UnixMillis::now(), resolve).unwrap()
}

async fn append(casts: &mut CastRepository, new: &[NewCast]) -> Result<Vec<i64>, StateError> {
    Ok(append_ids(casts, new).await?.iter().map(|id| id.seq).collect())
}

async fn append_ids(
    casts: &mut CastRepository,
    new: &[NewCast],
) -> Result<Vec<CastId>, StateError> {
    let saved = casts.append(&[new], &CastLimits::default(), UnixMillis::now()).await?;
    let receipts = saved.outcomes.into_iter().next().unwrap().unwrap();
    Ok(receipts.into_iter().map(|receipt| receipt.id).collect())
}

async fn on_both_engines(postgres: &TestPostgres) -> [TestDatabase; 2] {
    [StateLocation::DataFolder, postgres.database("both").await]
        .map(|location| TestDatabase { location, folder: tempfile::tempdir().unwrap() })
}

/// The first value that a statement returns.
async fn ask(database: &TestDatabase, sql: &str) -> i64 {
    let inner = StateDatabase::new(&database.location, database.data());
    let mut connection = inner.connect().await.unwrap();
    let query = sqlx::query::<Any>(AssertSqlSafe(sql.to_owned()));
    query.fetch_one(&mut connection).await.unwrap().try_get(0).unwrap()
}

async fn kept(repository: &StateRepository) -> Vec<KeptCast> {
    let filter = CastFilter { limit: 1000, ..CastFilter::default() };
    repository.reader().casts(&filter).await.unwrap()
}

#[tokio::test]
async fn casts_move_with_the_state_and_their_numbers_go_on_in_another_sequence() {
    let postgres = TestPostgres::start().await;
    let there = postgres.database("fleet").await;
    let database =
        TestDatabase { location: StateLocation::DataFolder, folder: tempfile::tempdir().unwrap() };
    let (repository, _) = database.opened().await;
    let mut casts = repository.casts();
    let many: Vec<_> = (1..=120).collect();
    assert_eq!(append(&mut casts, &new_casts(0..120, "节点\0")).await.unwrap(), many);
    assert_eq!(append(&mut casts, &new_casts(120..121, "a")).await.unwrap(), [121]);
    let before = kept(&repository).await;
    repository.close().await;

    move_state(&database.location, &there, database.data()).await.unwrap();
    let (moved, _) = opened(&there, database.data()).await;
    assert_eq!(kept(&moved).await, before);
    let mut others = moved.casts();
    assert_eq!(append(&mut others, &new_casts(119..120, "节点\0")).await.unwrap(), [120]);
    assert_eq!(append(&mut others, &new_casts(121..122, "节点\0")).await.unwrap(), [122]);
    let newest = kept(&moved).await.remove(0);
    assert_ne!(newest.stream, before[0].stream);
    moved.close().await;
    // Whoever still writes where they were is too late.
    let refused = append(&mut casts, &new_casts(200..201, "a")).await.unwrap_err();
    assert!(matches!(refused, StateError::Replaced { .. }), "{refused}");

    move_state(&there, &database.location, database.data()).await.unwrap();
    let (back, _) = database.opened().await;
    assert_eq!(kept(&back).await.len(), 122);
    assert_eq!(kept(&back).await[0], newest);
}

#[tokio::test]
async fn a_database_of_before_casts_gets_their_tables_and_can_be_backed_up_without_them() {
    let postgres = TestPostgres::start().await;
    for location in [StateLocation::DataFolder, postgres.database("fleet").await] {
        let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
        let (mut repository, mut table) = database.opened().await;
        commit(&mut repository, &mut table, &[create("m")]).await;
        repository.close().await;
        for name in TABLES {
            database.run(&format!("DROP TABLE edge_mirror_{name}")).await;
        }
        let file = database.data().join("backup.jsonl");
        assert_eq!(back_up(&database.location, database.data(), &file).await.unwrap(), 1);
        let (repository, found) = database.opened().await;
        assert_eq!(found, table);
        assert_eq!(append(&mut repository.casts(), &new_casts(0..1, "a")).await.unwrap(), [1]);
        repository.close().await;
        // None are in the backup, and so there are none afterwards.
        restore(&database.location, database.data(), &file).await.unwrap();
        let (repository, _) = database.opened().await;
        assert_eq!(kept(&repository).await, []);
    }
}

#[tokio::test]
async fn a_restored_state_has_the_keys_and_the_progress_of_its_casts() {
    let postgres = TestPostgres::start().await;
    for database in on_both_engines(&postgres).await {
        let (repository, _) = database.opened().await;
        let mut casts = repository.casts();
        let first = append_ids(&mut casts, &new_casts(0..3, "a")).await.unwrap();
        let now = UnixMillis::now();
        let node = "节点\0".to_owned();
        let cursor = NodeCursor { sent: 3, received: 2 };
        let gap = CastGap { node_id: node.clone(), after: 0, through: 1, at: now };
        let mark = |seq| CastReadMark { node_id: node.clone(), topic: "t\"'".to_owned(), seq };
        let gaps = std::slice::from_ref(&gap);
        casts.save_cursors(&[(node.clone(), cursor)], gaps, &[mark(2)], now).await.unwrap();
        casts.save_cursors(&[], &[], &[mark(1)], now).await.unwrap();
        repository.close().await;
        let file = database.data().join("backup.jsonl");
        back_up(&database.location, database.data(), &file).await.unwrap();
        restore(&database.location, database.data(), &file).await.unwrap();

        let (repository, _) = database.opened().await;
        let again = append_ids(&mut repository.casts(), &new_casts(2..4, "a")).await.unwrap();
        assert_eq!(again[0], first[2], "the same key is the same cast");
        assert_eq!((again[1].seq, again[1].stream == first[0].stream), (4, false));
        let saved = repository.reader().cast_cursors(1, "t\"'").await.unwrap();
        assert_eq!(saved.read, std::collections::HashMap::from([(node.clone(), 2)]));
        assert_eq!((saved.cursors.get(&node), saved.gaps), (Some(&cursor), vec![gap]));
        let known = repository.casts().news(None, 0).await.unwrap().streams.unwrap();
        assert_eq!(known.resolve(&first[0].stream, 5), Some(3), "nodes go on where they were");
        repository.close().await;
        // Also where all casts are gone, numbers go on.
        database.run("DELETE FROM edge_mirror_cast").await;
        back_up(&database.location, database.data(), &file).await.unwrap();
        restore(&database.location, database.data(), &file).await.unwrap();
        let (repository, _) = database.opened().await;
        assert_eq!(append(&mut repository.casts(), &new_casts(9..10, "a")).await.unwrap(), [5]);
    }
}

#[tokio::test]
async fn casts_of_who_began_meanwhile_are_neither_replaced_nor_left_behind() {
    let postgres = TestPostgres::start().await;
    for database in on_both_engines(&postgres).await {
        database.opened().await.0.close().await;
        let inner = StateDatabase::new(&database.location, database.data());
        let (begin, mut connection) = (inner.begin(), inner.connect().await.unwrap());
        let taking = transaction::take_over(&mut connection, begin, |_| Ok(()));
        let taken = taking.await.unwrap();
        let (repository, _) = database.opened().await;
        append(&mut repository.casts(), &new_casts(0..1, "a")).await.unwrap();
        let (position, documents) = (taken.position, taken.documents);
        let replacing = transaction::replace(&mut connection, begin, position.clone(), documents);
        assert!(matches!(replacing.await, Err(WriteFault::Outdated)));
        let marking = transaction::mark_moved(&mut connection, begin, position, "x".to_owned());
        assert!(matches!(marking.await, Err(WriteFault::Outdated)));
        assert_eq!(kept(&repository).await.len(), 1);
    }
}

#[tokio::test]
async fn a_number_that_is_given_twice_has_another_name() {
    let postgres = TestPostgres::start().await;
    for database in on_both_engines(&postgres).await {
        let (repository, _) = database.opened().await;
        let mut casts = repository.casts();
        let before = append_ids(&mut casts, &new_casts(0..5, "a")).await.unwrap();
        // The database of before is put in place.
        database.run("DELETE FROM edge_mirror_cast WHERE seq > 2").await;
        database.run("UPDATE edge_mirror_cast_head SET seq = 2, casts = 2").await;
        let after = append_ids(&mut casts, &new_casts(5..7, "a")).await.unwrap();
        assert_eq!(after[0].seq, 3);
        assert_ne!(after[0].stream, before[2].stream, "on the connection of before");
        database.run("DELETE FROM edge_mirror_cast WHERE seq > 3").await;
        database.run("UPDATE edge_mirror_cast_head SET seq = 3, casts = 3").await;
        let last = append_ids(&mut repository.casts(), &new_casts(8..9, "a")).await.unwrap();
        assert_eq!(last[0].seq, 4);
        assert_ne!(last[0].stream, after[1].stream, "and on another one");
        let streams = repository.casts().news(None, 0).await.unwrap().streams.unwrap();
        let places = [&before[0], &after[0], &last[0]].map(|id| streams.resolve(&id.stream, 99));
        assert_eq!(places, [Some(2), Some(3), Some(99)]);
    }
}

#[tokio::test]
async fn what_is_settled_goes_a_bounded_number_at_a_time_and_is_counted() {
    let postgres = TestPostgres::start().await;
    for database in on_both_engines(&postgres).await {
        let (repository, _) = database.opened().await;
        let mut casts = repository.casts();
        let limits = CastLimits { max_casts: 3000, ..CastLimits::default() };
        let now = UnixMillis::now();
        for n in 0..3 {
            let many = new_casts(n * 1000..(n + 1) * 1000, "a");
            casts.append(&[&many], &limits, now).await.unwrap();
        }
        let later = now + Duration::from_secs(3 * 86_400);
        let limits = CastLimits { max_casts: 2200, ..limits };
        let mut one = new_casts(5000..5001, "节点\0");
        one[0].expires_at = later + limits.kept_for * 2;
        let saved = casts.append(&[&one], &limits, later).await.unwrap();
        assert!(saved.outcomes[0].is_ok() && saved.removal.has_more);
        let count = "SELECT COUNT(*) FROM edge_mirror_cast";
        let counted = "SELECT casts FROM edge_mirror_cast_head";
        assert_eq!([ask(&database, count).await, ask(&database, counted).await], [2001; 2]);
        let old = later + limits.kept_for;
        let mut rounds = 1;
        while casts.sweep(&limits, old).await.unwrap().has_more {
            rounds += 1;
            assert!(rounds < 9);
        }
        assert_eq!(rounds, 3);
        assert_eq!([ask(&database, count).await, ask(&database, counted).await], [1; 2]);
        let bytes = ask(&database, "SELECT bytes FROM edge_mirror_cast_head").await;
        assert_eq!(bytes, ask(&database, "SELECT bytes FROM edge_mirror_cast").await);
        for table in ["audience", "member"] {
            let count = format!("SELECT COUNT(*) FROM edge_mirror_cast_{table}");
            assert_eq!(ask(&database, &count).await, 1, "{table}");
        }
    }
}

/// The rest of the rows costs nothing, however many there are.
#[tokio::test]
async fn no_statement_of_a_cast_or_a_node_looks_at_all_casts() {
    let database =
        TestDatabase { location: StateLocation::DataFolder, folder: tempfile::tempdir().unwrap() };
    database.opened().await.0.close().await;
    let inner = StateDatabase::new(&database.location, database.data());
    let mut connection = inner.connect().await.unwrap();
    for statement in crate::repository::casts::FREQUENT_STATEMENTS {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query::<Any>(explain).fetch_all(&mut connection).await.unwrap();
        assert!(!plan.is_empty());
        for step in plan {
            let step: String = step.try_get(3).unwrap();
            let is_scan = step.starts_with("SCAN edge_mirror_cast");
            assert!(!is_scan || step == "SCAN edge_mirror_cast_head", "{statement}: {step}");
        }
    }
}

#[tokio::test]
async fn groups_are_kept_followed_and_restored() {
    let postgres = TestPostgres::start().await;
    for database in on_both_engines(&postgres).await {
        let (mut repository, mut state) = database.opened().await;
        let group = NodeGroup { sites: ["3F".to_owned()].into(), ..NodeGroup::default() };
        let put = |name: &str| GroupCommand::Put {
            name: name.to_owned(),
            group: group.clone(),
            most: 10,
        };
        commit(&mut repository, &mut state, &[put("screens")]).await;
        let file = database.data().join("backup.jsonl");
        back_up(&database.location, database.data(), &file).await.unwrap();
        if database.location != StateLocation::DataFolder {
            let (mut other, mut seen) = database.opened().await;
            assert_eq!(seen.groups, state.groups);
            commit(&mut repository, &mut state, &[put("rooms")]).await;
            take_in(&mut seen, other.follow().await.unwrap());
            assert_eq!(seen.groups, state.groups);
        }
        commit(&mut repository, &mut state, &[GroupCommand::Remove("screens".to_owned())]).await;
        repository.close().await;
        assert_eq!(database.opened().await.1.groups, state.groups);
        restore(&database.location, database.data(), &file).await.unwrap();
        assert!(database.opened().await.1.groups.get("screens").is_some());
    }
}
