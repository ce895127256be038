//! The fleets, what happens to them, and what the product promises itself.

use std::time::Duration;

use clap::ValueEnum;

const MIB: u64 = 1 << 20;
/// A quick look is at packages that are as many times smaller.
const QUICK: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub name: &'static str,
    pub nodes: usize,
    pub size: u64,
    /// The main server's uplink, in bytes per second.
    pub cap: u64,
    /// Each node's.
    pub uplink: u64,
    pub main_server: MainServerKind,
    pub incident: Incident,
    /// Times size ÷ cap, and times the size.
    pub at_most: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MainServerKind {
    Ours,
    /// The slow path of the real one.
    Theirs,
    /// None: aria2c, and one who has the package.
    #[value(skip)]
    Swarm,
}

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incident {
    None,
    RootKilled,
    InnerKilled,
    /// An inner node's uplink, in bytes per second.
    SlowUplink(u64),
    /// The main server has no cable for so long.
    Unplugged(Duration),
    /// An inner node sends a wrong byte to each child.
    Poisoned,
    /// A tablet asks each node for the package, from the start.
    Tablets,
}

impl Case {
    pub(crate) fn is_poisoned(&self) -> bool {
        self.incident == Incident::Poisoned
    }

    pub(crate) fn has_tablets(&self) -> bool {
        self.incident == Incident::Tablets
    }

    /// Returns the seconds that one copy takes.
    pub(crate) fn copy_s(&self) -> f64 {
        self.size as f64 / self.cap as f64
    }

    /// Returns the seconds in which nothing could go on.
    pub(crate) fn pause_s(&self) -> f64 {
        match self.incident {
            Incident::Unplugged(time) => time.as_secs_f64(),
            _ => 0.0,
        }
    }

    pub(crate) fn quick(self) -> Self {
        Self { size: self.size / QUICK, ..self }
    }
}

const fn case(
    name: &'static str,
    nodes: usize,
    mib: u64,
    (cap, uplink): (u64, u64),
    incident: Incident,
    at_most: Option<(f64, f64)>,
) -> Case {
    let main_server = MainServerKind::Ours;
    let (size, cap, uplink) = (mib * MIB, cap * MIB, uplink * MIB);
    Case { name, nodes, size, cap, uplink, main_server, incident, at_most }
}

const USUAL: (u64, u64) = (20, 100);

pub(crate) const CASES: [Case; 13] = [
    case("one node", 1, 200, USUAL, Incident::None, None),
    case("8 nodes", 8, 200, USUAL, Incident::None, Some((1.05, 1.01))),
    // On one machine, all of them together have two cores to hash with.
    case("32 nodes", 32, 50, (5, 25), Incident::None, Some((1.10, 1.01))),
    case("32 nodes, a tablet at each", 32, 50, (5, 25), Incident::Tablets, None),
    case("200 nodes", 200, 20, (1, 5), Incident::None, Some((1.15, 1.02))),
    case("equal links", 16, 100, (10, 10), Incident::None, Some((1.15, 1.01))),
    case("inner node killed at half", 8, 200, USUAL, Incident::InnerKilled, Some((1.10, 1.02))),
    case("root killed at half", 8, 200, USUAL, Incident::RootKilled, Some((1.25, 1.05))),
    case(
        "inner node with 4 MiB/s up",
        8,
        200,
        USUAL,
        Incident::SlowUplink(4 * MIB),
        Some((1.15, 1.02)),
    ),
    case(
        "main server unplugged for 10 s",
        8,
        200,
        USUAL,
        Incident::Unplugged(Duration::from_secs(10)),
        Some((1.10, 1.02)),
    ),
    Case {
        size: 30_000_000,
        cap: 3_000_000,
        main_server: MainServerKind::Theirs,
        ..case("slow main server of another kind", 8, 30, USUAL, Incident::None, Some((1.10, 1.0)))
    },
    case("wrong byte from a parent at half", 8, 200, USUAL, Incident::Poisoned, Some((1.10, 1.10))),
    Case {
        main_server: MainServerKind::Swarm,
        ..case("aria2c, 8 peers", 8, 200, USUAL, Incident::None, None)
    },
];
