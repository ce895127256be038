//! The agents of GoFD in a task: told of it, told to begin, watched, and told that it is
//! over.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use edge_mirror_base::tasks;
use edge_mirror_gofd::{AgentStart, AgentTask, AgentTaskFile, LinkChain, MetaInfo, PIECE_BYTES};
use edge_mirror_http::listen::local_address_for;
use edge_mirror_protocol::{dispatch::TaskFile, package::percent_encoded};
use futures_util::{StreamExt, stream};
use reqwest::{Method, header};
use tokio::{net::TcpStream, time::timeout};
use tracing::{info, warn};

use crate::{
    server::{GofdFace, Server, TaskSeed},
    state::gofd::{GofdJob, GofdPlaceKind, PlaceReport, chain_of, silence_limit},
};

/// Calls at a time.
const MAX_CALLS: usize = 256;
/// Time to reach an agent's data port. An agent gives its predecessor as long.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);
/// An agent forgets a task in the background of its answer.
const FORGET_PAUSE: Duration = Duration::from_millis(500);

/// The agents' part of a run.
pub(super) struct AgentDelivery {
    face: Arc<GofdFace>,
    id: String,
    run: u32,
    /// In the order of the chain.
    agents: Vec<ToldAgent>,
    meta: MetaInfo,
    seed: Arc<TaskSeed>,
    silence: Duration,
    /// Times that silent agents were told again to begin, by address.
    wakings: Mutex<HashMap<String, u32>>,
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
    /// are no agents.
    pub(super) async fn prepare(
        server: &Arc<Server>,
        face: &Arc<GofdFace>,
        job: &GofdJob,
        files: &[TaskFile],
    ) -> Result<Option<Self>, String> {
        let is_agent = |ip: &&String| job.places.get(*ip) == Some(&GofdPlaceKind::Agent);
        let mut agents = Vec::new();
        for name in job.request.ips.iter().filter(is_agent) {
            agents.push(ToldAgent::new(name, face).await?);
        }
        if agents.is_empty() {
            return Ok(None);
        }
        let seed = TaskSeed::new(files, server.store.clone());
        let seed = Arc::new(seed.ok_or("the files are too large for agents of GoFD")?);
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
        face.offer(&id, seed.clone());
        Ok(Some(Self {
            face: face.clone(),
            id,
            run: job.run,
            agents,
            meta,
            silence: silence_limit(face.silence, seed.bytes(), face.config.speed),
            seed,
            wakings: Mutex::default(),
        }))
    }

    /// Tells all agents of the task, and those that have taken it to begin.
    pub(super) async fn begin(&self) {
        let agents: Vec<_> = self.agents.iter().collect();
        let told = together(agents.iter().map(|agent| self.tell(agent))).await;
        let told = agents.into_iter().zip(told);
        let taken: Vec<_> = told.filter_map(|(agent, told)| told.then_some(agent)).collect();
        if !self.is_current() {
            return;
        }
        let reached = together(taken.iter().map(|agent| self.can_reach(agent))).await;
        let reached: Vec<_> = taken.into_iter().zip(reached).collect();
        let ports: Vec<_> = reached
            .iter()
            .map(|(agent, reached)| (self.data_address(agent.ip), *reached))
            .collect();
        let starts = reached.iter().enumerate().map(|(place, (agent, _))| {
            let (server, _) = self.own_addresses(agent);
            self.start(agent, chain_of(&server, &ports, place))
        });
        together(starts).await;
    }

    /// Tells agents that have been silent for too long to go on with pieces from here: they
    /// have lost their predecessor, or were restarted. Those that stay silent have failed.
    pub(super) async fn wake_silent(&self) {
        let silent = self.face.look(|table, now| {
            let places = table.places(&self.id, self.run)?;
            let silent = self.agents.iter().filter(|agent| {
                let place = places.get(&agent.name).filter(|place| !place.status.is_finished());
                place.is_some_and(|place| {
                    let heard_at = self.seed.heard_at(agent.ip).unwrap_or(place.heard_at);
                    now.saturating_since(heard_at.max(place.heard_at)) > self.silence
                })
            });
            Some(silent.collect::<Vec<_>>())
        });
        together(silent.unwrap_or_default().into_iter().map(|agent| self.wake(agent))).await;
    }

    async fn wake(&self, agent: &ToldAgent) {
        let times = {
            let mut wakings = self.wakings.lock().unwrap_or_else(PoisonError::into_inner);
            let times = wakings.entry(agent.name.clone()).or_default();
            *times += 1;
            *times
        };
        info!(
            "agent {} is silent in task {:?}, it is told to go on (time {times})",
            agent.name, self.id
        );
        match times {
            // Pieces that it has stay where they are.
            1 => {}
            2 => {
                self.forget(agent).await;
                tokio::time::sleep(FORGET_PAUSE).await;
                if !self.tell(agent).await {
                    return;
                }
            }
            _ => return self.note(agent, PlaceReport::Failed),
        }
        let (server, _) = self.own_addresses(agent);
        self.start(agent, vec![server, self.data_address(agent.ip)]).await;
    }

    /// Tells all agents that the task is over.
    pub(super) async fn end(&self) {
        self.face.withdraw(&self.id, &self.seed);
        together(self.agents.iter().map(|agent| self.forget(agent))).await;
    }

    fn is_current(&self) -> bool {
        self.face.look(|table, _| table.places(&self.id, self.run).is_some())
    }

    fn note(&self, agent: &ToldAgent, report: PlaceReport) {
        self.face.change(|table, now| table.note(&self.id, self.run, &agent.name, report, now));
    }

    /// Tells an agent of the task. False if it does not take it.
    async fn tell(&self, agent: &ToldAgent) -> bool {
        let (server, server_addr) = self.own_addresses(agent);
        let task = AgentTask {
            task_id: self.id.clone(),
            meta_info: self.meta.clone(),
            link_chain: LinkChain { dispatch_addrs: vec![server], server_addr },
            speed: i64::try_from(self.face.config.speed).unwrap_or(i64::MAX),
        };
        let body = serde_json::to_vec(&task).unwrap_or_default();
        self.deliver(agent, "/api/v1/agent/tasks", body).await
    }

    async fn start(&self, agent: &ToldAgent, dispatch_addrs: Vec<String>) {
        let (_, server_addr) = self.own_addresses(agent);
        let link_chain = LinkChain { dispatch_addrs, server_addr };
        let start = AgentStart { task_id: self.id.clone(), link_chain };
        let body = serde_json::to_vec(&start).unwrap_or_default();
        if self.deliver(agent, "/api/v1/agent/tasks/start", body).await {
            self.note(agent, PlaceReport::Begun);
        }
    }

    /// Posts something; an agent that can't be told has failed.
    async fn deliver(&self, agent: &ToldAgent, path: &str, body: Vec<u8>) -> bool {
        let told = self.call(agent, Method::POST, path, body).await;
        if let Err(cause) = &told {
            warn!("agent {} does not take task {:?}: {cause}", agent.name, self.id);
            self.note(agent, PlaceReport::Failed);
        }
        told.is_ok()
    }

    async fn forget(&self, agent: &ToldAgent) {
        let path = format!("/api/v1/agent/tasks/{}", percent_encoded(&self.id));
        if let Err(cause) = self.call(agent, Method::DELETE, &path, Vec::new()).await {
            info!("agent {} was not told that task {:?} is over: {cause}", agent.name, self.id);
        }
    }

    async fn call(
        &self,
        agent: &ToldAgent,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(), String> {
        let config = &self.face.config;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let port = config.agent_mgnt_port.unwrap_or_default();
        let url = format!("{scheme}://{}{path}", SocketAddr::new(agent.ip, port));
        let request = self.face.client.request(method, url);
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
        let port = self.face.config.agent_data_port.unwrap_or_default();
        let connecting = TcpStream::connect((agent.ip, port));
        let reached = matches!(timeout(REACH_TIMEOUT, connecting).await, Ok(Ok(_)));
        if !reached {
            warn!("the data port of agent {} can't be reached: no agent pulls from it", agent.name);
        }
        reached
    }

    fn data_address(&self, ip: IpAddr) -> String {
        SocketAddr::new(ip, self.face.config.agent_data_port.unwrap_or_default()).to_string()
    }

    /// Our data port and management port as the agent reaches them.
    fn own_addresses(&self, agent: &ToldAgent) -> (String, String) {
        let (mgnt, data) = self.face.ports;
        let at = |port| SocketAddr::new(agent.own_ip, port).to_string();
        (at(data), at(mgnt))
    }
}

/// Makes several calls at a time; the answers are in their order.
async fn together<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let calls: Vec<F> = calls.collect();
    stream::iter(calls).buffered(MAX_CALLS).collect().await
}

impl ToldAgent {
    async fn new(name: &str, face: &GofdFace) -> Result<Self, String> {
        let ip: IpAddr = name.parse().map_err(|_| format!("{name:?} is no address"))?;
        let own_ip = match face.config.ip {
            Some(ip) => ip,
            None => {
                let port = face.config.agent_mgnt_port.unwrap_or_default();
                let own = local_address_for(SocketAddr::new(ip, port)).await;
                own.map_err(|error| format!("{name} can't be reached: {error}"))?
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
