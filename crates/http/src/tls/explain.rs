//! TLS errors, for operators who are not cryptographers.

use std::{error::Error as StdError, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::verifier::NO_AUTHORITIES;

/// An error that rustls has no variant for.
const SELF_SIGNED: &str = "CaUsedAsEndEntity";

/// Returns advice for a TLS error, in Chinese and in English. `trust` is the option or
/// setting that names a CA, `shown` the one with the own certificate.
pub fn explain(
    error: &(dyn StdError + 'static),
    trust: &str,
    shown: &str,
) -> Option<(String, String)> {
    let error = find_tls_error(error)?;
    Some(match error {
        Error::InvalidCertificate(cause) => certificate(cause, trust),
        Error::General(cause) if cause == NO_AUTHORITIES => (
            format!(
                "本机没有受信任的 CA；请安装软件包 ca-certificates，或用 {trust} 指定服务器的 CA"
            ),
            format!(
                "{cause}; install its package ca-certificates, or name the server's authority by \
                 {trust}"
            ),
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            "它在这个端口上不使用 TLS；请检查端口，或改用 HTTP".to_owned(),
            "it does not speak TLS at this port; check the port, or use plain HTTP".to_owned(),
        ),
        Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => (
            "它不支持安全的 TLS 版本；它必须支持 TLS 1.2 或 1.3".to_owned(),
            "it speaks no TLS that is safe; it has to offer TLS 1.2 or 1.3".to_owned(),
        ),
        // Some send only this when they get no certificate.
        Error::AlertReceived(AlertDescription::HandshakeFailure) => (
            format!("它拒绝连接且未说明原因：可能不支持安全的算法，或要求证书，见 {shown}"),
            format!(
                "it refuses, and does not say why: it offers nothing that is safe today, or asks \
                 for a certificate, see {shown}"
            ),
        ),
        Error::AlertReceived(alert) if is_of_our_certificate(*alert) => (
            format!("它要求证书，但不接受所出示的（{alert:?}）；见 {shown}"),
            format!(
                "it asks for a certificate and does not take what it was shown ({alert:?}); see \
                 {shown}"
            ),
        ),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => (
            "它没有用于这个名称的证书；请使用其他名称".to_owned(),
            "it has no certificate for the name that it was called by; use another name".to_owned(),
        ),
        other => (other.to_string(), other.to_string()),
    })
}

/// Returns the name in `DnsName("node.local")`, the address in `IpAddress(10.0.0.1)`:
/// rustls formats them with Debug.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// Returns the TLS error in an I/O error, whose `source` skips it.
fn find_tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error
        .downcast_ref::<Error>()
        .or_else(|| inner.and_then(|inner| find_tls_error(inner)))
        .or_else(|| error.source().and_then(find_tls_error))
}

fn is_of_our_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, UnknownCA, UnsupportedCertificate,
    };
    matches!(
        alert,
        AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            | UnknownCA
            | UnsupportedCertificate
    )
}

fn certificate(cause: &CertificateError, trust: &str) -> (String, String) {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, Revoked, UnknownIssuer,
    };
    match cause {
        // The second: of a CA that was recreated under its old name.
        UnknownIssuer | BadSignature => (
            format!(
                "它的证书由本机不信任的 CA 签发；请用 {trust} 指定该 CA 的证书或服务器自己的证书"
            ),
            format!(
                "its certificate is from an authority that is not trusted here; name that \
                 authority's certificate, or the server's own, by {trust}"
            ),
        ),
        Expired | ExpiredContext { .. } => (
            "它的证书已过期；请在那里更换，或校准本机的时钟".to_owned(),
            "its certificate has expired; renew it there, or set this machine's clock".to_owned(),
        ),
        NotValidYet | NotValidYetContext { .. } => (
            "它的证书尚未生效；请校准本机或对方的时钟".to_owned(),
            "its certificate is not valid yet; set the clock here or there".to_owned(),
        ),
        NotValidForName => (
            "它的证书属于其他名称；请使用证书中的名称访问".to_owned(),
            "its certificate is for another name; call it by a name that is in its certificate"
                .to_owned(),
        ),
        NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let called = expected.to_str();
            (
                format!(
                    "它的证书不属于 {called}，而属于 {}；请用其中的名称访问，或为 {called} 制作证书",
                    names.join("、")
                ),
                format!(
                    "its certificate is not for {called} but for {}; call it by one of these, or \
                     make it a certificate for {called}",
                    names.join(", ")
                ),
            )
        }
        Revoked => (
            "它的证书已被吊销；请在那里更换".to_owned(),
            "its certificate was revoked; renew it there".to_owned(),
        ),
        // Self-signed, as by `openssl req -x509`.
        other if other.to_string().contains(SELF_SIGNED) => (
            format!("它的证书是自签名证书，本机不信任；请用 {trust} 指定"),
            format!(
                "its certificate is signed by itself, and not trusted here; name it by {trust}"
            ),
        ),
        other => {
            (format!("它的证书有误：{other}"), format!("its certificate is not good: {other}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_people_write_them() {
        let for_others = CertificateError::NotValidForNameContext {
            expected: rustls::pki_types::ServerName::try_from("10.0.0.2").unwrap().to_owned(),
            presented: vec!["DnsName(\"node.local\")".into(), "IpAddress(10.0.0.1)".into()],
        };
        let (_, told) = certificate(&for_others, "--cacert");
        assert!(told.contains("not for 10.0.0.2 but for node.local, 10.0.0.1;"), "{told}");
    }
}
