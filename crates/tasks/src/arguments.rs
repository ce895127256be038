//! A caller's parameters, checked and put into the command line. Pure.
//!
//! There is no shell, so nothing is quoted: a value becomes part of one element. What could
//! still do harm is refused, each with a reason: options, ways out of a folder, characters
//! that a script behind the program could take for syntax.

use std::path::PathBuf;

use edge_mirror_protocol::package::PackageId;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    BilingualText,
    declaration::{Declaration, TemplateElement, TemplatePart, TypeParameter, ValueKind},
};

/// All parameters of a caller, as JSON, in bytes.
pub const MAX_PARAMETER_BYTES: usize = 64 << 10;
/// JSON for standard input, in bytes.
pub const MAX_INPUT_BYTES: usize = 1 << 20;

/// The program of a run, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub paths: Vec<PathBelow>,
}

/// A path that has to lie below a folder, links followed: the disk decides that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathBelow {
    pub parameter: String,
    pub folder: PathBuf,
    pub path: PathBuf,
}

/// Returns the command line for a caller's parameters. `fleet` has the base URLs of the
/// main servers and the other nodes.
pub fn command_line(
    declaration: &Declaration,
    given: &Map<String, Value>,
    input: Option<&Value>,
    fleet: &[String],
) -> Result<CommandLine, BilingualText> {
    check_size(given, input)?;
    if input.is_some() && !declaration.takes_input {
        return Err(BilingualText::new("这种任务没有 input", "this type takes no input"));
    }
    let is_known = |name: &String| declaration.parameters.iter().any(|known| known.name == *name);
    if let Some(unknown) = given.keys().find(|name| !is_known(name)) {
        let names: Vec<&str> =
            declaration.parameters.iter().map(|known| known.name.as_str()).collect();
        let (unknown, names) = (shortened(unknown), names.join(", "));
        return Err(BilingualText::new(
            format!("没有参数 {unknown}；可用的有：{names}"),
            format!("there is no parameter {unknown}; there are: {names}"),
        ));
    }
    let mut values = Vec::new();
    let mut paths = Vec::new();
    for parameter in &declaration.parameters {
        let given = given.get(&parameter.name).filter(|value| !value.is_null());
        let Some(value) = given.or(parameter.default.as_ref()) else {
            if parameter.required {
                return Err(named(parameter, "缺少", "is missing"));
            }
            continue;
        };
        let mut text = check_value(parameter, value)?;
        match &parameter.kind {
            ValueKind::Path { folder } => {
                let below = path_below(declaration, parameter, folder, &text)?;
                text = below.path.to_string_lossy().into_owned();
                paths.push(below);
            }
            ValueKind::FleetUrl => text = fleet_url(parameter, &text, fleet)?,
            _ => {}
        }
        values.push((parameter, text));
    }
    let mut arguments = Vec::new();
    for element in &declaration.command.arguments {
        arguments.extend(filled(element, &values)?.into_iter().flatten());
    }
    Ok(CommandLine { program: declaration.command.program.clone(), arguments, paths })
}

fn check_size(given: &Map<String, Value>, input: Option<&Value>) -> Result<(), BilingualText> {
    let length = |value: &Value| value.to_string().len();
    let bytes: usize = given.iter().map(|(name, value)| name.len() + length(value)).sum();
    if bytes > MAX_PARAMETER_BYTES {
        return Err(BilingualText::new("参数超过 64 KiB", "the parameters are larger than 64 KiB"));
    }
    if input.is_some_and(|input| length(input) > MAX_INPUT_BYTES) {
        return Err(BilingualText::new("input 超过 1 MiB", "the input is larger than 1 MiB"));
    }
    Ok(())
}

type GivenValue<'d> = (&'d TypeParameter, String);

/// The elements that a part of the template becomes; none if a parameter of it is absent.
fn filled(
    element: &TemplateElement,
    values: &[GivenValue<'_>],
) -> Result<Option<Vec<String>>, BilingualText> {
    let mut elements = Vec::new();
    for parts in &element.elements {
        let mut text = String::new();
        for part in parts {
            let name = match part {
                TemplatePart::Literal(literal) => {
                    text.push_str(literal);
                    continue;
                }
                TemplatePart::Parameter(name) => name,
            };
            let value = values.iter().find(|(parameter, _)| parameter.name == *name);
            let Some((parameter, value)) = value else { return Ok(None) };
            let written = match &parameter.kind {
                ValueKind::Boolean { option: Some(option) } if value == "true" => option,
                ValueKind::Boolean { option: Some(_) } => return Ok(None),
                _ => {
                    let begins = text.is_empty() && value.starts_with('-');
                    if begins && !parameter.leading_hyphen {
                        return Err(named(
                            parameter,
                            "不能以 - 开头，否则会被当作选项",
                            "must not begin with a hyphen: it would be an option",
                        ));
                    }
                    value
                }
            };
            text.push_str(written);
        }
        elements.push(text);
    }
    Ok(Some(elements))
}

/// Checks one value, and returns it as text.
pub(crate) fn check_value(
    parameter: &TypeParameter,
    value: &Value,
) -> Result<String, BilingualText> {
    let wrong = |zh: &str, en: &str| Err(named(parameter, zh, en));
    match &parameter.kind {
        ValueKind::Integer { min, max } => match value.as_i64() {
            Some(number) if (*min..=*max).contains(&number) => Ok(number.to_string()),
            _ => wrong(
                &format!("应为 {min} 到 {max} 的整数"),
                &format!("must be a whole number from {min} to {max}"),
            ),
        },
        ValueKind::Number { min, max } => match value.as_f64() {
            Some(number) if (*min..=*max).contains(&number) => Ok(number.to_string()),
            _ => wrong(
                &format!("应为 {min} 到 {max} 的数"),
                &format!("must be a number from {min} to {max}"),
            ),
        },
        ValueKind::Boolean { .. } => match value.as_bool() {
            Some(value) => Ok(value.to_string()),
            None => wrong("应为 true 或 false", "must be true or false"),
        },
        _ => match value.as_str() {
            Some(text) => check_text(parameter, text).map(|()| text.to_owned()),
            None => wrong("应为字符串", "must be a string"),
        },
    }
}

fn check_text(parameter: &TypeParameter, text: &str) -> Result<(), BilingualText> {
    let wrong = |zh: String, en: String| Err(named(parameter, &zh, &en));
    if text.contains(char::is_control) {
        return wrong("不能有控制字符".into(), "must not have control characters".into());
    }
    match &parameter.kind {
        ValueKind::String { max_chars, .. } | ValueKind::Text { max_chars }
            if text.chars().count() > *max_chars =>
        {
            wrong(
                format!("最多 {max_chars} 个字符"),
                format!("must be {max_chars} characters or fewer"),
            )
        }
        ValueKind::String { pattern: Some(pattern), .. } if !pattern.is_match(text) => {
            let pattern = pattern.as_str();
            wrong(format!("应与 {pattern} 匹配"), format!("must match {pattern}"))
        }
        ValueKind::String { pattern: None, .. } if !text.chars().all(is_plain) => wrong(
            "只能有字母、数字、空格和 . _ - : @ / + , = %".into(),
            "may only have letters, digits, spaces and . _ - : @ / + , = %".into(),
        ),
        ValueKind::Choice(values) if !values.iter().any(|value| value == text) => {
            let values = values.join(", ");
            wrong(format!("应为以下之一：{values}"), format!("must be one of {values}"))
        }
        ValueKind::Path { .. } if !is_relative_path(text) => wrong(
            "应为文件夹之内的相对路径，不含 .. 和以 . 开头的名称".into(),
            "must be a relative path within the folder, without .. or names that begin with a dot"
                .into(),
        ),
        ValueKind::Package if text.parse::<PackageId>().is_err() => {
            wrong("应为会议的 ID".into(), "must be a meeting's ID".into())
        }
        ValueKind::FleetUrl if origin_of(text).is_none() => wrong(
            "应为 http:// 或 https:// 地址，不含用户名".into(),
            "must be an http:// or https:// address without a user".into(),
        ),
        _ => Ok(()),
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || " ._-:@/+,=%".contains(c)
}

/// In bytes, as the system limits it.
const MAX_PATH_BYTES: usize = 1024;

fn is_relative_path(text: &str) -> bool {
    text.len() <= MAX_PATH_BYTES
        && text.split('/').all(|name| !name.is_empty() && !name.starts_with('.'))
        && !text.contains('\\')
}

fn path_below(
    declaration: &Declaration,
    parameter: &TypeParameter,
    folder: &str,
    text: &str,
) -> Result<PathBelow, BilingualText> {
    let folder = declaration.folders.iter().find(|known| known.name == folder);
    // The declaration was refused if it names none.
    let folder =
        folder.ok_or_else(|| named(parameter, "没有文件夹", "has no folder"))?.path.clone();
    let path = folder.join(text);
    Ok(PathBelow { parameter: parameter.name.clone(), folder, path })
}

/// The origin (RFC 6454) of an address of HTTP.
fn origin_of(text: &str) -> Option<String> {
    parse_url(text).map(|url| url.origin().ascii_serialization())
}

/// Parses an address that all parsers understand alike: some take what follows an `@` for
/// the host where others see a path.
fn parse_url(text: &str) -> Option<Url> {
    let begins = text.starts_with("http://") || text.starts_with("https://");
    if !begins || text.contains(|c: char| matches!(c, '\\' | '@') || c.is_whitespace()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    let is_http = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    (is_plain && is_http).then_some(url)
}

/// Returns the address as it was understood.
fn fleet_url(
    parameter: &TypeParameter,
    text: &str,
    fleet: &[String],
) -> Result<String, BilingualText> {
    let is_ours = |url: &Url| {
        let origin = url.origin().ascii_serialization();
        fleet.iter().any(|address| origin_of(address).as_ref() == Some(&origin))
    };
    match parse_url(text).filter(is_ours) {
        Some(url) => Ok(url.into()),
        None => Err(named(
            parameter,
            "不是主控服务器或其他节点的地址",
            "is not the address of a main server or another node",
        )),
    }
}

fn named(parameter: &TypeParameter, zh: &str, en: &str) -> BilingualText {
    let name = &parameter.name;
    BilingualText::new(format!("参数 {name}：{zh}"), format!("parameter {name}: {en}"))
}

/// A caller's text, as it may stand in a message.
fn shortened(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::declaration;

    fn declared(parameter: &str, command: &str) -> Declaration {
        let text = format!(
            "command = ['/bin/x', {command}]\ninput = true\n[folders.docs]\npath = '/srv/docs'\n[parameters.p]\n{parameter}"
        );
        declaration::parse("x".parse().unwrap(), &text).unwrap()
    }

    fn arguments(declaration: &Declaration, given: Value) -> Result<Vec<String>, String> {
        let given = given.as_object().unwrap();
        let fleet = ["http://10.0.0.1:80/".to_owned(), "https://main.example".to_owned()];
        let line = command_line(declaration, given, None, &fleet);
        line.map(|line| line.arguments).map_err(|fault| fault.en)
    }

    #[test]
    fn a_value_stays_in_its_element_whatever_it_has() {
        let text = declared("kind = 'text'", "'--note={p}', 'b'");
        let value = "a b; rm -rf / $(x) `y` \"'> & | \\ *";
        assert_eq!(
            arguments(&text, json!({"p": value})),
            Ok(vec![format!("--note={value}"), "b".into()])
        );
    }

    #[test]
    fn what_a_kind_does_not_allow_is_refused() {
        let long = "x".repeat(257);
        let huge = "x".repeat(1 << 20);
        for (parameter, bad) in [
            (
                "kind = 'string'",
                vec![
                    json!("a;b"),
                    json!("$(x)"),
                    json!("`x`"),
                    json!("a\nb"),
                    json!("a\0b"),
                    json!(long),
                    json!(7),
                    json!(["a"]),
                    json!({"a": 1}),
                    json!(huge),
                    json!("a|b"),
                    json!("a>b"),
                    json!("-rf"),
                ],
            ),
            (
                "kind = 'string'\npattern = '[a-c]+|d'",
                vec![json!("abx"), json!(""), json!("xd"), json!("d\n")],
            ),
            ("kind = 'text'", vec![json!("a\0b"), json!("\u{1b}[31m"), json!("-x"), json!(true)]),
            (
                "kind = 'choice'\nvalues = ['a', 'b']",
                vec![json!("c"), json!("A"), json!("a "), json!("")],
            ),
            (
                "kind = 'integer'\nmin = -5\nmax = 9",
                vec![json!(10), json!(1.5), json!("7"), json!(-6), json!(-5), json!(1e3)],
            ),
            ("kind = 'number'\nmin = 0.5", vec![json!(0.4), json!("1"), json!([])]),
            ("kind = 'boolean'", vec![json!("true"), json!(1)]),
            (
                "kind = 'path'\nfolder = 'docs'",
                vec![
                    json!("../x"),
                    json!("a/../b"),
                    json!("/etc/passwd"),
                    json!("a//b"),
                    json!(".ssh/id"),
                    json!("a/.b"),
                    json!(""),
                    json!("a\\b"),
                    json!("a\0"),
                    json!("a/"),
                ],
            ),
            ("kind = 'package'", vec![json!("a/b"), json!(".."), json!(""), json!("a\0")]),
            (
                "kind = 'fleet-url'",
                vec![
                    json!("http://10.0.0.2/"),
                    json!("file:///etc/passwd"),
                    json!("http://a@10.0.0.1/"),
                    json!("http://10.0.0.1:81/"),
                    json!("10.0.0.1"),
                    json!("https://main.example.evil/"),
                    json!("http://10.0.0.1\\@evil/"),
                    json!("http:10.0.0.1"),
                    json!(" http://10.0.0.1/"),
                    json!("http://10.0.0.1/@evil"),
                    json!("http://main.example/"),
                ],
            ),
        ] {
            let declaration = declared(parameter, "'{p}'");
            for value in bad {
                let told = arguments(&declaration, json!({"p": value}));
                assert!(told.is_err(), "{parameter} {value}: {told:?}");
            }
        }
    }

    #[test]
    fn good_values_are_filled_in() {
        for (parameter, value, argument) in [
            ("kind = 'string'", json!("会议 1/a.b"), "会议 1/a.b"),
            ("kind = 'string'\nleading_hyphen = true", json!("-9"), "-9"),
            ("kind = 'string'\npattern = '[a-c]+|d'", json!("abc"), "abc"),
            ("kind = 'integer'", json!(7), "7"),
            ("kind = 'number'", json!(0.5), "0.5"),
            ("kind = 'boolean'", json!(true), "true"),
            ("kind = 'boolean'\noption = '--quiet'", json!(true), "--quiet"),
            ("kind = 'path'\nfolder = 'docs'", json!("a/b c.txt"), "/srv/docs/a/b c.txt"),
            ("kind = 'package'", json!("m1"), "m1"),
            (
                "kind = 'fleet-url'",
                json!("http://10.0.0.1/api/health"),
                "http://10.0.0.1/api/health",
            ),
            ("kind = 'choice'\nvalues = ['a', 'b']\ndefault = 'b'", json!(null), "b"),
        ] {
            let declaration = declared(parameter, "'{p}'");
            let given = if value.is_null() { json!({}) } else { json!({"p": value}) };
            assert_eq!(
                arguments(&declaration, given),
                Ok(vec![argument.to_owned()]),
                "{parameter}"
            );
        }
    }

    #[test]
    fn missing_and_unknown_ones_are_told_and_what_is_absent_is_left_out() {
        let required = declared("kind = 'string'", "'{p}'");
        let told = arguments(&required, json!({})).unwrap_err();
        assert_eq!(told, "parameter p: is missing");
        let told = arguments(&required, json!({"p": "a", "q\n": 1})).unwrap_err();
        assert!(told.contains("no parameter q\\n") && told.contains("there are: p"), "{told}");
        let optional = declared("kind = 'string'\nrequired = false", "['--to', '{p}'], 'end'");
        assert_eq!(arguments(&optional, json!({})), Ok(vec!["end".into()]));
        let all = Ok(vec!["--to".into(), "x".into(), "end".into()]);
        assert_eq!(arguments(&optional, json!({"p": "x"})), all);
        let option = declared("kind = 'boolean'\noption = '-q'", "'{p}'");
        assert_eq!(arguments(&option, json!({"p": false})), Ok(vec![]));
    }

    #[test]
    fn input_is_for_types_that_take_it_and_bounded() {
        let declaration = declared("kind = 'string'\nrequired = false", "'{p}'");
        let (none, large) = (Map::new(), json!("x".repeat(MAX_INPUT_BYTES)));
        assert!(command_line(&declaration, &none, Some(&json!([1])), &[]).is_ok());
        assert!(command_line(&declaration, &none, Some(&large), &[]).is_err());
        let declaration = Declaration { takes_input: false, ..declaration };
        assert!(command_line(&declaration, &none, Some(&json!([1])), &[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_becomes_an_option_or_leaves_its_folder(text in ".*") {
            for parameter in ["kind = 'string'", "kind = 'text'", "kind = 'path'\nfolder = 'docs'"] {
                let declaration = declared(parameter, "'{p}'");
                if let Ok(arguments) = arguments(&declaration, json!({"p": text})) {
                    proptest::prop_assert_eq!(arguments.len(), 1);
                    proptest::prop_assert!(!arguments[0].starts_with('-'));
                    proptest::prop_assert!(!arguments[0].contains('\0'));
                    let leaves = parameter.contains("path")
                        && std::path::Path::new(&arguments[0]).components().any(|part| part.as_os_str() == "..");
                    proptest::prop_assert!(!leaves);
                }
            }
        }
    }
}
