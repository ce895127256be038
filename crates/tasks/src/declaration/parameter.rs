//! Parameters of a type: their kinds, and how one is read from its table.

use edge_mirror_base::quantity;
use regex_lite::Regex;
use serde_json::{Value, json};

use super::{TaskFolder, reader::TableReader};

/// Characters of a text at most, and where a declaration does not say otherwise.
const MAX_CHARS: u64 = 65_536;
const DEFAULT_CHARS: u64 = 256;

#[derive(Clone, Debug)]
pub struct TypeParameter {
    pub name: String,
    pub title: String,
    pub kind: ValueKind,
    pub required: bool,
    /// Used where a caller names none.
    pub default: Option<Value>,
    /// A value may begin an element of the command line with a hyphen, as options do.
    pub leading_hyphen: bool,
}

#[derive(Clone, Debug)]
pub enum ValueKind {
    /// Letters, digits, spaces and `. _ - : @ / + , = %`, or what the pattern allows.
    String {
        pattern: Option<Regex>,
        max_chars: usize,
    },
    /// Any characters but control characters.
    Text {
        max_chars: usize,
    },
    Choice(Vec<String>),
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// With an option, that stands for true, and false leaves the element out.
    Boolean {
        option: Option<String>,
    },
    /// Below a declared folder.
    Path {
        folder: String,
    },
    /// The id of a package.
    Package,
    /// An address of the fleet: a main server's or another node's.
    FleetUrl,
}

impl ValueKind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::String { .. } => "string",
            Self::Text { .. } => "text",
            Self::Choice(_) => "choice",
            Self::Integer { .. } => "integer",
            Self::Number { .. } => "number",
            Self::Boolean { .. } => "boolean",
            Self::Path { .. } => "path",
            Self::Package => "package",
            Self::FleetUrl => "fleet-url",
        }
    }
}

const KINDS: &str = "string, text, choice, integer, number, boolean, path, package, fleet-url";

/// Reads a parameter; what is wrong is noted.
pub(super) fn read(
    name: &str,
    table: TableReader<'_, '_>,
    folders: &[TaskFolder],
) -> Option<TypeParameter> {
    let title = table.line("title", 200).unwrap_or(name).to_owned();
    let kind = kind(&table, folders);
    let default = table.value("default").and_then(|_| default(&table));
    let required = table.boolean("required").unwrap_or(default.is_none());
    if required && default.is_some() {
        table.wrong(
            "required",
            "有默认值的参数不是必填的；请去掉其中一项",
            "a parameter with a default is not required; remove one of the two",
        );
    }
    let leading_hyphen = table.boolean("leading_hyphen").unwrap_or(false);
    let parameter = kind.map(|kind| TypeParameter {
        name: name.to_owned(),
        title,
        kind,
        required,
        default,
        leading_hyphen,
    });
    if let Some(parameter) = &parameter
        && let Some(default) = &parameter.default
        && let Err(fault) = crate::arguments::check_value(parameter, default)
    {
        table.wrong("default", fault.zh, fault.en);
    }
    table.finish();
    parameter
}

fn kind(table: &TableReader<'_, '_>, folders: &[TaskFolder]) -> Option<ValueKind> {
    let Some(kind) = table.string("kind") else {
        if table.value("kind").is_none() {
            table.wrong(
                "kind",
                format!("缺少；可用的有 {KINDS}"),
                format!("missing; there are {KINDS}"),
            );
        }
        return None;
    };
    match kind {
        "string" => {
            let pattern = table.string("pattern").and_then(|text| pattern(table, text));
            Some(ValueKind::String { pattern, max_chars: max_chars(table) })
        }
        "text" => Some(ValueKind::Text { max_chars: max_chars(table) }),
        "choice" => {
            let values = table.strings("values").filter(|values| !values.is_empty());
            if values.is_none() {
                table.wrong("values", "请列出可选的值", "list the allowed values");
            }
            Some(ValueKind::Choice(values?.into_iter().map(str::to_owned).collect()))
        }
        "integer" => {
            let (min, max) = (table.integer("min"), table.integer("max"));
            let (min, max) = (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX));
            check_order(table, min <= max);
            Some(ValueKind::Integer { min, max })
        }
        "number" => {
            let (min, max) = (table.number("min"), table.number("max"));
            let (min, max) = (min.unwrap_or(f64::MIN), max.unwrap_or(f64::MAX));
            check_order(table, min <= max);
            Some(ValueKind::Number { min, max })
        }
        "boolean" => {
            let option = table.line("option", 200).map(str::to_owned);
            Some(ValueKind::Boolean { option })
        }
        "path" => folder(table, folders).map(|folder| ValueKind::Path { folder }),
        "package" => Some(ValueKind::Package),
        "fleet-url" => Some(ValueKind::FleetUrl),
        other => {
            table.wrong(
                "kind",
                format!("没有 {other} 这种类型；可用的有 {KINDS}"),
                format!("there is no kind {other}; there are {KINDS}"),
            );
            None
        }
    }
}

fn max_chars(table: &TableReader<'_, '_>) -> usize {
    let most = table.amount("max_length", quantity::parse_size, 1..=MAX_CHARS, "256");
    usize::try_from(most.unwrap_or(DEFAULT_CHARS)).unwrap_or(usize::MAX)
}

/// The whole value has to match.
fn pattern(table: &TableReader<'_, '_>, text: &str) -> Option<Regex> {
    match Regex::new(&format!("^(?:{text})$")) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            table.wrong(
                "pattern",
                format!("不是有效的正则表达式：{error}"),
                format!("not a valid regular expression: {error}"),
            );
            None
        }
    }
}

fn check_order(table: &TableReader<'_, '_>, is_ordered: bool) {
    if !is_ordered {
        table.wrong("max", "不能小于 min", "must not be less than min");
    }
}

fn folder(table: &TableReader<'_, '_>, folders: &[TaskFolder]) -> Option<String> {
    let name = table.string("folder");
    let known = name.filter(|name| folders.iter().any(|folder| folder.name == **name));
    if known.is_none() {
        let names: Vec<&str> = folders.iter().map(|folder| folder.name.as_str()).collect();
        let names = names.join(", ");
        table.wrong(
            "folder",
            format!("应为 [folders] 中的一个名称（{names}）"),
            format!("must be the name of one of [folders] ({names})"),
        );
    }
    known.map(str::to_owned)
}

fn default(table: &TableReader<'_, '_>) -> Option<Value> {
    let value = table.value("default")?.get_ref();
    let text = value.as_str().map(Value::from);
    let plain = text.or_else(|| value.as_bool().map(Value::from));
    plain
        .or_else(|| super::reader::integer_of(value).map(Value::from))
        .or_else(|| table.number("default").map(|number| json!(number)))
}
