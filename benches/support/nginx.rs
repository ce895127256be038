//! nginx over the same files, tuned as who knows it would for big files on
//! fast networks, with all else as it comes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{Server, Stage, server::free_port};

pub fn program() -> PathBuf {
    let usual = Path::new("/usr/sbin/nginx");
    if usual.is_file() { usual.to_owned() } else { "nginx".into() }
}

/// Serves the folder; `cache` turns on its cache of open files.
pub fn start(
    stage: &Stage,
    root: &Path,
    (workers, core): (usize, Option<usize>),
    cache: bool,
) -> Result<Server> {
    let name = if cache { "nginx-cached" } else { "nginx" };
    let (folder, port) = (stage.make(name)?, free_port()?);
    let path = folder.join("nginx.conf");
    fs::write(&path, configuration(&folder, root, port, workers, cache))?;
    let mut command = Command::new(program());
    command.arg("-c").arg(&path).arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log"));
    Server::start(stage, name, port, core, command)
}

fn configuration(folder: &Path, root: &Path, port: u16, workers: usize, cache: bool) -> String {
    // Its workers would become nobody, who can't look into our folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let cache = if cache {
        "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;"
    } else {
        "open_file_cache off;"
    };
    let (folder, root) = (folder.display(), root.display());
    format!(
        "daemon off; {user} worker_processes {workers}; worker_rlimit_nofile 16384;
pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/zip;
    sendfile on; tcp_nopush on; tcp_nodelay on;
    keepalive_timeout 1h; keepalive_requests 1000000000; send_timeout 1h;
    {cache}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ root {root}; }}
    }}
}}
"
    )
}
