//! The access file of a main server that shares it with others. It has what was last shared,
//! too, in the same file: where the two differ, it was changed here, by `edge-mirror token`
//! for example, and the others get what was changed.

use tracing::warn;

use super::{
    merge::{merge, merge_replaced},
    secrets::AccessSecrets,
    vault::{Vault, VaultError},
};

/// Credentials that were changed here.
pub struct ChangedAccess {
    /// The shared ones that were changed; None if they were never shared.
    pub base: Option<String>,
    pub text: String,
}

impl Vault {
    /// At the start: takes what the others have. What was changed here since the file was
    /// last shared stays changed.
    pub fn take_over_shared(&self, shared: &str) -> Result<(), VaultError> {
        self.take_shared(shared, |_, theirs| theirs).map(drop)
    }

    /// Takes what others changed since it was last shared, and makes a file that is missing or
    /// damaged anew; true if the file was changed.
    pub fn merge_shared(&self, shared: &str) -> Result<bool, VaultError> {
        self.take_shared(shared, |ours, theirs| merge(None, ours, theirs))
    }

    /// The file's content, if it was changed here since it was last shared.
    pub fn changed_access(&self) -> Option<ChangedAccess> {
        let secrets = self.current_secrets()?;
        let text = secrets.without_shared().to_text();
        let base = secrets.shared.filter(|base| !base.is_empty());
        // As this version reads it.
        let read = base.as_deref().and_then(|base| serde_json::from_str(base).ok());
        let is_changed = read.is_none_or(|base: AccessSecrets| base.to_text() != text);
        is_changed.then_some(ChangedAccess { base, text })
    }

    /// The file's content, to be shared where nobody has shared any. What is changed from now
    /// on, before it is shared, is a change of it.
    pub fn first_access(&self) -> Option<ChangedAccess> {
        let text = self.with_lock(|| {
            let Some(secrets) = self.read()? else { return Ok(None) };
            let text = secrets.without_shared().to_text();
            if secrets.shared.as_ref() != Some(&text) {
                self.save(&AccessSecrets { shared: Some(text.clone()), ..secrets })?;
            }
            Ok(Some(text))
        });
        text.ok().flatten().map(|text| ChangedAccess { base: None, text })
    }

    fn take_shared(
        &self,
        shared: &str,
        merge_first: impl FnOnce(AccessSecrets, AccessSecrets) -> AccessSecrets,
    ) -> Result<bool, VaultError> {
        let is_taken = |secrets: AccessSecrets| secrets.shared.as_deref() == Some(shared);
        if self.current_secrets().is_some_and(is_taken) {
            return Ok(false);
        }
        self.with_lock(|| {
            let theirs: AccessSecrets =
                serde_json::from_str(shared).map_err(|cause| self.damaged(&cause.to_string()))?;
            let merged = match self.read() {
                Ok(Some(ours)) => match ours.shared.as_deref().map(serde_json::from_str) {
                    None => merge_first(ours, theirs),
                    Some(Ok(base)) => merge(Some(&base), ours, theirs),
                    Some(Err(_)) => merge_replaced(ours, theirs),
                },
                Ok(None) => theirs,
                // Nobody could log in with it anyway.
                Err(damaged @ VaultError::Damaged { .. }) => {
                    warn!("{damaged}; it is made anew from the one that main servers share");
                    theirs
                }
                Err(error) => return Err(error),
            };
            self.save(&AccessSecrets { shared: Some(shared.to_owned()), ..merged })?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::access::NodeKeyCheck;

    struct Case {
        folder: tempfile::TempDir,
        here: Vault,
        /// That of another main server.
        there: Vault,
    }

    impl Case {
        /// Two servers of which this one was never started.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let [here, there] = ["here.json", "there.json"].map(|name| folder.path().join(name));
            Self { here: Vault::at(here), there: Vault::open(there).0, folder }
        }

        fn shared(&self) -> String {
            self.there.text().unwrap()
        }

        fn start(&self) {
            self.here.take_over_shared(&self.shared()).unwrap();
        }

        /// As the program has it that runs or is started next.
        fn here_anew(&self) -> Vault {
            Vault::at(self.here.path().to_owned())
        }
    }

    #[test]
    fn what_was_changed_here_while_it_did_not_run_is_kept() {
        let case = Case::new();
        // With a token of its own, but never shared: the others count.
        Vault::open(case.here.path().to_owned());
        case.start();
        assert_eq!(case.here.text(), Some(case.shared()));
        assert!(case.here.changed_access().is_none());
        case.there.set_node_key(Some("a key of nodes")).unwrap();
        case.start();
        assert_eq!(case.here.text(), Some(case.shared()));
        let base = case.shared();
        let token = case.here.replace_token().unwrap().token;
        case.there.set_node_key(Some("another key")).unwrap();
        let changed = case.here.changed_access().unwrap();
        assert_eq!((changed.base, Some(changed.text)), (Some(base), case.here.text()));
        case.start();
        assert!(case.here.log_in(&token).unwrap().is_some(), "a new token is not undone");
        assert_eq!(case.here.check_node_key(Some("another key")), NodeKeyCheck::Right);
    }

    #[test]
    fn a_token_that_is_made_while_the_first_one_is_being_shared_counts() {
        let case = Case::new();
        let first = case.there.first_access().unwrap();
        assert!(first.base.is_none() && case.there.changed_access().is_none());
        let token = case.there.replace_token().unwrap().token;
        // Only now is the first one saved.
        case.there.merge_shared(&first.text).unwrap();
        assert!(case.there.log_in(&token).unwrap().is_some());
        assert_eq!(case.there.changed_access().unwrap().base, Some(first.text));
    }

    #[test]
    fn a_file_that_was_lost_is_made_anew_and_a_token_that_replaced_it_counts() {
        let case = Case::new();
        let lose: [fn(&Path); 2] =
            [|path| fs::remove_file(path).unwrap(), |path| fs::write(path, "{").unwrap()];
        for lose in lose {
            case.start();
            lose(case.here.path());
            assert!(case.here.merge_shared(&case.shared()).unwrap(), "while it runs");
            assert_eq!(case.here.text(), Some(case.shared()));
            assert!(!case.here.merge_shared(&case.shared()).unwrap());
            lose(case.here.path());
            case.start();
            assert_eq!(case.here.text(), Some(case.shared()));
        }
        case.there.set_node_key(Some("a key of nodes")).unwrap();
        for lose in lose {
            lose(case.here.path());
            let made = case.here.replace_token().unwrap();
            assert!(!made.key_kept && case.here.changed_access().unwrap().base.is_none());
            case.start();
            assert!(case.here.log_in(&made.token).unwrap().is_some());
            assert_eq!(case.here.check_node_key(Some("a key of nodes")), NodeKeyCheck::Right);
            assert!(case.here.changed_access().is_some(), "the others get the new token");
        }
    }

    /// A crash may come after any of these steps: each leaves one file.
    #[test]
    fn a_token_that_was_revoked_elsewhere_stays_revoked_whenever_this_server_was_killed() {
        let case = Case::new();
        case.start();
        let revoked = case.there.replace_token().unwrap().token;
        // It took the token, and was killed at once.
        case.here.merge_shared(&case.shared()).unwrap();
        case.there.replace_token().unwrap();
        let restarted = case.here_anew();
        restarted.take_over_shared(&case.shared()).unwrap();
        assert!(!restarted.log_in(&revoked).is_ok_and(|session| session.is_some()));
        assert!(restarted.changed_access().is_none(), "nothing of it goes to the others");
        let names = fs::read_dir(case.folder.path()).unwrap().map(|file| file.unwrap().file_name());
        let names: Vec<_> =
            names.filter(|name| !name.to_string_lossy().ends_with("lock")).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn what_could_not_be_taken_is_taken_later_and_what_was_changed_here_stays() {
        let case = Case::new();
        case.start();
        let (code, other) =
            (case.here.new_code().unwrap().unwrap(), case.there.new_code().unwrap().unwrap());
        // No file can take this one's place.
        let path = case.here.path();
        let before = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        case.here.merge_shared(&case.shared()).unwrap_err();
        fs::remove_dir(path).unwrap();
        fs::write(path, before).unwrap();
        assert!(case.here.merge_shared(&case.shared()).unwrap());
        assert_eq!(case.here.changed_access().unwrap().base, Some(case.shared()));
        for code in [code, other] {
            assert!(case.here.log_in(&code).unwrap().is_some());
        }
    }
}
