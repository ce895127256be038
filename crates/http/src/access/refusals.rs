//! Log lines about refused calls: the first of an address in full, further ones of the
//! same minute as a number. So clients choose neither how fast the log grows, nor how
//! soon useful lines are rotated away. Pure.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::listen::rate_limit_key;

/// The period of a summary.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Addresses named in a window; calls of others are summed up together. That is at most
/// 65 lines a minute: 15 MB a day for an attacker with that many addresses.
const MAX_ADDRESSES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct RefusedCalls {
    of: HashMap<IpAddr, RefusalCount>,
    of_others: u64,
}

/// Calls of an address after the first.
#[derive(Debug)]
struct RefusalCount {
    more: u64,
    why: &'static str,
}

impl RefusedCalls {
    /// Counts a call; true if the log names it.
    pub(super) fn note(&mut self, address: IpAddr, why: &'static str) -> bool {
        let address = rate_limit_key(address);
        if let Some(refused) = self.of.get_mut(&address) {
            *refused = RefusalCount { more: refused.more + 1, why };
            return false;
        }
        if self.of.len() >= MAX_ADDRESSES {
            self.of_others += 1;
            return false;
        }
        self.of.insert(address, RefusalCount { more: 0, why });
        true
    }

    /// Ends a window, with a line for each address with further calls.
    pub(super) fn take_summary(&mut self) -> Vec<String> {
        let Self { of, of_others } = std::mem::take(self);
        let minute = WINDOW.as_secs();
        let repeated = of.into_iter().filter(|(_, refused)| refused.more > 0);
        let mut lines: Vec<_> = repeated
            .map(|(address, RefusalCount { more, why })| {
                let network = if address.is_ipv6() { "/64" } else { "" };
                format!("refused {more} more calls of {address}{network} within {minute} s: {why}")
            })
            .collect();
        lines.sort();
        if of_others > 0 {
            lines.push(format!("refused {of_others} calls of other addresses within {minute} s"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn the_first_call_of_an_address_is_told_and_the_others_are_a_number() {
        let mut refusals = RefusedCalls::default();
        assert!(refusals.note(address(1), "not logged in"));
        assert!(!refusals.note(address(1), "not logged in"));
        assert!(!refusals.note(address(1), "wrong token or code"));
        assert!(refusals.note(address(2), "not logged in"), "others are told all the same");
        assert!(refusals.note("2001:db8::1".parse().unwrap(), "x"));
        assert!(!refusals.note("2001:db8::2".parse().unwrap(), "x"), "the same network");
        assert_eq!(
            refusals.take_summary(),
            [
                "refused 1 more calls of 2001:db8::/64 within 60 s: x",
                "refused 2 more calls of 10.0.0.1 within 60 s: wrong token or code",
            ]
        );
        assert!(refusals.take_summary().is_empty());
        assert!(refusals.note(address(1), "not logged in"), "in the next minute again");
    }

    #[test]
    fn so_many_addresses_are_named_and_no_more() {
        for (count, named) in [(31, 31), (32, 32), (33, 32), (5000, 32)] {
            let mut refusals = RefusedCalls::default();
            let mut note = || (0..count).filter(|n| refusals.note(address(*n), "x")).count();
            assert_eq!((note(), note()), (named, 0), "{count}");
            let lines = refusals.take_summary();
            assert_eq!(lines.len(), named + usize::from(count > 32), "{count}");
            let others = (2 * (count as usize - named)).to_string();
            assert!(count <= 32 || lines[named].contains(&others), "{lines:?}");
        }
    }
}
