//! Several main servers at the same moment.

use tokio_util::sync::CancellationToken;

use super::*;

async fn fleet(postgres: &TestPostgres) -> TestDatabase {
    let location = postgres.database("fleet").await;
    TestDatabase { location, folder: tempfile::tempdir().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_second_is_not_overtaken_again() {
    let postgres = TestPostgres::start().await;
    let database = fleet(&postgres).await;
    let (mut first, mut here) = database.opened().await;
    let (mut second, mut there) = database.opened().await;
    share(&mut first, &mut here, &[create("a")]).await;
    let wanted = changes(&mut there.clone(), &[create("b")]);
    assert_eq!(second.commit(&wanted).await.unwrap(), CommitOutcome::Outdated);
    let mut overtaking = None;
    let changing = async |found| {
        take_in(&mut there, found);
        // The first one wants to save more, and gets its turn only afterwards.
        let wanted = changes(&mut here.clone(), &[create("c")]);
        let saving = async move { (first.commit(&wanted).await.unwrap(), first) };
        overtaking = Some(tokio::spawn(saving));
        until_one_waits(&database).await;
        changes(&mut there, &[create("b")])
    };
    second.commit_after_others(changing).await.unwrap();
    let (outcome, mut first) = overtaking.unwrap().await.unwrap();
    assert_eq!(outcome, CommitOutcome::Outdated);
    share(&mut first, &mut here, &[create("c")]).await;
    catch_up(&mut second, &mut there).await;
    let ids: Vec<_> = there.meetings.meetings.iter().map(|meeting| meeting.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(here, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_one_that_saves_without_a_pause_each_change_takes_two_tries_at_most() {
    let postgres = TestPostgres::start().await;
    let database = fleet(&postgres).await;
    let (mut first, mut here) = database.opened().await;
    let (mut second, mut there) = database.opened().await;
    let stop = CancellationToken::new();
    let until = stop.clone();
    let hammering = tokio::spawn(async move {
        for n in 0.. {
            if until.is_cancelled() {
                break;
            }
            share(&mut first, &mut here, &[create(&format!("a{n}")), start(&format!("a{n}"))])
                .await;
            share(&mut first, &mut here, &[MeetingCommand::Delete(id(&format!("a{n}")))]).await;
        }
        (first, here)
    });
    let mut overtaken = 0;
    for n in 0..50 {
        overtaken +=
            usize::from(!share(&mut second, &mut there, &[create(&format!("b{n}"))]).await);
    }
    stop.cancel();
    let (mut first, mut here) = hammering.await.unwrap();
    assert!(overtaken > 0, "nobody came in between");
    catch_up(&mut first, &mut here).await;
    catch_up(&mut second, &mut there).await;
    assert_eq!(here, there);
    let kept = here.meetings.meetings.iter().filter(|meeting| meeting.id.as_str().starts_with('b'));
    assert_eq!(kept.count(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_fails_after_others_leaves_what_they_saved() {
    let postgres = TestPostgres::start().await;
    let database = fleet(&postgres).await;
    let (mut first, mut here) = database.opened().await;
    let (mut second, mut there) = database.opened().await;
    share(&mut first, &mut here, &[create("a"), create("b")]).await;
    let changing = async |found| {
        take_in(&mut there, found);
        // As after a disk that hung for longer than the database waits.
        database.run("SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()").await;
        changes(&mut there.clone(), &[start("a")])
    };
    let refused = second.commit_after_others(changing).await.unwrap_err();
    assert!(matches!(refused, StateError::Unavailable { .. }), "{refused}");
    assert_eq!(second.reconnect(unchanged).await.unwrap(), here);
    share(&mut first, &mut here, &[start("b")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_starts_at_the_same_moment_all_succeed_on_one_state() {
    let postgres = TestPostgres::start().await;
    for round in 0..5 {
        let location = postgres.database(&format!("fleet{round}")).await;
        let opening = (0..4).map(|_| {
            let location = location.clone();
            tokio::spawn(async move {
                let database = TestDatabase { location, folder: tempfile::tempdir().unwrap() };
                database.opened().await
            })
        });
        let mut opened = Vec::new();
        for server in opening.collect::<Vec<_>>() {
            opened.push(server.await.unwrap());
        }
        let tokens = opened.iter().map(|(_, state)| &state.meetings.token);
        assert_eq!(tokens.collect::<std::collections::BTreeSet<_>>().len(), 1);
        for (n, (repository, state)) in opened.iter_mut().enumerate() {
            share(repository, state, &[create(&format!("m{n}"))]).await;
        }
        let (_, seen) =
            TestDatabase { location, folder: tempfile::tempdir().unwrap() }.opened().await;
        assert_eq!(seen.meetings.meetings.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_it_while_another_writes_casts_waits_for_that() {
    let postgres = TestPostgres::start().await;
    let database = fleet(&postgres).await;
    database.opened().await.0.close().await;
    let inner = StateDatabase::new(&database.location, database.data());
    let mut sweeping = inner.connect().await.unwrap();
    let mut transaction = sweeping.begin().await.unwrap();
    let lock = "UPDATE edge_mirror_cast_head SET seq = seq";
    sqlx::query::<Any>(lock).execute(&mut *transaction).await.unwrap();
    let (opened, ()) = tokio::join!(database.open(), async {
        until_one_waits(&database).await;
        sqlx::query::<Any>("DELETE FROM edge_mirror_cast")
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    });
    opened.unwrap();
}
