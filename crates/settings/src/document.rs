//! The content of the configuration file: read, checked and written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    Config, ConfigError,
    check::{self, SettingProblem},
    lenient, schema,
};

/// Content of a configuration file.
#[derive(Debug)]
pub struct FileDocument {
    /// With corrections in place of what was read leniently.
    pub settings: Map<String, Value>,
    pub lenient: Vec<SettingProblem>,
}

/// Refuses a pipe, which would wait for a writer for ever.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    match kind.is_file() || kind.is_dir() {
        true => fs::read(path),
        false => Err(io::Error::other("it is not a file")),
    }
}

/// Reads it like the node, which generates an id at its first start.
pub(super) fn parse_as_node(
    path: &Path,
    mut document: Map<String, Value>,
) -> Result<Config, ConfigError> {
    if document.get("nodeId").is_none_or(|id| id.is_null() || id == "") {
        schema::put(&mut document, "nodeId", "unnamed".into());
    }
    typed(path, &document)
        .map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
}

/// Like `check::parse_config`; also keeps the log out of other files.
pub(super) fn typed(
    path: &Path,
    document: &Map<String, Value>,
) -> Result<Config, Vec<SettingProblem>> {
    let config = check::parse_config(document, path.parent().unwrap_or(Path::new("/")))?;
    let kept = [path.to_owned(), super::access_path(path)].into_iter().chain(config.tls_paths());
    let kept: Vec<_> = kept.map(|kept| resolve_links(&kept)).collect();
    let storage = resolve_links(&config.storage_path());
    let logs = [config.log_path(), config.audit_path()].map(|log| resolve_links(&log));
    if logs.iter().any(|log| kept.contains(log) || log.starts_with(&storage)) {
        let value = Value::from(config.logging.file_path.as_str());
        let zh = "日志不能写入配置文件、登录文件、证书或私钥文件，也不能写入存储文件夹";
        let en = "the log can't be the configuration, its access file, a certificate or a key, \
                  or lie in the storage folder";
        return Err(vec![SettingProblem::new("logging.filePath", Some(&value), zh, en)]);
    }
    Ok(config)
}

/// Resolves links and `..` in a path. What does not exist yet stays as it was
/// written.
fn resolve_links(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    let whole = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
    fs::canonicalize(path).ok().or(whole).unwrap_or_else(|| path.to_owned())
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<FileDocument, ConfigError> {
    let not_json = |cause: String| ConfigError::NotJson { path: path.to_owned(), cause };
    // Windows editors put a byte order mark before the text.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice(text) {
        Ok(Value::Object(mut settings)) => {
            let lenient = lenient::normalize(&mut settings);
            Ok(FileDocument { settings, lenient })
        }
        Ok(_) => Err(not_json("the file must hold one object {…}".to_owned())),
        Err(error) => Err(not_json(error.to_string())),
    }
}

pub(super) fn render(document: &Map<String, Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, indent);
    // A map of JSON values into memory has nothing that could fail.
    serde::Serialize::serialize(document, &mut writer).expect("JSON values serialize");
    bytes.push(b'\n');
    bytes
}
