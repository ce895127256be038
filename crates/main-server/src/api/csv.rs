//! Tables as files that spreadsheets read (RFC 4180).

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Local, SecondsFormat};
use edge_mirror_base::clock::UnixMillis;
use serde::Deserialize;

/// Without it, Excel takes Chinese for the local code page.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Values of `format=`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TableFormat {
    #[default]
    Json,
    Csv,
}

/// A table of texts with a row of names above.
pub(super) struct CsvTable {
    text: String,
}

impl CsvTable {
    pub(super) fn new(names: &[&str]) -> Self {
        let mut table = Self { text: BYTE_ORDER_MARK.to_owned() };
        table.push(names);
        table
    }

    pub(super) fn push<T: AsRef<str>>(&mut self, row: &[T]) {
        for (place, field) in row.iter().enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            self.text.push_str(&quoted(field.as_ref()));
        }
        self.text.push_str("\r\n");
    }

    /// The file, to be saved as `name`.
    pub(super) fn into_response(self, name: &str) -> Response {
        let disposition = format!("attachment; filename=\"{name}\"");
        let disposition = HeaderValue::from_str(&disposition)
            .unwrap_or_else(|_| HeaderValue::from_static("attachment"));
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
            (header::CONTENT_DISPOSITION, disposition),
        ];
        (headers, self.text).into_response()
    }
}

/// A time as spreadsheets and people read it, with its zone.
pub(super) fn local_time(at: UnixMillis) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// A text that a spreadsheet would take for a formula gets an apostrophe: names come from
/// the network.
fn quoted(field: &str) -> String {
    let guard = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    match guard.is_empty() && !field.contains(['"', ',', '\r', '\n']) {
        true => field.to_owned(),
        false => format!("\"{guard}{}\"", field.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_have_to_be_and_are_no_formulas() {
        for (field, expected) in [
            ("会议", "会议"),
            ("a, b", "\"a, b\""),
            ("a \"b\"\nc", "\"a \"\"b\"\"\nc\""),
            ("=HYPERLINK(1)", "\"'=HYPERLINK(1)\""),
            ("-1", "\"'-1\""),
            ("", ""),
        ] {
            assert_eq!(quoted(field), expected);
        }
        let mut table = CsvTable::new(&["a", "b"]);
        table.push(&["1", "x,y"]);
        assert_eq!(table.text, "\u{feff}a,b\r\n1,\"x,y\"\r\n");
    }
}
