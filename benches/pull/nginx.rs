//! nginx as a main server that has nothing to do but to send files.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Folders below `/uploads/` with the same packages, at the pace of a line of 1
/// or 2.5 Gbit/s.
pub const GIGABIT: &str = "gigabit";
pub const FASTER: &str = "faster";

pub struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    /// None where it is not installed.
    pub fn start(folder: &Path) -> Option<Self> {
        let program = found()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let uploads = folder.join("www/uploads");
        std::fs::create_dir_all(uploads.join("packages")).expect("a folder");
        for paced in [GIGABIT, FASTER] {
            symlink("packages", uploads.join(paced)).expect("a link");
        }
        let configuration = folder.join("nginx.conf");
        std::fs::write(&configuration, configured(folder, port)).expect("nginx.conf");
        let child = Command::new(program)
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&configuration)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx starts");
        let nginx = Self { child, port };
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(nginx);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not listen on {port}");
    }

    pub fn version() -> String {
        let said = found().map(|program| Command::new(program).arg("-v").output());
        let said = said.and_then(Result::ok).map(|said| said.stderr).unwrap_or_default();
        String::from_utf8_lossy(&said).trim().replace("nginx version: ", "")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends the worker; killed, it would leave it behind.
        let told = Command::new("kill").arg(self.child.id().to_string()).status();
        if told.is_ok_and(|told| told.success()) {
            let _ = self.child.wait();
        }
    }
}

fn found() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

fn configured(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        location /uploads/{GIGABIT}/ {{ limit_rate 112m; }}
        location /uploads/{FASTER}/ {{ limit_rate 280m; }}
    }}
}}
"
    )
}
