//! Preferences that requests state in header fields: how long an answer may be held back
//! (`Prefer: wait`, RFC 7240, 4.3), and how urgent it is (`Priority`, RFC 9218).

use std::time::Duration;

pub const PREFER: &str = "prefer";
pub const PRIORITY: &str = "priority";
/// Value of [`PRIORITY`] for what somebody waits for.
pub const URGENT: &str = "u=1";
/// Urgency of requests that say nothing (RFC 9218, 4.1); lower numbers are more urgent.
const DEFAULT_URGENCY: u8 = 3;

/// Reads for how long an answer may be held back from the lines of [`PREFER`].
pub fn preferred_wait<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Duration> {
    let mut preferences = lines.flat_map(|line| line.split(','));
    // The first one of a name counts (RFC 7240, 2).
    let wait = preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    wait?.parse().ok().map(Duration::from_secs)
}

/// True if the lines of [`PRIORITY`] name more than the ordinary urgency.
pub fn is_urgent<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let members = lines.flat_map(|line| line.split(','));
    // The last one of a name counts (RFC 9651, 3.2), and nonsense for nothing.
    let urgency = members.filter_map(|member| {
        let value = member.split(';').next()?.trim().strip_prefix("u=")?;
        value.parse::<u8>().ok().filter(|urgency| *urgency <= 7)
    });
    urgency.last().unwrap_or(DEFAULT_URGENCY) < DEFAULT_URGENCY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_it_is_kept_waiting() {
        for (lines, expected) in [
            (&[][..], None),
            (&["wait=10"], Some(10)),
            (&["respond-async, Wait = \"5\"; x=y, wait=9"], Some(5)),
            (&["return=minimal", "wait=7"], Some(7)),
            (&["wait=0"], Some(0)),
            (&["wait"], None),
            (&["wait=-1"], None),
            (&["wait=soon"], None),
            (&["waiting=3"], None),
        ] {
            let wait = preferred_wait(lines.iter().copied());
            assert_eq!(wait.map(|wait| wait.as_secs()), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_more_urgent_than_usual_is_urgent() {
        for (lines, expected) in [
            (&[][..], false),
            (&[URGENT], true),
            (&["u=0"], true),
            (&["i, u=2;x=y"], true),
            (&["u=3"], false),
            (&["u=7, i"], false),
            (&["u=7", "u=1"], true),
            (&["u=1, u=5"], false),
            (&["u=9"], false),
            (&["u=-1"], false),
            (&["u"], false),
            (&["urgent=1"], false),
        ] {
            assert_eq!(is_urgent(lines.iter().copied()), expected, "{lines:?}");
        }
    }
}
