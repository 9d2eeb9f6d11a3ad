//! Table maps in the stream: completed, compared with those before, and what is noted of them.

use super::*;
use crate::event::Version;
use crate::log::{Shape, Standing};
use crate::source::mysql::catalog::{Asked, Column};
use crate::source::mysql::event::Head;

/// A table map of `shop.t` with INT columns; they and the key, the first of them, are named or not.
fn map(columns: &[&str], named: bool) -> RawEvent<'static> {
    let mut body = b"\x05\0\0\0\0\0\x01\0\x04shop\0\x01t\0".to_vec();
    body.push(columns.len() as u8);
    body.extend(columns.iter().map(|_| 3));
    // No metadata, nothing may be NULL, all are signed.
    body.extend_from_slice(&[0, 0, 1, 1, 0]);
    if named {
        let names: Vec<u8> =
            columns.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
        body.extend_from_slice(&[4, names.len() as u8]);
        body.extend_from_slice(&names);
        body.extend_from_slice(&[8, 1, 0]);
    }
    RawEvent::of(kind::TABLE_MAP, 0, &body)
}

/// What information_schema says of such a table where the binlog ends at `offset`.
fn asked(columns: &[&str], offset: u64) -> Asked {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        full_type: "int".to_owned(),
        data_type: "int".to_owned(),
        ..Column::default()
    };
    let at = Position { server: PEER.uuid, file: "binlog.000001".into(), offset, ..Position::default() };
    let key = columns.iter().take(1).map(|name| (*name).to_owned()).collect();
    Asked { at, columns: columns.iter().map(column).collect(), key }
}

/// An insert of a row with so many columns.
fn insert(columns: usize) -> RawEvent<'static> {
    let mut body = vec![5, 0, 0, 0, 0, 0, 1, 0, 2, 0, columns as u8, 0xff, 0];
    body.extend((0..columns).flat_map(|column| [column as u8 + 1, 0, 0, 0]));
    RawEvent::of(kind::WRITE_ROWS, 0, &body)
}

/// A stream that stands at an offset of its first file.
struct Stream {
    binlog: Binlog,
    number: u64,
    standing: Standing,
}

impl Stream {
    fn at(offset: u64) -> Stream {
        let mut stream = Stream { binlog: binlog(), number: 0, standing: Standing::default() };
        stream.moves_to(offset);
        stream
    }

    fn moves_to(&mut self, offset: u64) {
        let rotate = [&offset.to_le_bytes()[..], b"binlog.000001"].concat();
        self.binlog.event(&RawEvent::of(kind::ROTATE, 0, &rotate), &mut Batch::new()).unwrap();
    }

    /// Another connection goes on where the log ends.
    fn connects_again(&mut self, offset: u64) {
        let patterns = Patterns::parse(&["shop.*"]).unwrap();
        self.binlog.restart(self.standing.gtids.clone(), PEER, patterns, BTreeSet::new());
        self.binlog.recall(&self.standing);
        self.moves_to(offset);
    }

    fn asks(&self, event: &RawEvent<'_>) -> bool {
        self.binlog.to_ask(event).is_some_and(|table| table.to_string() == "shop.t")
    }

    fn told(&mut self, asked: Asked) {
        self.binlog.told(TableName::new("shop", "t"), asked);
    }

    /// Takes a transaction; its gaps, and how many changes it has.
    fn takes(&mut self, events: Vec<RawEvent<'static>>) -> Result<(Vec<String>, usize), MysqlError> {
        self.number += 1;
        let mut batch = Batch::new();
        let mut begins = gtid(self.number).bytes().to_vec();
        let end = self.binlog.place().offset as u32 + begins.len() as u32;
        begins[13..17].copy_from_slice(&end.to_le_bytes());
        let begins = begins.leak();
        let begins = RawEvent::new(Head::parse(begins).unwrap(), begins, Within::Stream);
        for event in [begins].iter().chain(&events) {
            self.binlog.event(event, &mut batch)?;
        }
        let before = self.standing.gaps.clone();
        for (kind, payload) in batch.payloads() {
            match kind {
                Kind::Commit => self.standing.committed(Commit::decode(payload).unwrap(), Version(1)),
                Kind::Mark => self.standing.marked(Mark::decode(payload).unwrap(), Version(1)),
                _ => {}
            }
        }
        let news = self.standing.gaps.iter().filter(|gap| !before.contains(gap));
        let gaps = news.map(|Gap { table, why, .. }| format!("{table}: {why}")).collect();
        Ok((gaps, batch.changes()))
    }

    fn rows(&mut self, map: RawEvent<'static>, columns: usize) -> Result<(Vec<String>, usize), MysqlError> {
        self.takes(vec![query("BEGIN"), map, insert(columns), xid()])
    }

    fn shape(&self) -> &Shape {
        let [shape] = self.standing.shapes.as_slice() else { panic!("{:?}", self.standing.shapes) };
        shape
    }
}

fn alter() -> Vec<RawEvent<'static>> {
    vec![query("ALTER TABLE t ADD INDEX (a)")]
}

const NOTHING: (Vec<String>, usize) = (Vec::new(), 0);

fn rows(changes: usize) -> (Vec<String>, usize) {
    (Vec::new(), changes)
}

#[test]
fn a_map_that_names_its_columns_is_never_asked_about() {
    let mut stream = Stream::at(100);
    assert!(!stream.asks(&map(&["id"], true)) && stream.asks(&map(&["id"], false)));
    assert_eq!(stream.rows(map(&["id"], true), 1).unwrap(), rows(1));
    assert!(stream.shape().asked_at.is_none() && !stream.shape().altered);
    // Nothing is noted again that the log knows.
    stream.standing.shapes.clear();
    assert_eq!(stream.rows(map(&["id"], true), 1).unwrap(), rows(1));
    assert!(stream.standing.shapes.is_empty());
}

#[test]
fn columns_that_go_without_a_statement_are_a_gap() {
    let mut stream = Stream::at(100);
    stream.rows(map(&["id", "a"], true), 2).unwrap();
    assert_eq!(stream.rows(map(&["id", "a", "b"], true), 3).unwrap(), rows(1), "one more is none");
    let gone = "shop.t: its rows have no column b any more";
    assert_eq!(stream.rows(map(&["a", "id"], true), 2).unwrap(), (vec![gone.to_owned()], 1));

    // Between two connections too, also of two runs.
    let mut stream = Stream::at(100);
    stream.rows(map(&["id", "b"], true), 2).unwrap();
    stream.connects_again(200);
    assert_eq!(stream.rows(map(&["id"], true), 1).unwrap(), (vec![gone.to_owned()], 1));
    // Where the stream begins before what was read last, the table is as it was then.
    stream.standing = Standing::default();
    stream.connects_again(100);
    assert_eq!(stream.rows(map(&["id", "b"], true), 2).unwrap(), rows(1));
}

#[test]
fn another_key_is_a_gap_when_its_first_row_comes() {
    let mut stream = Stream::at(100);
    stream.rows(map(&["id", "a"], true), 2).unwrap();
    assert_eq!(stream.takes(vec![query("ALTER TABLE t ADD UNIQUE (a)")]).unwrap(), NOTHING);
    let told_apart = "shop.t: its rows are told apart by (a), by (id) before";
    assert_eq!(stream.rows(map(&["a", "id"], true), 2).unwrap(), (vec![told_apart.to_owned()], 1));
}

#[test]
fn a_map_without_names_is_completed_by_information_schema_and_later_by_the_log() {
    let mut stream = Stream::at(100);
    let bare = || map(&["id", "a"], false);
    assert!(stream.asks(&bare()));
    stream.told(asked(&["id", "a"], 500));
    assert!(!stream.asks(&bare()));
    assert_eq!(stream.rows(bare(), 2).unwrap(), rows(1));
    assert_eq!(stream.shape().asked_at.as_ref().unwrap().offset, 500);
    stream.connects_again(150);
    assert!(!stream.asks(&bare()), "the log describes it");
    assert_eq!(stream.rows(bare(), 2).unwrap(), rows(1));
    // One that names them says the same.
    assert_eq!(stream.rows(map(&["id", "a"], true), 2).unwrap(), rows(1));
}

#[test]
fn a_statement_before_the_place_that_was_asked_at_is_a_gap_and_one_behind_it_is_none() {
    let bare = || map(&["id", "a"], false);
    let newer = "shop.t: rows before this statement may have been read by the names that it gave its columns";
    for again in [false, true] {
        for (place, gap) in [(400, true), (500, false)] {
            let mut stream = Stream::at(100);
            stream.told(asked(&["id", "a"], 500));
            stream.rows(bare(), 2).unwrap();
            if again {
                // What was asked for is remembered with the place.
                stream.connects_again(150);
                stream.rows(bare(), 2).unwrap();
            }
            stream.moves_to(place);
            let expected = if gap { (vec![newer.to_owned()], 0) } else { NOTHING };
            assert_eq!(stream.takes(alter()).unwrap(), expected, "{place}");
            assert!(stream.shape().altered && stream.asks(&bare()), "it is asked for anew");
            stream.connects_again(place);
            assert!(stream.asks(&bare()), "also by another connection");
            stream.told(asked(&["id", "b"], 900));
            let renamed = "shop.t: its rows have no column a any more".to_owned();
            let expected = if gap { rows(1) } else { (vec![renamed], 1) };
            assert_eq!(stream.rows(bare(), 2).unwrap(), expected);
        }
    }
    // Where the log's end has passed that place, what was newer is of now.
    let mut stream = Stream::at(100);
    stream.told(asked(&["id", "a"], 500));
    stream.rows(bare(), 2).unwrap();
    stream.standing.position = asked(&[], 600).at;
    stream.connects_again(600);
    assert_eq!(stream.takes(alter()).unwrap(), NOTHING);
    // A place at another server cannot be compared.
    let mut stream = Stream::at(100);
    stream.told(asked(&["id", "a"], 500));
    stream.rows(bare(), 2).unwrap();
    stream.standing.shapes[0].asked_at.as_mut().unwrap().server = [9; 16];
    stream.connects_again(900);
    assert_eq!(stream.takes(alter()).unwrap(), (vec![newer.to_owned()], 0));
}

#[test]
fn rows_that_fit_no_newer_columns_are_left_out_until_a_statement_explains_it() {
    let left_out = "shop.t: its rows were left out: they do not name their columns, and information_schema has newer ones";
    for newer in [&["id", "a", "b"][..], &[]] {
        let mut stream = Stream::at(100);
        stream.told(asked(newer, 500));
        let bare = || map(&["id", "a"], false);
        assert!(!stream.asks(&bare()));
        assert_eq!(stream.rows(bare(), 2).unwrap(), (vec![left_out.to_owned()], 0));
        stream.moves_to(200);
        assert_eq!(stream.rows(bare(), 2).unwrap(), NOTHING);
        stream.takes(vec![query("ALTER TABLE t ADD b INT")]).unwrap();
        let wider = || map(&["id", "a", "b"], false);
        assert!(stream.asks(&wider()));
        stream.told(asked(&["id", "a", "b"], 600));
        assert_eq!(stream.rows(wider(), 3).unwrap(), rows(1));

        // And where none comes, nobody knows how to read them.
        let mut stream = Stream::at(100);
        stream.told(asked(newer, 500));
        stream.rows(bare(), 2).unwrap();
        stream.moves_to(500);
        assert!(stream.asks(&bare()), "what is said by now may be otherwise");
        stream.told(asked(newer, 700));
        let error = SourceError::from(stream.rows(bare(), 2).unwrap_err());
        assert!(matches!(&error, SourceError::Definite(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("shop.t") && text.contains("binlog.000001:") && text.contains("FULL"),
            "{text}"
        );
    }
}

#[test]
fn a_table_without_any_key_is_a_definite_error() {
    let mut stream = Stream::at(100);
    stream.told(Asked { key: Vec::new(), ..asked(&["id"], 500) });
    let error = SourceError::from(stream.rows(map(&["id"], false), 1).unwrap_err());
    assert!(
        matches!(&error, SourceError::Definite(_)) && error.to_string().contains("no primary key"),
        "{error}"
    );
}

#[test]
fn a_column_defined_anew_is_judged_by_what_its_rows_were() {
    let mut stream = Stream::at(100);
    stream.rows(map(&["id", "a"], true), 2).unwrap();
    assert_eq!(stream.takes(vec![query("ALTER TABLE t MODIFY a BIGINT NOT NULL FIRST")]).unwrap(), NOTHING);
    let (gaps, _) = stream.takes(vec![query("ALTER TABLE t MODIFY a VARCHAR(50) NOT NULL")]).unwrap();
    assert_eq!(gaps, ["shop.t: MODIFY COLUMN a: its values may be others"]);
    // Of a table that no row came of nothing is known.
    let mut stream = Stream::at(100);
    let (gaps, _) = stream.takes(vec![query("ALTER TABLE t MODIFY a BIGINT")]).unwrap();
    assert_eq!(gaps, ["shop.t: MODIFY COLUMN a: its values may be others"]);
}
