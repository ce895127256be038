//! Limits the new nodes of each client. Pure: the time is passed in.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::listen::rate_limit_key;

use crate::{refusal::RequestError, state::MAX_NODES};

/// A venue's nodes may start all at once behind one address: two hundred do so
/// with room to spare, and more within minutes.
pub(crate) const MAX_A_MINUTE: u32 = 300;
const MINUTE: Duration = Duration::from_secs(60);

/// By client, IPv6 by network.
#[derive(Debug, Default)]
pub(crate) struct NewcomerLimiter {
    since: HashMap<IpAddr, (UnixMillis, u32)>,
}

impl NewcomerLimiter {
    pub(crate) fn admit(&mut self, client: IpAddr, now: UnixMillis) -> Result<(), RequestError> {
        let client = rate_limit_key(client);
        self.since.retain(|_, (since, _)| now.saturating_since(*since) < MINUTE);
        if self.since.len() >= MAX_NODES && !self.since.contains_key(&client) {
            return Err(RequestError::TooManyNodes(MAX_NODES));
        }
        let (_, count) = self.since.entry(client).or_insert((now, 0));
        if *count >= MAX_A_MINUTE {
            return Err(RequestError::TooManyNewNodes(MAX_A_MINUTE));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> UnixMillis {
        UnixMillis::from_secs_f64(seconds)
    }

    #[test]
    fn a_client_brings_so_many_a_minute_and_others_are_not_concerned() {
        let mut newcomers = NewcomerLimiter::default();
        let mut admit = |client: [u8; 4], now| newcomers.admit(client.into(), now);
        for n in 0..MAX_A_MINUTE {
            assert!(admit([10, 0, 0, 1], at(f64::from(n) / 10.0)).is_ok(), "{n}");
        }
        let beyond = admit([10, 0, 0, 1], at(59.9));
        assert!(matches!(beyond, Err(RequestError::TooManyNewNodes(MAX_A_MINUTE))));
        assert!(admit([10, 0, 0, 2], at(59.9)).is_ok());
        assert!(admit([10, 0, 0, 1], at(60.0)).is_ok(), "another minute");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let mut newcomers = NewcomerLimiter::default();
        let mut admit = |client: String| newcomers.admit(client.parse().unwrap(), at(0.0));
        for n in 0..MAX_A_MINUTE {
            assert!(admit(format!("2001:db8::{n:x}")).is_ok(), "{n}");
        }
        assert!(admit("2001:db8::ffff".to_owned()).is_err());
        assert!(admit("2001:db8:0:1::1".to_owned()).is_ok());
    }

    #[test]
    fn clients_without_end_take_no_memory_without_end() {
        let mut newcomers = NewcomerLimiter::default();
        let client = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        for n in 0..MAX_NODES {
            assert!(newcomers.admit(client(n), at(0.0)).is_ok());
        }
        let beyond = newcomers.admit(client(MAX_NODES), at(1.0));
        assert!(matches!(beyond, Err(RequestError::TooManyNodes(_))));
        assert!(newcomers.admit(client(0), at(1.0)).is_ok(), "known ones stay welcome");
        assert!(newcomers.admit(client(MAX_NODES), at(60.0)).is_ok());
    }
}
