//! What `packaging/release` makes, as somebody without a compiler meets it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{EPOCH, here};
use crate::support::{client, machine::Machine, node::free_port, process::plain_environment};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edge-mirror");

/// Makes a release of the program that is tested.
fn release(out: &Path) {
    let mut release = Command::new(here("packaging/release"));
    release.args(["--allow-dirty", "--binary", PROGRAM, "--out"]).arg(out).stdin(Stdio::null());
    let ended = release.env("SOURCE_DATE_EPOCH", EPOCH).env("DEB_FAST", "1").output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(root, &path, found),
                false => {
                    let name = path.strip_prefix(root).unwrap().to_owned();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn two_runs_make_the_same_bytes_with_their_checksums() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    release(one.path());
    release(two.path());
    let (made, again) = (files(one.path()), files(two.path()));
    assert_eq!(made.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (path, bytes) in &made {
        assert!(*bytes == again[path], "{} differs", path.display());
    }

    let sums = String::from_utf8(made[Path::new("SHA256SUMS")].clone()).unwrap();
    let listed: BTreeSet<_> = sums.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    let named = made.keys().map(|path| path.to_str().unwrap());
    assert_eq!(listed, named.filter(|name| *name != "SHA256SUMS").collect());
    for ending in [".tar.gz", ".deb", ".cdx.json"] {
        assert_eq!(listed.iter().filter(|name| name.ends_with(ending)).count(), 1, "{ending}");
    }
    let mut check = Command::new("sha256sum");
    let check = check.args(["--quiet", "--strict", "--check", "SHA256SUMS"]);
    assert!(check.current_dir(one.path()).status().unwrap().success());
}

#[test]
fn a_release_is_of_what_is_committed_and_of_the_version_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("packaging")).unwrap();
    for file in ["packaging/release", "Cargo.toml"] {
        fs::copy(here(file), folder.path().join(file)).unwrap();
    }
    let git = Command::new("git").args(["init", "--quiet"]).arg(folder.path()).status();
    assert!(git.unwrap().success());
    let run = |args: &[&str]| {
        let mut release = Command::new(folder.path().join("packaging/release"));
        let ended = release.args(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        (ended.status.code(), said)
    };
    let (code, said) = run(&["--help"]);
    assert!(code == Some(0) && said.contains("usage"), "{said}");
    let (code, said) = run(&["--binary", PROGRAM]);
    assert!(code == Some(1) && said.contains("Cargo.toml"), "{said}");
    let (code, said) = run(&["--allow-dirty", "--binary", "/bin/true"]);
    assert!(code == Some(1) && said.contains("not edge-mirror"), "{said}");
    assert!(!folder.path().join("target").exists());
}

/// Of each of the workspace's crates: what it can't be built without.
fn required_dependencies() -> BTreeSet<String> {
    let members = fs::read_dir(here("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut found = BTreeSet::new();
    for folder in members.chain([here("")]) {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let required = lines.filter(|line| !line.contains("optional = true"));
        let names = required.filter_map(|line| line.split(['.', ' ', '=']).next());
        found.extend(names.filter(|name| !name.is_empty()).map(ToOwned::to_owned));
    }
    found
}

/// Checksums of Cargo.lock, by name and version.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let lock = fs::read_to_string(here("Cargo.lock")).unwrap();
    let packages = lock.split("[[package]]").skip(1).map(|package| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.strip_prefix(" = ")?.trim_matches('"').to_owned())
        };
        ((field("name").unwrap(), field("version").unwrap()), field("checksum"))
    });
    packages.collect()
}

#[test]
fn the_bill_of_materials_names_every_crate_that_is_linked_and_no_machine() {
    let mut sbom = Command::new(here("packaging/sbom"));
    let ended = sbom.args(["--lenient", PROGRAM]).env("SOURCE_DATE_EPOCH", EPOCH).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let text = String::from_utf8(ended.stdout).unwrap();
    let bom: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bom["bomFormat"], "CycloneDX");
    assert_eq!(bom["specVersion"], "1.6");
    assert_eq!(bom["metadata"]["timestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(bom["metadata"]["component"]["name"], "edge-mirror");
    // The schema's own address, and nobody else's.
    assert_eq!(text.matches("://").count(), 1);
    assert!(!text.contains("registry/") && !text.contains(env!("CARGO_MANIFEST_DIR")));

    let (locked, components) = (locked(), bom["components"].as_array().unwrap());
    let mut names = BTreeSet::new();
    for component in components {
        let field = |name: &str| component[name].as_str().unwrap().to_owned();
        let checksum = component["hashes"][0]["content"].as_str().map(ToOwned::to_owned);
        assert_eq!(locked[&(field("name"), field("version"))], checksum, "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        names.insert(field("name"));
    }
    let missing: Vec<_> = required_dependencies().difference(&names).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What runs while it is built, and what tests are made with.
    for absent in ["cc", "serde_derive", "criterion", "tempfile"] {
        assert!(!names.contains(absent), "{absent}");
    }

    let reference = |component: &Value| component["bom-ref"].as_str().unwrap().to_owned();
    let described = components.iter().chain([&bom["metadata"]["component"]]).map(reference);
    let described: BTreeSet<_> = described.collect();
    assert_eq!(described.len(), components.len() + 1, "each has a reference of its own");
    let edges = bom["dependencies"].as_array().unwrap();
    let from = edges.iter().map(|edge| edge["ref"].as_str().unwrap().to_owned());
    assert_eq!(from.collect::<BTreeSet<_>>(), described);
    for needed in edges.iter().flat_map(|edge| edge["dependsOn"].as_array().unwrap()) {
        assert!(described.contains(needed.as_str().unwrap()), "{needed}");
    }
}

/// A release as it lies after `tar -xzf`.
struct Unpacked {
    folder: tempfile::TempDir,
    installer: PathBuf,
}

impl Unpacked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        release(folder.path());
        let files = files(folder.path());
        let is_tarball = |path: &&PathBuf| path.to_str().unwrap().ends_with(".tar.gz");
        let tarball = files.keys().find(is_tarball).unwrap().to_str().unwrap();
        let mut tar = Command::new("tar");
        let tar = tar.args(["-xzf", tarball]).current_dir(folder.path());
        assert!(tar.status().unwrap().success());
        let name = tarball.trim_end_matches(".tar.gz");
        let installer = folder.path().join(name).join("install.sh");
        Self { folder, installer }
    }

    /// Runs the installer as somebody with a strict umask: its exit code, and
    /// all that it wrote.
    fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let installer = self.installer.to_str().unwrap();
        let script = [r#"umask 077; exec sh "$0" "$@""#, installer];
        shell(&[&script, args].concat(), environment)
    }

    /// Runs the command that the installer named, and nothing else.
    fn undo(&self, said: &str) -> String {
        let hint = said.lines().find_map(|line| line.strip_prefix("to uninstall: ")).unwrap();
        let (code, said) = shell(&[hint], &[]);
        assert_eq!(code, Some(0), "{hint}: {said}");
        said
    }

    /// A file of the release.
    fn part(&self, name: &str) -> PathBuf {
        self.installer.with_file_name(name)
    }

    /// PATH with a command in it that says `says` in place of the system's.
    fn path_with(&self, command: &str, says: &str) -> String {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let path = folder.join(command);
        fs::write(&path, format!("#!/bin/sh\n{says}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
    }
}

/// Runs `sh -c`: the exit code, and all that was written.
fn shell(args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    plain_environment(&mut command);
    command.arg("-c").args(args).envs(environment.iter().copied());
    let ended = command.stdin(Stdio::null()).output().unwrap();
    (ended.status.code(), String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap())
}

#[test]
fn the_installer_lays_out_upgrades_and_removes_below_a_folder() {
    let (release, root) = (Unpacked::new(), tempfile::tempdir().unwrap());
    let below = [("DESTDIR", root.path().to_str().unwrap())];
    let (code, said) = release.run(&["--main-server", "10.9.8.7:81"], &below);
    assert_eq!(code, Some(0), "{said}");
    let laid_out = files(root.path());
    for path in [
        "etc/edge-mirror/node_config.json",
        "etc/systemd/system/edge-mirror.service",
        "usr/local/bin/edge-mirror",
        "usr/local/share/man/man1/edge-mirror.1.gz",
        "usr/local/share/bash-completion/completions/edge-mirror",
        "usr/local/share/zsh/site-functions/_edge-mirror",
        "usr/local/share/fish/vendor_completions.d/edge-mirror.fish",
    ] {
        assert!(laid_out.contains_key(Path::new(path)), "{path}: {said}");
    }
    let (code, said) = release.run(&[], &below);
    assert!(code == Some(0) && said.contains("upgraded"), "{said}");
    assert!(files(root.path()) == laid_out, "a second time changes nothing");
    let (code, said) = release.run(&["--uninstall", "--purge"], &below);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(files(root.path()).into_keys().collect::<Vec<_>>(), [""; 0].map(PathBuf::from));
    let (code, said) = release.run(&["--uninstall"], &below);
    assert!(code == Some(0) && said.contains("nothing") && !said.contains("removed"), "{said}");

    let (code, said) = release.run(&["--master", "--port", "81"], &below);
    assert_eq!(code, Some(0), "{said}");
    release.undo(&said);
    let left = files(root.path());
    assert!(left.keys().all(|path| path.starts_with("etc/edge-mirror-master")), "{left:?}");

    // What the Debian package brought is its own.
    let unit = root.path().join("lib/systemd/system/edge-mirror.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(unit, "").unwrap();
    let (code, said) = release.run(&["--main-server", "10.9.8.7:81"], &below);
    assert!(code == Some(1) && said.contains("apt install"), "{said}");
    let (code, said) = release.run(&[], &[below[0], ("PREFIX", "/opt/it's here/")]);
    assert!(
        code == Some(0) && root.path().join("opt/it's here/bin/edge-mirror").exists(),
        "{said}"
    );
    release.undo(&said);
    assert!(!root.path().join("opt/it's here/bin/edge-mirror").exists());
}

#[test]
fn the_installer_places_the_program_alone_below_a_prefix() {
    let (release, home) = (Unpacked::new(), tempfile::tempdir().unwrap());
    let prefix = [("PREFIX", home.path().to_str().unwrap())];
    let (code, said) = release.run(&["--master"], &prefix);
    assert!(code == Some(1) && said.contains("PREFIX") && files(home.path()).is_empty(), "{said}");
    let (code, said) = release.run(&[], &prefix);
    assert!(code == Some(0) && said.contains("edge-mirror node"), "{said}");
    let program = Command::new(home.path().join("bin/edge-mirror")).arg("--version").output();
    assert!(program.unwrap().status.success());
    let mode = fs::metadata(home.path().join("share/man/man1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "it is for all users");
    let (code, refused) = release.run(&["--uninstall", "--purge"], &prefix);
    assert!(code == Some(1) && refused.contains("PREFIX"), "{refused}");
    let removed = release.undo(&said);
    assert!(removed.contains("removed") && files(home.path()).is_empty(), "{removed}");
    let (code, said) = release.run(&["--uninstall"], &prefix);
    assert!(code == Some(0) && said.contains("nothing"), "{said}");
}

#[test]
fn the_installer_says_what_is_wrong_before_it_changes_anything() {
    let (release, home) = (Unpacked::new(), tempfile::tempdir().unwrap());
    let prefix = [("PREFIX", home.path().to_str().unwrap())];
    let (code, said) = release.run(&[], &[("PREFIX", "local")]);
    assert!(code == Some(1) && said.contains("absolute"), "{said}");
    fs::rename(release.part("share"), release.part("elsewhere")).unwrap();
    let (code, said) = release.run(&[], &prefix);
    assert!(code == Some(1) && said.contains("share") && files(home.path()).is_empty(), "{said}");
    fs::rename(release.part("elsewhere"), release.part("share")).unwrap();

    let none = release.path_with("getconf", "exit 1");
    let (code, said) = release.run(&[], &[prefix[0], ("PATH", &none)]);
    assert_eq!(code, Some(0), "the program runs, whoever's C library it is: {said}");
    release.undo(&said);

    fs::write(release.part("edge-mirror"), "#!/bin/sh\nexit 127\n").unwrap();
    let other = release.path_with("uname", "[ $1 = -s ] && echo Linux || echo riscv64");
    let old = release.path_with("getconf", "echo glibc 2.4");
    for (path, locale, parts) in [
        (&old, "C", &["glibc", "2.4"][..]),
        (&other, "C", &["riscv64", "download"]),
        (&other, "zh_CN.UTF-8", &["riscv64", "下载"]),
        (&none, "C", &["glibc", "musl"]),
        (&none, "zh_CN.UTF-8", &["glibc", "没有"]),
    ] {
        let environment = [prefix[0], ("PATH", path.as_str()), ("LC_ALL", locale)];
        let (code, said) = release.run(&[], &environment);
        assert!(code == Some(1) && parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(files(home.path()).is_empty(), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_a_serving_node_from_the_tarball() {
    let (release, mut machine, port) = (Unpacked::new(), Machine::new(), free_port());
    let installer = release.installer.display();
    let said = machine.good(&format!("{installer} --yes --port {port}"));
    assert!(said.contains("#login=") && said.contains("/usr/local/share"), "{said}");
    let status = client().get(format!("http://127.0.0.1:{port}/api/status")).send().await.unwrap();
    assert!(status.status().is_success());
    machine.good("test -e /usr/local/share/man/man1/edge-mirror.1.gz");
    machine.good("mount -o remount,ro /usr/local/share");
    let (code, said) = machine.run(&format!("{installer} --yes"));
    assert!(code == 1 && said.contains("read-only"), "{said}");
    machine.good("mount -o remount,rw /usr/local/share");
    let said = machine.good(&format!("{installer} --uninstall --purge"));
    assert!(said.contains("system user removed"), "{said}");
    assert_eq!(
        machine.good("find /etc /usr/local/bin /usr/local/share /var/lib /var/log -type f"),
        ""
    );
}
