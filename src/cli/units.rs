//! Parses values as people type them, and explains errors.

use std::{net::IpAddr, time::Duration};

use edge_mirror_base::quantity;
use edge_mirror_main_server::NodePolicy;

use crate::terminal::Language;

/// The maximum of the node's setting of this name.
const MAX_CONNECTIONS_PER_CLIENT: u64 = 100_000;

/// Returns an error in the operator's language.
pub(super) fn told(chinese: &str, english: &str) -> String {
    Language::from_env().of(chinese, english).to_owned()
}

pub(super) fn node_policy(text: &str) -> Result<NodePolicy, String> {
    text.parse().map_err(|_| told("请填写 approve 或 open", "approve or open is needed"))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    quantity::parse_duration(text).ok_or_else(|| {
        told(
            "请填写时间，例如 60s、2m 或 500ms，最长 24h",
            "a time is a number such as 60s, 2m or 500ms, and at most 24h",
        )
    })
}

/// Parses bytes per second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let rate = quantity::parse_rate(text).filter(|rate| (1000..=1_000_000_000_000).contains(rate));
    rate.ok_or_else(|| {
        told(
            "请填写速率，例如 2MB/s 或 500KiB/s，最低 1KB/s",
            "a rate is a size such as 2MB/s or 500KiB/s, and at least 1KB/s",
        )
    })
}

/// Limited to sizes that can be made and uploaded in a minute or two.
pub(super) fn sample_size(text: &str) -> Result<u64, String> {
    let size = quantity::parse_size(text).filter(|size| (100_000..=10_000_000_000).contains(size));
    size.ok_or_else(|| {
        told(
            "请填写 100KB 到 10GB 的大小，例如 200MB",
            "a size from 100KB to 10GB is needed, such as 200MB",
        )
    })
}

/// Zero would keep nothing that has just been fetched.
pub(super) fn cache_size(text: &str) -> Result<u64, String> {
    quantity::parse_size(text).filter(|size| *size >= 1_000_000).ok_or_else(|| {
        told("请填写不小于 1MB 的大小，例如 50GB", "a size of 1MB or more is needed, such as 50GB")
    })
}

pub(super) fn few(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= 100)
        .ok_or_else(|| told("请填写 0 到 100 的整数", "a whole number from 0 to 100 is needed"))
}

/// As many as one machine bears.
pub(super) fn demo_nodes(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=64).contains(count))
        .ok_or_else(|| told("请填写 1 到 64 的整数", "a whole number from 1 to 64 is needed"))
}

pub(super) fn demo_masters(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=5).contains(count))
        .ok_or_else(|| told("请填写 1 到 5 的整数", "a whole number from 1 to 5 is needed"))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| told("端口是 0 到 65535 的整数", "a port is a whole number from 0 to 65535"))
}

/// Parses a port that others have to know.
pub(super) fn fixed_port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| told("端口是 1 到 65535 的整数", "a port is a whole number from 1 to 65535"))
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.trim_matches(['[', ']']).parse().map_err(|_| {
        told(
            "请填写本机的一个 IP 地址，例如 192.168.1.20 或 ::1",
            "an IP address of this machine is needed, such as 192.168.1.20 or ::1",
        )
    })
}

pub(super) fn connections(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count <= MAX_CONNECTIONS_PER_CLIENT).ok_or_else(|| {
        told("请填写 0 到 100000 的整数", "a whole number from 0 to 100000 is needed")
    })
}

/// As many as a main server takes.
pub(super) fn node_count(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= 16_384)
        .ok_or_else(|| told("请填写 0 到 16384 的整数", "a whole number from 0 to 16384 is needed"))
}

pub(super) fn cast_count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| (100..=10_000_000).contains(count)).ok_or_else(|| {
        told("请填写 100 到 10000000 的整数", "a whole number from 100 to 10000000 is needed")
    })
}

pub(super) fn task_count(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=100).contains(count))
        .ok_or_else(|| told("请填写 1 到 100 的整数", "a whole number from 1 to 100 is needed"))
}

/// Whoever is away for longer gets kept casts alone.
pub(super) fn live_seconds(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=300).contains(seconds))
        .ok_or_else(|| told("请填写 1 到 300 的整数", "a whole number from 1 to 300 is needed"))
}

/// All are listed to whoever asks.
pub(super) fn file_count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| (1..=100_000).contains(count)).ok_or_else(|| {
        told("请填写 1 到 100000 的整数", "a whole number from 1 to 100000 is needed")
    })
}

pub(super) fn socket_seconds(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=3600).contains(seconds))
        .ok_or_else(|| told("请填写 1 到 3600 的整数", "a whole number from 1 to 3600 is needed"))
}

/// Each is looked at with every cast.
pub(super) fn virtual_nodes(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count <= 100_000).ok_or_else(|| {
        told("请填写 0 到 100000 的整数", "a whole number from 0 to 100000 is needed")
    })
}

/// No more than a megabyte of them is read.
pub(super) fn cast_batch(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=10_000).contains(count))
        .ok_or_else(|| told("请填写 1 到 10000 的整数", "a whole number from 1 to 10000 is needed"))
}

/// Each is looked up by itself.
pub(super) fn list_length(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=100).contains(count))
        .ok_or_else(|| told("请填写 1 到 100 的整数", "a whole number from 1 to 100 is needed"))
}

pub(super) fn cast_body(text: &str) -> Result<u64, String> {
    quantity::parse_size(text).filter(|size| (1..=65_536).contains(size)).ok_or_else(|| {
        told(
            "请填写不超过 64KiB 的大小，例如 4KiB",
            "a size of at most 64KiB is needed, such as 4KiB",
        )
    })
}

pub(super) fn days(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=365).contains(count))
        .ok_or_else(|| told("请填写 1 到 365 的整数", "a whole number from 1 to 365 is needed"))
}

pub(super) fn downloads(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|count| (1..=100_000).contains(count)).ok_or_else(|| {
        told("请填写 1 到 100000 的整数", "a whole number from 1 to 100000 is needed")
    })
}

pub(super) fn retries(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| told("请填写不小于 0 的整数", "a whole number is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_a_client() {
        assert_eq!(rate("2MB/s"), Ok(2_000_000));
        assert_eq!(rate("1KB"), Ok(1000));
        for bad in ["999B/s", "0", "2Mbit/s", "2TB/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_and_addresses_are_told_what_they_should_be() {
        assert_eq!((port("0"), fixed_port("65535")), (Ok(0), Ok(65535)));
        for bad in ["abc", "65536", "-1", ""] {
            assert!(port(bad).unwrap_err().contains("65535"), "{bad}");
        }
        assert!(fixed_port("0").is_err());
        assert_eq!((connections("0"), connections("100000")), (Ok(0), Ok(100_000)));
        assert!(connections("100001").unwrap_err().contains("100000"));
        assert_eq!(address("[::1]"), Ok("::1".parse().unwrap()));
        assert!(address("nowhere").unwrap_err().contains("192.168.1.20"));
    }
}
