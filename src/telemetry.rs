//! Logs: one line for each thing an operator cares about, on the console (stderr) and in
//! a file that is rotated by size. Lines about changes are also in a file of their own,
//! which only operators can fill. tracing-appender's threads write the lines, so a slow
//! disk or terminal never holds up a download; lines dropped then are counted.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use edge_mirror_base::{
    log::{
        AUDIT, Journal, RotatingFile, SECRET,
        line::{self, LogRecord},
    },
    tasks,
};
use edge_mirror_settings::{Config, LoggingConfig, Settings};
use tracing::{Event, Subscriber, error, warn};
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

/// Lines waiting to be written, at most; further ones are dropped and counted. Both
/// queues allocate their 32 bytes for each when they are made.
const QUEUE_LINES: usize = 1024;

/// The value of `logging.format` that makes each line an object.
const JSON: &str = "json";

/// Keep it until the very end: dropping it writes out what is still queued.
pub struct Telemetry {
    level: reload::Handle<Targets, Registry>,
    outlets: Arc<LogOutlets>,
    applied: Mutex<Option<LoggingConfig>>,
    console_drops: ErrorCounter,
    journal: Journal,
    _console: WorkerGuard,
}

/// The outputs besides the console, and their format.
#[derive(Default)]
struct LogOutlets {
    /// JSON objects instead of text.
    json: AtomicBool,
    /// The level excludes INFO: lines about changes come all the same, and go only to
    /// their own file, if there is one.
    quiet: AtomicBool,
    file: ArcSwapOption<FileLog>,
    audit: ArcSwapOption<FileLog>,
}

struct FileLog {
    writer: NonBlocking,
    drops: ErrorCounter,
    _guard: WorkerGuard,
}

impl Telemetry {
    /// Logs to the console; to a file, too, once [`apply`](Self::apply) says so. `name`
    /// is in every line.
    pub fn start(name: &'static str, level: &str) -> Self {
        let (console, guard) = queue(io::stderr());
        let console_drops = console.error_counter();
        let outlets = Arc::<LogOutlets>::default();
        outlets.quiet.store(is_quiet(level), Ordering::Relaxed);
        let journal = Journal::default();
        let (filter, level) = reload::Layer::new(filter(level));
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let lines = LogLayer {
            name,
            journal: journal.clone(),
            outlets: outlets.clone(),
            marked: line::is_journal(io::stderr(), stream.as_deref()),
            console,
        };
        // Fails only if a subscriber is set already, in tests; they log there.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        let applied = Mutex::new(None);
        Self { level, outlets, applied, console_drops, journal, _console: guard }
    }

    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Applies the logging settings.
    pub fn apply(&self, config: &Config) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = &config.logging;
        self.outlets.json.store(wanted.format == JSON, Ordering::Relaxed);
        self.outlets.quiet.store(is_quiet(&wanted.level), Ordering::Relaxed);
        let of_file = |l: &LoggingConfig| {
            (l.file_enabled, l.file_path.clone(), l.max_file_size, l.backup_count)
        };
        if applied.as_ref().map(of_file) != Some(of_file(wanted)) {
            // Checked again with every line: it may be moved away.
            if let Some(problem) = config.log_problem() {
                error!("{problem}");
            }
            let log = wanted.file_enabled.then(|| Arc::new(FileLog::open(config.log())));
            self.outlets.file.store(log);
            let audit = wanted.file_enabled.then(|| config.audit_path());
            self.keep_audit(audit);
        }
        let _ = self.level.reload(filter(&wanted.level));
        *applied = Some(wanted.clone());
    }

    /// Sets the file for lines about changes. Without one they are on the console,
    /// whatever the level.
    pub fn keep_audit(&self, path: Option<PathBuf>) {
        let log = path.map(|path| Arc::new(FileLog::open(RotatingFile::audit(path))));
        self.outlets.audit.store(log);
    }

    /// Follows the settings until dropped.
    pub async fn follow(&self, settings: &Settings) {
        let mut changes = settings.subscribe();
        while changes.changed().await.is_ok() {
            let config = changes.borrow_and_update().clone();
            // Opens files, which is quick, but not for the runtime's workers.
            tasks::block_in_place(|| self.apply(&config));
        }
    }

    /// Returns how many lines were dropped.
    pub fn dropped_lines(&self) -> usize {
        let logs = [&self.outlets.file, &self.outlets.audit].map(|log| log.load());
        let of_files =
            logs.iter().flat_map(|log| log.as_ref()).map(|log| log.drops.dropped_lines());
        self.console_drops.dropped_lines() + of_files.sum::<usize>()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        match self.dropped_lines() {
            0 => {}
            lost => warn!("{lost} log lines were dropped because they came too fast"),
        }
        self.outlets.file.store(None);
        self.outlets.audit.store(None);
    }
}

impl FileLog {
    fn open(roller: RotatingFile) -> Self {
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
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("edge_mirror", level)
        .with_target(AUDIT, LevelFilter::INFO)
}

fn is_quiet(level: &str) -> bool {
    matches!(level, "WARNING" | "ERROR")
}

/// Writes each line to the console's queue and to the file's, if there is one.
struct LogLayer {
    name: &'static str,
    journal: Journal,
    outlets: Arc<LogOutlets>,
    /// True if the console is systemd's journal.
    marked: bool,
    console: NonBlocking,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = String::new();
        // Fails only if a value's own Debug does: then the text so far is used.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), event);
        // A title with a line break in it must not look like a line of ours.
        let (text, metadata) = (line::sanitize(&text), event.metadata());
        let (level, outlets) = (*metadata.level(), &self.outlets);
        let record = LogRecord { name: self.name, at: chrono::Local::now(), level, text: &text };
        let json = outlets.json.load(Ordering::Relaxed).then(|| record.json());
        let whole = || json.clone().unwrap_or_else(|| record.text());
        // Lines that can't be queued are dropped, and counted there.
        let write = |log: &ArcSwapOption<FileLog>| {
            if let Some(log) = &*log.load() {
                let _ = log.writer.clone().write_all(whole().as_bytes());
            }
        };
        if metadata.target() == AUDIT {
            write(&outlets.audit);
            let is_kept = outlets.audit.load().is_some();
            if is_kept && outlets.quiet.load(Ordering::Relaxed) {
                return;
            }
        }
        if metadata.target() != SECRET {
            self.journal.note(level, &text);
        }
        write(&outlets.file);
        let line = if self.marked { record.journal(json.clone()) } else { whole() };
        let _ = self.console.clone().write_all(line.as_bytes());
    }
}
