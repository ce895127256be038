//! Operators' commands for nodes and main servers that run somewhere: one file for each
//! command. They call servers over HTTP, as everybody else does.

mod casts;
mod client;
mod config;
mod get;
mod gofd_password;
mod meetings;
mod nodes;
mod panel;
mod place;
mod publish;
mod push;
mod readiness;
mod ready;
mod remote_tasks;
mod state;
mod status;
mod sync;
mod verify;

use anyhow::{Result, bail};
use edge_mirror_base::tasks::Interrupt;
use edge_mirror_protocol::package::InvalidId;
use edge_mirror_settings::{ConfigError, PatchError};
use thiserror::Error;

use crate::{
    cli::{OperateCommand, StateCommand},
    terminal::{self, Language, localized},
};
pub use client::https_port;

/// The command did what it was asked to do, and found a problem, which it has reported.
#[derive(Debug, Error)]
#[error("something is not right")]
pub struct CheckFailed;

/// Not all nodes are ready, which the command has reported.
#[derive(Debug, Error)]
#[error("not all nodes are ready")]
pub struct NotReady;

/// The meeting that a command is about does not exist.
#[derive(Debug, Error)]
#[error("没有会议 {0} / there is no meeting {0}")]
pub struct UnknownMeeting(String);

/// Returns the exit code for an error, and true if it has been reported already.
pub fn exit_code(error: &anyhow::Error) -> (u8, bool) {
    match error {
        error if error.is::<CheckFailed>() => (3, true),
        error if error.is::<NotReady>() => (1, true),
        error if error.is::<UnknownMeeting>() => (2, false),
        _ => (1, false),
    }
}

/// Returns an error and its causes on one line, except those it quotes itself; in one
/// language or, for a log, as they are.
pub fn error_line(error: &anyhow::Error, language: Option<Language>) -> String {
    let colon = if language == Some(Language::Chinese) { "：" } else { ": " };
    let causes = error.chain().map(|cause| match language {
        Some(language) => in_language(cause, language),
        None => cause.to_string(),
    });
    causes.fold(String::new(), |line, cause| match (line.is_empty(), line.contains(&cause)) {
        (true, _) => cause,
        (false, true) => line,
        (false, false) => format!("{line}{colon}{cause}"),
    })
}

/// Returns one error, in the operator's language if it has two.
fn in_language(error: &(dyn std::error::Error + 'static), language: Language) -> String {
    let chinese = language == Language::Chinese;
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return error.message_in(chinese);
    }
    if let Some(error) = error.downcast_ref::<PatchError>() {
        return error.message_in(chinese);
    }
    if chinese && error.is::<InvalidId>() {
        return InvalidId::RULE_ZH.to_owned();
    }
    localized(&error.to_string(), language)
}

/// Runs a command for a main server's meetings as a whole. Each of its steps is one
/// transaction; one that was interrupted can be repeated.
pub async fn run_for_state(command: StateCommand) -> Result<()> {
    state::run(command).await
}

/// Runs a command.
pub async fn run(command: OperateCommand, interrupt: &mut Interrupt) -> Result<()> {
    let language = Language::from_env();
    match command {
        OperateCommand::Get(args) => get::run(&args, language, interrupt).await,
        OperateCommand::Status(args) => status::run(&args, language, interrupt).await,
        OperateCommand::Verify(args) => until(interrupt, verify::run(&args, language)).await,
        OperateCommand::Publish(args) => publish::run(&args, language, interrupt).await,
        OperateCommand::Push(args) => push::run(&args, language, interrupt).await,
        OperateCommand::Run(args) => remote_tasks::run(&args, language, interrupt).await,
        OperateCommand::Tasks(args) => until(interrupt, remote_tasks::tasks(args, language)).await,
        OperateCommand::Nodes(args) => until(interrupt, nodes::run(&args, language)).await,
        OperateCommand::Meetings(args) => meetings::run(&args, language, interrupt).await,
        OperateCommand::Ready(args) => until(interrupt, ready::run(&args, language)).await,
        OperateCommand::Cast(args) => until(interrupt, casts::send(&args, language)).await,
        OperateCommand::Casts(args) => casts::list(&args, language, interrupt).await,
        OperateCommand::GofdPassword(args) => {
            until(interrupt, gofd_password::run(args, language)).await
        }
        OperateCommand::Config(args) => until(interrupt, config::run(args.what, language)).await,
        OperateCommand::Sync(args) => until(interrupt, sync::run(&args, language)).await,
    }
}

async fn until(interrupt: &mut Interrupt, command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        done = command => done,
        () = interrupt.recv() => bail!(terminal::say("已中断", "interrupted")),
    }
}
