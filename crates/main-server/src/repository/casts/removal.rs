//! Removes casts: what is old, and where there is too much, what nobody gets any more. A
//! transaction removes a bounded number, and counts what it removes: others wait for it.

use std::collections::BTreeSet;

use edge_mirror_base::clock::UnixMillis;
use sqlx::{Any, AnyConnection, Row};

use super::{reads, rows};
use crate::{
    repository::{
        document::{WriteFault, millis},
        statements::{ListStatement, MANY},
    },
    state::casts::{CastLimits, CastTotals},
};

/// A cast is settled once it has expired or was cancelled; there is an index by that time.
pub(super) const DELETE_SETTLED: &str = "DELETE FROM edge_mirror_cast WHERE seq IN (SELECT seq FROM edge_mirror_cast WHERE CASE WHEN cancelled_at > 0 THEN cancelled_at ELSE expires_at END <= $1 ORDER BY CASE WHEN cancelled_at > 0 THEN cancelled_at ELSE expires_at END LIMIT $2) RETURNING bytes, audience";
/// Nodes of which nothing was heard for so long that no cast is kept from then.
const DELETE_OLD_PLACES: &str = "DELETE FROM edge_mirror_cast_place WHERE at < $1";
const DELETE_OLD_SKIPS: &str = "DELETE FROM edge_mirror_cast_skip WHERE (node, after_seq) IN (SELECT node, after_seq FROM edge_mirror_cast_skip WHERE through < (SELECT COALESCE(MIN(seq), 0) FROM edge_mirror_cast) LIMIT $1)";
static DELETE_MEMBERS: ListStatement = ListStatement::new(
    "DELETE FROM edge_mirror_cast_member WHERE audience IN (",
    ") AND NOT EXISTS (SELECT 1 FROM edge_mirror_cast WHERE edge_mirror_cast.audience = edge_mirror_cast_member.audience)",
);
static DELETE_AUDIENCES: ListStatement = ListStatement::new(
    "DELETE FROM edge_mirror_cast_audience WHERE name IN (",
    ") AND NOT EXISTS (SELECT 1 FROM edge_mirror_cast WHERE audience = name)",
);

/// Of what may be kept, in percent: above the first figure, settled casts make room until
/// the second one.
const HIGH_WATER_PERCENT: u64 = 90;
const LOW_WATER_PERCENT: u64 = 80;
/// Casts that a transaction removes, and of a large request this multiple of its casts.
const REMOVED_AT_ONCE: u64 = 1000;
const REMOVED_FOR_EACH: u64 = 4;

/// Makes room for new casts. Returns whether there may be more to remove.
pub(super) async fn make_room(
    connection: &mut AnyConnection,
    totals: &mut CastTotals,
    limits: &CastLimits,
    now: UnixMillis,
    new: u64,
) -> Result<bool, WriteFault> {
    let with_new = CastTotals { count: totals.count + new, ..*totals };
    if above(&with_new, limits, HIGH_WATER_PERCENT) == 0 {
        return Ok(false);
    }
    let most = REMOVED_AT_ONCE.max(REMOVED_FOR_EACH * new);
    let count = above(&with_new, limits, LOW_WATER_PERCENT).min(most);
    let removed = remove_settled(connection, totals, now, count).await?;
    Ok(removed == count && above(totals, limits, LOW_WATER_PERCENT) > 0)
}

/// Removes what was settled long enough ago, and more where there is too much.
pub(super) async fn sweep(
    connection: &mut AnyConnection,
    totals: &mut CastTotals,
    limits: &CastLimits,
    now: UnixMillis,
) -> Result<bool, WriteFault> {
    let kept_from = now.saturating_sub(limits.kept_for);
    let removed = remove_settled(&mut *connection, totals, kept_from, REMOVED_AT_ONCE).await?;
    let has_more = match removed == REMOVED_AT_ONCE {
        true => true,
        false => make_room(&mut *connection, totals, limits, now, 0).await?,
    };
    let silent = now.saturating_sub(limits.kept_for + limits.max_lifetime);
    let places = sqlx::query::<Any>(DELETE_OLD_PLACES).bind(millis(silent));
    places.execute(&mut *connection).await?;
    let read = sqlx::query::<Any>(reads::DELETE_OLD).bind(millis(silent));
    read.execute(&mut *connection).await?;
    let skips = sqlx::query::<Any>(DELETE_OLD_SKIPS).bind(rows::signed(REMOVED_AT_ONCE));
    skips.execute(connection).await?;
    Ok(has_more)
}

/// Casts that have to go until so many percent are left of what may be kept.
fn above(totals: &CastTotals, limits: &CastLimits, percent: u64) -> u64 {
    let share = |limit: u64| limit / 100 * percent + limit % 100 * percent / 100;
    let casts = totals.count.saturating_sub(share(limits.max_casts));
    let bytes = totals.bytes.saturating_sub(share(limits.max_bytes));
    let mean = (totals.bytes / totals.count.max(1)).max(1);
    casts.max(bytes.div_ceil(mean))
}

/// Removes those that were settled first, by a time, and returns how many that were.
async fn remove_settled(
    connection: &mut AnyConnection,
    totals: &mut CastTotals,
    by: UnixMillis,
    most: u64,
) -> Result<u64, WriteFault> {
    let delete = sqlx::query::<Any>(DELETE_SETTLED).bind(millis(by)).bind(rows::signed(most));
    let removed = delete.fetch_all(&mut *connection).await?;
    let mut audiences = BTreeSet::new();
    for row in &removed {
        totals.count = totals.count.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(rows::unsigned(row.try_get(0)?));
        audiences.insert(row.try_get::<String, _>(1)?);
    }
    let audiences: Vec<_> = audiences.iter().map(String::as_str).collect();
    for names in audiences.chunks(MANY) {
        DELETE_MEMBERS.bind(names).execute(&mut *connection).await?;
        DELETE_AUDIENCES.bind(names).execute(&mut *connection).await?;
    }
    Ok(removed.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_go_follows_from_the_number_and_from_the_bytes() {
        let limits = CastLimits { max_casts: 100, max_bytes: 10_000, ..CastLimits::default() };
        let above =
            |count, bytes, percent| above(&CastTotals { seq: 0, count, bytes }, &limits, percent);
        assert_eq!([above(90, 0, 90), above(91, 0, 90), above(91, 0, 80)], [0, 1, 11]);
        assert_eq!([above(10, 9000, 90), above(10, 9001, 90), above(10, 9900, 80)], [0, 1, 2]);
        assert_eq!(above(0, 0, 80), 0);
    }
}
