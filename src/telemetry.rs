//! Logs: one line for each thing an operator cares about, on the console
//! (stderr) and in a file that is rotated by size. Lines are handed to
//! tracing-appender's threads, so a slow disk or terminal never holds up a
//! download; what had to be dropped then is counted.

mod journal;
mod line;
mod rotate;

use std::{
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
pub use tracing::Level;
use tracing::{Event, Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::{Context, Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::config::{Config, Logging, Settings};
pub use journal::{Entry, Journal};
use line::Said;
use rotate::Rotating;

/// Lines waiting to be written, at most; those beyond are dropped and counted.
/// Both queues take their room, 32 bytes for each, when they are made.
const QUEUE_LINES: usize = 1024;

/// The value of `logging.format` that makes each line an object.
const JSON: &str = "json";

/// Target of lines that the panel does not show: with a way to log in, say.
pub const SECRET: &str = "edge_mirror::secret";

/// Keep it until the very end: dropping it writes out what is still queued.
pub struct Telemetry {
    level: reload::Handle<Targets, Registry>,
    json: Arc<AtomicBool>,
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
        let json = Arc::<AtomicBool>::default();
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let lines = Lines {
            name,
            journal: journal.clone(),
            json: json.clone(),
            marked: line::is_journal(io::stderr(), stream.as_deref()),
            console,
            file: file.clone(),
        };
        // Fails only where a subscriber is set already, in tests; they log there.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        let applied = Mutex::new(None);
        Self { level, json, file, applied, console_drops, journal, _console: guard }
    }

    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Puts the logging settings into force.
    pub fn apply(&self, config: &Config) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = &config.logging;
        self.json.store(wanted.format == JSON, Ordering::Relaxed);
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
struct Lines {
    name: &'static str,
    journal: Journal,
    /// As objects, not as text.
    json: Arc<AtomicBool>,
    /// The console is systemd's journal.
    marked: bool,
    console: NonBlocking,
    file: Arc<ArcSwapOption<FileLog>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = String::new();
        // Fails only where a value's own Debug does: then what there is counts.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), event);
        // A title with a line break in it must not look like a line of ours.
        let (text, level) = (line::plain(&text), *event.metadata().level());
        if event.metadata().target() != SECRET {
            self.journal.note(level, &text);
        }
        let said = Said { name: self.name, at: chrono::Local::now(), level, text: &text };
        let json = self.json.load(Ordering::Relaxed).then(|| said.json());
        let whole = || json.clone().unwrap_or_else(|| said.text());
        // What can't be queued is dropped, and counted there.
        if let Some(file) = &*self.file.load() {
            let _ = file.writer.clone().write_all(whole().as_bytes());
        }
        let line = if self.marked { said.journal(json.clone()) } else { whole() };
        let _ = self.console.clone().write_all(line.as_bytes());
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
