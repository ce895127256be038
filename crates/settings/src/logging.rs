//! Log files as the settings name them.

use edge_mirror_base::log::{LogError, RotatingFile};
use serde_json::Value;

use super::{Config, SettingProblem};

impl Config {
    pub fn log(&self) -> RotatingFile {
        let logging = &self.logging;
        RotatingFile::new(self.log_path(), logging.max_file_size, logging.backup_count)
    }

    /// Returns a problem if the log can't be written.
    pub fn log_problem(&self) -> Option<SettingProblem> {
        if !self.logging.file_enabled {
            return None;
        }
        let mut logs = [self.log(), RotatingFile::audit(self.audit_path())].into_iter();
        let (zh, en) = match logs.find_map(|log| log.probe().err())? {
            error @ LogError::NotALog(_) => (
                format!("已有其他文件，不会写入日志（{error}）；请换一个路径，或先移走该文件"),
                format!("{error}, and nothing is written: choose another path, or move it away"),
            ),
            LogError::Io(error) => (
                format!("无法写入该日志文件（{error}）"),
                format!("the log can't be written there: {error}"),
            ),
        };
        let value = Value::from(self.logging.file_path.as_str());
        Some(SettingProblem::new("logging.filePath", Some(&value), zh, en))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::check;

    #[test]
    fn each_log_has_a_file_of_its_own_for_changes() {
        let audit = |path: &str| {
            let document = serde_json::json!({"nodeId": "n", "logging": {"filePath": path}});
            let config =
                check::parse_config(document.as_object().unwrap(), Path::new("/etc")).unwrap();
            config.audit_path().to_str().unwrap().to_owned()
        };
        for (log, expected) in [
            ("/var/log/node.log", "/var/log/node.audit.log"),
            ("/var/log/node.a.log", "/var/log/node.a.audit.log"),
            ("/var/log/node.a", "/var/log/node.a.audit"),
            ("/var/log/node.b", "/var/log/node.b.audit"),
            ("/var/log/node", "/var/log/node.audit"),
        ] {
            assert_eq!(audit(log), expected);
        }
    }
}
