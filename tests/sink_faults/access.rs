//! What requests prove their sender by and whom they trust, and that both are read again from their files.

use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use everrelay::secret::{Renewable, Secret};
use everrelay::sink::elastic::{Auth, AwsKey, AwsKeyFrom, ClientCertificate, ElasticOptions, ElasticSink};
use everrelay::sink::{BulkError, Disposition, Expect, Sink, SinkError};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::{GOOD, answer, bulk, control, ok, options, read_whole, spec};

/// A request's head and body.
type Request = (String, Vec<u8>);

/// An engine that takes who shows the right `authorization`.
struct Engine {
    port: u16,
    /// How the right one begins; and with what the others are refused.
    wanted: Arc<Mutex<(String, &'static str)>>,
    /// Bulks: head and body.
    bulks: Arc<Mutex<Vec<Request>>>,
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
}

impl Engine {
    async fn start(wanted: &str) -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let engine = Engine {
            port: listener.local_addr().unwrap().port(),
            wanted: Arc::new(Mutex::new((wanted.to_owned(), "401 Unauthorized"))),
            bulks: Arc::default(),
            tls: Arc::default(),
        };
        let (wanted, bulks, tls) = (engine.wanted.clone(), engine.bulks.clone(), engine.tls.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (wanted, bulks) = (wanted.clone(), bulks.clone());
                let tls = tls.lock().unwrap().clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &wanted, &bulks).await,
                        Some(tls) => serve(tls.accept(stream).await?, &wanted, &bulks).await,
                    }
                });
            }
        });
        engine
    }

    fn options(&self, auth: Auth) -> ElasticOptions {
        ElasticOptions { auth, ..options(&format!("http://127.0.0.1:{}", self.port)) }
    }

    fn encrypted(&self) -> ElasticOptions {
        options(&format!("https://127.0.0.1:{}", self.port))
    }

    fn wants(&self, authorization: &str, else_says: &'static str) {
        *self.wanted.lock().unwrap() = (authorization.to_owned(), else_says);
    }

    fn bulks(&self) -> usize {
        self.bulks.lock().unwrap().len()
    }

    fn head(&self) -> String {
        self.bulks.lock().unwrap().last().unwrap().0.clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    wanted: &Mutex<(String, &'static str)>,
    bulks: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let Some((head, body)) = read_whole(&mut stream).await? else { return Ok(()) };
    let (wanted, refusal) = wanted.lock().unwrap().clone();
    let shown =
        head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default().to_owned();
    let is_bulk = head.starts_with("POST /_bulk");
    let said = match (shown.starts_with(&wanted), is_bulk) {
        (false, _) => answer(refusal, "", r#"{"error":{"type":"security_exception"}}"#),
        (true, true) => ok(GOOD),
        (true, false) => control(&head),
    };
    if is_bulk {
        bulks.lock().unwrap().push((head, body));
    }
    // One request a connection: what is read again is connected anew.
    stream.write_all(&said).await?;
    stream.shutdown().await
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn aws_file(id: &str) -> String {
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = s\naws_session_token = t\n")
}

#[tokio::test]
async fn each_proof_is_shown_as_the_engines_know_it() {
    let secret = |text: &str| Renewable::from(Secret::new(text));
    let key = AwsKey { id: "AKID".into(), secret: Secret::new("s"), token: Some(Secret::new("token-1")) };
    for (auth, expected) in [
        (Auth::None, ""),
        (Auth::Basic { user: "relay".into(), password: secret("pä:ss") }, "Basic cmVsYXk6cMOkOnNz"),
        (Auth::ApiKey(secret("aWQ6a2V5")), "ApiKey aWQ6a2V5"),
        (Auth::ApiKey(secret("id:key")), "ApiKey aWQ6a2V5"),
        (Auth::Bearer(secret("tok.en")), "Bearer tok.en"),
        (
            Auth::Aws { region: "eu-central-1".into(), key: AwsKeyFrom::Environment(key) },
            "AWS4-HMAC-SHA256 Credential=AKID/",
        ),
    ] {
        let engine = Engine::start(expected).await;
        let sink = ElasticSink::new(&engine.options(auth.clone())).unwrap();
        let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
        assert_eq!(sink.send(&bulk(&sink, &index)).await, Ok(vec![Disposition::Done]), "{auth:?}");
        let head = engine.head();
        assert_eq!(head.contains("authorization: "), auth != Auth::None, "{head}");
        if matches!(auth, Auth::Aws { .. }) {
            let signed = "/eu-central-1/es/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, ";
            assert!(head.contains(signed) && head.contains("x-amz-security-token: token-1\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn fault_31_a_secret_that_is_refused_is_read_again_and_the_same_request_goes_out_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let held = |text: &str| Renewable { value: Secret::new(text), file: Some(file.clone()) };
    let aws = AwsKeyFrom::File { path: file.clone(), profile: "default".into() };
    for (auth, (old, new), (wants_old, wants_new), refusal) in [
        (
            Auth::ApiKey(held("old")),
            ("old".into(), "new".into()),
            ("ApiKey old", "ApiKey new"),
            "401 Unauthorized",
        ),
        (
            Auth::Bearer(held("old")),
            ("old".into(), "new\n".into()),
            ("Bearer old", "Bearer new"),
            "401 Unauthorized",
        ),
        (
            Auth::Basic { user: "u".into(), password: held("old") },
            ("old".into(), "new".into()),
            ("Basic dTpvbGQ=", "Basic dTpuZXc="),
            "401 Unauthorized",
        ),
        (
            Auth::Aws { region: "r".into(), key: aws },
            (aws_file("OLD"), aws_file("NEW")),
            ("AWS4-HMAC-SHA256 Credential=OLD/", "AWS4-HMAC-SHA256 Credential=NEW/"),
            "403 Forbidden",
        ),
    ] {
        write(&file, &old);
        let engine = Engine::start(wants_old).await;
        let sink = ElasticSink::new(&engine.options(auth.clone())).unwrap();
        let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
        let bulk = bulk(&sink, &index);
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));

        // The engine was told first: refused, until the file says so too; one request at a time.
        engine.wants(wants_new, refusal);
        for _ in 0..2 {
            let before = engine.bulks();
            let outcome = sink.send(&bulk).await;
            assert!(matches!(outcome, Err(BulkError::Transient { .. })), "{auth:?}: {outcome:?}");
            assert_eq!(engine.bulks(), before + 1);
        }
        // A file that is open to everybody, or that is away, is not taken.
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
        write(&file, &new);
        let before = engine.bulks();
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]), "{auth:?}");
        assert_eq!(engine.bulks(), before + 2);
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
        assert_eq!(engine.bulks(), before + 3, "what was read is kept");
        assert!(sink.ensure(&spec(), Expect::Existing).await.is_ok());
    }
}

/// An authority, and certificates of its making.
struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// Certificate and key, PEM.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.certificate, &self.key).unwrap().pem(), key.serialize_pem())
    }

    /// Takes connections with a certificate of ours, from who shows one of `clients`, if that is asked for.
    fn acceptor(&self, name: &str, clients: Option<&Authority>) -> TlsAcceptor {
        let (certificate, key) = self.certify(name);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(CertificateDer::from_pem_slice(clients.certificate.pem().as_bytes()).unwrap())
                    .unwrap();
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap(),
                )
            }
        };
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

fn pem(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    write(&path, text);
    path
}

#[tokio::test]
async fn an_engines_certificate_is_of_a_known_authority_and_for_its_name_or_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let engine = Engine::start("").await;
    let mut options = engine.encrypted();
    options.ca_file = Some(pem(folder.path(), "ca.pem", &ours.certificate.pem()));
    for (acceptor, expected) in [
        (ours.acceptor("127.0.0.1", None), true),
        (other.acceptor("127.0.0.1", None), false),
        (ours.acceptor("search.internal", None), false),
    ] {
        *engine.tls.lock().unwrap() = Some(acceptor);
        let sink = ElasticSink::new(&options).unwrap();
        match sink.ensure(&spec(), Expect::Anything).await {
            Ok(index) if expected => {
                assert_eq!(sink.send(&bulk(&sink, &index)).await, Ok(vec![Disposition::Done]));
            }
            Err(SinkError::Transient(error)) if !expected => {
                assert!(error.to_string().contains("certificate"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Spelt, anything is taken.
    let insecure = ElasticOptions { insecure: true, ca_file: None, ..options.clone() };
    assert!(ElasticSink::new(&insecure).unwrap().ensure(&spec(), Expect::Anything).await.is_ok());
    // An authority that is replaced is read again, also while the relay runs.
    *engine.tls.lock().unwrap() = Some(ours.acceptor("127.0.0.1", None));
    let sink = ElasticSink::new(&options).unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    *engine.tls.lock().unwrap() = Some(other.acceptor("127.0.0.1", None));
    let bulk = bulk(&sink, &index);
    assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
    pem(folder.path(), "ca.pem", &other.certificate.pem());
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_read_again_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, old, new) = (Authority::new("ours"), Authority::new("old"), Authority::new("new"));
    let engine = Engine::start("").await;
    *engine.tls.lock().unwrap() = Some(ours.acceptor("127.0.0.1", Some(&old)));
    let mut options = engine.encrypted();
    options.ca_file = Some(pem(folder.path(), "ca.pem", &ours.certificate.pem()));
    assert!(ElasticSink::new(&options).unwrap().ensure(&spec(), Expect::Anything).await.is_err());
    let files = |(certificate, key): (String, String)| ClientCertificate {
        chain: pem(folder.path(), "client.pem", &certificate),
        key: pem(folder.path(), "client.key", &key),
    };
    options.client_certificate = Some(files(old.certify("relay")));
    let sink = ElasticSink::new(&options).unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    let bulk = bulk(&sink, &index);
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));

    *engine.tls.lock().unwrap() = Some(ours.acceptor("127.0.0.1", Some(&new)));
    let before = engine.bulks();
    assert!(sink.send(&bulk).await.is_err());
    files(new.certify("relay"));
    // One sign that is asked for may still be refused under the old one.
    let outcomes = [sink.send(&bulk).await, sink.send(&bulk).await];
    assert_eq!(outcomes[1], Ok(vec![Disposition::Done]), "{outcomes:?}");
    assert!(engine.bulks() > before);
    // Half of a pair, or a text, is not taken in its place.
    pem(folder.path(), "client.pem", "no certificate");
    *engine.tls.lock().unwrap() = Some(ours.acceptor("127.0.0.1", Some(&old)));
    assert!(sink.send(&bulk).await.is_err());
    assert!(ElasticSink::new(&options).is_err());
}

#[tokio::test]
async fn compressed_bodies_are_the_same_bodies() {
    let engine = Engine::start("").await;
    let sink = ElasticSink::new(&ElasticOptions { compress: true, ..engine.options(Auth::None) }).unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    let mut bulk = bulk(&sink, &index);
    // A small body goes as it is.
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    assert!(!engine.head().contains("content-encoding"), "{}", engine.head());
    let document = format!("{{\"id\":\"{}\"}}\n", "x".repeat(10_000));
    bulk.body = [&bulk.body[..], document.as_bytes()].concat().into();
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    assert!(engine.head().contains("content-encoding: gzip\r\n"), "{}", engine.head());
    let sent = engine.bulks.lock().unwrap().last().unwrap().1.clone();
    assert!(sent.len() < 1000);
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut body).unwrap();
    assert_eq!(body, bulk.body);
}

#[tokio::test]
async fn what_the_role_lacks_is_told_by_index_and_an_engine_without_such_a_question_is_believed() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (shared, asked) = (Arc::clone(&said), Arc::new(Mutex::new(String::new())));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(Some((head, body))) = read_whole(&mut stream).await else { continue };
            if head.starts_with("POST /_security/user/_has_privileges ") {
                *heard.lock().unwrap() = String::from_utf8(body).unwrap();
            }
            let answer = shared.lock().unwrap().clone();
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let sink = ElasticSink::new(&options(&url)).unwrap();
    let missing = async |answer: Vec<u8>| {
        *said.lock().unwrap() = answer;
        sink.missing_privileges(&["a.b"]).await
    };
    let lacks = missing(ok(
        r#"{"username":"u","has_all_requested":false,"cluster":{"monitor":false},"index":{"a.b":{"index":true,"delete":false},"everrelay-fence":{"read":false,"index":false}},"application":{}}"#,
    ))
    .await;
    let lacks: Vec<_> =
        lacks.unwrap().unwrap().into_iter().map(|lack| (lack.on, lack.privileges.join(" "))).collect();
    let on = |index: &str| Some(index.to_owned());
    let all = [(None, "monitor"), (on("a.b"), "delete"), (on("everrelay-fence"), "index read")];
    assert_eq!(lacks, all.map(|(on, privileges)| (on, privileges.to_owned())));
    let question = asked.lock().unwrap().clone();
    for part in ["\"a.b-000001\"", "\"everrelay-fence\"", "\"delete\"", "\"monitor\""] {
        assert!(question.contains(part), "{question}");
    }
    let all = missing(ok(r#"{"has_all_requested":true,"cluster":{},"index":{}}"#)).await;
    assert_eq!(all.unwrap(), Some(Vec::new()));
    // Without security: 400, 405, or 500 of the licence.
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed", "500 Internal Server Error"]
    {
        assert_eq!(missing(answer(status, "", "{}")).await.unwrap(), None, "{status}");
    }
    assert!(matches!(
        missing(answer("503 Service Unavailable", "", "{}")).await,
        Err(SinkError::Transient(_))
    ));
    assert!(matches!(missing(ok("{}")).await, Err(SinkError::Transient(_))));
}
