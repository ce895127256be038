//! The source of the configuration.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use edge_mirror_base::tasks;
use edge_mirror_http::tls;
use edge_mirror_settings::{
    Config, ConfigError, Environment, FileDocument, SettingProblem, Settings, check,
};
use reqwest::Method;
use serde_json::{Map, Value};

use crate::{
    cli::ConfigTargetArgs,
    commands::{
        client::{self, ApiClient, CallError},
        place,
    },
    terminal::{self, Language, localized},
};

pub(super) enum ConfigSource {
    File(PathBuf),
    Node(ApiClient),
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Node(api) => write!(f, "{}", api.server),
        }
    }
}

impl ConfigSource {
    pub(super) fn of(of: &ConfigTargetArgs) -> Result<Self> {
        Ok(match &of.node {
            Some(node) => {
                let (trust, token) = (of.authority.trust(), client::token(&of.login));
                Self::Node(ApiClient::new(node.clone(), &trust, client::ServerKind::Node, token)?)
            }
            None => Self::File(place::config_file(of.config.as_deref())),
        })
    }

    pub(super) async fn settings(&self) -> Result<Map<String, Value>> {
        let document = match self {
            Self::File(path) => Settings::read(path)?.redacted(),
            Self::Node(api) => api.get("/api/config").await?,
        };
        match (document, self) {
            (Value::Object(settings), _) => Ok(settings),
            (_, Self::Node(api)) => Err(api.unexpected_answer("GET /api/config").into()),
            (_, Self::File(path)) => bail!(terminal::say(
                format!("{} 中没有配置", path.display()),
                format!("{} holds no settings", path.display()),
            )),
        }
    }

    /// Changes settings; true if anything differs.
    pub(super) async fn change(&self, patch: Map<String, Value>) -> Result<bool> {
        match self {
            Self::File(path) => {
                // A missing file is created when a node starts, not here.
                Settings::read(path)?;
                Settings::document(path)?.iter().for_each(warn_of_lenient);
                let path = path.clone();
                let changed = tasks::blocking(move || -> Result<bool> {
                    let settings = Settings::load_or_create(&path)?;
                    let changed = settings.patch(&patch, agree)?;
                    let warnings = settings.current().warnings();
                    for warning in &warnings {
                        let language = Language::from_env();
                        eprintln!("edge-mirror: {}", localized(warning, language));
                    }
                    Ok(changed)
                });
                changed.await
            }
            Self::Node(api) => {
                let before = self.settings().await?;
                let body = Value::Object(patch);
                api.call(Method::POST, "/api/config", Some(&body)).await?;
                Ok(self.settings().await? != before)
            }
        }
    }

    /// Returns problems now, or after a change.
    pub(super) async fn check(&self, patch: Map<String, Value>) -> Result<Vec<SettingProblem>> {
        match self {
            Self::File(path) => checked(path, &patch),
            Self::Node(api) => {
                let status = api.get("/api/status").await?;
                if let Some(fault) = status["config_error"].as_str() {
                    bail!("{}: {fault}", api.server);
                }
                let body = Value::Object(patch);
                let answer = api.call(Method::POST, "/api/config/check", Some(&body)).await?;
                client::problems(&answer).ok_or_else(|| stranger(api))
            }
        }
    }
}

fn warn_of_lenient(document: &FileDocument) {
    let chinese = Language::from_env() == Language::Chinese;
    for reading in &document.lenient {
        let one = std::slice::from_ref(reading);
        eprintln!("edge-mirror: {}", check::list_in(one, chinese));
    }
}

/// A certificate and key that don't match would keep the node from starting.
fn agree(before: &Config, new: &Config) -> Result<(), SettingProblem> {
    tls::problem(Some(before), new).map_or(Ok(()), Err)
}

fn stranger(api: &ApiClient) -> anyhow::Error {
    let error: CallError = api.unexpected_answer("POST /api/config/check");
    error.into()
}

fn checked(path: &Path, patch: &Map<String, Value>) -> Result<Vec<SettingProblem>> {
    match Settings::read(path) {
        Ok(_) => {}
        Err(ConfigError::Invalid { problems, .. }) if patch.is_empty() => return Ok(problems),
        Err(error) => return Err(error.into()),
    }
    let Some(document) = Settings::document(path)? else {
        bail!(terminal::say(
            format!("{} 已不存在", path.display()),
            format!("{} is gone", path.display()),
        ))
    };
    warn_of_lenient(&document);
    let mut problems = check::unknown_keys(&document.settings);
    let folder = std::path::absolute(path)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    // A node generates its name at its start.
    let mut whole = document.settings;
    whole.entry("nodeId").or_insert("unnamed".into());
    let environment = Environment::from_process().map_err(ConfigError::Environment)?;
    let typed =
        |whole: &Map<String, Value>| check::parse_config(&environment.overlay(whole), folder);
    let outcome =
        environment.strip(patch).and_then(|patch| check::apply_patch(&whole, &patch, typed));
    match outcome {
        Ok((_, config)) => problems.extend(tls::problem(None, &config)),
        Err(found) => problems.extend(found),
    }
    Ok(problems)
}
