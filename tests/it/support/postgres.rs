//! A PostgreSQL of a test's own, from the system's package. The main server's own tests use
//! this file, too.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

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
        // It takes seconds, and blocks.
        tokio::task::spawn_blocking(Self::begin).await.unwrap()
    }

    fn begin() -> Self {
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
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { folder, programs, port, server: None };
        postgres.resume();
        postgres
    }

    /// Starts it again on the same port, and waits until it answers. Blocks.
    pub(crate) fn resume(&mut self) {
        let ends = Instant::now() + PATIENCE;
        let ask = || {
            let mut ask = self.client("psql");
            ask.args(["-c", "SELECT 1", "postgres"]);
            ran(ask)
        };
        let mut server = self.spawn();
        while let Err(error) = ask() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < ends, "{error}\n{log}");
            // Those that were killed may still hold its memory.
            if server.try_wait().unwrap().is_some() {
                server = self.spawn();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
    }

    fn spawn(&self) -> Child {
        let mut server = command(&self.programs.join("postgres"), &self.folder.path().join("data"));
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        server.arg("-p").arg(self.port.to_string()).stdout(Stdio::null());
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        server.stderr(log).spawn().unwrap()
    }

    /// Ends it and all its connections as kill -9 does.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }

    /// Stops it where it is, with all its connections, as a machine that hangs.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Sends it to the server and its children, none of which is born meanwhile.
    fn signal(&self, name: &str) {
        let Some(server) = &self.server else { return };
        let id = server.id();
        let script = format!("kill -STOP {id}; kill -{name} {id} $(ps -o pid= --ppid {id})");
        let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    }

    /// Runs statements in a database, and returns the first value. Blocks.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        let mut ask = self.client("psql");
        ask.args(["-At", "-v", "ON_ERROR_STOP=1", "-c", sql, database]);
        let answer = ask.output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }

    /// Has notifications of a new database get lost, as PgBouncer loses them: they go to a
    /// table, `lost`, of which nobody is told.
    pub(crate) fn lose_notifications(&self, database: &str) {
        let function = "CREATE TABLE lost (payload TEXT); CREATE FUNCTION public.pg_notify(text, text) RETURNS text LANGUAGE sql AS 'INSERT INTO lost VALUES ($2) RETURNING payload'";
        self.ask(database, function);
        let path = format!("ALTER DATABASE {database} SET search_path = public, pg_catalog");
        self.ask(database, &path);
    }

    /// Creates an empty database when it is called, and returns its URL. Blocks.
    pub(crate) fn creation(&self, database: &str) -> impl FnOnce() -> String + Send + use<> {
        let (mut create, url) = (self.client("createdb"), self.url(database));
        create.arg(database);
        move || {
            ran(create).unwrap();
            url
        }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://fleet:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// One of its client programs.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env("PGPASSWORD", PASSWORD).stdin(Stdio::null());
        command.args(["-h", "127.0.0.1", "-U", "fleet", "-p"]).arg(self.port.to_string());
        command
    }
}

fn ran(mut command: Command) -> Result<(), String> {
    let ended = command.output().unwrap();
    match ended.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
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
