//! The Debian package: built, installed, upgraded, removed and purged below a
//! folder, with dpkg itself.

mod release;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{
    machine::NO_MOUNTS,
    node::free_port,
    process::{NodeFolder, plain_environment},
    until,
};

/// The time of all files in a package.
const EPOCH: &str = "1767225600";

/// Builds one, of the program that is tested; where it is.
fn built(version: &str, out: &Path) -> PathBuf {
    let mut build = Command::new(here("packaging/deb"));
    build.arg(env!("CARGO_BIN_EXE_edge-mirror")).stdin(Stdio::null());
    build.env("DEB_VERSION", version).env("DEB_OUT", out).env("DEB_FAST", "1");
    build.env("SOURCE_DATE_EPOCH", EPOCH);
    let ended = build.output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "(is there cargo-deb? see tests/run) {errors}");
    String::from_utf8(ended.stdout).unwrap().trim().into()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A system of nothing but dpkg's own files.
struct Root {
    folder: tempfile::TempDir,
    /// `unshare`'s flag: root, here or in a user namespace.
    flag: &'static str,
}

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dpkg = folder.path().join("var/lib/dpkg");
        for part in ["info", "updates", "triggers"] {
            fs::create_dir_all(dpkg.join(part)).unwrap();
        }
        fs::write(dpkg.join("status"), "").unwrap();
        let works =
            |flag: &&str| Command::new("unshare").args([flag, "true"]).status().unwrap().success();
        let flag = ["-m", "-rm"].into_iter().find(works).expect(NO_MOUNTS);
        Self { folder, flag }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn dpkg(&self, args: &[&str]) -> String {
        let mut command = Command::new("unshare");
        plain_environment(&mut command);
        command.args([self.flag, "dpkg", "--root"]).arg(self.folder.path());
        // Nothing else is installed there, no shell either.
        command.args(["--force-script-chrootless", "--force-depends", "--log=/dev/null"]);
        let ended = command.args(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert!(ended.status.success(), "{args:?}: {said}");
        assert!(!said.contains("error"), "{args:?}: {said}");
        said
    }

    /// What dpkg says of the package: `ii`, `rc`, or nothing.
    fn state(&self) -> String {
        let status = fs::read_to_string(self.path("var/lib/dpkg/status")).unwrap();
        let of_package =
            status.split("\n\n").find(|entry| entry.contains("Package: edge-mirror\n"));
        let line = |name| {
            of_package?.lines().find_map(|line| line.strip_prefix(name)).map(ToOwned::to_owned)
        };
        [line("Status: "), line("Version: ")].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// All files but dpkg's.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap().to_owned();
                match path.is_dir() {
                    true if name == Path::new("var/lib/dpkg") => {}
                    true => walk(root, &path, found),
                    false => drop(found.insert(name, fs::read(&path).unwrap())),
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.folder.path(), self.folder.path(), &mut found);
        found
    }
}

#[test]
fn the_package_installs_upgrades_removes_and_purges_cleanly() {
    let out = tempfile::tempdir().unwrap();
    let (old, new) = (built("0.0.1", out.path()), built("0.0.2", out.path()));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let root = Root::new();

    root.dpkg(&["--install", old]);
    assert_eq!(root.state(), "install ok installed 0.0.1");
    let files = root.files();
    let names: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
    for name in [
        "usr/bin/edge-mirror",
        "lib/systemd/system/edge-mirror.service",
        "lib/systemd/system/edge-mirror-master.service",
        "lib/systemd/system/edge-mirror-task.socket",
        "lib/systemd/system/edge-mirror-task@.service",
        "usr/share/man/man1/edge-mirror.1.gz",
        "usr/share/man/man1/edge-mirror-install.1.gz",
        "usr/share/bash-completion/completions/edge-mirror",
        "usr/share/zsh/vendor-completions/_edge-mirror",
        "usr/share/fish/vendor_completions.d/edge-mirror.fish",
        "usr/share/doc/edge-mirror/copyright",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:#?}");
    }
    assert!(root.path("var/lib/edge-mirror/storage").is_dir());
    let program = root.path("usr/bin/edge-mirror");
    let version = Command::new(&program).arg("--version").output().unwrap();
    assert!(version.status.success());
    for unit in ["edge-mirror", "edge-mirror-master", "edge-mirror-task@"] {
        let text = fs::read_to_string(root.path(&format!("lib/systemd/system/{unit}.service")));
        let text = text.unwrap();
        assert!(text.contains("\nExecStart=/usr/bin/edge-mirror ") && !text.contains("local/bin"));
    }

    // The command that the package ends with: it names the main server, and
    // leaves the package's own files alone.
    let mut install = Command::new(&program);
    install.args(["install", "--main-server", "10.1.2.3:80", "--root"]).arg(root.folder.path());
    let ended = install.stdin(Stdio::null()).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let config = root.path("etc/edge-mirror/node_config.json");
    let edited = fs::read(&config).unwrap();
    assert!(String::from_utf8_lossy(&edited).contains("10.1.2.3"));
    let mut wanted = files.clone();
    wanted.insert("etc/edge-mirror/node_config.json".into(), edited.clone());
    assert!(root.files() == wanted, "program and unit are the package's");
    let mut uninstall = Command::new(&program);
    let refused = uninstall.args(["uninstall", "--root"]).arg(root.folder.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("apt remove"));

    let package = root.path("var/lib/edge-mirror/storage/meeting_m1/package.zip");
    fs::create_dir_all(package.parent().unwrap()).unwrap();
    fs::write(&package, "papers").unwrap();
    fs::write(root.path("etc/edge-mirror/node_config.access.json"), "{}").unwrap();
    let said = root.dpkg(&["--install", new]);
    assert_eq!(root.state(), "install ok installed 0.0.2", "{said}");
    assert_eq!(fs::read(&config).unwrap(), edited, "without a question");
    assert!(package.exists() && !config.with_extension("json.dpkg-dist").exists());

    root.dpkg(&["--remove", "edge-mirror"]);
    assert_eq!(root.state(), "deinstall ok config-files 0.0.2");
    assert!(!program.exists() && package.exists());
    assert_eq!(fs::read(&config).unwrap(), edited);

    root.dpkg(&["--install", new]);
    assert_eq!(fs::read(&config).unwrap(), edited, "what was left is taken up again");
    root.dpkg(&["--purge", "edge-mirror"]);
    assert_eq!(root.state(), "");
    assert_eq!(root.files().into_keys().collect::<Vec<_>>(), [""; 0].map(PathBuf::from));
    for folder in ["etc/edge-mirror", "var/lib/edge-mirror", "var/log/edge-mirror"] {
        assert!(!root.path(folder).exists(), "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_health_check_tells_a_ready_node_from_another() {
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port()));
    let node = folder.start().await;
    let healthy = |port: u16| {
        let mut check = Command::new(here("packaging/healthcheck"));
        check.env("HEALTH_PORT", port.to_string()).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(healthy(node.address().port()));
    assert!(!healthy(free_port()), "nobody listens there");
    // Ready is more than to listen: packages can't be kept any more.
    let storage = folder.storage();
    std::fs::rename(&storage, folder.path().join("gone")).unwrap();
    std::fs::write(&storage, "no folder").unwrap();
    until("it is not ready", async || (!healthy(node.address().port())).then_some(())).await;
}

#[test]
fn maintainer_scripts_are_plain_sh() {
    for script in ["postinst", "prerm", "postrm"] {
        let path = here("packaging/debian").join(script);
        let checked = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(checked.success(), "{script}");
    }
}
