//! The types that this node offers: built-in ones, and those of the operator's folder.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::SystemTime};

use edge_mirror_base::tasks;
use edge_mirror_protocol::remote_tasks::{
    MAX_PARAMETER_VALUES, MAX_TYPES, ParameterKind, ParameterSummary, TaskTypeName, TaskTypeSummary,
};
use edge_mirror_settings::Config;
use edge_mirror_tasks::{
    BilingualText,
    declaration::{Declaration, DeclarationFault, TaskCaller, ValueKind},
    folder::{self, TypeFileFault, TypeFolder},
};
use tracing::{info, warn};

use super::built_in::BuiltInType;

/// All types by name.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeOffer {
    pub(super) declared: Arc<TypeFolder>,
    /// The folder's listing when it was read.
    seen: Vec<(std::ffi::OsString, Option<SystemTime>, u64)>,
}

/// A type that an order names.
#[derive(Clone, Debug)]
pub(super) enum RunnableType {
    BuiltIn(BuiltInType),
    Declared(Box<Declaration>),
}

impl TypeOffer {
    /// Reads the folder again if it has changed. True if it has.
    pub(super) async fn refresh(&mut self, config: &Config) -> bool {
        let (folder, seen) = (config.tasks_folder(), self.seen.clone());
        let delivered = [Some(config.storage_path()), config.drop_folder(), config.gofd_folder()];
        let read = tasks::blocking(move || {
            let now = listing(&folder);
            // What others send here declares nothing.
            let is_delivered = delivered.iter().flatten().any(|place| is_below(&folder, place));
            let read = || match is_delivered {
                true => refused(&folder),
                false => folder::read(&folder),
            };
            (now != seen).then(|| (read(), now))
        });
        let Some((found, seen)) = read.await else { return false };
        for fault in &found.faults {
            warn!("task type: {fault}");
        }
        if !found.types.is_empty() {
            info!("{} task types are declared", found.types.len());
        }
        (self.declared, self.seen) = (Arc::new(found), seen);
        true
    }

    pub(super) fn find(&self, name: &TaskTypeName) -> Option<RunnableType> {
        if let Some(built_in) = BuiltInType::named(name.as_str()) {
            return Some(RunnableType::BuiltIn(built_in));
        }
        let declared = self.declared.types.get(name)?;
        let is_ours = declared.callers.contains(&TaskCaller::MainServer);
        is_ours.then(|| RunnableType::Declared(Box::new(declared.clone())))
    }

    /// The class of a type, and the places that it has, of the node's.
    pub(super) fn class_of(&self, name: &TaskTypeName, places: u32) -> Option<(String, u32)> {
        Some(match self.find(name)? {
            RunnableType::BuiltIn(built_in) => (name.to_string(), built_in.places(places)),
            RunnableType::Declared(declared) => (declared.class, declared.places),
        })
    }

    /// The types as the main server is told of them.
    pub(super) fn summaries(&self, places: u32) -> Vec<TaskTypeSummary> {
        let built_in = BuiltInType::ALL.iter().map(|built_in| built_in.summary(places));
        let declared = self.declared.types.values();
        let declared =
            declared.filter(|declared| declared.callers.contains(&TaskCaller::MainServer));
        built_in.chain(declared.map(summary)).take(MAX_TYPES).collect()
    }

    /// Names of the declared types, for the status.
    pub(super) fn names(&self) -> BTreeMap<String, String> {
        let types = self.declared.types.values();
        types.map(|declared| (declared.name.to_string(), declared.title.clone())).collect()
    }
}

fn is_below(folder: &Path, place: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(folder).starts_with(real(place))
}

fn refused(folder: &Path) -> TypeFolder {
    let (zh, en) = (
        "这个文件夹里的文件来自其他机器，不能声明任务类型；请修改 tasks.folder",
        "files from other machines land in this folder, so it declares no types; change tasks.folder",
    );
    let fault = DeclarationFault { key: None, line: None, wording: BilingualText::new(zh, en) };
    let faults = vec![TypeFileFault { file: folder.to_owned(), fault }];
    TypeFolder { faults, ..TypeFolder::default() }
}

fn listing(folder: &Path) -> Vec<(std::ffi::OsString, Option<SystemTime>, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut seen: Vec<_> = entries
        .take(1000)
        .filter_map(|entry| {
            // Links are followed: their targets change.
            let found = std::fs::metadata(entry.path()).ok()?;
            Some((entry.file_name(), found.modified().ok(), found.len()))
        })
        .collect();
    seen.sort();
    seen
}

fn summary(declared: &Declaration) -> TaskTypeSummary {
    let parameters = declared.parameters.iter().map(|parameter| ParameterSummary {
        name: parameter.name.clone(),
        kind: match parameter.kind {
            ValueKind::String { .. } | ValueKind::Text { .. } | ValueKind::Choice(_) => {
                ParameterKind::String
            }
            ValueKind::Integer { .. } => ParameterKind::Integer,
            ValueKind::Number { .. } => ParameterKind::Number,
            ValueKind::Boolean { .. } => ParameterKind::Boolean,
            ValueKind::Path { .. } => ParameterKind::Path,
            ValueKind::Package => ParameterKind::Package,
            ValueKind::FleetUrl => ParameterKind::Url,
        },
        required: parameter.required,
        values: match &parameter.kind {
            ValueKind::Choice(values) => {
                values.iter().take(MAX_PARAMETER_VALUES).cloned().collect()
            }
            _ => Vec::new(),
        },
    });
    TaskTypeSummary {
        name: declared.name.clone(),
        title: declared.title.clone(),
        parameters: parameters.collect(),
        repeatable: declared.repeatable,
        places: declared.places,
        network: declared.network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_changed_folder_is_read_again_and_only_the_main_servers_types_are_offered() {
        let folder = tempfile::tempdir().unwrap();
        let config = |types: &str| {
            let document = serde_json::json!({"nodeId": "n", "tasks": {"folder": types}});
            let document = document.as_object().unwrap();
            edge_mirror_settings::check::parse_config(document, folder.path()).unwrap()
        };
        let (mut offer, here) = (TypeOffer::default(), config("."));
        assert!(!offer.refresh(&config("none")).await);
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("a.toml", "command = ['/bin/true']\nclass = 'c'\nplaces = 3").unwrap();
        write("b.toml", "command = ['/bin/true']\ncallers = ['compat']").unwrap();
        write("c.toml", "command = 7").unwrap();
        assert!(offer.refresh(&here).await);
        assert!(!offer.refresh(&here).await);
        let names: Vec<String> =
            offer.summaries(4).iter().map(|summary| summary.name.to_string()).collect();
        assert_eq!(names, ["verify", "fetch", "probe", "report", "sleep", "a"]);
        let name = |text: &str| text.parse().unwrap();
        assert_eq!(offer.class_of(&name("a"), 4), Some(("c".to_owned(), 3)));
        assert!(offer.find(&name("b")).is_none() && offer.find(&name("c")).is_none());
        assert_eq!(offer.declared.faults.len(), 1);
        std::fs::remove_file(folder.path().join("a.toml")).unwrap();
        assert!(offer.refresh(&here).await);
        assert!(offer.find(&name("a")).is_none());
        let delivered = folder.path().join("storage/.files/t");
        std::fs::create_dir_all(&delivered).unwrap();
        std::fs::write(delivered.join("x.toml"), "command = ['/bin/true']").unwrap();
        assert!(offer.refresh(&config("storage/.files/t")).await);
        assert!(offer.declared.types.is_empty() && offer.declared.faults.len() == 1);
    }
}
