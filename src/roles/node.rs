//! `edge-mirror node`.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use edge_mirror_base::{
    systemd::{Hangups, Notifier},
    tasks::{self, Interrupt},
};
use edge_mirror_http::listen;
use edge_mirror_node::{Node, NodeOptions};
use edge_mirror_settings::Settings;
use tracing::info;

use super::{log_login_link, report_ready, shut_down};
use crate::{cli::NodeArgs, telemetry::Telemetry};

/// Runs a node until it is interrupted or fails.
pub async fn run(args: NodeArgs, mut interrupt: Interrupt) -> Result<()> {
    let (manager, mut hangups) = (Notifier::from_env(), Hangups::listen()?);
    let telemetry = Telemetry::start("file_node", "INFO");
    let settings = Arc::new(Settings::load_or_create(&args.config)?);
    telemetry.apply(&settings.current());
    let journal = telemetry.journal();
    let options = NodeOptions { host: listen::host(args.host), port: args.port, journal };
    let node = Node::start(settings.clone(), options).await?;
    let page = node.panel().await;
    info!("its page is at {page}");
    if let Some(code) = node.first_code() {
        log_login_link(&page, code);
    }
    let status = || status_line(&node);
    report_ready(&manager, node.liveness(), &status()).await;
    let failed = tokio::select! {
        () = interrupt.recv() => None,
        failed = node.failed() => Some(failed),
        () = telemetry.follow(&settings) => None,
        () = manager.reload_on_hangup(&mut hangups, async || { reload(&settings).await; status() }) => None,
    };
    manager.notify_stopping(Duration::from_secs(settings.current().shutdown_grace));
    shut_down(node.shut_down(), interrupt, failed).await
}

async fn reload(settings: &Arc<Settings>) {
    let settings = settings.clone();
    tasks::blocking(move || settings.reload()).await;
}

/// For `systemctl status`.
fn status_line(node: &Node) -> String {
    let settings = node.settings();
    let main_server = settings.current().main_server().to_owned();
    match settings.fault() {
        Some(fault) => format!("the last good configuration is in force: {fault}"),
        None => format!("on {}, main server {main_server}", node.address()),
    }
}
