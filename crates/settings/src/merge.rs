//! Deep merging of configuration documents: keys that are not named stay.

use serde_json::{Map, Value};

/// Puts `patch` over `base`: objects merge key by key, anything else replaces.
/// The order of `base` stays; new keys come last.
pub fn merge(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, new) in patch {
        match (base.get_mut(key), new) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (Some(old), new) => *old = new.clone(),
            (None, new) => {
                base.insert(key.clone(), new.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from)
        ];
        let value = leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(mut base in object(), patch in object()) {
            merge(&mut base, &patch);
            let once = base.clone();
            merge(&mut base, &patch);
            prop_assert_eq!(once, base);
        }

        #[test]
        fn keys_that_are_not_named_stay_and_named_ones_win(base in object(), patch in object()) {
            let mut merged = base.clone();
            merge(&mut merged, &patch);
            for (key, value) in &base {
                if !patch.contains_key(key) {
                    prop_assert_eq!(&merged[key], value);
                }
            }
            for (key, value) in &patch {
                if !value.is_object() {
                    prop_assert_eq!(&merged[key], value);
                }
            }
        }

        #[test]
        fn an_empty_patch_changes_nothing(base in object()) {
            let mut merged = base.clone();
            merge(&mut merged, &Map::new());
            prop_assert_eq!(merged, base);
        }
    }

    #[test]
    fn order_stays_as_it_was() {
        let mut base = json!({"z": 1, "a": {"y": 1, "b": 2}}).as_object().cloned().unwrap();
        merge(&mut base, json!({"a": {"y": 3}, "n": 4, "z": 2}).as_object().unwrap());
        let text = serde_json::to_string(&base).unwrap();
        assert_eq!(text, r#"{"z":2,"a":{"y":3,"b":2},"n":4}"#);
    }
}
