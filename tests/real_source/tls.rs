//! Encrypted connections, and those that must not come about.

use everrelay::secret::Secret;
use everrelay::source::mysql::{Address, ClientCertificate, MysqlOptions, MysqlSource, Tls};
use everrelay::source::{Source, SourceError, Start};
use mysql_async::prelude::Queryable;

use crate::server::{At, Server};

at_each!(
    tls_protects_the_stream_and_refuses_whom_it_cannot_verify,
    a_socket_serves_as_well_and_takes_the_password_as_it_is,
);

async fn start(options: MysqlOptions) -> Result<(), SourceError> {
    let mut source = MysqlSource::new(options)?;
    let start = source.resolve_start(&Start::Now).await?;
    source.connect(&start).await
}

async fn tls_protects_the_stream_and_refuses_whom_it_cannot_verify(at: At) {
    let mut server = Server::on(at, "tls").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let user = format!("tls{}", std::process::id());
    let by = if at.is_mariadb() { "" } else { "WITH caching_sha2_password" };
    server.run(&format!("CREATE USER {user} IDENTIFIED {by} BY 'pass phrase' REQUIRE SSL")).await;
    server.run(&format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}")).await;

    let mut options = server.options();
    (options.user, options.password) = (user.clone(), Secret::new("pass phrase"));
    options.tls = Tls::Required;
    let mut follower = server.follow_with(options.clone()).await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1"]);

    // The server's own certificate is of no known CA.
    options.tls = Tls::VerifyIdentity;
    let error = start(options.clone()).await.unwrap_err();
    assert!(matches!(error, SourceError::Garbled(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    // MariaDB makes its certificate in memory: nobody else can know it.
    if !at.is_mariadb() {
        whose_authority_is_known(&mut server, options.clone()).await;
    }

    // Without TLS this user is turned away.
    options.tls = Tls::Disabled;
    let error = start(options).await.unwrap_err();
    assert!(matches!(error, SourceError::Definite(_)), "{error}");
    server.run(&format!("DROP USER {user}")).await;
}

async fn whose_authority_is_known(server: &mut Server, mut options: MysqlOptions) {
    // Its CA is known, but the certificate names no host.
    let folder: String = server.conn.query_first("SELECT @@datadir").await.unwrap().unwrap();
    options.ca_file = Some(std::path::Path::new(&folder).join("ca.pem"));
    let error = start(options.clone()).await.unwrap_err();
    assert!(matches!(error, SourceError::Garbled(_)), "{error}");

    // Whatever name is in it, one of its CA's.
    options.tls = Tls::VerifyCa;
    let mut follower = server.follow_with(options.clone()).await;
    server.run("INSERT INTO t VALUES (2)").await;
    follower.catch_up(server).await;
    assert_eq!(follower.briefs(), ["insert t 2"]);
    // Another one's CA.
    options.ca_file = Some(std::path::Path::new(&folder).join("client-cert.pem"));
    let error = start(options).await.unwrap_err();
    assert!(matches!(error, SourceError::Garbled(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_user_that_must_show_a_certificate_comes_with_one() {
    let mut server = Server::new("x509").await;
    let user = format!("x509{}", std::process::id());
    server.run(&format!("CREATE USER {user} IDENTIFIED BY 'pass phrase' REQUIRE X509")).await;
    server.run(&format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}")).await;
    let folder: String = server.conn.query_first("SELECT @@datadir").await.unwrap().unwrap();
    let file = |name: &str| std::path::Path::new(&folder).join(name);
    let mut options = server.options();
    (options.user, options.password) = (user.clone(), Secret::new("pass phrase"));
    (options.tls, options.ca_file) = (Tls::VerifyCa, Some(file("ca.pem")));
    let error = start(options.clone()).await.unwrap_err();
    assert!(matches!(error, SourceError::Definite(_)), "{error}");
    let (chain, key) = (file("client-cert.pem"), file("client-key.pem"));
    options.client_certificate = Some(ClientCertificate { chain, key });
    start(options).await.unwrap();
    server.run(&format!("DROP USER {user}")).await;
}

async fn a_socket_serves_as_well_and_takes_the_password_as_it_is(at: At) {
    let mut server = Server::on(at, "socket").await;
    let user = format!("socket{}", std::process::id());
    server.run(&format!("CREATE USER {user}@localhost IDENTIFIED BY 'pass phrase'")).await;
    server
        .run(&format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}@localhost"))
        .await;
    let path: String = server.conn.query_first("SELECT @@socket").await.unwrap().unwrap();
    let mut options = server.options();
    (options.user, options.password) = (user.clone(), Secret::new("pass phrase"));
    options.address = Address::Socket(path.into());
    start(options).await.unwrap();
    server.run(&format!("DROP USER {user}@localhost")).await;
}

#[tokio::test]
async fn a_password_that_the_server_does_not_remember_needs_a_way_that_is_known_or_spelt() {
    let mut server = Server::new("sha2").await;
    let user = format!("sha2{}", std::process::id());
    server.run(&format!("CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY 'pass phrase'")).await;
    server.run(&format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}")).await;
    let mut options = server.options();
    (options.user, options.password) = (user.clone(), Secret::new("pass phrase"));
    let error = start(options.clone()).await.unwrap_err();
    assert!(matches!(error, SourceError::Definite(_)) && error.to_string().contains("socket="), "{error}");
    options.tls = Tls::Disabled;
    start(options.clone()).await.unwrap();
    // The server remembers it now, and needs no key.
    options.tls = Tls::Local;
    start(options).await.unwrap();
    server.run(&format!("DROP USER {user}")).await;
}
