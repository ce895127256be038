//! What the operator sees meanwhile: on a terminal a block that is drawn again
//! and again, elsewhere a line now and then. On stderr: the result alone is
//! output.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::words::{self, Language};

/// How often it is looked at.
pub(super) const EVERY: Duration = Duration::from_millis(250);
/// A line where nothing is redrawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The speed shown is that of the last second.
const SPEED_LOOKS: usize = 4;
const BAR_WIDTH: usize = 40;

/// The storm at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    pub since: Duration,
    pub clients: usize,
    pub arrived: usize,
    pub finished: usize,
    pub failed: usize,
    pub bytes: u64,
    /// Of all clients together, where it is known.
    pub total_bytes: Option<u64>,
}

#[derive(Debug)]
pub(super) struct View {
    language: Language,
    shape: Shape,
    looks: VecDeque<(Duration, u64)>,
    drawn_lines: usize,
    next_line: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Block,
    Lines,
    Nothing,
}

impl View {
    /// `quiet` shows nothing but to a terminal.
    pub fn new(language: Language, quiet: bool) -> Self {
        let shape = match (io::stderr().is_terminal(), quiet) {
            (true, _) => Shape::Block,
            (false, false) => Shape::Lines,
            (false, true) => Shape::Nothing,
        };
        let next_line = LINE_EVERY;
        Self { language, shape, looks: VecDeque::new(), drawn_lines: 0, next_line }
    }

    pub fn show(&mut self, moment: &Moment) {
        let speed = self.speed(moment);
        match self.shape {
            Shape::Block => {
                let block = block(self.language, moment, speed);
                // To the beginning of what was drawn, which is cleared.
                let back = match self.drawn_lines {
                    0 => String::new(),
                    lines => format!("\x1b[{lines}F\x1b[J"),
                };
                self.drawn_lines = block.lines().count();
                put(&format!("{back}{block}"));
            }
            Shape::Lines if moment.since >= self.next_line => {
                self.next_line = moment.since + LINE_EVERY;
                put(&line(self.language, moment, speed));
            }
            Shape::Lines | Shape::Nothing => {}
        }
    }

    /// Bytes in a second.
    fn speed(&mut self, moment: &Moment) -> f64 {
        self.looks.push_back((moment.since, moment.bytes));
        if self.looks.len() > SPEED_LOOKS + 1 {
            self.looks.pop_front();
        }
        let (since, bytes) = self.looks[0];
        let seconds = moment.since.saturating_sub(since).as_secs_f64();
        if seconds > 0.0 { (moment.bytes - bytes) as f64 / seconds } else { 0.0 }
    }
}

/// Who closed stderr does not want to see it.
fn put(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn counts(language: Language, moment: &Moment) -> String {
    let Moment { clients, arrived, finished, failed, .. } = moment;
    let under_way = arrived.saturating_sub(finished + failed);
    language.of(
        format!("已到达 {arrived}/{clients}，下载中 {under_way}，完成 {finished}，失败 {failed}"),
        format!("{arrived} of {clients} arrived, {under_way} under way, {finished} done, {failed} failed"),
    )
}

fn line(language: Language, moment: &Moment, speed: f64) -> String {
    let (since, speed) = (words::time(moment.since.as_secs_f64()), words::bytes(speed));
    let counts = counts(language, moment);
    format!("{since}: {counts}, {speed}/s\n")
}

fn block(language: Language, moment: &Moment, speed: f64) -> String {
    let share = moment.share();
    let full = (share * BAR_WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(full), "-".repeat(BAR_WIDTH - full));
    let (since, speed) = (words::time(moment.since.as_secs_f64()), words::bytes(speed));
    let counts = counts(language, moment);
    format!("{counts}\n[{bar}] {:3.0} %  {speed}/s  {since}\n", share * 100.0)
}

impl Moment {
    /// How much of it is done, from 0 to 1.
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

    const MOMENT: Moment = Moment {
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
             [############----------------------------]  30 %  412.0 MB/s  12 s\n"
        );
        assert_eq!(
            line(Language::Chinese, &MOMENT, 412e6),
            "12 s: 已到达 312/500，下载中 120，完成 190，失败 2, 412.0 MB/s\n"
        );
    }

    #[test]
    fn the_bar_goes_by_bytes_or_else_by_clients() {
        let by_clients = Moment { total_bytes: None, ..MOMENT };
        assert!((MOMENT.share() - 0.3).abs() < 1e-9);
        assert!((by_clients.share() - 192.0 / 500.0).abs() < 1e-9);
        // Failed ones may have had bytes that others get once more.
        assert!((Moment { bytes: 2000, ..MOMENT }.share() - 1.0).abs() < 1e-9);
        assert!(Moment::default().share().abs() < 1e-9);
    }

    #[test]
    fn the_speed_is_that_of_the_last_second() {
        let mut view = View {
            language: Language::English,
            shape: Shape::Nothing,
            looks: VecDeque::new(),
            drawn_lines: 0,
            next_line: LINE_EVERY,
        };
        let mut speed = 0.0;
        for look in 0..20_u32 {
            // 100 bytes at each look at first, then 10.
            let bytes = u64::from(look.min(10) * 100 + look.saturating_sub(10) * 10);
            speed = view.speed(&Moment { since: EVERY * look, bytes, ..MOMENT });
        }
        assert!((speed - 40.0).abs() < 1e-9, "{speed}");
    }
}
