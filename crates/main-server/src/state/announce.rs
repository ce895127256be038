//! Timing of a start's announcement to clients. Pure.
//!
//! Tablets fetch the package the moment the token changes, a whole room at
//! once; the nodes should have it by then.

/// `nodes`: for each live and reachable node, true if it has the package.
pub(crate) fn is_due(waited_s: f64, timeout_s: f64, mut nodes: impl Iterator<Item = bool>) -> bool {
    // A negative wait is a clock that was set back across a restart.
    !(0.0..timeout_s).contains(&waited_s) || nodes.all(|has_it| has_it)
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn a_start_is_announced_once_every_node_has_the_package_or_time_is_up() {
        for (waited_s, nodes, expected) in [
            (0.0, &[][..], true),
            (0.0, &[true, true], true),
            (0.0, &[true, false], false),
            (29.9, &[false], false),
            (30.0, &[false], true),
            (-1.0, &[false], true),
        ] {
            let got = is_due(waited_s, 30.0, nodes.iter().copied());
            assert_eq!(got, expected, "{waited_s} {nodes:?}");
        }
    }
}
