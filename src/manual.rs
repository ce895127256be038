//! Completions and manual pages for packages, generated from the command line's
//! definition so that they can't differ from it.

use std::{io, path::Path};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use edge_mirror_base::atomic;

use crate::{cli::Cli, terminal};

/// Prints a shell's completions.
pub fn completions(shell: Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut <Cli as CommandFactory>::command(),
        "edge-mirror",
        &mut script,
    );
    terminal::print(script)
}

/// Writes `edge-mirror.1` and a page for each command into a folder.
pub fn pages(folder: &Path) -> io::Result<()> {
    atomic::create_folder(folder)?;
    let mut command = <Cli as CommandFactory>::command().disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in shown.cloned().chain([command.clone()]) {
        let name = command.get_display_name().unwrap_or("edge-mirror").to_owned();
        atomic::write_as(&folder.join(format!("{name}.1")), &page(command)?, 0o644, None)?;
    }
    Ok(())
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}
