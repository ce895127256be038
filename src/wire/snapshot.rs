//! A state as readers get it: an object of small fields and of lists that may
//! have ten thousand items. Lists are kept as the JSON that is sent: made once,
//! compared as bytes, and never a tree of values.

use std::collections::HashMap;

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// Fields that differ each second by themselves; no news.
const CLOCKS: [&str; 2] = ["now", "uptime"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In their order; those of lists have no value here.
    fields: Map<String, Value>,
    lists: Vec<List>,
}

/// The items of one field, each with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    field: &'static str,
    /// One after the other, with commas between them.
    json: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    key: Box<str>,
    begins: usize,
    ends: usize,
}

impl List {
    pub fn new(field: &'static str) -> Self {
        Self { field, json: Vec::new(), items: Vec::new() }
    }

    pub fn add(&mut self, key: &str, item: &impl Serialize) {
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        let begins = self.json.len();
        write(&mut self.json, item);
        let ends = self.json.len();
        self.items.push(Item { key: key.into(), begins, ends });
    }

    fn item(&self, item: &Item) -> &[u8] {
        &self.json[item.begins..item.ends]
    }

    /// As `{"changed": [items], "removed": [keys]}`.
    fn difference(&self, before: Option<&Self>, told: &mut Vec<u8>) {
        let nothing = Self::new(self.field);
        let before = before.unwrap_or(&nothing);
        // Mostly the same items come in the same order: those need no table.
        let aligned = before.items.iter().zip(&self.items).take_while(|(b, n)| b.key == n.key);
        let aligned = aligned.count();
        let rest = &before.items[aligned..];
        let mut left: HashMap<&str, &Item> = rest.iter().map(|item| (&*item.key, item)).collect();

        told.extend(b"{\"changed\":[");
        let mut changed = Joined::default();
        for (at, item) in self.items.iter().enumerate() {
            let old = if at < aligned { Some(&before.items[at]) } else { left.remove(&*item.key) };
            if old.map(|old| before.item(old)) != Some(self.item(item)) {
                changed.next(told);
                told.extend(self.item(item));
            }
        }
        told.extend(b"],\"removed\":[");
        let mut removed = Joined::default();
        for item in rest.iter().filter(|item| left.contains_key(&*item.key)) {
            removed.next(told);
            write(told, &item.key);
        }
        told.extend(b"]}");
    }
}

impl Snapshot {
    /// `fields` is an object; where a list belongs it has a null under its name.
    pub fn new(fields: Value, lists: Vec<List>) -> Self {
        let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
        Self { fields, lists }
    }

    pub fn to_json(&self) -> Vec<u8> {
        let lists: usize = self.lists.iter().map(|list| list.json.len()).sum();
        let mut json = Vec::with_capacity(lists + 4096);
        let mut fields = Joined::default();
        json.push(b'{');
        for (field, value) in &self.fields {
            fields.next(&mut json);
            write(&mut json, field);
            json.push(b':');
            match self.list(field) {
                Some(list) => {
                    json.push(b'[');
                    json.extend(&list.json);
                    json.push(b']');
                }
                None => write(&mut json, value),
            }
        }
        json.push(b'}');
        json
    }

    fn list(&self, field: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.field == field)
    }

    /// What is to be told to who knows `before`, as JSON: `{"set": {field:
    /// value}, "lists": {field: {"changed": [items], "removed": [keys]}}}`.
    pub fn difference(&self, before: &Self) -> Option<Vec<u8>> {
        if before.fields.is_empty() {
            return None;
        }
        let (mut told, mut news) = (b"{\"set\":{".to_vec(), false);
        let mut set = Joined::default();
        let others = self.fields.iter().filter(|(field, _)| self.list(field).is_none());
        for (field, value) in
            others.filter(|(field, value)| before.fields.get(*field) != Some(value))
        {
            set.next(&mut told);
            write(&mut told, field);
            told.push(b':');
            write(&mut told, value);
            news |= !CLOCKS.contains(&&**field);
        }
        told.extend(b"},\"lists\":{");
        let mut lists = Joined::default();
        for list in &self.lists {
            let known = before.list(list.field);
            if known != Some(list) {
                lists.next(&mut told);
                write(&mut told, &list.field);
                told.push(b':');
                list.difference(known, &mut told);
                news = true;
            }
        }
        told.extend(b"}}");
        news.then_some(told)
    }
}

impl IntoResponse for Snapshot {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], Bytes::from(self.to_json())).into_response()
    }
}

/// Puts commas between.
#[derive(Default)]
struct Joined(bool);

impl Joined {
    fn next(&mut self, json: &mut Vec<u8>) {
        if std::mem::replace(&mut self.0, true) {
            json.push(b',');
        }
    }
}

/// What is shown is made of texts, figures and lists: JSON has a form for all
/// of it, and a vector takes any number of bytes.
fn write(json: &mut Vec<u8>, value: &impl Serialize) {
    let before = json.len();
    if serde_json::to_writer(&mut *json, value).is_err() {
        json.truncate(before);
        json.extend(b"null");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Items by key, each with a figure.
    fn snapshot(fields: Value, items: &[(&str, u8)]) -> Snapshot {
        let mut list = List::new("meetings");
        for (id, n) in items {
            list.add(id, &json!({"id": id, "n": n}));
        }
        Snapshot::new(fields, vec![list])
    }

    fn parsed(json: Vec<u8>) -> Value {
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn a_state_is_the_object_that_it_says_with_its_fields_in_their_order() {
        let snapshot =
            snapshot(json!({"b": "\"", "meetings": null, "a": [1]}), &[("x", 1), ("y", 2)]);
        let json = String::from_utf8(snapshot.to_json()).unwrap();
        assert_eq!(json, r#"{"b":"\"","meetings":[{"id":"x","n":1},{"id":"y","n":2}],"a":[1]}"#);
        assert_eq!(parsed(Snapshot::new(json!({}), vec![]).to_json()), json!({}));
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

    proptest! {
        /// Whatever comes, goes and changes: who takes in the differences has
        /// the same items.
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
