//! What frames say, checked against each other.
//!
//! | frame | must |
//! |---|---|
//! | state | say the position, the open transaction and the latest time that the frames before it come to |
//! | schema | have a key within its columns |
//! | change | name a table whose schema stands before it in the segment; hold as many values as that has columns, for a rekey also the old key's; nothing more |
//! | commit | come after a start of the log |
//! | mark | stand between transactions |
//! | commit and mark | name a synced offset of the segment, at or below their own place, and no lower than the one before |
//!
//! After something damaged nothing is known of the position until the next state says it.

use std::collections::HashMap;

use crate::event::schema::MAX_COLUMNS;
use crate::event::{Op, Seq, TableNo};
use crate::log::Standing;
use crate::log::record::{Change, Commit, Kind, Mark, SchemaRecord, State, SweepRecord, Synced};

/// What the frames so far come to.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// `None` before the first state, and after something damaged.
    known: Option<Known>,
    /// Nothing more is checked in this segment.
    lost: bool,
    /// Columns and key columns of the tables whose schema this segment has.
    tables: HashMap<TableNo, (usize, usize)>,
    /// The last synced offset that this segment names.
    synced: u64,
}

#[derive(Debug)]
struct Known {
    standing: Option<Standing>,
    /// The transaction that is open: its first frame, and whether it has changes.
    open: Option<(Seq, bool)>,
    latest_micros: u64,
}

impl Content {
    /// A segment begins.
    pub fn begin(&mut self) {
        self.lost = false;
        self.tables.clear();
        self.synced = 0;
    }

    /// Something is damaged: what follows in its segment is not judged.
    pub fn lose(&mut self) {
        self.lost = true;
        self.known = None;
    }

    /// Takes in a whole frame that lies from `offset` to `end`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(
        &mut self,
        kind: Kind,
        seq: Seq,
        offset: u64,
        end: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        if self.lost {
            return Ok(());
        }
        match kind {
            Kind::State => {
                self.synced = end;
                self.state(seq, State::decode(payload).map_err(undecodable)?)
            }
            Kind::Schema => self.schema(seq, &SchemaRecord::decode(payload).map_err(undecodable)?),
            Kind::Change => self.change(seq, payload),
            Kind::Sweep => {
                SweepRecord::decode(payload).map_err(undecodable)?;
                self.opens(seq, true);
                Ok(())
            }
            Kind::Commit => {
                let commit = Commit::decode(payload).map_err(undecodable)?;
                self.synced(commit.synced, offset)?;
                self.commit(commit)
            }
            Kind::Mark => {
                let mark = Mark::decode(payload).map_err(undecodable)?;
                self.synced(mark.synced, offset)?;
                self.mark(mark)
            }
        }
    }

    fn state(&mut self, seq: Seq, state: State) -> Result<(), String> {
        let State { standing, open_since, latest_micros } = state;
        if open_since.is_some_and(|since| since >= seq) {
            return Err("it says that a transaction is open which begins behind it".to_owned());
        }
        if let Some(known) = &self.known {
            if known.standing != standing {
                return Err("its position, or what is owed there, is not what the frames before it come to"
                    .to_owned());
            }
            if known.open.map(|(since, _)| since) != open_since {
                return Err(
                    "it says otherwise than the frames before it whether a transaction is open".to_owned()
                );
            }
            if known.latest_micros != latest_micros {
                return Err("its latest time is not that of the frames before it".to_owned());
            }
        }
        // Whether a transaction that goes on has changes already is known from the frames before, or not at all.
        let had_changes =
            self.known.as_ref().and_then(|known| known.open).is_some_and(|(_, changes)| changes);
        let open = open_since.map(|since| (since, had_changes));
        self.known = Some(Known { standing, open, latest_micros });
        Ok(())
    }

    fn schema(&mut self, seq: Seq, record: &SchemaRecord) -> Result<(), String> {
        let (columns, key) = (record.schema.columns.len(), &record.schema.key);
        if columns > MAX_COLUMNS {
            return Err(format!("it has {columns} columns"));
        }
        if key.is_empty() || key.iter().any(|column| usize::from(*column) >= columns) {
            return Err("its key is not of its columns".to_owned());
        }
        self.tables.insert(record.table, (columns, key.len()));
        self.opens(seq, false);
        Ok(())
    }

    fn change(&mut self, seq: Seq, payload: &[u8]) -> Result<(), String> {
        let Change { op, table, mut row } = Change::decode(payload).map_err(undecodable)?;
        let Some(&(columns, key)) = self.tables.get(&table) else {
            return Err(format!("no schema of table number {} stands before it in its segment", table.0));
        };
        let values = match op {
            Op::Insert | Op::Update | Op::Delete => columns,
            Op::Rekey => columns + key,
            Op::Tombstone => key,
        };
        for value in 1..=values {
            let wrong = |error| format!("value {value} of {values}: {}", undecodable(error));
            row.next_value().map_err(wrong)?;
        }
        if !row.rest().is_empty() {
            return Err(format!("{} bytes follow its {values} values", row.rest().len()));
        }
        self.opens(seq, true);
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), String> {
        let Some(known) = &mut self.known else { return Ok(()) };
        let Some(standing) = &mut known.standing else {
            return Err("it stands in a log that no mark has given a start".to_owned());
        };
        known.open = None;
        known.latest_micros = known.latest_micros.max(commit.time_micros);
        standing.committed(commit);
        Ok(())
    }

    fn mark(&mut self, mark: Mark) -> Result<(), String> {
        let Some(known) = &mut self.known else { return Ok(()) };
        if known.open.is_some_and(|(_, changes)| changes) {
            return Err("it is a mark, and stands inside a transaction".to_owned());
        }
        known.open = None;
        known.latest_micros = known.latest_micros.max(mark.time_micros);
        known.standing.get_or_insert_default().marked(mark);
        Ok(())
    }

    fn opens(&mut self, seq: Seq, changes: bool) {
        if let Some(known) = &mut self.known {
            let (since, had) = known.open.unwrap_or((seq, false));
            known.open = Some((since, had || changes));
        }
    }

    fn synced(&mut self, synced: Synced, offset: u64) -> Result<(), String> {
        let synced = u64::from_le_bytes(synced.0);
        if synced < self.synced || synced > offset {
            let least = self.synced;
            return Err(format!(
                "it says that {synced} bytes were synced, which is not from {least} to {offset}"
            ));
        }
        self.synced = synced;
        Ok(())
    }
}

fn undecodable(error: bincode::error::DecodeError) -> String {
    format!("its payload cannot be decoded: {error}")
}
