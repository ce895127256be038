//! Times as answers have them.

use std::time::Duration;

use edge_mirror_base::clock::UnixMillis;
use serde::{Serialize, Serializer};

/// A time since 1970, or a span of time, as a number of seconds with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seconds(UnixMillis);

impl From<UnixMillis> for Seconds {
    fn from(at: UnixMillis) -> Self {
        Self(at)
    }
}

impl From<Duration> for Seconds {
    fn from(span: Duration) -> Self {
        Self(UnixMillis::default() + span)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        f64::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        f64::json_schema(generator)
    }
}
