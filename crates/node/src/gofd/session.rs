//! One task of the agent, from the server's first word to its last.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use edge_mirror_base::{backoff::backoff, tasks};
use edge_mirror_gofd::{AgentTaskFile, LinkChain, MetaInfo, PieceDigest, PieceLayout, PieceSource};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    agent::GofdAgent,
    files::AgentFiles,
    pull::{PieceFault, PiecePull},
    report::ReportSteps,
};

/// A task that is not begun by then never is, as at GoFD.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Others may pull from here for this time after the end; the server mostly ends it before.
const SERVE_AFTERWARDS: Duration = Duration::from_secs(600);
/// Tries without a new piece before a predecessor is left, and before all is given up.
const TRIES_OF_ONE: u32 = 2;
const TRIES_IN_ALL: u32 = 12;
/// Pieces with wrong bytes before all is given up.
const MAX_BAD_PIECES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A partial file is locked for a moment by an earlier task that has just ended.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// Reports that wait to be sent: more than a task has.
const MAX_REPORTS: usize = 32;

#[derive(Debug)]
pub(super) struct AgentSession {
    id: String,
    files: Arc<AgentFiles>,
    /// As the server told it, but without the digests.
    meta: MetaInfo,
    digests: Arc<[PieceDigest]>,
    /// Bytes per second of each connection; 0: no limit.
    speed: u64,
    /// The number of pieces that are here.
    leading: watch::Sender<u32>,
    /// True once it is known.
    is_ready: watch::Sender<bool>,
    chain: watch::Sender<Option<LinkChain>>,
    end: CancellationToken,
}

/// The way in which pulling ended.
enum SessionEnd {
    Complete,
    Failed,
}

impl AgentSession {
    pub(super) fn new(id: String, files: AgentFiles, mut meta: MetaInfo, speed: u64) -> Self {
        let digests = std::mem::take(&mut meta.pieces).into();
        Self {
            id,
            files: Arc::new(files),
            meta,
            digests,
            speed,
            leading: watch::Sender::new(0),
            is_ready: watch::Sender::new(false),
            chain: watch::Sender::new(None),
            end: CancellationToken::new(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// True if a task with these files and bytes is the same.
    pub(super) fn is_of(&self, told: &MetaInfo) -> bool {
        let MetaInfo { length, piece_len, pieces, files } = told;
        // Nobody reads the sums of files.
        let place = |file: &AgentTaskFile| (file.path.clone(), file.name.clone(), file.length);
        (self.meta.length, self.meta.piece_len) == (*length, *piece_len)
            && self.meta.files.iter().map(place).eq(files.iter().map(place))
            && self.digests[..] == pieces[..]
    }

    pub(super) fn start(&self, chain: LinkChain) {
        self.chain.send_replace(Some(chain));
    }

    pub(super) fn end(&self) {
        self.end.cancel();
    }

    /// Waits until nothing of it is written any more.
    pub(super) async fn close(&self) {
        let files = self.files.clone();
        tasks::blocking(move || files.close()).await;
    }

    /// The speed and the end of connections that pull from here; None before it is known
    /// what is here.
    pub(super) fn offer(&self) -> Option<(u64, CancellationToken)> {
        self.is_ready.borrow().then(|| (self.speed, self.end.clone()))
    }

    /// Runs until the server ends it.
    pub(super) async fn run(&self, agent: &GofdAgent) {
        self.end.run_until_cancelled(self.work(agent)).await;
    }

    async fn work(&self, agent: &GofdAgent) {
        let resumed = self.resume().await;
        match &resumed {
            Ok(0) => {}
            Ok(here) => info!("{here} pieces of task {:?} of GoFD are here already", self.id),
            Err(error) => warn!("task {:?} of GoFD can't be written: {error}", self.id),
        }
        let is_writable = resumed.is_ok();
        self.leading.send_replace(resumed.unwrap_or(0));
        self.is_ready.send_replace(true);
        let mut chains = self.chain.subscribe();
        let begun = timeout(START_TIMEOUT, chains.wait_for(Option::is_some)).await.is_ok();
        if !begun {
            return info!("task {:?} of GoFD was never begun", self.id);
        }
        let server = self.chain().server_addr;
        if !is_writable {
            agent.reporter.report_end(&server, &self.id, -1.0).await;
            return;
        }
        let (reports, waiting) = mpsc::channel(MAX_REPORTS);
        let pulling = self.pull(agent, &mut chains, reports);
        let (end, ()) = tokio::join!(pulling, agent.reporter.run(self.id.clone(), waiting));
        // Where it is begun again, the server may be another one.
        let server = self.chain().server_addr;
        match end {
            SessionEnd::Complete => {
                info!("all files of task {:?} of GoFD are in place", self.id);
                agent.reporter.report_end(&server, &self.id, 100.0).await;
                self.serve_afterwards(agent).await;
            }
            SessionEnd::Failed => agent.reporter.report_end(&server, &self.id, -1.0).await,
        }
    }

    /// Verifies what is here; waits for files that are locked.
    async fn resume(&self) -> io::Result<u32> {
        let begun = Instant::now();
        loop {
            let (files, digests) = (self.files.clone(), self.digests.clone());
            match tasks::blocking(move || files.resume(&digests)).await {
                Err(error) if is_locked(&error) && begun.elapsed() < LOCK_TIMEOUT => {
                    sleep(LOCK_PAUSE).await;
                }
                resumed => return resumed,
            }
        }
    }

    fn chain(&self) -> LinkChain {
        self.chain.borrow().clone().unwrap_or_default()
    }

    /// Lets others pull, and reports again if it is begun again.
    async fn serve_afterwards(&self, agent: &GofdAgent) {
        let mut chains = self.chain.subscribe();
        let again = async {
            while chains.changed().await.is_ok() {
                let server = self.chain().server_addr;
                agent.reporter.report_end(&server, &self.id, 100.0).await;
            }
        };
        let _ = timeout(SERVE_AFTERWARDS, again).await;
    }

    /// Pulls all pieces: from the predecessor in the chain, from those before it if that
    /// fails, and from the server in the end.
    async fn pull(
        &self,
        agent: &GofdAgent,
        chains: &mut watch::Receiver<Option<LinkChain>>,
        reports: mpsc::Sender<(String, f32)>,
    ) -> SessionEnd {
        let own = std::net::SocketAddr::new(agent.options.ip, agent.options.data_port).to_string();
        let (mut source, mut tries, mut bad) = (None, 0, 0);
        let mut steps = ReportSteps::default();
        loop {
            let chain = chains.borrow_and_update().clone().unwrap_or_default();
            let place = source.unwrap_or_else(|| predecessor(&chain.dispatch_addrs, &own));
            let Some(address) = chain.dispatch_addrs.get(place) else { return SessionEnd::Failed };
            let before = *self.leading.borrow();
            let pull = PiecePull {
                files: &self.files,
                digests: &self.digests,
                leading: &self.leading,
                task: &self.id,
                credentials: &agent.options.credentials,
                server: &chain.server_addr,
                reports: &reports,
            };
            let pulled = tokio::select! {
                pulled = pull.run(address, &mut steps) => pulled,
                Ok(()) = chains.changed() => {
                    (source, tries) = (None, 0);
                    continue;
                }
            };
            let Err(fault) = pulled else { return SessionEnd::Complete };
            let has_moved = *self.leading.borrow() > before;
            tries = if has_moved { 1 } else { tries + 1 };
            bad += u32::from(matches!(fault, PieceFault::Bad(_)));
            warn!("pieces of task {:?} of GoFD from {address}: {fault}", self.id);
            let is_hopeless = matches!(&fault, PieceFault::Disk(error) if !is_locked(error));
            if is_hopeless || tries > TRIES_IN_ALL || bad >= MAX_BAD_PIECES {
                return SessionEnd::Failed;
            }
            source = Some(next_source(place, tries, matches!(fault, PieceFault::Bad(_))));
            let pause = backoff(tries, FIRST_PAUSE, LONGEST_PAUSE, fastrand::f64());
            // Places in another chain are others.
            if let Ok(Ok(())) = timeout(pause, chains.changed()).await {
                (source, tries) = (None, 0);
            }
        }
    }
}

fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The place to pull from after a try that was in vain: after two, the one before it, and
/// then the server, however long the chain is.
fn next_source(place: usize, tries: u32, is_bad: bool) -> usize {
    match is_bad || tries.is_multiple_of(TRIES_OF_ONE) {
        true if tries > TRIES_OF_ONE => 0,
        true => place.saturating_sub(1),
        false => place,
    }
}

/// The place in the chain from which an agent pulls: before its own, or the server's if it
/// is not in the chain.
fn predecessor(addresses: &[String], own: &str) -> usize {
    addresses.iter().rposition(|address| address == own).unwrap_or(0).saturating_sub(1)
}

impl PieceSource for AgentSession {
    fn layout(&self) -> PieceLayout {
        self.files.layout()
    }

    fn leading(&self) -> watch::Receiver<u32> {
        self.leading.subscribe()
    }

    async fn read(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let files = self.files.clone();
        tasks::blocking_limited(move || files.read(offset, bytes)).await
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_gofd::{PIECE_BYTES, piece_digest};

    use super::*;

    fn told(name: &str, sum: &str, bytes: &[u8]) -> MetaInfo {
        let (path, name, sum) = ("/srv/".to_owned(), name.to_owned(), sum.to_owned());
        let files = vec![AgentTaskFile { length: 3, path, name, sum }];
        MetaInfo { length: 3, piece_len: PIECE_BYTES, pieces: vec![piece_digest(bytes)], files }
    }

    #[test]
    fn a_task_with_other_bytes_or_names_is_another_one() {
        let meta = told("a", "", b"abc");
        let files = AgentFiles::new("/none".into(), &meta).unwrap();
        let session = AgentSession::new("1".to_owned(), files, meta, 0);
        assert!(session.is_of(&told("a", "x", b"abc")), "nobody reads the sum");
        for other in [told("b", "", b"abc"), told("a", "", b"abd")] {
            assert!(!session.is_of(&other));
        }
    }

    #[test]
    fn an_agent_pulls_from_the_one_before_it() {
        let chain = ["s:1", "a:2", "b:2", "c:2"].map(str::to_owned);
        for (own, place) in [("a:2", 0), ("b:2", 1), ("c:2", 2), ("other:2", 0), ("s:1", 0)] {
            assert_eq!(predecessor(&chain, own), place, "{own}");
        }
        assert_eq!(predecessor(&[], "a:2"), 0);
    }

    #[test]
    fn after_the_second_predecessor_comes_the_server() {
        let mut place = 300;
        let places = (1..=6).map(|tries| {
            place = next_source(place, tries, false);
            place
        });
        assert_eq!(places.collect::<Vec<_>>(), [300, 299, 299, 0, 0, 0]);
        assert_eq!((next_source(300, 1, true), next_source(0, 2, false)), (299, 0));
    }
}
