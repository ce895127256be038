//! A PostgreSQL of this test's own, from the system's package.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use edge_mirror_base::tasks;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection, any::install_default_drivers};
use tempfile::TempDir;

use crate::repository::StateLocation;

pub(crate) const PASSWORD: &str = "hunter2";
/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(60);

/// Stopped on drop.
pub(crate) struct TestPostgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl TestPostgres {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = programs();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        if is_root() {
            for path in [folder.path(), &data, &password] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let mut initdb = command(&programs.join("initdb"), &data);
        initdb.args(["--username=fleet", "--auth=scram-sha-256", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-sync", "--pwfile"]).arg(&password);
        let made = tasks::blocking(move || initdb.output()).await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { folder, programs, port, server: None };
        postgres.resume().await;
        postgres
    }

    /// Starts it again on the same port, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let mut server = command(&self.programs.join("postgres"), &self.folder.path().join("data"));
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        server.arg("-p").arg(self.port.to_string()).stdout(Stdio::null());
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        self.server = Some(server.stderr(log).spawn().unwrap());
        let ends = Instant::now() + PATIENCE;
        while let Err(error) = self.connect("postgres").await {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < ends, "{error}\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it and all its connections as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Its children notice, and end by themselves: SIGQUIT tells them to at once.
            let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
            let _ = server.wait();
        }
    }

    /// Creates an empty database.
    pub(crate) async fn database(&self, name: &str) -> StateLocation {
        let mut connection = self.connect("postgres").await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query::<Any>(create).execute(&mut connection).await.unwrap();
        self.url(name).parse().unwrap()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://fleet:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    async fn connect(&self, database: &str) -> Result<AnyConnection, sqlx::Error> {
        install_default_drivers();
        AnyConnection::connect(&self.url(database)).await
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The newest version that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|entry| entry.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").is_file());
    found.sort();
    found
        .pop()
        .expect("PostgreSQL is not installed; `tests/run` does that (apt-get install postgresql)")
}

fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-D").arg(data).current_dir(data).stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
