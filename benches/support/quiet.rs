//! Detects other load on the machine during a measurement. A turn that other programs
//! disturbed says little, and is repeated while there is time: whether it counts depends
//! on the others' load, never on its result.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Share of a core. Below it are the clock's ticks and the system's own threads.
const DISTURBED: f64 = 0.05;
const LOOK: Duration = Duration::from_millis(100);

/// Time to spend on waiting for others, and the outcome.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    turns: u32,
    disturbed: u32,
}

impl Patience {
    pub(crate) fn of(left: Duration) -> Self {
        Self { left, turns: 0, disturbed: 0 }
    }

    /// Runs a turn, again if disturbed. It returns its measurement, and the share of a
    /// core that others used.
    pub(crate) fn turn<T>(&mut self, mut turn: impl FnMut() -> Result<(T, f64)>) -> Result<T> {
        loop {
            self.wait()?;
            let begin = Instant::now();
            let (measured, others) = turn()?;
            let disturbed = others > DISTURBED;
            if disturbed && !self.left.is_zero() {
                self.left = self.left.saturating_sub(begin.elapsed());
                continue;
            }
            self.turns += 1;
            self.disturbed += u32::from(disturbed);
            return Ok(measured);
        }
    }

    /// Waits until hardly any program computes.
    fn wait(&mut self) -> Result<()> {
        loop {
            // Once in any case: the turn before has connections to close.
            let watch = Watch::begin()?;
            std::thread::sleep(LOOK);
            if self.left.is_zero() || watch.others(0.0)? < 2.0 * DISTURBED {
                return Ok(());
            }
            self.left = self.left.saturating_sub(LOOK);
        }
    }

    pub(crate) fn said(&self) -> String {
        let (turns, disturbed) = (self.turns, self.disturbed);
        let core = DISTURBED * 100.0;
        format!(
            "In {disturbed} of {turns} turns, other programs had more than {core:.0} % of a core."
        )
    }
}

/// CPU time of all processes since a moment.
pub(crate) struct Watch {
    begin: Instant,
    busy_s: f64,
}

impl Watch {
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self { begin: Instant::now(), busy_s: busy_s()? })
    }

    /// Returns the share of a core that others used, if `ours_s` seconds were ours.
    pub(crate) fn others(&self, ours_s: f64) -> Result<f64> {
        Ok((busy_s()? - self.busy_s - ours_s) / self.begin.elapsed().as_secs_f64())
    }
}

/// Returns all cores' user, nice, system and stolen time. Interrupts' time is in the
/// processes' own.
fn busy_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().context("/proc/stat is empty")?;
    let field = |at: usize| all.split_whitespace().nth(at).and_then(|n| n.parse::<u64>().ok());
    let ticks: u64 = [1, 2, 3, 8].into_iter().filter_map(field).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Returns the calling thread's CPU time.
pub(crate) fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
