//! A TOML table, read key by key. Every mistake is noted with its key and line, and reading
//! goes on, so that an operator sees all of them at once.

use std::cell::RefCell;

use toml::{Spanned, de::DeTable, de::DeValue};

use super::DeclarationFault;
use crate::BilingualText;

/// Names that a wrong one is compared with must be at least so similar.
const MAX_EDITS: usize = 3;

/// The faults of a file, and its text to find lines in.
#[derive(Debug)]
pub(super) struct FaultList<'t> {
    text: &'t str,
    faults: RefCell<Vec<DeclarationFault>>,
}

impl<'t> FaultList<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, faults: RefCell::default() }
    }

    /// Notes what is wrong at a place in the text.
    pub(super) fn note(&self, key: &str, at: Option<usize>, wording: BilingualText) {
        let line = at.map(|at| line_of(self.text, at));
        let key = Some(key.to_owned()).filter(|key| !key.is_empty());
        self.faults.borrow_mut().push(DeclarationFault { key, line, wording });
    }

    pub(super) fn into_faults(self) -> Vec<DeclarationFault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults
    }
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|b| **b == b'\n').count()
}

/// A table of the file, and the keys that were asked for.
pub(super) struct TableReader<'t, 'f> {
    faults: &'f FaultList<'t>,
    table: &'f DeTable<'t>,
    path: String,
    /// Where the table begins; of the whole file, none.
    at: Option<usize>,
    known: RefCell<Vec<&'static str>>,
}

type TomlValue<'t> = Spanned<DeValue<'t>>;

impl<'t, 'f> TableReader<'t, 'f> {
    pub(super) fn new(faults: &'f FaultList<'t>, table: &'f DeTable<'t>) -> Self {
        Self { faults, table, path: String::new(), at: None, known: RefCell::default() }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes that a key's value is wrong, or, where it has none, the table.
    pub(super) fn wrong(&self, key: &str, zh: impl Into<String>, en: impl Into<String>) {
        let at = self.table.get(key).map(|value| value.span().start).or(self.at);
        self.faults.note(&self.path_of(key), at, BilingualText::new(zh, en));
    }

    pub(super) fn value(&self, key: &'static str) -> Option<&'f TomlValue<'t>> {
        self.known.borrow_mut().push(key);
        self.table.get(key)
    }

    pub(super) fn string(&self, key: &'static str) -> Option<&'f str> {
        let text = self.value(key)?.get_ref().as_str();
        if text.is_none() {
            self.wrong(key, "应为字符串，用引号括起来", "must be a string, in quotes");
        }
        text
    }

    /// A text without control characters, of at most so many characters.
    pub(super) fn line(&self, key: &'static str, max_chars: usize) -> Option<&'f str> {
        let text = self.string(key)?;
        let valid =
            !text.contains(char::is_control) && (1..=max_chars).contains(&text.chars().count());
        if !valid {
            self.wrong(
                key,
                format!("应为 1 到 {max_chars} 个字符，且不含控制字符"),
                format!("must be 1 to {max_chars} characters without control characters"),
            );
        }
        valid.then_some(text)
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?.get_ref().as_bool();
        if value.is_none() {
            self.wrong(key, "应为 true 或 false", "must be true or false");
        }
        value
    }

    pub(super) fn number(&self, key: &'static str) -> Option<f64> {
        let value = self.value(key)?.get_ref();
        let number = value.as_float().map(|float| float.as_str().to_owned());
        let number = number.and_then(|text| text.replace('_', "").parse().ok());
        let number = number.or_else(|| integer_of(value).map(|whole| whole as f64));
        let number = number.filter(|number: &f64| number.is_finite());
        if number.is_none() {
            self.wrong(key, "应为数字", "must be a number");
        }
        number
    }

    pub(super) fn integer(&self, key: &'static str) -> Option<i64> {
        let number = integer_of(self.value(key)?.get_ref());
        if number.is_none() {
            self.wrong(key, "应为整数", "must be a whole number");
        }
        number
    }

    /// A number of units, or a text with a unit that `parse` understands.
    pub(super) fn amount(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Option<u64>,
        range: std::ops::RangeInclusive<u64>,
        example: &str,
    ) -> Option<u64> {
        let value = self.value(key)?.get_ref();
        let amount = match value.as_str() {
            Some(text) => parse(text),
            None => integer_of(value).and_then(|whole| u64::try_from(whole).ok()),
        };
        let amount = amount.filter(|amount| range.contains(amount));
        if amount.is_none() {
            let (least, most) = (range.start(), range.end());
            self.wrong(
                key,
                format!("应在 {least} 到 {most} 之间，例如 {example}"),
                format!("must be from {least} to {most}, such as {example}"),
            );
        }
        amount
    }

    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<&'f str>> {
        let array = self.value(key)?.get_ref().as_array();
        let texts = array.and_then(|array| {
            array.iter().map(|value| value.get_ref().as_str()).collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.wrong(key, "应为字符串的列表", "must be a list of strings");
        }
        texts
    }

    pub(super) fn table(&self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        self.reader_of(key, value)
    }

    /// All entries of a table whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'f str, &'f TomlValue<'t>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value))
    }

    /// The reader of an entry that has to be a table.
    pub(super) fn reader_of(&self, key: &str, value: &'f TomlValue<'t>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, "应为表", "must be a table");
            return None;
        };
        let (at, path) = (Some(value.span().start), self.path_of(key));
        Some(Self { faults: self.faults, table, path, at, known: RefCell::default() })
    }

    /// Notes keys that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let path = match self.path.is_empty() {
                true => name.to_owned(),
                false => format!("{}.{name}", self.path),
            };
            let near = known.iter().min_by_key(|other| strsim::levenshtein(name, other));
            let near = near.filter(|other| strsim::levenshtein(name, other) <= MAX_EDITS);
            let wording = match near {
                Some(near) => BilingualText::new(
                    format!("没有这一项；是否想写 {near}？"),
                    format!("no such key; did you mean {near}?"),
                ),
                None => BilingualText::new(
                    format!("没有这一项；可用的有 {}", known.join("、")),
                    format!("no such key; there are {}", known.join(", ")),
                ),
            };
            self.faults.note(&path, Some(key.span().start), wording);
        }
    }
}

pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}
