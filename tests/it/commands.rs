//! Operators' commands, as an operator runs them, against real servers.

mod casts;
mod config;
mod get;
mod ids;
mod lists;
mod publish;
mod status;
mod sync;
mod verify;

use std::{
    ffi::OsStr,
    net::SocketAddr,
    process::{Command, Stdio},
};

use crate::support::process::binary;

/// A command that has ended.
struct Ended {
    code: Option<i32>,
    output: String,
    errors: String,
}

impl Ended {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.output).unwrap()
    }

    /// It failed, said why on one line with all of this, and printed nothing.
    fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.output.as_str()), (Some(code), ""), "{}", self.errors);
        let last = self.errors.lines().last().unwrap_or_default();
        assert!(last.starts_with("edge-mirror: "), "{}", self.errors);
        assert!(parts.iter().all(|part| last.contains(part)), "{parts:?} in {}", self.errors);
    }
}

fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = binary();
    command.args(args);
    command
}

async fn ended(mut command: Command) -> Ended {
    command.stdout(Stdio::piped());
    ended_into(command).await
}

/// As [`ended`], with an output of the command's own.
async fn ended_into(mut command: Command) -> Ended {
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let ended =
        tokio::task::spawn_blocking(move || command.spawn().unwrap().wait_with_output().unwrap())
            .await
            .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (output, errors) = (text(ended.stdout), text(ended.stderr));
    println!("{output}\n{errors}");
    for text in [&output, &errors] {
        assert!(!text.contains('\x1b') && !text.contains('\r'), "not for a terminal");
    }
    Ended { code: ended.status.code(), output, errors }
}

async fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    ended(command(args)).await
}

async fn run_in_chinese(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    let mut command = command(args);
    command.env("LANG", "zh_CN.UTF-8");
    ended(command).await
}

/// As from another machine, where this one is not trusted.
async fn run_with_token(args: impl IntoIterator<Item = impl AsRef<OsStr>>, token: &str) -> Ended {
    let mut command = command(args);
    command.env("EDGE_MIRROR_TOKEN", token);
    ended(command).await
}

/// Where nobody listens: whoever asks for any free port gets a higher one.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

const COMMANDS: &[&str] =
    &["get", "status", "verify", "publish", "nodes", "meetings", "sync", "config"];
