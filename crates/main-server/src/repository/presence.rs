//! The nodes' calls that main servers on one PostgreSQL write for each other, and the
//! leader's lease. A main server writes all calls of a
//! few hundred milliseconds in one row, over its row of a while ago, and reads those of the
//! others in the same statement; the database's clock counts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::{Any, AnyConnection, Row};

use super::{
    ANSWER_TIMEOUT,
    database::StateDatabase,
    document::{WriteFault, json},
};
use crate::error::StateError;

pub(super) const CREATE_PRESENCE: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_presence (server TEXT NOT NULL, slot BIGINT NOT NULL, tick BIGINT NOT NULL, at BIGINT NOT NULL, calls TEXT NOT NULL, PRIMARY KEY (server, slot))";
pub(super) const CREATE_LEASES: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_lease (key TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL, until BIGINT NOT NULL)";
/// Writes a row, and reads those after the ones that $5 names by main server. Nodes of which
/// nothing was heard for longer are gone.
const EXCHANGE: &str = "WITH put AS (INSERT INTO edge_mirror_presence (server, slot, tick, at, calls) VALUES ($1, $2, $3, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT), $4) ON CONFLICT (server, slot) DO UPDATE SET tick = excluded.tick, at = excluded.at, calls = excluded.calls) SELECT server, tick, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - at, calls FROM edge_mirror_presence WHERE server <> $1 AND tick > COALESCE(CAST(CAST($5 AS json) ->> server AS BIGINT), -1) AND at > CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - 30000 ORDER BY at, tick";
const DELETE_OLD: &str = "DELETE FROM edge_mirror_presence WHERE at < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - 3600000";
const TAKE_LEASE: &str = "INSERT INTO edge_mirror_lease AS lease (key, holder, epoch, until) VALUES ($1, $2, 1, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) + $3) ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, until = excluded.until, epoch = CASE WHEN lease.holder = excluded.holder THEN lease.epoch ELSE lease.epoch + 1 END WHERE lease.holder = excluded.holder OR lease.until < excluded.until - $3 RETURNING epoch";
const END_LEASE: &str = "UPDATE edge_mirror_lease SET until = 0 WHERE key = $1 AND holder = $2";

/// More than are written in the half minute that others read.
const SLOTS: i64 = 128;
const LEADER: &str = "leader";

/// The tables of nodes' calls and of the lease.
#[derive(Debug)]
pub(crate) struct StatePresence {
    database: StateDatabase,
    /// None before the first use, and after an error.
    connection: Option<AnyConnection>,
    /// This main server since its start: its id, and a word that is new with each start.
    server: String,
    tick: i64,
    /// By main server, the last row that was read.
    seen: BTreeMap<String, i64>,
}

/// The calls that one main server wrote at a time.
#[derive(Debug)]
pub(crate) struct ReceivedCalls {
    /// The same after a restart.
    pub(crate) server: Arc<str>,
    /// Time since they were written.
    pub(crate) age: Duration,
    /// One in each line, as they were given.
    pub(crate) calls: String,
}

fn id_of(server: &str) -> &str {
    server.split_once(' ').map_or(server, |(id, _)| id)
}

impl StatePresence {
    pub(super) fn new(database: StateDatabase, id: &str, start: &str) -> Self {
        let server = format!("{id} {start}");
        Self { database, connection: None, server, tick: 0, seen: BTreeMap::new() }
    }

    /// Writes calls for the others, one in each line, and returns those that the others wrote
    /// since the last time, or in the last half minute. One statement.
    pub(crate) async fn exchange(
        &mut self,
        calls: String,
    ) -> Result<Vec<ReceivedCalls>, StateError> {
        let (server, tick, seen) = (self.server.clone(), self.tick, json(&self.seen));
        self.tick += 1;
        let own = id_of(&self.server).to_owned();
        let rows = self.run(async |connection| {
            let exchange = sqlx::query::<Any>(EXCHANGE).bind(server).bind(tick % SLOTS).bind(tick);
            let rows = exchange.bind(calls).bind(seen).fetch_all(connection).await?;
            let rows = rows.iter().map(|row| {
                let name: String = row.try_get(0)?;
                let age_ms = u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or_default();
                let (age, calls) = (Duration::from_millis(age_ms), row.try_get(3)?);
                let server = Arc::from(id_of(&name));
                Ok::<_, WriteFault>((name, row.try_get(1)?, ReceivedCalls { server, age, calls }))
            });
            rows.collect::<Result<Vec<(String, i64, ReceivedCalls)>, _>>()
        });
        let mut received = Vec::new();
        for (name, tick, calls) in rows.await? {
            let last = self.seen.entry(name).or_insert(tick);
            *last = tick.max(*last);
            // Those of before a restart are not another one's.
            if *calls.server != *own {
                received.push(calls);
            }
        }
        Ok(received)
    }

    /// Takes or renews the lease for so long; true if this main server has it.
    pub(crate) async fn lead(&mut self, lease: Duration) -> Result<bool, StateError> {
        let server = self.server.clone();
        let millis = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        self.run(async |connection| {
            let take = sqlx::query::<Any>(TAKE_LEASE).bind(LEADER).bind(server).bind(millis);
            Ok(take.fetch_optional(connection).await?.is_some())
        })
        .await
    }

    /// Lets another one have the lease at once.
    pub(crate) async fn resign(&mut self) -> Result<(), StateError> {
        let server = self.server.clone();
        self.run(async |connection| {
            sqlx::query::<Any>(END_LEASE).bind(LEADER).bind(server).execute(connection).await?;
            Ok(())
        })
        .await
    }

    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut AnyConnection) -> Result<T, WriteFault>,
    ) -> Result<T, StateError> {
        let mut connected = match self.connection.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        let done = self.database.within(ANSWER_TIMEOUT, work(&mut connected)).await?;
        self.connection = Some(connected);
        Ok(done)
    }

    async fn connect(&mut self) -> Result<AnyConnection, StateError> {
        let mut connection = self.database.connect().await?;
        let deleting = async {
            sqlx::query::<Any>(DELETE_OLD).execute(&mut connection).await?;
            Ok(())
        };
        self.database.within(ANSWER_TIMEOUT, deleting).await?;
        Ok(connection)
    }
}
