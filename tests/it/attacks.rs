//! Attacks and faults that once succeeded, each against the real binary.
//!
//! `cargo nextest run` tries each of them a few times. `just attack` tries them
//! at full count against the release binary and writes what came of it to
//! RELIABILITY.md (see `tests/attack`).

mod answers;
mod archive;
mod connections;
mod operators;
mod pulls;
mod slow_disk;
mod edits;
mod main_server;
mod versions;
mod restart;

use std::{fs::OpenOptions, io::Write};

use serde_json::json;

/// Where `tests/attack` gathers the results; full counts are tried where it is set.
const REPORT: &str = "ATTACK_REPORT";

/// How often an attack is tried.
pub(crate) fn tries(few: usize, full: usize) -> usize {
    if std::env::var_os(REPORT).is_some() { full } else { few }
}

/// One row of RELIABILITY.md.
pub(crate) struct Attack {
    /// What goes wrong or who does what: "600 idle connections from one address".
    pub fault: &'static str,
    /// What holds all the same: "an honest client's download begins within 1 s".
    pub promise: &'static str,
}

impl Attack {
    /// Fails unless the promise was kept in each of the tries. `measured` says
    /// what was seen, in a few words with figures.
    pub(crate) fn report(&self, tries: usize, kept: usize, measured: &str) {
        if let Some(path) = std::env::var_os(REPORT) {
            let row = json!({
                "fault": self.fault, "promise": self.promise,
                "tries": tries, "kept": kept, "measured": measured,
            });
            let mut report = OpenOptions::new().append(true).create(true).open(path).unwrap();
            report.write_all(format!("{row}\n").as_bytes()).unwrap();
        }
        println!("{}: kept in {kept} of {tries}; {measured}", self.fault);
        assert_eq!(kept, tries, "{}: not kept: {}; {measured}", self.fault, self.promise);
    }
}
