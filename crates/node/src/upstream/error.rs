//! Errors of a main server's calls, in an operator's words.

use std::{error::Error, io, time::Duration};

use edge_mirror_http::tls;
use edge_mirror_protocol::{Cause, Fault, UnreadableAnswer};
use reqwest::StatusCode;
use thiserror::Error;

/// Main servers' text for a package that could not be made.
const NO_PACKAGE: &str = "会议包不存在";
/// Our main server's text for a task's file that it can't get.
const NO_FILE: &str = "文件在另一台主控服务器上";

#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("{asked}: cannot reach the main server: {cause}")]
    Unreachable { asked: String, cause: String, refused: bool },
    #[error("{asked}: no TLS with the main server: {cause}")]
    Untrusted { asked: String, cause: String },
    #[error("{asked}: no answer within {}", seconds(*after))]
    TimedOut { asked: String, after: Duration },
    #[error("{asked}: answered {status} {answer}")]
    Refused { asked: String, status: StatusCode, answer: String },
    #[error("{asked}: {cause}")]
    Unreadable { asked: String, cause: UnreadableAnswer },
}

impl UpstreamError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// True if the main server answered that it can't do it, or not now.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// True if the main server does not have the file of a task.
    pub(crate) fn is_without_file(&self) -> bool {
        self.is_not_found()
            || matches!(self, Self::Refused { answer, .. } if answer.contains(NO_FILE))
    }

    /// In a word, for pages that translate it.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Unreachable { refused: true, .. } => Cause::Refused,
            Self::Unreachable { .. } | Self::Untrusted { .. } => Cause::Unreachable,
            Self::TimedOut { .. } => Cause::Timeout,
            Self::Refused { answer, .. } if answer.contains(NO_PACKAGE) => Cause::NoPackage,
            Self::Refused { status: StatusCode::NOT_FOUND, .. } => Cause::NotFound,
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => Cause::Key,
            Self::Refused { .. } => Cause::HttpStatus,
            Self::Unreadable { .. } => Cause::Unreadable,
        }
    }

    pub fn fault(&self) -> Fault {
        Fault { cause: self.cause(), text: self.to_string() }
    }

    /// True if no main server answered: another one may.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Untrusted { .. } | Self::TimedOut { .. })
    }

    /// True if there is nobody to connect to, or the connection broke. A time that is over may
    /// be that of one slow answer.
    pub(crate) fn is_disconnected(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(crate) fn is_server_error(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_server_error())
    }

    /// True if the main server has this path, but not for this method.
    pub(crate) fn is_wrong_method(&self) -> bool {
        const UNSUPPORTED: [StatusCode; 2] =
            [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];
        matches!(self, Self::Refused { status, .. } if UNSUPPORTED.contains(status))
    }

    pub(crate) fn is_unsatisfiable(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::RANGE_NOT_SATISFIABLE, .. })
    }

    /// True if the status is a success, but the body has no known shape.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }

    pub(super) fn of(asked: &str, error: &reqwest::Error, limit: Duration) -> Self {
        let asked = asked.to_owned();
        if error.is_timeout() {
            return Self::TimedOut { asked, after: limit };
        }
        match tls::explain(error, "mainServerCa", "mainServerCert") {
            Some((_, cause)) => Self::Untrusted { asked, cause },
            None => {
                Self::Unreachable { asked, cause: root_cause(error), refused: is_refused(error) }
            }
        }
    }
}

/// The innermost source of an error: "Connection refused" says more than "error
/// sending request".
pub fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
        || error.source().is_some_and(is_refused)
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
