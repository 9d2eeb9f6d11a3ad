//! What an operator can do about an error that trying again would not mend.

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::link::LinkError;

const PLUGIN: &str = "use caching_sha2_password for this user (MariaDB: mysql_native_password or ed25519)";

const OWN_CERTIFICATE: &str = "the server does not take the certificate that is shown to it: check client_cert_file, client_key_file, and \
                               the authorities (ssl_ca) that it trusts";

const NO_COMMON_TLS: &str = "it and this client have no version or cipher of TLS in common, or it wants to see a certificate: check its \
                             tls_version, and client_cert_file";

const ITS_CERTIFICATE: &str = "check ca_file and the host's name in the certificate (those that servers make for themselves name no host: \
                               tls = \"verify_ca\" verifies the rest, tls = \"required\" encrypts without verifying)";

/// The advice; `None` where trying again may help.
///
/// A server that cannot be reached may come back, whatever the reason; one that answers "no" will say it again.
#[must_use]
pub fn advice(error: &LinkError) -> Option<&'static str> {
    if let Some(error) = error.tls() {
        return tls_advice(error);
    }
    match error {
        LinkError::Server(said) => Some(match said.code {
            1045 | 1698 => "check the user, the password and from where the user may connect",
            1130 => "the server allows no connections from this host: see the user's host part",
            1142 | 1044 | 1370 => "grant the user what the message names",
            // ER_NET_PACKET_TOO_LARGE: a question or a GTID set of ours.
            1153 => "SET PERSIST max_allowed_packet = 1073741824 (MariaDB: SET GLOBAL)",
            1227 => {
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT (MariaDB: BINLOG MONITOR) ON *.* TO the user"
            }
            1193 => "MySQL 8.0 or newer is needed",
            // ER_NOT_SUPPORTED_AUTH_MODE, ER_PLUGIN_IS_NOT_LOADED.
            1251 | 1524 => PLUGIN,
            1820 | 1862 => "the user's password has expired: set a new one",
            3118 => "ALTER USER … ACCOUNT UNLOCK",
            3159 => "the server asks for TLS: set tls = \"verify_identity\"",
            _ => return None,
        }),
        LinkError::NoTls => Some("enable TLS there, or spell tls = \"disabled\""),
        LinkError::Plugin(_) | LinkError::Cleartext => Some(PLUGIN),
        LinkError::Unproven => Some(
            "connect through its socket (url = \"mysql://…?socket=PATH\"), or set tls = \"verify_ca\" with ca_file, or spell \
             tls = \"disabled\" where nobody else could take the port",
        ),
        LinkError::CertificateFile { .. } => {
            Some("name PEM files by ca_file, client_cert_file and client_key_file")
        }
        LinkError::PasswordFile { .. } => {
            Some("name a file by password_file that only its owner and group may read")
        }
        LinkError::TooLarge => {
            Some("MySQL's protocol does not carry it: stop the relay and run `everrelay snapshot --from-now`")
        }
        LinkError::LongRow { .. } => Some("raise max_row_bytes"),
        LinkError::Compression | LinkError::Inflated { .. } => Some(
            "SET PERSIST binlog_transaction_compression = OFF; then stop the relay and run `everrelay snapshot --from-now`",
        ),
        LinkError::Io(_) | LinkError::Unlike(_) | LinkError::Tls(_) => None,
    }
}

fn tls_advice(error: &TlsError) -> Option<&'static str> {
    match error {
        // A certificate that has expired is renewed at the server; any other fault of it is ours to mend.
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => None,
        TlsError::InvalidCertificate(_) | TlsError::General(_) => Some(ITS_CERTIFICATE),
        TlsError::AlertReceived(alert) if refuses_ours(*alert) => Some(OWN_CERTIFICATE),
        TlsError::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        )
        | TlsError::PeerIncompatible(_) => Some(NO_COMMON_TLS),
        _ => None,
    }
}

/// Our certificate is refused, but for one that has expired: that is renewed.
fn refuses_ours(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

/// It is about who we are, or what we may: while a password or a grant is changed, here or there, what is new meets what is old.
#[must_use]
pub fn is_denial(error: &LinkError) -> bool {
    match error {
        LinkError::PasswordFile { .. } => true,
        LinkError::Server(said) => {
            matches!(said.code, 1044 | 1045 | 1130 | 1142 | 1227 | 1370 | 1698 | 1820 | 1862 | 3118)
        }
        _ => false,
    }
}

/// It is about certificates or keys: while those are changed, here or there, what is new meets what is old.
#[must_use]
pub fn is_of_certificates(error: &LinkError) -> bool {
    let in_tls = |error: &TlsError| match error {
        TlsError::InvalidCertificate(_) => true,
        TlsError::AlertReceived(alert) => refuses_ours(*alert),
        _ => false,
    };
    matches!(error, LinkError::CertificateFile { .. }) || error.tls().is_some_and(in_tls)
}

#[cfg(test)]
mod tests {
    use super::super::error::MysqlError;
    use super::super::link::ServerSaid;
    use super::*;
    use crate::source::SourceError;

    fn connecting(source: LinkError) -> SourceError {
        MysqlError::link("connecting", "db:3306", source).into()
    }

    fn alert(alert: AlertDescription) -> LinkError {
        std::io::Error::new(std::io::ErrorKind::InvalidData, TlsError::AlertReceived(alert)).into()
    }

    #[test]
    fn what_trying_again_cannot_mend_comes_with_advice() {
        let said = |code| LinkError::from(ServerSaid { code, message: "no".into() });
        for (source, advised) in [
            (said(1524), "caching_sha2_password"),
            (said(1251), "caching_sha2_password"),
            (said(1153), "max_allowed_packet"),
            (alert(AlertDescription::ProtocolVersion), "tls_version"),
            (alert(AlertDescription::HandshakeFailure), "client_cert_file"),
            (LinkError::Unproven, "tls = \"verify_ca\""),
        ] {
            let error = connecting(source);
            let text = error.to_string();
            assert!(matches!(error, SourceError::Definite(_)) && text.contains(advised), "{text}");
        }
    }

    #[test]
    fn certificates_have_a_while_to_fit_each_other() {
        for source in [
            alert(AlertDescription::UnknownCA),
            alert(AlertDescription::CertificateRequired),
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer).into(),
            LinkError::CertificateFile {
                path: "/k.pem".into(),
                problem: "keys may not be consistent".into(),
            },
        ] {
            let error = connecting(source);
            let text = error.to_string();
            assert!(
                matches!(error, SourceError::Garbled(_)) && text.contains("check") | text.contains("name"),
                "{text}"
            );
        }
        for source in [
            alert(AlertDescription::CertificateExpired),
            alert(AlertDescription::InternalError),
            TlsError::InvalidCertificate(CertificateError::Expired).into(),
        ] {
            assert!(matches!(connecting(source), SourceError::Transient(_)));
        }
    }
}
