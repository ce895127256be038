//! A state as readers get it: an object of small fields and of lists that may have ten
//! thousand items. It is the JSON that is sent, serialized once, with the range of each
//! field and item; two are compared as bytes.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
    ops::Range,
    sync::LazyLock,
};

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use foldhash::quality::RandomState;
use serde::Serialize;
use serde_json::Value;

/// Fields that differ each second by themselves; not a change.
const CLOCKS: [&str; 2] = ["now", "uptime"];

/// Random, so that nobody can make one item look like another.
static HASH_STATE: LazyLock<RandomState> = LazyLock::new(RandomState::default);

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    json: Bytes,
    fields: Vec<SnapshotField>,
}

#[derive(Clone, Debug)]
struct SnapshotField {
    name: String,
    value: Range<usize>,
    /// For lists that are compared item by item.
    items: Option<ItemIndex>,
}

/// The ranges of a list's items within it, and their keys one after the other.
#[derive(Clone, Debug, Default)]
struct ItemIndex {
    keys: String,
    items: Vec<ItemSpan>,
    /// A hash of what the whole list was made from.
    source: Option<u64>,
}

#[derive(Clone, Debug)]
struct ItemSpan {
    key: Range<usize>,
    value: Range<usize>,
    /// Of what the value was made from.
    hash: Option<u64>,
}

/// Collects the items of a list.
pub struct ItemWriter<'a> {
    json: &'a mut Vec<u8>,
    /// The place of the list.
    begins: usize,
    /// The list before.
    before: Option<WrittenItems<'a>>,
    commas: Commas,
    marks: ItemIndex,
}

/// The items of a list, and how far they were looked at.
struct WrittenItems<'a> {
    json: &'a [u8],
    index: &'a ItemIndex,
    next: usize,
}

/// A list: the field's name, and a function that adds its items.
pub type ListField<'a> = (&'static str, &'a dyn Fn(&mut ItemWriter<'_>));

impl ItemWriter<'_> {
    /// Reserves room for so many items of about so many bytes.
    pub fn expect(&mut self, count: usize, item_bytes: usize) {
        self.json.reserve(count * item_bytes);
        self.marks.items.reserve(count);
    }

    /// Adds all items that the list had before, if that was made from the same source. Else
    /// this is false, and they have to be added.
    pub fn repeat(&mut self, source: &impl Hash) -> bool {
        let source = Some(HASH_STATE.hash_one(source));
        let before = self.before.as_ref().filter(|before| before.index.source == source);
        if let Some(before) = before {
            self.json.extend(&before.json[1..before.json.len() - 1]);
            self.marks = before.index.clone();
            return true;
        }
        self.marks.source = source;
        false
    }

    /// Keys must be unique.
    pub fn add(&mut self, key: &str, item: &impl Serialize) {
        self.push(key, None, item);
    }

    /// Adds an item that hashes all that its JSON is made from: it is written only where the
    /// list before has another one of that key.
    pub fn add_hashed(&mut self, key: &str, item: &(impl Serialize + Hash)) {
        self.push(key, Some(HASH_STATE.hash_one(item)), item);
    }

    fn push(&mut self, key: &str, hash: Option<u64>, item: &impl Serialize) {
        self.commas.next(self.json);
        let (key_begins, begins) = (self.marks.keys.len(), self.json.len() - self.begins);
        self.marks.keys.push_str(key);
        let written = hash.and_then(|hash| self.before.as_mut()?.find(key, hash));
        match written {
            Some(written) => self.json.extend(written),
            None => write(self.json, item),
        }
        let key = key_begins..self.marks.keys.len();
        let value = begins..self.json.len() - self.begins;
        self.marks.items.push(ItemSpan { key, value, hash });
    }
}

impl<'a> WrittenItems<'a> {
    /// Mostly the same items come in the same order: of those that came in between or are
    /// gone, so many are looked over.
    const LOOKAHEAD: usize = 16;

    fn find(&mut self, key: &str, hash: u64) -> Option<&'a [u8]> {
        let ahead = self.index.items.iter().enumerate().skip(self.next).take(Self::LOOKAHEAD);
        let (at, item) = ahead.into_iter().find(|(_, item)| self.index.key(item) == key)?;
        self.next = at + 1;
        (item.hash == Some(hash)).then(|| &self.json[item.value.clone()])
    }
}

impl Snapshot {
    /// `fields` is an object, with null in the place of each list.
    pub fn new(fields: &Value, lists: &[ListField<'_>]) -> Self {
        Self::after(&Self::default(), fields, lists)
    }

    /// The same, with the items that are as they were in `before` copied from there.
    pub fn after(before: &Self, fields: &Value, lists: &[ListField<'_>]) -> Self {
        // A little more than before: growing by doubling would copy megabytes.
        let (mut json, mut marked) = (Vec::with_capacity(before.json.len() / 16 * 17), Vec::new());
        json.push(b'{');
        let mut commas = Commas::default();
        for (name, value) in fields.as_object().into_iter().flatten() {
            commas.next(&mut json);
            write(&mut json, name);
            json.push(b':');
            let begins = json.len();
            let list = lists.iter().find(|(list, _)| list == name);
            let items = list.map(|(_, fill)| listed(&mut json, before.items(name), fill));
            if items.is_none() {
                write(&mut json, value);
            }
            marked.push(SnapshotField { name: name.clone(), value: begins..json.len(), items });
        }
        json.push(b'}');
        Self { json: json.into(), fields: marked }
    }

    pub fn json(&self) -> &Bytes {
        &self.json
    }

    fn items(&self, name: &str) -> Option<WrittenItems<'_>> {
        let field = self.field(name)?;
        let (json, index) = (&self.json[field.value.clone()], field.items.as_ref()?);
        Some(WrittenItems { json, index, next: 0 })
    }

    fn field(&self, name: &str) -> Option<&SnapshotField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the changes since `before`, as JSON: `{"set": {field: value}, "lists":
    /// {field: {"changed": [items], "removed": [keys]}}}`.
    pub fn difference(&self, before: &Self) -> Option<Vec<u8>> {
        if before.fields.is_empty() {
            return None;
        }
        let (mut out, mut is_news) = (b"{\"set\":{".to_vec(), false);
        let mut set = Commas::default();
        for field in self.fields.iter().filter(|field| field.items.is_none()) {
            let value = &self.json[field.value.clone()];
            let known = before.field(&field.name);
            if known.map(|known| &before.json[known.value.clone()]) == Some(value) {
                continue;
            }
            is_news |= !CLOCKS.contains(&&*field.name);
            set.name(&field.name, &mut out);
            out.extend(value);
        }
        out.extend(b"},\"lists\":{");
        let mut lists = Commas::default();
        for field in &self.fields {
            let Some(now) = self.items(&field.name) else { continue };
            let nothing = ItemIndex::default();
            let none = WrittenItems { json: &[], index: &nothing, next: 0 };
            let (begins, commas) = (out.len(), lists.0);
            lists.name(&field.name, &mut out);
            if difference(&before.items(&field.name).unwrap_or(none), &now, &mut out) {
                is_news = true;
            } else {
                out.truncate(begins);
                lists.0 = commas;
            }
        }
        out.extend(b"}}");
        is_news.then_some(out)
    }
}

fn listed(
    json: &mut Vec<u8>,
    before: Option<WrittenItems<'_>>,
    fill: impl Fn(&mut ItemWriter<'_>),
) -> ItemIndex {
    let begins = json.len();
    json.push(b'[');
    let (commas, marks) = <(Commas, ItemIndex)>::default();
    let mut items = ItemWriter { json, begins, before, commas, marks };
    fill(&mut items);
    let ItemWriter { json, marks, .. } = items;
    json.push(b']');
    marks
}

impl ItemIndex {
    fn key(&self, item: &ItemSpan) -> &str {
        &self.keys[item.key.clone()]
    }

    /// The number of items at the beginning of both that have the same keys.
    fn count_aligned(&self, other: &Self) -> usize {
        let both = self.items.iter().zip(&other.items);
        if self.keys == other.keys && both.clone().all(|(one, two)| one.key == two.key) {
            return both.len();
        }
        both.take_while(|(one, two)| self.key(one) == other.key(two)).count()
    }
}

/// Writes `{"changed": [items], "removed": [keys]}`. False if nothing differs.
fn difference(before: &WrittenItems<'_>, now: &WrittenItems<'_>, out: &mut Vec<u8>) -> bool {
    let ((old, before), (new, now)) = ((before.json, before.index), (now.json, now.index));
    if before.source.is_some() && before.source == now.source {
        return false;
    }
    // Mostly the same items come in the same order: those need no table.
    let aligned = before.count_aligned(now);
    let rest = &before.items[aligned..];
    let mut left: HashMap<&str, &ItemSpan> =
        rest.iter().map(|item| (before.key(item), item)).collect();

    out.extend(b"{\"changed\":[");
    let (mut changed, mut removed) = <(Commas, Commas)>::default();
    for (at, item) in now.items.iter().enumerate() {
        let known = match at < aligned {
            true => before.items.get(at),
            false => left.remove(now.key(item)),
        };
        let value = &new[item.value.clone()];
        let is_same = known.is_some_and(|known| {
            // What is made from the same is the same, and mostly was copied.
            let has_same_source = known.hash.is_some() && known.hash == item.hash;
            has_same_source || &old[known.value.clone()] == value
        });
        if !is_same {
            changed.next(out);
            out.extend(value);
        }
    }
    out.extend(b"],\"removed\":[");
    for key in rest.iter().map(|item| before.key(item)).filter(|key| left.contains_key(key)) {
        removed.next(out);
        write(out, &key);
    }
    out.extend(b"]}");
    changed.0 || removed.0
}

impl IntoResponse for Snapshot {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.json).into_response()
    }
}

/// Writes commas between items.
#[derive(Default)]
struct Commas(bool);

impl Commas {
    fn next(&mut self, json: &mut Vec<u8>) {
        if std::mem::replace(&mut self.0, true) {
            json.push(b',');
        }
    }

    fn name(&mut self, name: &str, json: &mut Vec<u8>) {
        self.next(json);
        write(json, &name);
        json.push(b':');
    }
}

/// A state is made of texts, figures and lists: all of it serializes, and a vector takes
/// any number of bytes.
fn write(json: &mut Vec<u8>, value: &impl Serialize) {
    let before = json.len();
    if serde_json::to_writer(&mut *json, value).is_err() {
        json.truncate(before);
        json.extend(b"null");
    }
}

#[cfg(test)]
mod tests;
