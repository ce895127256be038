//! Reads the declaration of a type.

use std::path::{Component, Path, PathBuf};

use edge_mirror_base::quantity;
use edge_mirror_protocol::remote_tasks::TaskTypeName;
use toml::de::{DeTable, DeValue};

use super::{
    CommandTemplate, Declaration, DeclarationFault, ResultFormat, RunLimits, TaskCaller,
    TaskFolder, TemplateElement, TypeParameter, parameter,
    reader::{FaultList, TableReader, line_of},
    template::parse_element,
};
use crate::BilingualText;

/// Parameters, folders, variables and elements of one type at most.
const MAX_ENTRIES: usize = 64;
const MAX_PLACES: u64 = 1000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_S: u64 = 86_400;

/// Parses the declaration of the type with this name, or lists all that is wrong with it.
pub fn parse(name: TaskTypeName, text: &str) -> Result<Declaration, Vec<DeclarationFault>> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let message = error.message();
        let wording = BilingualText::new(
            format!("不是有效的 TOML：{message}；请改正这一行"),
            format!("not valid TOML: {message}; fix this line"),
        );
        vec![DeclarationFault { key: None, line, wording }]
    })?;
    let faults = FaultList::new(text);
    let declaration = whole(name, TableReader::new(&faults, table.get_ref()));
    let faults = faults.into_faults();
    declaration.filter(|_| faults.is_empty()).ok_or(faults)
}

fn whole(name: TaskTypeName, table: TableReader<'_, '_>) -> Option<Declaration> {
    let title = table.line("title", 200).unwrap_or(name.as_str()).to_owned();
    let folders = folders(&table);
    let parameters = parameters(&table, &folders);
    let command = command(&table, &parameters);
    let class = table.line("class", 64).unwrap_or(name.as_str()).to_owned();
    let places = table.amount("places", plain, 1..=MAX_PLACES, "2").unwrap_or(1);
    let is_set = |key| table.boolean(key).unwrap_or(false);
    let (takes_input, network, repeatable) =
        (is_set("input"), is_set("network"), is_set("repeatable"));
    let (result, callers) = (result(&table), callers(&table));
    let (limits, environment) = (limits(&table), environment(&table));
    table.finish();
    Some(Declaration {
        name,
        title,
        command: command?,
        parameters,
        takes_input,
        result,
        network,
        repeatable,
        callers,
        class,
        places: u32::try_from(places).unwrap_or(1),
        limits,
        environment,
        folders,
    })
}

fn plain(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn seconds(text: &str) -> Option<u64> {
    quantity::parse_duration(text).map(|duration| duration.as_secs())
}

fn command(table: &TableReader<'_, '_>, parameters: &[TypeParameter]) -> Option<CommandTemplate> {
    let Some(value) = table.value("command") else {
        table.wrong(
            "command",
            "缺少；例如 command = [\"/usr/bin/file\", \"{path}\"]",
            "missing; such as command = [\"/usr/bin/file\", \"{path}\"]",
        );
        return None;
    };
    let elements = value.get_ref().as_array().filter(|list| list.iter().next().is_some());
    let Some(elements) = elements else {
        table.wrong(
            "command",
            "应为列表，第一项是程序的绝对路径",
            "must be a list that begins with the program's absolute path",
        );
        return None;
    };
    let mut elements = elements.iter();
    let program = elements.next().and_then(|first| first.get_ref().as_str()).map(PathBuf::from);
    let is_plain = |path: &PathBuf| {
        path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
    };
    let program = program.filter(is_plain);
    if program.is_none() {
        table.wrong(
            "command",
            "第一项应为程序的绝对路径，不含 .. 和参数",
            "the first element must be the program's absolute path, without .. or parameters",
        );
    }
    let arguments: Vec<TemplateElement> =
        elements.filter_map(|value| element(table, value.get_ref())).collect();
    if arguments.len() > MAX_ENTRIES {
        too_many(table, "command");
    }
    let command = CommandTemplate { program: program?, arguments };
    for used in command.used_parameters() {
        if !parameters.iter().any(|parameter| parameter.name == used) {
            table.wrong(
                "command",
                format!("{{{used}}} 没有在 [parameters.{used}] 中声明"),
                format!("{{{used}}} is not declared in [parameters.{used}]"),
            );
        }
    }
    Some(command)
}

/// A string, or a list of strings that belong together.
fn element(table: &TableReader<'_, '_>, value: &DeValue<'_>) -> Option<TemplateElement> {
    let texts: Option<Vec<&str>> = match value.as_array() {
        Some(group) => group.iter().map(|value| value.get_ref().as_str()).collect(),
        None => value.as_str().map(|text| vec![text]),
    };
    let Some(texts) = texts.filter(|texts| !texts.iter().any(|text| text.contains('\0'))) else {
        table.wrong(
            "command",
            "每一项应为字符串，或字符串的列表",
            "each element must be a string or a list of strings",
        );
        return None;
    };
    let parsed: Result<Vec<_>, BilingualText> = texts.into_iter().map(parse_element).collect();
    match parsed {
        Ok(elements) => Some(TemplateElement { elements }),
        Err(fault) => {
            table.wrong("command", fault.zh, fault.en);
            None
        }
    }
}

fn too_many(table: &TableReader<'_, '_>, key: &str) {
    table.wrong(
        key,
        format!("最多 {MAX_ENTRIES} 项"),
        format!("has more than {MAX_ENTRIES} entries"),
    );
}

fn parameters(table: &TableReader<'_, '_>, folders: &[TaskFolder]) -> Vec<TypeParameter> {
    let Some(all) = table.table("parameters") else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in all.entries() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !(1..=64).contains(&name.len()) || !name.chars().all(is_plain) {
            all.wrong(
                name,
                "参数名应为 1 到 64 个字母、数字或 _",
                "a parameter's name must be 1 to 64 letters, digits or _",
            );
        }
        if let Some(entry) = all.reader_of(name, value) {
            found.extend(parameter::read(name, entry, folders));
        }
    }
    if found.len() > MAX_ENTRIES {
        too_many(table, "parameters");
    }
    found
}

fn folders(table: &TableReader<'_, '_>) -> Vec<TaskFolder> {
    let Some(all) = table.table("folders") else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in all.entries() {
        let Some(entry) = all.reader_of(name, value) else { continue };
        let path = entry.string("path").map(Path::new);
        let is_plain = |path: &&Path| {
            path.is_absolute()
                && *path != Path::new("/")
                && !path.components().any(|part| part == Component::ParentDir)
        };
        let path = path.filter(is_plain);
        if path.is_none() {
            entry.wrong(
                "path",
                "应为绝对路径，不含 ..，也不是 /",
                "must be an absolute path without .. and not /",
            );
        }
        let write = entry.boolean("write").unwrap_or(false);
        found.extend(path.map(|path| TaskFolder {
            name: name.to_owned(),
            path: path.to_owned(),
            write,
        }));
        entry.finish();
    }
    if found.len() > MAX_ENTRIES {
        too_many(table, "folders");
    }
    found
}

fn environment(table: &TableReader<'_, '_>) -> Vec<(String, String)> {
    let Some(all) = table.table("environment") else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in all.entries() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let text = value.get_ref().as_str().filter(|text| !text.contains('\0'));
        match text {
            Some(text) if !name.is_empty() && name.chars().all(is_plain) => {
                found.push((name.to_owned(), text.to_owned()));
            }
            _ => all.wrong(
                name,
                "应为字符串，名称只含字母、数字和 _",
                "must be a string, with a name of letters, digits and _",
            ),
        }
    }
    if found.len() > MAX_ENTRIES {
        too_many(table, "environment");
    }
    found
}

fn result(table: &TableReader<'_, '_>) -> ResultFormat {
    match table.string("result") {
        None | Some("json") => ResultFormat::Json,
        Some("text") => ResultFormat::Text,
        Some(_) => {
            table.wrong("result", "应为 json 或 text", "must be json or text");
            ResultFormat::Json
        }
    }
}

fn callers(table: &TableReader<'_, '_>) -> Vec<TaskCaller> {
    let Some(names) = table.strings("callers") else { return vec![TaskCaller::MainServer] };
    let caller = |name: &str| match name {
        "main-server" => Some(TaskCaller::MainServer),
        "compat" => Some(TaskCaller::Compat),
        _ => None,
    };
    let callers: Option<Vec<_>> = names.into_iter().map(caller).collect();
    if callers.is_none() {
        table.wrong(
            "callers",
            "只能有 main-server 和 compat",
            "may only have main-server and compat",
        );
    }
    callers.unwrap_or_default()
}

fn limits(table: &TableReader<'_, '_>) -> RunLimits {
    let mut limits = RunLimits {
        time_s: 600,
        memory_bytes: 512 * MIB,
        cpu_s: 600,
        processes: 32,
        output_bytes: 16 * MIB,
        file_bytes: GIB,
    };
    let Some(given) = table.table("limits") else { return limits };
    let size = quantity::parse_size;
    for (value, found) in [
        (&mut limits.time_s, given.amount("time", seconds, 1..=DAY_S, "\"10m\"")),
        (
            &mut limits.memory_bytes,
            given.amount("memory", size, 16 * MIB..=1024 * GIB, "\"512MB\""),
        ),
        (&mut limits.cpu_s, given.amount("cpu", seconds, 1..=DAY_S, "\"5m\"")),
        (&mut limits.processes, given.amount("processes", plain, 1..=10_000, "32")),
        (&mut limits.output_bytes, given.amount("output", size, KIB..=GIB, "\"16MB\"")),
        (&mut limits.file_bytes, given.amount("file", size, KIB..=1024 * GIB, "\"1GB\"")),
    ] {
        *value = found.unwrap_or(*value);
    }
    given.finish();
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
title = "Convert documents"
command = ["/usr/bin/convert", "--to={format}", ["--pages", "{pages}"], "{quiet}", "{file}"]
input = true
result = "text"
repeatable = true
callers = ["main-server", "compat"]
class = "office"
places = 2

[limits]
time = "5m"
memory = "1GiB"
cpu = 60
processes = 8
output = "1MB"
file = "100MB"

[environment]
LANG = "C.UTF-8"

[folders.documents]
path = "/srv/documents"

[parameters.format]
kind = "choice"
values = ["pdf", "odt"]
default = "pdf"

[parameters.pages]
kind = "integer"
min = 1
max = 1_000
required = false

[parameters.quiet]
kind = "boolean"
option = "--quiet"
default = false

[parameters.file]
kind = "path"
folder = "documents"
"#;

    fn parsed(text: &str) -> Result<Declaration, Vec<DeclarationFault>> {
        parse("convert".parse().unwrap(), text)
    }

    #[test]
    fn a_whole_declaration_is_read() {
        let declaration = parsed(WHOLE).unwrap();
        assert_eq!(declaration.title, "Convert documents");
        assert_eq!(declaration.parameters.len(), 4);
        assert_eq!((declaration.class.as_str(), declaration.places), ("office", 2));
        assert_eq!(declaration.callers, [TaskCaller::MainServer, TaskCaller::Compat]);
        let limits = &declaration.limits;
        assert_eq!((limits.time_s, limits.memory_bytes, limits.cpu_s), (300, GIB, 60));
        assert_eq!((limits.processes, limits.output_bytes), (8, 1_000_000));
        assert!(declaration.takes_input && declaration.repeatable && !declaration.network);
        let required: Vec<&str> = declaration
            .parameters
            .iter()
            .filter(|parameter| parameter.required)
            .map(|parameter| parameter.name.as_str())
            .collect();
        assert_eq!(required, ["file"]);
    }

    #[test]
    fn little_is_enough_and_the_defaults_are_careful() {
        let declaration = parsed("command = ['/bin/true']").unwrap();
        assert_eq!(declaration.callers, [TaskCaller::MainServer]);
        assert!(!declaration.network && !declaration.repeatable && !declaration.takes_input);
        assert_eq!((declaration.places, declaration.limits.time_s), (1, 600));
    }

    #[test]
    fn each_mistake_is_told_with_its_key_and_line() {
        for (text, key, line) in [
            ("", "command", None),
            ("command = 'rm -rf /'", "command", Some(1)),
            ("command = []", "command", Some(1)),
            ("command = ['sh', '-c', '{x}']", "command", Some(1)),
            ("command = ['/bin/../x']", "command", Some(1)),
            ("command = ['/bin/x', '{y}']", "command", Some(1)),
            ("command = ['/bin/x', 7]", "command", Some(1)),
            ("command = ['/bin/x', '{']", "command", Some(1)),
            ("\ncommnd = ['/bin/x']", "commnd", Some(2)),
            ("command = ['/bin/x']\nplaces = 0", "places", Some(2)),
            ("command = ['/bin/x']\nplaces = 'many'", "places", Some(2)),
            ("command = ['/bin/x']\nnetwork = 'yes'", "network", Some(2)),
            ("command = ['/bin/x']\ncallers = ['anybody']", "callers", Some(2)),
            ("command = ['/bin/x']\n[limits]\ntime = '1w'", "limits.time", Some(3)),
            ("command = ['/bin/x']\n[limits]\nmemory = 1", "limits.memory", Some(3)),
            ("command = ['/bin/x']\n[folders.a]\npath = '/'", "folders.a.path", Some(3)),
            ("command = ['/bin/x']\n[folders.a]\npath = 'a/b'", "folders.a.path", Some(3)),
            ("command = ['/bin/x']\n[parameters.a]\nkind = 'sting'", "parameters.a.kind", Some(3)),
            (
                "command = ['/bin/x']\n[parameters.a]\nkind = 'string'\npattern = '('",
                "parameters.a.pattern",
                Some(4),
            ),
            (
                "command = ['/bin/x']\n[parameters.a]\nkind = 'path'\nfolder = 'none'",
                "parameters.a.folder",
                Some(4),
            ),
            (
                "command = ['/bin/x']\n[parameters.a]\nkind = 'integer'\nmax = 3\ndefault = 4",
                "parameters.a.default",
                Some(5),
            ),
            ("command = ['/bin/x']\n[parameters.'a b']\nkind = 'text'", "parameters.a b", None),
        ] {
            let faults = parsed(text).unwrap_err();
            let fault = faults.iter().find(|fault| fault.key.as_deref() == Some(key));
            let fault = fault.unwrap_or_else(|| panic!("{text}: {faults:?}"));
            assert!(line.is_none() || fault.line == line, "{text}: {fault:?}");
            assert!(!fault.wording.zh.is_empty() && !fault.wording.en.is_empty());
        }
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line_and_all_mistakes_are_listed() {
        let faults = parsed("title = 'x'\ncommand = [").unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].line.is_some() && faults[0].to_string().contains("TOML"), "{faults:?}");
        let faults = parsed("command = ['/bin/x']\nplaces = 0\nnetwrk = true").unwrap_err();
        let told: Vec<String> = faults.iter().map(|fault| fault.in_language(false)).collect();
        assert_eq!(told.len(), 2);
        assert!(told[1].contains("did you mean network?"), "{told:?}");
    }
}
