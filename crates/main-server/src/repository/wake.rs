//! Tells the main servers that share a PostgreSQL that one of them has saved something. A
//! notification carries nothing and may get lost: whoever is woken reads the tables, and
//! looks there from time to time anyway.

use std::time::Duration;

use sqlx::{Any, AnyConnection, postgres::PgListener};
use tracing::debug;

use super::{database::StateDatabase, document::WriteFault};

const STATE: &str = "edge-mirror state";
const CASTS: &str = "edge-mirror casts";
const NOTIFY: &str = "SELECT pg_notify('edge-mirror state', $1)";
const NOTIFY_OF_CASTS: &str = "SELECT pg_notify('edge-mirror casts', $1)";
/// Pause after a connection that was lost or refused.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Wakes the others at the end of a transaction.
#[derive(Clone, Debug)]
pub(super) struct WakeSignal {
    /// Tells our own from those of others.
    sender: String,
}

impl WakeSignal {
    pub(super) fn new(sender: String) -> Self {
        Self { sender }
    }

    pub(super) fn sender(&self) -> &str {
        &self.sender
    }

    pub(super) async fn send(&self, connection: &mut AnyConnection) -> Result<(), WriteFault> {
        sqlx::query::<Any>(NOTIFY).bind(self.sender.clone()).execute(connection).await?;
        Ok(())
    }

    /// The same, of casts.
    pub(super) async fn send_casts(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), WriteFault> {
        let notify = sqlx::query::<Any>(NOTIFY_OF_CASTS).bind(self.sender.clone());
        notify.execute(connection).await?;
        Ok(())
    }
}

/// The tables that another main server has written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeTopic {
    State,
    Casts,
}

/// Listens for the signals of other main servers.
#[derive(Debug)]
pub(crate) struct StateWake {
    database: StateDatabase,
    signal: WakeSignal,
}

impl StateWake {
    pub(super) fn new(database: StateDatabase, signal: WakeSignal) -> Self {
        Self { database, signal }
    }

    /// Calls `wake` for each; does not end.
    pub(crate) async fn run(self, wake: impl Fn(WakeTopic)) {
        let Some(url) = self.database.shared_url() else { return std::future::pending().await };
        loop {
            if let Err(error) = self.listen(url.as_str(), &wake).await {
                // The writer says that the database is away, if it is.
                debug!("notifications of {} can't be received: {error}", self.database);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn listen(&self, url: &str, wake: impl Fn(WakeTopic)) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect(url).await?;
        listener.listen_all([STATE, CASTS]).await?;
        // Those of before are lost.
        wake(WakeTopic::State);
        wake(WakeTopic::Casts);
        while let Some(received) = listener.try_recv().await? {
            if received.payload() == self.signal.sender {
                continue;
            }
            match received.channel() {
                STATE => wake(WakeTopic::State),
                _ => wake(WakeTopic::Casts),
            }
        }
        Ok(())
    }
}
