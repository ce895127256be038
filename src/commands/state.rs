//! `edge-mirror master backup`, `restore` and `move-state`. They open the database
//! themselves: nobody has to run.

use anyhow::{Context, Result};
use edge_mirror_main_server::{self as master, StateLocation};

use crate::{
    cli::{StateCommand, StatePlaceArgs},
    terminal::{print_line, say},
};

/// Runs a command.
pub(super) async fn run(command: StateCommand) -> Result<()> {
    let text = match command {
        StateCommand::Backup { file, place } => {
            let meetings = master::back_up(&location(&place)?, &place.data, &file).await?;
            let file = file.display();
            say(
                format!("已把 {meetings} 个会议写入 {file}。"),
                format!("{} written to {file}.", counted(meetings)),
            )
        }
        StateCommand::Restore { file, place } => {
            let (meetings, kept) = master::restore(&location(&place)?, &place.data, &file).await?;
            let done = say(
                format!("已恢复 {meetings} 个会议。"),
                format!("{} restored.", counted(meetings)),
            );
            let before = kept.map(|kept| {
                let kept = kept.display();
                say(
                    format!("\n之前的会议保存在 {kept} 中。"),
                    format!("\nThe previous meetings are in {kept}."),
                )
            });
            done + &before.unwrap_or_default()
        }
        StateCommand::MoveState { to, place } => {
            let to: StateLocation = to.parse().context("--to")?;
            let meetings = master::move_state(&location(&place)?, &to, &place.data).await?;
            let next = match to {
                StateLocation::DataFolder => say(
                    "请启动主控服务器，不加 --state。",
                    "Start the main server without --state.",
                ),
                // Not the address itself: its parameters, which may hold a password, are
                // shown nowhere, and without them it may be another one.
                StateLocation::Postgres(_) => say(
                    "请用 --state 加上 --to 中的地址启动主控服务器。",
                    "Start the main server with --state and the address given as --to.",
                ),
            };
            let done = say(
                format!("已移动 {meetings} 个会议。"),
                format!("{} moved. ", counted(meetings)),
            );
            done + &next
        }
    };
    print_line(&text);
    Ok(())
}

fn location(place: &StatePlaceArgs) -> Result<StateLocation> {
    let location = place.state.as_deref().map(str::parse).transpose();
    Ok(location.context("--state")?.unwrap_or_default())
}

fn counted(meetings: usize) -> String {
    match meetings {
        1 => "1 meeting".to_owned(),
        meetings => format!("{meetings} meetings"),
    }
}
