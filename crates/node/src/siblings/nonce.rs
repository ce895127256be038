//! Nonces that children answer with their proof. Each is good once, for a while, and
//! nothing is kept of those that were never used. Pure: the time is passed in.

use std::collections::{HashSet, VecDeque};

use edge_mirror_protocol::package::Sha256;
use sha2::Digest;

/// A child asks again each second, and after a pause of its pull.
const LIFETIME_MS: u64 = 60_000;
/// Only who knows the key can use one up: several times what the children of a node do
/// within a nonce's lifetime.
const MAX_USED: usize = 16_384;

#[derive(Debug)]
pub(super) struct NonceIssuer {
    secret: [u8; 32],
    issued: u64,
    /// The used ones with the time of their issue, the oldest first.
    order: VecDeque<(u64, Sha256)>,
    used: HashSet<Sha256>,
}

impl NonceIssuer {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret, issued: 0, order: VecDeque::new(), used: HashSet::new() }
    }

    pub(super) fn issue(&mut self, now_ms: u64) -> String {
        self.issued += 1;
        let (number, tag) = (self.issued, self.tag(now_ms, self.issued));
        format!("{now_ms:x}.{number:x}.{tag}")
    }

    /// True if it is one of ours and may be used. [`use_up`](Self::use_up) follows once
    /// the proof turned out to be right.
    pub(super) fn is_valid(&mut self, nonce: &str, now_ms: u64) -> bool {
        // Here, too: while no more can be remembered, none is used up.
        self.forget_old(now_ms);
        let Some((issued_ms, tag)) = self.parse(nonce) else { return false };
        now_ms.saturating_sub(issued_ms) < LIFETIME_MS
            && issued_ms <= now_ms
            && self.used.len() < MAX_USED
            && !self.used.contains(&tag)
    }

    pub(super) fn use_up(&mut self, nonce: &str, now_ms: u64) {
        self.forget_old(now_ms);
        if let Some((issued_ms, tag)) = self.parse(nonce)
            && self.used.insert(tag)
        {
            // In the order of use, which is near enough to that of issue.
            self.order.push_back((issued_ms, tag));
        }
    }

    fn forget_old(&mut self, now_ms: u64) {
        while let Some((issued_ms, tag)) = self.order.front().copied()
            && now_ms.saturating_sub(issued_ms) >= LIFETIME_MS
        {
            self.order.pop_front();
            self.used.remove(&tag);
        }
    }

    fn parse(&self, nonce: &str) -> Option<(u64, Sha256)> {
        let mut parts = nonce.split('.');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (issued_ms, number) = (number()?, number()?);
        let tag = parts.next()?.parse().ok()?;
        (parts.next().is_none() && tag == self.tag(issued_ms, number)).then_some((issued_ms, tag))
    }

    fn tag(&self, issued_ms: u64, number: u64) -> Sha256 {
        let mut hasher = sha2::Sha256::new_with_prefix(self.secret);
        hasher.update(issued_ms.to_be_bytes());
        hasher.update(number.to_be_bytes());
        Sha256::new(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_and_for_a_minute() {
        let mut issuer = NonceIssuer::new([1; 32]);
        let (a, b) = (issuer.issue(1000), issuer.issue(1000));
        assert!(a != b && issuer.is_valid(&a, 1000) && issuer.is_valid(&b, 60_999));
        assert!(!issuer.is_valid(&b, 61_000) && !issuer.is_valid(&b, 999));
        issuer.use_up(&a, 2000);
        assert!(!issuer.is_valid(&a, 2000), "a proof is not taken twice");
        assert!(issuer.is_valid(&b, 2000));
        for bad in ["", "a.b", "3e8.1.00", &format!("{b}.1"), &b.replace('.', ":")] {
            assert!(!issuer.is_valid(bad, 2000), "{bad}");
        }
        assert!(!NonceIssuer::new([2; 32]).is_valid(&b, 2000), "of another node");
    }

    #[test]
    fn used_ones_are_forgotten_when_they_are_too_old_anyway() {
        let mut issuer = NonceIssuer::new([1; 32]);
        for at in 0..MAX_USED as u64 {
            let nonce = issuer.issue(at);
            issuer.use_up(&nonce, at);
        }
        let next = issuer.issue(20_000);
        assert!(!issuer.is_valid(&next, 20_000), "no more can be remembered");
        let later = issuer.issue(80_000);
        assert!(issuer.is_valid(&later, 80_000) && issuer.used.is_empty());
    }
}
