//! Errors of the configuration, in Chinese and in English.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::check::{self, SettingProblem};

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {cause}; check the path and its permissions")]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("cannot write {path}: {cause}; check the folder, its permissions and free space")]
    Unwritable { path: PathBuf, cause: io::Error },
    #[error(
        "{path} is not valid JSON ({cause}); fix it, or move it away to start with defaults; it was left as it was"
    )]
    NotJson { path: PathBuf, cause: String },
    #[error(
        "{path} has invalid settings; fix them, the file was left as it was: {}",
        check::list(problems)
    )]
    Invalid { path: PathBuf, problems: Vec<SettingProblem> },
    #[error("the environment has invalid settings; fix or unset them: {}", check::list(.0))]
    Environment(Vec<SettingProblem>),
}

impl ConfigError {
    /// Text for people, in Chinese or in English; logs have both.
    pub fn message_in(&self, chinese: bool) -> String {
        if !chinese {
            return match self {
                Self::Invalid { path, problems } => format!(
                    "{} has invalid settings; fix them, the file was left as it was: {}",
                    path.display(),
                    check::list_in(problems, false)
                ),
                Self::Environment(problems) => format!(
                    "the environment has invalid settings; fix or unset them: {}",
                    check::list_in(problems, false)
                ),
                other => other.to_string(),
            };
        }
        match self {
            Self::Unreadable { path, cause } => {
                format!("无法读取 {}：{cause}；请检查路径和权限", path.display())
            }
            Self::Unwritable { path, cause } => {
                format!("无法写入 {}：{cause}；请检查文件夹、权限和剩余空间", path.display())
            }
            Self::NotJson { path, cause } => format!(
                "{} 不是有效的 JSON（{cause}）；请改正，或移走它以按默认值启动；文件未作改动",
                path.display()
            ),
            Self::Invalid { path, problems } => format!(
                "{} 中有无效的配置，请改正，文件未作改动：{}",
                path.display(),
                check::list_in(problems, true)
            ),
            Self::Environment(problems) => {
                format!("环境变量中有无效的配置，请改正或取消：{}", check::list_in(problems, true))
            }
        }
    }
}

/// Reason that a change was not made; nothing was changed.
#[derive(Debug, Error)]
pub enum PatchError {
    #[error("{}", check::list(.0))]
    Refused(Vec<SettingProblem>),
    /// The file was edited by hand into something invalid, which a save would
    /// throw away.
    #[error("配置文件有误，请先修正 / the configuration file is invalid, fix it first: {0}")]
    FileFaulty(String),
    #[error("{0}")]
    NotSaved(ConfigError),
}

impl PatchError {
    /// Text for people, in Chinese or in English.
    pub fn message_in(&self, chinese: bool) -> String {
        match self {
            Self::Refused(problems) => check::list_in(problems, chinese),
            Self::FileFaulty(fault) if chinese => format!("配置文件有误，请先改正：{fault}"),
            Self::FileFaulty(fault) => {
                format!("the configuration file is invalid, fix it first: {fault}")
            }
            Self::NotSaved(error) => error.message_in(chinese),
        }
    }
}
