//! Files of certificates that are replaced, and such as can't be used.

use std::path::Path;

use serde_json::json;

use super::{HERE, Secure};
use crate::support::{
    ScriptedMain,
    certificates::{replace, shown},
    process::{NodeFolder, run},
    until,
};

async fn until_shown(node: &Secure, pair: &crate::support::certificates::Pair) {
    until("another certificate", async || {
        (shown(&node.authority, node.address()).await == pair.der()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_another_folder_is_followed_when_it_is_turned() {
    let main = ScriptedMain::start().await;
    let node = Secure::of(&main.authority(), json!({})).await;
    // As certbot keeps them: the names are links into an archive.
    let archive = node.folder.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let turn = |to: &Path, name: &str| {
        let (new, link) = (archive.join("new"), node.folder.path().join(name));
        std::os::unix::fs::symlink(to.join(name), &new).unwrap();
        std::fs::rename(new, link).unwrap();
    };
    for version in ["1", "2", "3"] {
        let (pair, folder) = (node.authority.pair(HERE), archive.join(version));
        std::fs::create_dir(&folder).unwrap();
        pair.write(&folder);
        turn(&folder, "cert.pem");
        turn(&folder, "key.pem");
        until_shown(&node, &pair).await;
    }
    // And written to in place.
    let pair = node.authority.pair(HERE);
    std::fs::write(archive.join("3/cert.pem"), &pair.cert).unwrap();
    std::fs::write(archive.join("3/key.pem"), &pair.key).unwrap();
    until_shown(&node, &pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_became_bad_change_nothing_and_are_told_until_they_are_good() {
    let main = ScriptedMain::start().await;
    let node = Secure::of(&main.authority(), json!({})).await;
    let cert = node.folder.path().join("cert.pem");
    let file = cert.display().to_string();
    replace(&cert, "not a certificate");
    let told = node.until_problems(|problems| problems.contains("certificate_unusable")).await;
    assert!(told.contains(&file) && told.contains("it has no certificate"), "{told}");
    assert_eq!(shown(&node.authority, node.address()).await, node.pair.der());
    // A setting that has nothing to do with it can be changed.
    assert_eq!(node.patch(json!({"syncInterval": 2})).await.0, 200);
    let new = node.authority.pair(HERE);
    new.write(node.folder.path());
    until_shown(&node, &new).await;
    node.until_problems(|problems| !problems.contains("certificate_unusable")).await;
    std::fs::remove_file(&cert).unwrap();
    let told = node.until_problems(|problems| problems.contains("certificate_unusable")).await;
    assert!(told.contains("can't be read"), "{told}");
    assert_eq!(shown(&node.authority, node.address()).await, new.der());
    // A pipe that nobody writes into holds up nothing: what comes after it is seen.
    assert!(std::process::Command::new("mkfifo").arg(&cert).status().unwrap().success());
    node.until_problems(|problems| problems.contains("not a file")).await;
    new.write(node.folder.path());
    node.until_problems(|problems| !problems.contains("certificate_unusable")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_used_is_refused_with_its_file_and_what_to_do() {
    let main = ScriptedMain::start().await;
    let node = Secure::of(&main.authority(), json!({})).await;
    let put = |name: &str, text: &str| replace(&node.folder.path().join(name), text);
    put("other.pem", &node.authority.pair(HERE).key);
    put("text.pem", "hello");
    put("line.pem", &node.pair.key.replace('\n', ""));
    put("cut.pem", &node.pair.cert[..300]);
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    put("locked.pem", locked);
    for (cert, key, setting, named, part) in [
        ("none.pem", "key.pem", "tls.cert", "none.pem", "check the path"),
        ("text.pem", "key.pem", "tls.cert", "text.pem", "it has no certificate"),
        ("cut.pem", "key.pem", "tls.cert", "cut.pem", "no valid PEM"),
        ("cert.pem", "other.pem", "tls.key", "other.pem", "not that of the certificate"),
        ("cert.pem", "text.pem", "tls.key", "text.pem", "no private key in the clear"),
        ("cert.pem", "line.pem", "tls.key", "line.pem", "lost its line breaks"),
        ("cert.pem", "locked.pem", "tls.key", "locked.pem", "openssl pkey"),
        ("cert.pem", "cert.pem", "tls.key", "cert.pem", "no private key"),
        ("/", "key.pem", "tls.cert", "/", "can't be read"),
    ] {
        let tls = json!({"tls": {"cert": cert, "key": key}});
        let (status, answer) = node.patch(tls.clone()).await;
        let text = answer.to_string();
        assert_eq!(status, 400, "{cert} {key}: {text}");
        assert!([setting, named, part].iter().all(|part| text.contains(part)), "{text}");
        // A node does not start with it, and neither does `config check` like it.
        let folder = NodeFolder::of(&main.authority());
        for file in ["cert", "key", "other", "text", "line", "cut", "locked"] {
            let file = format!("{file}.pem");
            std::fs::copy(node.folder.path().join(&file), folder.path().join(file)).unwrap();
        }
        let folder = folder.with(tls);
        let config = folder.config_path().into_os_string();
        let start = ["node", "--host", "127.0.0.1", "--port", "0", "--config"].map(Into::into);
        let (code, _, said) = run(start.into_iter().chain([config.clone()]));
        assert_eq!(code, Some(1), "{said}");
        assert!([setting, named, part].iter().all(|part| said.contains(part)), "{said}");
        let check = ["config", "check", "--config"].map(Into::into);
        let (code, said, _) = run(check.into_iter().chain([config]));
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(setting), "{said}");
    }
    let (status, answer) = node.patch(json!({"tls": {"key": null}})).await;
    assert!(status == 400 && answer.to_string().contains("both or neither"), "{answer}");
    assert_eq!(shown(&node.authority, node.address()).await, node.pair.der());
}
