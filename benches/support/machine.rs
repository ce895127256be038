//! The machine, versions and date of a measurement.

use std::{fs, path::Path, process::Command};

/// Describes them, with the versions of other programs that took part.
pub(crate) fn describe(edge_mirror: &Path, others: &[String]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, name)| name.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut versions = vec![said(edge_mirror, "--version")];
    // Our version is not that of another binary.
    let ours = edge_mirror.starts_with(super::paths::target());
    if let Some(commit) = commit().filter(|_| ours) {
        versions[0] += &format!(" ({commit})");
    }
    versions.extend_from_slice(others);
    versions.push(said(Path::new("rustc"), "--version"));
    let date = chrono::Local::now().format("%Y-%m-%d");
    format!(
        "Measured on {date}: {cores} cores ({model}), Linux {}, {}.",
        kernel.trim(),
        versions.join(", ")
    )
}

/// Returns the first line of a program's version, from stdout or stderr.
pub(crate) fn said(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return format!("{} (version unknown)", program.display());
    };
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).lines().next().unwrap_or_default().trim().to_owned()
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--", "src", "crates", "Cargo.lock"])?.is_empty();
    Some(if clean { commit } else { format!("{commit}, changed") })
}
