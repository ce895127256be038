//! The configuration file and its one owner.
//!
//! The document is kept as it was read (order, unknown keys and all) beside the
//! typed value, so that saving changes only what was meant. The file's last content
//! is kept byte for byte: a file event with the same bytes is our own save and is
//! ignored.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::Guard;
use edge_mirror_base::{
    atomic,
    live::LiveValue,
    metrics::{CounterFamily, labels},
};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    Config, ConfigError, Environment, PatchError,
    check::{self, SettingProblem},
    document::{FileDocument, parse, parse_as_node, read_file, render, typed},
    schema,
};

/// The live configuration.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    environment: Environment,
    held: Mutex<SettingsState>,
    live: LiveValue<Config>,
    fault: watch::Sender<Option<String>>,
    /// Edits of the file by others, accepted and rejected.
    pub reloads: CounterFamily<Reload>,
}

labels! {
    /// Outcome of an edit.
    Reload { Taken => "ok", Rejected => "rejected" }
}

#[derive(Debug)]
struct SettingsState {
    document: Map<String, Value>,
    /// Last known content of the file.
    bytes: Vec<u8>,
    /// Values read leniently that are not logged yet.
    lenient: Vec<SettingProblem>,
    /// Unknown keys are warned about once.
    warned: Vec<String>,
}

/// A patched document and its result, with what it was made of.
struct PreparedPatch {
    in_force: Arc<Config>,
    /// Content of the file, and its document.
    before: (Vec<u8>, Map<String, Value>),
    document: Map<String, Value>,
    config: Config,
}

impl Settings {
    /// Reads the file, or creates one with defaults if there is none. An existing
    /// file is changed only to add a missing `nodeId`.
    pub fn load_or_create(path: &Path) -> Result<Self, ConfigError> {
        Self::load(path, Environment::from_process().map_err(ConfigError::Environment)?)
    }

    pub fn load(path: &Path, environment: Environment) -> Result<Self, ConfigError> {
        let path = std::path::absolute(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        // Left by a kill in the middle of a save; nothing depends on it.
        let _ = atomic::sweep(&folder);
        let existing = match read_file(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(ConfigError::Unreadable { path, cause }),
        };
        let FileDocument { settings: mut document, lenient } = match &existing {
            Some(bytes) => parse(&path, bytes)?,
            None => FileDocument { settings: schema::defaults(), lenient: Vec::new() },
        };
        let has_id = document.get("nodeId").is_some_and(|id| !id.is_null() && id != "")
            || environment.variable("nodeId").is_some();
        if !has_id {
            schema::put(&mut document, "nodeId", generated_id().into());
        }
        let config = typed(&path, &environment.overlay(&document))
            .map_err(|problems| ConfigError::Invalid { path: path.clone(), problems })?;
        let bytes = match existing {
            Some(bytes) if has_id => bytes,
            _ => {
                let bytes = render(&document);
                atomic::write(&path, &bytes)
                    .map_err(|cause| ConfigError::Unwritable { path: path.clone(), cause })?;
                bytes
            }
        };
        let held = SettingsState { document, bytes, lenient, warned: Vec::new() };
        Ok(Self {
            path,
            environment,
            held: Mutex::new(held),
            live: LiveValue::new(config),
            fault: watch::Sender::new(None),
            reloads: CounterFamily::default(),
        })
    }

    /// Reads the configuration on disk; nothing is written.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let path = std::path::absolute(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        let bytes = read_file(&path)
            .map_err(|cause| ConfigError::Unreadable { path: path.clone(), cause })?;
        let environment = Environment::from_process().map_err(ConfigError::Environment)?;
        parse_as_node(&path, environment.overlay(&parse(&path, &bytes)?.settings))
    }

    /// Reads the document on disk, with unknown keys and without the environment's
    /// settings; none if there is no file.
    pub fn document(path: &Path) -> Result<Option<FileDocument>, ConfigError> {
        match read_file(path) {
            Ok(bytes) => parse(path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(ConfigError::Unreadable { path: path.to_owned(), cause }),
        }
    }

    /// Makes a configuration file of a document for `path`, without writing it.
    pub fn to_file(
        path: &Path,
        document: &Map<String, Value>,
    ) -> Result<(Config, Vec<u8>), ConfigError> {
        let config = parse_as_node(path, document.clone())?;
        Ok((config, render(document)))
    }

    /// Configuration of a file without settings.
    pub fn from_defaults() -> Result<Config, ConfigError> {
        let path = PathBuf::from("/node_config.json");
        parse_as_node(&path, schema::defaults())
    }

    /// Separate from reading the file: the log's destination is known only then.
    pub fn log_warnings(&self) {
        self.protect_secrets(&self.held().document);
        self.held().warn();
        for variable in self.environment.unknown() {
            warn!("environment variable not used, there is no such setting: {variable}");
        }
        self.current().warnings().iter().for_each(|warning| warn!("{warning}"));
    }

    pub fn current(&self) -> Arc<Config> {
        self.live.get()
    }

    /// Borrows the configuration for a short time, for frequent callers.
    pub fn peek(&self) -> Guard<Arc<Config>> {
        self.live.peek()
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.live.subscribe()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Settings that override the file.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns what is wrong with the file on disk, if anything.
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// Merges, validates, lets `agree` compare the configuration in force with the result
    /// (is the new port free?), saves
    /// and applies. On any error nothing has changed. True if the configuration has.
    pub fn patch(
        &self,
        patch: &Map<String, Value>,
        agree: impl Fn(&Config, &Config) -> Result<(), SettingProblem>,
    ) -> Result<bool, PatchError> {
        let refused = |problem| PatchError::Refused(vec![problem]);
        loop {
            let prepared = self.prepare(patch)?;
            self.check_node_id(&prepared.config).map_err(refused)?;
            agree(&prepared.in_force, &prepared.config).map_err(refused)?;
            if let Some(changed) = self.commit(prepared)? {
                return Ok(changed);
            }
        }
    }

    fn prepare(&self, patch: &Map<String, Value>) -> Result<PreparedPatch, PatchError> {
        let mut held = self.held();
        self.reload_held(&mut held);
        if let Some(fault) = self.fault() {
            return Err(PatchError::FileFaulty(fault));
        }
        let patched = self.patched(&held.document, patch);
        let (document, config) = patched.map_err(PatchError::Refused)?;
        let before = (held.bytes.clone(), held.document.clone());
        Ok(PreparedPatch { in_force: self.current(), before, document, config })
    }

    /// Saves and applies a patched document. Returns None if the one that it was made of
    /// is no longer in force.
    fn commit(&self, prepared: PreparedPatch) -> Result<Option<bool>, PatchError> {
        let PreparedPatch { before, document, config, .. } = prepared;
        let mut held = self.held();
        self.reload_held(&mut held);
        if (&held.bytes, &held.document) != (&before.0, &before.1) || self.fault().is_some() {
            return Ok(None);
        }
        let bytes = render(&document);
        if bytes != held.bytes {
            self.protect_secrets(&document);
            atomic::write(&self.path, &bytes).map_err(|cause| {
                PatchError::NotSaved(ConfigError::Unwritable { path: self.path.clone(), cause })
            })?;
        }
        held.document = document;
        held.bytes = bytes;
        Ok(Some(self.apply(config)))
    }

    /// Returns the result of a patch; nothing is changed.
    pub fn check(&self, patch: &Map<String, Value>) -> Result<Config, Vec<SettingProblem>> {
        let document = self.held().document.clone();
        let (_, config) = self.patched(&document, patch)?;
        self.check_node_id(&config).map_err(|problem| vec![problem])?;
        Ok(config)
    }

    /// Returns the document to save, and the result.
    fn patched(
        &self,
        document: &Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<(Map<String, Value>, Config), Vec<SettingProblem>> {
        let patch = self.environment.strip(patch)?;
        check::apply_patch(document, &patch, |whole| self.typed(whole))
    }

    fn typed(&self, document: &Map<String, Value>) -> Result<Config, Vec<SettingProblem>> {
        typed(&self.path, &self.environment.overlay(document))
    }

    /// Hides a file with a key from others. Before the key is written, as a file
    /// that replaces another keeps its permissions.
    fn protect_secrets(&self, document: &Map<String, Value>) {
        let secrets = schema::settings().filter(|setting| setting.is_secret());
        let set = |key| schema::get(document, key).is_some_and(|value| !value.is_null());
        if secrets.into_iter().any(|setting| set(setting.key))
            && let Err(error) = atomic::remove_world_access(&self.path)
        {
            warn!("others may read the key in {}: {error}", self.path.display());
        }
    }

    fn check_node_id(&self, config: &Config) -> Result<(), SettingProblem> {
        let current = self.current();
        if config.node_id == current.node_id {
            return Ok(());
        }
        Err(SettingProblem::new(
            "nodeId",
            Some(&Value::from(config.node_id.as_str())),
            format!("节点 ID 不可修改，当前为 {}", current.node_id),
            format!("can't be changed, it is {}", current.node_id),
        ))
    }

    /// Takes in edits of the file by others.
    pub fn reload(&self) {
        self.reload_held(&mut self.held());
    }

    fn reload_held(&self, held: &mut SettingsState) {
        let bytes = match read_file(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Deleted, or in the middle of an editor's rename: the next save,
                // which writes the file whole, loses nothing.
                held.bytes.clear();
                return self.clear_fault();
            }
            Err(cause) => {
                let path = self.path.clone();
                return self.report(ConfigError::Unreadable { path, cause }.to_string());
            }
        };
        if bytes == held.bytes {
            // Also the way back from a fault: the good file was restored.
            self.clear_fault();
            return;
        }
        match self.read_edited(&bytes) {
            Ok((FileDocument { settings, lenient }, config)) => {
                self.protect_secrets(&settings);
                held.document = settings;
                held.bytes = bytes;
                held.lenient = lenient;
                held.warn();
                self.reloads.inc(Reload::Taken);
                self.take_fault();
                if self.apply(config) {
                    info!("configuration read anew from {}", self.path.display());
                }
            }
            Err(error) => self.report(error.to_string()),
        }
    }

    fn read_edited(&self, bytes: &[u8]) -> Result<(FileDocument, Config), ConfigError> {
        let mut document = parse(&self.path, bytes)?;
        let fixed = self.environment.variable("nodeId").is_some();
        if !fixed && document.settings.get("nodeId").is_none_or(Value::is_null) {
            // Removed by hand: the node keeps its current name, and the next
            // save writes it back.
            schema::put(&mut document.settings, "nodeId", self.current().node_id.clone().into());
        }
        let config = self
            .typed(&document.settings)
            .map_err(|problems| ConfigError::Invalid { path: self.path.clone(), problems })?;
        Ok((document, config))
    }

    fn apply(&self, config: Config) -> bool {
        let before = self.current().warnings();
        config.warnings().iter().filter(|new| !before.contains(new)).for_each(|new| warn!("{new}"));
        self.live.set_if_changed(config)
    }

    fn report(&self, fault: String) {
        let fresh = self.fault.send_if_modified(|slot| {
            let fresh = slot.as_ref() != Some(&fault);
            *slot = Some(fault.clone());
            fresh
        });
        if fresh {
            self.reloads.inc(Reload::Rejected);
            error!("{fault}; the last good configuration stays in force");
        }
    }

    /// Called if the file is as it was before the fault, or gone.
    fn clear_fault(&self) {
        if self.take_fault() {
            self.reloads.inc(Reload::Taken);
        }
    }

    fn take_fault(&self) -> bool {
        let mended = self.fault.send_if_modified(|slot| slot.take().is_some());
        if mended {
            info!("{} is valid again", self.path.display());
        }
        mended
    }

    fn held(&self) -> MutexGuard<'_, SettingsState> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SettingsState {
    fn warn(&mut self) {
        for reading in self.lenient.drain(..) {
            warn!("configuration read leniently, the next save corrects the file: {reading}");
        }
        for problem in check::unknown_keys(&self.document) {
            if !self.warned.contains(&problem.key) {
                warn!("configuration key kept but not used: {problem}");
                self.warned.push(problem.key);
            }
        }
    }
}

fn generated_id() -> String {
    format!("node-{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    struct Case {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    fn case(content: Option<&str>) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node_config.json");
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        Case { _folder: folder, path }
    }

    fn patch(settings: &Settings, patch: Value) -> Result<bool, PatchError> {
        settings.patch(patch.as_object().unwrap(), |_, _| Ok(()))
    }

    #[test]
    fn a_missing_file_is_written_with_defaults_and_an_id_that_stays() {
        let case = case(None);
        let first = Settings::load_or_create(&case.path).unwrap().current();
        assert!(first.node_id.starts_with("node-") && first.node_id.len() == 13);
        let again = Settings::load_or_create(&case.path).unwrap().current();
        assert_eq!(first, again);
        let written: Value = serde_json::from_slice(&fs::read(&case.path).unwrap()).unwrap();
        assert_eq!(written["storage"]["maxSize"], 10_737_418_240_u64);
    }

    #[test]
    fn a_broken_file_is_never_overwritten() {
        for broken in ["{", "", "[1]", r#"{"syncInterval": -3}"#, "\u{0}"] {
            let case = case(Some(broken));
            assert!(Settings::load_or_create(&case.path).is_err(), "{broken:?}");
            assert_eq!(fs::read_to_string(&case.path).unwrap(), broken);
        }
    }

    #[test]
    fn saving_keeps_unknown_keys_and_order_and_writes_only_what_was_named() {
        let case = case(Some(r#"{"note": 1, "nodeId": "a", "storage": {"extra": [2]}}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        patch(&settings, json!({"storage": {"verify": "structure"}})).unwrap();
        let text = fs::read_to_string(&case.path).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            written,
            json!({"note": 1, "nodeId": "a", "storage": {"extra": [2], "verify": "structure"}})
        );
        assert!(text.find("note") < text.find("nodeId"));
    }

    #[test]
    fn a_refused_patch_changes_neither_file_nor_memory() {
        let case = case(Some(r#"{"nodeId": "a"}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        let (file, memory) = (fs::read(&case.path).unwrap(), settings.current());
        fs::create_dir(case.path.with_file_name("s")).unwrap();
        for bad in [
            json!({"syncInterval": 0}),
            json!({"nodeId": "b"}),
            json!({"nodeId": null}),
            json!({"network": null}),
            json!({"syncInterval": 3, "unknown": 1}),
            json!({"logging": {"filePath": "./node_config.json"}}),
            json!({"logging": {"filePath": "./node_config.access.json"}}),
            json!({"logging": {"filePath": "./s/../node_config.json"}}),
            json!({"logging": {"filePath": "./storage/meeting_m/package.zip"}}),
            json!({"logging": {"filePath": "./k.pem"}, "tls": {"cert": "c.pem", "key": "s/../k.pem"}}),
            json!({"logging": {"filePath": "./ca.pem"}, "mainServerCa": "ca.pem"}),
            json!({"logging": {"filePath": "./k.pem"}, "tls": {"cert": "c", "key": "k.pem.audit"}}),
        ] {
            assert!(matches!(patch(&settings, bad.clone()), Err(PatchError::Refused(_))), "{bad}");
        }
        let veto = |_: &Config, _: &Config| Err(SettingProblem::new("nodePort", None, "", "taken"));
        let wish = json!({"nodePort": 9}).as_object().cloned().unwrap();
        assert!(settings.patch(&wish, veto).is_err());
        assert_eq!((fs::read(&case.path).unwrap(), settings.current()), (file, memory));
    }

    #[test]
    fn a_change_that_is_checked_holds_up_no_other_and_loses_none() {
        let case = case(Some(r#"{"nodeId": "a"}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        let wish = json!({"syncInterval": 7}).as_object().cloned().unwrap();
        let rounds = std::cell::Cell::new(0);
        let agree = |in_force: &Config, new: &Config| {
            rounds.set(rounds.get() + 1);
            assert_eq!(in_force.shutdown_grace, new.shutdown_grace, "only its own is changed");
            if rounds.get() == 1 {
                assert!(patch(&settings, json!({"shutdownGrace": 9})).unwrap());
            }
            Ok(())
        };
        assert!(settings.patch(&wish, agree).unwrap());
        let (current, read) = (settings.current(), Settings::read(&case.path).unwrap());
        assert_eq!((current.sync_interval, current.shutdown_grace, rounds.get()), (7, 9, 2));
        assert_eq!((read.sync_interval, read.shutdown_grace), (7, 9));
    }

    #[test]
    fn what_get_shows_can_be_posted_back() {
        let case = case(Some(r#"{"nodeId": "a", "note": 1}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        let shown = serde_json::to_value(&*settings.current()).unwrap();
        patch(&settings, shown).unwrap();
    }

    #[test]
    fn a_secret_is_masked_where_it_is_shown_and_the_mask_stands_for_it() {
        let secret = "correct-horse-battery";
        for key in schema::settings().filter(|setting| setting.is_secret()).map(|s| s.key) {
            let mut document = json!({"nodeId": "a"}).as_object().unwrap().clone();
            schema::put(&mut document, key, secret.into());
            let case = case(Some(&Value::Object(document).to_string()));
            let settings = Settings::load_or_create(&case.path).unwrap();
            let before = settings.current();
            let shown = before.redacted();
            assert_eq!(schema::get(shown.as_object().unwrap(), key).unwrap(), schema::HIDDEN);
            assert!(!format!("{shown}{before:?}").contains(secret), "{key}");
            patch(&settings, shown).unwrap();
            assert_eq!(*settings.current(), *before, "{key}");
        }
    }

    #[test]
    fn an_edit_by_hand_is_taken_in_and_a_broken_one_keeps_the_last_good() {
        let case = case(Some(r#"{"nodeId": "a"}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        fs::write(&case.path, r#"{"nodeId": "a", "syncInterval": 7}"#).unwrap();
        settings.reload();
        assert_eq!(settings.current().sync_interval, 7);

        fs::write(&case.path, r#"{"nodeId": "a", "syncInterval": 8000}"#).unwrap();
        settings.reload();
        assert_eq!(settings.current().sync_interval, 7);
        assert!(settings.fault().unwrap().contains("syncInterval = 8000"));
        let refused = patch(&settings, json!({"syncInterval": 9}));
        assert!(matches!(refused, Err(PatchError::FileFaulty(_))));
        assert!(fs::read_to_string(&case.path).unwrap().contains("8000"));

        fs::write(&case.path, r#"{"nodeId": "a", "syncInterval": 8}"#).unwrap();
        settings.reload();
        assert_eq!((settings.current().sync_interval, settings.fault()), (8, None));
    }

    #[test]
    fn an_edit_that_no_event_told_of_is_not_lost_by_a_save() {
        let case = case(Some(r#"{"nodeId": "a"}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        fs::write(&case.path, r#"{"nodeId": "a", "nodePort": 9000}"#).unwrap();
        patch(&settings, json!({"syncInterval": 4})).unwrap();
        let current = settings.current();
        assert_eq!((current.node_port, current.sync_interval), (9000, 4));
    }

    #[test]
    fn our_own_save_is_no_edit() {
        let case = case(Some(r#"{"nodeId": "a"}"#));
        let settings = Settings::load_or_create(&case.path).unwrap();
        let mut changes = settings.subscribe();
        patch(&settings, json!({"syncInterval": 4})).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        settings.reload();
        assert!(!changes.has_changed().unwrap());
    }
}
