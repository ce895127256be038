//! Arguments of what is done with the main server's meetings, nodes and rules as a whole.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub enum StateCommand {
    /// Write meetings, nodes and rules to a file, also while the main server
    /// runs.
    ///
    /// Packages, logins and the node key are files in the data folder, and are
    /// not in it.
    Backup {
        /// The file to write; an existing one is replaced.
        file: PathBuf,
        #[command(flatten)]
        place: StatePlaceArgs,
    },
    /// Replace meetings, nodes and rules with those in a backup; stop the main
    /// server first.
    ///
    /// The previous ones are written to a file in the data folder.
    Restore {
        /// The file that edge-mirror master backup wrote.
        file: PathBuf,
        #[command(flatten)]
        place: StatePlaceArgs,
    },
    /// Move meetings, nodes and rules to another database; stop the main server
    /// first.
    ///
    /// Afterwards, start the main server with --state set to the new database, or
    /// without --state if they are in the data folder now.
    MoveState {
        /// Where to move them: an empty PostgreSQL database, such as
        /// postgres://USER@HOST/DATABASE, or sqlite for the data folder.
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        place: StatePlaceArgs,
    },
}

#[derive(Clone, Debug, Args)]
pub struct StatePlaceArgs {
    /// The main server's data folder.
    #[arg(long, value_name = "DIR", default_value = "master-data")]
    pub data: PathBuf,
    /// The PostgreSQL database that has the meetings, if they are not in the
    /// data folder.
    #[arg(long, value_name = "URL")]
    pub state: Option<String>,
}
