//! The casts in the database. They have a connection of their own, so that many of them
//! keep no meeting from being saved; their head's row is locked from the first statement of
//! a transaction to its end, so that the order of numbers is the order of transactions.

pub(super) mod following;
mod reads;
mod removal;
mod rows;
pub(super) mod schema;
mod streams;

use std::sync::Arc;

use edge_mirror_base::clock::UnixMillis;
use sqlx::{Any, AnyConnection, Connection, Row};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    ANSWER_TIMEOUT,
    database::StateDatabase,
    document::{WriteFault, millis},
    transaction,
    wake::WakeSignal,
};
use crate::{
    error::StateError,
    state::casts::{
        self, CastGap, CastId, CastLimits, CastReadMark, CastReceipt, CastRefusal, CastTotals,
        KeptCast, NewCast, NodeCursor,
    },
};

pub(crate) use following::{CastNews, SavedCursors};
pub(crate) use rows::CastFilter;
pub(super) use rows::{read_one, read_page};

/// Locks the row; nothing else changes.
const LOCK_HEAD: &str =
    "UPDATE edge_mirror_cast_head SET seq = seq RETURNING stream, seq, casts, bytes, changes";
const UPDATE_HEAD: &str = "UPDATE edge_mirror_cast_head SET seq = $1, casts = $2, bytes = $3";
const CANCEL: &str = "UPDATE edge_mirror_cast SET cancelled_at = $1, change = (SELECT changes + 1 FROM edge_mirror_cast_head) WHERE seq = $2 AND stream = $3 AND cancelled_at = 0 AND expires_at > $1";
const COUNT_CHANGE: &str = "UPDATE edge_mirror_cast_head SET changes = changes + 1";

/// Statements that run with each cast, or for each node that was away.
#[cfg(test)]
pub(super) const FREQUENT_STATEMENTS: &[&str] = &[
    CANCEL,
    removal::DELETE_SETTLED,
    following::SELECT_CANCELLED,
    following::SELECT_FOR_ALL,
    following::SELECT_FOR_NODE,
];

/// The way to the casts.
#[derive(Debug)]
pub(crate) struct CastRepository {
    database: StateDatabase,
    /// None before the first use, and after an error.
    connection: Option<AnyConnection>,
    /// The last number that the connection has saved; None: it gives the sequence another
    /// name first.
    number: Option<i64>,
    /// Of the state that they belong to.
    generation: i64,
    write_lock: WriteLock,
    /// None where no other main server can be.
    signal: Option<WakeSignal>,
}

/// SQLite has one writer at a time, and lets others try again after growing pauses: those
/// of this process queue here instead.
#[derive(Clone, Debug)]
pub(super) struct WriteLock(Option<Arc<Semaphore>>);

impl WriteLock {
    pub(super) fn new(database: &StateDatabase) -> Self {
        Self((!database.is_remote()).then(|| Arc::new(Semaphore::new(1))))
    }

    /// Waits for the lock, which is held until the permit is dropped.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.0.clone()?.acquire_owned().await.ok()
    }
}

/// The casts of a request, as they were saved, or the reason that they were not.
pub(crate) type CastOutcome = Result<Vec<CastReceipt>, CastRefusal>;

/// The outcomes of requests that were saved together.
#[derive(Debug)]
pub(crate) struct SavedCasts {
    pub(crate) stream: Arc<str>,
    pub(crate) outcomes: Vec<CastOutcome>,
    pub(crate) removal: CastRemoval,
}

/// The casts that are left after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CastRemoval {
    pub(crate) kept: u64,
    /// There is more to remove than one transaction does.
    pub(crate) has_more: bool,
}

/// The row that is locked while casts are written.
#[derive(Clone, Debug)]
pub(super) struct CastHead {
    pub(super) stream: Arc<str>,
    totals: CastTotals,
    changes: i64,
}

/// A moment of the casts: none was added or cancelled since if two are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CastHeadPosition {
    stream: Arc<str>,
    seq: i64,
    changes: i64,
}

impl CastHead {
    pub(super) fn position(&self) -> CastHeadPosition {
        let Self { stream, totals, changes } = self;
        CastHeadPosition { stream: stream.clone(), seq: totals.seq, changes: *changes }
    }
}

impl CastRepository {
    pub(super) fn new(
        database: StateDatabase,
        generation: i64,
        write_lock: WriteLock,
        signal: Option<WakeSignal>,
    ) -> Self {
        Self { database, connection: None, number: None, generation, write_lock, signal }
    }

    /// Reads what was added and cancelled since the sequence had this name and number;
    /// without them, only how far all is.
    pub(crate) async fn news(
        &mut self,
        known: Option<&(Arc<str>, i64)>,
        changes: i64,
    ) -> Result<CastNews, StateError> {
        let mut connected = self.connected().await?;
        let reading = following::read_news(&mut connected, known, changes);
        let news = self.database.within(ANSWER_TIMEOUT, reading).await?;
        self.connection = Some(connected);
        Ok(news)
    }

    /// Has the sequence get another name before the next cast: it was set back.
    pub(crate) fn rename_stream(&mut self) {
        self.number = None;
    }

    /// Saves how far nodes are.
    pub(crate) async fn save_cursors(
        &mut self,
        cursors: &[(String, NodeCursor)],
        gaps: &[CastGap],
        read: &[CastReadMark],
        now: UnixMillis,
    ) -> Result<(), StateError> {
        let _writing = self.write_lock.acquire().await;
        let mut connected = self.connected().await?;
        let begun = (self.database.begin(), self.generation);
        let saving = save_cursors(&mut connected, begun, cursors, (gaps, read), now);
        self.database.within(ANSWER_TIMEOUT, saving).await?;
        self.connection = Some(connected);
        Ok(())
    }

    /// Saves the casts of some requests in one transaction: of each request all or none.
    pub(crate) async fn append(
        &mut self,
        requests: &[&[NewCast]],
        limits: &CastLimits,
        now: UnixMillis,
    ) -> Result<SavedCasts, StateError> {
        let _writing = self.write_lock.acquire().await;
        let mut connected = self.connected().await?;
        let begun = (self.database.begin(), self.generation);
        let batch = CastBatch { requests, limits, now, number: self.number };
        let appending = batch.run(&mut connected, begun, self.signal.as_ref());
        let (saved, number) = self.database.within(ANSWER_TIMEOUT, appending).await?;
        (self.connection, self.number) = (Some(connected), Some(number));
        Ok(saved)
    }

    /// Has nobody else get a cast. None if there is none with this id; one that was settled
    /// stays as it is.
    pub(crate) async fn cancel(
        &mut self,
        id: &CastId,
        now: UnixMillis,
    ) -> Result<Option<KeptCast>, StateError> {
        let _writing = self.write_lock.acquire().await;
        let mut connected = self.connected().await?;
        let begun = (self.database.begin(), self.generation);
        let cancelling = cancel(&mut connected, begun, self.signal.as_ref(), id, now);
        let cancelled = self.database.within(ANSWER_TIMEOUT, cancelling).await?;
        self.connection = Some(connected);
        Ok(cancelled)
    }

    /// Removes casts that were settled long enough ago. Returns what is left.
    pub(crate) async fn sweep(
        &mut self,
        limits: &CastLimits,
        now: UnixMillis,
    ) -> Result<CastRemoval, StateError> {
        let _writing = self.write_lock.acquire().await;
        let mut connected = self.connected().await?;
        let begun = (self.database.begin(), self.generation);
        let sweeping = sweep(&mut connected, begun, limits, now);
        let removal = self.database.within(ANSWER_TIMEOUT, sweeping).await?;
        self.connection = Some(connected);
        Ok(removal)
    }

    async fn connected(&mut self) -> Result<AnyConnection, StateError> {
        match self.connection.take() {
            Some(connected) => Ok(connected),
            None => {
                self.number = None;
                self.database.connect().await
            }
        }
    }

    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            // Everything is saved already.
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close()).await;
        }
    }
}

/// The statement that begins a transaction, and the generation that it is for.
type Begun = (&'static str, i64);

/// Casts of some requests on their way into the tables.
struct CastBatch<'a> {
    requests: &'a [&'a [NewCast]],
    limits: &'a CastLimits,
    now: UnixMillis,
    /// The last number that the connection has saved.
    number: Option<i64>,
}

impl CastBatch<'_> {
    /// Also returns the last number.
    async fn run(
        self,
        connection: &mut AnyConnection,
        (begin, generation): Begun,
        signal: Option<&WakeSignal>,
    ) -> Result<(SavedCasts, i64), WriteFault> {
        let Self { requests, limits, now, number } = self;
        let mut transaction = connection.begin_with(begin).await?;
        let CastHead { mut stream, mut totals, .. } = lock(&mut transaction, generation).await?;
        if number.is_none_or(|number| totals.seq < number) {
            stream = streams::rename(&mut transaction, &stream, totals.seq, now).await?;
        }
        let new = requests.iter().map(|request| request.len() as u64).sum();
        let has_more = removal::make_room(&mut transaction, &mut totals, limits, now, new).await?;
        let mut keyed = rows::find_keys(&mut transaction, &keys(requests)).await?;
        let outcomes = casts::admit(&stream, &mut totals, &mut keyed, limits, requests);
        rows::insert(&mut transaction, &new_casts(requests, &outcomes)).await?;
        save_totals(&mut transaction, &totals).await?;
        if let Some(signal) = signal {
            signal.send_casts(&mut transaction).await?;
        }
        transaction.commit().await?;
        let removal = CastRemoval { kept: totals.count, has_more };
        Ok((SavedCasts { stream, outcomes, removal }, totals.seq))
    }
}

async fn cancel(
    connection: &mut AnyConnection,
    (begin, generation): Begun,
    signal: Option<&WakeSignal>,
    id: &CastId,
    now: UnixMillis,
) -> Result<Option<KeptCast>, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock(&mut transaction, generation).await?;
    let cancel = sqlx::query::<Any>(CANCEL).bind(millis(now)).bind(id.seq);
    let cancel = cancel.bind(id.stream.to_string());
    if cancel.execute(&mut *transaction).await?.rows_affected() > 0 {
        sqlx::query::<Any>(COUNT_CHANGE).execute(&mut *transaction).await?;
        if let Some(signal) = signal {
            signal.send_casts(&mut transaction).await?;
        }
    }
    let found = rows::read_one(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok(found)
}

async fn sweep(
    connection: &mut AnyConnection,
    (begin, generation): Begun,
    limits: &CastLimits,
    now: UnixMillis,
) -> Result<CastRemoval, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let CastHead { mut totals, .. } = lock(&mut transaction, generation).await?;
    let has_more = removal::sweep(&mut transaction, &mut totals, limits, now).await?;
    save_totals(&mut transaction, &totals).await?;
    transaction.commit().await?;
    Ok(CastRemoval { kept: totals.count, has_more })
}

async fn save_cursors(
    connection: &mut AnyConnection,
    (begin, generation): Begun,
    cursors: &[(String, NodeCursor)],
    (gaps, read): (&[CastGap], &[CastReadMark]),
    now: UnixMillis,
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let head = lock(&mut transaction, generation).await?.totals.seq;
    following::save_cursors(&mut transaction, cursors, gaps, (head, now)).await?;
    reads::save(&mut transaction, read, (head, now)).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps other writers of casts waiting until the end of the transaction. Fails if another
/// generation of the state has begun: what takes one over locks the head, too.
async fn lock(connection: &mut AnyConnection, generation: i64) -> Result<CastHead, WriteFault> {
    let head = read_locked_head(connection).await?;
    transaction::check_generation(connection, generation).await?;
    head.ok_or_else(|| WriteFault::Damaged("its casts have no head".to_owned()))
}

/// Locks the head, if there is one.
pub(super) async fn read_locked_head(
    connection: &mut AnyConnection,
) -> Result<Option<CastHead>, WriteFault> {
    let Some(row) = sqlx::query::<Any>(LOCK_HEAD).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let totals = CastTotals {
        seq: row.try_get(1)?,
        count: rows::unsigned(row.try_get(2)?),
        bytes: rows::unsigned(row.try_get(3)?),
    };
    let stream = row.try_get::<String, _>(0)?.into();
    Ok(Some(CastHead { stream, totals, changes: row.try_get(4)? }))
}

async fn save_totals(
    connection: &mut AnyConnection,
    totals: &CastTotals,
) -> Result<(), WriteFault> {
    let update = sqlx::query::<Any>(UPDATE_HEAD).bind(totals.seq);
    let update = update.bind(rows::signed(totals.count)).bind(rows::signed(totals.bytes));
    update.execute(connection).await?;
    Ok(())
}

fn keys<'a>(requests: &[&'a [NewCast]]) -> Vec<&'a str> {
    let casts = requests.iter().flat_map(|request| request.iter());
    let mut keys: Vec<_> = casts.map(|cast| &*cast.key).filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The casts to save, with their ids.
fn new_casts<'a>(
    requests: &[&'a [NewCast]],
    outcomes: &'a [CastOutcome],
) -> Vec<(&'a CastId, &'a NewCast)> {
    let admitted = requests.iter().zip(outcomes);
    let admitted = admitted.filter_map(|(casts, outcome)| Some((casts, outcome.as_ref().ok()?)));
    let admitted = admitted.flat_map(|(casts, receipts)| receipts.iter().zip(casts.iter()));
    let new = admitted.filter(|(receipt, _)| !receipt.repeated);
    new.map(|(receipt, cast)| (&receipt.id, cast)).collect()
}
