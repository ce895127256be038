//! Timing of a start's announcement to clients. Pure.
//!
//! Tablets fetch the package the moment the token changes, a whole room at
//! once; the nodes should have it by then.

use std::time::Duration;

/// `waited`: the time since the start; None if the start is in the future, because the
/// clock was set back across a restart. `nodes`: for each live and reachable node, true
/// if it has the package.
pub(crate) fn is_due(
    waited: Option<Duration>,
    timeout: Duration,
    mut nodes: impl Iterator<Item = bool>,
) -> bool {
    waited.is_none_or(|waited| waited >= timeout) || nodes.all(|has_it| has_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_announced_once_every_node_has_the_package_or_time_is_up() {
        for (waited_ms, nodes, expected) in [
            (Some(0), &[][..], true),
            (Some(0), &[true, true], true),
            (Some(0), &[true, false], false),
            (Some(29_999), &[false], false),
            (Some(30_000), &[false], true),
            (None, &[false], true),
        ] {
            let waited = waited_ms.map(Duration::from_millis);
            let got = is_due(waited, Duration::from_secs(30), nodes.iter().copied());
            assert_eq!(got, expected, "{waited:?} {nodes:?}");
        }
    }
}
