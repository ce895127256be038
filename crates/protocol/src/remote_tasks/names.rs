//! Names that are a segment of a URL, and of a file, as they are.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $error:ident, $pattern:literal, $allows:expr, $text:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        #[derive(Debug, Error, PartialEq, Eq)]
        #[error($text)]
        pub struct $error;

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let allows: fn(u8) -> bool = $allows;
                let valid = (1..=64).contains(&text.len()) && text.bytes().all(allows);
                valid.then(|| Self(text.into())).ok_or($error)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        #[cfg(feature = "openapi")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

plain_name!(
    /// The id of a remote task.
    RemoteTaskId,
    InvalidRemoteTaskId,
    "^[A-Za-z0-9_-]{1,64}$",
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
    "a task's id is 1 to 64 letters, digits, '-' and '_'"
);

plain_name!(
    /// The name of a type of task.
    TaskTypeName,
    InvalidTaskTypeName,
    "^[a-z0-9_-]{1,64}$",
    |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'),
    "a type's name is 1 to 64 small letters, digits, '-' and '_'"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_segment_of_a_path_and_nothing_else() {
        for bad in ["", ".", "..", "a/b", "a b", "a.b", "任务", "a\0", &"x".repeat(65)] {
            assert_eq!(bad.parse::<RemoteTaskId>(), Err(InvalidRemoteTaskId), "{bad}");
            assert_eq!(bad.parse::<TaskTypeName>(), Err(InvalidTaskTypeName), "{bad}");
            assert!(serde_json::from_value::<RemoteTaskId>(bad.into()).is_err(), "{bad}");
        }
        for good in ["a", "019f2c3d-4e", "a_b-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<RemoteTaskId>().unwrap().as_str(), good);
            assert_eq!(good.parse::<TaskTypeName>().unwrap().as_str(), good);
        }
        assert!("Verify".parse::<RemoteTaskId>().is_ok());
        assert!("Verify".parse::<TaskTypeName>().is_err());
    }
}
