//! What lies in `monitoring/`: it names only what there is, and promtool, which
//! is Prometheus' own checker, agrees with it (Debian: package prometheus).

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    ScriptedMain, TestMaster, TestNode,
    metrics::{Metrics, until_metrics},
    zip_of,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring")
}

fn file(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// Fails with what promtool has to say.
fn promtool(args: &[&str], input: &str) {
    let command = Command::new("promtool")
        .args(args)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = command.expect("promtool, which tests/run installs");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success(), "promtool {args:?}: {}", said.concat());
}

/// Of a node and a main server that have done something.
async fn pages() -> [Metrics; 2] {
    let master = TestMaster::build().announce_timeout(Duration::ZERO).start().await;
    master.begin_with("m", &zip_of("one")).await;
    let node = TestNode::of(&master.authority()).start().await;
    master.until_held_by("m", &["node-test"]).await;
    node.download("m").await;
    node.get("/nothing").await;
    assert!(master.redirect("m").await.is_some());
    // Read by a worker every few seconds.
    let disk = |now: &Metrics| now.get("edge_mirror_disk_free_bytes") > 0.0;
    let pages = [
        until_metrics(&node.url(""), "the disk is read", disk).await,
        until_metrics(&master.url(""), "the disk is read", disk).await,
    ];
    node.shut_down().await;
    drop(master.stop().await);
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_against_the_metrics() {
    for page in pages().await {
        promtool(&["check", "metrics"], &page.text);
        // One family in one place: that is what it would not tell.
        let families = page.text.lines().filter(|line| line.starts_with("# TYPE"));
        let names: Vec<_> = families.map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}

#[test]
fn rules_and_example_are_good_and_each_alert_fires_when_it_should() {
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["check", "config", "prometheus.example.yml"], "");
    promtool(&["test", "rules", "alerts.test.yml"], "");
    let (rules, tests) = (file("alerts.yml"), file("alerts.test.yml"));
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is never seen to fire");
    }
    // Two lines of advice for each, one in Chinese, one in English.
    for advice in rules.split("description: |-\n").skip(1) {
        let lines: Vec<_> = advice.lines().take(2).map(str::trim).collect();
        assert!(!lines[0].is_ascii() && lines[1].is_ascii(), "{lines:?}");
    }
}

/// Every metric that a text names, with the labels that it asks for, as far as
/// they are compared for being equal.
fn named(text: &str) -> BTreeSet<(String, String)> {
    let text = text.replace("\\\"", "\"");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for start in ["edge_mirror_", "process_"] {
        for (at, _) in text.match_indices(start).filter(|(at, _)| !text[..*at].ends_with(is_part)) {
            let name: String = text[at..].chars().take_while(|c| is_part(*c)).collect();
            let rest = &text[at + name.len()..];
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            let labels = selector.into_iter().flat_map(|selector| selector.split(','));
            let equal = labels.filter(|label| {
                let of_the_target = label.starts_with("instance") || label.starts_with("job");
                label.contains("=\"") && !of_the_target
            });
            found.extend(equal.map(|label| (name.clone(), label.to_owned())));
            found.insert((name, String::new()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_rules_name_only_what_there_is() {
    let pages = pages().await;
    let samples: BTreeSet<&str> = pages.iter().flat_map(Metrics::samples).collect();
    for name in ["alerts.yml", "grafana-dashboard.json"] {
        let named = named(&file(name));
        assert!(named.len() > 15, "{named:?}");
        for (metric, label) in named {
            let is_it = |sample: &&&str| sample.split('{').next() == Some(&metric);
            let mut of_it = samples.iter().filter(is_it).peekable();
            assert!(of_it.peek().is_some(), "{name}: there is no {metric}");
            assert!(of_it.any(|sample| sample.contains(&label)), "{name}: no {metric}{{{label}}}");
        }
    }
}

/// Packages between nodes are a part of the product that is seen nowhere else over time.
#[test]
fn the_dashboard_shows_what_goes_between_nodes() {
    let asked = named(&file("grafana-dashboard.json"));
    for metric in [
        "relay_received_bytes_total",
        "relay_sent_bytes_total",
        "pulled_bytes_total",
        "relay_parent_changes_total",
        "relay_refused_children_total",
        "relay_depth",
        "relay_children",
    ] {
        let metric = format!("edge_mirror_{metric}");
        assert!(asked.contains(&(metric.clone(), String::new())), "{metric}");
    }
}

#[test]
fn the_dashboards_panels_have_their_places_and_sound_questions() {
    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |what: &str| panel["gridPos"][what].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let question = target["expr"].as_str().unwrap();
            let question = question.replace("$__rate_interval", "5m").replace("$instance", ".*");
            assert!(!question.contains('$'), "{question}");
            let number = rules.lines().count();
            rules.push_str(&format!(
                "      - record: q:{number}\n        expr: {}\n",
                serde_json::json!(question)
            ));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yml");
    fs::write(&path, rules).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_need_no_login() {
    let main = ScriptedMain::start().await;
    let closed = serde_json::json!({"security": {"trustLocal": false}});
    let node = TestNode::of(&main.authority()).with(closed).start().await;
    assert_eq!(node.get("/api/config").await.status(), 401);
    for path in ["/metrics", "/api/health/live", "/api/health/ready"] {
        assert_eq!(node.get(path).await.status(), 200, "{path}");
    }
    node.shut_down().await;
}
