//! Who is compared, over the same files.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::client::Ask;
use crate::support::{Certificate, Places, Server, Stage, nginx, node, packages::Package, server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    NginxCached,
    Node,
}

pub(crate) const ALL: [Kind; 3] = [Kind::Nginx, Kind::NginxCached, Kind::Node];

impl Kind {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxCached => "nginx, open_file_cache",
            Self::Node => "edge-mirror",
        }
    }

    pub(crate) fn path(self, package: &Package) -> String {
        match self {
            Self::Nginx | Self::NginxCached => format!("/{}", package.path()),
            Self::Node => package.url(),
        }
    }

    pub(crate) fn whole(self, package: &Package) -> Ask {
        Ask::whole(&self.path(package), package)
    }
}

/// The packages, the main server that the node belongs to, and on which
/// cores who runs.
pub(crate) struct Scene {
    stage: Stage,
    storage: PathBuf,
    main_server: Server,
    packages: Vec<Package>,
    workers: usize,
    certificate: Certificate,
}

impl Scene {
    pub(crate) fn set(stage: &Stage, packages: Vec<Package>, workers: usize) -> Result<Self> {
        let storage = stage.make("storage")?;
        for package in &packages {
            eprintln!("writing a package of {}", package.label());
            package.make(&storage)?;
        }
        let main_server = node::main_server(stage)?;
        let certificate = Certificate::make(stage)?;
        Ok(Self { stage: stage.clone(), storage, main_server, packages, workers, certificate })
    }

    pub(crate) fn storage(&self) -> &PathBuf {
        &self.storage
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// With one worker, the server has the first core and the client the
    /// second; with more, they share what there is.
    fn apart(&self) -> bool {
        self.workers == 1 && std::thread::available_parallelism().map_or(1, usize::from) > 1
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(crate) fn start(&self, kind: Kind) -> Result<Server> {
        self.start_with(kind, false)
    }

    /// Over HTTPS, all show the same certificate.
    pub(crate) fn start_with(&self, kind: Kind, tls: bool) -> Result<Server> {
        let certificate = tls.then_some(&self.certificate);
        let core = self.apart().then_some(0);
        let places = Places { workers: Some(self.workers), core };
        match kind {
            Kind::Nginx | Kind::NginxCached => {
                let cache = kind == Kind::NginxCached;
                let site = nginx::Site { root: &self.storage, cache, paced: &[], certificate };
                nginx::start(&self.stage, &site, places)
            }
            Kind::Node => {
                let main_server = self.main_server.address;
                let patch = certificate.map_or(json!({}), |certificate| {
                    json!({"tls": {"cert": certificate.cert, "key": certificate.key}})
                });
                let mut node =
                    node::start(&self.stage, main_server, &self.storage, places, &patch)?;
                node::until_packages(&mut node, self.packages.len() as u64)?;
                Ok(node)
            }
        }
    }

    /// Does this on the client's core.
    pub(crate) fn as_client<T>(
        &self,
        server: &Server,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let before = rustix::thread::sched_getaffinity(None)?;
        if self.apart() {
            server::pin(1)?;
        }
        let outcome = work();
        rustix::thread::sched_setaffinity(None, &before)?;
        outcome.with_context(|| format!("{} logged:\n{}\nand then", server.name, server.log_tail()))
    }
}
