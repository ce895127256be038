//! Verifies the certificate that a server presents.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// The error without a list of CAs.
pub(super) const NO_AUTHORITIES: &str = "this machine has no list of trusted authorities";

#[derive(Debug)]
pub(super) enum TrustAnchors {
    /// The system's CAs.
    System,
    /// These, and those they signed. A server that presents one of these certificates is
    /// trusted under any name: people make one for a server itself more often than a CA.
    Own(Vec<CertificateDer<'static>>),
    /// Any server, to find out whether it is there.
    Anybody,
}

#[derive(Debug)]
pub(super) struct CertificateVerifier {
    known: TrustAnchors,
    provider: Arc<CryptoProvider>,
    /// Loaded on first use.
    signers: OnceLock<Result<Arc<WebPkiServerVerifier>, String>>,
}

impl CertificateVerifier {
    pub(super) fn of(known: TrustAnchors, provider: Arc<CryptoProvider>) -> Self {
        Self { known, provider, signers: OnceLock::new() }
    }

    fn signers(&self) -> Result<&Arc<WebPkiServerVerifier>, Error> {
        let made = self.signers.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            match &self.known {
                TrustAnchors::System => {
                    let found = rustls_native_certs::load_native_certs();
                    roots.add_parsable_certificates(found.certs);
                }
                TrustAnchors::Own(certificates) => {
                    roots.add_parsable_certificates(certificates.iter().cloned());
                }
                TrustAnchors::Anybody => {}
            }
            if roots.is_empty() {
                return Err(NO_AUTHORITIES.to_owned());
            }
            WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
                .build()
                .map_err(|error| error.to_string())
        });
        made.as_ref().map_err(|cause| Error::General(cause.clone()))
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.known {
            TrustAnchors::Anybody => return Ok(ServerCertVerified::assertion()),
            TrustAnchors::Own(known) if known.iter().any(|known| known == end_entity) => {
                return Ok(ServerCertVerified::assertion());
            }
            TrustAnchors::Own(_) | TrustAnchors::System => {}
        }
        let signers = match (self.signers(), &self.known) {
            (Ok(signers), _) => signers,
            // None of them can sign others.
            (Err(_), TrustAnchors::Own(_)) => return Err(CertificateError::UnknownIssuer.into()),
            (Err(error), _) => return Err(error),
        };
        signers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Made, KeyPair, generate_simple_self_signed};
    use rustls::{
        ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
        pki_types::PrivateKeyDer,
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    };

    use super::*;
    use crate::tls::{TrustPolicy, provider};

    /// Handshakes with a server that presents this certificate and signs with this key.
    fn met(
        trust: &TrustPolicy,
        cert: &CertificateDer<'static>,
        key: &KeyPair,
        version: &'static SupportedProtocolVersion,
    ) -> Result<(), Error> {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        // Unchecked, as by a server that pretends.
        let pretended = SingleCertAndKey::from(CertifiedKey::new(vec![cert.clone()], key));
        let versions = ServerConfig::builder_with_provider(provider());
        let versions = versions.with_protocol_versions(&[version]).unwrap();
        let server = versions.with_no_client_auth().with_cert_resolver(Arc::new(pretended));
        let mut server = ServerConnection::new(server.into()).unwrap();
        let name = ServerName::try_from("node").unwrap();
        let mut client = ClientConnection::new(trust.client().unwrap().into(), name).unwrap();
        while client.is_handshaking() {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            server.read_tls(&mut sent.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut answered = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answered).unwrap();
            }
            client.read_tls(&mut answered.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    /// Anybody can copy a certificate: whoever presents it must have its key, even if the
    /// certificate is known or nothing is verified.
    #[test]
    fn a_certificate_without_its_key_is_worth_nothing() {
        let names = || vec!["node".to_owned()];
        let Made { cert, signing_key } = generate_simple_self_signed(names()).unwrap();
        let (cert, other) = (cert.der().clone(), KeyPair::generate().unwrap());
        for trust in [TrustPolicy::Own(vec![cert.clone()]), TrustPolicy::Anybody] {
            for version in [&TLS12, &TLS13] {
                assert_eq!(met(&trust, &cert, &signing_key, version), Ok(()));
                let refused = met(&trust, &cert, &other, version);
                let bad = Error::InvalidCertificate(CertificateError::BadSignature);
                assert_eq!(refused, Err(bad), "{trust:?} {version:?}");
            }
        }
        let another = generate_simple_self_signed(names()).unwrap().cert.der().clone();
        let stranger = met(&TrustPolicy::Own(vec![another]), &cert, &signing_key, &TLS13);
        assert!(matches!(stranger, Err(Error::InvalidCertificate(_))), "{stranger:?}");
    }
}
