//! Errors of the package store, in words that can be shown: without credentials, and not
//! a page long.

use std::{error::Error, io};

use object_store::Error as ObjectError;
use thiserror::Error;

/// Characters of a cause; an S3 server may answer with a page.
const MAX_CAUSE: usize = 300;

#[derive(Debug, Error)]
pub(crate) enum BlobError {
    #[error("the package is not in the package store")]
    Missing,
    #[error("the package store can't be reached: there is no such bucket")]
    NoBucket,
    /// It answered, and does not let us.
    #[error("the package store denies access: {0}")]
    Denied(String),
    #[error("the package store can't be reached: {0}")]
    Unavailable(String),
    #[error("the state can't be saved: {0}")]
    Unnamed(String),
    #[error("the main server is stopping")]
    Stopped,
    #[error("the local copy was changed meanwhile")]
    Changed,
    #[error("cannot read the local copy: {0}")]
    Read(io::Error),
}

impl BlobError {
    /// True if it says something about the package store, rather than about one package.
    pub(crate) fn is_of_store(&self) -> bool {
        matches!(self, Self::NoBucket | Self::Denied(_) | Self::Unavailable(_))
    }

    pub(super) fn new(error: &ObjectError, secrets: &[String]) -> Self {
        let whole = innermost(error);
        let cause = || shown_cause(&whole, secrets);
        match error {
            _ if element(&whole, "Code") == Some("NoSuchBucket") => Self::NoBucket,
            ObjectError::NotFound { .. } => Self::Missing,
            ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. } => {
                Self::Denied(cause())
            }
            // A list's errors are of no kind.
            _ if ["403 Forbidden", "401 Unauthorized"].iter().any(|told| whole.contains(told)) => {
                Self::Denied(cause())
            }
            _ => Self::Unavailable(cause()),
        }
    }

    pub(super) fn timed_out() -> Self {
        Self::Unavailable("it does not answer".to_owned())
    }
}

/// The last of the chain is what happened, the others say where.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// An S3 server's answer has a code and a sentence among its XML.
fn shown_cause(whole: &str, secrets: &[String]) -> String {
    let told: Vec<_> = ["Code", "Message"].iter().filter_map(|tag| element(whole, tag)).collect();
    let mut cause = if told.is_empty() { whole.to_owned() } else { told.join(": ") };
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        cause = cause.replace(secret.as_str(), "***");
    }
    cause.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CAUSE).collect()
}

fn element<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{tag}>"))?;
    Some(after.split_once("</")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_short_and_names_no_credential() {
        let answer = "403: <Error><Code>InvalidAccessKeyId</Code><Message>No key AKIA1</Message>\
             <AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>";
        let told = |text: &str| {
            let source = io::Error::other(io::Error::other(text.to_owned()));
            let secrets = ["AKIA1".to_owned(), String::new()];
            let error = ObjectError::Generic { store: "S3", source: source.into() };
            match BlobError::new(&error, &secrets) {
                BlobError::Unavailable(cause) => cause,
                other => panic!("{other}"),
            }
        };
        assert_eq!(told(answer), "InvalidAccessKeyId: No key ***");
        assert_eq!(told("refused\nby AKIA1"), "refused by ***");
        assert_eq!(told(&"会".repeat(1000)).chars().count(), MAX_CAUSE);
    }
}
