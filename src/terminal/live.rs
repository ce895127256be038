//! Progress while somebody waits: a terminal is redrawn again and again, elsewhere a line
//! is printed now and then. On stderr: stdout is for the result.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{Language, words};

/// Interval between redraws.
pub(crate) const EVERY: Duration = Duration::from_millis(250);
/// Interval between lines where nothing is redrawn.
pub(crate) const LINE_EVERY: Duration = Duration::from_secs(5);
/// The speed shown is that of the last second.
const SPEED_LOOKS: usize = 4;
const BAR_WIDTH: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressStyle {
    Block,
    Lines,
    Nothing,
}

impl ProgressStyle {
    /// `quiet` shows progress only on a terminal.
    pub(crate) fn of_stderr(quiet: bool) -> Self {
        match (io::stderr().is_terminal(), quiet) {
            (true, _) => Self::Block,
            (false, false) => Self::Lines,
            (false, true) => Self::Nothing,
        }
    }
}

/// Lines on stderr that replace those before.
#[derive(Debug, Default)]
pub(crate) struct LiveBlock {
    drawn_lines: usize,
}

impl LiveBlock {
    pub(crate) fn draw(&mut self, text: &str) {
        // To the beginning of the last drawing, which is cleared.
        let back = match self.drawn_lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}F\x1b[J"),
        };
        self.drawn_lines = text.lines().count();
        put(&format!("{back}{text}"));
    }
}

/// If stderr is closed, nobody wants to see it.
pub(crate) fn put(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Recent speed in bytes per second.
#[derive(Debug, Default)]
pub(crate) struct SpeedMeter {
    looks: VecDeque<(Duration, u64)>,
}

impl SpeedMeter {
    pub(crate) fn seen(&mut self, since: Duration, bytes: u64) -> f64 {
        self.looks.push_back((since, bytes));
        if self.looks.len() > SPEED_LOOKS + 1 {
            self.looks.pop_front();
        }
        let (first, before) = self.looks[0];
        let seconds = since.saturating_sub(first).as_secs_f64();
        if seconds > 0.0 { bytes.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}

/// Draws `[####----]  50 %`, for a share from 0 to 1.
pub(crate) fn bar(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * BAR_WIDTH as f64) as usize;
    let (full, empty) = ("#".repeat(full), "-".repeat(BAR_WIDTH - full));
    format!("[{full}{empty}] {:3.0} %", share * 100.0)
}

/// Progress of a transfer, written by one side and read by the other.
#[derive(Debug, Default)]
pub(crate) struct TransferProgress {
    done: AtomicU64,
    /// 0 while it is not known.
    total: AtomicU64,
}

impl TransferProgress {
    pub(crate) fn of_total(total: u64) -> Self {
        Self { total: total.into(), ..Self::default() }
    }

    pub(crate) fn set(&self, done: u64, total: Option<u64>) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// The view of one transfer.
#[derive(Debug)]
pub(crate) struct TransferView {
    language: Language,
    shape: ProgressStyle,
    block: LiveBlock,
    speed: SpeedMeter,
    begun: Instant,
    next_line: Duration,
}

impl TransferView {
    pub(crate) fn new(language: Language, quiet: bool) -> Self {
        Self {
            language,
            shape: ProgressStyle::of_stderr(quiet),
            block: LiveBlock::default(),
            speed: SpeedMeter::default(),
            begun: Instant::now(),
            next_line: LINE_EVERY,
        }
    }

    pub(crate) fn language(&self) -> Language {
        self.language
    }

    /// Shows the progress while the work goes on.
    pub(crate) async fn show_while<T>(
        &mut self,
        counter: &TransferProgress,
        work: impl Future<Output = T>,
    ) -> T {
        let (mut work, mut looks) = (pin!(work), tokio::time::interval(EVERY));
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = looks.tick() => self.show(counter),
            }
        };
        if self.shape == ProgressStyle::Block {
            self.block.draw("");
        }
        done
    }

    /// Prints a line of its own, above what is redrawn.
    pub(crate) fn note(&mut self, text: &str) {
        if self.shape == ProgressStyle::Block {
            self.block.draw("");
        }
        put(&format!("{text}\n"));
    }

    fn show(&mut self, counter: &TransferProgress) {
        let (since, done) = (self.begun.elapsed(), counter.done());
        let total = counter.total.load(Ordering::Relaxed);
        let speed = self.speed.seen(since, done);
        match self.shape {
            ProgressStyle::Block => {
                let share = if total > 0 { done as f64 / total as f64 } else { 0.0 };
                let text = progress_line(self.language, done, total, speed, since);
                self.block.draw(&format!("{}  {text}\n", bar(share)));
            }
            ProgressStyle::Lines if since >= self.next_line => {
                self.next_line = since + LINE_EVERY;
                put(&format!("{}\n", progress_line(self.language, done, total, speed, since)));
            }
            ProgressStyle::Lines | ProgressStyle::Nothing => {}
        }
    }
}

/// Formats `9 MiB of 30 MiB, 3 MiB/s, 7.0 s left`.
fn progress_line(language: Language, done: u64, total: u64, speed: f64, since: Duration) -> String {
    let (shown, per_s) = (words::format_bytes(done as f64), words::format_bytes(speed));
    let (all, left) = (words::format_bytes(total as f64), total.saturating_sub(done) as f64);
    match total {
        0 => {
            let passed = language.time(since.as_secs_f64());
            language.of(
                format!("{shown}，{per_s}/s，{passed}"),
                format!("{shown}, {per_s}/s, {passed}"),
            )
        }
        _ if speed > 0.0 => {
            let left = language.time(left / speed);
            language.of(
                format!("{shown} / {all}，{per_s}/s，剩余 {left}"),
                format!("{shown} of {all}, {per_s}/s, {left} left"),
            )
        }
        _ => language.of(format!("{shown} / {all}"), format!("{shown} of {all}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_second() {
        let (mut shown, mut speed) = (SpeedMeter::default(), 0.0);
        for look in 0..20_u32 {
            // 100 bytes at each look at first, then 10.
            let bytes = u64::from(look.min(10) * 100 + look.saturating_sub(10) * 10);
            speed = shown.seen(EVERY * look, bytes);
        }
        assert!((speed - 40.0).abs() < 1e-9, "{speed}");
        assert!(shown.seen(EVERY * 21, 0).abs() < 1e-9, "begun anew");
    }

    #[test]
    fn a_transfer_says_what_is_known_of_it() {
        let since = Duration::from_secs(3);
        let progress_line =
            |language, total, speed| progress_line(language, 9_000_000, total, speed, since);
        assert_eq!(
            progress_line(Language::English, 30_000_000, 3e6),
            "8.58 MiB of 28.6 MiB, 2.86 MiB/s, 7.0 s left"
        );
        assert_eq!(
            progress_line(Language::Chinese, 30_000_000, 3e6),
            "8.58 MiB / 28.6 MiB，2.86 MiB/s，剩余 7.0 秒"
        );
        assert_eq!(progress_line(Language::English, 30_000_000, 0.0), "8.58 MiB of 28.6 MiB");
        assert_eq!(progress_line(Language::English, 0, 3e6), "8.58 MiB, 2.86 MiB/s, 3.0 s");
    }

    #[test]
    fn a_bar_stays_within_its_bounds() {
        assert_eq!(bar(0.3), format!("[{}{}]  30 %", "#".repeat(12), "-".repeat(28)));
        assert_eq!(bar(7.0), format!("[{}] 100 %", "#".repeat(40)));
    }
}
