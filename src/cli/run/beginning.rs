//! How the sinks begin: where each stands in the log, and what it is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Failure;
use super::super::fence::Known;
use super::super::sinks::names;
use crate::admin;
use crate::admin::control::Control;
use crate::clock::SystemClock;
use crate::config::{Settings, SinkSettings};
use crate::disk::{Reserve, SystemDisk};
use crate::event::Seq;
use crate::lifecycle::{Exit, Readiness};
use crate::log::{Log, Standing};
use crate::relay::deliver::Deliver;
use crate::relay::error::{DeliverError, RelayError};
use crate::relay::joining::join;
use crate::relay::retention::Held;
use crate::relay::sinks::{Idle, Opening, Side};
use crate::relay::{parked_orders, replay};
use crate::settled::{Cursor, CursorStore, Reserved, Settled, SettledError, SledCursor};
use crate::sink::SinkError;
use crate::sink::elastic::{Claimant, ElasticOptions, ElasticSink};
use crate::source::Start;
use crate::source::orders::Orders;
use crate::source::pace::Pacing;

/// A cursor that is moved.
type Moved = Reserved<SledCursor, SystemDisk>;

/// The cursors of the state folder.
pub(super) struct Folder {
    settled: Settled,
    reserve: Reserve<SystemDisk>,
    /// Names of the configuration's sinks.
    configured: Vec<String>,
    /// Of those that have a cursor, and that it does not name.
    others: Vec<String>,
}

/// A sink's cursor, to look at.
pub(super) struct Store {
    pub name: String,
    pub configured: bool,
    pub cursor: SledCursor,
}

/// Sinks that are new to the log, and the cursors that they are to have.
pub(super) type Joins = BTreeMap<String, Cursor>;

impl Folder {
    pub fn open(
        settings: &Settings,
        settled: Settled,
        reserve: Reserve<SystemDisk>,
    ) -> Result<Folder, Failure> {
        let (configured, others) = names(settings, &settled).map_err(state)?;
        for sink in &others {
            tracing::warn!(
                sink,
                "the configuration does not name this sink any more, and the log is kept for it: name it there again, or stop and \
                 `everrelay log forget-sink {sink}`"
            );
        }
        Ok(Folder { settled, reserve, configured, others })
    }

    pub fn id(&self) -> u64 {
        self.settled.folder_id()
    }

    pub fn sink_id(&self, name: &str) -> u64 {
        self.settled.sink_id(name)
    }

    fn cursor(&self, name: &str) -> Result<SledCursor, Failure> {
        self.settled.cursor(name).map_err(state)
    }

    fn moved(&self, name: &str) -> Result<Moved, Failure> {
        Ok(Reserved::new(self.cursor(name)?, self.reserve.clone()))
    }

    /// What each of the configuration's sinks wrote before.
    pub fn known(&self) -> Result<Vec<Known>, Failure> {
        let known = |name: &String| {
            let cursor = self.cursor(name)?.load().map_err(state)?;
            Ok((self.sink_id(name), cursor.unwrap_or_default()))
        };
        self.configured.iter().map(known).collect()
    }

    /// All of them.
    pub fn stores(&self) -> Result<Vec<Store>, Failure> {
        let store = |name: &String, configured| {
            Ok(Store { name: name.clone(), configured, cursor: self.cursor(name)? })
        };
        let configured = self.configured.iter().map(|name| store(name, true));
        configured.chain(self.others.iter().map(|name| store(name, false))).collect()
    }

    /// What the log is kept for.
    pub fn held(&self, joins: &Joins) -> Result<Vec<Held<Moved>>, Failure> {
        let held = |name: &String| {
            let joins = joins.get(name).map_or(Seq(0), |cursor| cursor.seq);
            Ok(Held { store: self.moved(name)?, joins })
        };
        self.configured.iter().chain(&self.others).map(held).collect()
    }

    /// Finds the sinks that are new to a log that others have read, which is as it was opened.
    ///
    /// Where rows are read at a start, every table is read for them, and they begin where the log ends. Otherwise they begin with what the log still has,
    /// as a start `earliest` begins with what the server has.
    pub fn joins(
        &self,
        settings: &Settings,
        log: &Log<SystemDisk>,
        standing: Option<&Standing>,
    ) -> Result<Joins, Failure> {
        let mut joins = Joins::new();
        let known = self.settled.cursors().map_err(state)?;
        // With one alone a log without a cursor is read from its start, as with a cursor that was lost.
        if known.is_empty() && self.configured.len() == 1 {
            return Ok(joins);
        }
        for name in self.configured.iter().filter(|name| !known.contains(name)) {
            let is_first = known.is_empty() || standing.is_none();
            if let Some(standing) = standing.filter(|_| !is_first && settings.start == Start::Snapshot) {
                let cursor =
                    Cursor { seq: log.visible().seq, gtids: standing.gtids.clone(), ..Cursor::default() };
                joins.insert(name.clone(), cursor);
                continue;
            }
            if !is_first {
                tracing::warn!(
                    sink = name,
                    from = log.retained_start().0,
                    "a new sink begins with what the log still has: rows that did not change since are not in it. `everrelay snapshot --all` \
                     reads them; with start = \"snapshot\" that goes without saying"
                );
            }
            // From now on it is not new, and the log is kept for it.
            let mut store = self.moved(name)?;
            let cursor = Cursor { seq: log.retained_start().previous(), ..Cursor::default() };
            store.commit(&cursor).and_then(|()| store.sync()).map_err(state)?;
        }
        Ok(joins)
    }
}

fn state(error: SettledError) -> Failure {
    Failure::new(Exit::State, error)
}

/// The client of a sink's engine.
pub(super) fn engine(sink: &SinkSettings, claimant: Claimant) -> Result<Arc<ElasticSink>, Failure> {
    let options = ElasticOptions {
        // The sink's part of the prefix is stable: what a former run left in the engine can be told by it.
        folder_prefix: Claimant::folder_prefix(claimant.folder_id),
        opaque_prefix: Claimant::opaque_prefix(claimant.folder_id, claimant.run_id),
        fence: Some(claimant),
        ..sink.engine.clone()
    };
    ElasticSink::new(&options).map(Arc::new).map_err(|error| Failure::new(Exit::Usage, error))
}

/// What sinks begin with.
pub(super) struct Beginning {
    pub log: Log<SystemDisk>,
    pub readiness: Readiness,
    /// To the source.
    pub orders: Orders,
    pub joins: Joins,
}

/// A deliver side of the daemon.
type DaemonSide = Side<ElasticSink, Moved, SystemDisk, SystemClock>;

impl Beginning {
    /// The sinks, and the socket with what may be ordered of them.
    ///
    /// # Errors
    /// A cursor cannot be read, or is none of this log's; of a single sink also that its nodes are no cluster.
    pub async fn sides(
        &self,
        folder: &Folder,
        settings: &Settings,
        engines: Vec<Arc<ElasticSink>>,
        mut control: Control,
    ) -> Result<(Vec<DaemonSide>, Control), Failure> {
        let several = settings.sinks.len() > 1;
        let mut sides = Vec::new();
        for (sink, engine) in settings.sinks.iter().zip(engines) {
            let SinkSettings { name, deliver: options, .. } = sink;
            if !several {
                // Within the time that a connection may take; a node that is away is asked when it comes back.
                engine.meet().await.map_err(|error| Failure::new(Exit::Sink, error))?;
            }
            let (parked_orders, parked_queue) = parked_orders::channel();
            let (replay_orders, replay_queue) = replay::orders::channel();
            let parked = admin::parked::Room {
                store: folder.cursor(name)?,
                rules: options.rules.clone(),
                orders: parked_orders,
            };
            let replays = admin::replay::Room { store: folder.cursor(name)?, orders: replay_orders };
            control = control.with_sink(name, parked, replays);
            let readiness = if several { self.readiness.of_sink(name) } else { self.readiness.clone() };
            let pacing = Pacing::new(self.log.watch());
            let open = {
                let (log, engine, store) = (self.log.clone(), Arc::clone(&engine), folder.moved(name)?);
                let (options, readiness, pacing) = (options.clone(), readiness.clone(), pacing.clone());
                move || {
                    let deliver = Deliver::open(log, engine, store, SystemClock, options, readiness)?;
                    let deliver = deliver.paced_by(pacing).ordered_by(parked_queue);
                    Ok::<_, DeliverError>(deliver.replays_ordered_by(replay_queue))
                }
            };
            let opening: Opening<_, _, _, _> = match self.joins.get(name).cloned() {
                Some(cursor) => {
                    let (store, orders) = (folder.moved(name)?, self.orders.clone());
                    Box::pin(async move {
                        meet_beside_others(&engine, several).await?;
                        join(store, &cursor, &orders, &readiness).await?;
                        open()
                    })
                }
                None => {
                    let deliver = open().map_err(|error| super::failure(RelayError::from(error)))?;
                    Box::pin(async move {
                        meet_beside_others(&engine, several).await?;
                        Ok(deliver)
                    })
                }
            };
            sides.push(Side { name: name.clone(), store: folder.moved(name)?, pacing, opening });
        }
        Ok((sides, control))
    }

    /// The cursors that nobody moves.
    pub fn idle(&self, folder: &Folder) -> Result<Vec<Idle<Moved>>, Failure> {
        let idle = |name: &String| {
            let pacing = Pacing::new(self.log.watch());
            Ok(Idle { store: folder.moved(name)?, pacing })
        };
        folder.others.iter().map(idle).collect()
    }
}

/// No sink waits for the nodes of another.
async fn meet_beside_others(engine: &ElasticSink, several: bool) -> Result<(), DeliverError> {
    if !several {
        return Ok(());
    }
    engine.meet().await.map_err(|error| match error {
        SinkError::Transient(error) | SinkError::Definite(error) => DeliverError::Sink(error),
    })
}
