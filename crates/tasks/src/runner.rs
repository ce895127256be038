//! Carries out one run: `edge-mirror task-runner`, a process of its own for each.
//!
//! The node, or systemd for its socket, starts it with a stream as standard input. It reads a
//! [`RunRequest`] there, checks it against the declarations by itself (whoever reaches the
//! socket can't have anything else executed), and starts the program. That happens in two
//! steps: a second copy of this program limits itself and becomes the program (`confine`),
//! while the first one supervises (`supervise`): it forwards what is printed, watches the
//! limits, and kills everything when the program or the time ends, or the stream closes.

mod confine;
mod control_group;
mod descendants;
mod missing;
mod supervise;
mod wire;

use std::{
    io,
    path::{Path, PathBuf},
};

use edge_mirror_base::atomic;

pub use confine::run as confine;
pub(crate) use descendants::kill_below;
pub use missing::MissingLimit;
pub use wire::{MAX_LINE_BYTES, RunEnd, RunOutcome, RunRequest, RunnerMessage};

use crate::{
    BilingualText,
    arguments::{self, CommandLine, PathBelow},
    declaration::Declaration,
    folder,
};
use confine::ConfinedCommand;
use wire::ControlStream;

/// The hidden subcommand; with [`CONFINE`], its second step.
pub const SUBCOMMAND: &str = "task-runner";
pub const CONFINE: &str = "--confine";

/// Where the runner finds what it needs.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// The folder of declarations.
    pub types: PathBuf,
    /// The folder in which each run has one of its own.
    pub work: PathBuf,
    /// It is a unit of systemd, which limits it besides.
    pub unit: bool,
}

/// Reads a request from standard input, carries it out and answers there.
pub fn run(options: &RunnerOptions) -> io::Result<()> {
    let mut control = ControlStream::from_stdin()?;
    let Some(request) = control.read_request()? else { return Ok(()) };
    let prepared = prepare(options, &request);
    let end = match prepared {
        Ok(PreparedRun { command, input, limits_s, work }) => {
            let end =
                supervise::run(&mut control, command, input.as_deref(), limits_s, options.unit);
            remove(&work);
            end.unwrap_or_else(|error| RunEnd::not_started(&format!("the runner failed: {error}")))
        }
        Err(fault) => RunEnd::refused(fault),
    };
    control.send_end(&end)
}

/// A run that may begin.
struct PreparedRun {
    command: ConfinedCommand,
    input: Option<String>,
    limits_s: u64,
    work: PathBuf,
}

fn prepare(options: &RunnerOptions, request: &RunRequest) -> Result<PreparedRun, BilingualText> {
    let declaration = folder::read_type(&options.types, &request.task_type).map_err(|faults| {
        let fault = faults.first().map(|fault| fault.wording.clone()).unwrap_or_default();
        let name = &request.task_type;
        BilingualText::new(
            format!("任务类型 {name} 不可用：{}", fault.zh),
            format!("task type {name} is not available: {}", fault.en),
        )
    })?;
    let input = request.input.as_ref();
    let line = arguments::command_line(&declaration, &request.parameters, input, &request.fleet)?;
    for below in &line.paths {
        check_path(below)?;
    }
    let work = work_folder(&options.work).map_err(|error| {
        BilingualText::new(
            format!("无法创建工作文件夹：{error}"),
            format!("the working folder can't be created: {error}"),
        )
    })?;
    let limits_s = request.timeout_s.unwrap_or(u64::MAX).min(declaration.limits.time_s);
    let input = input.map(ToString::to_string);
    Ok(PreparedRun { command: confined(&declaration, line, &work), input, limits_s, work })
}

fn confined(declaration: &Declaration, line: CommandLine, work: &Path) -> ConfinedCommand {
    let folders = |write: bool| {
        let folders = declaration.folders.iter().filter(move |folder| folder.write == write);
        folders.map(|folder| folder.path.clone()).collect()
    };
    ConfinedCommand {
        program: line.program,
        arguments: line.arguments,
        environment: declaration.environment.clone(),
        work: work.to_owned(),
        limits: declaration.limits.clone(),
        read: folders(false),
        write: folders(true),
        network: declaration.network,
        supervisor: std::process::id(),
        group: None,
        user_processes: None,
    }
}

/// Refuses a path that leads out of its folder by a link. Where landlock is, the program
/// could not read it either.
fn check_path(below: &PathBelow) -> Result<(), BilingualText> {
    let PathBelow { parameter, folder, path } = below;
    let (folder, path) = (folder.canonicalize(), path.canonicalize());
    match (folder, path) {
        (Ok(folder), Ok(path)) if path.starts_with(&folder) => Ok(()),
        (Ok(_), Ok(_)) => Err(BilingualText::new(
            format!("参数 {parameter}：不在文件夹之内"),
            format!("parameter {parameter}: leads out of the folder"),
        )),
        (Err(error), _) | (_, Err(error)) => Err(BilingualText::new(
            format!("参数 {parameter}：{error}"),
            format!("parameter {parameter}: {error}"),
        )),
    }
}

/// Creates a fresh folder for one run.
fn work_folder(parent: &Path) -> io::Result<PathBuf> {
    atomic::create_folder_unsynced(parent)?;
    let work = parent.canonicalize()?.join(format!("run-{}", std::process::id()));
    // Left by a runner that was killed, and had our PID.
    remove_work(&work)?;
    atomic::create_private_folder(&work)?;
    Ok(work)
}

fn remove(work: &Path) {
    if let Err(error) = remove_work(work) {
        eprintln!("edge-mirror: {}: {error}", work.display());
    }
}

/// Removes a working folder, also if its program has closed folders in it to its own user.
pub(crate) fn remove_work(work: &Path) -> io::Result<()> {
    match atomic::remove_folder(work) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(work);
            atomic::remove_folder(work)
        }
        done => done,
    }
}

fn open_folders(folder: &Path) {
    // Nothing runs there any more that could put a link in place of a folder.
    let _ = rustix::fs::chmod(folder, rustix::fs::Mode::RWXU);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}
