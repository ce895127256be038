//! The limits that protect a node and a main server, as a label's values.

use super::labels;

labels! {
    /// A limit that somebody reached, in either role.
    Limit {
        /// Connections that one address may have.
        ConnectionsPerClient => "connections_per_client",
        /// An idle connection was closed because another one needed its place.
        IdleConnections => "idle_connections",
        /// A connection was closed for taking or sending too little while others waited.
        SlowConnections => "slow_connections",
        /// Pulls that one address may cause with ids that are not active.
        PullsPerClient => "pulls_per_client",
        /// Active meetings whose versions can be asked for without a pause.
        VersionChecks => "version_checks",
        /// What is evicted for packages of meetings that are not active.
        EvictedForClients => "evicted_for_clients",
        /// Active meetings that a node takes in.
        ActiveMeetings => "active_meetings",
        /// Entries, or bytes, of an archive's directory.
        ArchiveDirectory => "archive_directory",
        /// Bytes that one node's heartbeat may take, and all nodes' together.
        HeartbeatBytes => "heartbeat_bytes",
        NodesBytes => "nodes_bytes",
        /// New nodes that one address may bring in a minute.
        NewNodesPerClient => "new_nodes_per_client",
    }
}
