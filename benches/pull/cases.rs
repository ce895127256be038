//! What is pulled, at what pace, and what the product promises itself of it.

use super::bout::Found;
use crate::support::{
    Limit,
    packages::{self, MB, Method},
};

/// At the pace of a line of 1 or 2.5 Gbit/s, a bit less than the line's own: it
/// carries headers, too.
pub(crate) const PACED: [(&str, &str); 2] =
    [("/uploads/gigabit/", "112m"), ("/uploads/faster/", "280m")];
/// A quick look is at packages that are as many times smaller.
const QUICK: u64 = 10;

pub(crate) struct Case {
    size: u64,
    pub method: Method,
    pub line: Line,
    pub limited: Limited,
}

#[derive(Clone, Copy)]
pub(crate) enum Line {
    Loopback,
    Gigabit,
    Faster,
}

/// What the product promises itself of it.
#[derive(Clone, Copy)]
pub(crate) enum Limited {
    Pull,
    Commit,
}

impl Limited {
    pub(crate) fn held(self, name: &str, found: &Found) -> Limit {
        let (what, at_most, measured) = match self {
            Self::Pull => ("÷ curl", 0.8, found.ratio().median()),
            Self::Commit => ("commit ÷ pull", 0.2, found.share().median()),
        };
        Limit::new(format!("{name}: {what}"), at_most, "", measured)
    }
}

const fn case(megabytes: u64, method: Method, line: Line, limited: Limited) -> Case {
    Case { size: megabytes * MB, method, line, limited }
}

pub(crate) const CASES: [Case; 6] = [
    case(1000, Method::Stored, Line::Loopback, Limited::Pull),
    case(300, Method::Stored, Line::Loopback, Limited::Commit),
    case(300, Method::Deflated, Line::Loopback, Limited::Commit),
    case(300, Method::Stored, Line::Gigabit, Limited::Commit),
    case(300, Method::Deflated, Line::Gigabit, Limited::Commit),
    case(300, Method::Deflated, Line::Faster, Limited::Commit),
];

impl Case {
    pub(crate) fn size(&self, quick: bool) -> u64 {
        self.size / if quick { QUICK } else { 1 }
    }

    pub(crate) fn name(&self, quick: bool) -> String {
        let (size, method) = (packages::label(self.size(quick)), self.method);
        let line = match self.line {
            Line::Loopback => "",
            Line::Gigabit => ", 1 Gbit/s",
            Line::Faster => ", 2.5 Gbit/s",
        };
        format!("{size} {}{line}", format!("{method:?}").to_lowercase())
    }

    pub(crate) fn folder(&self) -> &'static str {
        match self.line {
            Line::Loopback => "/uploads/packages/",
            Line::Gigabit => PACED[0].0,
            Line::Faster => PACED[1].0,
        }
    }
}
