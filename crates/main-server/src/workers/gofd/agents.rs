//! The agents of GoFD in a task: told of it, told to begin, watched, and told that it is
//! over.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_gofd::{AgentStart, AgentTask, AgentTaskFile, LinkChain, MetaInfo, PIECE_BYTES};
use edge_mirror_http::listen::local_address_for;
use edge_mirror_protocol::{dispatch::TaskFile, package::percent_encoded};
use futures_util::{StreamExt, stream};
use reqwest::{Method, header};
use tokio::{net::TcpStream, time::timeout};
use tracing::{info, warn};

use crate::{
    server::{GofdGateway, Server, TaskSeed},
    state::gofd::{GofdJob, GofdPlaceKind, PlaceReport, chain_of, silence_limit},
};

/// Calls at a time, and the bytes of their bodies: a large task has megabytes of digests.
const MAX_CALLS: usize = 256;
const MAX_BODIES_BYTES: usize = 32 << 20;
/// Time to reach an agent's data port. An agent gives its predecessor as long.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);
/// An agent forgets a task in the background of its answer.
const FORGET_PAUSE: Duration = Duration::from_millis(500);

/// The agents' part of a run.
pub(super) struct AgentDelivery {
    gateway: Arc<GofdGateway>,
    id: String,
    run: u32,
    /// In the order of the chain.
    agents: Vec<ToldAgent>,
    /// The task as agents are told of it, by the address by which they reach us.
    posts: HashMap<IpAddr, Bytes>,
    seed: Arc<TaskSeed>,
    silence: Duration,
    wakings: Mutex<AgentWakings>,
}

/// Silent agents that were told again to begin.
#[derive(Debug, Default)]
struct AgentWakings {
    last_at: Option<UnixMillis>,
    /// Times, and the percentage at the last one, by address.
    agents: HashMap<String, (u32, f32)>,
}

impl AgentWakings {
    /// Notes another one, and returns how many it makes without progress in between.
    fn note(&mut self, agent: &str, percent: f32, at: UnixMillis) -> u32 {
        self.last_at = Some(at);
        let (times, before) = self.agents.entry(agent.to_owned()).or_insert((0, percent));
        *times = if percent > *before { 1 } else { *times + 1 };
        *before = percent;
        *times
    }
}

/// An agent, and the address by which it reaches us.
struct ToldAgent {
    /// As it was posted.
    name: String,
    ip: IpAddr,
    own_ip: IpAddr,
}

impl AgentDelivery {
    /// Reads the files for their digests, and has the data port serve them. None if there
    /// are no agents, or none can get them.
    pub(super) async fn prepare(
        server: &Arc<Server>,
        gateway: &Arc<GofdGateway>,
        job: &GofdJob,
        files: &[TaskFile],
    ) -> Result<Option<Self>, String> {
        let is_agent = |ip: &&String| job.places.get(*ip) == Some(&GofdPlaceKind::Agent);
        let mut agents = Vec::new();
        for name in job.request.ips.iter().filter(is_agent) {
            match ToldAgent::new(name, gateway).await {
                Ok(agent) => agents.push(agent),
                Err(cause) => leave_out(gateway, job, name, &cause),
            }
        }
        if agents.is_empty() {
            return Ok(None);
        }
        let Some(seed) = TaskSeed::new(files, server.store.clone()).map(Arc::new) else {
            for agent in &agents {
                leave_out(gateway, job, &agent.name, "the files are too large for agents of GoFD");
            }
            return Ok(None);
        };
        let hashed = seed.clone();
        let pieces = tasks::blocking(move || hashed.digest()).await;
        let pieces = pieces.map_err(|error| error.to_string())?;
        let files = job.request.files.iter().zip(files);
        let meta = MetaInfo {
            length: seed.bytes(),
            piece_len: PIECE_BYTES,
            pieces,
            files: files.map(|(posted, file)| meta_file(posted, file.size)).collect(),
        };
        let id = job.request.id.clone();
        let task = AgentTask {
            task_id: id.clone(),
            meta_info: meta,
            link_chain: LinkChain::default(),
            speed: i64::try_from(gateway.config.speed).unwrap_or(i64::MAX),
        };
        let own_ips: HashSet<_> = agents.iter().map(|agent| agent.own_ip).collect();
        let ports = gateway.ports;
        let posts = tasks::blocking(move || posts_of(task, own_ips, ports)).await;
        gateway.offer(&id, seed.clone());
        Ok(Some(Self {
            gateway: gateway.clone(),
            id,
            run: job.run,
            agents,
            posts,
            silence: silence_limit(gateway.silence, seed.bytes(), gateway.config.speed),
            seed,
            wakings: Mutex::default(),
        }))
    }

    fn wakings(&self) -> MutexGuard<'_, AgentWakings> {
        self.wakings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all agents of the task, and those that have taken it to begin.
    pub(super) async fn begin(&self) {
        let longest = self.posts.values().map(Bytes::len).max().unwrap_or_default();
        let agents: Vec<_> = self.agents.iter().collect();
        let told = agents.iter().map(|agent| self.tell(agent));
        let told = together(told, calls_at_a_time(longest)).await;
        let told = agents.into_iter().zip(told);
        let taken: Vec<_> = told.filter_map(|(agent, told)| told.then_some(agent)).collect();
        if !self.is_current() {
            return;
        }
        let reached = together(taken.iter().map(|agent| self.can_reach(agent)), MAX_CALLS).await;
        let reached: Vec<_> = taken.into_iter().zip(reached).collect();
        let ports: Vec<_> = reached
            .iter()
            .map(|(agent, reached)| (self.data_address(agent.ip), *reached))
            .collect();
        let starts = reached.iter().enumerate().map(|(place, (agent, _))| {
            let (server, _) = self.own_addresses(agent);
            self.start(agent, chain_of(&server, &ports, place))
        });
        together(starts, MAX_CALLS).await;
    }

    /// Tells the first agent of the chain that has been silent for too long to go on with
    /// pieces from here: it has lost its predecessor, or was restarted. Those behind it wait
    /// for its pieces, and have time to go on with them. One that stays silent has failed.
    pub(super) async fn wake_silent(&self) {
        let last_at = self.wakings().last_at;
        let silent = self.gateway.look(|table, now| {
            let places = table.places(&self.id, self.run)?;
            self.agents.iter().find_map(|agent| {
                let place = places.get(&agent.name).filter(|place| !place.status.is_finished())?;
                let heard_at = [self.seed.heard_at(agent.ip), last_at].into_iter().flatten();
                let heard_at = heard_at.fold(place.heard_at, UnixMillis::max);
                let is_silent = now.saturating_since(heard_at) > self.silence;
                is_silent.then_some((agent, place.percent))
            })
        });
        if let Some((agent, percent)) = silent {
            self.wake(agent, percent).await;
        }
    }

    async fn wake(&self, agent: &ToldAgent, percent: f32) {
        let times = self.wakings().note(&agent.name, percent, UnixMillis::now());
        let (name, id) = (&agent.name, &self.id);
        match times {
            // Pieces that it has stay where they are.
            1 => info!("agent {name} is silent in task {id:?}: it is told to go on"),
            2 => {
                info!("agent {name} stays silent in task {id:?}: it is told of it anew");
                self.forget(agent).await;
                tokio::time::sleep(FORGET_PAUSE).await;
                if !self.tell(agent).await {
                    return;
                }
            }
            _ => {
                warn!("agent {name} stays silent in task {id:?}, which has failed there");
                return self.note(agent, PlaceReport::Failed);
            }
        }
        let (server, _) = self.own_addresses(agent);
        self.start(agent, vec![server, self.data_address(agent.ip)]).await;
    }

    /// Tells all agents that the task is over.
    pub(super) async fn end(&self) {
        self.gateway.withdraw(&self.id, &self.seed);
        together(self.agents.iter().map(|agent| self.forget(agent)), MAX_CALLS).await;
    }

    fn is_current(&self) -> bool {
        self.gateway.look(|table, _| table.places(&self.id, self.run).is_some())
    }

    fn note(&self, agent: &ToldAgent, report: PlaceReport) {
        self.gateway.change(|table, now| table.note(&self.id, self.run, &agent.name, report, now));
    }

    /// Tells an agent of the task, unless it was cancelled meanwhile. False if it does not
    /// take it.
    async fn tell(&self, agent: &ToldAgent) -> bool {
        if !self.is_current() {
            return false;
        }
        self.gateway.look(|table, _| table.tell(&self.id, self.run, &agent.name));
        let body = self.posts.get(&agent.own_ip).cloned().unwrap_or_default();
        self.deliver(agent, "/api/v1/agent/tasks", body).await
    }

    async fn start(&self, agent: &ToldAgent, dispatch_addrs: Vec<String>) {
        let (_, server_addr) = self.own_addresses(agent);
        let link_chain = LinkChain { dispatch_addrs, server_addr };
        let start = AgentStart { task_id: self.id.clone(), link_chain };
        let body = serde_json::to_vec(&start).unwrap_or_default();
        if self.deliver(agent, "/api/v1/agent/tasks/start", body.into()).await {
            self.note(agent, PlaceReport::Begun);
        }
    }

    /// Posts something; an agent that can't be told has failed.
    async fn deliver(&self, agent: &ToldAgent, path: &str, body: Bytes) -> bool {
        let told = self.call(agent, Method::POST, path, body).await;
        if let Err(cause) = &told {
            warn!("agent {} does not take task {:?}: {cause}", agent.name, self.id);
            self.note(agent, PlaceReport::Failed);
        }
        told.is_ok()
    }

    async fn forget(&self, agent: &ToldAgent) {
        let path = format!("/api/v1/agent/tasks/{}", percent_encoded(&self.id));
        if let Err(cause) = self.call(agent, Method::DELETE, &path, Bytes::new()).await {
            info!("agent {} was not told that task {:?} is over: {cause}", agent.name, self.id);
        }
    }

    async fn call(
        &self,
        agent: &ToldAgent,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(), String> {
        let config = &self.gateway.config;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let port = config.agent_mgnt_port.unwrap_or_default();
        let url = format!("{scheme}://{}{path}", SocketAddr::new(agent.ip, port));
        let request = self.gateway.client.request(method, url);
        let request = request
            .header(header::AUTHORIZATION, config.credentials.basic())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        let answer = request.body(body).send().await.map_err(|error| innermost(&error))?;
        match answer.status().as_u16() {
            ..=300 => Ok(()),
            status => Err(format!("it answers with status {status}")),
        }
    }

    async fn can_reach(&self, agent: &ToldAgent) -> bool {
        let port = self.gateway.config.agent_data_port.unwrap_or_default();
        let connecting = TcpStream::connect((agent.ip, port));
        let reached = matches!(timeout(REACH_TIMEOUT, connecting).await, Ok(Ok(_)));
        if !reached {
            warn!("the data port of agent {} can't be reached: no agent pulls from it", agent.name);
        }
        reached
    }

    fn data_address(&self, ip: IpAddr) -> String {
        SocketAddr::new(ip, self.gateway.config.agent_data_port.unwrap_or_default()).to_string()
    }

    /// Our data port and management port as the agent reaches them.
    fn own_addresses(&self, agent: &ToldAgent) -> (String, String) {
        addresses_at(agent.own_ip, self.gateway.ports)
    }
}

/// Our data port and management port at an address.
fn addresses_at(own_ip: IpAddr, (mgnt, data): (u16, u16)) -> (String, String) {
    let at = |port| SocketAddr::new(own_ip, port).to_string();
    (at(data), at(mgnt))
}

/// The task as agents are told of it, by the address by which they reach us. Computes for
/// a while where there are many digests.
fn posts_of(
    mut task: AgentTask,
    own_ips: HashSet<IpAddr>,
    ports: (u16, u16),
) -> HashMap<IpAddr, Bytes> {
    let posts = own_ips.into_iter().map(|own_ip| {
        let (server, server_addr) = addresses_at(own_ip, ports);
        task.link_chain = LinkChain { dispatch_addrs: vec![server], server_addr };
        (own_ip, Bytes::from(serde_json::to_vec(&task).unwrap_or_default()))
    });
    posts.collect()
}

/// Notes that an address does not get the task; the others do.
fn leave_out(gateway: &GofdGateway, job: &GofdJob, name: &str, cause: &str) {
    let id = &job.request.id;
    warn!("agent {name} does not get task {id:?}: {cause}");
    gateway.change(|table, now| table.note(id, job.run, name, PlaceReport::Failed, now));
}

fn calls_at_a_time(body_bytes: usize) -> usize {
    (MAX_BODIES_BYTES / body_bytes.max(1)).clamp(4, MAX_CALLS)
}

/// Makes several calls at a time; the answers are in their order.
async fn together<F: Future>(calls: impl Iterator<Item = F>, most: usize) -> Vec<F::Output> {
    let calls: Vec<F> = calls.collect();
    stream::iter(calls).buffered(most).collect().await
}

impl ToldAgent {
    async fn new(name: &str, gateway: &GofdGateway) -> Result<Self, String> {
        let ip: IpAddr = name.parse().map_err(|_| format!("{name:?} is no IP address"))?;
        let own_ip = match gateway.config.ip {
            Some(ip) => ip,
            None => {
                let port = gateway.config.agent_mgnt_port.unwrap_or_default();
                let own = local_address_for(SocketAddr::new(ip, port)).await;
                own.map_err(|error| format!("there is no way to it: {error}"))?
            }
        };
        Ok(Self { name: name.to_owned(), ip, own_ip })
    }
}

/// The last cause of an error: those before it name the address alone.
fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => innermost(cause),
        None => error.to_string(),
    }
}

/// A file with its folder as GoFD's server names it.
fn meta_file(posted: &str, length: u64) -> AgentTaskFile {
    let (path, name) = posted.rsplit_once('/').unwrap_or(("", posted));
    let (path, name, sum) = (format!("{path}/"), name.to_owned(), String::new());
    AgentTaskFile { length, path, name, sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_gets_on_after_a_waking_is_not_near_its_failure() {
        let mut wakings = AgentWakings::default();
        let mut note = |agent, percent| wakings.note(agent, percent, UnixMillis::from_secs(1));
        let times: Vec<_> = [0.0, 0.0, 10.0, 10.0, 10.0].map(|percent| note("a", percent)).into();
        assert_eq!(times, [1, 2, 1, 2, 3]);
        assert_eq!(note("b", 10.0), 1);
    }

    #[test]
    fn large_bodies_are_sent_few_at_a_time() {
        let calls = [0, 1_000, 1 << 20, 28 << 20, usize::MAX].map(calls_at_a_time);
        assert_eq!(calls, [256, 256, 32, 4, 4]);
    }
}
