//! Options that change while the main server runs: its file is read anew when it changes,
//! and when the service is told to reload.

use std::{ffi::OsString, path::PathBuf};

use edge_mirror_base::tasks;
use edge_mirror_http::tls::FileWatch;
use edge_mirror_main_server::{LiveOptions, Master, ShownOption, ShownOptions};
use edge_mirror_settings::SecurityConfig;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::cli::{self, CliError, CurrentOptions, MasterArgs};

/// Options that take effect at once.
const LIVE: [&str; 9] = [
    "allow-from",
    "trusted-proxy",
    "no-trust-local",
    "open",
    "nodes",
    "max-connections-per-client",
    "demand-min",
    "demand-max",
    "demand-downloads",
];

impl MasterArgs {
    pub(super) fn live(&self) -> LiveOptions {
        let security = SecurityConfig {
            open: self.open,
            trust_local: !self.no_trust_local,
            allow_from: self.allow_from.clone(),
            trusted_proxies: self.trusted_proxy.clone(),
            ..SecurityConfig::default()
        };
        LiveOptions {
            security,
            nodes: self.nodes,
            max_connections_per_client: self.max_connections_per_client,
            demand: self.demand.limits(),
        }
    }
}

/// Sent once the options were read.
pub(super) type ReloadReply = oneshot::Sender<()>;

/// The arguments, and the options as they are in force.
pub(super) struct OptionsFollower {
    arguments: Vec<OsString>,
    file: Option<PathBuf>,
    shown: ShownOptions,
}

impl OptionsFollower {
    /// Reads the options with which the main server is about to be started.
    pub(super) fn new(arguments: Vec<OsString>, args: &MasterArgs) -> Self {
        // Absolute, as its folder is watched.
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let file = args.config.as_ref().map(absolute);
        let options = match cli::reread_master(arguments.clone()) {
            Ok(now) => now.shown,
            // It has just been replaced; the next look says what is wrong.
            Err(_) => Vec::new(),
        };
        let shown = ShownOptions { file: file.clone(), options, ..ShownOptions::default() };
        Self { arguments, file, shown }
    }

    /// Returns them as the page shows them.
    pub(super) fn shown(&self) -> ShownOptions {
        self.shown.clone()
    }

    /// Follows the file, and reads it when it is `asked` to, forever.
    pub(super) async fn follow(mut self, master: &Master, mut asked: mpsc::Receiver<ReloadReply>) {
        let (mut watch, mut waiting) = (FileWatch::default(), None::<ReloadReply>);
        loop {
            let files = Vec::from_iter(self.file.clone());
            watch = tasks::blocking(move || {
                watch.follow(&files);
                watch
            })
            .await;
            self.reload(master).await;
            if let Some(waiting) = waiting.take() {
                // Whoever left does not want to know.
                let _ = waiting.send(());
            }
            tokio::select! {
                () = watch.changed() => {}
                Some(asks) = asked.recv() => waiting = Some(asks),
            }
        }
    }

    /// Reads everything anew; what is wrong changes nothing.
    async fn reload(&mut self, master: &Master) {
        let arguments = self.arguments.clone();
        let read = tasks::blocking(move || cli::reread_master(arguments)).await;
        let before = self.shown.clone();
        match read {
            Ok(CurrentOptions { args, shown }) => {
                if master.apply(args.live()) {
                    info!("options were changed: {}", changed(&before.options, &shown).join(", "));
                }
                (self.shown.options, self.shown.waiting) = in_force(&before.options, shown);
                self.shown.fault = None;
                if !self.shown.waiting.is_empty() && self.shown.waiting != before.waiting {
                    let names = self.shown.waiting.join(", ");
                    warn!("options that take effect with the next start have changed: {names}");
                }
            }
            Err(error) => {
                let text = match error {
                    CliError::Wrong(text) | CliError::Printed(text) => text,
                    CliError::Shown(shown) => shown.to_string(),
                };
                if before.fault.as_ref() != Some(&text) {
                    warn!("options stay as they are, the new ones can't be used: {text}");
                }
                self.shown.fault = Some(text);
            }
        }
        if self.shown != before {
            master.show_options(self.shown.clone());
        }
    }
}

fn is_live(option: &ShownOption) -> bool {
    LIVE.contains(&&*option.name)
}

/// The names of those that are live and differ.
fn changed<'a>(before: &[ShownOption], now: &'a [ShownOption]) -> Vec<&'a str> {
    let differs = |option: &&ShownOption| {
        let known = before.iter().find(|before| before.name == option.name);
        is_live(option) && known.map(|known| &known.value) != Some(&option.value)
    };
    now.iter().filter(differs).map(|option| &*option.name).collect()
}

/// The options that are in force after `read` ones came, and the names of those that wait
/// for the next start.
fn in_force(before: &[ShownOption], read: Vec<ShownOption>) -> (Vec<ShownOption>, Vec<String>) {
    let mut waiting = Vec::new();
    let options = read.into_iter().map(|option| {
        let started = before.iter().find(|before| before.name == option.name);
        match started.filter(|_| !is_live(&option)) {
            Some(started) if started.value != option.value => {
                waiting.push(option.name);
                started.clone()
            }
            _ => option,
        }
    });
    (options.collect(), waiting)
}

#[cfg(test)]
mod tests {
    use edge_mirror_main_server::OptionSource;
    use serde_json::json;

    use super::*;

    fn options(port: u16, nodes: &str) -> Vec<ShownOption> {
        let option = |name: &str, value| {
            let source = OptionSource::File;
            ShownOption { name: name.to_owned(), value, source }
        };
        vec![option("port", json!(port)), option("nodes", json!(nodes))]
    }

    #[test]
    fn what_needs_a_restart_waits_for_it_and_the_rest_does_not() {
        let (before, read) = (options(1, "approve"), options(2, "open"));
        assert_eq!(changed(&before, &read), ["nodes"]);
        let (now, waiting) = in_force(&before, read);
        assert_eq!((&now, waiting), (&options(1, "open"), vec!["port".to_owned()]));
        let (now, waiting) = in_force(&now, options(1, "open"));
        assert_eq!((now, waiting), (options(1, "open"), vec![]), "it was set back");
    }

    #[test]
    fn live_options_exist() {
        let line = ["edge-mirror", "master", "--port", "1"].map(OsString::from);
        let known = cli::reread_master(line).unwrap();
        for name in LIVE {
            assert!(known.shown.iter().any(|option| option.name == name), "{name}");
        }
        let source = |name: &str| {
            let option = known.shown.iter().find(|option| option.name == name).unwrap();
            option.source
        };
        assert_eq!(
            (source("port"), source("nodes")),
            (OptionSource::CommandLine, OptionSource::Default)
        );
    }
}
