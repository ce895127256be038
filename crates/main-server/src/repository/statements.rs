//! Statements about many rows at a time: what costs is the statement, far more than its rows.

use std::sync::OnceLock;

use sqlx::{Any, any::AnyArguments, query::Query};

/// Numbers of rows for which there are statements, the largest first. A database prepares
/// each text once, so there are few.
const SIZES: [usize; 3] = [50, 10, 1];
/// Most rows of one statement.
pub(super) const MANY: usize = SIZES[0];

/// A statement that takes one row or many.
pub(super) struct RowsStatement {
    before: &'static str,
    columns: usize,
    after: &'static str,
    texts: [OnceLock<String>; SIZES.len()],
}

impl RowsStatement {
    pub(super) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, columns, after, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// The statement for so many rows: as many as one of the `chunks` has.
    pub(super) fn of(&'static self, rows: usize) -> &'static str {
        let size = SIZES.iter().position(|size| *size == rows).unwrap_or(SIZES.len() - 1);
        self.texts[size].get_or_init(|| {
            let row = |row: usize| {
                let first = row * self.columns + 1;
                let places: Vec<_> =
                    (first..first + self.columns).map(|place| format!("${place}")).collect();
                format!("({})", places.join(", "))
            };
            let rows: Vec<_> = (0..SIZES[size]).map(row).collect();
            format!("{}{}{}", self.before, rows.join(", "), self.after)
        })
    }
}

/// Splits rows into pieces for which there are statements.
pub(super) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// A statement about the rows that have one of some texts.
pub(super) struct ListStatement {
    before: &'static str,
    after: &'static str,
    text: OnceLock<String>,
}

impl ListStatement {
    pub(super) const fn new(before: &'static str, after: &'static str) -> Self {
        Self { before, after, text: OnceLock::new() }
    }

    /// The statement for 1 to `MANY` texts. It is always the same one: the last text fills
    /// what is left of it.
    pub(super) fn bind(&'static self, texts: &[&str]) -> Query<'static, Any, AnyArguments> {
        let text = self.text.get_or_init(|| {
            let places: Vec<_> = (1..=MANY).map(|place| format!("${place}")).collect();
            format!("{}{}{}", self.before, places.join(", "), self.after)
        });
        let last = texts.len().saturating_sub(1);
        let mut query = sqlx::query::<Any>(text.as_str());
        for place in 0..MANY {
            query = query.bind(texts.get(place.min(last)).copied().unwrap_or_default().to_owned());
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_written_by_statements_that_there_are() {
        let rows: Vec<_> = (0..173).collect();
        for count in 0..rows.len() {
            let chunks: Vec<_> = chunks(&rows[..count]).collect();
            assert_eq!(chunks.concat(), rows[..count]);
            assert!(chunks.iter().all(|chunk| SIZES.contains(&chunk.len())));
            assert!(chunks.len() <= count / MANY + 4 + 9, "{count}");
        }
        static INSERT: RowsStatement = RowsStatement::new("INSERT ", 2, " END");
        assert_eq!(INSERT.of(1), "INSERT ($1, $2) END");
        assert!(INSERT.of(10).ends_with("($17, $18), ($19, $20) END"));
    }
}
