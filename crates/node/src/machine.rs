//! CPU, memory and disk of the machine, for the status page.
//!
//! Read by a worker every few seconds and kept: a status request never waits
//! for the system, and a storage folder on a dead network mount hangs only
//! the worker.

use std::{collections::BTreeMap, path::Path};

use ipnet::IpNet;
use serde::Serialize;
use sysinfo::{
    CpuRefreshKind, InterfaceOperationalState, MemoryRefreshKind, Networks, RefreshKind, System,
};

/// The network interfaces that are not down, with their addresses. It reads a
/// handful of files for each of them.
pub(crate) fn interfaces() -> BTreeMap<String, Vec<IpNet>> {
    use InterfaceOperationalState::{Down, LowerLayerDown, NotPresent};
    let Ok(networks) = Networks::new_with_refreshed_list() else { return BTreeMap::new() };
    let up = networks
        .iter()
        .filter(|(_, network)| {
            !matches!(network.operational_state(), Down | LowerLayerDown | NotPresent)
        })
        .map(|(name, network)| {
            let addresses = network.ip_networks().iter();
            let addresses = addresses.filter_map(|ip| IpNet::new(ip.addr, ip.prefix).ok());
            (name.to_string_lossy().into_owned(), addresses.collect())
        });
    up.collect()
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    pub(crate) cpu_percent: f32,
    pub(crate) cpu_count: usize,
    pub(crate) memory_total: u64,
    pub(crate) memory_used: u64,
    /// Bytes of the disk that holds the packages.
    pub(crate) disk_total: u64,
    pub(crate) disk_free: u64,
}

/// Takes readings; CPU use is the average since the reading before.
pub struct MachineSampler {
    /// None if the system has no such figures.
    system: Option<System>,
}

impl Default for MachineSampler {
    fn default() -> Self {
        Self { system: System::new_with_specifics(Self::refresh_kind()).ok() }
    }
}

impl MachineSampler {
    fn refresh_kind() -> RefreshKind {
        RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram())
    }

    pub fn read(&mut self, storage: &Path) -> Machine {
        if let Some(system) = &mut self.system {
            system.refresh_specifics(Self::refresh_kind());
        }
        let system = self.system.as_ref();
        let disk = rustix::fs::statvfs(storage).ok();
        let disk = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
            disk.as_ref().map_or(0, |disk| blocks(disk).saturating_mul(disk.f_frsize))
        };
        Machine {
            cpu_percent: system.map_or(0.0, System::global_cpu_usage),
            cpu_count: system.map_or(0, |system| system.cpus().len()),
            memory_total: system.map_or(0, System::total_memory),
            memory_used: system.map_or(0, System::used_memory),
            disk_total: disk(|disk| disk.f_blocks),
            disk_free: disk(|disk| disk.f_bavail),
        }
    }
}
