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
mod tests {
    use std::hash::Hasher;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Hash, Serialize)]
    struct Figure<'a> {
        id: &'a str,
        n: u8,
    }

    /// Items by key, each with a figure; some are compared by their hash.
    fn snapshot(fields: Value, items: &[(&str, u8)]) -> Snapshot {
        let fill = |list: &mut ItemWriter<'_>| {
            items.iter().for_each(|(id, n)| match n {
                0 => list.add(id, &Figure { id, n: 0 }),
                n => list.add_hashed(id, &Figure { id, n: *n }),
            });
        };
        Snapshot::new(&fields, &[("meetings", &fill)])
    }

    fn parsed(json: Vec<u8>) -> Value {
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn a_state_is_the_object_that_it_says_with_its_fields_in_their_order() {
        let snapshot =
            snapshot(json!({"b": "\"", "meetings": null, "a": [1]}), &[("x", 1), ("y", 2)]);
        assert_eq!(
            snapshot.json(),
            r#"{"b":"\"","meetings":[{"id":"x","n":1},{"id":"y","n":2}],"a":[1]}"#
        );
        assert_eq!(Snapshot::new(&json!({}), &[]).json(), "{}");
    }

    #[test]
    fn only_what_differs_is_told() {
        let fields = |now, running| json!({"now": now, "running": running, "meetings": null});
        let before = snapshot(fields(1, true), &[("a", 0), ("b", 1)]);
        let now = snapshot(fields(2, false), &[("b", 2), ("c", 0)]);
        let told = json!({
            "set": {"now": 2, "running": false},
            "lists": {"meetings": {
                "changed": [{"id": "b", "n": 2}, {"id": "c", "n": 0}], "removed": ["a"],
            }},
        });
        assert_eq!(now.difference(&before).map(parsed), Some(told));
        let later = snapshot(fields(9, true), &[("a", 0), ("b", 1)]);
        assert_eq!(later.difference(&before), None, "time alone is no news");
        assert_eq!(later.difference(&Snapshot::default()), None, "there is nothing to build upon");
    }

    /// Writes down that it is written.
    struct Observed<'a>(u8, &'a std::cell::RefCell<Vec<u8>>);

    impl Hash for Observed<'_> {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            self.0.hash(hasher);
        }
    }

    impl Serialize for Observed<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.1.borrow_mut().push(self.0);
            serializer.serialize_u8(self.0)
        }
    }

    #[test]
    fn only_items_that_differ_are_written() {
        let written = std::cell::RefCell::default();
        let after = |before: &Snapshot, items: &[(&str, u8)]| {
            let fill = |list: &mut ItemWriter<'_>| {
                items.iter().for_each(|(id, n)| list.add_hashed(id, &Observed(*n, &written)));
            };
            let made = Snapshot::after(before, &json!({"nodes": null}), &[("nodes", &fill)]);
            (made, written.take())
        };
        let (first, wrote) = after(&Snapshot::default(), &[("a", 1), ("b", 2), ("d", 4)]);
        assert_eq!(wrote, [1, 2, 4]);
        let (second, wrote) = after(&first, &[("a", 1), ("b", 9), ("c", 3), ("d", 4)]);
        assert_eq!(wrote, [9, 3]);
        let (third, wrote) = after(&second, &[("c", 3), ("d", 4)]);
        assert_eq!((wrote, third.json()), (vec![], &Bytes::from(r#"{"nodes":[3,4]}"#)));
    }

    #[test]
    fn a_list_that_is_made_from_the_same_is_copied_as_a_whole() {
        let written = std::cell::RefCell::default();
        let after = |before: &Snapshot, source: u8, items: &[(&str, u8)]| {
            let fill = |list: &mut ItemWriter<'_>| {
                if !list.repeat(&source) {
                    items.iter().for_each(|(id, n)| list.add(id, &Observed(*n, &written)));
                }
            };
            let fields = json!({"a": "longer".repeat(source.into()), "nodes": null});
            let made = Snapshot::after(before, &fields, &[("nodes", &fill)]);
            (made, written.take())
        };
        let (first, wrote) = after(&Snapshot::default(), 1, &[("a", 1), ("b", 2)]);
        assert_eq!(wrote, [1, 2]);
        let (second, wrote) = after(&first, 1, &[("c", 3)]);
        assert_eq!((wrote, second.json()), (vec![], first.json()));
        assert_eq!(second.difference(&first), None);
        let (third, wrote) = after(&second, 2, &[("a", 1), ("c", 3)]);
        assert_eq!(wrote, [1, 3]);
        let told = third.difference(&second).map(parsed).unwrap();
        assert_eq!(told["lists"], json!({"nodes": {"changed": [3], "removed": ["b"]}}));
        let (fourth, _) = after(&third, 2, &[]);
        assert_eq!(fourth.json(), r#"{"a":"longerlonger","nodes":[1,3]}"#);
    }

    proptest! {
        /// Copied or not, it is the same text.
        #[test]
        fn a_snapshot_after_another_is_like_a_new_one(
            before in prop::collection::vec(("[a-e]", 0_u8..3), 0..6),
            now in prop::collection::vec(("[a-e]", 0_u8..3), 0..6),
        ) {
            let of = |before: &Snapshot, items: &[(String, u8)]| {
                let fill = |list: &mut ItemWriter<'_>| {
                    items.iter().for_each(|(id, n)| list.add_hashed(id, n));
                };
                Snapshot::after(before, &json!({"meetings": null, "z": 1}), &[("meetings", &fill)])
            };
            let before = of(&Snapshot::default(), &before);
            let (after, new) = (of(&before, &now), of(&Snapshot::default(), &now));
            prop_assert_eq!(after.json(), new.json());
        }

        /// Whatever is added, changed or removed: a reader that applies the differences
        /// has the same items.
        #[test]
        fn a_page_that_follows_has_what_there_is(
            before in prop::collection::btree_map("[a-e]", 0_u8..3, 0..5),
            now in prop::collection::btree_map("[a-e]", 0_u8..3, 0..5),
            turned in any::<bool>(),
        ) {
            let items = |map: &std::collections::BTreeMap<String, u8>| -> Vec<(String, u8)> {
                map.iter().map(|(id, n)| (id.clone(), *n)).collect()
            };
            let of = |items: &[(String, u8)]| {
                let items: Vec<_> = items.iter().map(|(id, n)| (&**id, *n)).collect();
                snapshot(json!({"meetings": null}), &items)
            };
            let mut wanted = items(&now);
            if turned {
                wanted.reverse();
            }
            let mut page = before.clone();
            if let Some(told) = of(&wanted).difference(&of(&items(&before))) {
                let told = parsed(told);
                for id in told["lists"]["meetings"]["removed"].as_array().unwrap() {
                    prop_assert!(page.remove(id.as_str().unwrap()).is_some());
                }
                for item in told["lists"]["meetings"]["changed"].as_array().unwrap() {
                    let id = item["id"].as_str().unwrap().to_owned();
                    let n = item["n"].as_u64().unwrap() as u8;
                    prop_assert_ne!(page.insert(id, n), Some(n), "told without need");
                }
            }
            prop_assert_eq!(page, now);
        }
    }
}
