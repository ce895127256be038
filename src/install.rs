//! `edge-mirror install` and `uninstall`: make this program a service of the machine, so
//! that nobody has to know how that is done.
//!
//! `places` has all paths, `answers` asks, `settings` makes the configuration, `adopted`
//! reads a Python node's folder, `system` runs system commands (none, with `--root`). All
//! checks come before any change, and every step can be repeated: an upgrade is another
//! installation.

mod adopted;
mod answers;
mod places;
mod settings;
mod system;
mod uninstall;

use std::{
    fmt::Display,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use edge_mirror_base::atomic::{self, FileOwner};
use edge_mirror_http::listen::{self, Listener};
use edge_mirror_settings::ConfigError;
use thiserror::Error;

use crate::{
    cli::{InstallArgs, TokenArgs},
    terminal, token,
};
use adopted::AdoptedNode;
use answers::TerminalPrompt;
use places::{InstallPaths, ServiceRole};
use settings::{MASTER_PORT, PreparedConfig};
use system::InstallTarget;
pub use uninstall::run as uninstall;

#[derive(Debug, Error)]
pub enum InstallError {
    #[error(
        "需要 root 权限，请使用 sudo；或用 --root DIR 放到其他目录下 / \
         this needs root's rights: run it with sudo, or with --root DIR to put all files below another folder"
    )]
    NotRoot,
    #[error(
        "本机未运行 systemd，无法安装为服务；可用 --root DIR 只放置文件，或用容器运行 / \
         systemd does not run this machine, so there is nothing to install a service into; --root DIR only lays the files out, and a container needs neither"
    )]
    NoSystemd,
    #[error(
        "缺少 --main-server 主机:端口（或用 --yes 使用默认值）/ \
         --main-server HOST:PORT is missing (or --yes, for the default)"
    )]
    NoMainServer,
    #[error(
        "端口 {0} 已被其他程序占用：请先停止该程序（例如旧的 Python 节点），或用 --port 换一个端口 / \
         port {0} is used by another program: stop that one first (the old Python node, say), or choose another with --port"
    )]
    PortTaken(u16),
    #[error(
        "{0}: 不是节点的文件夹（没有 node_config.json）/ not a node's folder, it has no node_config.json"
    )]
    NotANode(PathBuf),
    #[error(
        "磁盘空间不足：接管的会议包需要 {needed} 字节，{folder} 只有 {free} 字节 / \
         no room: the packages to take over need {needed} bytes, {folder} has {free}"
    )]
    NoRoom { needed: u64, free: u64, folder: PathBuf },
    #[error(
        "由 Debian 软件包安装，请用 apt remove（或 apt purge）edge-mirror 卸载 / installed by the Debian package: remove it with apt remove, or apt purge, edge-mirror"
    )]
    Packaged,
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("cannot read the answer: {0}")]
    NoAnswer(io::Error),
    #[error("{command} failed: {said}")]
    Command { command: String, said: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl InstallError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { action, path: path.to_owned(), cause }
    }
}

/// Installs, or upgrades; `say` gets each step, and at the end what to do next.
pub async fn run(args: InstallArgs, mut say: impl FnMut(&str)) -> Result<()> {
    let places = InstallPaths::new(ServiceRole::of(args.master), args.root.as_deref());
    let system = InstallTarget::at(args.root.as_deref())?;
    let port = install(&args, &places, &system, &mut say)?;
    match system {
        InstallTarget::Here => {
            let link = login(&places, port).await?;
            say(&format!("\n{link}\n\n{}", next(&places, port)));
        }
        InstallTarget::Below => say(&laid_out(&places)),
    }
    Ok(())
}

fn install(
    args: &InstallArgs,
    places: &InstallPaths,
    system: &InstallTarget,
    say: &mut impl FnMut(&str),
) -> Result<u16, InstallError> {
    let adopted = args.adopt.as_deref().map(AdoptedNode::read).transpose()?;
    let mut prompt = TerminalPrompt::of_terminal(args.yes);
    let prepared = PreparedConfig::resolve(args, places, adopted.as_ref(), &mut prompt)?;
    let upgrade = places.is_installed();
    // An installed service listens on its port itself.
    let new_port = !upgrade || prepared.has_new_port();
    if *system == InstallTarget::Here && new_port && is_taken(prepared.port()) {
        return Err(InstallError::PortTaken(prepared.port()));
    }
    let program = std::env::current_exe().map_err(InstallError::io("find", Path::new("myself")))?;

    let owner = system.user(say)?;
    make_folders(places, owner)?;
    if let Some(adopted) = &adopted {
        let readings = adopted.lenient.iter().filter(|_| prepared.is_new());
        readings.for_each(|reading| say(&reading.to_string()));
        adopted.copy_packages(&places.storage(), owner, say)?;
    }
    prepared.write(places, owner, say)?;
    place_program(&program, places, say)?;
    system.start(places, say)?;
    say(&match upgrade && !prepared.is_new() {
        true => terminal::say(
            "已升级，配置和会议包均已保留",
            "upgraded; configuration and packages are kept",
        ),
        false => terminal::say("安装完成", "installed"),
    });
    Ok(prepared.port())
}

fn make_folders(places: &InstallPaths, owner: Option<FileOwner>) -> Result<(), InstallError> {
    for folder in places.folders() {
        atomic::create_folder_as(&folder, 0o750, owner)
            .map_err(InstallError::io("make the folder", &folder))?;
    }
    // Not the node's to change: what may run is for root to say.
    if let Some(types) = places.task_types() {
        atomic::create_folder_as(&types, 0o755, None)
            .map_err(InstallError::io("make the folder", &types))?;
    }
    Ok(())
}

/// Installs the program, its unit, and a drop-in for a low port.
fn place_program(
    program: &Path,
    places: &InstallPaths,
    say: &mut impl FnMut(&str),
) -> Result<(), InstallError> {
    if places.is_packaged() {
        say(&terminal::say(
            "程序和服务文件由 Debian 软件包提供",
            "program and unit are the Debian package's",
        ));
        return Ok(());
    }
    let (binary, unit) = (places.binary(), places.unit());
    let folders = [&binary, &unit].into_iter().filter_map(|path| path.parent());
    for folder in folders {
        atomic::create_folder(folder).map_err(InstallError::io("make the folder", folder))?;
    }
    // Itself, if it runs from where it is installed.
    if program.canonicalize().ok() != binary.canonicalize().ok() {
        atomic::copy(program, &binary, 0o755, None).map_err(InstallError::io("write", &binary))?;
        say(&labelled("程序", "program", binary.display()));
    }
    atomic::write_as(&unit, places.unit_text().as_bytes(), 0o644, None)
        .map_err(InstallError::io("write", &unit))?;
    say(&labelled("服务", "unit", unit.display()));
    for (unit, text) in places.task_units() {
        atomic::write_as(&unit, text.as_bytes(), 0o644, None)
            .map_err(InstallError::io("write", &unit))?;
    }
    Ok(())
}

fn is_taken(port: u16) -> bool {
    let bound = Listener::bind(SocketAddr::new(listen::host(None), port));
    bound.is_err_and(|error| error.cause.kind() == io::ErrorKind::AddrInUse)
}

async fn login(places: &InstallPaths, port: u16) -> Result<String> {
    let data = (places.role() == ServiceRole::Master).then(|| places.data());
    let args = TokenArgs { new: false, config: places.config(), data, port: Some(port) };
    token::run(args).await
}

fn next(places: &InstallPaths, port: u16) -> String {
    let unit = places.unit_name();
    let flag = places.role().flag();
    let token = match places.role() {
        ServiceRole::Node => format!("--config {}", places.config().display()),
        ServiceRole::Master => format!("--data {}", places.data().display()),
    };
    let (upgrade, remove) = match places.is_packaged() {
        true => (
            "sudo apt install ./edge-mirror_*.deb".to_owned(),
            "sudo apt remove edge-mirror".to_owned(),
        ),
        false => (format!("edge-mirror install{flag}"), format!("edge-mirror uninstall{flag}")),
    };
    let (chinese, english) = match places.role() {
        ServiceRole::Master => {
            ("接受新节点（也可以在管理页面上操作）", "accept a new node (also on the page)")
        }
        ServiceRole::Node => (
            "在内置主控服务器上执行：接受本节点（已填写节点密钥则不需要）",
            "on our main server: accept this node, unless it has the node key",
        ),
    };
    let at = match places.role() {
        ServiceRole::Master if port != MASTER_PORT => {
            format!(" --master 127.0.0.1:{port}")
        }
        // The other machine's port is not known here.
        ServiceRole::Master | ServiceRole::Node => String::new(),
    };
    let steps = [
        (format!("edge-mirror nodes approve ID{at}"), chinese, english),
        (format!("systemctl status {unit}"), "查看运行状态", "show its state"),
        (format!("journalctl -u {unit} -f"), "查看日志", "show its log"),
        (format!("edge-mirror token {token}"), "生成新的登录链接", "create another login link"),
        (upgrade, "用新版本再次运行即可升级", "run it again with a newer version to upgrade"),
        (remove, "卸载，保留配置和会议包", "uninstall; configuration and packages are kept"),
    ];
    let mut text = terminal::say("接下来：", "What next:");
    for (command, chinese, english) in steps {
        text += &format!("\n  {command}\n      {}", terminal::say(chinese, english));
    }
    text
}

fn laid_out(places: &InstallPaths) -> String {
    let (root, unit) = (places.root().display(), places.unit_name());
    let command = format!("edge-mirror install --yes{}", places.role().flag());
    terminal::say(
        format!(
            "文件已放在 {root} 下；未创建用户、未更改所有者、未启动服务。\n\n\
             在该系统中执行：\n  {command}\n      创建用户并启动 {unit}，显示登录链接"
        ),
        format!(
            "All files are below {root}. No user was created, no owner changed and no service \
             started.\n\nOn that system:\n  {command}\n      creates the user, starts {unit}, \
             shows a login link"
        ),
    )
}

/// Formats a step and what it was done with.
fn labelled(chinese: &str, english: &str, with: impl Display) -> String {
    terminal::say(format!("{chinese}：{with}"), format!("{english}: {with}"))
}

/// True for a port that plain users may not listen on.
fn is_low(port: u16) -> bool {
    port < 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_names_the_port_that_commands_do_not_assume() {
        let told = |role, port| next(&InstallPaths::new(role, None), port);
        for (role, port, command) in [
            (ServiceRole::Master, 8000, "edge-mirror nodes approve ID\n"),
            (ServiceRole::Master, 80, "edge-mirror nodes approve ID --master 127.0.0.1:80\n"),
            (ServiceRole::Node, 8001, "edge-mirror nodes approve ID\n"),
        ] {
            let text = told(role, port);
            assert!(text.contains(command), "{text}");
        }
    }
}
