//! Reports to the server that a task comes from.

use std::time::Duration;

use edge_mirror_base::backoff::backoff;
use edge_mirror_gofd::StatusReport;
use reqwest::header;
use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, warn};

use super::agent::AgentOptions;

/// Tries of the report that says how a task has ended.
const MAX_TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Reporter {
    client: reqwest::Client,
    ip: String,
    authorization: String,
    scheme: &'static str,
}

/// The percentages after which GoFD's agents report: the first piece, then each tenth.
#[derive(Debug, Default)]
pub(super) struct ReportSteps(u32);

impl ReportSteps {
    /// The percentage to report once so many of all pieces are here; the last one is
    /// reported at the end.
    pub(super) fn next(&mut self, here: u32, pieces: u32) -> Option<f32> {
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = here as f32 * 100.0 / pieces.max(1) as f32;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        let is_due = here < pieces && percent as u32 > self.0;
        if is_due {
            self.0 += 10;
        }
        is_due.then_some(percent)
    }
}

impl Reporter {
    pub(super) fn new(client: reqwest::Client, options: &AgentOptions) -> Self {
        Self {
            client,
            ip: options.ip_text.clone(),
            authorization: options.credentials.basic(),
            scheme: if options.tls { "https" } else { "http" },
        }
    }

    /// Sends reports, each once, until nobody makes any more.
    pub(super) async fn run(&self, task: String, mut waiting: mpsc::Receiver<(String, f32)>) {
        while let Some((server, percent)) = waiting.recv().await {
            if let Err(cause) = self.send(&server, &task, percent).await {
                debug!("a report of task {task:?} of GoFD did not arrive: {cause}");
            }
        }
    }

    /// Sends the last report of a task. Without it, the server would wait for ever.
    pub(super) async fn report_end(&self, server: &str, task: &str, percent: f32) {
        for tries in 1..=MAX_TRIES {
            match self.send(server, task, percent).await {
                Ok(()) => return,
                Err(cause) if tries == MAX_TRIES => {
                    warn!("{server} was not told of the end of task {task:?} of GoFD: {cause}");
                }
                Err(_) => {
                    let random = fastrand::f64();
                    sleep(backoff(tries, FIRST_PAUSE, LONGEST_PAUSE, random)).await;
                }
            }
        }
    }

    async fn send(&self, server: &str, task: &str, percent: f32) -> Result<(), String> {
        let (task_id, ip) = (task.to_owned(), self.ip.clone());
        let report = StatusReport { task_id, ip, percent_complete: percent };
        let body = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
        let url = format!("{}://{server}/api/v1/server/tasks/status", self.scheme);
        let request = self.client.post(url).header(header::AUTHORIZATION, &self.authorization);
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        let answer = request.body(body).send().await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            ..=300 => Ok(()),
            status => Err(format!("status {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_after_the_first_piece_and_each_tenth() {
        let percents = |pieces: u32| -> Vec<f32> {
            let mut steps = ReportSteps::default();
            (1..=pieces).filter_map(|here| steps.next(here, pieces)).collect()
        };
        assert_eq!(percents(3), [100.0 / 3.0, 200.0 / 3.0]);
        assert!(percents(1).is_empty());
        let of_many: Vec<_> = percents(200).iter().map(|percent| percent.floor()).collect();
        assert_eq!(of_many, [1.0, 11.0, 21.0, 31.0, 41.0, 51.0, 61.0, 71.0, 81.0, 91.0]);
    }
}
