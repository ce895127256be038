//! `GET /`: meetings and nodes at a glance. Old nodes ask for it, too, to see
//! whether the main server lives.

use std::{fmt::Write, sync::Arc};

use axum::{extract::State, response::Html};

use super::{
    registry::{Node, Reach},
    server::Server,
};

const HEAD: &str = "<!doctype html><html lang=\"zh\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>主控服务器 Main server</title><style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;\
border-bottom:1px solid #ddd;overflow-wrap:anywhere}th{font-weight:600;color:#666}\
</style><h1>主控服务器 Main server</h1>";

/// A page that lists more is of no use to anybody.
const MAX_ROWS: usize = 500;

pub async fn page(State(server): State<Arc<Server>>) -> Html<String> {
    let now_s = server.clock.now_s();
    let mut page = HEAD.to_owned();
    page.push_str("<h2>会议 Meetings</h2>");
    let book = server.book();
    let meetings = book.meetings.iter().rev().take(MAX_ROWS).map(|meeting| {
        let size = server.store.get(&meeting.id).map(|stored| stored.manifest.size_bytes);
        let missing = if meeting.running() { "无会议包 no package" } else { "—" };
        let size = size.map_or_else(|| missing.to_owned(), readable);
        [meeting.id.to_string(), meeting.title.clone(), meeting.status.text().to_owned(), size]
    });
    table(&mut page, ["ID", "标题 Title", "状态 Status", "会议包 Package"], meetings);
    page.push_str("<h2>节点 Nodes</h2>");
    let registry = server.registry();
    let nodes = registry.live(now_s).take(MAX_ROWS).map(|(node_id, node)| row(node_id, node));
    table(&mut page, ["ID", "地址 Address", "可达 Reachable", "下载中 Downloads"], nodes);
    page.push_str("</html>");
    Html(page)
}

fn readable(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let unit = UNITS.iter().take_while(|_| {
        let large = scaled >= 1024.0;
        scaled /= if large { 1024.0 } else { 1.0 };
        large
    });
    match unit.last() {
        Some(unit) => format!("{scaled:.1} {unit}"),
        None => format!("{bytes} B"),
    }
}

fn row(node_id: &str, node: &Node) -> [String; 4] {
    let reach = match &node.reach {
        Reach::Unknown => "检测中 asking".to_owned(),
        Reach::Reachable => "是 yes".to_owned(),
        Reach::Unreachable(reason) => format!("否 no: {reason}"),
    };
    [node_id.to_owned(), node.address.clone(), reach, node.downloads.to_string()]
}

fn table(page: &mut String, head: [&str; 4], rows: impl Iterator<Item = [String; 4]>) {
    page.push_str("<table><tr>");
    for cell in head {
        // Writing to a string cannot fail.
        let _ = write!(page, "<th>{cell}</th>");
    }
    page.push_str("</tr>");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escaped(&cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
}

/// Text that stays text, in elements and attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_hostile_title_is_text() {
        assert_eq!(escaped("<b a=\"'\">&"), "&lt;b a=&quot;&#39;&quot;&gt;&amp;");
        assert_eq!(escaped("会议 1"), "会议 1");
    }
}
