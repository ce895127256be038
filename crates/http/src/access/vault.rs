//! Credentials: one small file beside the configuration that only its owner can read
//! (`secrets` is its content).
//!
//! `edge-mirror token` writes the file while a node runs, so it is read again when it has
//! changed, and every edit takes its lock.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use edge_mirror_base::{atomic, clock::now_s, log::AUDIT};
use edge_mirror_protocol::package::Sha256;
use thiserror::Error;
use tracing::{error, info};

use super::{
    secrets::{
        AccessSecrets, EndedSession, constant_time_eq, cookie_name, digest, random, random_text,
    },
    session::{SESSION_TTL_S, Session},
};

/// Far more than it ever needs.
const MAX_BYTES: u64 = 1 << 20;
/// A key that is changed by another process counts after this.
const LATELY: Duration = Duration::from_secs(1);
/// Sessions logged out before they expired. More than that in a week is not human: then
/// all sessions end.
const MAX_ENDED: usize = 1000;

#[derive(Debug, Error)]
pub enum VaultError {
    #[error("cannot read {path}: {cause}; run this as its owner, or as root")]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{path} is damaged ({cause}); `edge-mirror token --new` makes it anew")]
    Damaged { path: PathBuf, cause: String },
    #[error("cannot write {path}: {cause}; check the folder, its permissions and free space")]
    Unwritable { path: PathBuf, cause: io::Error },
    #[error("the system has no random numbers: {0}")]
    NoRandomness(getrandom::Error),
}

impl VaultError {
    /// True if the file is unchanged: out of descriptors, for example.
    fn is_transient(&self) -> bool {
        let kept = |cause: &io::Error| cause.kind() != io::ErrorKind::PermissionDenied;
        matches!(self, Self::Unreadable { cause, .. } if kept(cause))
    }
}

/// A new session and its cookie.
pub struct SessionCookie {
    pub name: String,
    pub session: Session,
    pub(crate) sealed: String,
}

/// A new token.
pub struct NewCredentials {
    pub token: String,
    /// False if there was no valid file with the nodes' key.
    pub key_kept: bool,
}

/// The key of a node's request, compared with the one that nodes have to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKeyCheck {
    NotRequired,
    Right,
    /// Or missing.
    Wrong,
}

/// Clones share their state.
#[derive(Clone)]
pub struct Vault {
    path: Arc<PathBuf>,
    held: Arc<Mutex<VaultState>>,
}

#[derive(Default)]
struct VaultState {
    /// Stamp of the last file read.
    stamp: Option<Stamp>,
    /// The last look at the disk.
    looked_at: Option<Instant>,
    /// None while the file can't be read: then nobody can log in.
    secrets: Option<AccessSecrets>,
    /// From the last read: nodes go on without the file.
    node_key: Option<Option<Sha256>>,
    /// The last error that was logged.
    logged: Option<String>,
}

impl VaultState {
    fn compare_node_key(&self, key: Option<&str>) -> NodeKeyCheck {
        match (self.node_key, key) {
            (Some(None), _) => NodeKeyCheck::NotRequired,
            (Some(Some(right)), Some(key)) if constant_time_eq(right, digest(key)) => {
                NodeKeyCheck::Right
            }
            (None | Some(Some(_)), _) => NodeKeyCheck::Wrong,
        }
    }
}

/// Tells one file from another: each edit makes a new one. With its change time, as
/// permissions count, too.
type Stamp = (u64, i64, i64, u64, i64, i64);

impl Vault {
    /// Returns its path beside a configuration file.
    pub fn path_beside(config: &Path) -> PathBuf {
        edge_mirror_settings::access_path(config)
    }

    /// Opens the file, or creates it with a code that logs in once, which is returned.
    /// Nobody knows the token of a new file: [`replace_token`](Self::replace_token) makes
    /// one that can be shown. If the file is bad, that is logged; then nobody can log in,
    /// and everything else goes on.
    pub fn open(path: PathBuf) -> (Self, Option<String>) {
        let vault = Self::at(path);
        let made = vault.with_lock(|| match vault.read()? {
            Some(_) => Ok(None),
            None => {
                let ((mut secrets, _), code) = (AccessSecrets::generate()?, random_text()?);
                secrets.add_code(&code);
                vault.save(&secrets).map(|()| Some(code))
            }
        });
        let made = made.unwrap_or_else(|error| {
            error!("nobody can log in: {error}");
            None
        });
        vault.current_secrets();
        (vault, made)
    }

    /// Opens the file for `edge-mirror token`, which may have to create it.
    pub fn at(path: PathBuf) -> Self {
        Self { path: Arc::new(path), held: Arc::default() }
    }

    /// Makes a new token. Ends all sessions, codes and the old token.
    pub fn replace_token(&self) -> Result<NewCredentials, VaultError> {
        self.with_lock(|| {
            let (mut secrets, token) = AccessSecrets::generate()?;
            let before = self.read();
            let key_kept = matches!(before, Ok(Some(_)));
            match before {
                Ok(Some(before)) => {
                    // It is no credential of operators: it stays.
                    secrets.node_key_sha256 = before.node_key_sha256;
                    secrets.shared = before.shared;
                }
                // What main servers share is not to undo the new token.
                Ok(None) | Err(_) => secrets.shared = Some(String::new()),
            }
            self.save(&secrets)?;
            Ok(NewCredentials { token, key_kept })
        })
    }

    /// Returns a code that logs in once, within the hour; None without a file.
    pub fn new_code(&self) -> Result<Option<String>, VaultError> {
        let code = random_text()?;
        let added = self.edit(|secrets| secrets.add_code(&code))?;
        Ok(added.map(|()| code))
    }

    pub(crate) fn is_token(&self, token: &str) -> bool {
        self.current_secrets()
            .is_some_and(|secrets| constant_time_eq(secrets.token_sha256, digest(token)))
    }

    /// Redeems a code: true if it was valid.
    pub(crate) fn redeem(&self, code: &str) -> Result<bool, VaultError> {
        let offered = digest(code);
        let known = |secrets: &AccessSecrets| {
            secrets.codes.iter().any(|c| constant_time_eq(c.sha256, offered))
        };
        if !self.current_secrets().is_some_and(|secrets| known(&secrets)) {
            return Ok(false);
        }
        // A code that could not be deleted would work again.
        let redeemed = self.edit(|secrets| {
            let before = secrets.codes.len();
            secrets.codes.retain(|code| !constant_time_eq(code.sha256, offered));
            secrets.codes.len() < before
        })?;
        Ok(redeemed == Some(true))
    }

    /// Begins a session for the token or a code. An error means that nobody could have
    /// logged in.
    pub fn log_in(&self, shown: &str) -> Result<Option<SessionCookie>, VaultError> {
        // One read for all: if a token is being replaced, it must not lead to a session
        // of the next one.
        let Some(secrets) = self.current_secrets() else {
            return match self.read() {
                Err(error) => Err(error),
                Ok(_) => Err(self.damaged("it is missing or has only just changed")),
            };
        };
        let good = constant_time_eq(secrets.token_sha256, digest(shown)) || self.redeem(shown)?;
        if !good {
            return Ok(None);
        }
        let id = URL_SAFE_NO_PAD.encode(random::<16>()?);
        let session = Session { id, until_s: now_s() + SESSION_TTL_S };
        let key = secrets.key().ok_or_else(|| self.damaged("its key is no key"))?;
        let sealed = session.seal(&key);
        Ok(Some(SessionCookie { name: cookie_name(&secrets), session, sealed }))
    }

    pub(super) fn damaged(&self, cause: &str) -> VaultError {
        VaultError::Damaged { path: self.path.to_path_buf(), cause: cause.to_owned() }
    }

    /// Returns why nobody can log in, if so.
    pub fn fault(&self) -> Option<String> {
        match self.read() {
            Ok(Some(_)) => None,
            Ok(None) => {
                let path = self.path.display();
                Some(format!("{path} is missing; `edge-mirror token --new` makes it anew"))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Returns when the session of a cookie ends.
    pub fn session(&self, cookies: &[(String, String)]) -> Option<u64> {
        self.find_session(&self.current_secrets()?, cookies).map(|session| session.until_s)
    }

    /// Ends the session of these cookies for good, with all copies of them; returns the
    /// cookie's name, if there was one.
    pub(crate) fn end_session(
        &self,
        cookies: &[(String, String)],
    ) -> Result<Option<String>, VaultError> {
        let Some(secrets) = self.current_secrets() else { return Ok(None) };
        let Some(Session { id, until_s }) = self.find_session(&secrets, cookies) else {
            return Ok(None);
        };
        let new_key = URL_SAFE_NO_PAD.encode(random::<32>()?);
        self.edit(|secrets| {
            if secrets.ended.len() >= MAX_ENDED {
                secrets.ended.clear();
                secrets.session_key = new_key;
            }
            secrets.ended.push(EndedSession { id, until_s });
        })?;
        Ok(Some(cookie_name(&secrets)))
    }

    /// Compares the key that a node sent, if it sent one. Reads the disk. Every key is wrong
    /// while nothing is known.
    pub fn check_node_key(&self, key: Option<&str>) -> NodeKeyCheck {
        self.current_secrets();
        self.held().compare_node_key(key)
    }

    /// The same without the disk, if that was read a moment ago.
    pub fn check_node_key_lately_read(&self, key: Option<&str>) -> Option<NodeKeyCheck> {
        let held = self.held();
        held.looked_at.filter(|at| at.elapsed() < LATELY)?;
        Some(held.compare_node_key(key))
    }

    /// Sets the key that nodes must send; None for no key.
    pub fn set_node_key(&self, key: Option<&str>) -> Result<(), VaultError> {
        let sha256 = key.map(digest);
        self.edit(|secrets| secrets.node_key_sha256 = sha256).map(drop)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content for another main server of the fleet; None if nobody can log in.
    pub fn text(&self) -> Option<String> {
        self.current_secrets().map(|secrets| secrets.without_shared().to_text())
    }

    fn find_session(
        &self,
        secrets: &AccessSecrets,
        cookies: &[(String, String)],
    ) -> Option<Session> {
        let (name, key, now_s) = (cookie_name(secrets), secrets.key()?, now_s());
        let ours = cookies.iter().filter(|(found, _)| *found == name);
        let mut good = ours.filter_map(|(_, sealed)| Session::unseal(sealed, &key, now_s));
        good.find(|session| !secrets.ended.iter().any(|ended| ended.id == session.id))
    }

    /// Returns the current secrets. Reads the disk.
    pub(super) fn current_secrets(&self) -> Option<AccessSecrets> {
        let stamp = fs::metadata(&*self.path)
            .ok()
            .map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len(), m.ctime(), m.ctime_nsec()));
        let mut held = self.held();
        held.looked_at = Some(Instant::now());
        if held.stamp != stamp || stamp.is_none() {
            // A failure is not remembered with its stamp: it may pass without a change of
            // the file.
            match self.read() {
                Ok(secrets) => {
                    let token =
                        |secrets: &Option<AccessSecrets>| Some(secrets.as_ref()?.token_sha256);
                    let tokens = token(&held.secrets).zip(token(&secrets));
                    if tokens.is_some_and(|(before, now)| before != now) {
                        info!(target: AUDIT, "the admin token was replaced, all logins have ended");
                    }
                    let node_key = secrets.as_ref().map(|secrets| secrets.node_key_sha256);
                    *held = VaultState {
                        stamp,
                        looked_at: held.looked_at,
                        node_key: node_key.or(held.node_key),
                        secrets,
                        logged: None,
                    };
                }
                Err(error) if error.is_transient() => {}
                Err(error) => {
                    let text = error.to_string();
                    if held.logged.as_ref() != Some(&text) {
                        error!("nobody can log in: {text}");
                    }
                    *held = VaultState { stamp: None, secrets: None, logged: Some(text), ..*held };
                }
            }
        }
        held.secrets.clone()
    }

    /// Returns None without a file.
    fn edit<T>(
        &self,
        change: impl FnOnce(&mut AccessSecrets) -> T,
    ) -> Result<Option<T>, VaultError> {
        self.with_lock(|| {
            let Some(mut secrets) = self.read()? else { return Ok(None) };
            secrets.remove_expired();
            let outcome = change(&mut secrets);
            self.save(&secrets)?;
            Ok(Some(outcome))
        })
    }

    pub(super) fn with_lock<T>(
        &self,
        work: impl FnOnce() -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let outcome = atomic::with_lock(&self.path, work);
        outcome.map_err(|cause| VaultError::Unwritable { path: self.path.to_path_buf(), cause })?
    }

    pub(super) fn read(&self) -> Result<Option<AccessSecrets>, VaultError> {
        let path = self.path.to_path_buf();
        // Nothing that blocks, or never ends.
        if fs::metadata(&path).is_ok_and(|found| !found.is_file() || found.len() > MAX_BYTES) {
            let cause = format!("it is no file of at most {MAX_BYTES} bytes");
            return Err(VaultError::Damaged { path, cause });
        }
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(VaultError::Unreadable { path, cause }),
        };
        match serde_json::from_slice(&bytes) {
            Ok(secrets) => Ok(Some(secrets)),
            Err(cause) => Err(VaultError::Damaged { path, cause: cause.to_string() }),
        }
    }

    pub(super) fn save(&self, secrets: &AccessSecrets) -> Result<(), VaultError> {
        let written = atomic::write_private(&self.path, secrets.to_text().as_bytes());
        // At once, and for this program.
        self.held().looked_at = None;
        written.map_err(|cause| VaultError::Unwritable { path: self.path.to_path_buf(), cause })
    }

    fn held(&self) -> MutexGuard<'_, VaultState> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Case {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    fn case() -> Case {
        let folder = tempfile::tempdir().unwrap();
        let path = Vault::path_beside(&folder.path().join("node_config.json"));
        Case { _folder: folder, path }
    }

    /// A vault with a known token.
    fn opened(case: &Case) -> (Vault, String) {
        let (vault, _) = Vault::open(case.path.clone());
        let token = vault.replace_token().unwrap().token;
        (vault, token)
    }

    fn cookies(begun: SessionCookie) -> Vec<(String, String)> {
        vec![("other".to_owned(), "x".to_owned()), (begun.name, begun.sealed)]
    }

    #[test]
    fn a_new_file_gives_a_code_and_keeps_digests_that_only_the_owner_reads() {
        let case = case();
        let (first, code) = Vault::open(case.path.clone());
        let code = code.unwrap();
        assert!(!first.is_token(&code) && !fs::read_to_string(&case.path).unwrap().contains(&code));
        assert!(first.log_in(&code).unwrap().is_some() && first.log_in(&code).unwrap().is_none());
        let (vault, token) = opened(&case);
        let text = fs::read_to_string(&case.path).unwrap();
        assert!(!text.contains(&token) && text.contains("token_sha256"));
        assert_eq!(fs::metadata(&case.path).unwrap().permissions().mode() & 0o777, 0o600);
        let (again, told) = Vault::open(case.path.clone());
        assert_eq!(told, None);
        for vault in [vault, again] {
            assert!(vault.is_token(&token));
            assert!(!vault.is_token("") && !vault.is_token(&token[1..]));
        }
    }

    #[test]
    fn a_new_token_ends_everything_that_the_old_one_gave() {
        let case = case();
        let (running, token) = opened(&case);
        running.set_node_key(Some("node-key")).unwrap();
        let code = running.new_code().unwrap().unwrap();
        let session = cookies(running.log_in(&token).unwrap().unwrap());
        assert!(running.session(&session).is_some());
        // By another process, for example.
        let made = Vault::at(case.path.clone()).replace_token().unwrap();
        let new = made.token;
        assert!(made.key_kept);
        assert!(running.is_token(&new) && !running.is_token(&token));
        assert!(!running.redeem(&code).unwrap());
        assert_eq!(running.session(&session), None);
        let renamed = vec![(running.log_in(&new).unwrap().unwrap().name, session[1].1.clone())];
        assert_eq!(running.session(&renamed), None, "another name does not help");
        assert_eq!(running.check_node_key(Some("node-key")), NodeKeyCheck::Right);
        assert_eq!(running.check_node_key(None), NodeKeyCheck::Wrong);
    }

    #[test]
    fn a_code_works_once_and_only_for_an_hour() {
        let case = case();
        let (running, _) = Vault::open(case.path.clone());
        let code = Vault::at(case.path.clone()).new_code().unwrap().unwrap();
        assert!(!running.is_token(&code), "a code is no token");
        assert!(running.redeem(&code).unwrap() && !running.redeem(&code).unwrap());
        let late = running.new_code().unwrap().unwrap();
        let text = fs::read_to_string(&case.path).unwrap();
        let mut stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        for code in stored["codes"].as_array_mut().unwrap() {
            code["until_s"] = now_s().into();
        }
        fs::write(&case.path, stored.to_string()).unwrap();
        assert!(!running.redeem(&late).unwrap());
    }

    #[test]
    fn a_session_ends_by_logging_out_even_for_who_has_a_copy_and_after_a_restart() {
        let case = case();
        let (vault, token) = opened(&case);
        let begin = || vault.log_in(&token).unwrap().unwrap();
        let (one, other) = (begin(), begin());
        let (one, other) = (cookies(one), cookies(other));
        assert!(vault.end_session(&one).unwrap().is_some());
        assert!(vault.end_session(&one).unwrap().is_none(), "once is enough");
        for vault in [vault, Vault::open(case.path.clone()).0] {
            assert_eq!(vault.session(&one), None);
            assert!(vault.session(&other).is_some());
        }
    }

    #[test]
    fn a_damaged_file_lets_nobody_in_and_is_left_as_it_is_until_a_new_token_is_made() {
        let case = case();
        let (running, token) = opened(&case);
        fs::write(&case.path, "{").unwrap();
        assert!(!running.is_token(&token));
        assert!(matches!(running.new_code(), Err(VaultError::Damaged { .. })));
        assert_eq!(Vault::open(case.path.clone()).1, None);
        assert_eq!(fs::read_to_string(&case.path).unwrap(), "{");
        assert!(running.fault().unwrap().contains("damaged"));
        let made = running.replace_token().unwrap();
        assert!(running.is_token(&made.token) && !made.key_kept);
        assert_eq!(running.fault(), None);
        fs::remove_file(&case.path).unwrap();
        assert!(!running.is_token(&made.token), "no file, no rights");
        assert!(running.new_code().unwrap().is_none());
        assert!(running.fault().unwrap().contains("missing"));
    }

    #[test]
    fn nodes_go_on_as_before_while_the_file_is_away() {
        for key in [None, Some("a-key-of-nodes")] {
            let case = case();
            let (running, _) = Vault::open(case.path.clone());
            running.set_node_key(key).unwrap();
            let (right, wrong) = match key {
                Some(_) => (NodeKeyCheck::Right, NodeKeyCheck::Wrong),
                None => (NodeKeyCheck::NotRequired, NodeKeyCheck::NotRequired),
            };
            assert_eq!(running.check_node_key(key), right);
            fs::write(&case.path, "{").unwrap();
            assert_eq!(running.check_node_key(key), right);
            assert_eq!(running.check_node_key(Some("wrong")), wrong);
            fs::remove_file(&case.path).unwrap();
            assert_eq!(running.check_node_key(key), right);
            fs::write(&case.path, "{").unwrap();
            let (begun, _) = Vault::open(case.path.clone());
            assert_eq!(begun.check_node_key(key), NodeKeyCheck::Wrong, "nothing is known");
        }
    }

    #[test]
    fn what_can_not_be_read_now_is_read_when_it_can() {
        let case = case();
        let (running, token) = opened(&case);
        let good = fs::read(&case.path).unwrap();
        fs::remove_file(&case.path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &case.path, rustix::fs::Mode::RWXU).unwrap();
        assert!(!running.is_token(&token), "a pipe is not waited for");
        assert!(matches!(running.log_in(&token), Err(VaultError::Damaged { .. })));
        fs::remove_file(&case.path).unwrap();
        fs::write(&case.path, good).unwrap();
        assert!(running.is_token(&token));
        assert!(running.log_in(&token).unwrap().is_some());
    }
}
