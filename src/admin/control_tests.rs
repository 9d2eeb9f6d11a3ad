//! Orders over the socket, and what comes back.

use super::*;
use crate::event::codec::RowWriter;
use crate::event::{Column, ColumnType, Op, Seq, TableSchema};
use crate::mapping::rule::Rules;
use crate::relay::parked_orders::{self, Became, Fate, ParkedOrder, ParkedQueue, Which};
use crate::settled::{Cursor, CursorStore, Parked, ParkedRow, ParkedStep, Settled};
use crate::source::orders::{self, Refused};

async fn post_to(path: &Path, route: &str, body: &str) -> (StatusCode, String) {
    let socket = SocketPath::new(path).unwrap();
    let client = reqwest::Client::builder().unix_socket(socket.as_path()).build().unwrap();
    let url = format!("http://relay{route}");
    let answer = client.post(url).body(body.to_owned()).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

fn refused_row() -> ParkedStep {
    let ty = ColumnType::Integer { bits: 64, unsigned: false };
    let table = TableName::new("shop", "orders");
    let columns = vec![Column { name: "id".into(), ty, nullable: false }];
    let mut row = Vec::new();
    RowWriter::new(&mut row).i64(7);
    let parked = Parked {
        table: table.clone(),
        id: "7".into(),
        seq: Seq(12),
        version: 1012,
        op: Op::Read,
        kind: "document_parsing_exception".into(),
        reason: "document_parsing_exception (400)".into(),
        since_micros: 5,
        tried_micros: 6,
        attempts: 2,
        bytes: 4,
    };
    ParkedStep::Parked(
        Box::new(parked),
        ParkedRow { schema: TableSchema { name: table, columns, key: vec![0] }, row },
    )
}

async fn what_is_parked_is_shown_and_ordered(path: &Path, queue: &mut ParkedQueue) {
    let socket = SocketPath::new(path).unwrap();
    let client = reqwest::Client::builder().unix_socket(socket.as_path()).build().unwrap();
    let listed = client.get("http://relay/sink/main/parked").send().await.unwrap().text().await.unwrap();
    insta::assert_snapshot!(listed, @r##"[{"record":12,"table":"shop.orders","document":"#7902699be42c","id":"7","operation":"snapshot read","version":1012,"reason":"document_parsing_exception","details":"document_parsing_exception (400)","since_micros":5,"tried_micros":6,"attempts":2,"bytes":4}]"##);
    let (status, shown) = post_to(path, "/sink/main/parked/show", r#"{"records": [12]}"#).await;
    assert!(status == StatusCode::OK && shown.contains(r#""body":"{\"id\":7}""#), "{shown}");
    assert_eq!(post_to(path, "/sink/main/parked/show", r#"{"records": [13]}"#).await.1, "[]");
    let retry = async {
        let taken = queue.next().await;
        assert_eq!(taken.order, ParkedOrder::Retry(Which::Tables(vec![TableName::new("shop", "orders")])));
        let became = Became::Refused { reason: "again".into() };
        let fate = Fate { table: TableName::new("shop", "orders"), seq: Seq(12), became };
        taken.answer.send(vec![fate]).unwrap();
    };
    let (answer, ()) =
        tokio::join!(post_to(path, "/sink/main/parked/retry", r#"{"tables": ["shop.orders"]}"#), retry);
    let told = r#"[{"record":12,"table":"shop.orders","became":"refused","details":"again"}]"#;
    assert_eq!(answer, (StatusCode::OK, told.to_owned()));
    for body in
        ["", r#"{"tables": ["a.b"], "records": [1]}"#, r#"{"tables": ["orders"]}"#, r#"{"record": 1}"#]
    {
        assert_eq!(post_to(path, "/sink/main/parked/drop", body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn orders_go_to_the_source_and_its_answer_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the path of a socket may be.
    let folder = folder.path().join("d".repeat(120));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("control.sock");
    drop(bind(&path).unwrap());
    let control = bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (orders, mut queue) = orders::channel();
    let shutdown = Shutdown::new();
    let settled = Settled::open(&folder.join("settled")).unwrap();
    let mut store = settled.cursor("main").unwrap();
    store.settle(&Cursor::default(), &[refused_row()]).unwrap();
    let (parked_orders, mut parked_queue) = parked_orders::channel();
    let room = parked::Room { store, rules: Rules::default(), orders: parked_orders };
    let replay_room = replay::Room {
        store: settled.cursor("main").unwrap(),
        orders: crate::relay::replay::orders::channel().0,
    };
    let control = control.with_sink("main", room, replay_room);
    let serving = tokio::spawn(control.serve(orders, shutdown.clone()));
    what_is_parked_is_shown_and_ordered(&path, &mut parked_queue).await;
    let source = tokio::spawn(async move {
        let mut seen = Vec::new();
        for answer in [Ok(vec![TableName::new("shop", "orders")]), Err(Refused("not followed".into()))] {
            let taken = queue.next().await;
            seen.push(taken.order.clone());
            taken.answer(answer);
        }
        seen
    });
    let begin = r#"{"tables": ["shop.orders", "shop.a.b"], "filter": "id > 7"}"#;
    let done = (StatusCode::OK, r#"{"tables":["shop.orders"]}"#.to_owned());
    assert_eq!(post_to(&path, "/snapshot", begin).await, done);
    let refused = (StatusCode::CONFLICT, "not followed".to_owned());
    assert_eq!(post_to(&path, "/snapshot/cancel", "{}").await, refused);
    let tables = vec![TableName::new("shop", "orders"), TableName::new("shop", "a.b")];
    let (tables, filter) = (Tables::Named(tables), Some("id > 7".to_owned()));
    let expected = [SnapshotOrder::Begin { tables, filter }, SnapshotOrder::Cancel(Tables::All)];
    assert_eq!(source.await.unwrap(), expected);
    for (route, body) in [
        ("/snapshot", ""),
        ("/snapshot", r#"{"tables": []}"#),
        ("/snapshot", r#"{"tables": ["orders"]}"#),
        ("/snapshot", r#"{"table": ["shop.orders"]}"#),
        ("/snapshot/pause", r#"{"filter": "1"}"#),
    ] {
        assert_eq!(post_to(&path, route, body).await.0, StatusCode::BAD_REQUEST, "{route} {body}");
    }
    assert_eq!(post_to(&path, "/sink/other/parked/drop", "{}").await.0, StatusCode::NOT_FOUND);
    assert_eq!(post_to(&path, "/snapshot/pause", "{}").await.0, StatusCode::CONFLICT, "the source is gone");
    shutdown.request();
    serving.await.unwrap().unwrap();
    assert!(!path.exists());
}
