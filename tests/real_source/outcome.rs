//! What the documents of a log's changes would be, against what SELECT says at the end.

use std::collections::BTreeMap;

use everrelay::event::Op;
use mysql_async::Row as Found;
use mysql_async::prelude::Queryable;

use crate::server::{Happened, Read, Row, Server};

/// A row's document, and whether it was written since its table last needed a snapshot.
struct Document {
    values: BTreeMap<String, String>,
    is_right: bool,
}

/// The documents by table and id.
type Documents = BTreeMap<(String, String), Document>;

fn id_of(row: &Row) -> String {
    row.values
        .iter()
        .find(|(name, _)| name == "id")
        .map(|(_, value)| value.clone())
        .expect("each table has an id")
}

fn documents(read: &Read) -> Documents {
    let mut documents = Documents::new();
    let mut happened = read.happened.iter().peekable();
    let mut all = |documents: &mut Documents, until: usize| {
        while let Some((_, what)) = happened.next_if(|(before, _)| *before <= until) {
            match what {
                Happened::Gap(table) => documents
                    .iter_mut()
                    .filter(|((name, _), _)| name == table)
                    .for_each(|(_, document)| document.is_right = false),
                Happened::Sweep(table) => documents.retain(|(name, _), _| name != table),
            }
        }
    };
    for (at, row) in read.changes.iter().enumerate() {
        all(&mut documents, at);
        let (table, id) = (row.table.clone(), id_of(row));
        if row.op == Op::Rekey {
            documents.remove(&(table.clone(), row.old_key[0].clone()));
        }
        if matches!(row.op, Op::Delete | Op::Tombstone) {
            documents.remove(&(table, id));
        } else {
            let values = row.values.iter().filter(|(_, value)| value != "NULL").cloned().collect();
            documents.insert((table, id), Document { values, is_right: true });
        }
    }
    all(&mut documents, read.changes.len());
    documents
}

/// Compares these tables, each with its columns, `id` first; how many documents were right.
pub async fn compare(server: &mut Server, tables: &[(&str, Vec<&str>)], read: &Read) -> usize {
    let mut documents = documents(read);
    let mut right = 0;
    for (name, columns) in tables {
        let has_gap = read.standing.gaps.iter().any(|gap| gap.table.table == *name);
        let list: Vec<_> = columns.iter().map(|column| format!("CAST({column} AS CHAR)")).collect();
        let rows: Vec<Found> =
            server.conn.query(format!("SELECT {} FROM {name}", list.join(", "))).await.expect("the rows");
        for row in rows {
            let values = row.unwrap().into_iter().zip(columns).filter_map(|(value, column)| {
                let text: Option<String> = mysql_async::from_value(value);
                Some(((*column).to_owned(), text?))
            });
            let values: BTreeMap<_, _> = values.collect();
            match documents.remove(&((*name).to_owned(), values["id"].clone())) {
                Some(document) if document.is_right => {
                    assert_eq!(document.values, values, "of {name}");
                    right += 1;
                }
                _ => assert!(has_gap, "{name} has no right document of {values:?} and needs no snapshot"),
            }
        }
    }
    let left: Vec<_> =
        documents.iter().filter(|(_, document)| document.is_right).map(|(key, _)| key).collect();
    assert!(left.is_empty(), "of rows that are gone: {left:?}");
    right
}
