//! The casts in the database. They have a connection of their own, so that many of them
//! keep no meeting from being saved; their head's row is locked from the first statement of
//! a transaction to its end, so that the order of numbers is the order of transactions.

pub(super) mod following;
mod rows;
pub(super) mod schema;

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
        self, CastGap, CastId, CastLimits, CastReceipt, CastRefusal, CastTotals, KeptCast, NewCast,
        NodeCursor,
    },
};

pub(crate) use following::{CastNews, SavedCursors};
pub(crate) use rows::CastFilter;
pub(super) use rows::{read_one, read_page};

/// Locks the row; nothing else changes.
const LOCK_HEAD: &str =
    "UPDATE edge_mirror_cast_head SET seq = seq RETURNING stream, seq, casts, bytes";
const UPDATE_HEAD: &str = "UPDATE edge_mirror_cast_head SET seq = $1, casts = $2, bytes = $3";
const CANCEL: &str = "UPDATE edge_mirror_cast SET cancelled_at = $1, change = (SELECT changes + 1 FROM edge_mirror_cast_head) WHERE seq = $2 AND stream = $3 AND cancelled_at = 0 AND expires_at > $1";
const COUNT_CHANGE: &str = "UPDATE edge_mirror_cast_head SET changes = changes + 1";
/// A cast is settled once it has expired or was cancelled: nobody gets it any more.
const DELETE_OLD: &str = "DELETE FROM edge_mirror_cast WHERE (cancelled_at > 0 AND cancelled_at < $1) OR expires_at < $1";
const DELETE_SETTLED: &str = "DELETE FROM edge_mirror_cast WHERE seq IN (SELECT seq FROM edge_mirror_cast WHERE cancelled_at > 0 OR expires_at <= $1 ORDER BY seq LIMIT $2)";
const DELETE_AUDIENCES: &str = "DELETE FROM edge_mirror_cast_audience WHERE name NOT IN (SELECT DISTINCT audience FROM edge_mirror_cast)";
const COUNT: &str =
    "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM edge_mirror_cast";

/// Nodes and gaps of which nothing was heard for so long that no cast is kept from then.
const DELETE_OLD_CURSORS: &str = "DELETE FROM edge_mirror_cast_cursor WHERE at < $1";
const DELETE_OLD_GAPS: &str = "DELETE FROM edge_mirror_cast_gap WHERE through < (SELECT COALESCE(MIN(seq), 0) FROM edge_mirror_cast)";

/// Of what may be kept, in percent: above the first figure, settled casts make room until
/// the second one.
const HIGH_WATER_PERCENT: u64 = 90;
const LOW_WATER_PERCENT: u64 = 80;

/// The way to the casts.
#[derive(Debug)]
pub(crate) struct CastRepository {
    database: StateDatabase,
    /// None before the first use, and after an error.
    connection: Option<AnyConnection>,
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
}

impl CastRepository {
    pub(super) fn new(
        database: StateDatabase,
        generation: i64,
        write_lock: WriteLock,
        signal: Option<WakeSignal>,
    ) -> Self {
        Self { database, connection: None, generation, write_lock, signal }
    }

    /// Reads what was added and cancelled since; without a number, only how far all is.
    pub(crate) async fn news(
        &mut self,
        after: Option<i64>,
        changes: i64,
    ) -> Result<CastNews, StateError> {
        let mut connected = self.connected().await?;
        let reading = following::read_news(&mut connected, after, changes);
        let news = self.database.within(ANSWER_TIMEOUT, reading).await?;
        self.connection = Some(connected);
        Ok(news)
    }

    /// Saves how far nodes are.
    pub(crate) async fn save_cursors(
        &mut self,
        cursors: &[(String, NodeCursor)],
        gaps: &[CastGap],
        now: UnixMillis,
    ) -> Result<(), StateError> {
        let _writing = self.write_lock.acquire().await;
        let mut connected = self.connected().await?;
        let begun = (self.database.begin(), self.generation);
        let saving = save_cursors(&mut connected, begun, cursors, gaps, now);
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
        let signal = self.signal.as_ref();
        let appending = append(&mut connected, begun, signal, requests, limits, now);
        let saved = self.database.within(ANSWER_TIMEOUT, appending).await?;
        self.connection = Some(connected);
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

    /// Removes casts that were settled long enough ago.
    pub(crate) async fn sweep(
        &mut self,
        limits: &CastLimits,
        now: UnixMillis,
    ) -> Result<(), StateError> {
        let _writing = self.write_lock.acquire().await;
        let mut connected = self.connected().await?;
        let begun = (self.database.begin(), self.generation);
        let sweeping = sweep(&mut connected, begun, limits, now);
        self.database.within(ANSWER_TIMEOUT, sweeping).await?;
        self.connection = Some(connected);
        Ok(())
    }

    async fn connected(&mut self) -> Result<AnyConnection, StateError> {
        match self.connection.take() {
            Some(connected) => Ok(connected),
            None => self.database.connect().await,
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

async fn append(
    connection: &mut AnyConnection,
    (begin, generation): Begun,
    signal: Option<&WakeSignal>,
    requests: &[&[NewCast]],
    limits: &CastLimits,
    now: UnixMillis,
) -> Result<SavedCasts, WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let (stream, mut totals) = lock(&mut transaction, generation).await?;
    if is_above_high_water(&totals, limits) {
        totals = make_room(&mut transaction, totals, limits, now).await?;
    }
    let mut keyed = rows::find_keys(&mut transaction, &keys(requests)).await?;
    let outcomes = casts::admit(&mut totals, &mut keyed, limits, requests);
    rows::insert(&mut transaction, &stream, &new_casts(requests, &outcomes)).await?;
    save_totals(&mut transaction, &totals).await?;
    if let Some(signal) = signal {
        signal.send_casts(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(SavedCasts { stream: stream.into(), outcomes })
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
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    let (_, totals) = lock(&mut transaction, generation).await?;
    let totals = make_room(&mut transaction, totals, limits, now).await?;
    save_totals(&mut transaction, &totals).await?;
    let silent = now.saturating_sub(limits.kept_for + limits.max_lifetime);
    let delete = sqlx::query::<Any>(DELETE_OLD_CURSORS).bind(millis(silent));
    delete.execute(&mut *transaction).await?;
    sqlx::query::<Any>(DELETE_OLD_GAPS).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

async fn save_cursors(
    connection: &mut AnyConnection,
    (begin, generation): Begun,
    cursors: &[(String, NodeCursor)],
    gaps: &[CastGap],
    now: UnixMillis,
) -> Result<(), WriteFault> {
    let mut transaction = connection.begin_with(begin).await?;
    lock(&mut transaction, generation).await?;
    following::save_cursors(&mut transaction, cursors, gaps, now).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps other writers of casts waiting until the end of the transaction. Fails if another
/// generation of the state has begun: what takes one over locks the head, too.
async fn lock(
    connection: &mut AnyConnection,
    generation: i64,
) -> Result<(String, CastTotals), WriteFault> {
    let head = read_locked_head(connection).await?;
    transaction::check_generation(connection, generation).await?;
    head.ok_or_else(|| WriteFault::Damaged("its casts have no head".to_owned()))
}

/// Locks the head, if there is one.
pub(super) async fn read_locked_head(
    connection: &mut AnyConnection,
) -> Result<Option<(String, CastTotals)>, WriteFault> {
    let Some(row) = sqlx::query::<Any>(LOCK_HEAD).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let totals = CastTotals {
        seq: row.try_get(1)?,
        count: rows::unsigned(row.try_get(2)?),
        bytes: rows::unsigned(row.try_get(3)?),
    };
    Ok(Some((row.try_get(0)?, totals)))
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

fn is_above_high_water(totals: &CastTotals, limits: &CastLimits) -> bool {
    above(totals, limits, HIGH_WATER_PERCENT) > 0
}

/// Casts that have to go until so many percent are left of what may be kept.
fn above(totals: &CastTotals, limits: &CastLimits, percent: u64) -> u64 {
    let share = |limit: u64| limit / 100 * percent + limit % 100 * percent / 100;
    let casts = totals.count.saturating_sub(share(limits.max_casts));
    let bytes = totals.bytes.saturating_sub(share(limits.max_bytes));
    let mean = (totals.bytes / totals.count.max(1)).max(1);
    casts.max(bytes.div_ceil(mean))
}

/// Removes what is old, and of what is settled the oldest where there is too much; counts
/// anew.
async fn make_room(
    connection: &mut AnyConnection,
    totals: CastTotals,
    limits: &CastLimits,
    now: UnixMillis,
) -> Result<CastTotals, WriteFault> {
    let kept_from = now.saturating_sub(limits.kept_for);
    let old = sqlx::query::<Any>(DELETE_OLD).bind(millis(kept_from));
    let mut removed = old.execute(&mut *connection).await?.rows_affected();
    let mut totals = totals;
    if removed > 0 {
        totals = count(connection, totals.seq).await?;
    }
    if is_above_high_water(&totals, limits) {
        let settled = sqlx::query::<Any>(DELETE_SETTLED).bind(millis(now));
        let settled = settled.bind(rows::signed(above(&totals, limits, LOW_WATER_PERCENT)));
        let more = settled.execute(&mut *connection).await?.rows_affected();
        if more > 0 {
            totals = count(connection, totals.seq).await?;
        }
        removed += more;
    }
    if removed > 0 {
        sqlx::query::<Any>(DELETE_AUDIENCES).execute(connection).await?;
    }
    Ok(totals)
}

pub(super) async fn count(
    connection: &mut AnyConnection,
    seq: i64,
) -> Result<CastTotals, WriteFault> {
    let row = sqlx::query::<Any>(COUNT).fetch_one(connection).await?;
    let (count, bytes) = (rows::unsigned(row.try_get(0)?), rows::unsigned(row.try_get(1)?));
    Ok(CastTotals { seq, count, bytes })
}

fn keys<'a>(requests: &[&'a [NewCast]]) -> Vec<&'a str> {
    let casts = requests.iter().flat_map(|request| request.iter());
    let mut keys: Vec<_> = casts.map(|cast| &*cast.key).filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The casts to save, with their numbers.
fn new_casts<'a>(requests: &[&'a [NewCast]], outcomes: &[CastOutcome]) -> Vec<(i64, &'a NewCast)> {
    let admitted = requests.iter().zip(outcomes);
    let admitted = admitted.filter_map(|(casts, outcome)| Some((casts, outcome.as_ref().ok()?)));
    let admitted = admitted.flat_map(|(casts, receipts)| receipts.iter().zip(casts.iter()));
    let new = admitted.filter(|(receipt, _)| !receipt.repeated);
    new.map(|(receipt, cast)| (receipt.seq, cast)).collect()
}
