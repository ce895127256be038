//! Options of `edge-mirror master` from a file and from the environment, which become
//! arguments of the command line that does not name them: so they are read, checked and
//! explained as these are.

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::Path};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command,
    error::{ContextKind, ErrorKind},
    parser::ValueSource,
};
use edge_mirror_main_server::{OptionSource, ShownOption};
use serde_json::{Map, Value, json};
use url::Url;

use super::{MasterArgs, complaint, units::told};
use crate::terminal::Language;

/// Variables are named after the options: `EDGE_MIRROR_MASTER_TLS_CERT`.
const PREFIX: &str = "EDGE_MIRROR_MASTER_";
/// Options whose relative paths in a file are relative to its folder.
const PATHS: [&str; 4] = ["data", "gofd-config", "tls-cert", "tls-key"];
/// Options of the command line alone.
const NOT_IN_FILES: [&str; 4] = ["config", "print-config", "help", "version"];

/// An option's values, and where they come from.
struct SourcedOption {
    origin: OptionSource,
    /// The file and its key, or the variable.
    source: String,
    values: Vec<String>,
}

/// A whole command line.
#[derive(Debug, Default)]
pub(super) struct CompletedLine {
    pub(super) arguments: Vec<OsString>,
    /// The sources of the options that were added, by name.
    pub(super) sources: OptionSources,
}

/// By name.
pub(super) type OptionSources = BTreeMap<String, OptionSource>;

type SourcedOptions = BTreeMap<String, SourcedOption>;

/// Reads a command line whose mistakes are not the point yet: what is missing may be in the
/// file that it names.
pub(super) fn lenient(command: Command) -> Command {
    command.ignore_errors(true).mut_subcommand("master", |master| master.ignore_errors(true))
}

/// Returns the whole command line, with the options that it does not name from the
/// environment, or else from the file; None if there are none. The error lists all that is
/// wrong with them.
pub(super) fn completed(
    arguments: &[OsString],
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Option<CompletedLine>, String> {
    let Some(("master", given)) = matches.subcommand() else { return Ok(None) };
    if given.subcommand().is_some() {
        return Ok(None);
    }
    let (options, mut problems) = (options(), Vec::new());
    let mut found = match given.get_one::<std::path::PathBuf>("config") {
        Some(path) => from_file(path, &options, &mut problems)?,
        None => SourcedOptions::new(),
    };
    found.extend(from_environment(&options, environment));
    let is_named = |option: &Arg| {
        given.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
    };
    let (mut added, mut sources) = (Vec::new(), BTreeMap::new());
    for option in options.iter().filter(|option| !is_named(option)) {
        let Some(found) = found.get(name_of(option)) else { continue };
        match arguments_of(option, found) {
            Ok(arguments) => {
                if !arguments.is_empty() {
                    sources.insert(name_of(option).to_owned(), found.origin);
                }
                added.extend(arguments);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        let separator = Language::from_env().of("；", "; ");
        return Err(problems.join(separator));
    }
    let (before, after) = arguments.split_at(arguments.len().min(2));
    let added = added.into_iter().map(OsString::from);
    let arguments = before.iter().cloned().chain(added).chain(after.iter().cloned()).collect();
    Ok(Some(CompletedLine { arguments, sources }))
}

/// The options that are in force as text, if the command line asks for them.
pub(super) fn printed(matches: &ArgMatches) -> Option<String> {
    let ("master", given) = matches.subcommand()? else { return None };
    let is_asked = given.subcommand().is_none() && given.get_flag("print_config");
    is_asked.then(|| format!("{:#}", in_force(given)))
}

/// The options that are in force, as a file has them.
fn in_force(matches: &ArgMatches) -> Value {
    let mut document = Map::new();
    for option in options() {
        let id = option.get_id().as_str();
        let texts = matches.get_raw(id).into_iter().flatten();
        let texts: Vec<_> = texts.map(|text| without_password(&text.to_string_lossy())).collect();
        let value = match option.get_action() {
            ArgAction::SetTrue => json!(matches.get_flag(id)),
            ArgAction::Append => json!(texts),
            _ => match texts.into_iter().next() {
                Some(text) => text.parse::<u64>().map_or_else(|_| json!(text), |n| json!(n)),
                None => Value::Null,
            },
        };
        document.insert(name_of(&option).to_owned(), value);
    }
    Value::Object(document)
}

/// The options that are in force, each with its source.
pub(super) fn shown(matches: &ArgMatches, sources: &OptionSources) -> Vec<ShownOption> {
    let Some(("master", given)) = matches.subcommand() else { return Vec::new() };
    let values = in_force(given);
    let shown = options().into_iter().map(|option| {
        let name = name_of(&option).to_owned();
        let is_given =
            given.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
        let source = match (sources.get(&name), is_given) {
            (Some(source), _) => *source,
            (None, true) => OptionSource::CommandLine,
            (None, false) => OptionSource::Default,
        };
        ShownOption { value: values[&name].clone(), name, source }
    });
    shown.collect()
}

fn without_password(text: &str) -> String {
    match text.parse::<Url>() {
        Ok(mut url) if url.password().is_some() => {
            // Only URLs without a host refuse one.
            let _ = url.set_password(Some("********"));
            url.to_string()
        }
        Ok(_) | Err(_) => text.to_owned(),
    }
}

fn options() -> Vec<Arg> {
    let command = MasterArgs::augment_args(Command::new("master"));
    let options = command.get_arguments().filter(|option| option.get_long().is_some());
    options.filter(|option| !NOT_IN_FILES.contains(&name_of(option))).cloned().collect()
}

fn name_of(option: &Arg) -> &str {
    option.get_long().unwrap_or_default()
}

fn from_file(
    path: &Path,
    options: &[Arg],
    problems: &mut Vec<String>,
) -> Result<SourcedOptions, String> {
    let shown = path.display();
    let document = read(path).map_err(|cause| {
        told(&format!("不能读取 {shown}：{cause}"), &format!("{shown} can't be read: {cause}"))
    })?;
    let mut found = SourcedOptions::new();
    for (key, value) in document {
        let source = format!("{shown}: {key}");
        let Some(option) = options.iter().find(|option| name_of(option) == key) else {
            problems.push(unknown(&source, &key, options));
            continue;
        };
        match texts(option, &value) {
            Some(values) => {
                let values = values.into_iter().map(|text| in_folder(path, &key, text)).collect();
                let origin = OptionSource::File;
                found.insert(key, SourcedOption { origin, source, values });
            }
            None => problems.push(misshapen(option, &source, &value)),
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = fs::read_to_string(path).map_err(|error: io::Error| error.to_string())?;
    // Windows editors put a byte order mark before the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match serde_json::from_str(text).map_err(|error| error.to_string())? {
        Value::Object(document) => Ok(document),
        _ => Err(told("应为一个对象 {…}", "it must hold one object {…}")),
    }
}

/// The values of an option as they stand on a command line; None for another kind of value.
fn texts(option: &Arg, value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (option.get_action(), value) {
        (_, Value::Null) | (ArgAction::SetTrue, Value::Bool(false)) => Some(Vec::new()),
        (ArgAction::SetTrue, Value::Bool(true)) => Some(vec![String::new()]),
        (ArgAction::SetTrue, _) => None,
        (ArgAction::Append, Value::Array(values)) => values.iter().map(text).collect(),
        (_, value) => text(value).map(|text| vec![text]),
    }
}

fn in_folder(file: &Path, key: &str, text: String) -> String {
    let folder = file.parent().filter(|_| PATHS.contains(&key));
    let whole = folder.and_then(|folder| folder.join(&text).into_os_string().into_string().ok());
    whole.unwrap_or(text)
}

fn from_environment(
    options: &[Arg],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> SourcedOptions {
    let mut found = SourcedOptions::new();
    for (variable, value) in environment {
        let (Some(variable), Some(value)) = (variable.to_str(), value.to_str()) else { continue };
        let name = variable.strip_prefix(PREFIX).map(|name| name.to_lowercase().replace('_', "-"));
        let Some(option) = options.iter().find(|option| Some(name_of(option)) == name.as_deref())
        else {
            continue;
        };
        let values = match option.get_action() {
            ArgAction::SetTrue => match value {
                "" | "0" | "false" | "no" | "off" => Vec::new(),
                _ => vec![String::new()],
            },
            ArgAction::Append => {
                let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(ToOwned::to_owned).collect()
            }
            _ => Some(value.to_owned()).filter(|value| !value.is_empty()).into_iter().collect(),
        };
        let (origin, source) = (OptionSource::Environment, variable.to_owned());
        found.insert(name_of(option).to_owned(), SourcedOption { origin, source, values });
    }
    found
}

/// The arguments that set an option, if its values are allowed.
fn arguments_of(option: &Arg, found: &SourcedOption) -> Result<Vec<String>, String> {
    let name = name_of(option);
    let is_flag = matches!(option.get_action(), ArgAction::SetTrue);
    let argument = |value: &String| match is_flag {
        true => format!("--{name}"),
        false => format!("--{name}={value}"),
    };
    let arguments: Vec<String> = found.values.iter().map(argument).collect();
    let alone = MasterArgs::augment_args(Command::new("master"));
    let line = std::iter::once("master").chain(arguments.iter().map(String::as_str));
    match alone.try_get_matches_from(line) {
        // What else it needs is for the whole line to say.
        Err(error)
            if matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) =>
        {
            let why = complaint::reason(&error, Language::from_env());
            let value = error.get(ContextKind::InvalidValue).map(ToString::to_string);
            let value = value.unwrap_or_default();
            let given = format!("{} = {value}", found.source);
            Err(told(&format!("{given}：{why}"), &format!("{given}: {why}")))
        }
        Ok(_) | Err(_) => Ok(arguments),
    }
}

fn unknown(source: &str, key: &str, options: &[Arg]) -> String {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let near = options.iter().map(name_of).find(|name| plain(name) == plain(key));
    match near {
        Some(near) => told(
            &format!("{source}：没有这个选项，是否想写 {near}？"),
            &format!("{source}: unknown option, did you mean {near}?"),
        ),
        None => told(&format!("{source}：没有这个选项"), &format!("{source}: unknown option")),
    }
}

fn misshapen(option: &Arg, source: &str, value: &Value) -> String {
    let (zh, en) = match option.get_action() {
        ArgAction::SetTrue => ("应为 true 或 false", "it must be true or false"),
        ArgAction::Append => ("应为文本的列表", "it must be a list of texts"),
        _ => ("应为文本或数字", "it must be a text or a number"),
    };
    told(&format!("{source} = {value}：{zh}"), &format!("{source} = {value}: {en}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help;

    fn line(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    /// The options in force for a command line, a file and an environment.
    fn options_of(
        arguments: &str,
        file: &Value,
        environment: &[(&str, &str)],
    ) -> Result<Value, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.json");
        fs::write(&path, file.to_string()).unwrap();
        let arguments =
            line(&format!("edge-mirror master --config {} {arguments}", path.display()));
        let command = help::command(Language::English);
        let matches = lenient(command.clone()).try_get_matches_from(&arguments).unwrap();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let whole = completed(&arguments, &matches, environment)?.unwrap();
        let matches =
            command.try_get_matches_from(whole.arguments).map_err(|error| error.to_string())?;
        let (_, matches) = matches.subcommand().unwrap();
        let mut shown = in_force(matches);
        let data = shown["data"].as_str().unwrap().replace(folder.path().to_str().unwrap(), "F");
        shown["data"] = data.into();
        Ok(shown)
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let file = json!({
            "port": 9001, "data": "here", "open": true, "allow-from": ["10.0.0.0/8", "::1"],
            "nodes": "open", "redirect-port": null, "state": "postgres://a:secret@b/c",
        });
        let shown = options_of("--nodes approve", &file, &[]).unwrap();
        assert_eq!((&shown["port"], &shown["nodes"]), (&json!(9001), &json!("approve")));
        assert_eq!((&shown["data"], &shown["open"]), (&json!("F/here"), &json!(true)));
        assert_eq!(shown["allow-from"], json!(["10.0.0.0/8", "::1"]));
        assert_eq!(shown["state"], "postgres://a:********@b/c");
        let environment = [
            ("EDGE_MIRROR_MASTER_PORT", "9002"),
            ("EDGE_MIRROR_MASTER_OPEN", "false"),
            ("EDGE_MIRROR_MASTER_ALLOW_FROM", "192.168.1.5, 10.1.0.0/16"),
        ];
        let shown = options_of("", &file, &environment).unwrap();
        assert_eq!((&shown["port"], &shown["open"]), (&json!(9002), &json!(false)));
        assert_eq!(shown["allow-from"], json!(["192.168.1.5", "10.1.0.0/16"]));
        let shown = options_of("--port 9003", &file, &environment).unwrap();
        assert_eq!(shown["port"], 9003);
    }

    #[test]
    fn what_is_wrong_is_named_with_the_file_and_the_key() {
        let file = json!({
            "port": 99_999, "tlsCert": "c.pem", "colour": 1, "open": "yes", "nodes": "some",
            "allow-from": "10.0.0.0/33",
        });
        let told = options_of("", &file, &[]).unwrap_err();
        for part in [
            "master.json: port = 99999",
            "65535",
            "master.json: tlsCert",
            "tls-cert",
            "master.json: colour",
            "master.json: open = \"yes\"",
            "master.json: nodes = some",
            "master.json: allow-from = 10.0.0.0/33",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        let told = options_of("", &json!({}), &[("EDGE_MIRROR_MASTER_PORT", "x")]).unwrap_err();
        assert!(told.contains("EDGE_MIRROR_MASTER_PORT = x"), "{told}");
        // What an option needs is looked at in the whole.
        let told = options_of("", &json!({"tls-cert": "c.pem"}), &[]).unwrap_err();
        assert!(told.contains("--tls-key"), "{told}");
        assert!(options_of("--tls-key k.pem", &json!({"tls-cert": "c.pem"}), &[]).is_ok());
    }

    #[test]
    fn every_option_can_be_in_the_file_but_those_of_the_command_line() {
        let shown = options_of("", &json!({}), &[]).unwrap();
        let again = options_of("", &shown, &[]).unwrap();
        assert_eq!(again["port"], 8000);
        for name in NOT_IN_FILES {
            assert!(shown.get(name).is_none(), "{name}");
        }
    }
}
