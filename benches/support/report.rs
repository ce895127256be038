//! Results of a bench: printed, stored in `target/bench/NAME.md`, and put into
//! BENCHMARKS.md between the bench's markers.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{Common, Limit, Patience, Table, limits, machine, markers::replaced, node, paths};

pub(crate) struct Report {
    name: &'static str,
    text: String,
}

impl Report {
    /// Begins with the machine, and the versions of the node and all others that take
    /// part.
    pub(crate) fn begin(name: &'static str, others: &[String]) -> Result<Self> {
        let mut report = Self { name, text: String::new() };
        report.say(&machine::describe(&node::program()?, others));
        Ok(report)
    }

    /// Adds a paragraph or a list.
    pub(crate) fn say(&mut self, text: &str) {
        println!("{}\n", text.trim_end());
        self.text += &format!("{}\n\n", text.trim_end());
    }

    pub(crate) fn table(&mut self, table: &Table) {
        self.say(table.text());
    }

    /// Adds the product's own limits and their verdicts.
    pub(crate) fn limits(&mut self, limits: &[Limit]) {
        self.table(&limits::table(limits));
    }

    /// Ends with how quiet it was, stores it, and puts it into the file given on the
    /// command line.
    pub(crate) fn finish(mut self, common: &Common, patience: &Patience) -> Result<()> {
        self.say(&patience.said());
        let kept = paths::target().join("bench");
        fs::create_dir_all(&kept)?;
        let kept = kept.join(format!("{}.md", self.name));
        fs::write(&kept, &self.text).with_context(|| format!("cannot write {}", kept.display()))?;
        eprintln!("written: {}", kept.display());
        if let Some(path) = &common.write {
            let old = match fs::read_to_string(path) {
                Ok(old) => old,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(error) => bail!("cannot read {}: {error}", path.display()),
            };
            fs::write(path, replaced(&old, self.name, &self.text)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("written: {}, section {}", path.display(), self.name);
        }
        Ok(())
    }
}
