//! A log that was written whole, and then changed as a bad disk, a bad copy or a bad hand would: what is read is a prefix of what
//! was written, and what lies below the last synced end is never lost without a word.

use std::sync::OnceLock;

use everrelay::event::codec::RowWriter;
use everrelay::event::gtid::Origin;
use everrelay::event::{Column, ColumnType, Gtid, GtidSet, Op, TableName, TableNo, TableSchema, Xid};
use everrelay::log::Noted;
use everrelay::log::prepared::{self, Prepared, Xa};
use everrelay::log::record::{Batch, Commit, Kind, Mark, Position, SchemaRecord, Synced};

use super::folder::File;
use super::format::Input;
use super::place::{Content, Outcome, Place, Read, content};

/// A log, what it gives, and the offset in its last segment that its last commit knows to be synced.
struct Written {
    files: Vec<File>,
    content: Content,
    synced: usize,
    /// Frames up to the last end of a transaction below it.
    known: usize,
}

/// What was done to it.
struct Damaged {
    files: Vec<File>,
    /// The lowest byte of the last file that may have changed; `None` if anything else did.
    above: Option<usize>,
}

pub fn run(input: &[u8]) {
    let written = written();
    let Damaged { files, above } = damage(written, Input(input));
    let place = Place::with(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    let synced = above.is_some_and(|above| above >= written.synced);
    match place.examine() {
        Outcome::Refused(error) => assert!(!synced, "refused for what is a torn tail: {error}"),
        // Every file is gone: a new log.
        Outcome::Opened(found) if files.is_empty() => assert!(found.frames.is_empty()),
        Outcome::Opened(found) => {
            let from = usize::try_from(found.start - written.content.start).expect("a place in a list");
            let whole = &written.content.frames[from..];
            let read = &found.frames;
            assert!(
                read.len() <= whole.len() && read[..] == whole[..read.len()],
                "a frame that was not written"
            );
            if synced {
                assert!(from == 0 && read.len() >= written.known, "lost what was known to be synced");
            }
        }
    }
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(write)
}

fn write() -> Written {
    let place = Place::new();
    let mut opened = place.open().expect("an empty folder opens");
    let mut batch = Batch::new();
    let (synced, position) = (Synced::default(), Position::default());
    batch.mark(&Mark {
        synced,
        gtids: GtidSet::default(),
        time_micros: 0,
        position,
        noted: Default::default(),
    });
    batch.schema(&schema(TableNo(7), "orders"));
    batch.schema(&schema(TableNo(300), "lines"));
    for number in 1..=12 {
        transaction(&mut batch, number);
        if number % 3 == 0 {
            opened.writer.append(&mut batch).expect("it is appended");
            opened.writer.sync().expect("it is synced");
        }
    }
    // Not synced before they are written: the commits name the end of the batch before them.
    transaction(&mut batch, 13);
    transaction(&mut batch, 14);
    opened.writer.append(&mut batch).expect("it is appended");
    opened.writer.sync().expect("it is synced");
    let content = content(&opened.log);
    let files: Vec<File> = place.files().into_iter().collect();
    let last = content.frames.last().expect("frames were written");
    let synced =
        u64::from_le_bytes(last.payload[..8].try_into().expect("a commit begins with its synced offset"));
    let below = |frame: &Read| {
        let end = matches!(frame.kind, Kind::Commit | Kind::Mark);
        end && (frame.at.segment < last.at.segment || frame.at.offset < synced)
    };
    let known = content.frames.iter().rposition(below).expect("more than one batch was written") + 1;
    assert!(files.len() > 2 && known < content.frames.len(), "some of it is to be lost, and not all");
    Written { synced: usize::try_from(synced).expect("a small file"), known, files, content }
}

fn schema(table: TableNo, name: &str) -> SchemaRecord {
    let ty = ColumnType::Integer { bits: 64, unsigned: true };
    let id = Column { name: "id".into(), ty, nullable: false };
    let note = Column { name: "note".into(), ty: ColumnType::Varchar, nullable: true };
    let name = TableName::new("shop", name);
    SchemaRecord { table, schema: TableSchema { name, columns: vec![id, note], key: vec![0] } }
}

/// Two changes and a commit. Some are XA transactions that stay prepared, some are decided at once.
fn transaction(batch: &mut Batch, number: u64) {
    batch.hold(number.is_multiple_of(4));
    let xid = Xid::new(1, &number.to_le_bytes(), b"").expect("a short xid");
    let xa = match number {
        4 => vec![Xa::Prepared(Prepared { xid, gtid: None, time_micros: number, held: None })],
        _ if number.is_multiple_of(4) => vec![Xa::Decided { xid, outcome: prepared::Outcome::Committed }],
        _ => Vec::new(),
    };
    for table in [TableNo(7), TableNo(300)] {
        let mut change = batch.change(table);
        let mut row = RowWriter::new(change.values());
        row.u64(number);
        row.text("what the customer said");
        change.finish(Op::Insert);
    }
    let gtid = Gtid { origin: Origin::Server { uuid: [3; 16], tag: String::new() }, number };
    let position =
        Position { server: [3; 16], file: "binlog.000001".into(), offset: number, ..Position::default() };
    batch.commit(&Commit {
        synced: Synced::default(),
        gtid: Some(gtid),
        time_micros: number,
        position,
        noted: Noted { xa, ..Noted::default() },
    });
    batch.hold(false);
}

fn damage(written: &Written, mut input: Input<'_>) -> Damaged {
    let mut files = written.files.clone();
    let mut above = Some(usize::MAX);
    while !input.is_empty() && !files.is_empty() {
        let (what, which, number) = (input.byte(), usize::from(input.byte()), input.u32());
        let last = files.len() - 1;
        // Most damage goes where it is hardest to tell: into the last file.
        let at = if which & 0x80 != 0 { last } else { which % files.len() };
        let untouched = files.len() == written.files.len();
        if what % 8 == 7 {
            files.remove(at);
            above = None;
            continue;
        }
        let bytes = &mut files[at].1;
        let place = number as usize % (bytes.len() + 1);
        change(bytes, what % 8, place, &mut input);
        above = above.filter(|_| untouched && at == last).map(|above| above.min(place));
    }
    Damaged { files, above }
}

/// Changes nothing below `place`.
fn change(bytes: &mut Vec<u8>, what: u8, place: usize, input: &mut Input<'_>) {
    let rest = bytes.len() - place;
    match what {
        0 if rest > 0 => bytes[place] ^= 1 << (input.byte() % 8),
        1 if rest > 0 => bytes[place] = input.byte(),
        2 if rest >= 4 => bytes[place..place + 4].copy_from_slice(&input.u32().to_le_bytes()),
        // Pages that were never written.
        3 => {
            let length = usize::from(input.u16()).min(rest);
            bytes[place..place + length].fill(0);
        }
        4 => bytes.truncate(place),
        5 => bytes.splice(place..place, input.block().iter().copied()).for_each(drop),
        // A write that went to the wrong place of the same file.
        6 => {
            let from = input.u32() as usize % (bytes.len() + 1);
            let length = usize::from(input.u16()).min(rest).min(bytes.len() - from);
            bytes.copy_within(from..from + length, place);
        }
        _ => {}
    }
}
