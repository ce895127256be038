//! Logs: one line for each thing an operator cares about, on the console
//! (stderr) and in a file that is rotated by size. Lines are handed to
//! tracing-appender's threads, so a slow disk or terminal never holds up a
//! download; what had to be dropped then is counted.

mod journal;
mod rotate;

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
pub use tracing::Level;
use tracing::{Event, Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{Config, Logging, Settings};
pub use journal::Journal;
use rotate::Rotating;

/// Lines waiting to be written, at most; those beyond are dropped and counted.
const QUEUE_LINES: usize = 8192;

/// Target of lines that the panel does not show: with a way to log in, say.
pub const SECRET: &str = "edge_mirror::secret";

/// Keep it until the very end: dropping it writes out what is still queued.
pub struct Telemetry {
    level: reload::Handle<Targets, Registry>,
    file: Arc<ArcSwapOption<FileLog>>,
    applied: Mutex<Option<Logging>>,
    console_drops: ErrorCounter,
    journal: Journal,
    _console: WorkerGuard,
}

struct FileLog {
    writer: NonBlocking,
    drops: ErrorCounter,
    _guard: WorkerGuard,
}

impl Telemetry {
    /// Logs to the console; to a file, too, once [`apply`](Self::apply) says so.
    /// `name` is what every line carries.
    pub fn start(name: &'static str, level: &str) -> Self {
        let (console, guard) = queue(io::stderr());
        let console_drops = console.error_counter();
        let file = Arc::new(ArcSwapOption::empty());
        let journal = Journal::default();
        let (filter, level) = reload::Layer::new(filter(level));
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Line { name, journal: journal.clone() })
            .fmt_fields(DefaultFields::new())
            .with_ansi(false)
            .with_writer(Tee { console, file: file.clone() });
        // Fails only where a subscriber is set already, in tests; they log there.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        let applied = Mutex::new(None);
        Self { level, file, applied, console_drops, journal, _console: guard }
    }

    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Puts the logging settings into force.
    pub fn apply(&self, config: &Config) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = &config.logging;
        let of_file =
            |l: &Logging| (l.file_enabled, l.file_path.clone(), l.max_file_size, l.backup_count);
        if applied.as_ref().map(of_file) != Some(of_file(wanted)) {
            let log =
                wanted.file_enabled.then(|| Arc::new(FileLog::open(&config.log_path(), wanted)));
            self.file.store(log);
        }
        let _ = self.level.reload(filter(&wanted.level));
        *applied = Some(wanted.clone());
    }

    /// Follows the settings until dropped.
    pub async fn follow(&self, settings: &Settings) {
        let mut changes = settings.subscribe();
        while changes.changed().await.is_ok() {
            let config = changes.borrow_and_update().clone();
            // Opens files, which is quick, but not for the runtime's workers.
            tokio::task::block_in_place(|| self.apply(&config));
        }
    }

    /// Lines that could not be queued.
    pub fn dropped_lines(&self) -> usize {
        let file = self.file.load().as_ref().map_or(0, |file| file.drops.dropped_lines());
        self.console_drops.dropped_lines() + file
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        match self.dropped_lines() {
            0 => {}
            lost => warn!("{lost} log lines were dropped because they came too fast"),
        }
        self.file.store(None);
    }
}

impl FileLog {
    fn open(path: &Path, logging: &Logging) -> Self {
        let roller = Rotating::new(path.to_owned(), logging.max_file_size, logging.backup_count);
        let (writer, guard) = queue(roller);
        Self { drops: writer.error_counter(), writer, _guard: guard }
    }
}

fn queue(sink: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE_LINES).finish(sink)
}

/// Our own lines at the level asked for, other crates' only from warnings up.
fn filter(level: &str) -> Targets {
    let level = match level {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARNING" => LevelFilter::WARN,
        "ERROR" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("edge_mirror", level)
}

/// Writes each line to the console's queue and to the file's, if there is one.
struct Tee {
    console: NonBlocking,
    file: Arc<ArcSwapOption<FileLog>>,
}

struct TeeLine {
    console: NonBlocking,
    file: Option<NonBlocking>,
}

impl<'a> MakeWriter<'a> for Tee {
    type Writer = TeeLine;

    fn make_writer(&'a self) -> TeeLine {
        let file = self.file.load().as_ref().map(|file| file.writer.clone());
        TeeLine { console: self.console.clone(), file }
    }
}

impl Write for TeeLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
        }
        self.console.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As the node that this one replaces calls it.
fn said(level: Level) -> &'static str {
    match level {
        Level::WARN => "WARNING",
        other => other.as_str(),
    }
}

pub fn level_named(name: &str) -> Option<Level> {
    let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    all.into_iter().find(|level| said(*level) == name)
}

/// Text without anything that would make it look like another one.
fn plain(text: &str) -> Cow<'_, str> {
    // Marks that turn the direction of what follows are no control characters.
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}'..='\u{2029}')
    };
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .fold(String::new(), |mut line, c| {
            if odd(c) {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
            line
        })
        .into()
}

/// `2023-05-15 10:15:30 - file_node - INFO - text`, as the node that this one
/// replaces wrote it, so that what reads its logs reads these.
struct Line {
    name: &'static str,
    journal: Journal,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
        let level = *event.metadata().level();
        // A title with a line break in it must not look like a line of ours.
        let text = plain(&text);
        if event.metadata().target() != SECRET {
            self.journal.note(level, &text);
        }
        let level = said(level);
        writeln!(writer, "{now} - {} - {level} - {text}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_title_can_not_forge_a_line() {
        assert_eq!(plain("会议 a-b \"c\""), "会议 a-b \"c\"");
        assert_eq!(plain("a\nb\0c\u{202e}d"), "a\\nb\\u{0}c\\u{202e}d");
    }
}
