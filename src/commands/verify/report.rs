//! The result of a verification.

use serde_json::{Value, json};

use crate::terminal::{
    Language,
    table::{Table, clipped},
    words,
};

const TITLE_COLUMNS: usize = 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PackageVerdict {
    Good,
    /// Left as it is.
    Damaged,
    /// Damaged, and pulled again.
    Repaired,
    /// Damaged and gone; its meeting does not need it.
    Removed,
    /// Damaged and gone, and can't be pulled now.
    Lost(String),
    /// It can't be read to tell.
    Unreadable(String),
}

impl PackageVerdict {
    fn code(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Damaged => "damaged",
            Self::Repaired => "repaired",
            Self::Removed => "removed",
            Self::Lost(_) => "lost",
            Self::Unreadable(_) => "unreadable",
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::Lost(why) | Self::Unreadable(why) => Some(why),
            Self::Good | Self::Damaged | Self::Repaired | Self::Removed => None,
        }
    }

    fn words(&self, language: Language) -> String {
        match self {
            Self::Good => language.of("完好", "good").to_owned(),
            Self::Damaged => language.of("已损坏", "damaged").to_owned(),
            Self::Repaired => language.of("已损坏，已重新拉取", "damaged, pulled again").to_owned(),
            Self::Removed => language
                .of("已损坏，已移除（会议未在进行）", "damaged, removed: its meeting is not active")
                .to_owned(),
            Self::Lost(why) => language.of(
                format!("已损坏，已移除，无法重新拉取：{why}"),
                format!("damaged, removed, and could not be pulled: {why}"),
            ),
            Self::Unreadable(why) => {
                language.of(format!("无法读取：{why}"), format!("can't be read: {why}"))
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct CheckedPackage {
    pub id: String,
    pub title: String,
    pub size_bytes: u64,
    pub verdict: PackageVerdict,
}

#[derive(Clone, Debug)]
pub(super) struct VerifyReport {
    /// The node's address, or the storage folder.
    pub of: String,
    pub found: Vec<CheckedPackage>,
}

impl VerifyReport {
    pub(super) fn is_clean(&self) -> bool {
        self.found.iter().all(|found| found.verdict == PackageVerdict::Good)
    }

    pub(super) fn json(&self) -> Value {
        let packages = self.found.iter().map(|found| {
            json!({
                "id": found.id,
                "title": found.title,
                "size": found.size_bytes,
                "result": found.verdict.code(),
                "detail": found.verdict.detail(),
            })
        });
        let packages: Vec<_> = packages.collect();
        json!({"of": self.of, "clean": self.is_clean(), "packages": packages})
    }

    /// Formats rows of damaged packages, and a summary.
    pub(super) fn text(&self, language: Language) -> String {
        let bad: Vec<_> = self.found.iter().filter(|f| f.verdict != PackageVerdict::Good).collect();
        let mut text = String::new();
        if !bad.is_empty() {
            let headings = ["MEETING", "TITLE", "SIZE", "RESULT"];
            let mut table = Table::new(language.of(["会议", "标题", "大小", "结果"], headings));
            for found in &bad {
                table.add([
                    found.id.clone(),
                    clipped(&words::plain(&found.title), TITLE_COLUMNS),
                    words::format_bytes(found.size_bytes as f64),
                    words::plain(&found.verdict.words(language)),
                ]);
            }
            text = table.text();
        }
        let (all, bytes) = (self.found.len(), self.found.iter().map(|f| f.size_bytes).sum::<u64>());
        let packages = if all == 1 { "package" } else { "packages" };
        let (bytes, bad, of) = (words::format_bytes(bytes as f64), bad.len(), &self.of);
        text + &match bad {
            _ if all == 0 => {
                language.of(format!("{of}：没有会议包\n"), format!("{of}: there are no packages\n"))
            }
            0 => language.of(
                format!("{of}：{all} 个会议包（{bytes}）全部完好\n"),
                format!("{of}: {all} {packages} ({bytes}), all good\n"),
            ),
            _ => language.of(
                format!("{of}：{all} 个会议包（{bytes}）中有 {bad} 个不完好\n"),
                format!("{of}: {all} {packages} ({bytes}), {bad} not good\n"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_good_is_listed_and_counted() {
        let found = |id: &str, verdict| CheckedPackage {
            id: id.into(),
            title: "董事会".into(),
            size_bytes: 1000,
            verdict,
        };
        let good =
            VerifyReport { of: "/storage".into(), found: vec![found("a", PackageVerdict::Good)] };
        assert_eq!(good.text(Language::English), "/storage: 1 package (0.977 KiB), all good\n");
        assert!(good.is_clean());
        let none = VerifyReport { of: "/storage".into(), found: Vec::new() };
        assert_eq!(none.text(Language::Chinese), "/storage：没有会议包\n");
        let bad = VerifyReport {
            of: "/storage".into(),
            found: vec![
                found("a", PackageVerdict::Good),
                found("b", PackageVerdict::Repaired),
                found("c", PackageVerdict::Lost("no\nroute".into())),
            ],
        };
        assert_eq!(
            bad.text(Language::English),
            "MEETING  TITLE   SIZE       RESULT\n\
             b        董事会  0.977 KiB  damaged, pulled again\n\
             c        董事会  0.977 KiB  damaged, removed, and could not be pulled: no route\n\
             /storage: 3 packages (2.93 KiB), 2 not good\n"
        );
        assert!(!bad.is_clean());
        assert_eq!(bad.json()["packages"][2]["result"], "lost");
        assert!(bad.text(Language::Chinese).contains("3 个会议包（2.93 KiB）中有 2 个不完好"));
    }
}
