//! Reads logs and history beside the one who writes.

use std::future::Future;

use edge_mirror_base::clock::UnixMillis;
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{AnyConnection, Connection};
use tokio::sync::Mutex;

use super::{
    ANSWER_TIMEOUT,
    casts::{self, CastFilter, SavedCursors},
    database::StateDatabase,
    document::WriteFault,
    history,
    log::{self, LogEntry, LogTopic},
};
use crate::{
    error::StateError,
    state::{
        casts::{CastId, KeptCast, NodeCursor},
        destinations::Audience,
        history::{HistoryPeriod, HistoryStep},
    },
};

/// A connection of its own, made when it is first needed.
#[derive(Debug)]
pub(crate) struct StateReader {
    database: StateDatabase,
    connection: Mutex<Option<AnyConnection>>,
    server: String,
}

impl StateReader {
    pub(super) fn new(database: StateDatabase, server: String) -> Self {
        Self { database, connection: Mutex::default(), server }
    }

    /// The newest entries before a number (None: the newest of all), the newest first.
    pub(crate) async fn log_page(
        &self,
        topic: LogTopic,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StateError> {
        self.read(|connection| log::read_page(connection, topic, before, limit).boxed()).await
    }

    /// The periods from a time on, the oldest first.
    pub(crate) async fn history(
        &self,
        step: HistoryStep,
        from: UnixMillis,
    ) -> Result<Vec<HistoryPeriod>, StateError> {
        self.read(|connection| history::read(connection, step, from, None).boxed()).await
    }

    /// The same, of this main server alone.
    pub(crate) async fn own_history(
        &self,
        step: HistoryStep,
        from: UnixMillis,
    ) -> Result<Vec<HistoryPeriod>, StateError> {
        let server = || Some(self.server.clone());
        self.read(|connection| history::read(connection, step, from, server()).boxed()).await
    }

    /// The newest casts that are looked for, the newest first.
    pub(crate) async fn casts(&self, filter: &CastFilter) -> Result<Vec<KeptCast>, StateError> {
        self.read(|connection| {
            let filter = filter.clone();
            async move { casts::read_page(connection, &filter).await }.boxed()
        })
        .await
    }

    /// None if there is no such cast, or it was removed.
    pub(crate) async fn cast(&self, id: &CastId) -> Result<Option<KeptCast>, StateError> {
        self.read(|connection| {
            let id = id.clone();
            async move { casts::read_one(connection, &id).await }.boxed()
        })
        .await
    }

    /// The first casts that a node can still get, of those between two numbers.
    pub(crate) async fn casts_for_node(
        &self,
        node_id: &str,
        between: (i64, i64),
        now: UnixMillis,
        limit: i64,
    ) -> Result<Vec<KeptCast>, StateError> {
        self.read(|connection| {
            let node_id = node_id.to_owned();
            let reading = async move {
                casts::following::read_for_node(connection, &node_id, between, now, limit).await
            };
            reading.boxed()
        })
        .await
    }

    /// The place of a node, if one was saved.
    pub(crate) async fn cast_cursor(
        &self,
        node_id: &str,
    ) -> Result<Option<NodeCursor>, StateError> {
        self.read(|connection| {
            let node_id = node_id.to_owned();
            async move { casts::following::read_cursor(connection, &node_id).await }.boxed()
        })
        .await
    }

    /// The places of nodes as they were saved last, the gaps that have a number in
    /// them, and where it was read.
    pub(crate) async fn cast_cursors(
        &self,
        seq: i64,
        topic: &str,
    ) -> Result<SavedCursors, StateError> {
        self.read(|connection| {
            let topic = topic.to_owned();
            let cast =
                async move { casts::following::read_cursors(connection, (seq, &topic)).await };
            cast.boxed()
        })
        .await
    }

    pub(crate) async fn cast_audience(&self, name: &str) -> Result<Audience, StateError> {
        self.read(|connection| {
            let name = name.to_owned();
            async move { casts::following::read_audience(connection, &name).await }.boxed()
        })
        .await
    }

    async fn read<T>(
        &self,
        read: impl for<'a> Fn(&'a mut AnyConnection) -> BoxFuture<'a, Result<T, WriteFault>>,
    ) -> Result<T, StateError> {
        let mut connection = self.connection.lock().await;
        // It may have been lost since it was used last; a new one says so at once.
        if let Some(mut connected) = connection.take()
            && let Ok(found) = self.bounded(read(&mut connected)).await
        {
            *connection = Some(connected);
            return Ok(found);
        }
        let mut connected = self.database.connect().await?;
        let found = self.bounded(read(&mut connected)).await?;
        *connection = Some(connected);
        Ok(found)
    }

    async fn bounded<T>(
        &self,
        reading: impl Future<Output = Result<T, WriteFault>>,
    ) -> Result<T, StateError> {
        self.database.within(ANSWER_TIMEOUT, reading).await
    }

    pub(crate) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // All is read already.
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close()).await;
        }
    }
}
