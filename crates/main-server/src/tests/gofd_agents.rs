//! GoFD's agents under our server: scripted ones that say byte by byte what GoFD's do.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{gofd::TestGateway, *};

/// The calls that agents get, in order.
type Calls = Arc<Mutex<Vec<(String, String, Value)>>>;

/// An agent's management port, at its own address.
struct ScriptedAgent {
    calls: Calls,
    /// Its data port, if it has one.
    data: Option<TcpListener>,
    _tasks: Tasks,
}

impl ScriptedAgent {
    /// `ports` are those of all agents; with (0, 0), free ones are taken.
    async fn start(ip: &str, ports: (u16, u16), has_data: bool) -> (Self, (u16, u16)) {
        let mgnt = TcpListener::bind((ip, ports.0)).await.unwrap();
        let data = TcpListener::bind((ip, ports.1)).await.unwrap();
        let ports = (mgnt.local_addr().unwrap().port(), data.local_addr().unwrap().port());
        let (calls, tasks) = (Calls::default(), Tasks::new());
        let (seen, end) = (calls.clone(), tasks.token().clone());
        tasks.spawn("agent", async move {
            let serving = async {
                loop {
                    let (stream, _) = mgnt.accept().await.unwrap();
                    answer(stream, &seen).await;
                }
            };
            end.run_until_cancelled(serving).await;
        });
        (Self { calls, data: has_data.then_some(data), _tasks: tasks }, ports)
    }

    fn calls(&self) -> Vec<(String, String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    async fn until_calls(&self, count: usize) -> Vec<(String, String, Value)> {
        let ends = Instant::now() + Duration::from_secs(20);
        while self.calls().len() < count {
            assert!(Instant::now() < ends, "{:?}", self.calls());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.calls()
    }
}

impl Drop for ScriptedAgent {
    fn drop(&mut self) {
        self._tasks.token().cancel();
    }
}

/// Answers one call as GoFD's agents do: 200 without a body.
async fn answer(mut stream: TcpStream, calls: &Calls) {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break String::from_utf8(bytes[..at].to_vec()).unwrap().to_lowercase();
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return;
        }
    };
    assert!(head.contains("authorization: basic z29mzdpnb2zk"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    let begin = head.len() + 4;
    while bytes.len() < begin + length {
        stream.read_buf(&mut bytes).await.unwrap();
    }
    let line = head.lines().next().unwrap().to_owned();
    let (method, path) = line.split_once(' ').unwrap();
    let path = path.split(' ').next().unwrap().to_owned();
    let body = serde_json::from_slice(&bytes[begin..]).unwrap_or(Value::Null);
    calls.lock().unwrap().push((method.to_owned(), path, body));
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
}

/// The handshake of GoFD's agent with the password `gofd`; the salt is `12345678`.
fn handshake(task: &str, digest: &str) -> Vec<u8> {
    let text = format!("{task}\0gofd\0{digest}\0MTIzNDU2Nzg=\0");
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// Of `gofd`, as Python's hashlib computes it.
const DIGEST: &str = "ezl1WU90ENiDqE2gp3wtQNivMoGhY/qAS51CochstQ5anQYA38YyEQ==";

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    let reading = stream.read_exact(&mut read);
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
    read
}

/// Pulls a piece of a task as an agent does, block by block.
async fn pull(stream: &mut TcpStream, piece: u32, length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for begin in (0..length).step_by(32 << 10) {
        let block = (length - begin).min(32 << 10);
        let mut request = vec![0, 0, 0, 13, 2];
        for number in [piece, begin, block] {
            request.extend(number.to_be_bytes());
        }
        stream.write_all(&request).await.unwrap();
        let mut head = (block + 9).to_be_bytes().to_vec();
        head.push(3);
        head.extend(piece.to_be_bytes());
        head.extend(begin.to_be_bytes());
        assert_eq!(read(stream, 13).await, head);
        bytes.extend(read(stream, block as usize).await);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_told_pulls_and_is_told_that_it_is_over() {
    let (agent, ports) = ScriptedAgent::start("127.0.0.2", (0, 0), true).await;
    let f = TestGateway::with_agents(ports).await;
    let bytes: Vec<u8> = (0..1_100_000u32).map(|at| (at % 251) as u8).collect();
    let (one, two) = (f.write("a.bin", &bytes[..700_000]), f.write("b.bin", &bytes[700_000..]));
    assert_eq!(f.post_task("1", &[&one, &two], &["127.0.0.2"]).await.0, 202);
    let calls = agent.until_calls(2).await;
    let folder = format!("{}/", f.root.display());
    let (server, data) = (format!("127.0.0.1:{}", f.mgnt), format!("127.0.0.1:{}", f.data));
    let task = &calls[0].2;
    assert_eq!((calls[0].0.as_str(), calls[0].1.as_str()), ("post", "/api/v1/agent/tasks"));
    let meta = &task["metaInfo"];
    assert_eq!((&task["taskId"], &task["speed"]), (&json!("1"), &json!(10 << 20)));
    assert_eq!(task["linkChain"], json!({"dispatchAddrs": [data], "serverAddr": server}));
    assert_eq!((&meta["length"], &meta["PieceLen"]), (&json!(1_100_000), &json!(1 << 20)));
    let files = json!([
        {"length": 700_000, "path": folder, "name": "a.bin", "sum": ""},
        {"length": 400_000, "path": folder, "name": "b.bin", "sum": ""},
    ]);
    assert_eq!(meta["files"], files);
    assert_eq!(meta["pieces"].as_str().unwrap().len(), 56, "two digests");
    let own = format!("127.0.0.2:{}", ports.1);
    let chain = json!({"dispatchAddrs": [data, own], "serverAddr": server});
    let start = json!({"taskId": "1", "linkChain": chain});
    assert_eq!(calls[1], ("post".into(), "/api/v1/agent/tasks/start".into(), start));

    let mut stream = TcpStream::connect(&data).await.unwrap();
    stream.write_all(&handshake("1", DIGEST)).await.unwrap();
    assert_eq!(read(&mut stream, 1).await, [0xff]);
    assert_eq!(read(&mut stream, 6).await, [0, 0, 0, 2, 1, 0xc0]);
    stream.write_all(&[0, 0, 0, 2, 1, 0]).await.unwrap();
    let mut pulled = pull(&mut stream, 0, 1 << 20).await;
    assert_eq!(f.report("1", "127.0.0.2", 50.0).await, 200);
    let shown = f.until("1", "INPROGESS").await;
    assert_eq!(shown["dispatchInfos"]["127.0.0.2"]["percentComplete"], json!(50));
    // Its keep-alive.
    stream.write_all(&[0; 4]).await.unwrap();
    pulled.extend(pull(&mut stream, 1, 1_100_000 - (1 << 20)).await);
    assert!(pulled == bytes, "the bytes are those of the files");
    assert_eq!(f.report("1", "127.0.0.2", 100.0).await, 200);
    f.until("1", "COMPLETED").await;
    let calls = agent.until_calls(3).await;
    assert_eq!((calls[2].0.as_str(), calls[2].1.as_str()), ("delete", "/api/v1/agent/tasks/1"));
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
    assert!(rest.is_empty(), "nobody is seeded afterwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_agent_stops_nobody_and_is_nobodys_predecessor() {
    let (first, ports) = ScriptedAgent::start("127.0.0.3", (0, 0), true).await;
    let (deaf, _) = ScriptedAgent::start("127.0.0.4", ports, false).await;
    let (last, _) = ScriptedAgent::start("127.0.0.6", ports, true).await;
    let f = TestGateway::with_agents(ports).await;
    let file = f.write("a.bin", b"abc");
    // Nobody is at 127.0.0.5.
    let ips = ["127.0.0.6", "127.0.0.4", "127.0.0.5", "127.0.0.3"];
    assert_eq!(f.post_task("1", &[&file], &ips).await.0, 202);
    let chain_of = |calls: &[(String, String, Value)]| {
        let chain = calls[1].2["linkChain"]["dispatchAddrs"].as_array().unwrap().clone();
        let hosts =
            chain.iter().map(|address| address.as_str().unwrap().split(':').next().unwrap());
        hosts.map(|host| host.rsplit('.').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(chain_of(&last.until_calls(2).await), "1 6", "in the order of destIPs");
    assert_eq!(chain_of(&deaf.until_calls(2).await), "1 6 4");
    assert_eq!(chain_of(&first.until_calls(2).await), "1 6 3", "not 4, which can't be reached");
    for ip in ["127.0.0.3", "127.0.0.4", "127.0.0.6"] {
        assert_eq!(f.report("1", ip, 100.0).await, 200);
    }
    let shown = f.until("1", "FAILED").await;
    let words: Vec<_> = ips.iter().map(|ip| &shown["dispatchInfos"][ip]["status"]).collect();
    assert_eq!(words, ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]);
    assert_eq!(shown["dispatchInfos"]["127.0.0.5"]["percentComplete"], json!(-1));
    // Posted again, only the one that failed is tried.
    let (again, _) = ScriptedAgent::start("127.0.0.5", ports, true).await;
    let (count, file) = (first.until_calls(3).await.len(), file.as_str());
    assert_eq!(f.post_task("1", &[file], &ips).await.0, 202);
    again.until_calls(2).await;
    assert_eq!(f.report("1", "127.0.0.5", 100.0).await, 200);
    f.until("1", "COMPLETED").await;
    assert_eq!(first.calls().len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_agent_is_told_again_and_has_failed_in_the_end() {
    let (agent, ports) = ScriptedAgent::start("127.0.0.8", (0, 0), true).await;
    let (other, _) = ScriptedAgent::start("127.0.0.10", ports, true).await;
    let f = TestGateway::with_silence(ports, Duration::from_millis(500)).await;
    let file = f.write("a.bin", b"abc");
    assert_eq!(f.post_task("1", &[&file], &["127.0.0.8", "127.0.0.10"]).await.0, 202);
    other.until_calls(2).await;
    assert_eq!(f.report("1", "127.0.0.10", 100.0).await, 200);
    let shown = f.until("1", "FAILED").await;
    assert_eq!(shown["dispatchInfos"]["127.0.0.8"]["status"], "FAILED");
    assert_eq!(shown["dispatchInfos"]["127.0.0.10"]["status"], "COMPLETED");
    let calls = agent.until_calls(7).await;
    let calls: Vec<_> = calls.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let (tasks, start) = ("post /api/v1/agent/tasks", "post /api/v1/agent/tasks/start");
    let delete = "delete /api/v1/agent/tasks/1";
    assert_eq!(calls, [tasks, start, start, delete, tasks, start, delete]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_hostile_frames_get_nothing_and_are_counted() {
    let (agent, ports) = ScriptedAgent::start("127.0.0.7", (0, 0), true).await;
    assert!(agent.data.is_some());
    let f = TestGateway::with_agents(ports).await;
    let file = f.write("a.bin", b"abc");
    f.post_task("1", &[&file], &["127.0.0.7"]).await;
    agent.until_calls(2).await;
    let wrong = format!("A{}", &DIGEST[1..]);
    for hello in [
        handshake("1", &wrong),
        handshake("2", DIGEST),
        vec![0, 0, 0, 201],
        vec![0xff; 4],
        vec![0, 0, 0, 2, b'x', b'y'],
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", f.data)).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{hello:?}");
    }
    for frame in [
        vec![0xff; 4],
        vec![0, 0, 0, 1, 9],
        vec![0, 0, 0, 13, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", f.data)).await.unwrap();
        stream.write_all(&handshake("1", DIGEST)).await.unwrap();
        assert_eq!(read(&mut stream, 7).await, [0xff, 0, 0, 0, 2, 1, 0x80]);
        stream.write_all(&frame).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.unwrap();
        assert!(ended.is_err(), "{frame:?}");
    }
    let metrics = f.t.get("/metrics").await.text().await.unwrap();
    for (reason, count) in [("password", 1), ("unknown_task", 1), ("handshake", 3), ("frame", 3)] {
        let line =
            format!("edge_mirror_master_gofd_data_faults_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
}
