//! Lists of meetings in all the shapes that main servers send. They are read
//! entry by entry, and only the fields of interest are kept: as a tree of JSON
//! values, an answer takes forty times its length in memory.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{ActiveMeeting, UnservedMeeting, default_title};
use crate::package::PackageId;

/// Most meetings that a node takes in: far more than any main server runs at a
/// time, and few enough for what is known of each to fit into a small machine.
pub const MAX_MEETINGS: usize = 10_000;
/// Most unreadable entries that are shown; more of them say no more.
const MAX_SHOWN: usize = 10;
const MAX_SHOWN_CHARS: usize = 80;
/// Most unserved meetings kept: the status page names no more.
const MAX_UNSERVED: usize = 100;
/// Titles go into logs, heartbeats and pages; none needs to be longer.
const MAX_TITLE_CHARS: usize = 300;

/// Value of a field. Lists and objects are not kept: nested in each other, they
/// would take twenty times their length.
#[derive(Debug, Default)]
pub(super) enum Scalar {
    #[default]
    Missing,
    Null,
    /// Main servers send ids and tokens as strings or as whole numbers.
    Text(String),
    Other(String),
}

/// An entry of a list, with the fields that are of interest.
#[derive(Debug)]
pub(super) enum ListItem {
    Scalar(Scalar),
    Fields(Box<ItemFields>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ItemFields {
    id: Scalar,
    title: Scalar,
    time: Scalar,
    sha256: Scalar,
    size: Scalar,
    package_url: Scalar,
    error: Scalar,
}

/// A meeting, and its `package_url` where it has that field, even if empty.
#[derive(Debug)]
pub(super) struct ListedMeeting {
    pub meeting: ActiveMeeting,
    pub time: Option<String>,
    pub path: Option<Option<String>>,
}

#[derive(Debug, Default)]
pub(super) struct MeetingList {
    /// True if the answer has such a list.
    pub(crate) is_told: bool,
    pub meetings: Vec<ListedMeeting>,
    pub unreadable: Vec<String>,
    /// Meetings whose ids can't be used.
    pub unserved: Vec<UnservedMeeting>,
    pub left_out: usize,
    entries: usize,
    seen: HashSet<PackageId>,
}

impl Scalar {
    pub(super) fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn is_something(&self) -> bool {
        !matches!(self, Self::Missing | Self::Null)
    }

    fn shown(&self) -> String {
        let text = match self {
            Self::Missing | Self::Null => "null",
            Self::Text(text) | Self::Other(text) => text,
        };
        text.chars().take(MAX_SHOWN_CHARS).collect()
    }
}

impl ItemFields {
    /// True if it has any of the fields that main servers give a meeting.
    fn describe_meeting(&self) -> bool {
        let fields = [&self.id, &self.title, &self.time, &self.sha256, &self.package_url];
        fields.iter().any(|field| matches!(field, Scalar::Text(_) | Scalar::Null))
    }
}

impl Default for ListItem {
    fn default() -> Self {
        Self::Scalar(Scalar::Missing)
    }
}

impl ListItem {
    fn into_scalar(self) -> Scalar {
        match self {
            Self::Scalar(scalar) => scalar,
            Self::Fields(_) => Scalar::Other("an object".to_owned()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.shown(),
            Self::Fields(fields) => format!("{{id: {}}}", fields.id.shown()),
        }
    }
}

impl MeetingList {
    pub(super) fn add(&mut self, key: Option<String>, item: ListItem) {
        self.entries += 1;
        let shown = item.shown();
        // An object under a key may be something else: an error, or a page of a list. If it
        // does not describe a meeting, the list counts as incomplete.
        let is_described = matches!(&item, ListItem::Fields(fields) if fields.describe_meeting());
        if let Some(key) = key.as_ref().filter(|_| !is_described) {
            self.note_unreadable(format!("{key}: {shown}"));
            if matches!(item, ListItem::Scalar(Scalar::Other(_))) {
                return;
            }
        }
        let (fields, plain) = match item {
            ListItem::Fields(fields) => (*fields, None),
            ListItem::Scalar(plain) => (ItemFields::default(), plain.text()),
        };
        // With a key, a plain value is the title.
        let (id, title) = match (key, plain) {
            (Some(key), title) => (Some(key), title),
            (None, id) => (id, None),
        };
        let id = fields.id.text().or(id).filter(|id| !id.is_empty());
        let Some(id) = id.filter(|_| !fields.error.is_something()) else {
            return self.note_unreadable(shown);
        };
        let title = fields.title.text().or(title);
        let Ok(id) = id.parse::<PackageId>() else {
            // With a title it is a meeting, and the list stays complete.
            if title.is_none() {
                self.note_unreadable(shown);
            }
            if self.unserved.len() < MAX_UNSERVED {
                let (id, title) = (shortened(id), title.map(shortened));
                self.unserved.push(UnservedMeeting { id, title });
            }
            return;
        };
        if !self.seen.insert(id.clone()) {
            return;
        }
        let title = title.map_or_else(|| default_title(&id), shortened);
        let time = fields.time.text().map(shortened);
        let sha256 = fields.sha256.text().and_then(|hex| hex.parse().ok());
        // Without the digest it may be any version's.
        let size = fields.size.text().filter(|_| sha256.is_some());
        let size_bytes = size.and_then(|size| size.parse().ok());
        let path = match fields.package_url {
            Scalar::Missing => None,
            url => Some(url.text().filter(|path| !path.is_empty())),
        };
        self.meetings.push(ListedMeeting {
            meeting: ActiveMeeting { id, title, sha256, size_bytes },
            time,
            path,
        });
    }

    fn note_unreadable(&mut self, shown: String) {
        if self.unreadable.len() < MAX_SHOWN {
            self.unreadable.push(shown);
        }
    }

    /// Adds one meeting by its fields, or several by their ids.
    fn add_object(&mut self, entries: Vec<(String, ListItem)>) {
        if entries.iter().all(|(key, _)| key != "id") {
            return entries.into_iter().for_each(|(key, item)| self.add(Some(key), item));
        }
        let mut fields = ItemFields::default();
        for (key, item) in entries {
            let item = item.into_scalar();
            match &*key {
                "id" => fields.id = item,
                "title" => fields.title = item,
                "time" => fields.time = item,
                "sha256" => fields.sha256 = item,
                "size" => fields.size = item,
                "package_url" => fields.package_url = item,
                "error" => fields.error = item,
                _ => {}
            }
        }
        self.add(None, ListItem::Fields(Box::new(fields)));
    }
}

fn shortened(title: String) -> String {
    match title.char_indices().nth(MAX_TITLE_CHARS) {
        Some((end, _)) => format!("{}…", &title[..end]),
        None => title,
    }
}

impl<'de> Deserialize<'de> for MeetingList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyList)
    }
}

struct AnyList;

impl<'de> Visitor<'de> for AnyList {
    type Value = MeetingList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of meetings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<MeetingList, A::Error> {
        let mut list = MeetingList { is_told: true, ..MeetingList::default() };
        while list.entries < MAX_MEETINGS {
            let Some(item) = from.next_element()? else { return Ok(list) };
            list.add(None, item);
        }
        while from.next_element::<IgnoredAny>()?.is_some() {
            list.left_out += 1;
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<MeetingList, A::Error> {
        let mut list = MeetingList { is_told: true, ..MeetingList::default() };
        let mut entries = Vec::new();
        while let Some(key) = from.next_key::<String>()? {
            if entries.len() < MAX_MEETINGS {
                entries.push((key, from.next_value()?));
            } else {
                from.next_value::<IgnoredAny>()?;
                list.left_out += 1;
            }
        }
        list.add_object(entries);
        Ok(list)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyScalar)
    }
}

impl<'de> Deserialize<'de> for ListItem {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyItem)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other(number.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object".to_owned()))
    }
}

struct AnyItem;

impl<'de> Visitor<'de> for AnyItem {
    type Value = ListItem;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<ListItem, E> {
        AnyScalar.visit_unit().map(ListItem::Scalar)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ListItem, E> {
        AnyScalar.visit_str(text).map(ListItem::Scalar)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<ListItem, E> {
        AnyScalar.visit_u64(number).map(ListItem::Scalar)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<ListItem, E> {
        AnyScalar.visit_i64(number).map(ListItem::Scalar)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ListItem, E> {
        AnyScalar.visit_f64(number).map(ListItem::Scalar)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<ListItem, E> {
        AnyScalar.visit_bool(value).map(ListItem::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ListItem, A::Error> {
        AnyScalar.visit_seq(list).map(ListItem::Scalar)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListItem, A::Error> {
        ItemFields::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(ListItem::Fields)
    }
}
