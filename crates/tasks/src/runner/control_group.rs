//! A control group of its own (cgroup v2), where this process may create one: killing is then
//! one write, and memory and processes are limited as a whole if the kernel lets us.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use edge_mirror_base::atomic;
use rustix::fs::{Mode, OFlags};

use crate::declaration::RunLimits;

#[derive(Debug)]
pub(super) struct ControlGroup {
    path: PathBuf,
    /// Memory and processes are limited.
    pub(super) is_limited: bool,
}

impl ControlGroup {
    /// None where it is not allowed, as in a service without delegation.
    pub(super) fn create(limits: &RunLimits) -> Option<Self> {
        let own = own_group(
            &fs::read_to_string("/proc/self/cgroup").ok()?,
            &fs::read_to_string("/proc/self/mountinfo").ok()?,
        )?;
        let path = own.join(format!("edge-mirror-task-{}", std::process::id()));
        atomic::remove_empty_folder(&path).ok()?;
        atomic::create_private_folder(&path).ok()?;
        let mut group = Self { path, is_limited: false };
        let set = |file: &str, value: u64| put(&group.path.join(file), &value.to_string());
        let memory = set("memory.max", limits.memory_bytes);
        let _ = set("memory.swap.max", 0);
        group.is_limited = memory.and(set("pids.max", limits.processes)).is_ok();
        Some(group)
    }

    pub(super) fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    pub(super) fn kill(&self) {
        let _ = put(&self.path.join("cgroup.kill"), "1");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = atomic::remove_empty_folder(&self.path);
    }
}

/// Moves the calling process into the group with this list of members.
pub(super) fn join(members: &Path) -> io::Result<()> {
    put(members, "0")
}

/// Writes to a file of the kernel, which is not one to be replaced.
pub(super) fn put(path: &Path, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

/// The folder of this process's group, by the lists in /proc.
fn own_group(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A path out of the namespace can't be reached.
    if own.starts_with("..") {
        return None;
    }
    let mounted = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let at = mounted.split(' ').nth(4)?;
    Some(Path::new(at).join(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_by_the_lists_of_the_kernel() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let groups = "12:pids:/x\n0::/system.slice/edge-mirror.service\n";
        let own = own_group(groups, mounts).unwrap();
        assert_eq!(own, Path::new("/sys/fs/cgroup/system.slice/edge-mirror.service"));
        assert_eq!(own_group("0::/../x\n", mounts), None);
        assert_eq!(own_group("1:cpu:/\n", mounts), None);
        assert_eq!(own_group(groups, ""), None);
    }
}
