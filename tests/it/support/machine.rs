//! A machine to install into: its own `/etc`, `/var` and `/usr/local/bin`, in
//! memory and seen by nobody else, with commands that stand for systemd's and
//! for those that make users. A service that is "started" there really runs.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::process::plain_environment;

/// Of a test that is not left out where it should be.
pub(crate) const NO_MOUNTS: &str =
    "a mount namespace (tests/nextest lists the tests that need one)";

const MOUNTS: &str = "for folder in /etc /run /usr/local/bin /usr/local/share /var/lib \
                      /var/log; do mount -t tmpfs tmpfs $folder || exit 1; done; exec sh";

/// What was called, one line each, is in `$STATE/calls`.
const COMMANDS: [(&str, &str); 4] = [
    (
        "id",
        r#"test -e "$STATE/user" || { echo "id: '$2': no such user" >&2; exit 1; }; exec /usr/bin/id "$1""#,
    ),
    ("useradd", r#"echo "useradd $*" >> "$STATE/calls"; touch "$STATE/user""#),
    ("userdel", r#"echo "userdel $*" >> "$STATE/calls"; rm "$STATE/user""#),
    (
        "systemctl",
        r#"echo "systemctl $*" >> "$STATE/calls"
        for unit; do :; done
        pid="$STATE/$unit.pid"
        stop() { test -e "$pid" && kill "$(cat "$pid")" && tail --pid="$(cat "$pid")" -f /dev/null; rm -f "$pid"; }
        case "$*" in
        restart*)
            stop
            test -e "$STATE/broken" && { echo "Job for $unit failed." >&2; exit 1; }
            : > "$STATE/$unit.log"
            command=$(sed -n 's/^ExecStart=//p' "/etc/systemd/system/$unit.service")
            test -e "/etc/$unit/options.env" && . "/etc/$unit/options.env"
            eval "exec $command --host 127.0.0.1" >> "$STATE/$unit.log" 2>&1 < /dev/null &
            echo $! > "$pid"
            until grep -q "listen" "$STATE/$unit.log"; do kill -0 "$(cat "$pid")" || exit 1; sleep 0.02; done ;;
        *disable*) stop ;;
        esac
        exit 0"#,
    ),
];

pub(crate) struct Machine {
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    state: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let commands = state.path().join("bin");
        std::fs::create_dir(&commands).unwrap();
        for (name, script) in COMMANDS {
            let path = commands.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
        let unshared = |flags: &str, script: &str| {
            let mut command = Command::new("unshare");
            plain_environment(&mut command);
            command.args([flags, "sh", "-c", script]).env("PATH", &path);
            command.env("STATE", state.path()).env("PROGRAM", env!("CARGO_BIN_EXE_edge-mirror"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command
        };
        // As root, or with a user namespace.
        let works =
            |flags: &&str| unshared(flags, "mount -t tmpfs tmpfs /etc").status().unwrap().success();
        let flags = ["-m", "-rm"].into_iter().find(works).expect(NO_MOUNTS);
        let mut shell = unshared(flags, MOUNTS).spawn().unwrap();
        let (input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let mut machine = Self { shell, input, output: BufReader::new(output), state };
        machine.good("mkdir -p /run/systemd/system /etc/systemd/system");
        machine
    }

    /// Runs a shell command there: exit code, and all that it wrote.
    pub(crate) fn run(&mut self, command: &str) -> (i32, String) {
        writeln!(self.input, "( {command} ) < /dev/null 2>&1; code=$?; echo; echo \"<$code>\"")
            .unwrap();
        let (mut said, mut line) = (String::new(), String::new());
        while self.output.read_line(&mut line).unwrap() > 0 {
            let code = line.trim_end().strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
            if let Some(code) = code.and_then(|code| code.parse().ok()) {
                return (code, said.trim_end().to_owned());
            }
            said.push_str(&line);
            line.clear();
        }
        panic!("the shell ended in {command}: {said}");
    }

    pub(crate) fn good(&mut self, command: &str) -> String {
        let (code, said) = self.run(command);
        assert_eq!(code, 0, "{command}: {said}\n{}", self.logs());
        said
    }

    /// The commands that changed the machine since the last look.
    pub(crate) fn calls(&self) -> Vec<String> {
        let path = self.state.path().join("calls");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// A file of the machine, as seen from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.shell.id()))
    }

    /// From now on services fail to start.
    pub(crate) fn break_systemctl(&self) {
        std::fs::write(self.state.path().join("broken"), "").unwrap();
    }

    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.state.path()).unwrap().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        logs.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.state.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "pid") {
                let pid = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let _ = Command::new("kill").args(["-9", pid.trim()]).status();
            }
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
