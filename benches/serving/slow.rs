//! A room full of readers that hardly read: what each of them pins down, in
//! the server and in the kernel.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    client::Ask,
    contenders::{ALL, Kind, Scene},
};
use crate::support::{Report, Server, Table, packages::Package, server::Memory, stats};

const STEPS: usize = 20;
/// Of each reader in a second, if it reads at all.
const SLOW_BYTES: usize = 16 << 10;
/// A reader whose answer has not begun by then is not served.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    before: Memory,
    memory: Memory,
    kernel: u64,
}

pub(crate) fn run(
    scene: &Scene,
    package: &Package,
    (readers, time): (usize, Duration),
    report: &mut Report,
) -> Result<()> {
    let head = ["slow readers", "server", "anonymous", "idle", "file-backed", "kernel's TCP"];
    let mut table = Table::new(&head);
    for (what, bytes) in [("read nothing", 0), ("16 KB/s each", SLOW_BYTES)] {
        for kind in ALL {
            eprintln!("{readers} readers, {what}, {}", kind.label());
            // A fresh one: what it needed for something else does not count.
            let server = scene.start(kind)?;
            let seen = scene
                .as_client(&server, || watch(kind, &server, package, (readers, bytes), time))?;
            let mb =
                |bytes: u64| format!("{} MiB", stats::figure(bytes as f64 / f64::from(1 << 20)));
            table.row([
                format!("{readers} of {}, {what}", package.label()),
                kind.label().to_owned(),
                mb(seen.memory.anonymous),
                mb(seen.before.anonymous),
                mb(seen.memory.file),
                mb(seen.kernel),
            ]);
        }
    }
    report.table(&table);
    Ok(())
}

fn watch(
    kind: Kind,
    server: &Server,
    package: &Package,
    (readers, bytes): (usize, usize),
    time: Duration,
) -> Result<Seen> {
    let ask = kind.whole(package);
    let kernel_before = settled_kernel()?;
    let mut seen = Seen { before: server.memory()?, ..Seen::default() };
    let mut crowd = Vec::with_capacity(readers);
    for _ in 0..readers {
        let mut stream = TcpStream::connect(server.address)?;
        ask.send(&mut stream)?;
        crowd.push(stream);
    }
    let mut buffer = vec![0; SLOW_BYTES];
    for stream in &crowd {
        begun(stream, &ask, &mut buffer)?;
        stream.set_nonblocking(true)?;
    }
    let (begin, step) = (Instant::now(), Duration::from_secs(1) / STEPS as u32);
    let mut turn = 0;
    while begin.elapsed() < time {
        if bytes > 0 {
            let some = crowd.iter().skip(turn % STEPS).step_by(STEPS);
            for stream in some {
                sip(stream, &mut buffer[..bytes])?;
            }
        }
        turn += 1;
        let memory = server.memory()?;
        seen.memory.anonymous = seen.memory.anonymous.max(memory.anonymous);
        seen.memory.file = seen.memory.file.max(memory.file);
        seen.kernel = seen.kernel.max(kernel_bytes()?.saturating_sub(kernel_before));
        std::thread::sleep((step * turn as u32).saturating_sub(begin.elapsed()));
    }
    Ok(seen)
}

/// Looks at the answer's head and leaves it where it is.
fn begun(stream: &TcpStream, ask: &Ask, buffer: &mut [u8]) -> Result<()> {
    let begin = Instant::now();
    stream.set_read_timeout(Some(PATIENCE))?;
    loop {
        let n = stream.peek(buffer).context("a slow reader was not answered")?;
        ensure!(n > 0, "a slow reader's connection was closed");
        if ask.check(&buffer[..n])?.is_some() {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "a slow reader's answer does not begin");
    }
}

fn sip(mut stream: &TcpStream, buffer: &mut [u8]) -> Result<()> {
    match stream.read(buffer) {
        Ok(0) => bail!("a slow reader's connection was closed"),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => bail!("a slow reader's connection broke: {error}"),
    }
}

/// Of all TCP sockets of the machine.
fn kernel_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).context("no TCP")?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    let pages: u64 = words.next().and_then(|pages| pages.parse().ok()).context("no mem")?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Once the sockets of before are gone.
fn settled_kernel() -> Result<u64> {
    let mut least = kernel_bytes()?;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        least = least.min(kernel_bytes()?);
    }
    Ok(least)
}
