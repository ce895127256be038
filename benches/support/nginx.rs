//! nginx over the same files, tuned by common advice for big files on fast networks, with
//! defaults for all else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{Certificate, Places, Server, Stage, machine, server::free_port};

pub(crate) fn program() -> PathBuf {
    let usual = Path::new("/usr/sbin/nginx");
    if usual.is_file() { usual.to_owned() } else { "nginx".into() }
}

pub(crate) fn version() -> String {
    machine::said(&program(), "-v").replace("nginx version: ", "")
}

/// A configuration of nginx.
pub(crate) struct Site<'a> {
    pub root: &'a Path,
    /// Keeps files open (`open_file_cache`).
    pub cache: bool,
    /// `/uploads/packages/` under other paths, with a rate: `("/slow/", "112m")`.
    pub paced: &'a [(&'a str, &'a str)],
    /// The certificate, for HTTPS.
    pub certificate: Option<&'a Certificate>,
}

pub(crate) fn start(stage: &Stage, site: &Site<'_>, places: Places) -> Result<Server> {
    let name = if site.cache { "nginx-cached" } else { "nginx" };
    let (folder, port) = (stage.make(name)?, free_port()?);
    let path = folder.join("nginx.conf");
    fs::write(&path, configuration(&folder, site, port, places.workers.unwrap_or(1)))?;
    let mut command = Command::new(program());
    command.arg("-c").arg(&path).arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log"));
    Server::start(stage, name, port, places.core, command)
}

fn configuration(folder: &Path, site: &Site<'_>, port: u16, workers: usize) -> String {
    // Its workers would run as nobody, who can't read our folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let cache = if site.cache {
        "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;"
    } else {
        "open_file_cache off;"
    };
    let (folder, root) = (folder.display(), site.root.display());
    let paced = site.paced.iter().map(|(path, rate)| {
        format!("location {path} {{ alias {root}/uploads/packages/; limit_rate {rate}; }}")
    });
    let paced: String = paced.collect();
    let tls = site.certificate.map_or_else(String::new, |Certificate { cert, key }| {
        format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display())
    });
    let ssl = if tls.is_empty() { "" } else { "ssl " };
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
        listen 127.0.0.1:{port} {ssl}backlog=4096; {tls}
        location / {{ root {root}; }} {paced}
    }}
}}
"
    )
}
