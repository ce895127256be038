//! Problems of a node or a main server: a code that pages translate, and the values for
//! its text.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    limits::Limit,
    listen::Connections,
    tls::{CertificateWarning, UnusableTlsFile},
};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Problem {
    pub code: &'static str,
    pub severity: Severity,
    /// The values for this code's text.
    #[serde(flatten)]
    pub about: Map<String, Value>,
}

// In order, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum Severity {
    Error,
    Warning,
    /// Nothing is wrong, and somebody has to decide something.
    Info,
}

impl Problem {
    /// `about` must be an object.
    pub fn error(code: &'static str, about: Value) -> Self {
        Self::new(code, Severity::Error, about)
    }

    pub fn warning(code: &'static str, about: Value) -> Self {
        Self::new(code, Severity::Warning, about)
    }

    pub fn info(code: &'static str, about: Value) -> Self {
        Self::new(code, Severity::Info, about)
    }

    fn new(code: &'static str, severity: Severity, about: Value) -> Self {
        let about = match about {
            Value::Object(about) => about,
            _ => Map::new(),
        };
        Self { code, severity, about }
    }
}

/// Returns the problems of the certificate in use and its files.
pub fn certificate_problems(
    fault: Option<&UnusableTlsFile>,
    warning: Option<&CertificateWarning>,
) -> Vec<Problem> {
    let fault = fault.map(|UnusableTlsFile { file, text }| {
        Problem::error("certificate_unusable", json!({"file": file, "text": text}))
    });
    let warning = warning.map(|CertificateWarning { file, text, is_refused }| {
        let problem = if *is_refused { Problem::error } else { Problem::warning };
        problem("certificate_doubtful", json!({"file": file, "text": text}))
    });
    fault.into_iter().chain(warning).collect()
}

/// Returns the connection limits that were reached lately; one problem for all that are
/// closed for want of places.
pub fn connection_limits(connections: &Connections) -> Vec<Problem> {
    let (reached, mut found) = (connections.recent_limits(), Vec::new());
    if reached.contains(&Limit::ConnectionsPerClient) {
        let most = connections.per_client();
        found.push(Problem::warning("connections_per_client", json!({"most": most})));
    }
    if reached.iter().any(|limit| *limit != Limit::ConnectionsPerClient) {
        let places = connections.places();
        found.push(Problem::warning("connections_full", json!({"places": places})));
    }
    found
}
