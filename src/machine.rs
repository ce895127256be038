//! CPU, memory and disk of the machine, for the status page.
//!
//! Read by a worker every few seconds and kept: a status request never waits
//! for the system, and a storage folder on a dead network mount hangs only
//! the worker.

use std::path::Path;

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    pub cpu_percent: f32,
    pub cpu_count: usize,
    pub memory_total: u64,
    pub memory_used: u64,
    /// Of the disk that holds the packages.
    pub disk_total: u64,
    pub disk_free: u64,
}

/// Takes readings; CPU use is the average since the reading before.
pub struct Gauge {
    /// None where the system has no such figures.
    system: Option<System>,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { system: System::new_with_specifics(Self::shown()).ok() }
    }
}

impl Gauge {
    fn shown() -> RefreshKind {
        RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram())
    }

    pub fn read(&mut self, storage: &Path) -> Machine {
        if let Some(system) = &mut self.system {
            system.refresh_specifics(Self::shown());
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
