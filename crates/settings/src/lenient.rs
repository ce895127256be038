//! Reads values that the Python node accepted as they were meant.
//!
//! Only where Python and a person read the same: `"8001"` is the port 8001;
//! `"false"`, which Python takes for true, and `true` for a number are refused
//! as any other mistake is. Only files are read this way: API callers get an
//! error.

use edge_mirror_base::quantity;
use serde_json::{Map, Value};

use super::{
    check::SettingProblem,
    schema::{self, DefaultValue, Setting, SettingKind, settings},
};

/// Names of levels that only Python has.
const LEVELS: &[(&str, &str)] = &[("CRITICAL", "ERROR"), ("FATAL", "ERROR"), ("WARN", "WARNING")];

/// Replaces what was written by what was meant; returns the changes, a line each.
pub(crate) fn normalize(document: &mut Map<String, Value>) -> Vec<SettingProblem> {
    let mut notes = Vec::new();
    for setting in settings() {
        let written = schema::get(document, setting.key).filter(|value| !setting.accepts(value));
        let Some(written) = written.cloned() else { continue };
        if let Some(meant) = meant(setting, &written).filter(|meant| setting.accepts(meant)) {
            notes.push(note(setting.key, &written, &meant));
            schema::put(document, setting.key, meant);
        }
    }
    notes.extend(raise_timeout(document));
    notes
}

fn meant(setting: &Setting, written: &Value) -> Option<Value> {
    match setting.kind {
        // Python's `publicPort or nodePort`.
        SettingKind::Int { min: 1, .. }
            if setting.default == DefaultValue::Null && written == 0 =>
        {
            Some(Value::Null)
        }
        SettingKind::Int { .. } | SettingKind::Limit { .. } => match written {
            Value::String(digits) => whole_number(digits.trim()),
            number => number.as_f64().and_then(whole),
        },
        // Python did not, but people write them.
        SettingKind::Size { .. } | SettingKind::Bandwidth { .. } => match written {
            Value::String(size) => quantity::parse_rate(size).map(Value::from),
            number => number.as_f64().and_then(whole),
        },
        SettingKind::Float { .. } => written.as_str()?.trim().parse::<f64>().ok().map(Value::from),
        SettingKind::Bool => match written {
            Value::Number(number) if number.as_u64() == Some(0) => Some(false.into()),
            Value::Number(number) if number.as_u64() == Some(1) => Some(true.into()),
            _ => None,
        },
        SettingKind::Choice(choices) => {
            let name = written.as_str()?.trim();
            let other = LEVELS.iter().find(|(level, _)| level.eq_ignore_ascii_case(name));
            let name = other.map_or(name, |(_, ours)| ours);
            choices.iter().find(|choice| choice.eq_ignore_ascii_case(name)).map(|c| (*c).into())
        }
        SettingKind::Label { .. } => written.as_str().map(|text| text.trim().into()),
        // As one text, where it is a single range.
        SettingKind::Schedule => written.as_str().map(|text| match text.trim() {
            "" => Value::Array(Vec::new()),
            range => vec![range].into(),
        }),
        SettingKind::Host
        | SettingKind::PublicHost
        | SettingKind::Interface
        | SettingKind::Address
        | SettingKind::Path
        | SettingKind::NodeId
        | SettingKind::Networks
        | SettingKind::MainServers
        | SettingKind::Secret { .. } => None,
    }
}

/// Neither signs nor underscores, which `int()` takes and people don't write.
fn whole_number(digits: &str) -> Option<Value> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_plain).map(Value::from)
}

/// `10.0` as 10, as far as a float is exact.
fn whole(number: f64) -> Option<Value> {
    let exact = number.fract() == 0.0 && (0.0..=schema::EXACT as f64).contains(&number);
    exact.then_some(number as u64).map(Value::from)
}

/// The Python node leaves the timeout at 30 s whatever the interval is set to.
fn raise_timeout(document: &mut Map<String, Value>) -> Option<SettingProblem> {
    let value = |key| match schema::get(document, key) {
        Some(written) => written.as_u64(),
        None => schema::find(key)?.default.value().as_u64(),
    };
    let (interval, timeout) = (value("heartbeat.interval")?, value("heartbeat.timeout")?);
    let raised = timeout_for(interval, timeout);
    (raised != timeout).then(|| {
        schema::put(document, "heartbeat.timeout", raised.into());
        note("heartbeat.timeout", &timeout.into(), &raised.into())
    })
}

/// Returns the heartbeat timeout, raised if not above the interval.
pub fn timeout_for(interval: u64, timeout: u64) -> u64 {
    if timeout > interval { timeout } else { interval.saturating_mul(3) }
}

fn note(key: &str, written: &Value, meant: &Value) -> SettingProblem {
    SettingProblem::new(key, Some(written), format!("按 {meant} 处理"), format!("taken as {meant}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the document, and the keys that were read leniently.
    fn read(document: Value) -> (Value, Vec<String>) {
        let mut document = document.as_object().unwrap().clone();
        let notes = normalize(&mut document);
        (Value::Object(document), notes.into_iter().map(|note| note.key).collect())
    }

    #[test]
    fn what_the_python_node_ran_with_is_read_as_it_was_meant() {
        for (key, written, meant) in [
            ("nodePort", json!("8001"), json!(8001)),
            ("mainServerPort", json!(" 80 "), json!(80)),
            ("publicPort", json!("08001"), json!(8001)),
            ("publicPort", json!(0), json!(null)),
            ("syncInterval", json!(10.0), json!(10)),
            ("syncInterval", json!("30"), json!(30)),
            ("storage.maxSize", json!(1.0737418240e10), json!(10_737_418_240_u64)),
            ("storage.maxSize", json!("10GB"), json!(10_000_000_000_u64)),
            ("network.bandwidth", json!("2MiB/s"), json!(2_097_152)),
            ("storage.cleanupThreshold", json!("0.9"), json!(0.9)),
            ("storage.autoCleanup", json!(0), json!(false)),
            ("usePublicAddress", json!(1), json!(true)),
            ("network.retryCount", json!("3"), json!(3)),
            ("serve.bandwidth", json!("0"), json!(0)),
            ("logging.level", json!("CRITICAL"), json!("ERROR")),
            ("logging.level", json!("warn"), json!("WARNING")),
            ("logging.level", json!("info"), json!("INFO")),
            ("heartbeat.interval", json!("20"), json!(20)),
            ("site", json!(" A "), json!("A")),
            ("network.schedule", json!("08:00-18:00 10MB"), json!(["08:00-18:00 10MB"])),
            ("network.schedule", json!(""), json!([])),
        ] {
            let mut document = Map::new();
            schema::put(&mut document, key, written.clone());
            let (read, notes) = read(Value::Object(document));
            assert_eq!(schema::get(read.as_object().unwrap(), key), Some(&meant), "{key}");
            assert_eq!(notes, [key], "{written}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_left_for_the_check_to_refuse() {
        for (key, written) in [
            ("nodePort", json!(true)),
            ("nodePort", json!("+80")),
            ("nodePort", json!("8_001")),
            ("nodePort", json!("")),
            ("nodePort", json!("80.0")),
            ("nodePort", json!(80.5)),
            ("nodePort", json!(0)),
            ("nodePort", json!("70000")),
            ("nodePort", json!([8001])),
            ("syncInterval", json!(-1.0)),
            ("syncInterval", json!(null)),
            ("storage.maxSize", json!(1e300)),
            ("storage.cleanupThreshold", json!("nan")),
            ("storage.cleanupThreshold", json!("90%")),
            ("storage.autoCleanup", json!("false")),
            ("storage.autoCleanup", json!(2)),
            ("storage.autoCleanup", json!(null)),
            ("logging.level", json!("NOTSET")),
            ("logging.level", json!(20)),
            ("nodeId", json!(7)),
            ("site", json!(7)),
            ("network.schedule", json!("08:00-18:00 0")),
            ("relay.key", json!(" sixteen-letters-here")),
        ] {
            let mut document = Map::new();
            schema::put(&mut document, key, written);
            let as_written = Value::Object(document);
            assert_eq!(read(as_written.clone()), (as_written, vec![]), "{key}");
        }
    }

    #[test]
    fn a_timeout_that_is_not_above_the_interval_is_raised() {
        let heartbeat = |interval: Value, timeout: Value| {
            let (read, notes) =
                read(json!({"heartbeat": {"interval": interval, "timeout": timeout}}));
            (read["heartbeat"]["timeout"].clone(), notes.len())
        };
        assert_eq!(heartbeat(json!(29), json!(30)), (json!(30), 0));
        assert_eq!(heartbeat(json!(30), json!(30)), (json!(90), 1));
        assert_eq!(heartbeat(json!(300), json!(30)), (json!(900), 1));
        assert_eq!(heartbeat(json!("30"), json!(30.0)), (json!(90), 3));
        assert_eq!(heartbeat(json!("x"), json!(30)), (json!(30), 0));
        let (alone, _) = read(json!({"heartbeat": {"interval": 60}}));
        assert_eq!(alone, json!({"heartbeat": {"interval": 60, "timeout": 180}}));
        assert_eq!(read(json!({"heartbeat": "x"})), (json!({"heartbeat": "x"}), vec![]));
        assert_eq!(read(json!({})), (json!({}), vec![]));
    }
}
