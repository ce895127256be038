//! What a metrics page says, and by how much it moved.

use std::collections::BTreeMap;

use super::{client, until};

/// Samples by name and labels, as they are written.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub text: String,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Of a node or a main server at `http://host:port`.
    pub(crate) async fn of(url: &str) -> Self {
        let answer = client().get(format!("{url}/metrics")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        let text = answer.text().await.unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            (sample.to_owned(), value.parse().unwrap())
        });
        Self { samples: samples.collect(), text }
    }

    /// Nothing where there is no such sample: of what never happened there may be none.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or_default()
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// By how much each of these differs from `before`.
    pub(crate) fn since<const N: usize>(&self, before: &Self, samples: [&str; N]) -> [f64; N] {
        samples.map(|sample| self.get(sample) - before.get(sample))
    }
}

/// Waits until the page at `url` is as it should be.
pub(crate) async fn until_metrics(
    url: &str,
    what: &str,
    fits: impl Fn(&Metrics) -> bool,
) -> Metrics {
    until(what, async || Some(Metrics::of(url).await).filter(|metrics| fits(metrics))).await
}
