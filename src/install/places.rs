//! Paths of an installed node or main server.

use std::path::{Path, PathBuf};

const NODE_UNIT: &str = include_str!("../../systemd/edge-mirror.service");
const MASTER_UNIT: &str = include_str!("../../systemd/edge-mirror-master.service");
const TASK_SOCKET: &str = include_str!("../../systemd/edge-mirror-task.socket");
const TASK_UNIT: &str = include_str!("../../systemd/edge-mirror-task@.service");
pub(super) const LOW_PORT: &str = include_str!("../../systemd/low-port.conf");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceRole {
    Node,
    Master,
}

impl ServiceRole {
    pub(super) fn of(master: bool) -> Self {
        if master { Self::Master } else { Self::Node }
    }

    pub(super) fn other(self) -> Self {
        Self::of(self == Self::Node)
    }

    /// Returns its flag on a command line.
    pub(super) fn flag(self) -> &'static str {
        if self == Self::Master { " --master" } else { "" }
    }

    fn name(self) -> &'static str {
        if self == Self::Master { "edge-mirror-master" } else { "edge-mirror" }
    }
}

#[derive(Clone, Debug)]
pub(super) struct InstallPaths {
    root: PathBuf,
    role: ServiceRole,
}

impl InstallPaths {
    pub(super) fn new(role: ServiceRole, root: Option<&Path>) -> Self {
        Self { root: root.unwrap_or(Path::new("/")).to_owned(), role }
    }

    pub(super) fn of_other_role(&self) -> Self {
        Self { root: self.root.clone(), role: self.role.other() }
    }

    pub(super) fn role(&self) -> ServiceRole {
        self.role
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a path of the installed system, as seen from here.
    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn binary(&self) -> PathBuf {
        self.below("/usr/local/bin/edge-mirror")
    }

    pub(super) fn unit_name(&self) -> &'static str {
        self.role.name()
    }

    pub(super) fn unit(&self) -> PathBuf {
        self.below(&format!("/etc/systemd/system/{}.service", self.role.name()))
    }

    pub(super) fn unit_text(&self) -> &'static str {
        match self.role {
            ServiceRole::Node => NODE_UNIT,
            ServiceRole::Master => MASTER_UNIT,
        }
    }

    /// The socket that the node has for programs of remote tasks.
    pub(super) const TASK_SOCKET: &str = "edge-mirror-task.socket";

    /// Returns the units for programs of remote tasks, with their texts.
    pub(super) fn task_units(&self) -> Vec<(PathBuf, &'static str)> {
        let path = |name: &str| self.below("/etc/systemd/system").join(name);
        match self.role {
            ServiceRole::Node => vec![
                (path(Self::TASK_SOCKET), TASK_SOCKET),
                (path("edge-mirror-task@.service"), TASK_UNIT),
            ],
            ServiceRole::Master => Vec::new(),
        }
    }

    /// Returns the folder of declarations of task types.
    pub(super) fn task_types(&self) -> Option<PathBuf> {
        (self.role == ServiceRole::Node).then(|| self.settings_folder().join("tasks.d"))
    }

    /// Returns the drop-in for a low port.
    pub(super) fn low_port(&self) -> PathBuf {
        self.below(&format!("/etc/systemd/system/{}.service.d/low-port.conf", self.role.name()))
    }

    pub(super) fn settings_folder(&self) -> PathBuf {
        self.below(&format!("/etc/{}", self.role.name()))
    }

    /// Returns a node's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.settings_folder().join("node_config.json")
    }

    /// Returns a main server's options, for its unit.
    pub(super) fn options(&self) -> PathBuf {
        self.settings_folder().join("options.env")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.below(&format!("/var/lib/{}", self.role.name()))
    }

    pub(super) fn storage(&self) -> PathBuf {
        self.data().join("storage")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.below("/var/log/edge-mirror")
    }

    /// The installed node's folder of packages, and its log.
    pub(super) const STORAGE: &str = "/var/lib/edge-mirror/storage";
    pub(super) const LOG: &str = "/var/log/edge-mirror/node.log";

    /// Returns the folders that the service may write to.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let (settings, data) = (self.settings_folder(), self.data());
        match self.role {
            ServiceRole::Node => vec![settings, data, self.storage(), self.logs()],
            ServiceRole::Master => vec![settings, data],
        }
    }

    pub(super) fn is_installed(&self) -> bool {
        self.unit().exists() || self.is_packaged()
    }

    /// True if the Debian package brought program and unit.
    pub(super) fn is_packaged(&self) -> bool {
        let unit = format!("{}.service", self.role.name());
        let folders = ["/lib/systemd/system", "/usr/lib/systemd/system"];
        folders.iter().any(|folder| self.below(folder).join(&unit).exists())
    }
}
