//! `edge-mirror master`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use edge_mirror_base::{
    systemd::{Hangups, Notifier},
    tasks::Interrupt,
};
use edge_mirror_http::{listen, tls::CertificateFiles};
use edge_mirror_main_server::{
    self as master, Master, MasterOptions, PackageStoreOptions, S3Environment,
};
use edge_mirror_settings::SecurityConfig;
use tracing::info;

use super::{log_login_link, report_ready, shut_down};
use crate::{cli::MasterArgs, telemetry::Telemetry};

/// Longest time that downloads may take to finish at shutdown.
const GRACE: Duration = Duration::from_secs(20);

/// Runs a main server until it is interrupted or fails.
pub async fn run(args: MasterArgs, mut interrupt: Interrupt) -> Result<()> {
    let (manager, mut hangups) = (Notifier::from_env(), Hangups::listen()?);
    let telemetry = Telemetry::start("main_server", "INFO");
    let audit = args.data.join("audit.log");
    let host = listen::host(args.host);
    let listen = SocketAddr::new(host, args.port);
    let security = SecurityConfig {
        open: args.open,
        trust_local: !args.no_trust_local,
        allow_from: args.allow_from,
        trusted_proxies: args.trusted_proxy,
        ..SecurityConfig::default()
    };
    // Absolute, as their folders are watched.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let files = args.tls_cert.map(absolute).zip(args.tls_key.map(absolute));
    let tls = files.map(|(cert, key)| CertificateFiles {
        cert,
        key,
        settings: ["--tls-cert", "--tls-key"],
    });
    let is_https = tls.is_some();
    let state = args.state.as_deref().map(str::parse).transpose();
    let packages = args.packages.as_deref().map(str::parse).transpose();
    let packages = packages.context("--packages")?.map(|location| PackageStoreOptions {
        location,
        environment: S3Environment::of_process(),
        cache_bytes: args.package_cache,
    });
    let options = MasterOptions {
        data: args.data,
        state: state.context("--state")?.unwrap_or_default(),
        packages,
        listen,
        security,
        nodes: args.nodes,
        max_connections_per_client: args.max_connections_per_client,
        tls,
        redirect_port: args.redirect_port,
        demand: args.demand.limits(),
        demand_webhook: args.demand.demand_webhook,
        casts: args.casts.limits(),
        ..MasterOptions::default()
    };
    let master = Master::start(options).await?;
    // Its data folder is there, and nobody else's, from now on.
    telemetry.keep_audit(Some(audit));
    let page = master::page_at(host, master.address().port(), is_https).await;
    info!("its page is at {page}");
    if let Some(code) = master.first_code() {
        log_login_link(&page, code);
    }
    // Its settings are its arguments: there is nothing to reload.
    let status = || format!("main server on {}", master.address());
    report_ready(&manager, master.liveness(), &status()).await;
    let failed = tokio::select! {
        () = interrupt.recv() => None,
        failed = master.failed() => Some(failed),
        () = manager.reload_on_hangup(&mut hangups, async || status()) => None,
    };
    manager.notify_stopping(GRACE);
    shut_down(master.shut_down(GRACE), interrupt, failed).await
}
