//! A task as GoFD's server answers for it.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{Local, TimeZone};
use edge_mirror_base::clock::UnixMillis;
use serde::{Serialize, Serializer};

/// Words of GoFD, in its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum GofdStatus {
    #[serde(rename = "INIT")]
    Init,
    #[serde(rename = "INPROGESS")]
    InProgress,
    #[serde(rename = "COMPLETED")]
    Completed,
    #[serde(rename = "FAILED")]
    Failed,
    #[serde(rename = "FILE_NOT_EXISTED")]
    FileNotExisted,
}

impl GofdStatus {
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Init | Self::InProgress => false,
            Self::Completed | Self::Failed | Self::FileNotExisted => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    pub id: String,
    pub status: GofdStatus,
    #[serde(serialize_with = "time")]
    pub started_at: Option<UnixMillis>,
    #[serde(serialize_with = "time")]
    pub finished_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dispatch_infos: BTreeMap<String, IpStatus>,
}

/// A task at one address.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpStatus {
    pub status: GofdStatus,
    #[serde(serialize_with = "percent")]
    pub percent_complete: f32,
    #[serde(serialize_with = "time")]
    pub started_at: Option<UnixMillis>,
    #[serde(serialize_with = "time")]
    pub finished_at: Option<UnixMillis>,
    /// The same for all addresses.
    #[serde(serialize_with = "files")]
    pub dispatch_files: Arc<[FileStatus]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileStatus {
    /// The path as it was posted.
    pub filename: String,
}

/// A time as Go writes it: RFC 3339 with the local offset, and a fraction without zeros at
/// its end. None is Go's zero time.
pub fn go_time(at: Option<UnixMillis>) -> String {
    const ZERO: &str = "0001-01-01T00:00:00Z";
    let Some(at) = at else { return ZERO.to_owned() };
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    match Local.timestamp_millis_opt(millis).single() {
        Some(time) => written(&time, at.as_millis() % 1000),
        None => ZERO.to_owned(),
    }
}

fn written<Z: TimeZone<Offset: std::fmt::Display>>(
    time: &chrono::DateTime<Z>,
    millis: u64,
) -> String {
    let fraction = match millis {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    let offset = time.format("%:z").to_string();
    let offset = if offset == "+00:00" { "Z" } else { &offset };
    format!("{}{fraction}{offset}", time.format("%Y-%m-%dT%H:%M:%S"))
}

fn time<S: Serializer>(at: &Option<UnixMillis>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&go_time(*at))
}

fn files<S: Serializer>(files: &Arc<[FileStatus]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(files.iter())
}

/// Writes whole numbers without a fraction, as Go does.
pub(crate) fn percent<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        return serializer.serialize_i64(*value as i64);
    }
    serializer.serialize_f32(*value)
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_those_of_go() {
        assert_eq!(go_time(None), "0001-01-01T00:00:00Z");
        let at = |millis: i64| Utc.timestamp_millis_opt(millis).unwrap();
        for (millis, text) in [
            (1_467_244_800_000, "2016-06-30T00:00:00Z"),
            (1_467_244_800_120, "2016-06-30T00:00:00.12Z"),
            (1_467_244_800_007, "2016-06-30T00:00:00.007Z"),
        ] {
            assert_eq!(written(&at(millis), millis.unsigned_abs() % 1000), text);
        }
        let china = FixedOffset::east_opt(8 * 3600).unwrap();
        let there = at(1_467_244_800_500).with_timezone(&china);
        assert_eq!(written(&there, 500), "2016-06-30T08:00:00.5+08:00");
        let parsed = chrono::DateTime::parse_from_rfc3339(&go_time(Some(UnixMillis::now())));
        assert!(parsed.is_ok());
    }

    #[test]
    fn a_task_has_gofds_keys_words_and_numbers() {
        let ip = IpStatus {
            status: GofdStatus::InProgress,
            percent_complete: 13.8,
            started_at: None,
            finished_at: None,
            dispatch_files: [FileStatus { filename: "/a/b".into() }].into(),
        };
        let zero = "0001-01-01T00:00:00Z";
        let mut task = TaskStatus {
            id: "1".into(),
            status: GofdStatus::Init,
            started_at: None,
            finished_at: None,
            dispatch_infos: [("10.0.0.1".to_owned(), ip)].into(),
        };
        let text = serde_json::to_string(&task).unwrap();
        let info = format!(
            r#"{{"status":"INPROGESS","percentComplete":13.8,"startedAt":"{zero}","finishedAt":"{zero}","dispatchFiles":[{{"filename":"/a/b"}}]}}"#
        );
        let expected = format!(
            r#"{{"id":"1","status":"INIT","startedAt":"{zero}","finishedAt":"{zero}","dispatchInfos":{{"10.0.0.1":{info}}}}}"#
        );
        assert_eq!(text, expected);
        task.dispatch_infos.clear();
        assert!(serde_json::to_value(&task).unwrap().get("dispatchInfos").is_none());
    }

    #[test]
    fn words_and_whole_numbers() {
        let words = [
            (GofdStatus::Completed, "COMPLETED"),
            (GofdStatus::Failed, "FAILED"),
            (GofdStatus::FileNotExisted, "FILE_NOT_EXISTED"),
        ];
        for (status, word) in words {
            assert_eq!(json!(status), word);
            assert!(status.is_finished());
        }
        for (value, text) in [(0.0, "0"), (100.0, "100"), (-1.0, "-1"), (17.2, "17.2")] {
            let mut bytes = Vec::new();
            percent(&value, &mut serde_json::Serializer::new(&mut bytes)).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}
