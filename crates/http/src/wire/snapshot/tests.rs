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
    let snapshot = snapshot(json!({"b": "\"", "meetings": null, "a": [1]}), &[("x", 1), ("y", 2)]);
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
