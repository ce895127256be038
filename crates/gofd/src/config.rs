//! GoFD's configuration file, in the spellings of its documentation and of its code.

use std::{net::IpAddr, path::PathBuf};

use thiserror::Error;

use crate::{
    handshake::GofdCredentials,
    password::{EncryptedPassword, UnreadablePassword},
    yaml::{self, YamlEntry, YamlError},
};

/// Mebibytes per second where nothing is said of speed, and where `control` is there
/// without one.
const DEFAULT_SPEED_MIB: u64 = 10;
const SPEED_OF_BLOCK_MIB: u64 = 20;
/// More than a line of today carries.
const MAX_SPEED_MIB: u64 = 100_000;

/// Keys that mean something, with those that are read and have no effect.
const KEYS: [&str; 26] = [
    "name",
    "log",
    "downdir",
    "net",
    "net.ip",
    "net.mgntPort",
    "net.dataPort",
    "net.agentMgntPort",
    "net.agentDataPort",
    "net.tls",
    "net.tls.cert",
    "net.tls.key",
    "auth",
    "auth.username",
    "auth.password",
    "auth.passowrd",
    "auth.factor",
    "auth.crc",
    "control",
    "control.speed",
    "control.maxActive",
    "control.cacheSize",
    "contorl",
    "contorl.speed",
    "contorl.maxActive",
    "contorl.cacheSize",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GofdConfig {
    /// The address to listen on; None: all.
    pub ip: Option<IpAddr>,
    pub mgnt_port: Option<u16>,
    pub data_port: Option<u16>,
    /// The ports of all agents.
    pub agent_mgnt_port: Option<u16>,
    pub agent_data_port: Option<u16>,
    /// Certificate and key of the management ports.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub credentials: GofdCredentials,
    /// Bytes per second of a connection.
    pub speed: u64,
}

/// A configuration, and the keys in it that mean nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReading {
    pub config: GofdConfig,
    pub unknown: Vec<String>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnusableConfig {
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("缺少 {0} / {0} is missing")]
    Missing(&'static str),
    #[error("第 {line} 行：{key} 的值有误 / line {line}: the value of {key} can't be used")]
    Value { key: String, line: usize },
    #[error("auth: {0}")]
    Password(#[from] UnreadablePassword),
}

/// The entries of a file by their paths.
struct ConfigEntries(Vec<YamlEntry>);

impl GofdConfig {
    pub fn parse(text: &str) -> Result<ConfigReading, UnusableConfig> {
        let entries = ConfigEntries(yaml::parse(text)?);
        let required = |key| entries.text(key).ok_or(UnusableConfig::Missing(key));
        let password = entries.text("auth.password").or_else(|| entries.text("auth.passowrd"));
        let password = EncryptedPassword {
            factor: required("auth.factor")?.to_owned(),
            text: password.ok_or(UnusableConfig::Missing("auth.password"))?.to_owned(),
        };
        let user = required("auth.username")?.to_owned();
        let credentials = GofdCredentials { user, password: password.decrypt()? };
        let tls = match (entries.text("net.tls.cert"), entries.text("net.tls.key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, Some(_)) => return Err(UnusableConfig::Missing("net.tls.cert")),
            (Some(_), None) => return Err(UnusableConfig::Missing("net.tls.key")),
        };
        let config = Self {
            ip: entries.parsed("net.ip")?.filter(|ip: &IpAddr| !ip.is_unspecified()),
            mgnt_port: entries.port("net.mgntPort")?,
            data_port: entries.port("net.dataPort")?,
            agent_mgnt_port: entries.port("net.agentMgntPort")?,
            agent_data_port: entries.port("net.agentDataPort")?,
            tls,
            credentials,
            speed: entries.speed_mib()? << 20,
        };
        Ok(ConfigReading { config, unknown: entries.unknown() })
    }
}

impl ConfigEntries {
    fn find(&self, key: &str) -> Option<&YamlEntry> {
        self.0.iter().find(|entry| entry.path == key)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.find(key).map(|entry| &*entry.value).filter(|value| !value.is_empty())
    }

    fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, UnusableConfig> {
        let Some(entry) = self.find(key).filter(|entry| !entry.value.is_empty()) else {
            return Ok(None);
        };
        let wrong = |_| UnusableConfig::Value { key: key.to_owned(), line: entry.line };
        entry.value.parse().map(Some).map_err(wrong)
    }

    fn port(&self, key: &str) -> Result<Option<u16>, UnusableConfig> {
        Ok(self.parsed(key)?.filter(|port| *port > 0))
    }

    fn speed_mib(&self) -> Result<u64, UnusableConfig> {
        let block = ["control", "contorl"].into_iter().find(|key| self.find(key).is_some());
        let Some(block) = block else { return Ok(DEFAULT_SPEED_MIB) };
        let key = format!("{block}.speed");
        match self.parsed(&key)? {
            None | Some(0) => Ok(SPEED_OF_BLOCK_MIB),
            Some(speed) if speed <= MAX_SPEED_MIB => Ok(speed),
            Some(_) => {
                let line = self.find(&key).map_or(0, |entry| entry.line);
                Err(UnusableConfig::Value { key, line })
            }
        }
    }

    fn unknown(&self) -> Vec<String> {
        let paths = self.0.iter().map(|entry| &*entry.path);
        paths.filter(|path| !KEYS.contains(path)).map(ToOwned::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in GoFD's documentation, with the spellings there.
    const SERVER: &str = "\
name: server #名称
log: /Users/xiao/gofd/config/log.xml #日志配置文件绝对路径
net:
    ip: 127.0.0.1 #监听的IP
    mgntPort: 45000 #管理端口，用于接收客户端的创建任务等Rest接口
    dataPort: 45001 #服务端数据下载端口
    agentMgntPort: 45010 #Agent端的管理端口，用于接收Server下载的管理Rest接口
    agentDataPort: 45011 #Agent端的数据下载端口
    tls:  #管理端口的TLS配置，如果没有配置，则管理端口是采用HTTP
        cert: /Users/xiao/server.crt
        key: /Users/xiao/server.key
auth:
    username: gofd #管理端口与数据端口用于认证的用户名
    passowrd: yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc= #管理端口与数据端口用于认证的密码
    factor: 9427e80d # passwd加密密钥因子
    crc: 63F7  # passwd加密密钥因子的校验码
contorl:
    speed: 10  # 流量控制，单位为MBps
    cacheSize: 50 # 文件下载的内存缓存大小，单位为MB
    maxActive: 10 # 并发的任务数
";

    fn parse(text: &str) -> Result<ConfigReading, UnusableConfig> {
        GofdConfig::parse(text)
    }

    #[test]
    fn the_documented_sample_and_the_spellings_of_the_code_mean_the_same() {
        let of_documentation = parse(SERVER).unwrap();
        let config = GofdConfig {
            ip: Some([127, 0, 0, 1].into()),
            mgnt_port: Some(45000),
            data_port: Some(45001),
            agent_mgnt_port: Some(45010),
            agent_data_port: Some(45011),
            tls: Some(("/Users/xiao/server.crt".into(), "/Users/xiao/server.key".into())),
            credentials: GofdCredentials { user: "gofd".into(), password: "gofd".into() },
            speed: 10 << 20,
        };
        assert_eq!(of_documentation, ConfigReading { config, unknown: vec![] });
        let of_code = SERVER.replace("passowrd", "password").replace("contorl", "control");
        assert_eq!(parse(&of_code), Ok(of_documentation));
    }

    #[test]
    fn the_speed_has_two_defaults() {
        let until_control = SERVER.split("contorl").next().unwrap();
        for (control, mib) in [
            ("", 10),
            ("control:", 20),
            ("control:\n  maxActive: 1", 20),
            ("control:\n  speed: 0", 20),
            ("control:\n  speed: 7", 7),
        ] {
            let reading = parse(&format!("{until_control}{control}")).unwrap();
            assert_eq!(reading.config.speed, mib << 20, "{control}");
        }
    }

    #[test]
    fn keys_that_mean_nothing_are_named_and_wrong_values_refused() {
        let more = format!("{SERVER}    sped: 1\nother: 1\n");
        assert_eq!(parse(&more).unwrap().unknown, ["contorl.sped", "other"]);
        for (from, to, told) in [
            ("username", "user", "auth.username is missing"),
            ("factor", "factors", "auth.factor is missing"),
            ("passowrd", "pass", "auth.password is missing"),
            ("45000", "450000", "line 5: the value of net.mgntPort"),
            ("127.0.0.1", "localhost", "line 4: the value of net.ip"),
            ("speed: 10", "speed: -1", "line 18: the value of contorl.speed"),
            ("        key:", "        keys:", "net.tls.key is missing"),
            ("9427e80d", "9427e80f", "auth: "),
            ("net:", "net: [", "line 3"),
        ] {
            let refusal = parse(&SERVER.replace(from, to)).unwrap_err().to_string();
            assert!(refusal.contains(told), "{to}: {refusal}");
        }
        let anywhere = parse(&SERVER.replace("127.0.0.1", "0.0.0.0")).unwrap();
        assert_eq!(anywhere.config.ip, None);
    }
}
