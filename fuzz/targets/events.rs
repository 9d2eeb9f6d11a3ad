//! A stream's events, one after the other: frames that a log takes, and a position that moves with commits and marks alone.

use everrelay::event::{GtidSet, TableNo, Version};
use everrelay::log::Standing;
use everrelay::log::record::{Batch, Change, Commit, Kind, Mark, Position, SchemaRecord, SweepRecord};
use everrelay::secret::Secret;
use everrelay::source::mysql::binlog::Binlog;
use everrelay::source::mysql::catalog::{Asked, Column};
use everrelay::source::mysql::event::{HEAD, Head, RawEvent, Within};
use everrelay::source::mysql::patterns::Patterns;
use everrelay::source::mysql::place::Way;
use everrelay::source::mysql::server::{Family, Peer};
use everrelay::source::mysql::{Address, MysqlOptions};

use super::format::Input;

const LARGEST_ROW: usize = 1 << 16;

/// Where events stand, by the lowest bits of a byte.
const WITHIN: [Within; 4] =
    [Within::Stream, Within::Stream, Within::Payload { last: false }, Within::Payload { last: true }];

/// Each event is its type, where it stands, its flags (2) and its body as a block; all of them come by GTIDs, and once more by place.
pub fn run(input: &[u8]) {
    let by_place = Way::ByPlace { file: "b".to_owned(), from: 4, offset: 4, before: GtidSet::default() };
    for way in [Way::BySet, by_place] {
        stream(Input(input), &way);
    }
}

fn stream(mut input: Input<'_>, way: &Way) {
    let mut options = MysqlOptions::new(Address::Socket("/s".into()), "u", Secret::default(), 1);
    options.max_row_bytes = LARGEST_ROW;
    options.mark_transactions = 2;
    let mut binlog = Binlog::new(&options);
    let patterns = Patterns::parse(&["shop.*", "!shop.audit*"]).expect("patterns");
    // Each family's events are of no use to the other, but for the table maps.
    let peer = Peer { family: Family::Mariadb, uuid: [1; 16] };
    binlog.restart(GtidSet::default(), peer, patterns, std::collections::BTreeSet::new());
    binlog.goes(way, !way.is_by_place());
    let (mut standing, mut batch) = (Standing::default(), Batch::new());
    let mut taken = Taken::default();
    while !input.is_empty() {
        let (kind, within, flags) = (input.byte(), input.byte(), input.u16());
        let body = input.block();
        let mut bytes = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
        bytes.extend_from_slice(&((HEAD + body.len()) as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(body);
        let head = Head::parse(&bytes).expect("a head");
        let event = RawEvent::new(head, &bytes, WITHIN[usize::from(within) % WITHIN.len()]);
        if let Some(table) = binlog.to_ask(&event) {
            binlog.told(table, asked());
        }
        let ended = binlog.event(&event, &mut batch).is_err();
        if binlog.take_owed().is_some() {
            // As if none of the rows were there any more.
            binlog.complete(GtidSet::default(), &mut batch).expect("it has ended");
        }
        if !ended {
            binlog.mark_if_due(&mut batch);
        }
        taken.batch(&batch, &mut standing);
        batch.clear();
        if ended {
            return;
        }
        assert!(standing.gtids.is_subset(binlog.gtids()), "the log never knows more than was read");
    }
}

/// What information_schema says of every table.
fn asked() -> Asked {
    let column = |name: &str, ty: &str| Column {
        name: name.to_owned(),
        full_type: ty.to_owned(),
        data_type: ty.to_owned(),
        ..Column::default()
    };
    let at = Position { server: [1; 16], file: "b".to_owned(), offset: 500, ..Position::default() };
    Asked { at, columns: vec![column("a", "int"), column("b", "json")], key: vec!["a".to_owned()] }
}

/// What a log would have to know of the frames so far.
#[derive(Default)]
struct Taken {
    /// Columns and key columns.
    tables: std::collections::HashMap<TableNo, (usize, usize)>,
    changes: usize,
    held: usize,
}

impl Taken {
    fn batch(&mut self, batch: &Batch, standing: &mut Standing) {
        for (kind, payload) in batch.payloads() {
            match kind {
                Kind::Schema => {
                    let SchemaRecord { table, schema } = SchemaRecord::decode(payload).expect("a schema");
                    assert!(schema.key.iter().all(|column| usize::from(*column) < schema.columns.len()));
                    self.tables.insert(table, (schema.columns.len(), schema.key.len()));
                }
                Kind::Change | Kind::Prepared => {
                    let mut change = Change::decode(payload).expect("a change");
                    let (columns, key) = self.tables[&change.table];
                    use everrelay::event::Op;
                    let values = match change.op {
                        Op::Rekey => columns + key,
                        Op::Tombstone => key,
                        _ => columns,
                    };
                    for _ in 0..values {
                        change.row.next_value().expect("a value for each column");
                    }
                    assert!(change.row.rest().is_empty());
                    let counted = if kind == Kind::Change { &mut self.changes } else { &mut self.held };
                    *counted += 1;
                    assert!(self.changes == 0 || self.held == 0, "a transaction is one of XA or it is not");
                }
                Kind::Sweep => {
                    SweepRecord::decode(payload).expect("a sweep");
                    self.changes += 1;
                }
                Kind::Commit => {
                    let commit = Commit::decode(payload).expect("a commit");
                    match &commit.gtid {
                        Some(gtid) => {
                            assert!(!standing.gtids.contains(gtid), "no transaction counts twice");
                        }
                        None => assert!(commit.position.by_place, "else nothing says where to go on"),
                    }
                    assert!(
                        self.held == 0 || commit.noted.xa.len() == 1,
                        "held rows are of one XA transaction"
                    );
                    assert!(self.changes == 0 || commit.noted.xa.is_empty());
                    standing.committed(commit, Version(1));
                    (self.changes, self.held) = (0, 0);
                }
                Kind::Mark => {
                    assert_eq!(self.changes + self.held, 0, "marks stand between transactions");
                    standing.marked(Mark::decode(payload).expect("a mark"), Version(1));
                }
                Kind::State => panic!("a source writes no state"),
            }
        }
    }
}
