//! Casts where states are opened, moved and restored.

use super::*;
use crate::state::{
    audit::{AuditedLogin, AuditedOperator},
    casts::{CastLimits, KeptCast, NewCast, read_casts},
    destinations::{AddressedNode, Destinations},
};

const TABLES: [&str; 3] = ["cast", "cast_head", "cast_audience"];

fn new_casts(bodies: std::ops::Range<usize>, to: &str) -> Vec<NewCast> {
    let by = AuditedOperator { address: Ipv4Addr::LOCALHOST.into(), how: AuditedLogin::Token };
    let one = |body: usize| serde_json::json!({"topic": "t\"'", "body": ["移到", body], "to": {"nodes": [to]}, "key": format!("k{body}")});
    let items = bodies.map(|body| one(body).as_object().unwrap().clone()).collect();
    let resolve = |to: &Destinations| {
        let nodes = ["a", "节点\0"].map(|id| AddressedNode { id, site: "", labels: &[] });
        to.resolve(nodes.into_iter())
    };
    read_casts(items, &CastLimits::default(), &by, UnixMillis::now(), resolve).unwrap()
}

async fn append(casts: &mut CastRepository, new: &[NewCast]) -> Result<Vec<i64>, StateError> {
    let saved = casts.append(&[new], &CastLimits::default(), UnixMillis::now()).await?;
    let receipts = saved.outcomes.into_iter().next().unwrap().unwrap();
    Ok(receipts.iter().map(|receipt| receipt.seq).collect())
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
