//! Machines on one switch: network namespaces on a bridge, each with an uplink of its
//! own. What others send it is not slowed down.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result};

use super::sandbox::run;

/// The bench's own, at the switch.
pub(crate) const BENCH: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const BRIDGE: &str = "switch";
/// The machine's end of its cable.
const CARD: &str = "eth0";
/// A full frame, and what of it is payload: rates are of payload, as `curl` sees them.
const FRAME_BYTES: u64 = 1514;
const PAYLOAD_BYTES: u64 = 1448;
/// What tc lets through at once; less would cost a timer for each few frames.
const BURST_BYTES: u64 = 64 << 10;
/// At least, at first, and at most.
const RECEIVE_BUFFER_BYTES: &str = "4096 131072 262144";

/// Makes the switch.
pub(crate) fn make() -> Result<()> {
    run("ip", &["link", "set", "lo", "up"])?;
    run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
    run("ip", &["addr", "add", &format!("{BENCH}/16"), "dev", BRIDGE])?;
    run("ip", &["link", "set", BRIDGE, "up"])
}

/// A machine of the network.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    /// The switch's end of its cable.
    cable: String,
    pub address: Ipv4Addr,
}

impl Host {
    /// The machine of this number, with an uplink of so many bytes per second.
    pub(crate) fn new(number: usize, uplink: u64) -> Result<Self> {
        let part = |n: usize| u8::try_from(n).context("too many machines");
        let address = Ipv4Addr::new(10, 66, part(1 + number / 250)?, part(1 + number % 250)?);
        let (name, cable) = (format!("host{number}"), format!("cable{number}"));
        let host = Self { name, cable, address };
        let Self { name, cable, .. } = &host;
        run("ip", &["netns", "add", name])?;
        run("ip", &["link", "add", cable, "type", "veth", "peer", "name", CARD, "netns", name])?;
        run("ip", &["link", "set", cable, "master", BRIDGE, "up"])?;
        run("ip", &["-n", name, "addr", "add", &format!("{address}/16"), "dev", CARD])?;
        run("ip", &["-n", name, "link", "set", CARD, "up"])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        host.limit_uplink(uplink)?;
        Ok(host)
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// A command that runs on it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    pub(crate) fn limit_uplink(&self, bytes_per_s: u64) -> Result<()> {
        let rate = format!("{}bit", bytes_per_s * 8 * FRAME_BYTES / PAYLOAD_BYTES);
        let burst = BURST_BYTES.to_string();
        let to = ["-n", &self.name, "qdisc", "replace", "dev", CARD, "root"];
        let limit = ["tbf", "rate", &rate, "burst", &burst, "latency", "50ms"];
        run("tc", &[&to[..], &limit[..]].concat())
    }

    /// Has its sockets hold few bytes that its programs have not read yet.
    pub(crate) fn limit_receive_buffers(&self) -> Result<()> {
        let set = format!("echo {RECEIVE_BUFFER_BYTES} > /proc/sys/net/ipv4/tcp_rmem");
        run("ip", &["netns", "exec", &self.name, "sh", "-c", &set])
    }

    pub(crate) fn unplug(&self) -> Result<()> {
        run("ip", &["link", "set", &self.cable, "down"])
    }

    pub(crate) fn plug_in(&self) -> Result<()> {
        run("ip", &["link", "set", &self.cable, "up"])
    }

    /// Returns what it has sent so far, headers and all.
    pub(crate) fn sent_bytes(&self) -> Result<u64> {
        let devices = fs::read_to_string("/proc/self/net/dev")?;
        let line = devices.lines().find_map(|line| {
            line.trim_start().strip_prefix(self.cable.as_str())?.strip_prefix(':')
        });
        // What the switch received.
        let first = line.and_then(|line| line.split_whitespace().next());
        Ok(first.with_context(|| format!("{} is gone", self.cable))?.parse()?)
    }

    /// Returns its connections, as `ss` shows them, one a line.
    pub(crate) fn connections(&self) -> Result<String> {
        let mut command = Command::new("ss");
        let output = command.args(["-N", &self.name, "-tinHO", "state", "established"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The cable first: a namespace lingers on, and its devices with it.
        let _ = run("ip", &["link", "del", &self.cable]);
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}
