//! A PostgreSQL of the bench's own, from the system's package.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::getuid;

use crate::support::{Server, Stage, machine, server::free_port};

/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// Ended when dropped.
pub(crate) struct Postgres {
    pub url: String,
    _server: Server,
}

/// None if it is not installed.
pub(crate) fn version() -> Option<String> {
    Some(machine::said(&programs()?.join("postgres"), "--version"))
}

impl Postgres {
    /// None if it is not installed.
    pub(crate) fn start(stage: &Stage) -> Result<Option<Self>> {
        let Some(programs) = programs() else { return Ok(None) };
        let (data, port) = (stage.make_new("postgres")?, free_port()?);
        if getuid().is_root() {
            fs::set_permissions(stage.folder(), Permissions::from_mode(0o711))?;
            chown(&data, Some(NOBODY), Some(NOBODY))?;
        }
        let mut initdb = command(&programs.join("initdb"), &data);
        initdb.args(["--username=fleet", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        let made = initdb.output().context("cannot run initdb")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = command(&programs.join("postgres"), &data);
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        server.arg("-p").arg(port.to_string());
        let server = Server::start(stage, "postgres", port, None, server)?;
        let url = format!("postgres://fleet@127.0.0.1:{port}/postgres");
        Ok(Some(Self { url, _server: server }))
    }
}

/// The newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|entry| entry.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").is_file());
    found.sort();
    found.pop()
}

fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-D").arg(data).current_dir(data).stdin(Stdio::null());
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
