//! Nodes, each on a machine of its own, and their main server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use axum::body::Bytes;
use serde_json::json;

use super::{
    cases::{Case, MainServerKind},
    network::Host,
    ours::Ours,
    poison::Poisoner,
    tablets::Tablets,
    theirs::Theirs,
    tree::Tree,
};
use crate::support::{Server, Stage, node};

pub(crate) const MAIN_PORT: u16 = 8000;
pub(crate) const NODE_PORT: u16 = 8001;
pub(crate) const MEETING: &str = "board";
pub(crate) const MAIN_SERVER_LOG: &str = "main-server.log";
const KEY: &str = "the-nodes-of-this-bench-know-it";
const START: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
/// How often memory is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(250);

pub(crate) enum MainServer {
    Ours(Ours),
    Theirs(Theirs),
}

/// By the main server, up to now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentBytes {
    pub of_packages: u64,
    /// With headers, and all else that its machine sends.
    pub on_the_wire: Option<u64>,
}

impl SentBytes {
    fn quick(&self) -> u64 {
        self.on_the_wire.unwrap_or(self.of_packages)
    }
}

pub(crate) struct Fleet {
    pub main_server: MainServer,
    members: Vec<Member>,
    poisoner: Option<Poisoner>,
    package: Bytes,
    folder: PathBuf,
}

struct Member {
    // Ended before its machine goes.
    server: Server,
    host: Host,
    /// Where other nodes reach it.
    reached: SocketAddr,
    package: PathBuf,
    state: MemberState,
    memory: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Pulling,
    Killed,
    Finished(Instant),
}

impl Fleet {
    /// Starts all of them, and waits until each node waits for the meeting.
    pub(crate) fn start(
        stage: &Stage,
        folder: PathBuf,
        case: &Case,
        package: Bytes,
    ) -> Result<Self> {
        let main_server = match case.main_server {
            MainServerKind::Ours => {
                let host = Host::new(0, case.cap)?;
                MainServer::Ours(Ours::start(stage, &folder, host, &package)?)
            }
            MainServerKind::Theirs => MainServer::Theirs(Theirs::start(package.clone(), case.cap)?),
            MainServerKind::Swarm => bail!("a swarm has no main server"),
        };
        let poisoner = case.is_poisoned().then(Poisoner::new).transpose()?;
        let mut fleet = Self { main_server, members: vec![], poisoner, package, folder };
        for number in 1..=case.nodes {
            let member = fleet.new_member(stage, number, case)?;
            fleet.members.push(member);
        }
        fleet.until("all nodes are there", START, |fleet| {
            Ok(match &fleet.main_server {
                MainServer::Ours(ours) => ours.waiting_nodes()? >= case.nodes as u64,
                MainServer::Theirs(theirs) => theirs.nodes() == case.nodes,
            })
        })?;
        Ok(fleet)
    }

    fn new_member(&self, stage: &Stage, number: usize, case: &Case) -> Result<Member> {
        let host = Host::new(number, case.uplink)?;
        let mut settings = json!({"nodeId": format!("node-{number}"), "relay": {}});
        let mut reached = host.at(NODE_PORT);
        if let MainServer::Theirs(_) = &self.main_server {
            // Nobody waits for a poll: what is measured begins with the first pull.
            settings["syncInterval"] = json!(1);
            settings["relay"]["key"] = json!(KEY);
        }
        if let Some(poisoner) = &self.poisoner {
            // Bytes that wait in a socket have not been taken.
            host.limit_receive_buffers()?;
            reached = poisoner.stand_before(reached)?;
            settings["relay"]["address"] = json!(reached.to_string());
        }
        let folder = self.folder.join(format!("node{number}"));
        fs::create_dir(&folder)?;
        let (storage, config) = (folder.join("storage"), folder.join("node_config.json"));
        fs::write(&config, node::configuration(self.address(), &storage, NODE_PORT, &settings)?)?;
        let mut command = host.command(node::program()?);
        command.args(["node", "--host", "0.0.0.0", "--config"]).arg(&config);
        let log = folder.join("log");
        let server = Server::spawn(stage, "node", host.at(NODE_PORT), log, command)?;
        let package = storage.join(format!("meeting_{MEETING}/package.zip"));
        Ok(Member { server, host, reached, package, state: MemberState::Pulling, memory: 0 })
    }

    fn address(&self) -> SocketAddr {
        match &self.main_server {
            MainServer::Ours(ours) => ours.host.at(MAIN_PORT),
            MainServer::Theirs(_) => Theirs::address(),
        }
    }

    /// Returns the seconds that `curl` takes for one copy, to a node's machine.
    pub(crate) fn curl(&self) -> Result<f64> {
        match &self.main_server {
            MainServer::Ours(ours) => ours.curl(&self.members[0].host, self.package.len() as u64),
            MainServer::Theirs(_) => Ok(f64::NAN),
        }
    }

    /// Starts the meeting; returns when that was.
    pub(crate) fn start_meeting(&mut self) -> Result<Instant> {
        match &self.main_server {
            MainServer::Ours(ours) => {
                let begin = Instant::now();
                ours.start_meeting()?;
                return Ok(begin);
            }
            MainServer::Theirs(theirs) => theirs.start_meeting(),
        }
        self.until("a node pulls", START, |fleet| match &fleet.main_server {
            MainServer::Theirs(theirs) => Ok(theirs.pulls() > 0),
            MainServer::Ours(_) => Ok(true),
        })?;
        Ok(Instant::now())
    }

    pub(crate) fn sent_bytes(&self) -> Result<SentBytes> {
        Ok(match &self.main_server {
            MainServer::Ours(ours) => SentBytes {
                of_packages: ours.sent_bytes()?,
                on_the_wire: Some(ours.host.sent_bytes()?),
            },
            MainServer::Theirs(theirs) => {
                SentBytes { of_packages: theirs.sent_bytes(), on_the_wire: None }
            }
        })
    }

    /// Asks nobody who is busy.
    fn quickly_sent(&self) -> Result<u64> {
        match &self.main_server {
            MainServer::Ours(ours) => ours.host.sent_bytes(),
            MainServer::Theirs(theirs) => Ok(theirs.sent_bytes()),
        }
    }

    /// Waits until the main server has sent this share of a package since `before`.
    pub(crate) fn until_sent(
        &mut self,
        share: f64,
        before: SentBytes,
        patience: Duration,
    ) -> Result<()> {
        let enough = (share * self.package.len() as f64) as u64;
        self.until("the main server has sent it", patience, |fleet| {
            Ok(fleet.is_finished() || fleet.quickly_sent()? - before.quick() >= enough)
        })
    }

    /// Lets the time pass.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        self.until("time is over", time * 2, |_| Ok(begin.elapsed() >= time))
    }

    fn is_finished(&self) -> bool {
        self.members.iter().all(|member| member.state != MemberState::Pulling)
    }

    /// Waits until each node has the package, or gives up.
    pub(crate) fn until_finished(&mut self, patience: Duration) -> Result<()> {
        self.until("every node has the package", patience, |fleet| Ok(fleet.is_finished()))
    }

    fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let begin = Instant::now();
        let mut looked = None;
        loop {
            let now = Instant::now();
            let looks = looked.is_none_or(|looked| now - looked > MEMORY_LOOK);
            looked = if looks { Some(now) } else { looked };
            for member in &mut self.members {
                member.look(now, looks)?;
            }
            if condition(self)? {
                return Ok(());
            }
            if begin.elapsed() > patience {
                bail!("waited in vain until {what}; {}", self.laggards());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Names those without the package, and shows a log.
    fn laggards(&self) -> String {
        let members = self.members.iter().enumerate();
        let pulling: Vec<_> =
            members.filter(|(_, member)| member.state == MemberState::Pulling).collect();
        let names: Vec<_> = pulling.iter().map(|(at, _)| format!("node-{}", at + 1)).collect();
        let log = pulling.first().map_or_else(String::new, |(_, member)| member.server.log_tail());
        format!("pulling: {}\n{log}", names.join(", "))
    }

    pub(crate) fn tree(&self) -> Result<Tree> {
        let nodes = self.members.iter().map(|member| (&member.host, member.reached));
        Tree::read(&nodes.collect::<Vec<_>>())
    }

    /// Connects a tablet to each node.
    pub(crate) fn tablets(&self) -> Result<Tablets> {
        Tablets::connect(self.members.iter().map(|member| member.host.at(NODE_PORT)))
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.members[node].server.kill();
        self.members[node].state = MemberState::Killed;
    }

    pub(crate) fn unplug_main_server(&self) -> Result<()> {
        match &self.main_server {
            MainServer::Ours(ours) => ours.host.unplug(),
            MainServer::Theirs(_) => bail!("it has no machine of its own"),
        }
    }

    pub(crate) fn plug_in_main_server(&self) -> Result<()> {
        match &self.main_server {
            MainServer::Ours(ours) => ours.host.plug_in(),
            MainServer::Theirs(_) => bail!("it has no machine of its own"),
        }
    }

    pub(crate) fn host(&self, node: usize) -> &Host {
        &self.members[node].host
    }

    pub(crate) fn poisoner(&self) -> Option<&Poisoner> {
        self.poisoner.as_ref()
    }

    /// Returns when the last node had it, and fails if one has something else.
    pub(crate) fn finished(&self) -> Result<Instant> {
        let mut last = None;
        for (at, member) in self.members.iter().enumerate() {
            if let MemberState::Finished(when) = member.state {
                last = last.max(Some(when));
                if !is_same(&member.package, &self.package) {
                    bail!("node-{} has another package", at + 1);
                }
            }
        }
        last.ok_or_else(|| anyhow::anyhow!("no node is left"))
    }

    pub(crate) fn copy_logs(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        fs::copy(self.folder.join(MAIN_SERVER_LOG), to.join(MAIN_SERVER_LOG)).ok();
        for number in 1..=self.members.len() {
            let log = self.folder.join(format!("node{number}/log"));
            fs::copy(log, to.join(format!("node-{number}.log")))?;
        }
        Ok(())
    }

    /// Returns the anonymous memory of the node that used most.
    pub(crate) fn memory(&self) -> u64 {
        self.members.iter().map(|member| member.memory).max().unwrap_or(0)
    }
}

impl Member {
    fn look(&mut self, now: Instant, at_memory: bool) -> Result<()> {
        if self.state == MemberState::Killed {
            return Ok(());
        }
        if self.state == MemberState::Pulling && self.package.exists() {
            self.state = MemberState::Finished(now);
        }
        if at_memory {
            self.memory = self.memory.max(self.server.memory()?.anonymous);
        }
        Ok(())
    }
}

fn is_same(path: &Path, package: &[u8]) -> bool {
    fs::read(path).is_ok_and(|stored| stored == package)
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // At once: nobody is there any more to be told.
        for member in &mut self.members {
            member.server.kill();
        }
        if let MainServer::Ours(ours) = &mut self.main_server {
            ours.kill();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
