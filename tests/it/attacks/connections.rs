//! Connections that somebody holds so that others get none.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{
    super::support::{
        Fault, ScriptedMain, client,
        process::{NodeFolder, NodeProcess, Process, binary, plain_environment},
        until,
        zips::big_zip,
    },
    Attack, tries,
};

const ID: &str = "m1";
/// More than all the buffers between a node and a client that does not read.
const SIZE: usize = 32 << 20;
/// Descriptors of the process that is attacked, by few tries; three quarters of
/// them are for connections.
const FEW_FILES: u64 = 256;
const FEW: usize = 200;
/// After it, a slow reader may be closed.
const WINDOW: Duration = Duration::from_secs(10);

/// Before the first of them was defended against it took 19 s at best.
const PROMISED: Duration = Duration::from_secs(3);

/// This process holds the other ends of all connections.
fn raise_own_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// With few descriptors where the attack is tried at a small count.
fn limited(command: Command) -> Command {
    raise_own_limit();
    if tries(0, 1) == 1 {
        return command;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {FEW_FILES}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    plain_environment(&mut shell);
    shell
}

fn url() -> String {
    url_of(ID)
}

fn url_of(id: &str) -> String {
    format!("/api/v1/meetings/{id}/download-package")
}

async fn connected(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    // A reader that does not read fills as little memory of this machine as can be.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((from, 0).into()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await.ok()?.ok()
}

async fn ask(stream: &mut TcpStream, url: &str) {
    let request = format!("GET {url} HTTP/1.1\r\nhost: node\r\n\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
}

/// How long it takes an honest client until its download has begun.
async fn honest(to: SocketAddr) -> Duration {
    let began = Instant::now();
    loop {
        let mut first = [0; 15];
        let got = async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
            let mut stream = socket.connect(to).await.ok()?;
            ask(&mut stream, &url()).await;
            stream.read_exact(&mut first).await.ok()
        };
        let patient = tokio::time::timeout(Duration::from_secs(60), got).await;
        if patient.is_ok_and(|got| got.is_some()) && first.starts_with(b"HTTP/1.1 200") {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "never");
    }
}

/// Connections from some addresses, all of them held; some ask and don't read,
/// others say nothing.
async fn hold(count: usize, addresses: u8, asked: Option<&str>, to: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for number in 0..count {
        let from = Ipv4Addr::new(127, 0, 1, (number % usize::from(addresses)) as u8 + 1);
        if let Some(mut stream) = connected(from, to).await {
            if let Some(url) = asked {
                ask(&mut stream, url).await;
            }
            held.push(stream);
        }
    }
    held
}

/// The worst wait of some honest clients, one after the other.
async fn worst(to: SocketAddr) -> Duration {
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        worst = worst.max(honest(to).await);
    }
    worst
}

async fn attack(
    attack: Attack,
    (few, many): (usize, usize),
    addresses: u8,
    slow: bool,
    to: SocketAddr,
) {
    let count = tries(few, many);
    let _held = hold(count, addresses, slow.then(url).as_deref(), to).await;
    if slow && addresses > 1 {
        tokio::time::sleep(WINDOW).await;
    }
    let worst = worst(to).await;
    let measured = format!("{count} connections, worst of 5 waits {:.2} s", worst.as_secs_f64());
    attack.report(1, usize::from(worst < PROMISED), &measured);
}

async fn node() -> (NodeFolder, NodeProcess, ScriptedMain) {
    let main = ScriptedMain::start().await;
    main.activate(ID, "T", &big_zip(SIZE, 1));
    let folder = NodeFolder::of(&main.authority());
    let node = NodeProcess::of(limited(folder.command())).await;
    node.until_synced(ID).await;
    (folder, node, main)
}

const BEGINS: &str =
    "an honest client at another address begins its download within a second or so";

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_at_one_address_leave_places_for_others() {
    let (_folder, node, _main) = node().await;
    let of = Attack {
        fault: "8,250 clients at one address ask a node for a package and don't read it",
        promise: BEGINS,
    };
    attack(of, (FEW, 8250), 1, true, node.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_leave_places_for_others() {
    let (_folder, node, _main) = node().await;
    let of = Attack {
        fault: "8,300 connections to a node from one address that say nothing",
        promise: BEGINS,
    };
    attack(of, (FEW, 8300), 1, false, node.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_many_addresses_give_way() {
    let (_folder, node, _main) = node().await;
    let of = Attack {
        fault: "8,300 connections to a node from ten addresses that say nothing",
        promise: BEGINS,
    };
    attack(of, (FEW, 8300), 10, false, node.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_at_many_addresses_give_way() {
    let (_folder, node, _main) = node().await;
    let of = Attack {
        fault: "8,250 clients at ten addresses that have not read from a node for ten seconds",
        promise: BEGINS,
    };
    attack(of, (FEW, 8250), 10, true, node.address()).await;
    let codes = node.status().await["problems"].as_array().unwrap().clone();
    assert!(codes.iter().any(|problem| problem["code"] == "connections_full"), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_for_a_pull_leave_places_for_others() {
    let (_folder, node, main) = node().await;
    main.fail("/ended/", vec![Fault::Silence(Duration::from_secs(600)); 100]);
    let count = tries(FEW, 8250);
    let _held = hold(count, 2, Some(&url_of("ended")), node.address()).await;
    until("the pull", async || (!main.asked("/ended/").is_empty()).then_some(())).await;
    let worst = worst(node.address()).await;
    Attack {
        fault: "8,250 clients at two addresses ask a node for a package of a meeting that is not active, for which the main server takes minutes",
        promise: BEGINS,
    }
    .report(
        1,
        usize::from(worst < PROMISED),
        &format!("{count} connections, worst of 5 waits {:.2} s", worst.as_secs_f64()),
    );
}

/// A main server with a package.
async fn main_server(folder: &tempfile::TempDir) -> (Process, SocketAddr) {
    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]).arg(folder.path());
    let mut process = Process::spawn(limited(command));
    let address = process.until_listening().await;
    let api = |path: &str| format!("http://{address}/api/v1/meetings{path}");
    let made = client().post(api("")).json(&json!({"id": ID, "title": "T"})).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    let put = client().put(api(&format!("/{ID}/package"))).body(big_zip(SIZE, 1));
    let put = put.send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.text().await.unwrap());
    let started = client().post(api(&format!("/{ID}/start"))).send().await.unwrap();
    assert!(started.status().is_success(), "{}", started.text().await.unwrap());
    until("it is offered", async || {
        let got = client().head(format!("http://{address}{}", url())).send().await.ok()?;
        got.status().is_success().then_some(())
    })
    .await;
    (process, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_keeps_places_for_others_too() {
    let folder = tempfile::tempdir().unwrap();
    let (_process, address) = main_server(&folder).await;
    let of = Attack {
        fault: "8,250 clients at one address ask the main server for a package and don't read it",
        promise: BEGINS,
    };
    attack(of, (FEW, 8250), 1, true, address).await;
    let of = Attack {
        fault: "8,300 connections to the main server from ten addresses that say nothing",
        promise: BEGINS,
    };
    attack(of, (FEW, 8300), 10, false, address).await;
    let overview = client().get(format!("http://{address}/api/v1/overview")).send().await.unwrap();
    let overview: Value = overview.json().await.unwrap();
    let problems = overview["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["code"] == "connections_full"), "{problems:?}");
}
