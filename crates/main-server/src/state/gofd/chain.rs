//! The order in which agents pull from each other, and how long an agent may be silent.

use std::time::Duration;

/// An agent reports each tenth. It may be slower than its connection allows by so much.
const SLOWNESS: u64 = 4;

/// The chain for the agent at `place` of those that have taken a task, with their data
/// ports. One whose data port can't be reached is nobody's predecessor: an agent that does
/// not reach its predecessor crashes.
pub(crate) fn chain_of(server: &str, agents: &[(String, bool)], place: usize) -> Vec<String> {
    let before = agents.iter().take(place).filter(|(_, can_be_reached)| *can_be_reached);
    let own = agents.iter().skip(place).take(1);
    let agents = before.chain(own).map(|(address, _)| address.clone());
    [server.to_owned()].into_iter().chain(agents).collect()
}

/// The time after which a silent agent is told again to begin, and in the end has failed.
/// `shortest` is for a task without bytes.
pub(crate) fn silence_limit(shortest: Duration, bytes: u64, speed: u64) -> Duration {
    let tenth = bytes / 10 / speed.max(1);
    shortest + Duration::from_secs(tenth.saturating_mul(SLOWNESS).min(24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_a_predecessor_that_cannot_be_reached() {
        let agent = |name: &str, reached| (name.to_owned(), reached);
        let agents = [agent("a", true), agent("b", false), agent("c", true), agent("d", true)];
        assert_eq!(chain_of("s", &agents, 0), ["s", "a"]);
        assert_eq!(chain_of("s", &agents, 1), ["s", "a", "b"]);
        assert_eq!(chain_of("s", &agents, 2), ["s", "a", "c"]);
        assert_eq!(chain_of("s", &agents, 3), ["s", "a", "c", "d"]);
    }

    #[test]
    fn a_large_task_may_be_silent_for_longer() {
        let limit = |bytes, speed| silence_limit(Duration::from_secs(60), bytes, speed).as_secs();
        assert_eq!(limit(0, 10 << 20), 60);
        assert_eq!(limit(10 << 30, 10 << 20), 60 + 4 * 102);
        assert_eq!(limit(u64::MAX, 0), 60 + 24 * 3600);
    }
}
