//! Who may use what is not open to everybody, for both faces.
//!
//! An operator is who asks on the machine itself, or has logged in, or shows
//! the admin token. `caller` says who asks, `vault` keeps what proves rights
//! (`secrets`), `tries` slows guessing down, `refusals` keeps the log readable
//! meanwhile, `origin` keeps other sites' pages out, `guard` puts them together around the operators' routes, `login` is the
//! calls of the login page, `stream` an event stream that ends when its
//! reader's rights change. What is behind the guard is for the faces to say.

mod caller;
mod guard;
mod login;
mod origin;
mod refusals;
mod secrets;
mod session;
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
use edge_mirror_settings::Security;
use tokio::sync::Notify;

pub use caller::Caller;
pub use guard::{Denied, guard, refuse_foreign};
pub use login::router;
use refusals::Refusals;
pub use secrets::random_text;
pub use stream::{More, NoMore, Sources};
use tries::Tries;
pub use vault::{Made, Vault, VaultError};

/// The settings of now: the node's are live.
type Rules = Arc<dyn Fn() -> Security + Send + Sync>;

/// Cloning shares it.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    /// What the page calls itself: `node` or `main_server`.
    role: &'static str,
    vault: Vault,
    rules: Rules,
    tries: Mutex<Tries>,
    refusals: Mutex<Refusals>,
    /// A window of refused calls has begun.
    refusing: Notify,
}

/// Somebody who may change things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub address: IpAddr,
    pub how: How,
}

/// What makes one an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The request comes from the machine itself.
    Local,
    /// The admin token in a header.
    Token,
    /// A cookie that lasts until then.
    Session { until_s: u64 },
    /// `security.open`.
    Open,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Local => "this machine",
            How::Token => "with the admin token",
            How::Session { .. } => "logged in",
            How::Open => "security.open is on",
        };
        write!(f, "{} ({how})", self.address)
    }
}

impl Access {
    pub fn new(
        role: &'static str,
        vault: Vault,
        rules: impl Fn() -> Security + Send + Sync + 'static,
    ) -> Self {
        let (tries, refusals) = (Mutex::default(), Mutex::default());
        let (rules, refusing) = (Arc::new(rules), Notify::new());
        Self { inner: Arc::new(Inner { role, vault, rules, tries, refusals, refusing }) }
    }

    pub fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// Whether everybody is an operator.
    pub fn is_open(&self) -> bool {
        (self.inner.rules)().open
    }

    pub fn caller(&self, request: &Parts) -> Caller {
        Caller::of(request, &(self.inner.rules)().trusted_proxies)
    }

    /// Whether who sends this is an operator, and how; counts wrong tokens.
    pub async fn judge(&self, request: &Parts) -> Result<Operator, Denied> {
        self.judged(request, true).await
    }

    /// `fresh`: not looked at before; an old try is no new one.
    async fn judged(&self, request: &Parts, fresh: bool) -> Result<Operator, Denied> {
        let caller = self.caller(request);
        self.admit(&caller)?;
        let operator = |how| Operator { address: caller.address, how };
        if caller.local && (self.inner.rules)().trust_local {
            return Ok(operator(How::Local));
        }
        if self.is_open() {
            return Ok(operator(How::Open));
        }
        if let Some(until_s) = self.session(&request.headers).await {
            return Ok(operator(How::Session { until_s }));
        }
        let Some(token) = token_of(&request.headers) else { return Err(Denied::NotLoggedIn) };
        let vault = self.inner.vault.clone();
        let good = move || vault.is_token(&token).then_some(()).ok_or(Denied::WrongToken);
        match fresh {
            true => self.tried(&caller, good).await?,
            false => tasks::blocking(good).await?,
        }
        Ok(operator(How::Token))
    }

    /// Whether the address may manage at all. The machine itself always may:
    /// somebody has to be able to mend a wrong list.
    fn admit(&self, caller: &Caller) -> Result<(), Denied> {
        let allowed = (self.inner.rules)().allow_from;
        let listed = || allowed.iter().any(|subnet| subnet.contains(caller.address));
        match caller.local || allowed.is_empty() || listed() {
            true => Ok(()),
            false => Err(Denied::Address),
        }
    }

    /// Until when the cookie that came along lasts, if it is good. A bad one
    /// is no try at guessing: it may simply have expired.
    async fn session(&self, headers: &HeaderMap) -> Option<u64> {
        let cookies = cookies(headers);
        if cookies.is_empty() {
            return None;
        }
        let vault = self.inner.vault.clone();
        tasks::blocking(move || vault.session(&cookies)).await
    }

    /// Lets an address try something. Tries take turns, so that many at once
    /// are not fewer than they are.
    async fn tried<T: Send + 'static>(
        &self,
        caller: &Caller,
        try_it: impl FnOnce() -> Result<T, Denied> + Send + 'static,
    ) -> Result<T, Denied> {
        let (inner, address) = (self.inner.clone(), caller.address);
        tasks::blocking(move || {
            let mut tries = inner.tries.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(wait) = tries.wait(address, Instant::now()) {
                return Err(Denied::TooManyTries(wait));
            }
            let outcome = try_it();
            match &outcome {
                Ok(_) => tries.forget(address),
                Err(Denied::WrongToken) => tries.note(address, Instant::now()),
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

/// All cookies of all lines; a browser sends one line, but may send more.
fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(feature = "openapi")]
pub mod openapi;
