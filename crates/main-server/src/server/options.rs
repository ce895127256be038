//! The options in force: those that change while the main server runs, and all of them as
//! the page shows them.

use std::{path::PathBuf, sync::Arc};

use edge_mirror_base::live::LiveValue;
use edge_mirror_http::wire::problem::Problem;
use edge_mirror_settings::SecurityConfig;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::{
    server::Server,
    state::{demand::DemandLimits, fleet::NodePolicy},
};

/// The options that take effect while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveOptions {
    pub security: SecurityConfig,
    /// The policy for nodes that do not prove themselves.
    pub nodes: NodePolicy,
    /// 0 is the default share.
    pub max_connections_per_client: u64,
    /// Limits of the number of nodes that the load wants.
    pub demand: DemandLimits,
}

impl LiveOptions {
    pub(crate) fn warn_of_open_access(&self) {
        if self.security.open {
            warn!("--open: whoever reaches this port can manage meetings");
        }
        if self.nodes == NodePolicy::Open {
            warn!("--nodes open: whoever reaches this port can be a node and get tablets");
        }
    }
}

/// The place where an option was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum OptionSource {
    CommandLine,
    Environment,
    File,
    Default,
}

/// An option as the page shows it, without passwords.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShownOption {
    /// Without the dashes.
    pub name: String,
    pub value: Value,
    pub source: OptionSource,
}

/// All options, and what is wrong with the file that has some of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShownOptions {
    /// Null without a file.
    pub file: Option<PathBuf>,
    /// Those that are in force.
    pub options: Vec<ShownOption>,
    /// The names of those that are something else in the file, and take effect with the
    /// next start.
    pub waiting: Vec<String>,
    /// The reason that the file cannot be used as it is now.
    pub fault: Option<String>,
}

impl ShownOptions {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let file = &self.file;
        let fault = self
            .fault
            .as_ref()
            .map(|text| Problem::warning("options_unusable", json!({"file": file, "text": text})));
        let waiting = (!self.waiting.is_empty()).then(|| {
            let names = self.waiting.join(", ");
            Problem::warning("options_need_restart", json!({"file": file, "names": names}))
        });
        fault.into_iter().chain(waiting).collect()
    }
}

/// The options of a running main server.
#[derive(Debug)]
pub(crate) struct OptionsInForce {
    pub(crate) live: Arc<LiveValue<LiveOptions>>,
    pub(crate) shown: LiveValue<ShownOptions>,
}

impl Server {
    /// Has options take effect. False if they are those that are in force.
    pub(crate) fn apply_options(&self, options: LiveOptions) -> bool {
        let max_connections = options.max_connections_per_client;
        let before = self.options.live.get();
        if !self.options.live.set_if_changed(options) {
            return false;
        }
        let now = self.options.live.get();
        if (before.security.open, before.nodes) != (now.security.open, now.nodes) {
            now.warn_of_open_access();
        }
        self.connections.apply(max_connections);
        true
    }
}
