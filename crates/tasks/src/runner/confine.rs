//! The second step: this process limits itself, and becomes the program. What can't be set
//! on this machine is told before that, in the first line on standard output.

use std::{
    fs, io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use super::{MissingLimit, control_group};
use crate::declaration::RunLimits;

/// The first line of standard input, which is the supervisor's; the rest is for
/// the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ConfinedCommand {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) work: PathBuf,
    pub(super) limits: RunLimits,
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    pub(super) network: bool,
    pub(super) supervisor: u32,
    /// The list of members of its control group.
    pub(super) group: Option<PathBuf>,
    /// The value of RLIMIT_NPROC; none: the kernel would not obey.
    pub(super) user_processes: Option<u64>,
}

/// The line that this step tells the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ConfineReport {
    Confined(Vec<MissingLimit>),
    Failed(String),
}

/// Programs and what they need to run. Not all of /etc, and nothing of /opt: secrets may be
/// there, the node's own ones, too.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys/devices/system/cpu",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
    "/etc/magic",
    "/etc/fonts",
    "/etc/libreoffice",
    "/etc/ImageMagick-6",
    "/etc/ImageMagick-7",
    "/etc/java",
    "/etc/python3",
];
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// The newest rights that this program knows; older kernels enforce those that they know.
const NEWEST: ABI = ABI::V10;
/// The longest line of the supervisor's: arguments with what escapes them.
const MAX_LINE_BYTES: usize = 2 << 20;
const OPEN_FILES: u64 = 1024;

/// Becomes the program; returns only if that fails.
pub fn run() -> io::Result<()> {
    let command = read_command()?;
    let failed = match confine(&command) {
        Ok(missing) => {
            tell(&ConfineReport::Confined(missing))?;
            program(&command).exec()
        }
        Err(error) => {
            tell(&ConfineReport::Failed(error.to_string()))?;
            return Ok(());
        }
    };
    // The report is out already: as a shell does it.
    eprintln!("{}: {failed}", command.program.display());
    Err(failed)
}

/// Reads the first line, and leaves the rest where it is.
fn read_command() -> io::Result<ConfinedCommand> {
    let stdin = io::stdin();
    let mut line = vec![0; MAX_LINE_BYTES];
    let mut length = 0;
    loop {
        let offset = u64::try_from(length).map_err(io::Error::other)?;
        match rustix::io::pread(stdin.as_fd(), &mut line[length..], offset)? {
            0 => break,
            read => length += read,
        }
    }
    let line = &line[..length];
    let end = line.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| io::Error::other("no command"))?;
    let after = u64::try_from(end + 1).map_err(io::Error::other)?;
    rustix::fs::seek(stdin.as_fd(), rustix::fs::SeekFrom::Start(after))?;
    serde_json::from_slice(&line[..end]).map_err(io::Error::other)
}

fn tell(report: &ConfineReport) -> io::Result<()> {
    let mut line = serde_json::to_vec(report).map_err(io::Error::other)?;
    line.push(b'\n');
    rustix::io::write(io::stdout().as_fd(), &line)?;
    Ok(())
}

fn program(command: &ConfinedCommand) -> Command {
    let mut program = Command::new(&command.program);
    program.args(&command.arguments).current_dir(&command.work).env_clear();
    program.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
    program.env("HOME", &command.work).env("TMPDIR", &command.work);
    program.envs(command.environment.iter().map(|(name, value)| (name, value)));
    program
}

/// Sets every limit that this machine lets it set, and returns the others.
fn confine(command: &ConfinedCommand) -> io::Result<Vec<MissingLimit>> {
    rustix::process::setsid()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent.and_then(|pid| u32::try_from(pid).ok()) != Some(command.supervisor) {
        return Err(io::Error::other("the supervisor is gone"));
    }
    let mut missing = Vec::new();
    let mut note = |set: bool, limit| {
        if !set {
            missing.push(limit);
        }
    };
    note(has_no_descriptors(), MissingLimit::Descriptors);
    if let Some(group) = &command.group {
        control_group::join(group)?;
    }
    // The kernel should take it before the node when memory is short.
    let _ = control_group::put(Path::new("/proc/self/oom_score_adj"), "1000");
    note(rustix::process::setpriority_process(None, 19).is_ok(), MissingLimit::Priority);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let limits = &command.limits;
    let processes = command.user_processes;
    note(limit(Resource::Cpu, limits.cpu_s), MissingLimit::Cpu);
    note(limit(Resource::Data, limits.memory_bytes), MissingLimit::Memory);
    note(limit(Resource::Fsize, limits.file_bytes), MissingLimit::FileSize);
    note(processes.is_some_and(|most| limit(Resource::Nproc, most)), MissingLimit::Processes);
    limit(Resource::Nofile, OPEN_FILES);
    limit(Resource::Core, 0);
    std::env::set_current_dir(&command.work)?;
    missing.extend(restrict(command));
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// False if the program inherits a descriptor. Rust opens none that way, but whoever started
/// the node may have left some open, and no safe call closes those.
fn has_no_descriptors() -> bool {
    const CLOSED_ON_EXEC: u32 = 0o2_000_000;
    let entries = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let others = entries.filter(|entry| {
        entry.file_name().to_str().and_then(|name| name.parse().ok()).is_some_and(|n: u32| n > 2)
    });
    let is_inherited = |text: String| {
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & CLOSED_ON_EXEC == 0)
    };
    let mut texts = others.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    !texts.any(|text| is_inherited(text) == Some(true))
}

/// False if it could not be set.
fn limit(resource: Resource, most: u64) -> bool {
    // At the hard limit of CPU time the kernel kills at once, and nobody could tell why.
    let hard = if resource == Resource::Cpu { most.saturating_add(1) } else { most };
    let new = Rlimit { current: Some(most), maximum: Some(hard) };
    rustix::process::setrlimit(resource, new).is_ok() || {
        // Lower already, by whoever started the node.
        let now = rustix::process::getrlimit(resource);
        now.current.is_some_and(|now| now <= most)
    }
}

/// Files and network, by landlock. Returns what the kernel does not enforce.
fn restrict(command: &ConfinedCommand) -> Vec<MissingLimit> {
    let network = (!command.network).then_some(MissingLimit::Network);
    let Ok(status) = ruleset(command).and_then(RulesetCreated::restrict_self) else {
        let all = [MissingLimit::Folders, MissingLimit::NewPrivileges, MissingLimit::Signals];
        return all.into_iter().chain(network).collect();
    };
    // Set also where there is no landlock.
    let privileges = (!status.no_new_privs).then_some(MissingLimit::NewPrivileges);
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Some(effective_abi),
        _ => None,
    };
    let folders = (status.ruleset == RulesetStatus::NotEnforced).then_some(MissingLimit::Folders);
    // Datagrams are known to it since version 10.
    let network = network.filter(|_| abi.is_none_or(|abi| abi < ABI::V10) && !has_only_loopback());
    // Signals are known to it since version 6.
    let signals = abi.is_none_or(|abi| abi < ABI::V6).then_some(MissingLimit::Signals);
    folders.into_iter().chain(network).chain(privileges).chain(signals).collect()
}

fn ruleset(command: &ConfinedCommand) -> Result<RulesetCreated, landlock::RulesetError> {
    let all = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default().handle_access(all)?.scope(Scope::from_all(NEWEST))?;
    if !command.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut created = ruleset.create()?;
    let read = AccessFs::from_read(NEWEST);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let system = SYSTEM.iter().map(|path| (Path::new(path), read));
    let devices = DEVICES.iter().map(|path| (Path::new(path), device));
    let declared = command.read.iter().map(|path| (path.as_path(), read));
    let own = command.write.iter().chain([&command.work]).map(|path| (path.as_path(), all));
    let program = command.program.canonicalize().unwrap_or_else(|_| command.program.clone());
    let program = [(program.as_path(), AccessFs::ReadFile | AccessFs::Execute)];
    for (path, access) in system.chain(devices).chain(declared).chain(own).chain(program) {
        // What does not exist needs no rule.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = match path.is_dir() {
            true => access,
            false => access & AccessFs::from_file(NEWEST),
        };
        created = created.add_rule(PathBeneath::new(opened, access))?;
    }
    Ok(created)
}

/// True in a network of its own, such as that of a unit with PrivateNetwork=.
fn has_only_loopback() -> bool {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut names =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.all(|name| name == "lo")
}
