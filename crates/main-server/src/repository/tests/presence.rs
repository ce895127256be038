//! The nodes' calls that main servers write for each other.

use super::*;
use crate::repository::StatePresence;

async fn presence(database: &TestDatabase) -> StatePresence {
    let (repository, _) = database.opened().await;
    let presence = repository.presence().unwrap();
    repository.close().await;
    presence
}

/// As many as so many nodes make in a while.
fn calls(nodes: usize) -> String {
    (0..nodes).map(|n| format!("[{n},{{\"node_id\":\"node-{n}\"}}]\n")).collect()
}

/// The transactions of the database once all connections are closed, which tell what they did
/// when they end.
async fn transactions(postgres: &TestPostgres, database: &str) -> i64 {
    let nobody = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{database}'");
    while postgres.ask("postgres", &nobody) != "0" {
        tokio::task::yield_now().await;
    }
    let count = format!("SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'");
    postgres.ask("postgres", &count).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_is_one_statement_however_many_nodes_there_are() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
    let mut cost = Vec::new();
    for (exchanges, nodes) in [(10, 0), (10, 1000), (30, 1000)] {
        let mut presence = presence(&database).await;
        let before = transactions(&postgres, "fleet").await;
        for _ in 0..exchanges {
            presence.exchange(calls(nodes)).await.unwrap();
        }
        drop(presence);
        cost.push(transactions(&postgres, "fleet").await - before);
    }
    assert_eq!(cost[0], cost[1], "{cost:?}");
    assert_eq!(cost[2] - cost[1], 20, "{cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reads_once_what_the_others_wrote() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let [one, other] = [(); 2].map(|()| TestDatabase {
        location: location.clone(),
        folder: tempfile::tempdir().unwrap(),
    });
    let (mut here, mut there) = (presence(&one).await, presence(&other).await);
    assert!(here.exchange(calls(3)).await.unwrap().is_empty());
    let received = there.exchange(calls(2)).await.unwrap();
    assert_eq!(received.iter().map(|row| &*row.calls).collect::<Vec<_>>(), [calls(3)]);
    assert!(there.exchange(String::new()).await.unwrap().is_empty());
    let received = here.exchange(calls(1)).await.unwrap();
    let texts = received.iter().map(|row| &*row.calls).collect::<Vec<_>>();
    assert_eq!(texts, [calls(2), String::new()]);
    // After a restart: not its own of before, but those of others in the last half minute.
    let mut here = presence(&one).await;
    let received = here.exchange(String::new()).await.unwrap();
    assert_eq!(received.len(), 2);
    assert_eq!(there.exchange(String::new()).await.unwrap().len(), 2);
}
