//! Whose certificates are good, and which is ours.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::options::{MysqlOptions, Tls};
use super::LinkError;

/// Carries out TLS's handshake on a connection to `host`.
///
/// # Errors
/// The certificate is not good, or a file of ours is not.
pub async fn secure(
    stream: TcpStream,
    host: &str,
    options: &MysqlOptions,
) -> Result<TlsStream<TcpStream>, LinkError> {
    let config = client_config(options)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| LinkError::Tls(Error::General(format!("{:?} is no host name", host))))?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

fn client_config(options: &MysqlOptions) -> Result<ClientConfig, LinkError> {
    // The one provider of the whole tree, said here so that no second can slip in.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match options.tls {
        Tls::VerifyIdentity => builder.with_root_certificates(roots(options)?),
        Tls::VerifyCa => builder.dangerous().with_custom_certificate_verifier(Arc::new(NamesAside {
            roots: Some(roots(options)?),
            provider,
        })),
        Tls::Required | Tls::Disabled | Tls::Local => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NamesAside { roots: None, provider })),
    };
    Ok(match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|error| bad(&own.key, error))?;
            builder
                .with_client_auth_cert(certificates(&own.chain)?, key)
                .map_err(|error| bad(&own.chain, error))?
        }
    })
}

fn roots(options: &MysqlOptions) -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &options.ca_file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| bad(path, error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(bad(path, "it holds no certificate in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad(path, error)),
    }
}

fn bad(path: &Path, problem: impl ToString) -> LinkError {
    LinkError::CertificateFile { path: path.to_owned(), problem: problem.to_string() }
}

/// Takes a certificate for whatever name: one of a known CA, or (without `roots`) any. That the server holds its key is verified always.
#[derive(Debug)]
struct NamesAside {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NamesAside {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
