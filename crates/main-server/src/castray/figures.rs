//! The figures of each node, and the number that stands for its port. Pure.

use std::collections::{HashMap, VecDeque};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::dispatch::TaskId;

/// Numbers for nodes that name none: there are no sockets behind them.
const FIRST_PORT: u16 = 20_000;
const LOWEST_PORT: u16 = 1024;
/// Casts and transfers of one node whose end is looked for; beyond, the oldest count as lost.
const MAX_AWAITED: usize = 1000;

/// The transfers of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TransferFigures {
    pub(super) successful: u64,
    pub(super) failed: u64,
    /// The bytes of those that were successful.
    pub(super) bytes: u64,
}

/// A file on its way to a node, as a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenTransfer {
    pub(super) task: TaskId,
    pub(super) recipient: String,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct NodeFigures {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) last_activity: UnixMillis,
    pub(super) transfers: TransferFigures,
    pub(super) sends_by_itself: bool,
    /// Numbers of casts that a real node has not confirmed yet.
    awaited: VecDeque<i64>,
    open: VecDeque<OpenTransfer>,
}

impl NodeFigures {
    pub(super) fn note_sent(&mut self, count: u64, at: UnixMillis) {
        self.sent += count;
        self.last_activity = at;
    }

    pub(super) fn note_received(&mut self, at: UnixMillis) {
        self.received += 1;
        self.last_activity = at;
    }

    /// Looks for the cast's arrival from now on.
    pub(super) fn await_cast(&mut self, seq: i64) {
        if self.awaited.len() == MAX_AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back(seq);
    }

    /// Counts the casts that are known to have arrived, up to a number.
    pub(super) fn note_confirmed(&mut self, up_to: i64, at: UnixMillis) {
        while self.awaited.front().is_some_and(|seq| *seq <= up_to) {
            self.awaited.pop_front();
            self.note_received(at);
        }
    }

    pub(super) fn awaits_casts(&self) -> bool {
        !self.awaited.is_empty()
    }

    pub(super) fn note_transfer(&mut self, is_good: bool, bytes: u64) {
        match is_good {
            true => {
                self.transfers.successful += 1;
                self.transfers.bytes += bytes;
            }
            false => self.transfers.failed += 1,
        }
    }

    pub(super) fn begin_transfer(&mut self, transfer: OpenTransfer) {
        if self.open.len() == MAX_AWAITED {
            self.open.pop_front();
            self.note_transfer(false, 0);
        }
        self.open.push_back(transfer);
    }

    /// Counts the transfers that have ended; `outcome` says whether well, None of one that has
    /// not.
    pub(super) fn settle(&mut self, outcome: impl Fn(&OpenTransfer) -> Option<bool>) {
        for transfer in std::mem::take(&mut self.open) {
            match outcome(&transfer) {
                Some(is_good) => self.note_transfer(is_good, transfer.bytes),
                None => self.open.push_back(transfer),
            }
        }
    }

    pub(super) fn active(&self) -> usize {
        self.open.len()
    }
}

/// The figures of all nodes of which anything is known.
#[derive(Debug, Default)]
pub(super) struct FigureBook {
    nodes: HashMap<String, NodeFigures>,
    ports: HashMap<String, u16>,
    taken: HashMap<u16, String>,
    /// The first number to try for the next node that names none; 0 at the start.
    next_port: u16,
}

impl FigureBook {
    pub(super) fn get(&self, id: &str) -> Option<&NodeFigures> {
        self.nodes.get(id)
    }

    pub(super) fn of(&mut self, id: &str) -> &mut NodeFigures {
        self.nodes.entry(id.to_owned()).or_default()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut NodeFigures)> {
        self.nodes.iter_mut().map(|(id, figures)| (id.as_str(), figures))
    }

    /// The senders that send by themselves.
    pub(super) fn automatic(&self) -> Vec<String> {
        let nodes = self.nodes.iter().filter(|(_, figures)| figures.sends_by_itself);
        nodes.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets what is known of a node.
    pub(super) fn remove(&mut self, id: &str) {
        self.nodes.remove(id);
        if let Some(port) = self.ports.remove(id) {
            self.taken.remove(&port);
        }
    }

    pub(super) fn retain(&mut self, is_node: impl Fn(&str) -> bool) {
        let gone = self.nodes.keys().chain(self.ports.keys()).filter(|id| !is_node(id));
        for id in gone.cloned().collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    /// Gives a node the port that it asks for. False if that is another's.
    pub(super) fn take_port(&mut self, id: &str, port: u16) -> bool {
        if self.taken.get(&port).is_some_and(|owner| owner != id) {
            return false;
        }
        if let Some(before) = self.ports.insert(id.to_owned(), port) {
            self.taken.remove(&before);
        }
        self.taken.insert(port, id.to_owned());
        true
    }

    /// The port of a node, which gets a free one now if it has none; 0 if there is none left.
    pub(super) fn port(&mut self, id: &str) -> u16 {
        if let Some(port) = self.ports.get(id) {
            return *port;
        }
        if self.is_full() {
            return 0;
        }
        // Found soon: the one after the last one that was given is free mostly.
        let next = if self.next_port == 0 { FIRST_PORT } else { self.next_port };
        let mut all = (next..=u16::MAX).chain(LOWEST_PORT..next);
        let Some(port) = all.find(|port| !self.taken.contains_key(port)) else { return 0 };
        self.next_port = port.checked_add(1).unwrap_or(LOWEST_PORT);
        self.take_port(id, port);
        port
    }

    /// True if no number is left for those that name none.
    fn is_full(&self) -> bool {
        let all = usize::from(u16::MAX - LOWEST_PORT) + 1;
        // Nodes may name lower ones, which are no others'.
        let low = || (0..LOWEST_PORT).filter(|port| self.taken.contains_key(port)).count();
        self.taken.len() >= all && self.taken.len() - low() >= all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMillis = UnixMillis::from_secs(5);

    #[test]
    fn a_port_is_one_nodes_and_free_again_with_it() {
        let mut book = FigureBook::default();
        assert!(book.take_port("a", 9000) && book.take_port("a", 9000));
        assert!(!book.take_port("b", 9000));
        let ports = ["b", "c", "b"].map(|id| book.port(id));
        assert!(ports[0] == ports[2] && ports[0] != ports[1] && !ports.contains(&9000));
        book.retain(|id| id != "a");
        assert!(book.take_port("b", 9000) && book.port("b") == 9000);
    }

    #[test]
    fn ports_go_round_and_end() {
        let mut book = FigureBook::default();
        assert!(book.take_port("low", 80));
        let ports: Vec<_> = (0..64_512).map(|n| book.port(&n.to_string())).collect();
        assert_eq!((ports[0], ports[45_535], ports[45_536]), (20_000, 65_535, 1024));
        assert!(!ports.contains(&0) && book.port("one too many") == 0);
        book.remove("7");
        assert_eq!(book.port("in its place"), 20_007);
    }

    #[test]
    fn what_arrives_is_counted_once_and_what_is_on_its_way_is_not() {
        let mut book = FigureBook::default();
        [3, 5, 9].into_iter().for_each(|seq| book.of("n").await_cast(seq));
        book.of("n").note_confirmed(5, AT);
        book.of("n").note_confirmed(5, AT);
        assert_eq!(
            (book.get("n").unwrap().received, book.get("n").unwrap().awaits_casts()),
            (2, true)
        );
        (10..2000).for_each(|seq| book.of("n").await_cast(seq));
        assert_eq!(book.get("n").unwrap().awaited.len(), MAX_AWAITED);
    }

    #[test]
    fn transfers_count_for_their_sender_when_they_have_ended() {
        let mut figures = NodeFigures::default();
        let task: TaskId = "0190a2b3c4d-00abcd".parse().unwrap();
        for recipient in ["good", "bad", "under way"] {
            let recipient = recipient.to_owned();
            figures.begin_transfer(OpenTransfer { task: task.clone(), recipient, bytes: 10 });
        }
        let outcome = |transfer: &OpenTransfer| match &*transfer.recipient {
            "good" => Some(true),
            "bad" => Some(false),
            _ => None,
        };
        figures.settle(outcome);
        figures.settle(outcome);
        let expected = TransferFigures { successful: 1, failed: 1, bytes: 10 };
        assert_eq!((figures.transfers, figures.active()), (expected, 1));
    }
}
