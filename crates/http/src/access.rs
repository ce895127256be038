//! Authorization for the operators' pages and calls of both servers.
//!
//! An operator is a client on the machine itself, or one that has logged in or sends the
//! admin token. `caller` identifies the client, `vault` keeps the credentials
//! (`secrets`; `shared` and `merge`, where main servers share them), `tries` slows guessing
//! down, `refusals` limits the log lines about refused calls, `origin` rejects requests of other sites' pages, `guard` combines them
//! in front of the operators' routes, `login` has the calls of the login page, and
//! `stream` is an event stream that ends when its reader's rights change. The guarded
//! routes are defined by the servers.

mod caller;
mod guard;
mod login;
mod merge;
mod origin;
mod refusals;
mod secrets;
mod session;
mod shared;
mod stream;
mod tries;
mod vault;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::http::{HeaderMap, header, request::Parts};
use edge_mirror_base::tasks;
use edge_mirror_settings::SecurityConfig;
use tokio::sync::Notify;

pub use caller::Caller;
pub use guard::{AccessDenied, refuse_foreign, require_operator};
pub use login::router;
pub use merge::merge_texts;
use refusals::RefusedCalls;
pub use secrets::random_text;
pub use shared::ChangedAccess;
pub use stream::{ExtraEvents, NoExtraEvents, StreamSources};
use tries::LoginAttempts;
pub use vault::{NewCredentials, NodeKeyCheck, Vault, VaultError};

/// Returns the current settings: the node's are live.
type Rules = Arc<dyn Fn() -> SecurityConfig + Send + Sync>;

/// Clones share their state.
#[derive(Clone)]
pub struct AccessControl {
    inner: Arc<AccessInner>,
}

struct AccessInner {
    /// The role shown by pages: `node` or `main_server`.
    role: &'static str,
    vault: Vault,
    rules: Rules,
    tries: Mutex<LoginAttempts>,
    refusals: Mutex<RefusedCalls>,
    /// Signals that a window of refused calls began.
    refusing: Notify,
}

/// A client that may make changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub address: IpAddr,
    pub how: AuthMethod,
}

/// The way an operator was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The request comes from the machine itself.
    Local,
    /// The admin token in a header.
    Token,
    /// A session cookie, valid until then.
    Session { until_s: u64 },
    /// `security.open`.
    Open,
    /// The password that clients of GoFD have, for what GoFD's server lets them do.
    Gofd,
    /// An address that may speak CastRay's protocol, which has no logins.
    Castray,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            AuthMethod::Local => "this machine",
            AuthMethod::Token => "with the admin token",
            AuthMethod::Session { .. } => "logged in",
            AuthMethod::Open => "security.open is on",
            AuthMethod::Gofd => "with GoFD's password",
            AuthMethod::Castray => "CastRay",
        };
        write!(f, "{} ({how})", self.address)
    }
}

impl AccessControl {
    pub fn new(
        role: &'static str,
        vault: Vault,
        rules: impl Fn() -> SecurityConfig + Send + Sync + 'static,
    ) -> Self {
        let (tries, refusals) = (Mutex::default(), Mutex::default());
        let (rules, refusing) = (Arc::new(rules), Notify::new());
        Self { inner: Arc::new(AccessInner { role, vault, rules, tries, refusals, refusing }) }
    }

    pub fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// True if everybody is an operator.
    pub fn is_open(&self) -> bool {
        (self.inner.rules)().open
    }

    pub fn caller(&self, request: &Parts) -> Caller {
        Caller::of(request, &(self.inner.rules)().trusted_proxies)
    }

    /// True if the sender is on this machine, where that is believed.
    pub fn is_local(&self, request: &Parts) -> bool {
        self.caller(request).local && (self.inner.rules)().trust_local
    }

    /// Checks that the sender is an operator; counts wrong tokens.
    pub(crate) async fn authorize(&self, request: &Parts) -> Result<Operator, AccessDenied> {
        self.authorize_with(request, true).await
    }

    /// `fresh` is false for a request judged before, whose token is not counted again.
    async fn authorize_with(&self, request: &Parts, fresh: bool) -> Result<Operator, AccessDenied> {
        let caller = self.caller(request);
        self.admit(&caller)?;
        let operator = |how| Operator { address: caller.address, how };
        if caller.local && (self.inner.rules)().trust_local {
            return Ok(operator(AuthMethod::Local));
        }
        if self.is_open() {
            return Ok(operator(AuthMethod::Open));
        }
        if let Some(until_s) = self.session(&request.headers).await {
            return Ok(operator(AuthMethod::Session { until_s }));
        }
        let Some(token) = token_of(&request.headers) else { return Err(AccessDenied::NotLoggedIn) };
        let vault = self.inner.vault.clone();
        let good = move || vault.is_token(&token).then_some(()).ok_or(AccessDenied::WrongToken);
        match fresh {
            true => self.attempt(&caller, good).await?,
            false => tasks::blocking(good).await?,
        }
        Ok(operator(AuthMethod::Token))
    }

    /// Checks `security.allowFrom`. The machine itself is always allowed: somebody has to
    /// be able to fix a wrong list.
    fn admit(&self, caller: &Caller) -> Result<(), AccessDenied> {
        let allowed = (self.inner.rules)().allow_from;
        let listed = || allowed.iter().any(|subnet| subnet.contains(caller.address));
        match caller.local || allowed.is_empty() || listed() {
            true => Ok(()),
            false => Err(AccessDenied::Address),
        }
    }

    /// Returns when the session of the request's cookie ends, if it is valid. A bad one
    /// is not a guess: it may simply have expired.
    async fn session(&self, headers: &HeaderMap) -> Option<u64> {
        let cookies = cookies(headers);
        if cookies.is_empty() {
            return None;
        }
        let vault = self.inner.vault.clone();
        tasks::blocking(move || vault.session(&cookies)).await
    }

    /// Runs an attempt unless the address has to wait. Attempts run one at a time, so
    /// that concurrent ones are all counted.
    async fn attempt<T: Send + 'static>(
        &self,
        caller: &Caller,
        try_it: impl FnOnce() -> Result<T, AccessDenied> + Send + 'static,
    ) -> Result<T, AccessDenied> {
        let (inner, address) = (self.inner.clone(), caller.address);
        tasks::blocking(move || {
            let mut tries = inner.tries.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(wait) = tries.wait(address, Instant::now()) {
                return Err(AccessDenied::TooManyTries(wait));
            }
            let outcome = try_it();
            match &outcome {
                Ok(_) => tries.forget(address),
                Err(AccessDenied::WrongToken) => tries.note(address, Instant::now()),
                Err(_) => {}
            }
            outcome
        })
        .await
    }
}

/// `Authorization: Bearer …` or `X-API-Key: …`.
fn token_of(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim());
    let bearer = text(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let key = || headers.get("x-api-key").map(|value| value.to_str().unwrap_or("?"));
    bearer.or_else(key).map(|token| token.trim().to_owned())
}

/// Reads all `Cookie` lines: a browser sends one, but may send more.
fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(feature = "openapi")]
pub mod openapi;
