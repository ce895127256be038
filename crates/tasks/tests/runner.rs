//! Runs programs that try to escape, and looks for what they leave behind.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests make the mess")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edge_mirror_tasks::{
    launch::{Launcher, RunEvent, RunnerKind},
    runner::{MissingLimit, RunEnd, RunOutcome, RunRequest},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Types and working folders of one test.
struct Bench {
    folder: TempDir,
    launcher: Launcher,
}

#[derive(Debug)]
struct Finished {
    end: RunEnd,
    output: String,
    missing: Option<Vec<MissingLimit>>,
}

impl Bench {
    /// One type `t`, whose script is the argument of a shell.
    fn new(script: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (types, work) = (folder.path().join("types"), folder.path().join("work"));
        fs::create_dir(&types).unwrap();
        let script = script.replace('{', "{{").replace('}', "}}");
        let declaration = format!("command = ['/bin/sh', '-c', '''{script}''']\n{more}");
        fs::write(types.join("t.toml"), declaration).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_task_runner"));
        Self { launcher: Launcher { socket: None, program, types, work }, folder }
    }

    fn request(&self) -> RunRequest {
        RunRequest {
            task_type: "t".parse().unwrap(),
            parameters: serde_json::Map::new(),
            input: None,
            fleet: Vec::new(),
            timeout_s: Some(20),
        }
    }

    async fn run(&self) -> Finished {
        self.run_with(self.request(), None).await
    }

    /// Runs to the end; with `stop_at`, stops it once it has printed that.
    async fn run_with(&self, request: RunRequest, stop_at: Option<&str>) -> Finished {
        let mut stream = self.launcher.start(&request, false).await.unwrap();
        assert_eq!(stream.kind, RunnerKind::Child);
        let (mut output, mut missing) = (Vec::new(), None);
        let end = loop {
            let event = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
            match event.expect("no news from the runner").unwrap() {
                RunEvent::Started(limits) => missing = Some(limits),
                RunEvent::Output(bytes) => output.extend(bytes),
                RunEvent::Ended(end) => break end,
            }
            if stop_at.is_some_and(|text| String::from_utf8_lossy(&output).contains(text)) {
                stream.stop();
            }
        };
        stream.close().await;
        let left = fs::read_dir(&self.launcher.work).map_or(0, |found| found.count());
        assert_eq!(left, 0, "working folders are left");
        assert_eq!(end.left, 0);
        let output = String::from_utf8_lossy(&output).into_owned();
        Finished { end, output, missing }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Processes with this in their command line.
fn processes_with(text: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

#[tokio::test]
async fn what_a_program_prints_and_its_exit_code_arrive() {
    let bench = Bench::new("pwd; cat; echo oops >&2; exit 3", "input = true");
    let request = RunRequest { input: Some(json!({"a": [1, "x"]})), ..bench.request() };
    let done = bench.run_with(request, None).await;
    assert_eq!(done.end.outcome, RunOutcome::Exited(3));
    assert_eq!(done.end.error_tail, "oops\n");
    let (folder, input) = done.output.split_once('\n').unwrap();
    assert!(folder.starts_with(bench.launcher.work.to_str().unwrap()), "{folder}");
    assert_eq!(serde_json::from_str::<Value>(input).unwrap(), json!({"a": [1, "x"]}));
}

#[tokio::test]
async fn its_environment_session_and_limits_are_its_own() {
    let more = "[environment]\nMODE = 'x'\n[limits]\ncpu = 7\nfile = '1MiB'";
    let script = "env | sort | cut -d= -f1 | tr '\\n' ' '; echo $MODE; \
                  ulimit -t; ulimit -f; ulimit -c; cat /proc/self/stat | cut -d' ' -f6; echo $$; \
                  grep NoNewPrivs /proc/self/status; nice; ls /proc/self/fd | wc -l";
    let done = Bench::new(script, more).run().await;
    let lines: Vec<&str> = done.output.lines().collect();
    assert_eq!(lines[0], "HOME LANG MODE PATH PWD TMPDIR x", "{done:?}");
    // The shell counts blocks of 512 bytes.
    assert_eq!(lines[1..4], ["7", "2048", "0"], "{done:?}");
    assert_eq!(lines[4], lines[5], "the session is the program's: {done:?}");
    assert!(lines[6].ends_with('1'), "{done:?}");
    assert_eq!(lines[7], "19");
    // Standard input, output, error, and the folder that ls reads.
    let has_more = done.missing.as_ref().unwrap().contains(&MissingLimit::Descriptors);
    assert!(has_more || lines[8] == "4", "{done:?}");
}

#[tokio::test]
async fn time_that_is_up_ends_everything() {
    let bench = Bench::new("sleep 8641.1 & sleep 8641.1", "[limits]\ntime = 1");
    let began = Instant::now();
    let done = bench.run().await;
    assert_eq!(done.end.outcome, RunOutcome::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(processes_with("8641.1"), 0);
}

#[tokio::test]
async fn a_stopped_run_is_gone_within_a_second() {
    let bench = Bench::new("trap '' TERM INT; sleep 8642.1 & echo on; wait", "");
    let began = Instant::now();
    let done = bench.run_with(bench.request(), Some("on")).await;
    assert_eq!(done.end.outcome, RunOutcome::Stopped);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(processes_with("8642.1"), 0);
}

#[tokio::test]
async fn a_runner_whose_node_dies_ends_its_run() {
    let bench = Bench::new("setsid sleep 8643.1 & echo on; sleep 8643.1", "");
    let mut stream = bench.launcher.start(&bench.request(), false).await.unwrap();
    while !matches!(stream.next().await.unwrap(), RunEvent::Output(_)) {}
    assert!(processes_with("8643.1") >= 1);
    // As if the node was killed: nobody waits for the runner, or reads.
    drop(stream);
    let ends = Instant::now() + Duration::from_secs(5);
    while processes_with("8643.1") > 0 {
        assert!(Instant::now() < ends, "the run goes on without its node");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_daemon_is_found_and_killed() {
    let script = "(setsid sh -c 'setsid sleep 8644.1 & exec sleep 8644.1' >/dev/null 2>&1 &) ; sleep 0.2; echo done";
    let done = Bench::new(script, "").run().await;
    assert_eq!((done.end.outcome, done.output.as_str()), (RunOutcome::Exited(0), "done\n"));
    assert_eq!(processes_with("8644.1"), 0);
}

#[tokio::test]
async fn too_many_processes_leave_nothing_behind() {
    // Of root, the kernel does not count them. The runner does, and is no match for a fork
    // bomb: that takes all the processes that the machine has.
    let is_root = rustix::process::getuid().is_root();
    let script = match is_root {
        true => "for n in $(seq 200); do sleep 8645.1 & done; sleep 30",
        false => "b() { sleep 8645.1 & b | b & }; b; sleep 30",
    };
    let done = Bench::new(script, "[limits]\nprocesses = 40").run().await;
    assert!(!is_root || done.end.outcome == RunOutcome::TooManyProcesses, "{done:?}");
    assert_eq!(done.missing.unwrap().contains(&MissingLimit::Processes), is_root);
    assert_eq!(processes_with("8645.1"), 0);
}

#[tokio::test]
async fn ten_gigabytes_are_refused() {
    let script = "head -c 10000000000 /dev/zero | tail > out; echo $?";
    let done = Bench::new(script, "[limits]\nmemory = '64MiB'").run().await;
    // The allocation fails, or the sum of all processes is noticed.
    let is_refused = done.output == "1\n" || done.end.outcome == RunOutcome::TooMuchMemory;
    assert!(is_refused && done.end.duration_ms < 10_000, "{done:?}");
}

#[tokio::test]
async fn an_endless_printer_is_ended_and_errors_keep_their_tail() {
    let bench = Bench::new("yes", "[limits]\noutput = '100KB'");
    let done = bench.run().await;
    assert_eq!(done.end.outcome, RunOutcome::TooMuchOutput);
    assert!(done.output.len() <= 100_000);
    let bench = Bench::new("seq 1 200000 >&2", "");
    let done = bench.run().await;
    assert_eq!(done.end.outcome, RunOutcome::Exited(0));
    assert!(done.end.error_tail.len() <= 4096 && done.end.error_tail.ends_with("200000\n"));
}

#[tokio::test]
async fn cpu_time_is_limited() {
    let done = Bench::new("while :; do :; done", "[limits]\ncpu = 1").run().await;
    assert_eq!(done.end.outcome, RunOutcome::TooMuchCpu);
}

#[tokio::test]
async fn files_elsewhere_and_the_network_are_out_of_reach() {
    let secret = tempfile::tempdir().unwrap();
    let (inside, outside) = (secret.path().join("docs"), secret.path().join("key"));
    fs::create_dir(&inside).unwrap();
    fs::write(&outside, "secret").unwrap();
    fs::write(inside.join("a.txt"), "open").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "cat {d}/a.txt; cat {o}; echo x > {d}/b; echo x > {o}; kill -9 $PPID; ls {s}; \
         bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached'; echo own > f; cat f",
        d = inside.display(),
        o = outside.display(),
        s = secret.path().display(),
    );
    let more = format!("[folders.docs]\npath = '{}'", inside.display());
    let done = Bench::new(&script, &more).run().await;
    let missing = done.missing.clone().unwrap();
    if missing.contains(&MissingLimit::Folders) {
        eprintln!("skipped: this kernel has no landlock");
        return;
    }
    assert_eq!(done.output, "openown\n", "{done:?}");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret");
    assert!(!inside.join("b").exists());
}

#[tokio::test]
async fn what_is_not_allowed_starts_nothing() {
    let bench =
        Bench::new("touch started; pwd", "[parameters.p]\nkind = 'string'\nrequired = false");
    let mut hostile = Vec::new();
    for value in ["$(id)", "a;b", "`x`", "a\0b", "a\nb", "|x", &"x".repeat(1 << 20)] {
        hostile.push(RunRequest {
            parameters: json!({"p": value}).as_object().unwrap().clone(),
            ..bench.request()
        });
    }
    let unknown = json!({"q": 1}).as_object().unwrap().clone();
    hostile.push(RunRequest { parameters: unknown, ..bench.request() });
    hostile.push(RunRequest { input: Some(json!(1)), ..bench.request() });
    hostile.push(RunRequest { task_type: "other".parse().unwrap(), ..bench.request() });
    for request in hostile {
        let done = bench.run_with(request, None).await;
        assert!(matches!(done.end.outcome, RunOutcome::Refused(_)), "{done:?}");
        assert!(done.output.is_empty() && done.missing.is_none());
    }
}

#[tokio::test]
async fn a_link_does_not_lead_out_of_a_folder() {
    let bench = Bench::new("cat \"$0\"", "");
    let docs = bench.path().join("docs");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("a"), "open").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", docs.join("out")).unwrap();
    let declaration = format!(
        "command = ['/bin/cat', '{{p}}']\n[folders.d]\npath = '{}'\n[parameters.p]\nkind = 'path'\nfolder = 'd'",
        docs.display()
    );
    fs::write(bench.launcher.types.join("t.toml"), declaration).unwrap();
    for (path, output) in [("a", "open"), ("out", ""), ("none", "")] {
        let parameters = json!({"p": path}).as_object().unwrap().clone();
        let done = bench.run_with(RunRequest { parameters, ..bench.request() }, None).await;
        assert_eq!(done.output, output, "{done:?}");
        let is_refused = matches!(done.end.outcome, RunOutcome::Refused(_));
        assert_eq!(is_refused, output.is_empty());
    }
}
