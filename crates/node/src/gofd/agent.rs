//! The agent: its tasks, and what all of them share.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_base::tasks::Tasks;
use edge_mirror_gofd::{
    AgentStart, AgentTask, DataPortEvent, EncryptedPassword, GofdCredentials, OfferedSeed,
    SeedDirectory, UnreadablePassword, max_task_id,
};
use edge_mirror_http::tls;
use edge_mirror_settings::Config;
use thiserror::Error;
use tracing::{debug, info};

use super::{files::AgentFiles, report::Reporter, session::AgentSession};
use crate::board::StatusBoard;

/// Tasks at a time. A server has a dozen.
const MAX_TASKS: usize = 64;
/// Time of a report, as at GoFD's agents.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of the agent in a form that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentOptions {
    pub(super) ip: IpAddr,
    /// As the server writes it.
    pub(super) ip_text: String,
    pub(super) mgnt_port: u16,
    pub(super) data_port: u16,
    pub(super) credentials: GofdCredentials,
    pub(super) folder: PathBuf,
    pub(super) tls: bool,
}

/// The reason that the node can't be an agent.
#[derive(Debug, Error)]
pub(super) enum AgentFault {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("gofd.ip must be an IP address, not a name")]
    Address,
    #[error("gofd.password: {0}")]
    Password(#[from] UnreadablePassword),
    #[error("{port} can't be listened to: {cause}")]
    Listen { port: &'static str, cause: io::Error },
    #[error("the client for reports can't be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// The reason that a task is not taken.
#[derive(Debug, Error)]
pub(super) enum TaskRefusal {
    #[error("任务过多，上限 {MAX_TASKS} 个 / there are {MAX_TASKS} tasks already")]
    TooMany,
    #[error(
        "taskId 应为 1 到 {0} 字节，不含控制字符 / taskId must have 1 to {0} bytes and no control characters"
    )]
    Id(usize),
    #[error(transparent)]
    Meta(#[from] edge_mirror_gofd::UnusableMeta),
}

pub(super) struct GofdAgent {
    pub(super) options: AgentOptions,
    pub(super) board: Arc<StatusBoard>,
    pub(super) reporter: Reporter,
    sessions: Mutex<HashMap<String, Arc<AgentSession>>>,
    tasks: Tasks,
}

impl AgentOptions {
    /// None if the node is no agent.
    pub(super) fn read(config: &Config) -> Result<Option<Self>, AgentFault> {
        let gofd = &config.gofd;
        if !gofd.agent {
            return Ok(None);
        }
        let ip_text = gofd.ip.clone().ok_or(AgentFault::Missing("gofd.ip"))?;
        let ip = ip_text.parse().map_err(|_| AgentFault::Address)?;
        let text = gofd.password.as_ref().ok_or(AgentFault::Missing("gofd.password"))?;
        let (factor, text) = (gofd.factor.clone(), text.reveal().to_owned());
        let password = EncryptedPassword { factor, text }.decrypt()?;
        Ok(Some(Self {
            ip,
            ip_text,
            mgnt_port: gofd.mgnt_port,
            data_port: gofd.data_port,
            credentials: GofdCredentials { user: gofd.username.clone(), password },
            folder: config.gofd_folder().ok_or(AgentFault::Missing("gofd.downDir"))?,
            tls: gofd.tls,
        }))
    }
}

impl GofdAgent {
    /// `tasks` has the sessions.
    pub(super) fn new(
        options: AgentOptions,
        board: Arc<StatusBoard>,
        tasks: Tasks,
    ) -> Result<Self, AgentFault> {
        // The server has a certificate that nobody signed, as GoFD does not look at it.
        let client = tls::http(tls::unverified_client())
            .timeout(REPORT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let reporter = Reporter::new(client, &options);
        Ok(Self { options, board, reporter, sessions: Mutex::default(), tasks })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<AgentSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a task. The same one stays as it is, as at GoFD; another one of its id takes
    /// its place.
    pub(super) fn create(self: &Arc<Self>, task: AgentTask) -> Result<(), TaskRefusal> {
        let longest = max_task_id(&self.options.credentials.user);
        let AgentTask { task_id: id, meta_info, speed, .. } = task;
        if !(1..=longest).contains(&id.len()) || id.chars().any(char::is_control) {
            return Err(TaskRefusal::Id(longest));
        }
        let files = AgentFiles::new(self.options.folder.clone(), &meta_info)?;
        let mut sessions = self.sessions();
        let earlier = sessions.get(&id).cloned();
        match &earlier {
            Some(earlier) if earlier.is_of(&meta_info) => {
                debug!("task {id:?} of GoFD is here already");
                return Ok(());
            }
            Some(earlier) => {
                info!("task {id:?} of GoFD is replaced by another one of this id");
                earlier.end();
            }
            None if sessions.len() >= MAX_TASKS => return Err(TaskRefusal::TooMany),
            None => {}
        }
        info!(
            "task {id:?} of GoFD with {} files of {} bytes",
            meta_info.files.len(),
            meta_info.length
        );
        let speed = u64::try_from(speed).unwrap_or(0);
        let session = Arc::new(AgentSession::new(id.clone(), files, meta_info, speed));
        sessions.insert(id, session.clone());
        let agent = self.clone();
        self.tasks.spawn_for_peer("GoFD task", async move {
            if let Some(earlier) = earlier {
                earlier.close().await;
            }
            let end = agent.tasks.token().clone();
            end.run_until_cancelled(session.run(&agent)).await;
            agent.remove(&session);
        });
        Ok(())
    }

    /// Has a task begin; an unknown one is ignored, as at GoFD.
    pub(super) fn start(&self, start: AgentStart) {
        match self.sessions().get(&start.task_id) {
            Some(session) => session.start(start.link_chain),
            None => debug!("there is no task {:?} of GoFD to begin", start.task_id),
        }
    }

    /// Ends a task. What is here of its files stays.
    pub(super) fn cancel(&self, id: &str) {
        if let Some(session) = self.sessions().remove(id) {
            info!("task {id:?} of GoFD is over");
            session.end();
        }
    }

    /// Forgets a session, unless another one has its place by now.
    fn remove(&self, session: &Arc<AgentSession>) {
        session.end();
        let mut sessions = self.sessions();
        if sessions.get(session.id()).is_some_and(|here| Arc::ptr_eq(here, session)) {
            sessions.remove(session.id());
        }
    }
}

impl SeedDirectory for GofdAgent {
    type Source = AgentSession;

    fn credentials(&self) -> GofdCredentials {
        self.options.credentials.clone()
    }

    fn find(&self, task: &str) -> Option<OfferedSeed<AgentSession>> {
        let source = self.sessions().get(task)?.clone();
        // Before it knows what it has, nobody is let in, and calls again.
        let (speed, end) = source.offer()?;
        Some(OfferedSeed { source, speed, end })
    }

    fn count(&self, event: DataPortEvent) {
        self.board.gofd.data.inc(event);
    }
}
