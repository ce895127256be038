//! Problems of the certificate that a listener serves. Only tablets would notice them,
//! and refuse the connection.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Local};
use rustls::{
    CertificateError, Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{pem, provider};

/// Automatic renewal is done by then, and manual renewal still has time.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A warning about a certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateWarning {
    pub file: PathBuf,
    pub text: String,
    /// True if tablets refuse it today; else they will soon.
    pub is_refused: bool,
}

/// Checks the first certificate in a file for tablets that are sent to `host` at `now`. A
/// file that can't be read is reported elsewhere.
pub fn check_certificate(
    cert: &Path,
    host: Option<&str>,
    now: Duration,
) -> Option<CertificateWarning> {
    let chain = pem::certificates("tls.cert", cert).ok()?;
    let certificate = ParsedCertificate::try_from(chain.first()?).ok()?;
    let warning =
        |text, is_refused| Some(CertificateWarning { file: cert.to_owned(), text, is_refused });
    let refused = |text| warning(text, true);
    match check_dates(&certificate, now) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => {
            return refused(format!("the certificate expired on {}", day(not_after)));
        }
        Some(CertificateError::NotValidYetContext { not_before, .. }) => {
            return refused(format!(
                "the certificate is valid from {} on; or this machine's clock is wrong",
                day(not_before)
            ));
        }
        _ => {}
    }
    if let Some(host) = host
        && let Ok(name) = ServerName::try_from(host.to_owned())
        && verify_server_name(&certificate, &name).is_err()
    {
        return refused(format!("the certificate does not name {host}, where tablets are sent"));
    }
    match check_dates(&certificate, now + SOON) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => {
            warning(format!("the certificate expires on {}", day(not_after)), false)
        }
        _ => None,
    }
}

/// Checks the dates, which come before the issuer. The issuer is ignored: tablets may
/// know a CA that this machine does not.
fn check_dates(shown: &ParsedCertificate<'_>, now: Duration) -> Option<CertificateError> {
    let nobody = Arc::new(RootCertStore::empty());
    let algorithms = provider().signature_verification_algorithms.all;
    let now = UnixTime::since_unix_epoch(now);
    match verify_server_cert_signed_by_trust_anchor(shown, &nobody, &[], now, algorithms) {
        Err(Error::InvalidCertificate(cause)) => Some(cause),
        _ => None,
    }
}

fn day(at: UnixTime) -> String {
    let at = i64::try_from(at.as_secs()).ok().and_then(|s| DateTime::from_timestamp(s, 0));
    at.map_or_else(String::new, |at| at.with_timezone(&Local).format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const DAY_S: u64 = 24 * 3600;

    /// Valid from 1000 to 1100 days after 1970, for 10.0.0.1 and node.local.
    fn certificate() -> tempfile::NamedTempFile {
        let names = ["10.0.0.1".to_owned(), "node.local".to_owned()];
        let mut asked = rcgen::CertificateParams::new(names).unwrap();
        let at =
            |days: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days as u64 * DAY_S);
        (asked.not_before, asked.not_after) = (at(1000), at(1100));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(asked.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        file
    }

    #[test]
    fn what_tablets_would_refuse_is_told_before_they_do() {
        let file = certificate();
        let told = |host, day: u64| {
            check_certificate(file.path(), host, Duration::from_secs(day * DAY_S))
                .map(|doubt| (doubt.text, doubt.is_refused))
        };
        for host in [None, Some("10.0.0.1"), Some("node.local"), Some("NODE.local")] {
            assert_eq!(told(host, 1050), None, "{host:?}");
        }
        let (text, refused) = told(Some("10.0.0.2"), 1050).unwrap();
        assert!(refused && text.contains("does not name 10.0.0.2"), "{text}");
        let (text, refused) = told(None, 1090).unwrap();
        assert!(!refused && text.contains("expires on 1973-01-0"), "{text}");
        let (text, refused) = told(Some("10.0.0.2"), 1101).unwrap();
        assert!(refused && text.contains("expired on 1973-01-0"), "{text}");
        let (text, refused) = told(None, 999).unwrap();
        assert!(refused && text.contains("valid from 1972-09-2"), "{text}");
    }
}
