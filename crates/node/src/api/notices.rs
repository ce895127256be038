//! Casts that the panel shows to operators: the newest ones of the topic that the
//! configuration names (`casts.showOnPanel`), as text.

use axum::{Json, extract::State};
use edge_mirror_base::clock::UnixMillis;
use serde::Serialize;

use super::AppState;
use crate::casts::{CastHistory, NodeCast};

/// More than anybody reads.
const MAX_NOTICES: usize = 20;
/// A longer text is no notice; it is cut.
const MAX_CHARS: usize = 2000;

/// A cast as the panel shows it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PanelNotice {
    /// Its number here.
    n: u64,
    /// The body: a text as it is, anything else as JSON.
    text: String,
    /// The text was longer.
    is_cut: bool,
    priority: String,
    /// Seconds since 1970.
    at: f64,
    expires_at: f64,
}

/// The casts that the panel shows, the newest first.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PanelNotices {
    notices: Vec<PanelNotice>,
}

impl PanelNotices {
    /// Those of a topic that have not expired; none where the topic is empty.
    pub(super) fn of_topic(history: &CastHistory, topic: &str, now: UnixMillis) -> Self {
        let newest = history.newest(topic, now, MAX_NOTICES);
        Self { notices: newest.iter().map(|cast| PanelNotice::new(cast)).collect() }
    }
}

impl PanelNotice {
    fn new(NodeCast { n, cast, .. }: &NodeCast) -> Self {
        let body = cast.body.get();
        let text = serde_json::from_str(body).unwrap_or_else(|_| body.to_owned());
        let end = text.char_indices().nth(MAX_CHARS).map(|(end, _)| end);
        Self {
            n: *n,
            text: text[..end.unwrap_or(text.len())].to_owned(),
            is_cut: end.is_some(),
            priority: cast.priority.clone(),
            at: cast.at,
            expires_at: cast.expires_at,
        }
    }
}

pub(super) async fn list(State(app): State<AppState>) -> Json<PanelNotices> {
    let topic = &app.settings.current().casts.show_on_panel;
    Json(PanelNotices::of_topic(&app.casts, topic, UnixMillis::now()))
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::casts::{CastAnswer, DeliveredCast};
    use edge_mirror_settings::CastConfig;
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1000);

    fn delivered(number: u64, topic: &str, body: &Value, expires_at: f64) -> DeliveredCast {
        DeliveredCast {
            id: format!("x-{number}"),
            topic: topic.to_owned(),
            body: to_raw_value(body).unwrap(),
            priority: "normal".to_owned(),
            at: 1.0,
            expires_at,
            from: None,
        }
    }

    async fn texts(casts: Vec<DeliveredCast>, topic: &str) -> Vec<(String, bool)> {
        let folder = tempfile::tempdir().unwrap();
        let history = std::sync::Arc::new(CastHistory::open(folder.path().join("casts")));
        let after = casts.len() as u64;
        let (live, live_casts) = (String::new(), vec![]);
        let answer = CastAnswer { stream: "s".to_owned(), after, casts, live, live_casts };
        let limits: CastConfig = serde_json::from_value(json!({
            "enabled": true, "maxCount": 100, "maxBytes": 1 << 20, "maxAgeDays": 7,
            "maxConsumers": 10, "pingInterval": 20, "idleTimeout": 60, "maxFrame": 4096,
            "allowSend": false, "showOnPanel": "notice",
        }))
        .unwrap();
        history.add(answer, limits, NOW).await.unwrap();
        let PanelNotices { notices } = PanelNotices::of_topic(&history, topic, NOW);
        notices.into_iter().map(|notice| (notice.text, notice.is_cut)).collect()
    }

    #[tokio::test]
    async fn the_panel_shows_the_newest_of_its_topic_that_have_not_expired() {
        let casts = || {
            vec![
                delivered(1, "notice", &json!("first"), 2000.0),
                delivered(2, "other", &json!("for a program"), 2000.0),
                delivered(3, "notice", &json!("over"), 999.0),
                delivered(4, "notice", &json!({"room": 3}), 2000.0),
                delivered(5, "notice", &json!("移".repeat(2001)), 2000.0),
            ]
        };
        let found = texts(casts(), "notice").await;
        let long = ("移".repeat(2000), true);
        assert_eq!(found, [long, (r#"{"room":3}"#.into(), false), ("first".into(), false)]);
        assert_eq!(texts(casts(), "").await, []);
    }

    #[tokio::test]
    async fn the_panel_shows_a_bounded_number() {
        let cast = |n| delivered(n, "notice", &json!(n.to_string()), 2000.0);
        let found = texts((1..=30).map(cast).collect(), "notice").await;
        assert_eq!((found.len(), &*found[0].0, &*found[19].0), (20, "30", "11"));
    }
}
