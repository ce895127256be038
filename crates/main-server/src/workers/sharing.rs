//! Writes nodes' calls for the other main servers of a fleet, carries out theirs, and holds
//! the leader's lease.

use std::{
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use edge_mirror_base::tasks;
use edge_mirror_http::access::ChangedAccess;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    api::nodes,
    error::StateError,
    repository::{ReceivedCalls, StatePresence},
    server::Server,
    state::{
        master_state::MasterCommand,
        shared_calls::{SharedCall, calls_in, calls_text},
    },
};

/// Interval of the statement that writes what was heard here and reads what others heard: it
/// takes twice as long at most until they know it, and no notification.
const EXCHANGE_EVERY: Duration = Duration::from_millis(500);
/// Interval of looking whether credentials were changed here.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(4);

pub(crate) async fn share_calls(
    server: Arc<Server>,
    mut presence: StatePresence,
    stop: CancellationToken,
) {
    let work = async {
        let mut tick = tokio::time::interval(EXCHANGE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut renew_at, mut leads_until) = (Instant::now(), Instant::now());
        loop {
            tick.tick().await;
            if let Err(cause) = exchange(&server, &mut presence).await {
                // The writer says so, and that it is back.
                debug!("nodes' calls can't be shared: {cause}");
                server.note_presence_gap();
            }
            if renew_at <= Instant::now() && server.state_fault.borrow().is_none() {
                renew_at = Instant::now() + RENEW_EVERY;
                let asked_at = Instant::now();
                match presence.lead(LEASE).await {
                    Ok(true) => leads_until = asked_at + LEASE,
                    Ok(false) => leads_until = asked_at,
                    Err(cause) => debug!("the lease can't be renewed: {cause}"),
                }
            }
            // Who can save nothing leaves it to another one.
            let can_save = server.state_fault.borrow().is_none();
            if !can_save && Instant::now() < leads_until && presence.resign().await.is_ok() {
                leads_until = Instant::now();
            }
            set_leader(&server, can_save && Instant::now() < leads_until);
        }
    };
    stop.run_until_cancelled(work).await;
    let stopping = async {
        if let Some(unshared) = &server.unshared {
            unshared.push(&SharedCall::Stop);
            presence.exchange(calls_text(&unshared.take(), StdInstant::now())).await?;
        }
        presence.resign().await
    };
    if let Err(cause) = stopping.await {
        debug!("the stop can't be written for the other main servers: {cause}");
    }
}

/// Saves credentials that were changed here, on the page or by a command.
pub(crate) async fn share_access(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let looking = server.clone();
            let found = tasks::blocking(move || looking.changed_access()).await;
            let Some(ChangedAccess { base, text }) = found else {
                continue;
            };
            let (base, text) = (base.map(Arc::from), Arc::from(text));
            if let Err(cause) = server.change(MasterCommand::ShareAccess { base, text }).await {
                debug!("changed credentials can't be saved: {cause}");
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

fn set_leader(server: &Server, leads: bool) {
    let is_news = server.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
    if is_news && leads {
        server.wake.announcer.notify_one();
        if server.others().0 > 0 {
            info!("of the main servers on this database, this one announces starts from now on");
        }
    }
}

async fn exchange(server: &Arc<Server>, presence: &mut StatePresence) -> Result<(), StateError> {
    let Some(unshared) = &server.unshared else { return Ok(()) };
    let calls = unshared.take();
    match presence.exchange(calls_text(&calls, StdInstant::now())).await {
        Ok(received) => {
            receive(server, received).await;
            Ok(())
        }
        Err(cause) => {
            unshared.put_back(calls);
            Err(cause)
        }
    }
}

async fn receive(server: &Arc<Server>, received: Vec<ReceivedCalls>) {
    if received.is_empty() {
        return;
    }
    let server = server.clone();
    tasks::blocking(move || {
        for ReceivedCalls { server: via, age, calls } in received {
            server.note_other(&via, age);
            for line in calls_in(&calls) {
                match line {
                    Ok((_, SharedCall::Stop)) => server.forget_other(&via),
                    Ok((before, call)) => nodes::receive(&server, &via, call, age + before),
                    // A later version may have others.
                    Err(error) => debug!("a call at another main server is unknown: {error}"),
                }
            }
        }
    })
    .await;
}
