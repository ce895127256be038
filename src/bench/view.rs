//! Shows the progress to the operator.

use std::time::Duration;

use crate::terminal::{
    Language,
    live::{self, LINE_EVERY, LiveBlock, ProgressStyle, SpeedMeter},
    words,
};

/// Progress at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StormSnapshot {
    pub since: Duration,
    pub clients: usize,
    pub arrived: usize,
    pub finished: usize,
    pub failed: usize,
    pub bytes: u64,
    /// Total for all clients, if it is known.
    pub total_bytes: Option<u64>,
}

#[derive(Debug)]
pub(super) struct StormView {
    language: Language,
    shape: ProgressStyle,
    speed: SpeedMeter,
    block: LiveBlock,
    next_line: Duration,
}

impl StormView {
    /// `quiet` shows progress only on a terminal.
    pub(super) fn new(language: Language, quiet: bool) -> Self {
        Self {
            language,
            shape: ProgressStyle::of_stderr(quiet),
            speed: SpeedMeter::default(),
            block: LiveBlock::default(),
            next_line: LINE_EVERY,
        }
    }

    pub(super) fn show(&mut self, moment: &StormSnapshot) {
        let speed = self.speed.seen(moment.since, moment.bytes);
        match self.shape {
            ProgressStyle::Block => self.block.draw(&block(self.language, moment, speed)),
            ProgressStyle::Lines if moment.since >= self.next_line => {
                self.next_line = moment.since + LINE_EVERY;
                live::put(&line(self.language, moment, speed));
            }
            ProgressStyle::Lines | ProgressStyle::Nothing => {}
        }
    }
}

fn counts(language: Language, moment: &StormSnapshot) -> String {
    let StormSnapshot { clients, arrived, finished, failed, .. } = moment;
    let under_way = arrived.saturating_sub(finished + failed);
    language.of(
        format!("已到达 {arrived}/{clients}，下载中 {under_way}，完成 {finished}，失败 {failed}"),
        format!("{arrived} of {clients} arrived, {under_way} under way, {finished} done, {failed} failed"),
    )
}

fn line(language: Language, moment: &StormSnapshot, speed: f64) -> String {
    let (since, speed) = (language.time(moment.since.as_secs_f64()), words::format_bytes(speed));
    let counts = counts(language, moment);
    language
        .of(format!("{since}：{counts}，{speed}/s\n"), format!("{since}: {counts}, {speed}/s\n"))
}

fn block(language: Language, moment: &StormSnapshot, speed: f64) -> String {
    let (since, speed) = (language.time(moment.since.as_secs_f64()), words::format_bytes(speed));
    let (counts, bar) = (counts(language, moment), live::bar(moment.share()));
    format!("{counts}\n{bar}  {speed}/s  {since}\n")
}

impl StormSnapshot {
    /// Returns how much of it is done, from 0 to 1.
    fn share(&self) -> f64 {
        let share = match self.total_bytes {
            Some(total) if total > 0 => self.bytes as f64 / total as f64,
            _ => (self.finished + self.failed) as f64 / self.clients.max(1) as f64,
        };
        share.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: StormSnapshot = StormSnapshot {
        since: Duration::from_millis(12_300),
        clients: 500,
        arrived: 312,
        finished: 190,
        failed: 2,
        bytes: 300,
        total_bytes: Some(1000),
    };

    #[test]
    fn a_block_and_a_line_say_the_same() {
        assert_eq!(
            block(Language::English, &MOMENT, 412e6),
            "312 of 500 arrived, 120 under way, 190 done, 2 failed\n\
             [############----------------------------]  30 %  393 MiB/s  12 s\n"
        );
        assert_eq!(
            line(Language::Chinese, &MOMENT, 412e6),
            "12 秒：已到达 312/500，下载中 120，完成 190，失败 2，393 MiB/s\n"
        );
    }

    #[test]
    fn the_bar_goes_by_bytes_or_else_by_clients() {
        let by_clients = StormSnapshot { total_bytes: None, ..MOMENT };
        assert!((MOMENT.share() - 0.3).abs() < 1e-9);
        assert!((by_clients.share() - 192.0 / 500.0).abs() < 1e-9);
        // Failed clients may have received bytes that others get once more.
        assert!((StormSnapshot { bytes: 2000, ..MOMENT }.share() - 1.0).abs() < 1e-9);
        assert!(StormSnapshot::default().share().abs() < 1e-9);
    }
}
