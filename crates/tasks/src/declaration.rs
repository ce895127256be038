//! Task types as their operator declares them, a TOML file each.

mod parameter;
mod read;
mod reader;
mod template;

use std::{fmt, path::PathBuf};

use edge_mirror_protocol::remote_tasks::TaskTypeName;
use serde::{Deserialize, Serialize};

pub use parameter::{TypeParameter, ValueKind};
pub use read::parse;
pub use template::{CommandTemplate, TemplateElement, TemplatePart};

use crate::BilingualText;

/// Types that a node has without a declaration.
pub const BUILT_IN: [&str; 5] = ["verify", "fetch", "probe", "report", "sleep"];

/// A declared task type.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its file's name without the ending.
    pub name: TaskTypeName,
    pub title: String,
    pub command: CommandTemplate,
    pub parameters: Vec<TypeParameter>,
    /// Takes JSON on standard input.
    pub takes_input: bool,
    pub result: ResultFormat,
    /// May use the network.
    pub network: bool,
    /// May run again if it is not known how a run ended.
    pub repeatable: bool,
    pub callers: Vec<TaskCaller>,
    /// Types of the same class share their places.
    pub class: String,
    /// Runs at once, of the class.
    pub places: u32,
    pub limits: RunLimits,
    pub environment: Vec<(String, String)>,
    pub folders: Vec<TaskFolder>,
}

/// The form of what a program prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultFormat {
    Json,
    Text,
}

/// By which way a task comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskCaller {
    /// From operators, by the main server.
    MainServer,
    /// By the port for clients of the seed's nodes.
    Compat,
}

/// Limits of one run with all its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    pub time_s: u64,
    pub memory_bytes: u64,
    pub cpu_s: u64,
    pub processes: u64,
    pub output_bytes: u64,
    /// Of each file that it writes.
    pub file_bytes: u64,
}

/// A folder that a type may use besides the system's programs and its own working folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFolder {
    pub name: String,
    pub path: PathBuf,
    pub write: bool,
}

/// Something wrong with a declaration, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclarationFault {
    /// Dotted; none if the file as a whole is meant.
    pub key: Option<String>,
    pub line: Option<usize>,
    pub wording: BilingualText,
}

impl DeclarationFault {
    pub(crate) fn whole(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { key: None, line: None, wording: BilingualText::new(zh, en) }
    }

    pub fn in_language(&self, chinese: bool) -> String {
        let text = self.wording.in_language(chinese);
        let key = self.key.as_deref().unwrap_or_default();
        match (self.line, chinese) {
            (Some(line), true) => format!("第 {line} 行 {key}：{text}"),
            (Some(line), false) => format!("line {line}, {key}: {text}"),
            (None, true) if !key.is_empty() => format!("{key}：{text}"),
            (None, false) if !key.is_empty() => format!("{key}: {text}"),
            (None, _) => text.to_owned(),
        }
    }
}

impl fmt::Display for DeclarationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.in_language(true), self.in_language(false))
    }
}
