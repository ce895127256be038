//! The kinds of settings: allowed values, defaults, and the wording of errors.

use std::net::{IpAddr, Ipv6Addr};

use edge_mirror_base::quantity;
use serde::Serialize;
use serde_json::Value;

use super::{BandwidthSchedule, Subnet, main_server, schedule::ScheduleError};

/// Type and range of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SettingKind {
    Bool,
    Int {
        min: u64,
        max: u64,
    },
    /// Like `Int`, or 0 for no limit.
    Limit {
        min: u64,
        max: u64,
    },
    /// At least so many bytes.
    Size {
        min: u64,
    },
    /// At least so many bytes per second, or 0 for no limit.
    Bandwidth {
        min: u64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Choice(&'static [&'static str]),
    Host,
    /// A host that is in links for everybody, so its name must be valid everywhere
    /// (RFC 1123).
    PublicHost,
    /// The name of a network interface, present or not.
    Interface,
    /// A host, with a port or without.
    Address,
    Path,
    NodeId,
    /// A name that people choose, or nothing.
    Label {
        max_chars: usize,
    },
    /// Addresses and networks, as a list of texts.
    Networks,
    /// Addresses of main servers, as a list of texts.
    MainServers,
    /// A [`BandwidthSchedule`], as a list of texts.
    Schedule,
    /// At least so many characters. Never shown; [`HIDDEN`] stands for it.
    Secret {
        min_chars: usize,
    },
}

/// Shown in place of a secret that is set; sent back, it means that secret.
pub(crate) const HIDDEN: &str = "********";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    Null,
    EmptyList,
    Bool(bool),
    Int(u64),
    Float(f64),
    Text(&'static str),
}

/// The same in Chinese and in English.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Words {
    pub zh: &'static str,
    pub en: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SettingGroup {
    pub name: &'static str,
    pub title: Words,
    pub settings: &'static [Setting],
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Dotted where the setting is in a section.
    pub key: &'static str,
    pub kind: SettingKind,
    pub default: DefaultValue,
    pub unit: Option<&'static str>,
    pub title: Words,
    pub description: Words,
    /// The effects of a change that users should know before they make it.
    pub(crate) caution: Option<Words>,
    /// Shown by the panel only on request.
    pub(crate) advanced: bool,
    /// The panel can make up a value.
    pub(crate) generated: bool,
}

pub(crate) const PORT: SettingKind = SettingKind::Int { min: 1, max: 65535 };
/// The largest whole number that every JSON reader keeps exact.
pub(crate) const EXACT: u64 = 1 << 53;
/// With less, clients and main servers would take transfers for stalled.
pub(crate) const MIN_BANDWIDTH: u64 = 10_000;

pub(crate) const fn words(zh: &'static str, en: &'static str) -> Words {
    Words { zh, en }
}

pub(crate) const fn setting(
    key: &'static str,
    kind: SettingKind,
    default: DefaultValue,
) -> Setting {
    let unit = match kind {
        SettingKind::Size { .. } | SettingKind::Bandwidth { .. } => Some("bytes"),
        _ => None,
    };
    let (title, description) = (words(key, key), words("", ""));
    let (caution, advanced, generated) = (None, false, false);
    Setting { key, kind, default, unit, title, description, caution, advanced, generated }
}

pub(crate) const fn integer(key: &'static str, min: u64, max: u64, default: u64) -> Setting {
    setting(key, SettingKind::Int { min, max }, DefaultValue::Int(default))
}

pub(crate) const fn size(key: &'static str, min: u64, default: u64) -> Setting {
    setting(key, SettingKind::Size { min }, DefaultValue::Int(default))
}

pub(crate) const fn boolean(key: &'static str, default: bool) -> Setting {
    setting(key, SettingKind::Bool, DefaultValue::Bool(default))
}

pub(crate) const fn limit(key: &'static str, min: u64, max: u64) -> Setting {
    setting(key, SettingKind::Limit { min, max }, DefaultValue::Int(0))
}

pub(crate) const fn secret(key: &'static str, min_chars: usize) -> Setting {
    setting(key, SettingKind::Secret { min_chars }, DefaultValue::Null)
}

pub(crate) const fn schedule(key: &'static str) -> Setting {
    setting(key, SettingKind::Schedule, DefaultValue::EmptyList)
}

pub(crate) const fn bandwidth(key: &'static str) -> Setting {
    setting(key, SettingKind::Bandwidth { min: MIN_BANDWIDTH }, DefaultValue::Int(0))
}

impl Setting {
    pub(crate) const fn titled(self, zh: &'static str, en: &'static str) -> Self {
        Self { title: words(zh, en), ..self }
    }

    pub(crate) const fn described(self, zh: &'static str, en: &'static str) -> Self {
        Self { description: words(zh, en), ..self }
    }

    pub(crate) const fn cautioned(self, zh: &'static str, en: &'static str) -> Self {
        Self { caution: Some(words(zh, en)), ..self }
    }

    pub(crate) const fn in_unit(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }

    pub(crate) const fn advanced(self) -> Self {
        Self { advanced: true, ..self }
    }

    pub(crate) const fn generated(self) -> Self {
        Self { generated: true, ..self }
    }
}

/// The longest secret.
pub(crate) const MAX_SECRET_CHARS: usize = 256;
/// A longer list of networks is a mistake.
pub(crate) const MAX_NETWORKS: usize = 256;

impl DefaultValue {
    pub fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::EmptyList => Value::Array(Vec::new()),
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(value) => value.into(),
        }
    }
}

impl Setting {
    /// Null is allowed where it is the default: the node decides then.
    pub fn accepts(&self, value: &Value) -> bool {
        if value.is_null() {
            return self.default == DefaultValue::Null;
        }
        match self.kind {
            SettingKind::Bool => value.is_boolean(),
            SettingKind::Int { min, max } => {
                value.as_u64().is_some_and(|v| (min..=max).contains(&v))
            }
            SettingKind::Limit { min, max } => {
                value.as_u64().is_some_and(|v| v == 0 || (min..=max).contains(&v))
            }
            SettingKind::Size { min } => value.as_u64().is_some_and(|v| (min..=EXACT).contains(&v)),
            SettingKind::Bandwidth { min } => {
                value.as_u64().is_some_and(|v| v == 0 || (min..=EXACT).contains(&v))
            }
            SettingKind::Float { min, max } => {
                value.as_f64().is_some_and(|v| (min..=max).contains(&v))
            }
            SettingKind::Choice(choices) => value.as_str().is_some_and(|v| choices.contains(&v)),
            SettingKind::Host => value.as_str().is_some_and(|v| is_address(v) || is_host_name(v)),
            SettingKind::PublicHost => {
                let is_name = |v: &str| is_host_name(v) && is_public_name(v);
                value.as_str().is_some_and(|v| is_address(v) || is_name(v))
            }
            SettingKind::Interface => value.as_str().is_some_and(is_interface),
            SettingKind::Path => {
                value.as_str().is_some_and(|v| !v.trim().is_empty() && !v.contains('\0'))
            }
            SettingKind::Address => value.as_str().is_some_and(|v| parse_address(v).is_some()),
            SettingKind::NodeId => value.as_str().is_some_and(is_node_id),
            SettingKind::Label { max_chars } => {
                value.as_str().is_some_and(|v| is_label(v, max_chars))
            }
            SettingKind::Networks => value.as_array().is_some_and(|list| {
                let subnet =
                    |item: &Value| item.as_str().is_some_and(|t| t.parse::<Subnet>().is_ok());
                list.len() <= MAX_NETWORKS && list.iter().all(subnet)
            }),
            SettingKind::MainServers => main_server::read_list(value).is_ok(),
            SettingKind::Schedule => read_schedule(value).is_ok(),
            SettingKind::Secret { min_chars } => {
                value.as_str().is_some_and(|v| is_secret(v, min_chars))
            }
        }
    }

    /// True for one that neither answers nor logs show.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, SettingKind::Secret { .. })
    }

    /// Error text for a value that is not allowed, in Chinese and in English.
    pub(crate) fn error_message(&self, value: &Value) -> (String, String) {
        if self.kind == SettingKind::Schedule
            && let Err(Some(error)) = read_schedule(value)
        {
            return error.message();
        }
        if self.kind == SettingKind::MainServers
            && let Err(error) = main_server::read_list(value)
        {
            return error.message(self.allowed());
        }
        let (zh, en) = self.allowed();
        let zh = match zh.starts_with("不能") {
            true => zh,
            false => {
                format!("应为{}{zh}", if zh.starts_with(|c: char| c.is_ascii()) { " " } else { "" })
            }
        };
        (zh, format!("must be {en}"))
    }

    /// Allowed values, in Chinese and in English.
    pub fn allowed(&self) -> (String, String) {
        let (zh, en) = self.wanted();
        match self.default {
            DefaultValue::Null => (format!("{zh}，或 null"), format!("{en}, or null")),
            _ => (zh, en),
        }
    }

    /// Like [`allowed`](Self::allowed), but for null.
    pub fn wanted(&self) -> (String, String) {
        match self.kind {
            SettingKind::Bool => ("true 或 false".to_owned(), "true or false".to_owned()),
            SettingKind::Size { min } => {
                let least = quantity::format_bytes(min as f64);
                (
                    format!("不能小于 {least}（{min} 字节）"),
                    format!("a size of at least {least} ({min} bytes)"),
                )
            }
            SettingKind::Bandwidth { min } => (
                format!("不能小于每秒 {min} 字节；0 表示不限制"),
                format!("at least {min} bytes per second, or 0 for no limit"),
            ),
            SettingKind::Int { min, max } => {
                (format!("{min} 到 {max} 的整数"), format!("a whole number from {min} to {max}"))
            }
            SettingKind::Limit { min, max } => (
                format!("{min} 到 {max} 的整数，或 0（不限制）"),
                format!("a whole number from {min} to {max}, or 0 for no limit"),
            ),
            SettingKind::Float { min, max } => (
                format!("{min:.1} 到 {max:.1} 的数"),
                format!("a number from {min:.1} to {max:.1}"),
            ),
            SettingKind::Choice(choices) => {
                let list = choices.join(", ");
                (format!("以下之一：{list}"), format!("one of {list}"))
            }
            SettingKind::Host => (
                "主机名、IPv4 或 IPv6 地址（不带 http:// 和端口）".to_owned(),
                "a host name, IPv4 or IPv6 address, without http:// and port".to_owned(),
            ),
            SettingKind::PublicHost => (
                "主机名（仅字母、数字、连字符和点）、IPv4 或 IPv6 地址（不带 http:// 和端口）".to_owned(),
                "a host name (of letters, digits, hyphens and dots), IPv4 or IPv6 address, without http:// and port".to_owned(),
            ),
            SettingKind::Interface => (
                "网卡名，例如 eth0".to_owned(),
                "the name of a network interface such as eth0".to_owned(),
            ),
            SettingKind::Address => (
                "主机名、IPv4 或 IPv6 地址，可带端口，例如 10.0.0.5:8001 或 [fd00::5]:8001".to_owned(),
                "a host name, IPv4 or IPv6 address, with or without a port, such as 10.0.0.5:8001 or [fd00::5]:8001".to_owned(),
            ),
            SettingKind::Path => ("路径".to_owned(), "a path".to_owned()),
            SettingKind::Label { max_chars } => (
                format!("最多 {max_chars} 个字符，首尾没有空格"),
                format!("at most {max_chars} characters, without spaces at either end"),
            ),
            SettingKind::NodeId => (
                "1 到 64 个 A-Z a-z 0-9 . _ - 字符".to_owned(),
                "1 to 64 of A-Z a-z 0-9 . _ -".to_owned(),
            ),
            SettingKind::Networks => (
                "地址或网段的列表，例如 10.0.0.0/8 或 192.168.1.5".to_owned(),
                "a list of addresses and networks such as 10.0.0.0/8 or 192.168.1.5".to_owned(),
            ),
            SettingKind::MainServers => (
                "主控服务器地址的列表，例如 10.0.0.5:80 或 https://main.example".to_owned(),
                "a list of addresses such as 10.0.0.5:80 or https://main.example".to_owned(),
            ),
            SettingKind::Schedule => (
                "时段的列表，例如 08:00-18:00 10MB 或 22:00-06:00 off".to_owned(),
                "a list of times such as 08:00-18:00 10MB or 22:00-06:00 off".to_owned(),
            ),
            SettingKind::Secret { min_chars } => (
                format!("{min_chars} 到 {MAX_SECRET_CHARS} 个可见的 ASCII 字符"),
                format!("{min_chars} to {MAX_SECRET_CHARS} visible ASCII characters"),
            ),
        }
    }
}

/// Secrets travel in a header.
fn is_secret(text: &str, min_chars: usize) -> bool {
    let length = min_chars..=MAX_SECRET_CHARS;
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Spaces at the ends would make two of what looks the same.
fn is_label(text: &str, max_chars: usize) -> bool {
    text.trim() == text && text.chars().count() <= max_chars && !text.contains(char::is_control)
}

/// The error is none for what is no list of texts.
fn read_schedule(value: &Value) -> Result<BandwidthSchedule, Option<ScheduleError>> {
    let texts = value.as_array().map(|list| list.iter().map(Value::as_str).collect());
    let texts: Vec<&str> = texts.flatten().ok_or(None)?;
    BandwidthSchedule::parse(&texts).map_err(Some)
}

/// Splits an address into its host, without brackets, and the port if it names one.
pub(crate) fn parse_address(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        host.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(digits) => Some((host, Some(port(digits)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    let is_host = |host: &str| host.parse::<IpAddr>().is_ok() || is_host_name(host);
    match text.split_once(':') {
        Some((host, digits)) if !digits.contains(':') => {
            is_host(host).then_some((host, Some(port(digits)?)))
        }
        _ => is_host(text).then_some((text, None)),
    }
}

fn is_node_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_address(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().is_ok()
}

/// Further rules of RFC 1123 (2.1) for a name's labels. Names of one's own network
/// are often laxer, and a main server may well have one of those.
fn is_public_name(text: &str) -> bool {
    let label = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    text.split('.').all(label) && !text.contains('_')
}

/// Follows Linux (`dev_valid_name`, IFNAMSIZ), in visible letters.
fn is_interface(text: &str) -> bool {
    let letter = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':');
    (1..=15).contains(&text.len()) && text.chars().all(letter) && !matches!(text, "." | "..")
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // A name whose last label is a number is a mistyped IPv4 address.
    let last_is_number =
        |text: &str| text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number(text)
}
