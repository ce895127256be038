//! The demo with several main servers: each of them and each node is a process of its own,
//! so that any can be killed.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use edge_mirror_base::{
    atomic::{self, Scratch},
    tasks::{self, Interrupt, Tasks},
};
use edge_mirror_http::tls;

use super::{
    DOWNLOAD_S, HOST, MAIN_SERVER_PORT, TempFolder, begin_meeting, outcome_of, package_url,
    tablets, usual_or_free, write_config,
};
use crate::{cli::DemoArgs, terminal::say};

const START_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A main server or a node.
struct DemoProcess {
    name: String,
    page: String,
    address: SocketAddr,
    child: Mutex<Option<Child>>,
    /// Its log, while it is there.
    log: Scratch,
}

/// Runs until interrupted.
pub(super) async fn run(
    args: &DemoArgs,
    interrupt: &mut Interrupt,
    print: impl Fn(&str),
) -> Result<()> {
    let Some(postgres) = &args.postgres else {
        bail!(say(
            "--masters 需要 --postgres postgres://用户@主机/数据库：多台主控服务器共用一个数据库",
            "--masters needs --postgres postgres://USER@HOST/DATABASE: several main servers share \
             a database",
        ));
    };
    let folder = TempFolder::create()?;
    let packages = match &args.s3 {
        Some(place) => place.clone(),
        None => {
            let packages = folder.0.join("packages");
            atomic::create_folder(&packages)?;
            packages.display().to_string()
        }
    };
    let tablets = Tasks::new();
    let work = async {
        let mut servers = Vec::new();
        for number in 1..=args.masters {
            servers.push(DemoProcess::main_server(&folder.0, number, postgres, &packages).await?);
        }
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let mut nodes = Vec::new();
        for number in 1..=args.nodes {
            nodes.push(DemoProcess::node(&folder.0, number, &addresses, args).await?);
        }
        print(&instructions(&servers, &nodes, &folder.0));
        let node_addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        let spread = begin_meeting(addresses[0], &node_addresses, &folder.0, args).await?;
        let urls: Vec<_> = addresses.iter().map(|address| package_url(*address)).collect();
        for _ in 0..args.clients {
            let tablet = tablets::download_for_ever(urls.clone(), args.size / DOWNLOAD_S);
            tablets.spawn("tablet", tablet);
        }
        print(&outcome_of(&spread, args));
        loop {
            for process in servers.iter().chain(&nodes) {
                if process.take_end() {
                    let name = &process.name;
                    print(&say(format!("{name} 已结束。"), format!("{name} has ended.")));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let outcome = tokio::select! {
        failed = work => failed,
        () = interrupt.recv() => Ok(()),
    };
    tablets.shut_down(Duration::ZERO).await;
    drop(folder);
    print(&super::end_message());
    outcome
}

impl DemoProcess {
    async fn main_server(folder: &Path, number: u16, state: &str, packages: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let port = usual_or_free(MAIN_SERVER_PORT + (number - 1) * 100);
        command.args(["master", "--host", &HOST.to_string(), "--port", &port.to_string()]);
        command.arg("--packages").arg(packages);
        command.arg("--data").arg(folder.join(format!("main-server-{number}")));
        // Not on the command line: it may have a password, and all users see those.
        command.env("EDGE_MIRROR_MASTER_STATE", state);
        let name = say(format!("主控服务器 {number}"), format!("main server {number}"));
        let log = Scratch::create_in(folder)?;
        Self::start(command, name, SocketAddr::new(HOST, port), "/", log).await
    }

    async fn node(
        folder: &Path,
        number: u16,
        main_servers: &[SocketAddr],
        args: &DemoArgs,
    ) -> Result<Self> {
        let own = folder.join(format!("node-{number}"));
        atomic::create_folder(&own)?;
        let port = usual_or_free(MAIN_SERVER_PORT + number);
        let path = own.join("node_config.json");
        write_config(&path, number, port, main_servers, args)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--host", &HOST.to_string(), "--config"]).arg(&path);
        let name = say(format!("节点 {number}"), format!("node {number}"));
        let (address, page) = (SocketAddr::new(HOST, port), "/static/index.html");
        Self::start(command, name, address, page, Scratch::create_in(folder)?).await
    }

    /// Starts it, and waits until it answers.
    async fn start(
        mut command: Command,
        name: String,
        address: SocketAddr,
        page: &str,
        log: Scratch,
    ) -> Result<Self> {
        let errors = log.file().try_clone()?;
        let child = tasks::blocking(move || {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()
        });
        let child = child.await.with_context(|| name.clone())?;
        let page = format!("http://{address}{page}");
        let process = Self { name, page, address, child: Mutex::new(Some(child)), log };
        let client = tls::http(tls::client()).build()?;
        let answers = async {
            while client.get(&process.page).send().await.is_err() {
                if process.take_end() {
                    bail!("{}: {}", process.name, process.last_words().await);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        match tokio::time::timeout(START_PATIENCE, answers).await {
            Ok(outcome) => outcome?,
            Err(_) => bail!("{} does not answer at {}", process.name, process.page),
        }
        Ok(process)
    }

    fn id(&self) -> Option<u32> {
        self.child.lock().ok()?.as_ref().map(Child::id)
    }

    /// True once after it has ended.
    fn take_end(&self) -> bool {
        let Ok(mut child) = self.child.lock() else { return false };
        let has_ended = child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
        has_ended && child.take().is_some()
    }

    async fn last_words(&self) -> String {
        let reader = self.log.reader();
        let log = tasks::blocking(move || io::read_to_string(reader?)).await.unwrap_or_default();
        log.trim_end().lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for DemoProcess {
    fn drop(&mut self) {
        let child = self.child.get_mut().ok().and_then(Option::take);
        if let Some(mut child) = child {
            // It has nothing to lose: its folder goes, too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn instructions(servers: &[DemoProcess], nodes: &[DemoProcess], folder: &Path) -> String {
    let row = |process: &DemoProcess| {
        let id = process.id().map_or_else(|| "–".to_owned(), |id| id.to_string());
        format!("  {:>8}  {}  {}\n", id, process.page, process.name)
    };
    let rows: String = servers.iter().chain(nodes).map(row).collect();
    let (count, curl, folder) = (nodes.len(), package_url(servers[0].address), folder.display());
    say(
        format!(
            "\n演示已启动：{} 台主控服务器共用一个数据库和会议包存储，{count} 个节点。\n\
             进程号、页面和名称：\n\n{rows}\n\
             可以随时用 kill -9 进程号 结束其中任何一个，看其余的如何继续。\n\
             像平板一样下载：curl -L {curl} -o sample.zip\n\n\
             文件都在 {folder} 中，结束时自动删除。按 Ctrl-C 结束。\n",
            servers.len()
        ),
        format!(
            "\nThe demo is running: {} main servers on one database and package store, {count} \
             nodes.\nProcesses, their pages and names:\n\n{rows}\n\
             Kill any of them with kill -9 PROCESS, and see the others go on.\n\
             To download as a tablet does: curl -L {curl} -o sample.zip\n\n\
             All files are in {folder} and are removed at the end. Press Ctrl-C to stop.\n",
            servers.len()
        ),
    )
}
