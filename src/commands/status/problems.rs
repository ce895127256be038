//! What is wrong with a node, in words; it is told in codes.

use serde_json::Value;

use crate::terminal::{Language, words};

pub(super) fn of(status: &Value) -> impl Iterator<Item = &Value> {
    status["problems"].as_array().into_iter().flatten()
}

/// Not only a warning.
pub(super) fn is_error(problem: &Value) -> bool {
    problem["severity"] != "warning"
}

/// One line, and another one for the cause.
pub(super) fn told(problem: &Value, language: Language) -> String {
    let kind = match is_error(problem) {
        true => language.of("错误", "error"),
        false => language.of("警告", "warning"),
    };
    let cause = problem["text"].as_str().map(words::plain);
    let cause = cause.map(|cause| format!("  → {cause}\n")).unwrap_or_default();
    format!("{kind}: {}\n{cause}", what(problem, language))
}

fn what(problem: &Value, language: Language) -> String {
    let field = |key: &str| match &problem[key] {
        Value::String(text) => words::plain(text),
        other => other.to_string(),
    };
    let bytes = |key: &str| words::bytes(problem[key].as_f64().unwrap_or(0.0));
    let code = field("code");
    let (chinese, english) = match code.as_str() {
        "stopped" => (
            "服务已停止，平板不能从这个节点下载".to_owned(),
            "the service is stopped; tablets can't download from this node".to_owned(),
        ),
        "config_rejected" => {
            let file = field("file");
            (
                format!("配置文件 {file} 有错误，没有生效"),
                format!("{file} has mistakes; the last good configuration stays in force"),
            )
        }
        "certificate_unusable" => {
            let file = field("file");
            (
                format!("证书或私钥 {file} 不能使用，仍使用原来的"),
                format!("{file} can't be used; the certificate from before stays in use"),
            )
        }
        "certificate_doubtful" => {
            let file = field("file");
            (
                format!("平板会拒绝或很快会拒绝证书 {file}，请更换"),
                format!("tablets refuse the certificate {file}, or will soon: replace it"),
            )
        }
        "storage_error" => {
            let path = field("path");
            (
                format!("存储文件夹 {path} 不能使用"),
                format!("the storage folder {path} can't be used"),
            )
        }
        "port_error" => {
            let port = field("port");
            (
                format!("端口 {port} 不能使用，节点仍在原来的端口上工作"),
                format!("port {port} can't be used; the node still works on the old one"),
            )
        }
        "main_server_unreachable" => {
            let at = field("main_server");
            (format!("连接不上主控服务器 {at}"), format!("the main server {at} can't be reached"))
        }
        "poll_failed" => {
            let at = field("main_server");
            (
                format!("不能从主控服务器 {at} 读取会议列表"),
                format!("the list of meetings can't be read from {at}"),
            )
        }
        "too_many_meetings" => {
            let (limit, left_out) = (field("limit"), field("left_out"));
            (
                format!(
                    "主控服务器列出的会议太多，节点只同步 {limit} 个，其余 {left_out} 个未同步"
                ),
                format!(
                    "the main server lists too many meetings: {limit} are synced, {left_out} are not"
                ),
            )
        }
        "address_unreachable" => {
            let at = field("address");
            (
                format!("主控服务器连接不上本节点登记的地址 {at}，平板不会被引导到这里"),
                format!(
                    "the main server can't reach this node at {at}, so no tablets are sent here"
                ),
            )
        }
        "address_private" => {
            let at = field("address");
            (
                format!("登记的地址 {at} 是内网地址，而主控服务器在公网上，平板可能访问不到本节点"),
                format!(
                    "{at} is a private address, but the main server is public: tablets may not \
                     reach this node"
                ),
            )
        }
        "interface_missing" => {
            let name = field("interface");
            (
                format!("网卡 {name} 不存在或没有地址，登记的是其他地址"),
                format!("the interface {name} is not there or has no address; another one is told"),
            )
        }
        "meeting_failing" => {
            let id = field("meeting");
            (
                format!("会议 {id} 的会议包没有拉取成功"),
                format!("the package of meeting {id} could not be pulled"),
            )
        }
        "meeting_unserved" => {
            let id = field("meeting");
            (
                format!("会议 {id} 的 ID 不能使用，请在主控服务器上换一个 ID 重新创建"),
                format!(
                    "the id of meeting {id} can't be used: create it again with another one at the main server"
                ),
            )
        }
        "storage_nearly_full" => {
            let (used, limit) = (bytes("used"), bytes("limit"));
            (
                format!("存储空间快满了：已用 {used}，上限 {limit}"),
                format!("storage is nearly full: {used} of {limit} are used"),
            )
        }
        "disk_nearly_full" => {
            let (path, free) = (field("path"), bytes("free"));
            (
                format!("{path} 所在的磁盘只剩 {free}"),
                format!("the disk that holds {path} has only {free} left"),
            )
        }
        "login_broken" => (
            "登录文件有问题，现在无法从其他电脑登录".to_owned(),
            "nobody can log in from another machine: the file with the logins is not right"
                .to_owned(),
        ),
        "heartbeat_slow" => {
            let interval = field("interval");
            (
                format!("心跳间隔 {interval} 秒太长，主控服务器会移除本节点"),
                format!(
                    "a heartbeat interval of {interval} s is too long: main servers drop the node"
                ),
            )
        }
        "connections_per_client" => {
            let most = field("most");
            (
                format!("有客户端地址已用满 {most} 个连接，多出的连接被拒绝"),
                format!(
                    "one address has all {most} connections that it may have, more are refused"
                ),
            )
        }
        "connections_full" => {
            let places = field("places");
            (
                format!(
                    "{places} 个连接已用尽：空闲或过慢的会被关闭，没有可关闭的时，新客户端需要等待"
                ),
                format!(
                    "all {places} connections are in use: idle and slow ones are closed, else new clients wait"
                ),
            )
        }
        "open_access" => (
            "security.open 已打开，任何人都可以停止服务、修改配置".to_owned(),
            "security.open is on: anybody may stop the service and change settings".to_owned(),
        ),
        // Of a newer node.
        _ => (code.clone(), code),
    };
    language.of(chinese, english)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_code_that_a_node_has_is_put_into_words() {
        let sources = [
            include_str!("../../../crates/node/src/api/status/problems.rs"),
            include_str!("../../../crates/http/src/wire/problem.rs"),
        ];
        let made = sources.iter().flat_map(|source| source.split("Problem::").skip(1));
        let made = made.filter_map(|rest| rest.split_once('('));
        let codes = made.filter_map(|(_, given)| given.trim_start().strip_prefix('"'));
        let codes: Vec<_> = codes.filter_map(|rest| rest.split('"').next()).collect();
        assert!(codes.len() >= 10, "{codes:?}");
        for code in codes {
            let problem = json!({"code": code});
            for language in [Language::Chinese, Language::English] {
                assert_ne!(what(&problem, language), code);
            }
        }
    }

    #[test]
    fn a_problem_has_its_cause_below_and_unknown_ones_are_shown_as_they_are() {
        let away = json!({
            "code": "main_server_unreachable", "severity": "error",
            "main_server": "http://a", "text": "Connection\nrefused",
        });
        assert_eq!(
            told(&away, Language::English),
            "error: the main server http://a can't be reached\n  → Connection refused\n"
        );
        let newer = json!({"code": "moon_full", "severity": "warning"});
        assert_eq!(told(&newer, Language::Chinese), "警告: moon_full\n");
        assert!(is_error(&away) && !is_error(&newer));
    }
}
