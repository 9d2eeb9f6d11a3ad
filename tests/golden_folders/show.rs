//! A log as text: every frame decoded to the end.

use std::collections::HashMap;
use std::fmt::Write as _;

use everrelay::disk::Disk;
use everrelay::event::{Op, TableNo, TableSchema};
use everrelay::log::followed::Followed;
use everrelay::log::prepared::{Prepared, Xa};
use everrelay::log::record::{Change, Commit, Kind, Mark, Position, SchemaRecord, State, SweepRecord};
use everrelay::log::snapshot::SnapshotNote;
use everrelay::log::{Frame, Gap, Log, Noted, Shape, Standing};

pub fn log<D: Disk>(log: &Log<D>) -> String {
    let mut text = String::new();
    for segment in log.segments() {
        writeln!(text, "{segment:?}").unwrap();
    }
    let mut tables = HashMap::new();
    let mut reader = log.reader(log.retained_start()).unwrap();
    while let Some(frame) = reader.next_frame().unwrap() {
        let at = format!("{}+{}", frame.at.segment, frame.at.offset);
        writeln!(text, "{:>4} {at:<8} {:?} {}", frame.seq.0, frame.kind, payload(&frame, &mut tables))
            .unwrap();
    }
    let visible = log.visible();
    writeln!(
        text,
        "visible: {} at {}+{}, time {}",
        visible.seq, visible.end.segment, visible.end.offset, visible.time_micros
    )
    .unwrap();
    text
}

fn payload(frame: &Frame<'_>, tables: &mut HashMap<TableNo, TableSchema>) -> String {
    match frame.kind {
        Kind::State => {
            let State { standing, open_since, latest_micros } = State::decode(frame.payload).unwrap();
            let standing = standing.map_or("none".to_owned(), |standing| {
                let Standing {
                    gtids,
                    position,
                    time_micros,
                    horizon,
                    gaps,
                    shapes,
                    prepared,
                    snapshots,
                    followed,
                } = standing;
                let xa = prepared.into_iter().map(Xa::Prepared).collect();
                let mut noted = noted(&Noted { horizon, gaps, shapes, xa, ..Noted::default() });
                for snapshot in snapshots {
                    write!(noted, ", {snapshot:?}").unwrap();
                }
                if followed != Followed::default() {
                    write!(noted, ", {followed:?}").unwrap();
                }
                format!("gtids {gtids} at {time_micros}, {}{noted}", place(&position))
            });
            format!("{standing}, open since {open_since:?}, latest {latest_micros}")
        }
        Kind::Schema => {
            let SchemaRecord { table, schema } = SchemaRecord::decode(frame.payload).unwrap();
            let text = format!("{} = {schema:?}", table.0);
            tables.insert(table, schema);
            text
        }
        Kind::Change | Kind::Prepared => change(frame, tables),
        Kind::Sweep => {
            let sweep = SweepRecord::decode(frame.payload).unwrap();
            let SweepRecord { table, of_snapshot, .. } = &sweep;
            format!("{table} version {}, below {}, of a snapshot {of_snapshot}", frame.version, sweep.below())
        }
        Kind::Commit => {
            let Commit { synced, gtid, time_micros, position, noted: also } =
                Commit::decode(frame.payload).unwrap();
            let synced = u64::from_le_bytes(synced.0);
            let gtid = gtid.map_or("no gtid".to_owned(), |gtid| gtid.to_string());
            format!("{gtid} at {time_micros}, {}, synced {synced}{}", place(&position), noted(&also))
        }
        Kind::Mark => {
            let Mark { synced, gtids, time_micros, position, noted: also } =
                Mark::decode(frame.payload).unwrap();
            let synced = u64::from_le_bytes(synced.0);
            format!("{gtids} at {time_micros}, {}, synced {synced}{}", place(&position), noted(&also))
        }
    }
}

fn noted(Noted { horizon, gaps, altered, shapes, xa, snapshots, follows }: &Noted) -> String {
    let mut text = String::new();
    if !horizon.is_empty() {
        write!(text, ", horizon {horizon}").unwrap();
    }
    for Gap { table, why, time_micros, wanted } in gaps {
        let wanted = if *wanted { ", wanted" } else { "" };
        write!(text, ", {table} needs a snapshot since {time_micros}{wanted}: {why}").unwrap();
    }
    for table in altered {
        write!(text, ", {table} was altered").unwrap();
    }
    for Shape { table, described, asked_at, altered } in shapes {
        let asked_at = asked_at.as_ref().map(place);
        write!(text, ", {table} is {described:?} asked at {asked_at:?}, altered {altered}").unwrap();
    }
    for xa in xa {
        match xa {
            Xa::Prepared(Prepared { xid, gtid, time_micros, held }) => {
                let gtid = gtid.as_ref().map_or("no gtid".to_owned(), ToString::to_string);
                write!(text, ", {xid} prepared by {gtid} at {time_micros}, held {held:?}").unwrap();
            }
            Xa::Decided { xid, outcome } => write!(text, ", {xid} {outcome:?}").unwrap(),
        }
    }
    for SnapshotNote { table, step } in snapshots {
        write!(text, ", snapshot of {table}: {step:?}").unwrap();
    }
    if let Some(follows) = follows {
        write!(text, ", {follows:?}").unwrap();
    }
    text
}

fn place(Position { server, file, offset, began, by_place }: &Position) -> String {
    let alone = if *by_place { ", by place" } else { "" };
    format!("{file}:{offset} (from {began}{alone}) of {}", uuid::Uuid::from_bytes(*server))
}

fn change(frame: &Frame<'_>, tables: &HashMap<TableNo, TableSchema>) -> String {
    let Change { op, table, mut row, .. } = Change::decode(frame.payload).unwrap();
    let schema = &tables[&table];
    let mut text = format!("{op:?} {} version {}:", schema.name, frame.version);
    let columns = if op == Op::Tombstone { &[][..] } else { &schema.columns };
    for column in columns {
        write!(text, " {}={:?}", column.name, row.next_value().unwrap()).unwrap();
    }
    if matches!(op, Op::Rekey | Op::Tombstone) {
        text.push_str(" was");
        for &key in &schema.key {
            write!(text, " {}={:?}", schema.columns[usize::from(key)].name, row.next_value().unwrap())
                .unwrap();
        }
    }
    assert!(row.rest().is_empty(), "bytes follow the row of frame {}", frame.seq);
    text
}
