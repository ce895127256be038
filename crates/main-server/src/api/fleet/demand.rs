//! `GET /api/v1/fleet/demand`: how many nodes the load wants, for whoever starts and stops
//! them.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::server::{FleetDemand, Server};

pub(crate) async fn demand(State(server): State<Arc<Server>>) -> Json<FleetDemand> {
    Json(*server.demand.borrow())
}
