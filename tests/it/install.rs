//! Installing, again, and away; with `--root`, and into a machine.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{client, machine::Machine, node::free_port, process::run, until, zip_of};

const CONFIG: &str = "etc/edge-mirror/node_config.json";
const UNIT: &str = "etc/systemd/system/edge-mirror.service";
const PROGRAM: &str = "usr/local/bin/edge-mirror";

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// `edge-mirror COMMAND --root …`: what it printed, or failed with.
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let root = ["--root", self.0.path().to_str().unwrap()];
        let (code, output, errors) = run(args.iter().chain(&root));
        match code {
            Some(0) => Ok(output),
            code => Err(format!("{code:?} {errors}")),
        }
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path(CONFIG)).unwrap()).unwrap()
    }

    /// Every file, without folders, and its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        files_in(self.0.path(), &mut found);
        found
    }
}

fn files_in(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_in(&path, found),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_first_installation_has_everything_in_its_place() {
    let root = Root::new();
    let said = root.run(&["install", "--main-server", "10.9.8.7:81", "--port", "8055"]).unwrap();
    assert!(said.contains("No user was created"), "{said}");
    assert!(!said.contains("#login="), "an image must not have a login in it: {said}");
    let config = root.config();
    for (key, value) in [
        ("mainServerIp", json!("10.9.8.7")),
        ("mainServerPort", json!(81)),
        ("nodePort", json!(8055)),
        ("nodeId", Value::Null),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(config["storage"]["path"], "/var/lib/edge-mirror/storage");
    assert_eq!(config["logging"]["filePath"], "/var/log/edge-mirror/node.log");
    let program = fs::read(env!("CARGO_BIN_EXE_edge-mirror")).unwrap();
    assert!(fs::read(root.path(PROGRAM)).unwrap() == program);
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/edge-mirror.service");
    assert_eq!(fs::read(root.path(UNIT)).unwrap(), fs::read(unit).unwrap());
    for (path, wanted) in [
        (PROGRAM, 0o755),
        (UNIT, 0o644),
        (CONFIG, 0o640),
        ("etc/systemd/system/edge-mirror-task.socket", 0o644),
        ("etc/systemd/system/edge-mirror-task@.service", 0o644),
        ("etc/edge-mirror/tasks.d", 0o755),
        ("etc/edge-mirror", 0o750),
        ("var/lib/edge-mirror/storage", 0o750),
        ("var/log/edge-mirror", 0o750),
    ] {
        assert_eq!(mode(&root.path(path)), wanted, "{path}");
    }
    assert_eq!(root.files().len(), 5, "{:?}", root.files().keys());
}

#[test]
fn installing_again_upgrades_in_place_and_keeps_configuration_and_packages() {
    let root = Root::new();
    root.run(&["install", "--main-server", "10.9.8.7:81"]).unwrap();
    let mut edited = root.config();
    (edited["nodeId"], edited["syncInterval"], edited["note"]) =
        (json!("n1"), json!(7), json!([1]));
    let edited = serde_json::to_string(&edited).unwrap();
    fs::write(root.path(CONFIG), &edited).unwrap();
    let package = root.path("var/lib/edge-mirror/storage/meeting_m1/package.zip");
    fs::create_dir_all(package.parent().unwrap()).unwrap();
    fs::write(&package, zip_of("papers")).unwrap();
    fs::write(root.path(UNIT), "of an older version").unwrap();
    fs::write(root.path(PROGRAM), "of an older version").unwrap();
    let running = fs::File::open(root.path(PROGRAM)).unwrap();

    let said = root.run(&["install"]).unwrap();
    assert!(said.contains("upgraded"), "{said}");
    let written: Value = serde_json::from_str(&edited).unwrap();
    assert_eq!(root.config(), written);
    assert_eq!(fs::read(&package).unwrap(), zip_of("papers"));
    assert!(fs::read_to_string(root.path(UNIT)).unwrap().contains("Type=notify"));
    let new = fs::metadata(root.path(PROGRAM)).unwrap();
    assert_ne!(running.metadata().unwrap().ino(), new.ino(), "a running program is not written to");
    assert_eq!(new.len(), fs::metadata(env!("CARGO_BIN_EXE_edge-mirror")).unwrap().len());

    // Only what is asked for becomes another.
    root.run(&["install", "--port", "8066"]).unwrap();
    let mut wanted = written;
    wanted["nodePort"] = json!(8066);
    assert_eq!(root.config(), wanted);
    let before = root.files();
    root.run(&["install", "--yes"]).unwrap();
    assert!(root.files() == before, "a third time changes nothing");
}

#[test]
fn a_low_port_has_its_right_and_another_one_has_not() {
    let root = Root::new();
    let drop_in = root.path("etc/systemd/system/edge-mirror.service.d/low-port.conf");
    root.run(&["install", "--yes", "--port", "443"]).unwrap();
    assert!(fs::read_to_string(&drop_in).unwrap().contains("AmbientCapabilities=CAP_NET_BIND"));
    root.run(&["install", "--yes", "--port", "8443"]).unwrap();
    assert!(!drop_in.exists());
    let drop_in = root.path("etc/systemd/system/edge-mirror-master.service.d/low-port.conf");
    root.run(&["install", "--master", "--yes"]).unwrap();
    assert!(!drop_in.exists());
    let options = root.path("etc/edge-mirror-master/options.env");
    let with = |more: &str| format!("MASTER_OPTIONS=--tls-cert a --tls-key b{more}\n");
    fs::write(&options, with(" --redirect-port 80")).unwrap();
    root.run(&["install", "--master", "--yes"]).unwrap();
    assert!(drop_in.exists());
    fs::write(&options, with(" --redirect-port=8080")).unwrap();
    root.run(&["install", "--master", "--yes"]).unwrap();
    assert!(!drop_in.exists());
}

#[test]
fn what_is_wrong_is_said_before_anything_is_changed() {
    let root = Root::new();
    let nowhere = root.path("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for (args, parts) in [
        (&["install"][..], &["--main-server", "is missing"][..]),
        (&["install", "--main-server", "a:b:c"], &["a:b:c", "HOST:PORT"]),
        (&["install", "--port", "0"], &["--port"]),
        (&["install", "--yes", "--adopt", nowhere], &[nowhere, "node_config.json"]),
        (&["install", "--master", "--main-server", "a:1"], &["--master"]),
        (&["install", "--master", "--adopt", nowhere], &["--adopt"]),
    ] {
        let said = root.run(args).unwrap_err();
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
        assert!(!said.trim_end().contains('\n'), "{said}");
        assert_eq!(fs::read_dir(root.0.path()).unwrap().count(), 0, "{args:?}");
    }
    fs::create_dir_all(root.path("etc/edge-mirror")).unwrap();
    for broken in ["{", r#"{"mainServerIp": "a", "syncInterval": -1}"#] {
        fs::write(root.path(CONFIG), broken).unwrap();
        let said = root.run(&["install", "--yes"]).unwrap_err();
        assert!(said.contains("node_config.json") && said.contains("fix"), "{said}");
        assert_eq!(fs::read_to_string(root.path(CONFIG)).unwrap(), broken);
        assert_eq!(root.files().len(), 1);
    }
}

#[test]
fn uninstalling_leaves_what_it_names_and_purging_leaves_nothing() {
    let root = Root::new();
    assert!(root.run(&["uninstall"]).unwrap().contains("nothing of it is installed"));
    root.run(&["install", "--yes", "--port", "80"]).unwrap();
    root.run(&["install", "--master", "--yes"]).unwrap();
    let package = root.path("var/lib/edge-mirror/storage/meeting_m1/package.zip");
    fs::create_dir_all(package.parent().unwrap()).unwrap();
    fs::write(&package, "papers").unwrap();

    let said = root.run(&["uninstall"]).unwrap();
    for left in ["etc/edge-mirror", "var/lib/edge-mirror", "var/log/edge-mirror"] {
        let line = format!("left: {}\n", root.path(left).display());
        assert!(said.contains(&line), "{left} in {said}");
    }
    assert!(package.exists() && root.path(CONFIG).exists() && !root.path(UNIT).exists());
    assert!(!root.path("etc/systemd/system/edge-mirror.service.d").exists());
    assert!(root.path(PROGRAM).exists(), "the main server uses it");

    root.run(&["uninstall", "--master", "--purge"]).unwrap();
    assert!(!root.path(PROGRAM).exists());
    assert!(package.exists(), "that was the node's");
    let kept = root.path("etc/edge-mirror/server.key");
    fs::write(&kept, "not ours").unwrap();
    fs::write(root.path("etc/edge-mirror/node_config.access.json"), "{}").unwrap();
    fs::write(root.path("etc/edge-mirror/.tmp-1-2"), "of a save that was cut off").unwrap();
    let mut moved = root.config();
    moved["storage"]["path"] = json!("/srv/packages");
    fs::write(root.path(CONFIG), moved.to_string()).unwrap();
    let said = root.run(&["uninstall", "--purge"]).unwrap();
    assert_eq!(root.files().into_keys().collect::<Vec<_>>(), [kept], "{said}");
    assert!(said.contains("left: /srv/packages") && said.contains("etc/edge-mirror\n"), "{said}");
}

/// As the Python node has it, with what else lies in its folder.
fn old_node() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "mainServerIp": "127.0.0.1", "mainServerPort": 9, "nodeId": "node-old", "nodePort": 8077,
        "storage": {"path": "./files", "maxSize": 1 << 30}, "legacy": {"theme": "dark"},
        "logging": {"filePath": "./logs/node.log"},
    });
    let text = format!("\u{feff}{config}");
    fs::write(folder.path().join("node_config.json"), text).unwrap();
    for (file, content) in [
        ("files/meeting_m1/package.zip", zip_of("one")),
        ("files/meeting_会议/package.zip", zip_of("会议")),
        ("files/meeting_m2/package.zip", zip_of("two")),
        ("files/meeting_m3/notes.txt", b"no package".to_vec()),
        ("files/other/package.zip", zip_of("no meeting")),
        ("main.py", b"print()".to_vec()),
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

#[test]
fn a_python_nodes_folder_is_taken_over_and_left_as_it_was() {
    let (root, old) = (Root::new(), old_node());
    let mut before = BTreeMap::new();
    files_in(old.path(), &mut before);
    let said = root.run(&["install", "--adopt", old.path().to_str().unwrap(), "--yes"]).unwrap();
    let mut after = BTreeMap::new();
    files_in(old.path(), &mut after);
    assert!(after == before);
    let config = root.config();
    assert_eq!((&config["nodeId"], &config["nodePort"]), (&json!("node-old"), &json!(8077)));
    assert_eq!(config["legacy"], json!({"theme": "dark"}));
    assert_eq!(
        config["storage"],
        json!({"path": "/var/lib/edge-mirror/storage", "maxSize": 1 << 30})
    );
    assert_eq!(config["logging"]["filePath"], "/var/log/edge-mirror/node.log");
    let storage = root.path("var/lib/edge-mirror/storage");
    let mut stored = BTreeMap::new();
    files_in(&storage, &mut stored);
    let wanted = [("m1", zip_of("one")), ("m2", zip_of("two")), ("会议", zip_of("会议"))]
        .map(|(id, bytes)| (storage.join(format!("meeting_{id}/package.zip")), bytes));
    assert_eq!(stored, BTreeMap::from(wanted), "{said}");
    assert!(said.contains("packages copied: 3 "), "{said}");
    let own = storage.join("meeting_m1/package.zip");
    let theirs = old.path().join("files/meeting_m1/package.zip");
    assert_ne!(fs::metadata(own).unwrap().ino(), fs::metadata(theirs).unwrap().ino());

    // Once more: the configuration is the new one's by now.
    let said =
        root.run(&["install", "--adopt", old.path().to_str().unwrap(), "--port", "1234"]).unwrap();
    assert!(said.contains("packages copied: 0 ") && said.contains("configuration kept"), "{said}");
    assert_eq!(root.config()["nodePort"], 1234);
}

#[test]
fn packages_that_do_not_fit_are_refused_before_one_is_copied() {
    let (root, old) = (Root::new(), old_node());
    let large = fs::File::create(old.path().join("files/meeting_m1/package.zip")).unwrap();
    // With nothing in it.
    large.set_len(15 << 40).unwrap();
    let said =
        root.run(&["install", "--adopt", old.path().to_str().unwrap(), "--yes"]).unwrap_err();
    assert!(said.contains("no room"), "{said}");
    let mut stored = BTreeMap::new();
    files_in(&root.path("var/lib"), &mut stored);
    assert!(stored.is_empty(), "{:?}", stored.keys());
}

/// Who owns a folder that root writes to could point it at any other one.
#[test]
fn what_links_lead_to_is_neither_given_away_nor_copied() {
    let (root, old, elsewhere) = (Root::new(), old_node(), tempfile::tempdir().unwrap());
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let storage = root.path("var/lib/edge-mirror/storage");
    fs::create_dir_all(storage.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &storage).unwrap();
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "nobody's to see").unwrap();
    let linked = old.path().join("files/meeting_m1/package.zip");
    fs::remove_file(&linked).unwrap();
    std::os::unix::fs::symlink(&secret, &linked).unwrap();
    let said = root.run(&["install", "--adopt", old.path().to_str().unwrap(), "--yes"]).unwrap();
    assert!(said.contains("packages copied: 2 "), "{said}");
    assert_eq!(mode(elsewhere.path()), 0o755);
    assert!(storage.join("meeting_m2/package.zip").exists(), "it is where the operator put it");
    assert!(!storage.join("meeting_m1").exists());
}

#[test]
fn what_is_installed_where_it_can_not_be_is_refused_in_one_line() {
    let mut machine = Machine::new();
    machine.good("rmdir /run/systemd/system");
    let (code, said) = machine.run("\"$PROGRAM\" install --yes");
    assert_eq!(code, 1);
    assert!(said.contains("systemd") && said.contains("--root") && !said.contains('\n'), "{said}");
    assert_eq!(machine.calls(), [""; 0]);
    assert_eq!(
        machine.good("ls /etc /usr/local/bin /var/lib"),
        "/etc:\nsystemd\n\n/usr/local/bin:\n\n/var/lib:"
    );
}

#[test]
fn without_roots_rights_nothing_is_installed() {
    let mut machine = Machine::new();
    // Where everybody may run it, wherever the sources lie.
    machine.good("cp \"$PROGRAM\" /run/edge-mirror");
    let install = "setpriv --reuid 65534 --clear-groups /run/edge-mirror install --yes";
    let (code, said) = machine.run(install);
    assert!(code == 1 && said.contains("sudo") && said.contains("root"), "{said}");
    assert_eq!(machine.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_a_serving_node_whose_panel_link_logs_in() {
    let (mut machine, old, port) = (Machine::new(), old_node(), free_port());
    let install = format!("\"$PROGRAM\" install --yes --port {port}");
    let said = machine.good(&format!("{install} --adopt {}", old.path().display()));
    let restart = [
        "systemctl daemon-reload",
        "systemctl --quiet enable edge-mirror",
        "systemctl restart edge-mirror",
        "systemctl --quiet enable --now edge-mirror-task.socket",
    ];
    let calls = machine.calls();
    assert!(
        calls[0].starts_with("useradd --system ") && calls[0].ends_with(" edge-mirror"),
        "{calls:?}"
    );
    assert_eq!(calls[1..], restart);

    // The panel's link, which logs in.
    let link =
        said.lines().find(|line| line.contains("#login=")).unwrap_or_else(|| panic!("{said}"));
    let (page, code) = link.trim().split_once("#login=").unwrap();
    assert_eq!(page, format!("http://127.0.0.1:{port}/static/index.html"));
    let login = client().post(format!("http://127.0.0.1:{port}/api/login"));
    let answer = login.json(&json!({"token": code})).send().await.unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);

    // What was taken over is verified and served.
    let package = format!("http://127.0.0.1:{port}/api/v1/meetings/m1/download-package");
    let bytes = until("the adopted package is served", async || {
        let answer = client().get(&package).send().await.ok()?;
        if answer.status().is_success() { answer.bytes().await.ok() } else { None }
    })
    .await;
    assert!(bytes == zip_of("one"));

    // Again: no user is made twice, the service is started anew, all is kept.
    let before = fs::read(machine.path("/etc/edge-mirror/node_config.json")).unwrap();
    let said = machine.good("\"$PROGRAM\" install");
    assert!(said.contains("upgraded") && said.contains("#login="), "{said}");
    assert_eq!(machine.calls(), restart);
    assert_eq!(fs::read(machine.path("/etc/edge-mirror/node_config.json")).unwrap(), before);
    assert!(client().get(&package).send().await.unwrap().status().is_success());

    // Another port has to be free; its own is.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let other = taken.local_addr().unwrap().port();
    let said = machine.run(&format!("\"$PROGRAM\" install --port {other}"));
    assert_eq!((said.0, said.1.contains(&other.to_string())), (1, true), "{said:?}");
    assert_eq!(machine.calls(), [""; 0]);

    let said = machine.good("edge-mirror uninstall");
    assert!(
        said.contains("left: /etc/edge-mirror") && said.contains("system user edge-mirror"),
        "{said}"
    );
    assert_eq!(
        machine.calls(),
        [
            "systemctl --quiet disable --now edge-mirror-task.socket",
            "systemctl --quiet disable --now edge-mirror",
            "systemctl daemon-reload"
        ]
    );
    assert!(client().get(&package).send().await.is_err());
    let said = machine.good("\"$PROGRAM\" uninstall --purge");
    assert_eq!(machine.calls(), ["userdel edge-mirror"], "{said}");
    assert_eq!(machine.good("find /etc /usr/local/bin /var/lib /var/log -type f"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_a_main_server_too() {
    let (mut machine, port) = (Machine::new(), free_port());
    let said = machine.good(&format!("\"$PROGRAM\" install --master --yes --port {port}"));
    assert!(
        said.contains("#login=") && said.contains("systemctl status edge-mirror-master"),
        "{said}"
    );
    let url = format!("http://127.0.0.1:{port}/api/v1/nodes/available");
    let nodes: Value = client().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(nodes["count"], 0);
    fs::write(
        machine.path("/etc/edge-mirror-master/options.env"),
        format!("MASTER_OPTIONS=--open\nMASTER_PORT={port}\n"),
    )
    .unwrap();
    machine.good("\"$PROGRAM\" install --master");
    let options = fs::read_to_string(machine.path("/etc/edge-mirror-master/options.env")).unwrap();
    assert_eq!(options, format!("MASTER_OPTIONS=--open\nMASTER_PORT={port}\n"));
    // The user stays for as long as one of them needs it.
    machine.good("\"$PROGRAM\" install --yes");
    machine.calls();
    machine.good("edge-mirror uninstall --purge");
    assert!(!machine.calls().contains(&"userdel edge-mirror".to_owned()));
    machine.good("edge-mirror uninstall --master --purge");
    assert_eq!(machine.calls().last().unwrap(), "userdel edge-mirror");
    assert_eq!(machine.good("find /etc /usr/local/bin /var/lib -type f"), "");
}

#[test]
fn a_service_that_does_not_start_or_whose_port_is_taken_is_said() {
    let mut machine = Machine::new();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let install = format!("\"$PROGRAM\" install --main-server 127.0.0.1:9 --port {port}");
    let (code, said) = machine.run(&install);
    assert!(code == 1 && said.contains(&port.to_string()) && said.contains("--port"), "{said}");
    assert_eq!(machine.calls(), [""; 0]);
    drop(taken);
    machine.break_systemctl();
    let (code, said) = machine.run(&install);
    let last = said.lines().last().unwrap();
    assert!(
        code == 1 && last.contains("Job for edge-mirror failed") && last.contains("journalctl"),
        "{said}"
    );
}

#[test]
fn on_a_terminal_what_is_not_given_is_asked_with_defaults() {
    let (mut machine, port) = (Machine::new(), free_port());
    let ask = "script -qec '\"$PROGRAM\" install --root /run/root' /dev/null";
    let said = machine.good(&format!("printf '127.0.0.7:85\\n{port}\\n' | {ask}"));
    assert!(said.contains("[192.168.110.10:80]") && said.contains("[8001]"), "{said}");
    let path = machine.path("/run/root/etc/edge-mirror/node_config.json");
    let config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(
        (&config["mainServerIp"], &config["mainServerPort"]),
        (&json!("127.0.0.7"), &json!(85))
    );
    assert_eq!(config["nodePort"], port);
    let said = machine.good(&format!("printf '\\n\\n' | {ask}"));
    assert!(said.contains("[127.0.0.7:85]") && said.contains(&format!("[{port}]")), "{said}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = run(["man", folder.path().to_str().unwrap()]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let (_, help, _) = run(["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Run:").skip(1);
    let names: Vec<_> = commands
        .take_while(|line| *line != "Options:")
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    assert!(
        names.contains(&"install".to_owned()) && !names.contains(&"man".to_owned()),
        "{names:?}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, errors) = run(["completions", shell]);
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        assert!(names.iter().all(|name| script.contains(name.as_str())), "{shell}");
    }
    for name in names.iter().filter(|name| *name != "help") {
        let page = fs::read_to_string(folder.path().join(format!("edge-mirror-{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{name}");
    }
    assert!(folder.path().join("edge-mirror.1").exists());
    let script = "edge-mirror() { :; }; . /dev/stdin && complete -p edge-mirror";
    let mut bash = std::process::Command::new("bash");
    let mut bash = bash.args(["-c", script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let (_, completions, _) = run(["completions", "bash"]);
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), completions.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}
