//! Formats the result.

use super::tally::StormSummary;
use crate::terminal::{Language, table::padded, words};

/// More servers than this are summed up.
const SHOWN_SERVERS: usize = 20;
const NAME_COLUMNS: usize = 14;

pub(super) fn text(summary: &StormSummary, language: Language) -> String {
    let (speed, bytes) =
        (words::format_bytes(summary.bytes_per_s), words::format_bytes(summary.bytes as f64));
    let lasted = language.time(summary.lasted_s);
    let mut rows = vec![
        (
            language.of("客户端", "clients"),
            language.of(
                format!(
                    "{} 个，到达 {}，完成 {}，失败 {}",
                    summary.clients, summary.arrived, summary.finished, summary.failed
                ),
                format!(
                    "{}, of which {} arrived, {} finished, {} failed",
                    summary.clients, summary.arrived, summary.finished, summary.failed
                ),
            ),
        ),
        (
            language.of("吞吐量", "throughput"),
            language.of(
                format!("{speed}/s（{bytes}，{lasted}）"),
                format!("{speed}/s ({bytes}, {lasted})"),
            ),
        ),
    ];
    if let Some(first) = summary.first_byte {
        let (p50, p99) = (language.time(first.p50_s), language.time(first.p99_s));
        rows.push((
            language.of("首字节", "first byte"),
            format!("p50 {p50}{}p99 {p99}", language.of("，", ", ")),
        ));
    }
    if let Some(finish) = summary.finish {
        let (median, p95, worst) = (
            language.time(finish.median_s),
            language.time(finish.p95_s),
            language.time(finish.worst_s),
        );
        let ratio = finish.worst_to_median;
        rows.push((
            language.of("下载用时", "finish time"),
            language.of(
                format!("中位 {median}，p95 {p95}，最慢 {worst}（最慢 ÷ 中位 {ratio:.2}）"),
                format!("median {median}, p95 {p95}, worst {worst} (worst ÷ median {ratio:.2})"),
            ),
        ));
    }
    rows.extend(served(summary, language));
    let mut text = String::new();
    for (name, value) in rows {
        text += &format!("  {}{value}\n", padded(name, NAME_COLUMNS));
    }
    for failed in &summary.failures {
        let count = failed.count;
        text += &language.of(
            format!("  失败 {count} 个：{}\n    → {}\n", failed.what, failed.mend),
            format!("  {count} failed: {}\n    → {}\n", failed.what, failed.mend),
        );
    }
    text + &verdict(summary, language) + "\n"
}

fn served(summary: &StormSummary, language: Language) -> Vec<(&'static str, String)> {
    let mut servers: Vec<_> = summary.served_by.iter().collect();
    servers.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let more = servers.len().saturating_sub(SHOWN_SERVERS);
    let mut rows: Vec<_> = servers
        .into_iter()
        .take(SHOWN_SERVERS)
        .map(|(server, count)| (language.of("提供者", "served by"), format!("{server}  {count}")))
        .collect();
    if more > 0 {
        rows.push(("", language.of(format!("另有 {more} 个"), format!("and {more} others"))));
    }
    rows
}

/// Returns the overall result.
fn verdict(summary: &StormSummary, language: Language) -> String {
    let (clients, finished) = (summary.clients, summary.finished);
    let after = language.time(summary.lasted_s);
    if summary.is_success() {
        return language.of(
            format!("{after}后，全部 {clients} 个客户端都已拿到会议包。"),
            format!("Everyone had it after {after}."),
        );
    }
    if summary.interrupted {
        return language.of(
            format!("在 {after}时中断：{clients} 个客户端中有 {finished} 个拿到了会议包。"),
            format!("Interrupted after {after}: {finished} of {clients} had it by then."),
        );
    }
    let missing = clients - finished;
    language.of(
        format!("{clients} 个客户端中有 {missing} 个没有拿到会议包。"),
        format!("{missing} of {clients} did not get it."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::{FailureGroup, FinishTimes, FirstByte};

    fn summary() -> StormSummary {
        StormSummary {
            clients: 500,
            arrived: 500,
            finished: 500,
            failed: 0,
            interrupted: false,
            lasted_s: 41.2,
            bytes: 15_000_000_000,
            bytes_per_s: 364_077_669.0,
            first_byte: Some(FirstByte { p50_s: 0.012, p99_s: 0.3 }),
            finish: Some(FinishTimes {
                median_s: 3.1,
                p95_s: 8.04,
                worst_s: 12.4,
                worst_to_median: 4.0,
            }),
            served_by: [("10.0.0.1:8001".to_owned(), 251), ("10.0.0.2:8001".to_owned(), 249)]
                .into(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn all_that_is_to_be_known_is_said_in_both_languages() {
        assert_eq!(
            text(&summary(), Language::English),
            "  clients       500, of which 500 arrived, 500 finished, 0 failed
  throughput    347 MiB/s (14 GiB, 41 s)
  first byte    p50 12 ms, p99 300 ms
  finish time   median 3.1 s, p95 8.0 s, worst 12 s (worst ÷ median 4.00)
  served by     10.0.0.1:8001  251
  served by     10.0.0.2:8001  249
Everyone had it after 41 s.
"
        );
        assert_eq!(
            text(&summary(), Language::Chinese),
            "  客户端        500 个，到达 500，完成 500，失败 0
  吞吐量        347 MiB/s（14 GiB，41 秒）
  首字节        p50 12 毫秒，p99 300 毫秒
  下载用时      中位 3.1 秒，p95 8.0 秒，最慢 12 秒（最慢 ÷ 中位 4.00）
  提供者        10.0.0.1:8001  251
  提供者        10.0.0.2:8001  249
41 秒后，全部 500 个客户端都已拿到会议包。
"
        );
    }

    #[test]
    fn the_verdict_says_who_is_left_and_the_failures_how_to_mend_them() {
        let failed =
            FailureGroup { count: 3, kind: "x", what: "it broke".to_owned(), mend: "mend it" };
        let some = StormSummary { finished: 497, failed: 3, failures: vec![failed], ..summary() };
        let said = text(&some, Language::English);
        assert!(
            said.ends_with("  3 failed: it broke\n    → mend it\n3 of 500 did not get it.\n"),
            "{said}"
        );
        let cut = StormSummary { finished: 100, interrupted: true, lasted_s: 7.0, ..summary() };
        let said = text(&cut, Language::English);
        assert!(said.ends_with("Interrupted after 7.0 s: 100 of 500 had it by then.\n"), "{said}");
        // A signal after the last byte changes nothing.
        let whole = StormSummary { interrupted: true, ..summary() };
        assert!(text(&whole, Language::English).contains("Everyone"));
    }

    #[test]
    fn of_very_many_servers_the_busiest_are_named() {
        let served_by = (0..30).map(|n| (format!("10.0.0.{n}"), n)).collect();
        let said = text(&StormSummary { served_by, ..summary() }, Language::English);
        assert_eq!(said.matches("served by").count(), SHOWN_SERVERS);
        assert!(said.contains("10.0.0.29  29") && said.contains("and 10 others"), "{said}");
    }
}
