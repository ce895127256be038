//! The text format of Prometheus (exposition format 0.0.4).

use std::fmt::{Display, Write as _};

use super::{Counter, CounterFamily, Histogram, Label};

pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels<'a> = [(&'a str, &'a str)];

/// Metric families, one after the other.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    pub fn counter(&mut self, name: &'static str, help: &str) -> FamilyWriter<'_> {
        self.family(name, "counter", help)
    }

    pub fn gauge(&mut self, name: &'static str, help: &str) -> FamilyWriter<'_> {
        self.family(name, "gauge", help)
    }

    pub fn histogram(&mut self, name: &'static str, help: &str) -> FamilyWriter<'_> {
        self.family(name, "histogram", help)
    }

    /// Adds a counter with one sample and no labels.
    pub fn count(&mut self, name: &'static str, help: &str, counter: &Counter) {
        self.counter(name, help).put(&[], counter.get());
    }

    /// Adds a counter with a sample for each value of a label.
    pub fn tally<L: Label>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &str,
        counters: &CounterFamily<L>,
    ) {
        let mut family = self.counter(name, help);
        for value in L::ALL {
            family.put(&[(label, value.text())], counters.counter(*value).get());
        }
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> FamilyWriter<'_> {
        // Writing to a string never fails; so below.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        FamilyWriter { page: self, name }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

/// The family begun last on a page: its samples follow.
pub struct FamilyWriter<'a> {
    page: &'a mut Exposition,
    name: &'static str,
}

impl FamilyWriter<'_> {
    pub fn put(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.sample("", labels, None, value);
    }

    pub fn put_histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) {
        let (buckets, count, sum_s) = histogram.read();
        for (bound_s, up_to) in buckets {
            self.sample("_bucket", labels, Some(&bound_s.to_string()), up_to);
        }
        self.sample("_bucket", labels, Some("+Inf"), count);
        self.sample("_sum", labels, None, sum_s);
        self.sample("_count", labels, None, count);
    }

    fn sample(&mut self, suffix: &str, labels: &Labels<'_>, le: Option<&str>, value: impl Display) {
        let text = &mut self.page.text;
        let _ = write!(text, "{}{suffix}", self.name);
        let labels = labels.iter().copied().chain(le.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in labels {
            let _ = write!(text, "{before}{name}=\"");
            value.chars().for_each(|c| push_escaped(text, c));
            text.push('"');
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn push_escaped(text: &mut String, c: char) {
    match c {
        '\\' => text.push_str("\\\\"),
        '"' => text.push_str("\\\""),
        '\n' => text.push_str("\\n"),
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut page = Exposition::default();
        page.gauge("a", "What it is.").put(&[], 1.5);
        page.counter("b_total", "Odd.").put(&[("x", "1"), ("y", "q\"\\\n")], 7);
        let histogram = Histogram::of(&[1_000_000_000]);
        histogram.observe(Duration::from_secs(2));
        page.histogram("c_seconds", "Long.").put_histogram(&[("r", "z")], &histogram);
        let expected = "# HELP a What it is.\n# TYPE a gauge\na 1.5\n\
            # HELP b_total Odd.\n# TYPE b_total counter\nb_total{x=\"1\",y=\"q\\\"\\\\\\n\"} 7\n\
            # HELP c_seconds Long.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{r=\"z\",le=\"1\"} 0\nc_seconds_bucket{r=\"z\",le=\"+Inf\"} 1\n\
            c_seconds_sum{r=\"z\"} 2\nc_seconds_count{r=\"z\"} 1\n";
        assert_eq!(page.text(), expected);
    }
}
