//! The access file of main servers that share one, changed at two of them at once. Pure.

use super::secrets::AccessSecrets;

/// Merges the texts of access files: [`merge`].
pub fn merge_texts(
    base: Option<&str>,
    ours: &str,
    theirs: &str,
) -> Result<String, serde_json::Error> {
    let base = base.map(serde_json::from_str).transpose()?;
    let (ours, theirs) = (serde_json::from_str(ours)?, serde_json::from_str(theirs)?);
    Ok(merge(base.as_ref(), ours, theirs).to_text())
}

/// Returns `theirs` with what was changed from `base` to `ours`. Codes that were redeemed at
/// either stay redeemed, logins that were ended stay ended; and a new token ends whatever the
/// old one gave, also what the other one has just added. Without a base, as when two main
/// servers start for the first time at once, `theirs` counts, and the codes of both log in.
pub(super) fn merge(
    base: Option<&AccessSecrets>,
    ours: AccessSecrets,
    theirs: AccessSecrets,
) -> AccessSecrets {
    let Some(base) = base else {
        let codes = merged(&[], &ours.codes, &theirs.codes, |code| code.sha256);
        let node_key_sha256 = theirs.node_key_sha256.or(ours.node_key_sha256);
        return AccessSecrets { codes, node_key_sha256, ..theirs };
    };
    let node_key_sha256 = match ours.node_key_sha256 == base.node_key_sha256 {
        true => theirs.node_key_sha256,
        false => ours.node_key_sha256,
    };
    let secrets = if ours.token_sha256 == theirs.token_sha256 {
        let session_key = match ours.session_key == base.session_key {
            true => theirs.session_key,
            false => ours.session_key,
        };
        let codes = merged(&base.codes, &ours.codes, &theirs.codes, |code| code.sha256);
        let ended = merged(&base.ended, &ours.ended, &theirs.ended, |ended| ended.id.clone());
        AccessSecrets { session_key, codes, ended, ..theirs }
    } else if ours.token_sha256 == base.token_sha256 {
        theirs
    } else {
        // The later one of two new tokens.
        ours
    };
    AccessSecrets { node_key_sha256, ..secrets }
}

/// Returns `ours`, whose new token was made while nothing was known of what was shared.
pub(super) fn merge_replaced(ours: AccessSecrets, theirs: AccessSecrets) -> AccessSecrets {
    AccessSecrets { node_key_sha256: theirs.node_key_sha256.or(ours.node_key_sha256), ..ours }
}

/// Theirs without what we removed, and what we added.
fn merged<T: Clone, K: PartialEq>(
    base: &[T],
    ours: &[T],
    theirs: &[T],
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let has = |list: &[T], item: &T| list.iter().any(|found| key(found) == key(item));
    let kept = theirs.iter().filter(|item| has(ours, item) || !has(base, item));
    let added = ours.iter().filter(|item| !has(base, item) && !has(theirs, item));
    kept.chain(added).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::secrets::{EndedSession, digest};

    fn secrets(change: impl FnOnce(&mut AccessSecrets)) -> AccessSecrets {
        let mut secrets = AccessSecrets {
            token_sha256: digest("token"),
            realm: "realm".into(),
            session_key: "key".into(),
            codes: Vec::new(),
            ended: Vec::new(),
            node_key_sha256: None,
            shared: None,
        };
        for code in ["a", "b"] {
            secrets.add_code(code);
        }
        change(&mut secrets);
        secrets
    }

    fn end(id: &str) -> impl FnOnce(&mut AccessSecrets) {
        move |secrets| secrets.ended.push(EndedSession { id: id.into(), until_s: 1 })
    }

    fn redeem(code: &str) -> impl FnOnce(&mut AccessSecrets) {
        move |secrets| secrets.codes.retain(|kept| kept.sha256 != digest(code))
    }

    fn replace_token(token: &str) -> impl FnOnce(&mut AccessSecrets) {
        move |secrets| {
            (secrets.token_sha256, secrets.realm) = (digest(token), token.into());
            (secrets.session_key, secrets.codes) = (token.into(), Vec::new());
        }
    }

    fn codes(secrets: &AccessSecrets) -> Vec<&str> {
        let names = ["a", "b", "c", "d"];
        let named = |name: &&str| secrets.codes.iter().any(|code| code.sha256 == digest(name));
        names.into_iter().filter(named).collect()
    }

    #[test]
    fn what_was_added_or_ended_at_either_is_so_at_both() {
        let base = secrets(|_| ());
        let ours = secrets(|secrets| {
            redeem("a")(secrets);
            secrets.add_code("c");
            end("here")(secrets);
        });
        let theirs = secrets(|secrets| {
            redeem("b")(secrets);
            secrets.add_code("d");
            end("there")(secrets);
            secrets.node_key_sha256 = Some(digest("nodes"));
        });
        let merged = merge(Some(&base), ours, theirs);
        assert_eq!(codes(&merged), ["c", "d"]);
        let ended: Vec<_> = merged.ended.iter().map(|ended| &*ended.id).collect();
        assert_eq!(ended, ["there", "here"]);
        assert_eq!(merged.node_key_sha256, Some(digest("nodes")));
    }

    #[test]
    fn a_new_token_ends_what_is_added_beside_it() {
        let base = secrets(|_| ());
        let added = || secrets(|secrets| secrets.add_code("c"));
        let replaced = || secrets(replace_token("new"));
        for (ours, theirs) in [(added(), replaced()), (replaced(), added())] {
            let merged = merge(Some(&base), ours, theirs);
            assert_eq!(merged.token_sha256, digest("new"));
            assert_eq!((merged.session_key.as_str(), codes(&merged).len()), ("new", 0));
        }
        let merged = merge(Some(&base), secrets(replace_token("newer")), replaced());
        assert_eq!((merged.token_sha256, merged.realm.as_str()), (digest("newer"), "newer"));
        // A key of nodes is no credential of operators.
        let keyed = secrets(|secrets| secrets.node_key_sha256 = Some(digest("nodes")));
        let merged = merge(Some(&base), keyed, replaced());
        assert_eq!(merged.token_sha256, digest("new"));
        assert_eq!(merged.node_key_sha256, Some(digest("nodes")));
    }

    #[test]
    fn a_new_session_key_counts_whoever_made_it() {
        let base = secrets(end("x"));
        let rekeyed = || {
            secrets(|secrets| {
                secrets.session_key = "new".into();
                end("y")(secrets);
            })
        };
        for (ours, theirs) in [(rekeyed(), secrets(end("x"))), (secrets(end("x")), rekeyed())] {
            assert_eq!(merge(Some(&base), ours, theirs).session_key, "new");
        }
    }

    #[test]
    fn of_two_that_start_at_once_both_codes_log_in() {
        let ours = secrets(|secrets| {
            replace_token("ours")(secrets);
            secrets.add_code("c");
        });
        let merged = merge(None, ours, secrets(|_| ()));
        assert_eq!(merged.token_sha256, digest("token"));
        assert_eq!(codes(&merged), ["a", "b", "c"]);
    }
}
