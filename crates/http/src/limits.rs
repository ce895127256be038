//! The limits that protect a node and a main server, as label values.

use edge_mirror_base::metrics::{CounterFamily, Exposition, labels};

labels! {
    /// A limit that was reached, in either role.
    Limit {
        /// Connections of one address.
        ConnectionsPerClient => "connections_per_client",
        /// A connection had to wait: all were taken, and none could be closed.
        Connections => "connections",
        /// An idle connection was closed to make room for another.
        IdleConnections => "idle_connections",
        /// A slow connection was closed to make room for another.
        SlowConnections => "slow_connections",
        /// Pulls that one address may cause with ids that are not active.
        PullsPerClient => "pulls_per_client",
        /// Clients waiting for packages of meetings that are not active, in all or from
        /// one address.
        PullWaiters => "pull_waiters",
        /// Active meetings whose versions can be asked for without a pause.
        VersionChecks => "version_checks",
        /// Evictions for packages of meetings that are not active.
        EvictedForClients => "evicted_for_clients",
        /// Active meetings that a node accepts.
        ActiveMeetings => "active_meetings",
        /// Entries, or bytes, of an archive's directory.
        ArchiveDirectory => "archive_directory",
        /// Bytes, or values, of one node's heartbeat.
        HeartbeatBytes => "heartbeat_bytes",
        /// Bytes of all nodes' lists, in total or from one address.
        NodesBytes => "nodes_bytes",
        /// Nodes in total.
        Nodes => "nodes",
        /// Nodes that wait to be approved, in all or from one address.
        PendingNodes => "pending_nodes",
        /// Concurrent large requests, in all or of one address.
        LargeBodies => "large_bodies",
        /// Casts that are kept, or their bytes.
        Casts => "casts",
        /// New nodes of one address in a minute, and all nodes of it.
        NewNodesPerClient => "new_nodes_per_client",
    }
}

/// Writes how often each limit was reached.
pub fn encode(page: &mut Exposition, reached: &CounterFamily<Limit>) {
    page.tally(
        "edge_mirror_limits_reached_total",
        "What was refused or cut short because a limit was reached, by limit.",
        "limit",
        reached,
    );
}
