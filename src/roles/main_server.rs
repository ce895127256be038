//! `edge-mirror master`.

mod options;

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
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use self::options::OptionsFollower;
use super::{log_login_link, report_ready, shut_down};
use crate::{cli::MasterArgs, telemetry::Telemetry};

/// Longest time that downloads may take to finish at shutdown.
const GRACE: Duration = Duration::from_secs(20);

/// Runs a main server until it is interrupted or fails.
pub async fn run(args: MasterArgs, mut interrupt: Interrupt) -> Result<()> {
    let (manager, mut hangups) = (Notifier::from_env(), Hangups::listen()?);
    let telemetry = Telemetry::start("main_server", "INFO");
    let audit = args.data.join("audit.log");
    let (host, is_https) = (listen::host(args.host), args.tls_cert.is_some());
    let follower = OptionsFollower::new(std::env::args_os().collect(), &args);
    let options = MasterOptions { shown: follower.shown(), ..master_options(args.clone())? };
    let master = Master::start(options).await?;
    // Its data folder is there, and nobody else's, from now on.
    telemetry.keep_audit(Some(audit));
    let page = master::page_at(host, master.address().port(), is_https).await;
    info!("its page is at {page}");
    if let Some(code) = master.first_code() {
        log_login_link(&page, code);
    }
    let status = || format!("main server on {}", master.address());
    report_ready(&manager, master.liveness(), &status()).await;
    let (reloads, asked) = mpsc::channel(1);
    let failed = tokio::select! {
        () = interrupt.recv() => None,
        failed = master.failed() => Some(failed),
        () = follower.follow(&master, asked) => None,
        () = manager.reload_on_hangup(&mut hangups, async || {
            let (reloaded, done) = oneshot::channel();
            // The follower is there for as long as this is.
            let _ = reloads.send(reloaded).await;
            let _ = done.await;
            status()
        }) => None,
    };
    manager.notify_stopping(GRACE);
    shut_down(master.shut_down(GRACE), interrupt, failed).await
}

fn master_options(args: MasterArgs) -> Result<MasterOptions> {
    let listen = SocketAddr::new(listen::host(args.host), args.port);
    let live = args.live();
    // Absolute, as their folders are watched.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let files = args.tls_cert.map(absolute).zip(args.tls_key.map(absolute));
    let tls = files.map(|(cert, key)| CertificateFiles {
        cert,
        key,
        settings: ["--tls-cert", "--tls-key"],
    });
    let state = args.state.as_deref().map(str::parse).transpose();
    let packages = args.packages.as_deref().map(str::parse).transpose();
    let packages = packages.context("--packages")?.map(|location| PackageStoreOptions {
        location,
        environment: S3Environment::of_process(),
        cache_bytes: args.package_cache,
    });
    Ok(MasterOptions {
        data: args.data,
        state: state.context("--state")?.unwrap_or_default(),
        packages,
        listen,
        live,
        tls,
        redirect_port: args.redirect_port,
        demand_webhook: args.demand.demand_webhook,
        casts: args.casts.limits(),
        dispatch: args.dispatch.options(),
        local_tasks: args.tasks_local,
        castray: args.castray.options(),
        gofd: args.gofd.options(args.host)?,
        ..MasterOptions::default()
    })
}
