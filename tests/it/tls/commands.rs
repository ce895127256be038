//! Operators' commands over HTTPS.

use std::path::Path;

use serde_json::json;

use super::{HERE, Secure};
use crate::support::{
    ScriptedMain,
    certificates::{Authority, replace},
    process::{NodeFolder, NodeProcess, binary, run},
    zip_of,
};

fn ran(args: &[&str]) -> (Option<i32>, String, String) {
    tokio::task::block_in_place(|| run(args))
}

fn good(args: &[&str]) -> String {
    let (code, said, errors) = ran(args);
    assert_eq!(code, Some(0), "{args:?}: {said}{errors}");
    said
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_speak_https_to_whom_they_are_told_to_believe() {
    let main = ScriptedMain::start().await;
    main.activate("m", "M", &zip_of("m"));
    let node = Secure::of(&main.authority(), json!({})).await;
    node.until_synced("m").await;
    let (ca, out) = (node.folder.path().join("ca.pem"), node.folder.path().join("m.zip"));
    replace(&ca, &node.authority.pem());
    let (url, package, ca, out) = (node.url(""), node.package_url("m"), text(&ca), text(&out));
    assert!(good(&["status", "--node", &url, "--cacert", &ca]).contains("node-test"));
    assert!(good(&["config", "get", "nodeId", "--node", &url, "--cacert", &ca]).contains("node-"));
    good(&["sync", "m", "--node", &url, "--cacert", &ca]);
    good(&["verify", "--node", &url, "--cacert", &ca]);
    good(&["get", &package, "-o", &out, "--cacert", &ca]);
    assert!(std::fs::read(&out).unwrap() == zip_of("m"));
    // As a main server that does not know better sends there.
    let plain = package.replace("https:", "http:");
    good(&["get", &plain, "-o", &out, "--cacert", &ca]);
    let bench = ["bench", "--meeting", "m", "--clients", "3", "--arrive", "0s", "--verify"];
    for url in [&url, &url.replace("https:", "http:")] {
        let said = good(&[&bench[..], &["--url", url, "--cacert", &ca, "--json"]].concat());
        assert!(said.contains("\"clients\": 3"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_command_can_not_believe_it_says_and_what_to_do() {
    let main = ScriptedMain::start().await;
    main.activate("m", "M", &zip_of("m"));
    let node = Secure::of(&main.authority(), json!({})).await;
    node.until_synced("m").await;
    let (ca, none) = (node.folder.path().join("ca.pem"), node.folder.path().join("none.pem"));
    replace(&ca, &Authority::new().pem());
    let (url, package, out) = (node.url(""), node.package_url("m"), text(&none));
    let (ca, none) = (text(&ca), text(&none));
    let strange = ["authority that is not trusted", "--cacert"];
    for (args, parts) in [
        (vec!["status", "--node", &url, "--cacert", &ca], strange),
        (vec!["get", &package, "-o", &out, "--retries", "0", "--cacert", &ca], strange),
        (vec!["bench", "--url", &url, "--meeting", "m", "--cacert", &ca], strange),
        (vec!["status", "--node", &url, "--cacert", &none], ["none.pem", "check the path"]),
        (
            vec!["status", "--node", &url.replace("https:", "http:")],
            ["308", "HTTPS is spoken here"],
        ),
        (
            vec!["nodes", "--master", &format!("https://{}", main.authority()), "--cacert", &ca],
            ["does not speak TLS", "no TLS with"],
        ),
    ] {
        let (code, _, said) = ran(&args);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_signed_by_itself_is_said_to_be_that() {
    let main = ScriptedMain::start().await;
    let node = Secure::of(&main.authority(), json!({})).await;
    node.authority.own().write(node.folder.path());
    let url = node.url("");
    crate::support::until("its word", async || {
        let (code, _, said) = ran(&["status", "--node", &url]);
        (code == Some(1) && said.contains("signed by itself") && said.contains("--cacert"))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_on_this_machine_is_known_by_its_file() {
    let main = ScriptedMain::start().await;
    main.activate("m", "M", &zip_of("m"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = NodeFolder::of(&main.authority());
    // For the name that tablets use, of an authority that nobody here knows.
    Authority::new().pair(&["node.example"]).write(folder.path());
    let tls = json!({"cert": "cert.pem", "key": "key.pem"});
    let folder = folder.with(json!({
        "nodePort": port, "tls": tls, "publicIp": "node.example", "usePublicAddress": true,
    }));
    let mut command = binary();
    command.args(["node", "--host", "127.0.0.1", "--config"]).arg(folder.config_path());
    let _node = NodeProcess::of(command).await;
    let config = text(&folder.config_path());
    crate::support::until("the node is well", async || {
        let (code, said, _) = ran(&["status", "--config", &config]);
        (code == Some(0) && said.contains(&format!("https://127.0.0.1:{port}"))).then_some(())
    })
    .await;
    good(&["sync", "m", "--config", &config]);
    good(&["verify", "--config", &config]);

    // Tablets are sent to an address now that it does not name.
    good(&["config", "set", "usePublicAddress=false", "--config", &config]);
    crate::support::until("the doubt", async || {
        let (code, said, _) = ran(&["status", "--config", &config, "--json"]);
        let told =
            said.contains("certificate_doubtful") && said.contains("does not name 127.0.0.1");
        (code == Some(3) && told).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn main_servers_are_asked_over_https_too() {
    let authority = Authority::new();
    let main = ScriptedMain::start_secure(authority.pair(HERE).server(None)).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    replace(&ca, &authority.pem());
    let url = format!("https://{}", main.authority());
    let (code, listed, said) = ran(&["nodes", "--master", &url, "--cacert", &text(&ca)]);
    assert_eq!(code, Some(0), "{listed}{said}");
}
