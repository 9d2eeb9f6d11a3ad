//! Three decoders, one binlog file: ours, `mysql_common`'s rows decoder and `mysql_cdc`'s `BinlogReader`.
//!
//! A table with every type gets some hundred seeded random inserts, updates, changes of key and deletes, in statements of one and of many
//! rows. What [`MysqlSource`](everrelay::source::mysql::MysqlSource) wrote into its batches is compared with what the two others make of
//! the server's own binlog files, row image by row image and column by column, before-images included (ours of an update is the row as we
//! read it last). [`KNOWN`] says where another decoder differs, how exactly, why and who is right; every entry must occur, and whatever
//! else differs fails. [`refuses`] says alike which rows another decoder cannot read at all.
//!
//! Not covered: character sets other than utf8mb4, GEOMETRY and VECTOR, types of tables made before 5.6.4, and what a server leaves out of
//! a row image; partial JSON and compressed transactions, which the source refuses or unpacks before rows are decoded. ENUM and SET are
//! compared by number, with this table's labels. `mysql_cdc` hands JSON over undecoded: its bytes are decoded by `mysql_common`, so there
//! it speaks for their extent alone. It takes every event of a 9.7 file that has no tagged GTIDs, but other tests leave such on the server:
//! the transaction's event it does not know, and a list of previous ones with tags (PREVIOUS_GTIDS) ends its reading as if the file
//! did. So it reads a file made of the server's format description and of this table's maps and rows, byte for byte.
//!
//! The server is that of `tests/real_source`; its binlog files must be readable here.
//!
//! | file | idea |
//! |---|---|
//! | `main.rs` | the run, the comparison, what is known to differ |
//! | [`columns`] | the table, and random values for it |
//! | [`others`] | what the others say, as text in the form of ours |

use std::collections::{BTreeMap, HashMap};

use everrelay::event::Op;
use mysql_async::Row as ServerRow;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use columns::COLUMNS;
use columns::Kind::{self, *};
use others::{kinds, others, unhex};
use server::{At, Row, Server};

mod columns;
mod others;
#[allow(dead_code)]
#[path = "../support/seed.rs"]
mod seed;
#[allow(dead_code)]
#[path = "../real_source/server.rs"]
mod server;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Common,
    Cdc,
}

/// A difference that is known: where ours is `ours`, the other says `says(ours)`.
struct Known {
    who: &'static [Who],
    of: fn(Kind) -> bool,
    says: fn(Kind, &str) -> String,
    /// Why, and who is right.
    why: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        who: &[Who::Cdc],
        of: |kind| matches!(kind, Int(_)),
        says: unsigned,
        why: "mysql_cdc reads every integer as unsigned; its caller is to look at the signedness. Ours is right",
    },
    Known {
        who: &[Who::Common],
        of: |kind| kind == Int(24),
        says: unsigned,
        why: "mysql_common 0.37.3 does not extend the sign of a MEDIUMINT (io.rs, *eat_i24_le*). Ours is right",
    },
    Known {
        who: &[Who::Cdc],
        of: |kind| matches!(kind, Clock(4..) | Local(4..) | Stamp(4..)),
        says: |_, ours| match ours.split_once('.') {
            Some((whole, fraction)) => format!("{whole}.{:0<1$}", &fraction[..3], fraction.len()),
            None => ours.to_owned(),
        },
        why: "mysql_cdc keeps milliseconds. Ours is right",
    },
    Known {
        who: &[Who::Common, Who::Cdc],
        of: |kind| kind == Year,
        says: |_, ours| if ours == "0" { "1900".to_owned() } else { ours.to_owned() },
        why: "both add 1900 to the stored 0 too, which is the year 0000. Ours is right",
    },
    Known {
        who: &[Who::Common, Who::Cdc],
        of: |kind| matches!(kind, PaddedBinary(_)),
        says: |_, ours| {
            let mut ours = ours;
            while let Some(shorter) = ours.strip_suffix("00").filter(|_| ours.len() % 2 == 0) {
                ours = shorter;
            }
            ours.to_owned()
        },
        why: "the server leaves out the zeros at the end of a BINARY; both leave it so. Ours pads, as the server prints it, and is right",
    },
];

fn unsigned(kind: Kind, ours: &str) -> String {
    match kind {
        Int(bits) if ours.starts_with('-') => {
            (ours.parse::<i64>().unwrap() as u64 & (u64::MAX >> (64 - bits))).to_string()
        }
        _ => ours.to_owned(),
    }
}

/// Whether `who` cannot read a row image with these values.
///
/// - `mysql_cdc` has no negative TIME, and takes BINARY and VARBINARY for UTF-8.
/// - `mysql_common` 0.37.3 panics at a negative TIME(1) or TIME(2) with a fraction: unsigned arithmetic below zero
///   (binlog/misc.rs, *my_time_packed_from_binary*), where overflow is checked as in every profile of ours.
fn refuses(who: Who, image: &[String]) -> bool {
    COLUMNS.iter().zip(&image[2..]).any(|((.., kind), ours)| match (who, kind) {
        (Who::Cdc, Clock(_)) => ours.starts_with('-'),
        (Who::Cdc, Binary(_) | PaddedBinary(_)) => ours != "NULL" && String::from_utf8(unhex(ours)).is_err(),
        (Who::Common, Clock(1 | 2)) => {
            ours.starts_with('-') && ours.split_once('.').unwrap().1.bytes().any(|b| b != b'0')
        }
        _ => false,
    })
}

/// Rows before and after changes: wild ones, which another decoder may refuse, in statements of their own.
fn statements(rng: &mut StdRng) -> Vec<String> {
    let mut statements = Vec::new();
    let mut mild = HashMap::new();
    let row = |rng: &mut StdRng, id: usize, mild: bool| {
        let values: Vec<_> = COLUMNS.iter().map(|(.., kind)| columns::value(rng, *kind, mild)).collect();
        format!("({id}, {}, {})", u8::from(mild), values.join(", "))
    };
    let mut id = 0;
    while id < 360 {
        let rows = if rng.random_ratio(1, 3) { 1 } else { rng.random_range(1..8) };
        let tame = rows > 1 || rng.random_ratio(1, 4);
        let rows: Vec<_> = (id..id + rows).map(|id| (id, row(rng, id, tame))).collect();
        mild.extend(rows.iter().map(|(id, _)| (*id, tame)));
        id += rows.len();
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        statements.push(format!("INSERT INTO t VALUES {}", rows.join(", ")));
    }
    for _ in 0..240 {
        let id = rng.random_range(0..id);
        let changes: Vec<_> = (0..rng.random_range(1..12))
            .map(|_| {
                let (name, _, kind) = COLUMNS[rng.random_range(0..COLUMNS.len())];
                format!("{name} = {}", columns::value(rng, kind, mild[&id]))
            })
            .collect();
        // The key of every twelfth changes as well, whether or not the row was moved before.
        let key = if rng.random_ratio(1, 12) {
            format!("id = {}, ", 1_000 + statements.len())
        } else {
            String::new()
        };
        statements.push(format!("UPDATE t SET {key}{} WHERE id = {id}", changes.join(", ")));
    }
    for part in 0..5 {
        statements.push(format!(
            "UPDATE t SET i64 = -i8, v = CONCAT(LEFT(v, 20), '!') WHERE mild AND id % 5 = {part}"
        ));
    }
    statements.push("DELETE FROM t WHERE mild AND id % 3 = 1".to_owned());
    statements
        .extend((0..id).filter(|id| !mild[id]).step_by(2).map(|id| format!("DELETE FROM t WHERE id = {id}")));
    statements
}

/// Ours, one change after the other, each with the row as it was read before.
struct Ours<'a> {
    changes: std::slice::Iter<'a, Row>,
    rows: BTreeMap<String, Vec<String>>,
}

impl Iterator for Ours<'_> {
    type Item = [Option<Vec<String>>; 2];

    fn next(&mut self) -> Option<Self::Item> {
        let change = self.changes.next()?;
        let values = change.values.iter().zip(kinds()).map(|((_, value), kind)| match kind {
            Json if value != "NULL" => others::json_text(value),
            _ => value.clone(),
        });
        let values: Vec<_> = values.collect();
        let key = change.old_key.first().unwrap_or(&values[0]);
        let before = self.rows.remove(key);
        if change.op == Op::Delete {
            assert_eq!(before.as_ref(), Some(&values), "the deleted row is the row as it was read last");
            return Some([before, None]);
        }
        assert_eq!(change.op == Op::Insert, before.is_none());
        self.rows.insert(values[0].clone(), values.clone());
        Some([before, Some(values)])
    }
}

fn cut(text: &str) -> String {
    text.chars().take(500).collect()
}

#[tokio::test]
async fn three_decoders_read_the_same_rows() {
    compare_three(At::Mysql, "three_decoders_read_the_same_rows").await;
}

#[tokio::test]
async fn three_decoders_read_the_same_rows_of_mariadb() {
    compare_three(At::Mariadb, "three_decoders_read_the_same_rows_of_mariadb").await;
}

async fn compare_three(at: At, test: &'static str) {
    let mut server = Server::on(at, "differential").await;
    let seed = seed::Seed::take(test).unwrap();
    let mut rng = StdRng::seed_from_u64(seed.number);

    server.run("FLUSH BINARY LOGS").await;
    let first = files(&mut server).await.pop().unwrap();
    server.run(&columns::create()).await;
    let mut follower = server.follow().await;
    for statement in statements(&mut rng) {
        server.run(&statement).await;
    }
    follower.catch_up(&mut server).await;
    server.run("FLUSH BINARY LOGS").await;
    let mut files = files(&mut server).await;
    // The newest may still be written to, by other tests.
    files.pop();
    files.retain(|file| *file >= first);

    let mut ours = Ours { changes: follower.read.changes.iter(), rows: BTreeMap::new() };
    let (mut images, mut refused, mut occurred) = (0, HashMap::new(), vec![0; KNOWN.len()]);
    let mut differences = BTreeMap::new();
    for (common, cdc) in others(&files, &server.schema) {
        // An event that one refuses has one row.
        let rows = common.as_ref().or(cdc.as_ref()).map_or(1, Vec::len);
        for i in 0..rows {
            let ours = ours.next().expect("as many rows as the others have");
            for (who, said) in [(Who::Common, &common), (Who::Cdc, &cdc)] {
                let must = ours.iter().flatten().any(|image| refuses(who, image));
                assert_eq!(
                    said.is_none(),
                    must,
                    "{who:?} refuses what it is known to refuse; ours is {ours:?}"
                );
                let Some(said) = said else {
                    *refused.entry(who).or_insert(0) += 1;
                    continue;
                };
                let said = [&said[i].0, &said[i].1];
                for (ours, said) in ours.iter().zip(said) {
                    assert_eq!(ours.is_some(), said.is_some(), "both have the image");
                    let (Some(ours), Some(said)) = (ours, said) else { continue };
                    images += 1;
                    assert_eq!(ours[..2], said[..2], "id and mild, both of them small");
                    for (((name, ty, kind), ours), said) in COLUMNS.iter().zip(&ours[2..]).zip(&said[2..]) {
                        let known = KNOWN.iter().position(|k| k.who.contains(&who) && (k.of)(*kind));
                        let expected = match known {
                            Some(k) if ours != "NULL" => (KNOWN[k].says)(*kind, ours),
                            _ => ours.clone(),
                        };
                        if expected != *said {
                            let count = differences.entry((who as u8, *name)).or_insert((0, String::new()));
                            count.0 += 1;
                            count.1 =
                                format!("{who:?} {name} {ty}: ours {}, theirs {}", cut(ours), cut(said));
                        } else if said != ours {
                            occurred[known.unwrap()] += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(ours.next().is_none(), "as many rows as the others have");
    eprintln!("{images} images compared; events refused: {refused:?}");
    for (known, count) in KNOWN.iter().zip(&occurred) {
        eprintln!("{count} times: {}", known.why);
    }
    let differences: Vec<_> =
        differences.values().map(|(count, last)| format!("{count} times, last {last}")).collect();
    assert!(differences.is_empty(), "{seed}\nnot known:\n{}", differences.join("\n"));
    assert!(occurred.iter().all(|count| *count > 0), "{seed}: what is known still occurs, {occurred:?}");
    assert_eq!(refused.len(), 2, "{seed}: what is refused still occurs");
}

/// The server's binlog files, oldest first.
async fn files(server: &mut Server) -> Vec<String> {
    let base: String = server.conn.query_first("SELECT @@GLOBAL.log_bin_basename").await.unwrap().unwrap();
    let folder = std::path::Path::new(&base).parent().unwrap().to_owned();
    let rows: Vec<ServerRow> = server.conn.query("SHOW BINARY LOGS").await.unwrap();
    let names = rows.iter().map(|row| row.get::<String, _>(0).unwrap());
    names.map(|name| folder.join(name).to_str().unwrap().to_owned()).collect()
}
