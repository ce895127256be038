//! Settings of the service: its configuration file, or for a main server the options of
//! its unit.

use std::{fs, path::Path};

use edge_mirror_base::atomic::{self, FileOwner};
use edge_mirror_settings::{Settings, first_main_server, merge::merge, put_main_server, schema};
use serde_json::{Map, Value};

use super::{
    InstallError,
    adopted::AdoptedNode,
    answers::TerminalPrompt,
    is_low, labelled,
    places::{InstallPaths, LOW_PORT, ServiceRole},
};
use crate::{
    cli::{InstallArgs, MainServerAddress},
    terminal::{Language, localized},
};

pub(super) const MASTER_PORT: u16 = 8000;
const PORT_OF_OPTIONS: &str = "MASTER_PORT=";

/// The file to be written, already checked.
pub(super) struct PreparedConfig {
    port: u16,
    /// Another port that it listens on.
    redirect_port: Option<u16>,
    has_new_port: bool,
    bytes: Vec<u8>,
    is_new: bool,
    /// A remark about it, for the operator.
    note: &'static str,
}

impl PreparedConfig {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// True if nothing was set up before.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// True if the port differs from before, if there was one.
    pub(super) fn has_new_port(&self) -> bool {
        self.has_new_port
    }

    /// Asks for missing settings, and checks the result.
    pub(super) fn resolve(
        args: &InstallArgs,
        places: &InstallPaths,
        adopted: Option<&AdoptedNode>,
        prompt: &mut TerminalPrompt,
    ) -> Result<Self, InstallError> {
        match places.role() {
            ServiceRole::Node => Self::of_node(args, &places.config(), adopted, prompt),
            ServiceRole::Master => Self::of_master(args, &places.options(), prompt),
        }
    }

    fn of_node(
        args: &InstallArgs,
        path: &Path,
        adopted: Option<&AdoptedNode>,
        prompt: &mut TerminalPrompt,
    ) -> Result<Self, InstallError> {
        let there = Settings::document(path)?.map(|file| file.settings).unwrap_or_default();
        // The package's own file names no main server: it was not set up yet.
        let is_listed = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        let kept =
            there.contains_key("mainServerIp") || there.get("mainServers").is_some_and(is_listed);
        let (mut document, note) = first_document(there, kept, adopted);
        let is_new = !kept && adopted.is_none();
        let known = main_server_of(&document);
        let main_server = match &args.main_server {
            Some(given) => given.clone(),
            None => match prompt.ask("主控服务器地址 / main server (HOST:PORT)", &known)? {
                Some(answer) => answer,
                None if is_new && !prompt.defaults => return Err(InstallError::NoMainServer),
                None => known.clone(),
            },
        };
        let known_port = port_of(&document);
        let port = match args.port {
            Some(given) => given,
            None => {
                prompt.ask("本节点端口 / port of this node", &known_port)?.unwrap_or(known_port)
            }
        };
        let is_changed = main_server != known || port != known_port;
        let note = match () {
            () if is_new && main_server == known && args.main_server.is_none() => {
                "新配置；主控服务器仍是默认地址，不对时请用 --main-server 或在管理页面中改正 / new configuration; the main server is the default one, if that is wrong name yours by --main-server or in the panel"
            }
            () if kept && adopted.is_none() && is_changed => {
                "配置已更新，其余保留 / configuration changed, the rest kept"
            }
            () => note,
        };
        // Unchanged settings stay as written, or left out.
        if is_new || main_server != known {
            put_main_server(&mut document, &main_server.host, main_server.port);
        }
        if is_new || port != known_port {
            schema::put(&mut document, "nodePort", port.into());
        }
        // Without an id, if it has none: an image that is copied must not have one.
        let (config, bytes) = Settings::to_file(path, &document)?;
        Ok(Self {
            port: config.node_port,
            redirect_port: config.redirect_port(),
            has_new_port: port != known_port,
            bytes,
            is_new: !kept,
            note,
        })
    }

    fn of_master(
        args: &InstallArgs,
        path: &Path,
        prompt: &mut TerminalPrompt,
    ) -> Result<Self, InstallError> {
        let kept = fs::read_to_string(path).ok();
        let lines = kept.as_deref().unwrap_or(NEW_OPTIONS);
        let known = lines.lines().find_map(|line| line.strip_prefix(PORT_OF_OPTIONS));
        let known = known.and_then(|port| port.trim().parse().ok()).unwrap_or(MASTER_PORT);
        let port = match args.port {
            Some(given) => given,
            None => {
                prompt.ask("主控服务器端口 / port of the main server", &known)?.unwrap_or(known)
            }
        };
        let others = lines.lines().filter(|line| !line.starts_with(PORT_OF_OPTIONS));
        let port_line = format!("{PORT_OF_OPTIONS}{port}");
        let text = others.chain([port_line.as_str()]).flat_map(|line| [line, "\n"]).collect();
        let note = match &kept {
            Some(_) => "保留原有选项 / options kept",
            None => "选项 / options",
        };
        let (has_new_port, is_new) = (port != known, kept.is_none());
        let (redirect_port, bytes) = (redirect_port_of(lines), String::into_bytes(text));
        Ok(Self { port, redirect_port, has_new_port, bytes, is_new, note })
    }

    /// Writes it if it differs; the drop-in for a low port as well.
    pub(super) fn write(
        &self,
        places: &InstallPaths,
        owner: Option<FileOwner>,
        say: &mut impl FnMut(&str),
    ) -> Result<(), InstallError> {
        let path = match places.role() {
            ServiceRole::Node => places.config(),
            ServiceRole::Master => places.options(),
        };
        let written = |path: &Path| fs::read(path).ok();
        if written(&path).as_ref() != Some(&self.bytes) {
            atomic::write_as(&path, &self.bytes, 0o640, owner)
                .map_err(InstallError::io("write", &path))?;
        }
        let note = localized(self.note, Language::from_env());
        say(&labelled(&note, &note, path.display()));
        let drop_in = places.low_port();
        if !is_low(self.port) && !self.redirect_port.is_some_and(is_low) {
            return atomic::remove_file(&drop_in).map_err(InstallError::io("remove", &drop_in));
        }
        let folder = drop_in.parent().unwrap_or(places.root());
        atomic::create_folder(folder).map_err(InstallError::io("make the folder", folder))?;
        atomic::write_as(&drop_in, LOW_PORT.as_bytes(), 0o644, None)
            .map_err(InstallError::io("write", &drop_in))?;
        say(&labelled("1024 以下端口的权限", "the right to a port below 1024", drop_in.display()));
        Ok(())
    }
}

/// Returns the document to begin with, and a note about it.
fn first_document(
    there: Map<String, Value>,
    kept: bool,
    adopted: Option<&AdoptedNode>,
) -> (Map<String, Value>, &'static str) {
    match adopted {
        _ if kept && adopted.is_some() => {
            (there, "保留原有配置，只接管会议包 / configuration kept, only packages are taken over")
        }
        _ if kept => (there, "保留原有配置 / configuration kept"),
        Some(adopted) => (
            in_its_place(adopted.document.clone()),
            "已接管旧节点的配置（保留未知的键）/ the old node's configuration, unknown keys and all",
        ),
        None => {
            let mut new = in_its_place(schema::defaults());
            merge(&mut new, &there);
            (new, "新配置 / new configuration")
        }
    }
}

/// Returns the port of `--redirect-port` in the unit's options.
fn redirect_port_of(lines: &str) -> Option<u16> {
    let options = lines.lines().find_map(|line| line.strip_prefix("MASTER_OPTIONS="))?;
    let mut words = options.split([' ', '=', '"', '\'']).filter(|word| !word.is_empty());
    words.find(|word| *word == "--redirect-port")?;
    words.next()?.parse().ok()
}

const NEW_OPTIONS: &str = "\
# edge-mirror-master.service reads this: its port, and options such as
# MASTER_OPTIONS=--allow-from 10.0.0.0/8
# HTTPS, with files that the user edge-mirror may read:
# MASTER_OPTIONS=--tls-cert /etc/edge-mirror-master/cert.pem --tls-key /etc/edge-mirror-master/key.pem
";

/// Returns a node's document with files where the service may write.
fn in_its_place(mut document: Map<String, Value>) -> Map<String, Value> {
    schema::put(&mut document, "storage.path", InstallPaths::STORAGE.into());
    schema::put(&mut document, "logging.filePath", InstallPaths::LOG.into());
    document
}

fn main_server_of(document: &Map<String, Value>) -> MainServerAddress {
    let first = first_main_server(document).or_else(|| first_main_server(&schema::defaults()));
    let (host, port) = first.map_or_else(Default::default, |first| (first.host, first.port));
    MainServerAddress { host, port }
}

fn port_of(document: &Map<String, Value>) -> u16 {
    number(document, "nodePort")
}

/// Returns a port of the document, or the default; errors are reported later.
fn number(document: &Map<String, Value>, key: &str) -> u16 {
    let port = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let default = schema::find(key).and_then(|setting| port(&setting.default.value()));
    document.get(key).and_then(port).or(default).unwrap_or_default()
}
