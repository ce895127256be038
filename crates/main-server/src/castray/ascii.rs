//! JSON in ASCII, as CastRay's WebSocket sends it.

use std::fmt::Write;

/// Escapes every character that is not ASCII. In JSON, only strings have some.
pub(super) fn escaped(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            // A text takes everything.
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_not_ascii_is_escaped_and_reads_as_before() {
        let json = serde_json::json!({"节点": "\u{1f680} \"a\" \n é"}).to_string();
        let ascii = escaped(&json);
        assert!(
            ascii.is_ascii() && ascii.contains(r"\u8282\u70b9") && ascii.contains(r"\ud83d\ude80")
        );
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&ascii), read(&json));
    }
}
