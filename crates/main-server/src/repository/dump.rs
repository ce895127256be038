//! All documents and logs of a state in one file, independent of the database: a line that
//! says how many there are and what their digest is, and a line for each.

use edge_mirror_protocol::package::Sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256 as Hasher};

use super::{
    document::{DocumentKind, SavedDocument},
    log,
};

/// The only version of the file so far.
const DUMP_VERSION: u32 = 1;

/// The documents of a state that another database is to have, too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StateDump {
    lines: Vec<DumpedDocument>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct DumpedDocument {
    kind: String,
    id: String,
    /// The time of a log's entry, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    document: Value,
}

#[derive(Deserialize, Serialize)]
struct DumpHeader {
    edge_mirror_state: u32,
    documents: usize,
    sha256: String,
}

impl StateDump {
    /// Takes what is a database's own out.
    pub(super) fn new(documents: &[SavedDocument]) -> Result<Self, String> {
        let own = [
            DocumentKind::Access,
            DocumentKind::Generation,
            DocumentKind::Import,
            DocumentKind::Moved,
        ];
        let own = own.map(DocumentKind::name);
        let dumped = documents.iter().filter(|found| !own.contains(&&*found.kind));
        let lines = dumped.map(|found| {
            let document = serde_json::from_str(&found.json).map_err(|error| {
                format!("document {} '{}' is malformed: {error}", found.kind, found.id)
            })?;
            let at = log::topic_of(&found.kind).map(|_| found.revision);
            Ok(DumpedDocument { kind: found.kind.clone(), id: found.id.clone(), at, document })
        });
        let mut lines = lines.collect::<Result<Vec<_>, String>>()?;
        lines.sort_by(|one, other| (&one.kind, &one.id).cmp(&(&other.kind, &other.id)));
        Ok(Self { lines })
    }

    pub(super) fn documents(&self) -> Vec<SavedDocument> {
        let saved = self.lines.iter().map(|line| SavedDocument {
            kind: line.kind.clone(),
            id: line.id.clone(),
            revision: line.at.unwrap_or(1),
            json: line.document.to_string(),
        });
        saved.collect()
    }

    /// True if there is something in it that nobody could write again by heart.
    pub(super) fn has_content(&self) -> bool {
        let kept = [
            DocumentKind::Meeting,
            DocumentKind::Node,
            DocumentKind::RefusedNode,
            DocumentKind::Routing,
            DocumentKind::Groups,
            DocumentKind::Dispatch,
            DocumentKind::RemoteTask,
        ];
        let kept = kept.map(DocumentKind::name);
        self.lines.iter().any(|line| kept.contains(&&*line.kind))
    }

    /// The number of meetings.
    pub(super) fn meetings(&self) -> usize {
        self.lines.iter().filter(|line| line.kind == DocumentKind::Meeting.name()).count()
    }

    pub(super) fn to_text(&self) -> String {
        let lines: String = self.lines.iter().map(to_line).collect();
        let header = DumpHeader {
            edge_mirror_state: DUMP_VERSION,
            documents: self.lines.len(),
            sha256: digest(&lines),
        };
        to_line(&header) + &lines
    }

    /// Reads a file that is whole and unchanged.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let header: DumpHeader =
            serde_json::from_str(first).map_err(|_| "it is no backup of a state".to_owned())?;
        if header.edge_mirror_state != DUMP_VERSION {
            let found = header.edge_mirror_state;
            return Err(format!("its version is {found}, this program knows {DUMP_VERSION}"));
        }
        if header.sha256 != digest(rest) {
            return Err("it was cut off or changed: its digest is another one".to_owned());
        }
        let lines = rest.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
        let lines: Vec<DumpedDocument> = lines.map_err(|error| error.to_string())?;
        match lines.len() == header.documents {
            true => Ok(Self { lines }),
            false => Err(format!("it has {} documents, not {}", lines.len(), header.documents)),
        }
    }
}

fn to_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("documents have text keys alone") + "\n"
}

fn digest(text: &str) -> String {
    Sha256::new(Hasher::digest(text).into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump() -> StateDump {
        let document = |kind: &str, id: &str, json: &str| SavedDocument {
            kind: kind.into(),
            id: id.into(),
            revision: 7,
            json: json.into(),
        };
        let documents = [
            document("token", "", r#"{"value":"3f1a"}"#),
            document("holder", "", "{}"),
            document("import", "", "{}"),
            document("moved", "", "{}"),
            document("meeting", "b\n", r#"{"title":"题目\n","created_at":1700000000.123}"#),
            document("of a later version", "", "[1,2]"),
            document("log audit", "12", r#"{"action":"x"}"#),
        ];
        StateDump::new(&documents).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (dump, text) = (dump(), dump().to_text());
        assert_eq!(StateDump::parse(&text), Ok(dump.clone()));
        assert_eq!(StateDump::new(&dump.documents()), Ok(dump));
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains(r#""kind":"log audit","id":"12","at":7,"#), "{text}");
    }

    #[test]
    fn rules_are_kept_before_a_restore_and_a_token_alone_is_not() {
        let has_content = |kind: &str| {
            let found =
                SavedDocument { kind: kind.into(), id: "".into(), revision: 1, json: "{}".into() };
            StateDump::new(&[found]).unwrap().has_content()
        };
        assert!(has_content("routing") && has_content("groups") && has_content("meeting"));
        assert!(!has_content("token") && !has_content("fleet"));
    }

    #[test]
    fn a_file_that_was_cut_off_or_changed_is_refused() {
        let text = dump().to_text();
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(StateDump::parse(&text[..end]).is_err(), "{end}");
        }
        assert!(StateDump::parse(&text.replace("3f1a", "4f1a")).is_err());
        let newer = text.replacen(r#""edge_mirror_state":1"#, r#""edge_mirror_state":2"#, 1);
        assert!(StateDump::parse(&newer).unwrap_err().contains("version is 2"));
    }
}
