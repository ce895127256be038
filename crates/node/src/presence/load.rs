//! The load of the machine, as heartbeats report it.

use edge_mirror_protocol::LoadReport;
use tokio::time::Instant;

use crate::machine::Machine;

/// Knows what was sent when the load was last asked for.
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    before: Option<(u64, Instant)>,
}

impl LoadMeter {
    /// The load since the call before; `limit` is that of the bandwidth in bytes a second,
    /// 0 for none. None before the machine was read.
    pub(super) fn measure(
        &mut self,
        machine: &Machine,
        sent_bytes: u64,
        limit: u64,
        now: Instant,
    ) -> Option<LoadReport> {
        let before = self.before.replace((sent_bytes, now));
        if machine.cpu_count == 0 {
            return None;
        }
        let uplink = before.filter(|_| limit > 0).map(|(bytes, at)| {
            let seconds = now.duration_since(at).as_secs_f64().max(0.001);
            percent(sent_bytes.saturating_sub(bytes) as f64 / seconds / limit as f64)
        });
        Some(LoadReport {
            cpu: percent(f64::from(machine.cpu_percent) / 100.0),
            memory: percent(machine.memory_used as f64 / machine.memory_total.max(1) as f64),
            uplink,
        })
    }
}

fn percent(share: f64) -> u8 {
    (share * 100.0).round().clamp(0.0, 100.0) as u8
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_uplink_is_measured_between_two_heartbeats_and_against_the_limit() {
        let machine = Machine {
            cpu_percent: 42.4,
            cpu_count: 2,
            memory_total: 200,
            memory_used: 50,
            ..Machine::default()
        };
        let (mut meter, begin) = (LoadMeter::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(meter.measure(&Machine::default(), 7, 100, at(0)), None, "not read yet");
        let report = |uplink| Some(LoadReport { cpu: 42, memory: 25, uplink });
        assert_eq!(meter.measure(&machine, 1007, 1000, at(2)), report(Some(50)));
        assert_eq!(meter.measure(&machine, 1007, 1000, at(4)), report(Some(0)));
        assert_eq!(meter.measure(&machine, 9000, 1000, at(5)), report(Some(100)));
        assert_eq!(meter.measure(&machine, 9000, 0, at(6)), report(None), "no limit");
        assert_eq!(LoadMeter::default().measure(&machine, 1, 1000, at(0)), report(None));
    }
}
