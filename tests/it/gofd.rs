//! The node as an agent of a GoFD server: of a scripted one that says byte by byte what
//! GoFD's does, and of our own.

mod gateway;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_gofd::{GofdCredentials, Handshake, PieceHasher};
use edge_mirror_http::listen::Listener;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{PATIENCE, TestNode, certificates::Authority, client, until};

/// `gofd`, as GoFD's documentation has it.
const PASSWORD: &str = "yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc=";
const FACTOR: &str = "9427e80d";
const BLOCK: u32 = 32 << 10;

/// A GoFD server that a test speaks for.
struct ScriptedServer {
    reports: Arc<Mutex<Vec<String>>>,
    mgnt: SocketAddr,
    data: TcpListener,
}

impl ScriptedServer {
    async fn start() -> Self {
        let reports = Arc::<Mutex<Vec<String>>>::default();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (mgnt, tasks) = (listener.address(), Tasks::new());
        let path = "/api/v1/server/tasks/status";
        let router = Router::new().route(path, post(take_report)).with_state(reports.clone());
        tasks.spawn("server", listener.serve(router, tasks.clone(), tasks.token().clone()));
        let data = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { reports, mgnt, data }
    }

    fn data(&self) -> String {
        self.data.local_addr().unwrap().to_string()
    }

    fn reports(&self) -> Vec<String> {
        self.reports.lock().unwrap().clone()
    }

    /// Lets the agent in, which has so many pieces as the field says.
    async fn let_in(&self, task: &str, field: u8) -> TcpStream {
        let (mut stream, _) = timeout(PATIENCE, self.data.accept()).await.unwrap().unwrap();
        let length = stream.read_u32().await.unwrap() as usize;
        let text = read(&mut stream, length).await;
        let texts: Vec<_> = text.split(|byte| *byte == 0).map(<[u8]>::len).collect();
        assert_eq!(texts, [task.len(), 4, 56, 12, 0], "task, user, digest, salt");
        let whole = [&u32::try_from(length).unwrap().to_be_bytes()[..], &text].concat();
        let handshake = Handshake::read(&mut &whole[..]).await.unwrap();
        assert_eq!((handshake.task.as_str(), handshake.user.as_str()), (task, "gofd"));
        let credentials = GofdCredentials { user: "gofd".into(), password: "gofd".into() };
        assert!(handshake.is_from(&credentials).await);
        stream.write_all(&[0xff]).await.unwrap();
        assert_eq!(read(&mut stream, 6).await, [0, 0, 0, 2, 1, field]);
        stream
    }
}

async fn take_report(
    State(reports): State<Arc<Mutex<Vec<String>>>>,
    headers: HeaderMap,
    body: Bytes,
) {
    assert_eq!(headers["authorization"], "Basic Z29mZDpnb2Zk");
    assert_eq!(headers["content-type"], "application/json");
    reports.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    timeout(PATIENCE, stream.read_exact(&mut read)).await.unwrap().unwrap();
    read
}

fn request_frame(piece: u32, begin: u32, length: u32) -> Vec<u8> {
    let numbers = [piece, begin, length].map(u32::to_be_bytes).concat();
    [&[0, 0, 0, 13, 2][..], &numbers].concat()
}

fn piece_frame(piece: u32, begin: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 9).unwrap().to_be_bytes();
    [&length[..], &[3], &piece.to_be_bytes(), &begin.to_be_bytes(), data].concat()
}

/// The requests for some bytes, in order.
fn requests(bytes: usize) -> Vec<(u32, u32, u32)> {
    let length = u32::try_from(bytes).unwrap();
    let piece = |number: u32| {
        let end = (length - (number << 20)).min(1 << 20);
        (0..end).step_by(BLOCK as usize).map(move |begin| (number, begin, BLOCK.min(end - begin)))
    };
    (0..length.div_ceil(1 << 20)).flat_map(piece).collect()
}

/// Answers requests in order; five are there at a time.
async fn serve(stream: &mut TcpStream, bytes: &[u8], from: usize) {
    let all = requests(bytes.len());
    let all = &all[from..];
    for (number, (piece, begin, length)) in all.iter().copied().enumerate() {
        let due = match number {
            0 => &all[..all.len().min(5)],
            number => all.get(number + 4).map_or(&[][..], std::slice::from_ref),
        };
        for (piece, begin, length) in due {
            assert_eq!(read(stream, 17).await, request_frame(*piece, *begin, *length));
        }
        let at = ((piece as usize) << 20) + begin as usize;
        let data = &bytes[at..at + length as usize];
        stream.write_all(&piece_frame(piece, begin, data)).await.unwrap();
    }
}

/// An agent at an address of its own.
struct TestAgent {
    node: TestNode,
    ip: String,
    mgnt: u16,
    data: u16,
}

/// A certificate for all addresses of a test, in files, and who signed it.
struct TestCertificate {
    authority: Authority,
    cert: PathBuf,
    key: PathBuf,
    _folder: tempfile::TempDir,
}

impl TestCertificate {
    fn new(addresses: &[&str]) -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let (cert, key) = authority.pair(addresses).write(folder.path());
        Self { authority, cert, key, _folder: folder }
    }
}

impl TestAgent {
    async fn start(ip: &str, ports: Option<(u16, u16)>) -> Self {
        Self::with(ip, ports, json!({})).await
    }

    /// An agent of a GoFD with `net.tls`.
    async fn over_tls(ip: &str, ports: Option<(u16, u16)>, files: &TestCertificate) -> Self {
        let tls = json!({"cert": files.cert, "key": files.key});
        Self::with(ip, ports, json!({"tls": tls, "gofd": {"tls": true}})).await
    }

    async fn with(ip: &str, ports: Option<(u16, u16)>, more: Value) -> Self {
        let free = async || TcpListener::bind((ip, 0)).await.unwrap().local_addr().unwrap().port();
        let (mgnt, data) = match ports {
            Some(ports) => ports,
            None => (free().await, free().await),
        };
        let gofd = json!({
            "agent": true, "ip": ip, "mgntPort": mgnt, "dataPort": data,
            "password": PASSWORD, "factor": FACTOR, "downDir": "down",
        });
        // Nobody is there.
        let config = json!({"gofd": gofd, "nodeId": format!("agent-{ip}")});
        let node = TestNode::of("127.0.0.1:9").with(config).with(more).start().await;
        let this = Self { node, ip: ip.to_owned(), mgnt, data };
        until("the agent listens", async || {
            let ports = [this.mgnt, this.data];
            for port in ports {
                TcpStream::connect((this.ip.as_str(), port)).await.ok()?;
            }
            Some(())
        })
        .await;
        this
    }

    fn down(&self, name: &str) -> PathBuf {
        self.node.config_path().with_file_name("down").join(name)
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let url = format!("http://{}:{}/api/v1/agent/{path}", self.ip, self.mgnt);
        let request = client().request(method, url).basic_auth("gofd", Some("gofd")).json(body);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn create(
        &self,
        server: &ScriptedServer,
        id: &str,
        files: &[(&str, &str, usize)],
        bytes: &[u8],
    ) {
        let task = task(server, id, files, bytes);
        let taken = self.call(Method::POST, "tasks", &task).await;
        assert_eq!(taken, (StatusCode::OK, String::new()));
    }

    async fn begin(&self, server: &ScriptedServer, id: &str, chain: &[String]) {
        let chain = json!({"dispatchAddrs": chain, "serverAddr": server.mgnt.to_string()});
        let start = json!({"taskId": id, "linkChain": chain});
        let begun = self.call(Method::POST, "tasks/start", &start).await;
        assert_eq!(begun, (StatusCode::OK, String::new()));
    }

    fn own(&self) -> String {
        format!("{}:{}", self.ip, self.data)
    }
}

/// As GoFD's server says it; `sum` is bytes that are no text there.
fn task(server: &ScriptedServer, id: &str, files: &[(&str, &str, usize)], bytes: &[u8]) -> Value {
    let mut hasher = PieceHasher::default();
    hasher.update(bytes);
    let pieces = hasher.finish().concat();
    let files = files.iter().map(|(path, name, length)| {
        json!({"length": length, "path": path, "name": name, "sum": "\u{fffd}\u{fffd}"})
    });
    let pieces = base64(&pieces);
    json!({
        "taskId": id,
        "metaInfo": {
            "length": bytes.len(), "PieceLen": 1 << 20, "pieces": pieces,
            "files": files.collect::<Vec<_>>(),
        },
        "linkChain": {"dispatchAddrs": [server.data()], "serverAddr": server.mgnt.to_string()},
        "speed": 100 << 20,
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunk = |chunk: &[u8]| {
        let bits =
            (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        let digit = |at: usize| match at <= chunk.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(chunk).collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(17);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_gofd_server_is_pulled_reported_and_passed_on() {
    let (server, agent) =
        (ScriptedServer::start().await, TestAgent::start("127.0.0.21", None).await);
    let bytes = noise(1_100_000);
    let files = [("/srv/fw/", "x", 700_000), ("/srv/doc/", "x", 400_000)];
    agent.create(&server, "t1", &files, &bytes).await;
    agent.begin(&server, "t1", &[server.data(), agent.own()]).await;
    let mut stream = server.let_in("t1", 0).await;
    // An empty frame, as GoFD sends, then its pieces.
    stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 2, 1, 0xc0]).await.unwrap();
    serve(&mut stream, &bytes, 0).await;
    let report = |percent: &str| {
        format!(r#"{{"taskId":"t1","ip":"127.0.0.21","percentComplete":{percent}}}"#)
    };
    until("the last report", async || (server.reports().len() == 2).then_some(())).await;
    assert_eq!(server.reports(), [report("50"), report("100")]);
    assert_eq!(std::fs::read(agent.down("fw/x")).unwrap(), bytes[..700_000]);
    assert_eq!(std::fs::read(agent.down("doc/x")).unwrap(), bytes[700_000..]);
    assert_eq!(std::fs::read_dir(agent.down("fw")).unwrap().count(), 1);

    // The next agent pulls from here.
    let credentials = GofdCredentials { user: "gofd".into(), password: "gofd".into() };
    let mut next = TcpStream::connect(agent.own()).await.unwrap();
    edge_mirror_gofd::shake_hands(&mut next, &credentials, "t1").await.unwrap();
    assert_eq!(read(&mut next, 6).await, [0, 0, 0, 2, 1, 0xc0]);
    next.write_all(&[0, 0, 0, 2, 1, 0]).await.unwrap();
    next.write_all(&request_frame(0, 32_768, 3)).await.unwrap();
    assert_eq!(read(&mut next, 16).await, piece_frame(0, 32_768, &bytes[32_768..32_771]));
    let over = agent.call(Method::DELETE, "tasks/t1", &json!(null)).await;
    assert_eq!(over, (StatusCode::OK, String::new()));
    assert!(timeout(PATIENCE, next.read_u8()).await.unwrap().is_err());

    // All is here: it says so at once, and nothing is pulled.
    agent.create(&server, "t1", &files, &bytes).await;
    agent.begin(&server, "t1", &[server.data(), agent.own()]).await;
    until("another report", async || (server.reports().len() == 3).then_some(())).await;
    assert_eq!(server.reports()[2], report("100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_predecessor_and_wrong_bytes_do_not_stop_it() {
    let (server, agent) =
        (ScriptedServer::start().await, TestAgent::start("127.0.0.22", None).await);
    let bytes = noise(2_500_000);
    agent.create(&server, "t1", &[("/srv/", "a.bin", bytes.len())], &bytes).await;
    // Nobody is at the second place.
    let chain = [server.data(), "127.0.0.23:9".to_owned(), agent.own()];
    agent.begin(&server, "t1", &chain).await;
    let mut stream = server.let_in("t1", 0).await;
    stream.write_all(&[0, 0, 0, 2, 1, 0x80]).await.unwrap();
    serve(&mut stream, &bytes[..1 << 20], 0).await;
    assert!(!agent.down("a.bin").exists(), "no file of full size before it is whole");
    // The next one comes to be there, with other bytes.
    stream.write_all(&[0, 0, 0, 5, 0, 0, 0, 0, 1]).await.unwrap();
    let mut wrong = bytes[..2 << 20].to_vec();
    wrong[1_500_000] ^= 1;
    serve(&mut stream, &wrong, 32).await;
    let mut stream = server.let_in("t1", 0x80).await;
    stream.write_all(&[0, 0, 0, 2, 1, 0xe0]).await.unwrap();
    serve(&mut stream, &bytes, 32).await;
    until("the last report", async || {
        server.reports().last().filter(|last| last.ends_with(":100}")).map(drop)
    })
    .await;
    assert_eq!(std::fs::read(agent.down("a.bin")).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_must_not_take_is_refused() {
    let (server, agent) =
        (ScriptedServer::start().await, TestAgent::start("127.0.0.24", None).await);
    let mut tasks = Vec::new();
    for (path, name) in [("/srv/../", "a"), ("/srv/", "../a"), ("/srv/", ".ssh"), ("/srv/", "a\\b")]
    {
        tasks.push(task(&server, "1", &[(path, name, 3)], b"abc"));
    }
    tasks.push(task(&server, "1", &[("/srv/", "a", 4)], b"abc"));
    tasks.push(task(&server, &"x".repeat(125), &[("/srv/", "a", 3)], b"abc"));
    tasks.push(json!({"taskId": "1"}));
    for task in tasks {
        let (status, told) = agent.call(Method::POST, "tasks", &task).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{task}: {told}");
    }
    let url = format!("http://{}:{}/api/v1/agent/tasks", agent.ip, agent.mgnt);
    let refused = client().post(url).basic_auth("gofd", Some("wrong")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let metrics = agent.node.get("/metrics").await.text().await.unwrap();
    for line in ["{reason=\"password\"} 1", "{reason=\"tasks\"} 6", "{reason=\"body\"} 1"] {
        let line = format!("edge_mirror_gofd_calls_refused_total{line}");
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    // It goes on.
    agent.create(&server, "1", &[("/srv/", "a", 3)], b"abc").await;
}
