//! The names of the sequence of casts. There is one sequence of numbers, but it may be set
//! back without anybody's notice, with a database or a folder of before; a number is then
//! given twice. So each connection that saves casts gives the sequence another name before
//! its first one, and no two casts have the same name and number.

use std::{collections::HashMap, sync::Arc};

/// The name of the sequence, and those that it had before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CastStreams {
    current: Arc<str>,
    /// The last number under each name of before.
    ended: HashMap<Arc<str>, i64>,
}

impl CastStreams {
    pub(crate) fn new(current: Arc<str>, ended: HashMap<Arc<str>, i64>) -> Self {
        Self { current, ended }
    }

    pub(crate) fn current(&self) -> &Arc<str> {
        &self.current
    }

    /// The number up to which somebody has this sequence who has it up to `number` under that
    /// name: what came after it then is not in this one. None if nothing is known of the name.
    pub(crate) fn resolve(&self, name: &str, number: i64) -> Option<i64> {
        if name == &*self.current {
            return Some(number);
        }
        // Later names begin further on, so that they set no further back.
        self.ended.get(name).map(|last| number.min(*last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_more_than_there_was_under_a_name_goes_on_where_it_ended() {
        let ended = HashMap::from([("a".into(), 90), ("b".into(), 120)]);
        let streams = CastStreams::new("c".into(), ended);
        for (name, number, expected) in [
            ("c", 500, Some(500)),
            ("a", 80, Some(80)),
            ("a", 100, Some(90)),
            ("b", 100, Some(100)),
            ("b", 121, Some(120)),
            ("x", 5, None),
            ("", 0, None),
        ] {
            assert_eq!(streams.resolve(name, number), expected, "{name} {number}");
        }
    }
}
