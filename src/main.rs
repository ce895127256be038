//! Arguments, configuration, one role, exit code.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use edge_mirror::{
    bench,
    cli::{self, BenchArgs, Command, DemoArgs, MasterArgs, NodeArgs, Operate, Refusal},
    commands, demo, install, manual,
    telemetry::Telemetry,
    terminal::Language,
    token,
};
use edge_mirror_base::{
    log::SECRET,
    pulse::Pulse,
    systemd::{Hangups, Manager},
    tasks::{self, Interrupt, Tasks},
};
use edge_mirror_http::listen;
use edge_mirror_main_server::{self as master, Master, MasterOptions};
use edge_mirror_node::{Node, NodeOptions};
use edge_mirror_settings::{Security, Settings};
use tracing::{info, warn};

/// Time for downloads once the main server is stopping.
const MASTER_GRACE: Duration = Duration::from_secs(20);
/// For blocking work still running after everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(Refusal::Shown(help)) => {
            let _ = help.print();
            // The end of the help must not run into the prompt.
            if !help.to_string().ends_with('\n') {
                print("");
            }
            return ExitCode::SUCCESS;
        }
        Err(Refusal::Wrong(line)) => return failure(&line, 2),
    };
    // A service's last error goes to a log, which is in both languages.
    let is_service = matches!(command, Command::Node(_) | Command::Master(_));
    let language = (!is_service).then(Language::of_environment);
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::NotRight>() => ExitCode::from(commands::NOT_RIGHT),
        Err(error) => failure(&chain(&error, language), 1),
    }
}

fn failure(line: &str, code: u8) -> ExitCode {
    eprintln!("edge-mirror: {line}");
    ExitCode::from(code)
}

/// Returns an error and its causes, but for those that it quotes itself, in one language
/// or as they are.
fn chain(error: &anyhow::Error, language: Option<Language>) -> String {
    let told = |cause: &(dyn std::error::Error + 'static)| match language {
        Some(language) => commands::told(cause, language),
        None => cause.to_string(),
    };
    let colon = if language == Some(Language::Chinese) { "：" } else { ": " };
    error.chain().map(told).fold(String::new(), |said, cause| {
        match (said.is_empty(), said.contains(&cause)) {
            (true, _) => cause,
            (false, true) => said,
            (false, false) => format!("{said}{colon}{cause}"),
        }
    })
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(role(command));
    // Reading a package of gigabytes, or a dead network mount, must not block the exit; a
    // read that is cut off has no effect.
    runtime.shutdown_timeout(LAST_WORDS);
    outcome
}

/// A command goes on to its end even if nobody reads its output.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

async fn role(command: Command) -> Result<()> {
    match command {
        Command::Node(args) => node(args, Interrupt::listen()?).await,
        Command::Master(args) => main_server(args, Interrupt::listen()?).await,
        Command::Demo(args) => demo(&args, Interrupt::listen_to_hangup()?).await,
        Command::Bench(args) => bench(args, Interrupt::listen()?).await,
        Command::Operate(command) => operate(command, Interrupt::listen()?).await,
        // Signals end these like any command.
        Command::Token(args) => token::run(args).await.map(|text| print(&text)),
        Command::Install(args) => install::run(args, print).await,
        Command::Uninstall(args) => Ok(install::uninstall(&args, print)?),
        Command::Completions { shell } => Ok(manual::completions(shell)?),
        Command::Man { folder } => Ok(manual::pages(&folder)?),
    }
}

async fn node(args: NodeArgs, mut interrupt: Interrupt) -> Result<()> {
    let (manager, mut hangups) = (Manager::of_environment(), Hangups::listen()?);
    let telemetry = Telemetry::start("file_node", "INFO");
    let settings = Arc::new(Settings::load_or_create(&args.config)?);
    telemetry.apply(&settings.current());
    let journal = telemetry.journal();
    let options = NodeOptions { host: listen::host(args.host), port: args.port, journal };
    let node = Node::start(settings.clone(), options).await?;
    let page = node.panel().await;
    info!("its page is at {page}");
    if let Some(code) = node.first_code() {
        tell(&page, code);
    }
    let state = || node_state(&node);
    serving(&manager, node.pulse(), &state()).await;
    let failed = tokio::select! {
        () = interrupt.received() => None,
        failed = node.failed() => Some(failed),
        () = telemetry.follow(&settings) => None,
        () = manager.follow(&mut hangups, async || { read_anew(&settings).await; state() }) => None,
    };
    manager.stopping(Duration::from_secs(settings.current().shutdown_grace));
    end(node.shut_down(), interrupt, failed).await
}

async fn main_server(args: MasterArgs, mut interrupt: Interrupt) -> Result<()> {
    let (manager, mut hangups) = (Manager::of_environment(), Hangups::listen()?);
    let telemetry = Telemetry::start("main_server", "INFO");
    let audit = args.data.join("audit.log");
    let host = listen::host(args.host);
    let listen = SocketAddr::new(host, args.port);
    let security = Security {
        open: args.open,
        trust_local: !args.no_trust_local,
        allow_from: args.allow_from,
        trusted_proxies: args.trusted_proxy,
        ..Security::default()
    };
    let options = MasterOptions {
        data: args.data,
        listen,
        security,
        max_connections_per_client: args.max_connections_per_client,
        ..MasterOptions::default()
    };
    let master = Master::start(options).await?;
    // From now on its data folder exists and is locked.
    telemetry.keep_audit(Some(audit));
    let page = master::page_at(host, master.address().port()).await;
    info!("its page is at {page}");
    if let Some(code) = master.first_code() {
        tell(&page, code);
    }
    // Its settings are its arguments: there is nothing to reload.
    let state = || format!("main server on {}", master.address());
    serving(&manager, master.pulse(), &state()).await;
    let failed = tokio::select! {
        () = interrupt.received() => None,
        failed = master.failed() => Some(failed),
        () = manager.follow(&mut hangups, async || state()) => None,
    };
    manager.stopping(MASTER_GRACE);
    end(master.shut_down(MASTER_GRACE), interrupt, failed).await
}

async fn demo(args: &DemoArgs, mut interrupt: Interrupt) -> Result<()> {
    let telemetry = Telemetry::start("demo", "WARNING");
    demo::run(args, &telemetry, &mut interrupt, print).await
}

async fn bench(args: BenchArgs, mut interrupt: Interrupt) -> Result<()> {
    bench::run(args, &mut interrupt).await
}

/// Notifies the service manager, from now until the process ends.
async fn serving(manager: &Manager, listener: &Pulse, state: &str) {
    listener.felt().await;
    manager.ready(state);
    Tasks::new().spawn("reassurance", manager.clone().reassure(listener.clone()));
}

async fn read_anew(settings: &Arc<Settings>) {
    let settings = settings.clone();
    tasks::blocking(move || settings.reload()).await;
}

/// Returns one line, for `systemctl status`.
fn node_state(node: &Node) -> String {
    let settings = node.settings();
    let main_server = settings.current().main_server().to_owned();
    match settings.fault() {
        Some(fault) => format!("the last good configuration is in force: {fault}"),
        None => format!("on {}, main server {main_server}", node.address()),
    }
}

async fn operate(command: Operate, mut interrupt: Interrupt) -> Result<()> {
    commands::run(command, &mut interrupt).await
}

/// For the first start. The link is logged forever, but expires in an hour. A warning, so
/// that no log level in use hides it.
fn tell(page: &str, code: &str) {
    let link = token::login_link(page, code);
    warn!(target: SECRET, "open this link within an hour to log in, it works once (edge-mirror token makes others): {link}");
}

/// Shuts down gracefully; a second signal ends at once.
async fn end(
    in_order: impl Future<Output = bool>,
    mut interrupt: Interrupt,
    failed: Option<String>,
) -> Result<()> {
    tokio::select! {
        _ = in_order => {}
        () = interrupt.received() => bail!("ended at once by a second signal"),
    }
    failed.map_or(Ok(()), |failed| bail!("{failed}"))
}
