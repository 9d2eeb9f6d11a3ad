use super::super::{ConfigError, parse};
use super::*;

const USUAL: &str = r#"
[source]
url = "mysql://relay@db.internal:3307"
tables = ["shop.*", "!shop.audit_*"]
[sink]
url = "https://search.internal:9200"
"#;

fn refused(text: &str) -> String {
    parse(text, "everrelay.toml").unwrap_err().to_string()
}

#[test]
fn the_usual_file_is_enough() {
    let settings = parse(USUAL, "everrelay.toml").unwrap();
    assert_eq!(settings.source.address, Address::Tcp { host: "db.internal".into(), port: 3307 });
    assert_eq!(settings.source.user, "relay");
    assert_eq!(settings.source.tls, Tls::VerifyIdentity);
    assert_eq!(settings.start, Start::Snapshot);
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/everrelay"));
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:9609");
    assert_eq!(settings.log.segment_bytes, 128 << 20);
}

#[test]
fn a_socket_and_escaped_characters_are_understood() {
    let text = USUAL.replace(
        "mysql://relay@db.internal:3307",
        "mysql://re%40lay@localhost?socket=/run/mysqld/mysqld.sock",
    );
    let settings = parse(&text, "f").unwrap();
    assert_eq!(settings.source.address, Address::Socket("/run/mysqld/mysqld.sock".into()));
    assert_eq!(settings.source.user, "re@lay");
    assert_eq!(settings.source.tls, Tls::Local);
}

#[test]
fn several_servers_are_an_array_with_one_user_and_a_protection_each() {
    let url = |value: &str| USUAL.replace("\"mysql://relay@db.internal:3307\"", value);
    let several = url(
        r#"["mysql://relay@a.internal", "mysql://relay@127.0.0.1:3307", "mysql://relay@localhost?socket=/s"]"#,
    );
    let source = parse(&several, "f").unwrap().source;
    let hosts: Vec<_> = source.hosts().iter().map(|host| (host.address.to_string(), host.tls)).collect();
    let expected =
        [("a.internal:3306", Tls::VerifyIdentity), ("127.0.0.1:3307", Tls::Local), ("/s", Tls::Local)];
    assert_eq!(hosts, expected.map(|(address, tls)| (address.to_owned(), tls)));
    let spelt = several
        .replace(", \"mysql://relay@localhost?socket=/s\"", "")
        .replace("[sink]", "tls = \"required\"\n[sink]");
    assert!(parse(&spelt, "f").unwrap().source.hosts().iter().all(|host| host.tls == Tls::Required));
    for (value, expected) in [
        ("[]", "it names no server"),
        ("7", "a string or an array of strings"),
        (r#"["mysql://relay@a", "mysql://other@b"]"#, "number 2: it names another user"),
        (
            r#"["mysql://relay@a", "mysql://relay@b", "mysql://relay@b:3306"]"#,
            "number 3: it names b:3306 again",
        ),
        (r#"["mysql://relay@a", "mysql://relay:canary@b"]"#, "number 2: it holds a password"),
        (r#""mysql://relay@a,b""#, "several servers are an array"),
    ] {
        let message = refused(&url(value));
        assert!(message.contains(expected) && !message.contains("canary"), "{value}: {message}");
    }
}

#[test]
fn an_empty_log_begins_where_the_file_says() {
    for (text, start) in [
        ("earliest", Start::Earliest),
        ("now", Start::Now),
        ("snapshot", Start::Snapshot),
        ("0-1-100", Start::After("0-1-100".parse().unwrap())),
    ] {
        let text = USUAL.replace("[sink]", &format!("start = \"{text}\"\n[sink]"));
        assert_eq!(parse(&text, "everrelay.toml").unwrap().start, start);
    }
}

#[test]
fn a_misspelt_key_is_refused_with_line_and_column() {
    let message = refused(&USUAL.replace("tables", "tabels"));
    assert!(message.contains("line 4, column 1") && message.contains("tabels"), "{message}");
    let message = refused(&format!("{USUAL}[lgo]\n"));
    assert!(message.contains("lgo"), "{message}");
}

#[test]
fn a_wrong_type_and_a_missing_value_are_refused_by_name() {
    let message = refused(&USUAL.replace("[\"shop.*\", \"!shop.audit_*\"]", "\"shop.*\""));
    assert!(message.contains("line 4") && message.contains("sequence"), "{message}");
    let message = refused(&USUAL.replace("url = \"mysql", "#url = \"mysql"));
    assert!(message.contains("missing field `url`"), "{message}");
    assert!(refused("").contains("missing field `source`"));
}

#[test]
fn a_secret_in_place_of_a_variables_name_is_not_shown() {
    let refused =
        |name: &str| refused(&USUAL.replace("[sink]", &format!("password_env = \"{name}\"\n[sink]")));
    assert!(refused("EVERRELAY_NOT_SET").contains("\"EVERRELAY_NOT_SET\" is not set"));
    let message = refused("canary");
    assert!(
        message.contains("password_env: the environment variable") && !message.contains("canary"),
        "{message}"
    );
}

#[test]
fn a_line_that_is_no_key_is_not_shown() {
    let text = USUAL.replace("[sink]", "password = \"\"\"\nnot: canary\n[sink]");
    let message = refused(&text);
    assert!(message.contains("line") && !message.contains("canary"), "{message}");
    let message = refused(&USUAL.replace("[sink]", "password\n\"canary\"\n[sink]"));
    assert!(message.contains("line") && !message.contains("canary"), "{message}");
}

#[test]
fn a_value_that_means_nothing_is_refused_by_section_and_key() {
    for (from, to, expected) in [
        ("mysql://relay@", "postgres://relay@", "[source] url: its scheme"),
        ("mysql://relay@", "mysql://", "[source] url: it names no user"),
        ("mysql://relay@", "mysql://relay:canary@", "[source] url: it holds a password"),
        (":3307", ":3307/shop", "[source] url: it names a database"),
        (":3307", ":3307?canary@db", "[source] url: it has a parameter"),
        ("[\"shop.*\", \"!shop.audit_*\"]", "[]", "[source] tables"),
        ("\"shop.*\"", "\"shop\"", "[source] tables"),
        ("[sink]", "start = \"soon\"\n[sink]", "[source] start"),
        ("[sink]", "password_env = \"EVERRELAY_NOT_SET\"\n[sink]", "[source] password_env"),
        ("[sink]", "password_file = \"/nonexistent\"\n[sink]", "[source] password_file"),
        ("[sink]", "max_row_bytes = 0\n[sink]", "[source] max_row_bytes"),
        ("[sink]", "tls = \"verify_ca\"\n[sink]", "[source] tls: verify_ca"),
        (":3307", "?socket=/s\"\ntls = \"required", "[source] tls: nothing leaves"),
        (
            "[sink]",
            "client_cert_file = \"/dev/null\"\n[sink]",
            "[source] client_cert_file: its key is missing",
        ),
        ("[sink]", "client_key_file = \"/dev/null\"\n[sink]", "[source] client_key_file: its certificate"),
        (
            "[sink]",
            "tls = \"disabled\"\nclient_cert_file = \"/dev/null\"\nclient_key_file = \"/dev/null\"\n[sink]",
            "[source] client_cert_file: it is shown over TLS alone",
        ),
        (
            "[sink]",
            "client_cert_file = \"/dev/null\"\nclient_key_file = \"/dev/null\"\n[sink]",
            "[source] client_key_file: cannot use \"/dev/null\": it is open to everybody",
        ),
        ("https://search", "ftp://search", "[sink] url"),
        ("[sink]", "[sink]\nusername = \"u\"", "[sink] username"),
        ("[sink]", "[sink]\nclient_cert_file = \"/dev/null\"", "[sink] client_cert_file: its key"),
        ("[sink]", "[sink]\naws_profile = \"p\"", "[sink] aws_region: missing beside"),
        ("[sink]", "[sink]\naws_region = \"EU\"", "[sink] aws_region: it is no region"),
        (
            "[sink]",
            "[sink]\naws_region = \"eu\"\naws_credentials_file = \"/nowhere\"",
            "[sink] aws_credentials_file",
        ),
        (
            "[sink]",
            "[sink]\nbearer_env = \"PATH\"\napi_key_env = \"HOME\"",
            "[sink] api_key_env: it and bearer_env",
        ),
        (
            "https://search.internal:9200\"",
            "http://s\"\nclient_cert_file = \"a\"\nclient_key_file = \"b\"",
            "over TLS alone",
        ),
        ("[sink]", "[log]\nsegment_bytes = 1\n[sink]", "[log] segment_bytes"),
        ("[sink]", "[log]\nquota_bytes = 1000000\n[sink]", "[log] quota_bytes: 1000000 is under 155189248"),
    ] {
        let text = USUAL.replacen(from, to, 1);
        assert_ne!(text, USUAL, "{from}");
        let message = refused(&text);
        assert!(message.contains(expected), "{to}: {message}");
        assert!(!message.contains("canary"), "{message}");
    }
}

#[test]
fn the_least_quota_follows_the_largest_row() {
    let text = USUAL.replace("[sink]", "max_row_bytes = 1048576\n[log]\nquota_bytes = 23068672\n[sink]");
    let settings = parse(&text, "f").unwrap();
    assert_eq!(settings.log.quota, Quota::Bytes(22 << 20));
    assert_eq!(settings.log.limits(0, u64::MAX).segment, (22 << 20) / 8, "a quota holds several segments");
    assert!(parse(&text.replace("23068672", "23068671"), "f").is_err());
}

#[test]
fn without_a_quota_half_of_the_disk_is_taken_and_a_reserve_is_held_unless_told_otherwise() {
    let settings = parse(USUAL, "f").unwrap();
    assert_eq!((settings.log.quota, settings.disk_reserve_bytes), (Quota::HalfOfDisk, 64 << 20));
    assert_eq!(settings.log.limits(30 << 30, 70 << 30).quota, 50 << 30);
    assert_eq!(settings.log.limits(0, 0).quota, settings.log.least_quota());
    let none = parse(&format!("{USUAL}[state]\ndisk_reserve_bytes = 0\n"), "f").unwrap();
    assert_eq!(none.disk_reserve_bytes, 0);
}

#[test]
fn a_password_comes_from_a_file_that_others_cannot_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let text = USUAL.replace("[sink]", &format!("password_file = {file:?}\n[sink]"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(parse(&text, "f"), Err(ConfigError::Value { key: "password_file", .. })));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = parse(&text, "f").unwrap();
    assert_eq!(settings.source.password.reveal(), "s3cret");
    assert!(!format!("{settings:?}").contains("s3cret"));
}

#[test]
fn tables_are_read_by_themselves_where_the_file_has_that() {
    let read = |source: &str, snapshot: &str| {
        let text = USUAL.replace("[sink]", &format!("{source}\n[sink]")) + snapshot;
        let snapshot = parse(&text, "everrelay.toml").unwrap().source.snapshot;
        (snapshot.added, snapshot.gaps)
    };
    assert_eq!(read("", ""), (true, false));
    assert_eq!(read("start = \"now\"", "[snapshot]\non_gap = \"mark\""), (false, false));
    assert_eq!(read("start = \"snapshot\"", "[snapshot]\non_gap = \"snapshot\""), (true, true));
    assert!(refused(&format!("{USUAL}[snapshot]\non_gap = \"sweep\"")).contains("unknown variant `sweep`"));
}

#[test]
fn snapshots_wait_for_the_replicas_that_the_file_names() {
    let of = |snapshot: &str| format!("{USUAL}[snapshot]\n{snapshot}");
    let source = parse(&of("max_replica_lag_seconds = 10"), "everrelay.toml").unwrap().source;
    assert_eq!(source.snapshot.max_replica_lag, Some(Duration::from_secs(10)));
    assert_eq!(source.snapshot_replicas, []);
    let text = of("max_replica_lag_seconds = 0\nreplicas = [\"mysql://relay@a\", \"mysql://relay@b:3307\"]");
    let replicas = parse(&text, "everrelay.toml").unwrap().source.snapshot_replicas;
    let addresses: Vec<String> = replicas.iter().map(|host| host.address.to_string()).collect();
    assert_eq!(addresses, ["a:3306", "b:3307"]);
    assert!(replicas.iter().all(|host| host.tls == Tls::VerifyIdentity));

    for (snapshot, word) in [
        ("replicas = [\"mysql://relay@a\"]", "max_replica_lag_seconds"),
        ("max_replica_lag_seconds = 5\nreplicas = [\"mysql://other@a\"]", "name another"),
        ("max_replica_lag_seconds = 5\nreplicas = [\"a\"]", "replicas"),
    ] {
        let why = refused(&of(snapshot));
        assert!(why.contains(word) && why.contains("snapshot"), "{why}");
    }
}

#[test]
fn what_the_engine_is_asked_to_bear_has_ceilings() {
    let of = |sink: &str| USUAL.replace("[sink]\n", &format!("[sink]\n{sink}\n"));
    let usual = parse(USUAL, "everrelay.toml").unwrap().sinks.remove(0).deliver;
    assert_eq!((usual.in_flight, usual.bytes_per_second), (16, None));
    let text = of("max_in_flight = 3\nmax_bytes_per_second = 5000000");
    let deliver = parse(&text, "everrelay.toml").unwrap().sinks.remove(0).deliver;
    assert_eq!((deliver.in_flight, deliver.bytes_per_second.map(Into::into)), (3, Some(5_000_000_u64)));
    for sink in ["max_in_flight = 0", "max_in_flight = 65", "max_bytes_per_second = 0"] {
        assert!(refused(&of(sink)).contains(&sink[..sink.len() - 5]), "{sink}");
    }
}
