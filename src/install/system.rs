//! System commands for the service: users and systemd. With `--root` none of them is run.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use edge_mirror_base::atomic::FileOwner;

use super::{InstallError, labelled, places::InstallPaths};
use crate::terminal;

pub(super) const USER: &str = "edge-mirror";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstallTarget {
    /// The running system.
    Here,
    /// A system whose files lie below a folder.
    Below,
}

impl InstallTarget {
    pub(super) fn at(root: Option<&Path>) -> Result<Self, InstallError> {
        if root.is_some() {
            return Ok(Self::Below);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(InstallError::NotRoot);
        }
        // The check of sd_booted(3).
        match Path::new("/run/systemd/system").is_dir() {
            true => Ok(Self::Here),
            false => Err(InstallError::NoSystemd),
        }
    }

    /// Returns the owner of the service's files; creates the user if needed.
    pub(super) fn user(
        self,
        say: &mut impl FnMut(&str),
    ) -> Result<Option<FileOwner>, InstallError> {
        if self == Self::Below {
            return Ok(None);
        }
        if id("-u").is_err() {
            let home = "/var/lib/edge-mirror";
            let mut useradd = command("useradd");
            useradd.args(["--system", "--user-group", "--no-create-home", "--home-dir", home]);
            run(useradd.args(["--shell", "/usr/sbin/nologin", USER]))?;
            say(&labelled("系统用户", "system user", USER));
        }
        Ok(Some((id("-u")?, id("-g")?)))
    }

    /// Enables and starts the service; one that runs is restarted. Returns once it
    /// serves.
    pub(super) fn start(
        self,
        places: &InstallPaths,
        say: &mut impl FnMut(&str),
    ) -> Result<(), InstallError> {
        if self == Self::Below {
            return Ok(());
        }
        let unit = places.unit_name();
        run(command("systemctl").arg("daemon-reload"))?;
        run(command("systemctl").args(["--quiet", "enable", unit]))?;
        run(command("systemctl").args(["restart", unit])).map_err(|error| match error {
            InstallError::Command { command, said } => {
                let said = terminal::say(
                    format!("{said}；原因见 journalctl -u {unit} -n 50"),
                    format!("{said}; for the reason see journalctl -u {unit} -n 50"),
                );
                InstallError::Command { command, said }
            }
            other => other,
        })?;
        if !places.task_units().is_empty() {
            let socket = InstallPaths::TASK_SOCKET;
            // Without it, programs of remote tasks run as children of the node.
            if let Err(error) =
                run(command("systemctl").args(["--quiet", "enable", "--now", socket]))
            {
                say(&labelled("未启用", "not enabled", error));
            }
        }
        say(&labelled("服务已启动", "the service runs", unit));
        Ok(())
    }

    /// Stops and disables the service.
    pub(super) fn stop(self, places: &InstallPaths) -> Result<(), InstallError> {
        match self {
            Self::Below => Ok(()),
            Self::Here => {
                if !places.task_units().is_empty() {
                    let socket = InstallPaths::TASK_SOCKET;
                    // It may never have been enabled.
                    let _ = run(command("systemctl").args(["--quiet", "disable", "--now", socket]));
                }
                run(command("systemctl").args(["--quiet", "disable", "--now", places.unit_name()]))
            }
        }
    }

    /// Lets systemd see that a unit is gone.
    pub(super) fn forget(self) -> Result<(), InstallError> {
        match self {
            Self::Below => Ok(()),
            Self::Here => run(command("systemctl").arg("daemon-reload")),
        }
    }

    pub(super) fn has_user(self) -> bool {
        self == Self::Here && id("-u").is_ok()
    }

    pub(super) fn remove_user(self) -> Result<bool, InstallError> {
        if !self.has_user() {
            return Ok(false);
        }
        run(command("userdel").arg(USER)).map(|()| true)
    }
}

fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<(), InstallError> {
    output(command).map(drop)
}

fn id(what: &str) -> Result<u32, InstallError> {
    let mut asked = command("id");
    let said = output(asked.args([what, USER]))?;
    said.trim().parse().map_err(|_| failed(&asked, said))
}

fn output(command: &mut Command) -> Result<String, InstallError> {
    let ended = command.output().map_err(|error| failed(command, error.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    match ended.status.success() {
        true => Ok(text(&ended.stdout)),
        false => Err(failed(command, text(&ended.stderr))),
    }
}

fn failed(command: &Command, said: String) -> InstallError {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    InstallError::Command { command: words.join(" "), said }
}
