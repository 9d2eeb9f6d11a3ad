//! The test harness itself, as far as it needs no servers: an oracle that is wrong proves nothing.

mod support;

use std::time::Duration;

use mysql_async::Value;
use support::canonical::{Numbers, canonical, canonical_members};
use support::oracle::{Column, json};
use support::plan::Plan;
use support::proxy::Proxy;
use support::scrape::Metrics;
use support::shop::{Scale, Shop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn column(data_type: &str, decimals: usize) -> Column {
    Column { name: "c".to_owned(), data_type: data_type.to_owned(), decimals }
}

fn printed(text: &str) -> String {
    canonical(text, Numbers::AsPrinted).unwrap()
}

fn by_value(text: &str) -> String {
    canonical(text, Numbers::ByValue).unwrap()
}

#[test]
fn printed_numbers_are_told_apart_by_every_digit() {
    assert_ne!(printed("12.30"), printed("12.3"));
    assert_ne!(printed("12.30"), printed("\"12.30\""));
    assert_ne!(printed("18446744073709551615"), printed("18446744073709551616"));
    assert_ne!(printed("{\"a\":1.0}"), printed("{\"a\":1}"));
}

#[test]
fn numbers_by_value_know_no_notation() {
    assert_eq!(by_value("1e16"), by_value("10000000000000000.0"));
    assert_eq!(by_value("-1.50E-3"), by_value("-0.0015"));
    assert_eq!(by_value("-0.0"), by_value("0"));
    assert_eq!(by_value("[100,{\"a\":2.50}]"), by_value("[1e2, {\"a\" : 2.5}]"));
    assert_ne!(by_value("9007199254740993"), by_value("9007199254740992"));
    assert_ne!(by_value("-1"), by_value("1"));
}

#[test]
fn white_space_escapes_and_order_of_keys_make_no_difference() {
    assert_eq!(
        printed(r#"{ "b" : [true, null], "a":"\u00e9\ud83d\ude00" }"#),
        printed(r#"{"a":"é😀","b":[true,null]}"#)
    );
    assert_ne!(printed(r#"["a","b"]"#), printed(r#"["b","a"]"#));
    assert_ne!(printed("null"), printed("\"null\""));
    assert_ne!(printed("{}"), printed("[]"));
}

#[test]
fn members_are_compared_each_in_its_way() {
    let numbers = |member: &str| if member == "double" { Numbers::ByValue } else { Numbers::AsPrinted };
    let one = canonical_members(r#"{"double":1.0,"decimal":1.0}"#, numbers).unwrap();
    let two = canonical_members(r#"{"decimal":1.0,"double":1e0}"#, numbers).unwrap();
    assert_eq!(one, two);
    let three = canonical_members(r#"{"decimal":1,"double":1}"#, numbers).unwrap();
    assert_ne!(one, three);
    assert!(canonical_members("[]", numbers).is_err());
}

#[test]
fn values_have_the_documents_form() {
    let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    let cases = [
        (column("bigint", 0), Value::UInt(u64::MAX), "18446744073709551615"),
        (column("decimal", 0), bytes("12.30"), "12.30"),
        (column("float", 0), Value::Float(0.1), "0.1"),
        (column("bit", 0), Value::Bytes(vec![0x1f, 0xff]), "8191"),
        (column("varchar", 0), bytes("o'clock \"😀\"\n"), r#""o'clock \"😀\"\n""#),
        (column("varchar", 0), Value::NULL, "null"),
        (column("binary", 0), Value::Bytes(vec![0, 255, 0]), "\"AP8A\""),
        (column("date", 0), Value::Date(2026, 11, 23, 0, 0, 0, 0), "\"2026-11-23\""),
        (column("datetime", 3), Value::Date(2026, 11, 23, 6, 47, 8, 120_000), "\"2026-11-23T06:47:08.120\""),
        (column("datetime", 0), Value::Date(2026, 11, 23, 6, 47, 8, 0), "\"2026-11-23T06:47:08\""),
        (column("timestamp", 0), Value::Date(2026, 11, 23, 6, 47, 8, 0), "\"2026-11-23T06:47:08Z\""),
        (column("timestamp", 6), Value::Date(2026, 11, 23, 6, 47, 8, 7), "\"2026-11-23T06:47:08.000007Z\""),
        (column("datetime", 0), Value::Date(0, 0, 0, 0, 0, 0, 0), "null"),
        (column("date", 0), Value::Date(2026, 11, 0, 0, 0, 0, 0), "null"),
        (column("time", 0), Value::Time(true, 34, 22, 59, 59, 0), "\"-838:59:59\""),
        (column("time", 2), Value::Time(false, 0, 1, 2, 3, 450_000), "\"01:02:03.45\""),
        (column("enum", 0), bytes("groß"), "\"groß\""),
        (column("set", 0), bytes("a,b"), r#"["a","b"]"#),
        (column("set", 0), bytes(""), "[]"),
        (column("json", 0), bytes("{\"a\": [1, null]}"), "{\"a\": [1, null]}"),
        (column("year", 0), Value::UInt(1999), "1999"),
    ];
    for (column, value, expected) in cases {
        assert_eq!(json(&column, &value).unwrap(), expected, "{column:?} {value:?}");
    }
    assert!(json(&column("vector", 0), &bytes("")).is_err());
}

#[test]
fn a_plan_is_its_seeds_alone() {
    let (shop, scale) = (Shop::new("mysql://nowhere", "shop"), Scale::of_rows(1000));
    let transactions = |seed: u64, connection: u64| {
        let mut plan = Plan::new(&shop, scale, seed, connection, 3);
        (0..500).map(|_| plan.next_transaction()).collect::<Vec<_>>()
    };
    assert_eq!(transactions(7, 1), transactions(7, 1));
    assert_ne!(transactions(7, 1), transactions(8, 1));
    assert_ne!(transactions(7, 1), transactions(7, 2));
}

#[test]
fn metrics_are_summed_over_their_labels() {
    let metrics = Metrics::parse(
        "# TYPE items counter\nitems{disposition=\"done\",sink=\"a\"} 5\nitems{disposition=\"superseded\"} 2\nlag 0.5\n\n",
    );
    assert_eq!(metrics.get("items"), Some(7.0));
    assert_eq!(metrics.sum("items", "disposition=\"done\""), Some(5.0));
    assert_eq!(metrics.get("lag"), Some(0.5));
    assert_eq!(metrics.get("nothing"), None);
}

/// Sends as many bytes as the client asks for by its first one, in thousands.
async fn thousands_on_demand() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let thousands = socket.read_u8().await?;
                socket.write_all(&vec![7; usize::from(thousands) * 1000]).await
            });
        }
    });
    address
}

#[tokio::test]
async fn the_proxy_cuts_where_its_script_says_and_nowhere_else() {
    let proxy = Proxy::start("127.0.0.1:0", thousands_on_demand().await, [50_001, 20_000]).await.unwrap();
    let mut got = Vec::new();
    for thousands in [10, 100, 10, 100, 100] {
        let mut socket = TcpStream::connect(proxy.address).await.unwrap();
        socket.write_u8(thousands).await.unwrap();
        let mut bytes = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut bytes));
        // A reset may take bytes with it that were under way.
        let whole = reading.await.unwrap().is_ok() && bytes.len() == usize::from(thousands) * 1000;
        got.push(whole);
    }
    assert_eq!(got, [true, false, true, false, true]);
    assert_eq!(proxy.cuts_made(), 2);
}
