//! The limits that protect a node and a main server, as a label's values.

use edge_mirror_base::metrics::{Page, Tally, labels};

labels! {
    /// A limit that somebody reached, in either role.
    Limit {
        /// Connections that one address may have.
        ConnectionsPerClient => "connections_per_client",
        /// Somebody had to wait for one: all were taken, and none could be closed.
        Connections => "connections",
        /// An idle connection was closed because another one needed its place.
        IdleConnections => "idle_connections",
        /// A connection was closed for taking or sending too little while others waited.
        SlowConnections => "slow_connections",
        /// Pulls that one address may cause with ids that are not active.
        PullsPerClient => "pulls_per_client",
        /// Clients that may wait for packages of meetings that are not active, in
        /// all or of one address.
        PullWaiters => "pull_waiters",
        /// Active meetings whose versions can be asked for without a pause.
        VersionChecks => "version_checks",
        /// What is evicted for packages of meetings that are not active.
        EvictedForClients => "evicted_for_clients",
        /// Active meetings that a node takes in.
        ActiveMeetings => "active_meetings",
        /// Entries, or bytes, of an archive's directory.
        ArchiveDirectory => "archive_directory",
        /// Bytes that one node's heartbeat may take, or values in it.
        HeartbeatBytes => "heartbeat_bytes",
        /// Bytes that what nodes list may take, of all or of one address.
        NodesBytes => "nodes_bytes",
        /// Nodes in all.
        Nodes => "nodes",
        /// Large requests at once, in all or of one address.
        LargeBodies => "large_bodies",
        /// New nodes that one address may bring in a minute, and nodes that it
        /// may have.
        NewNodesPerClient => "new_nodes_per_client",
    }
}

/// How often which limit was reached.
pub fn show(page: &mut Page, reached: &Tally<Limit>) {
    page.tally(
        "edge_mirror_limits_reached_total",
        "What was refused or cut short because a limit was reached, by limit.",
        "limit",
        reached,
    );
}
