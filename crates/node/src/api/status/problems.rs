//! Problems of a node, worst first: codes that a page puts into words, with the
//! parameters of the words. Empty if nothing is wrong.

use std::path::Path;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::{
    listen::Connections,
    tls::{CertificateWarning, UnusableTlsFile},
    wire::problem::{Problem, certificate_problems, connection_limits},
};
use edge_mirror_protocol::{self as protocol, AdmissionNotice, UnservedMeeting};
use edge_mirror_settings::Config;
use edge_mirror_store::LOW_DISK_BYTES;
use serde_json::json;

use super::{cleanup_at, main_server_in_use, meetings::MeetingRow};
use crate::{
    board::{AddressWarning, Presence, RemoteTaskStatus, SyncState},
    machine::Machine,
    upstream::MainServerInUse,
};

/// A page that lists more failing meetings helps nobody.
pub(super) const MAX_MEETINGS: usize = 20;

pub(super) struct NodeSnapshot<'a> {
    pub running: bool,
    pub config: &'a Config,
    pub in_use: &'a MainServerInUse,
    pub config_file: &'a Path,
    pub(crate) config_error: Option<String>,
    pub presence: &'a Presence,
    pub sync: &'a SyncState,
    /// Active meetings whose packages can't be pulled.
    pub failing: Vec<MeetingRow<'a>>,
    pub storage: &'a Path,
    pub(crate) storage_error: Option<String>,
    pub(crate) port_error: Option<String>,
    pub(crate) tls_error: Option<UnusableTlsFile>,
    pub(crate) tls_warning: Option<CertificateWarning>,
    pub(crate) redirect_error: Option<String>,
    pub login_error: Option<String>,
    pub connections: &'a Connections,
    pub used: u64,
    pub machine: &'a Machine,
    pub(crate) remote_tasks: &'a RemoteTaskStatus,
}

pub(super) fn find_problems(node: &NodeSnapshot) -> Vec<Problem> {
    let mut found = Vec::new();
    if !node.running {
        found.push(Problem::error("stopped", json!({})));
    }
    found.extend(config_rejected(node));
    found.extend(node.storage_error.as_ref().map(|text| {
        let path = node.config.storage_path();
        Problem::error("storage_error", json!({"path": path, "text": text}))
    }));
    found.extend(node.port_error.as_ref().map(|text| {
        let port = node.config.node_port;
        Problem::error("port_error", json!({"port": port, "text": text}))
    }));
    found.extend(certificate_problems(node.tls_error.as_ref(), node.tls_warning.as_ref()));
    found.extend(node.redirect_error.as_ref().map(|text| {
        let port = node.config.tls.redirect_port;
        Problem::error("port_error", json!({"port": port, "text": text}))
    }));
    if node.running {
        found.extend(main_server(node));
        found.extend(failover(node));
        if node.sync.left_out > 0 {
            let (limit, left_out) = (protocol::MAX_MEETINGS, node.sync.left_out);
            found.push(Problem::error(
                "too_many_meetings",
                json!({"limit": limit, "left_out": left_out}),
            ));
        }
        found.extend(
            node.presence.notice.admission.map(|admission| admission_problem(node, admission)),
        );
        found.extend(node.presence.notice.unreachable.as_ref().map(|text| {
            let address = &node.presence.address;
            Problem::error("address_unreachable", json!({"address": address, "text": text}))
        }));
        found.extend(node.failing.iter().map(failing));
        found.extend(node.sync.unserved.iter().take(MAX_MEETINGS).map(|meeting| {
            let UnservedMeeting { id, title } = meeting;
            Problem::error("meeting_unserved", json!({"meeting": id, "title": title}))
        }));
        found.extend(node.presence.address_warnings.iter().map(address_problem));
    }
    found.extend(remote_tasks(node.remote_tasks));
    found.extend(room(node));
    found.extend(connection_limits(node.connections));
    found.extend(
        node.login_error
            .as_ref()
            .map(|text| Problem::warning("login_broken", json!({"text": text}))),
    );
    if node.config.is_heartbeat_slow() {
        let interval = node.config.heartbeat.interval;
        found.push(Problem::warning("heartbeat_slow", json!({"interval": interval})));
    }
    if node.config.security.open {
        found.push(Problem::warning("open_access", json!({})));
    }
    found
}

fn config_rejected(node: &NodeSnapshot) -> Option<Problem> {
    let text = node.config_error.as_ref()?;
    let file = node.config_file;
    Some(Problem::error("config_rejected", json!({"file": file, "text": text})))
}

fn admission_problem(node: &NodeSnapshot, admission: AdmissionNotice) -> Problem {
    let of = json!({"main_server": node.config.main_server(), "node": node.config.node_id});
    match admission {
        AdmissionNotice::Pending => Problem::error("admission_pending", of),
        AdmissionNotice::Refused => Problem::error("admission_refused", of),
    }
}

/// One problem per cause: if heartbeats fail, polls do, too.
fn main_server(node: &NodeSnapshot) -> Option<Problem> {
    let (presence, sync) = (node.presence, node.sync);
    if presence.error.is_some() && is_none_there(node) {
        return Some(Problem::error(
            "main_servers_unreachable",
            json!({
                "since": presence.failing_since.map(UnixMillis::as_secs),
                "main_servers": node.config.fleet().base_urls().join(", "),
                "text": failures(node.in_use),
            }),
        ));
    }
    let (code, fault, since) = match (&presence.error, &sync.poll_error) {
        (Some(fault), _) => ("main_server_unreachable", fault, presence.failing_since),
        (None, Some(fault)) => ("poll_failed", fault, sync.poll_failing_since),
        (None, None) => return None,
    };
    Some(Problem::error(
        code,
        json!({
            "since": since.map(UnixMillis::as_secs),
            "main_server": main_server_in_use(node.config, node.in_use),
            "cause": fault.cause,
            "text": fault.text,
        }),
    ))
}

/// True if there are several, and none of them answers.
fn is_none_there(node: &NodeSnapshot) -> bool {
    let is_failing =
        |base_url: &String| node.in_use.failing.iter().any(|failing| failing.base_url == *base_url);
    let listed = node.config.fleet().base_urls();
    listed.len() > 1 && listed.iter().all(is_failing)
}

/// Some main servers do not answer, and another one does.
fn failover(node: &NodeSnapshot) -> Option<Problem> {
    let failing = &node.in_use.failing;
    if failing.is_empty() || is_none_there(node) {
        return None;
    }
    let names: Vec<&str> = failing.iter().map(|failing| failing.base_url.as_str()).collect();
    Some(Problem::warning(
        "main_server_failover",
        json!({
            "main_servers": names.join(", "),
            "main_server": main_server_in_use(node.config, node.in_use),
            "text": failures(node.in_use),
        }),
    ))
}

/// Each with its reason.
fn failures(in_use: &MainServerInUse) -> String {
    let texts: Vec<&str> =
        in_use.failing.iter().map(|failing| failing.fault.text.as_str()).collect();
    texts.join("; ")
}

fn address_problem(warning: &AddressWarning) -> Problem {
    let text = warning.to_string();
    match warning {
        AddressWarning::Private { address, main_server } => Problem::warning(
            "address_private",
            json!({"address": address, "main_server": main_server, "text": text}),
        ),
        AddressWarning::Interface { name, there } => Problem::warning(
            "interface_missing",
            json!({"interface": name, "interfaces": there, "text": text}),
        ),
    }
}

/// Runs that do not end, and declarations that are wrong.
fn remote_tasks(status: &RemoteTaskStatus) -> Vec<Problem> {
    let stuck = status.stuck.iter().take(MAX_MEETINGS);
    let stuck = stuck.map(|task| Problem::error("task_stuck", json!({"task": task})));
    let faults = status.faults.iter().take(MAX_MEETINGS);
    let faults = faults.map(|(file, text)| {
        Problem::warning("task_type_invalid", json!({"file": file, "text": text}))
    });
    stuck.chain(faults).collect()
}

fn failing(meeting: &MeetingRow<'_>) -> Problem {
    Problem::error(
        "meeting_failing",
        json!({
            "meeting": meeting.id,
            "title": meeting.title,
            "cause": meeting.cause,
            "text": meeting.last_error,
            "attempt": meeting.attempt,
            "rounds": meeting.failed_rounds,
            "next_try": meeting.next_try,
        }),
    )
}

/// Cleaning keeps the storage below its threshold: what stays above it can't be removed.
fn room(node: &NodeSnapshot) -> Vec<Problem> {
    let (limit, free) = (node.config.storage.max_size, node.machine.disk_free);
    let mut found = Vec::new();
    if node.used >= cleanup_at(node.config) {
        let used = node.used;
        found.push(Problem::warning(
            "storage_nearly_full",
            json!({"used": used, "limit": limit, "path": node.storage}),
        ));
    }
    // Before the first reading all figures are zero.
    if node.machine.disk_total > 0 && free < LOW_DISK_BYTES {
        found.push(Problem::warning(
            "disk_nearly_full",
            json!({"free": free, "path": node.storage}),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{Cause, Fault};

    use super::*;

    fn codes(
        change: impl FnOnce(&mut Config, &mut Presence, &mut SyncState, &mut Machine),
    ) -> Vec<String> {
        let document = json!({"nodeId": "n", "storage": {"maxSize": 10 << 20}});
        let folder = Path::new("/");
        let mut config =
            edge_mirror_settings::check::parse_config(document.as_object().unwrap(), folder)
                .unwrap();
        let (mut presence, mut sync) = (Presence::default(), SyncState::default());
        let mut machine = Machine { disk_total: 1 << 40, disk_free: 1 << 39, ..Machine::default() };
        change(&mut config, &mut presence, &mut sync, &mut machine);
        let node = NodeSnapshot {
            running: true,
            config: &config,
            in_use: &MainServerInUse::default(),
            config_file: folder,
            config_error: None,
            presence: &presence,
            sync: &sync,
            failing: vec![],
            storage: folder,
            storage_error: None,
            port_error: None,
            tls_error: None,
            tls_warning: None,
            redirect_error: None,
            login_error: None,
            connections: &Connections::default(),
            used: 9 << 20,
            machine: &machine,
            remote_tasks: &RemoteTaskStatus {
                stuck: Vec::new(),
                faults: Vec::new(),
                ..RemoteTaskStatus::default()
            },
        };
        find_problems(&node).iter().map(|problem| problem.code.to_owned()).collect()
    }

    #[test]
    fn each_trouble_has_its_code_and_one_trouble_is_told_once() {
        let away = || Some(Fault { cause: Cause::Refused, text: "away".into() });
        assert_eq!(codes(|c, _, _, _| c.storage.max_size = 20 << 20), Vec::<String>::new());
        assert_eq!(codes(|_, _, _, _| ()), ["storage_nearly_full"]);
        let roomy = |c: &mut Config| c.storage.max_size = 20 << 20;
        let both = codes(|c, presence, sync, _| {
            roomy(c);
            (presence.error, sync.poll_error) = (away(), away());
        });
        assert_eq!(both, ["main_server_unreachable"]);
        let polls = codes(|c, _, sync, _| {
            roomy(c);
            sync.poll_error = away();
        });
        assert_eq!(polls, ["poll_failed"]);
        let others = codes(|c, presence, sync, machine| {
            roomy(c);
            sync.left_out = 1;
            presence.notice.unreachable = Some("no route".into());
            presence.notice.admission = Some(AdmissionNotice::Pending);
            sync.unserved = [UnservedMeeting { id: "a/b".into(), title: None }].into();
            machine.disk_free = 1;
            c.security.open = true;
            c.heartbeat.interval = 30;
            let (address, main_server) = ("10.0.0.5:8001".into(), "http://198.51.100.1:80".into());
            let interface =
                AddressWarning::Interface { name: "eth9".into(), there: vec!["lo".into()] };
            presence.address_warnings =
                vec![interface, AddressWarning::Private { address, main_server }];
        });
        let told = [
            "too_many_meetings",
            "admission_pending",
            "address_unreachable",
            "meeting_unserved",
            "interface_missing",
            "address_private",
            "disk_nearly_full",
            "heartbeat_slow",
            "open_access",
        ];
        assert_eq!(others, told);
    }
}
