//! The fence: no two relays write to one index.
//!
//! # Constraints
//!
//! - Nothing is sent with a version above the bound that stands in the index's fence document, nor once that was raised longer ago than the lease
//!   ([`Claimant::lease`], by a clock that goes on while the machine sleeps or the process is stopped).
//! - The document is written by compare-and-set alone (`if_seq_no`, `if_primary_term`; never by an external version: two relays that both climb would
//!   both succeed). So whoever takes the index stops everybody else's next raise, and what they may still send within their lease has no version above
//!   the bound that was found.
//! - Whose run has ended is taken from at once: one that said so, and one that held the lock of the very file that this run holds. Any other may be at
//!   work: if its document moves within one lease this run ends, naming it; if not, it can send nothing before it has read that it was overtaken, and what it
//!   sent before is followed by its ids like what a [former run](crate::sink::Whose) left.
//! - A run's own versions lie above all bounds of its folder's history: opening the log leaves [`VERSIONS_AHEAD`] free above all that it gave, which
//!   is as far as bounds are raised ahead. A bound above that is another history's: another folder's, or that of a folder whose older copy this is.
//!
//! # Format
//!
//! See [`document`]. One document per index by its UUID: two relays that reach one index by two names meet in it, and an index made anew has no history that
//! anything would have to be kept from.
//!
//! # Operation
//!
//! An index is met when it is ensured or found ([`Fence::meet`]); it is claimed when the first bulk for it is to go out ([`Fence::admit`]), and all that are
//! written to are raised again in one bulk every third of a lease, while there is something to send. A raise whose answer is lost is found again
//! as one's own by reading the document.

pub mod document;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::document::{Claim, Doc, Found, Spot, Written};
use super::client::Client;
use super::options::Claimant;
use super::{Target, tasks};
use crate::clock::Clock;
use crate::event::{VERSIONS_AHEAD, Version};
use crate::sink::{BulkError, Item, SinkError, UnderWay};

/// How long a run whose end is not known may have requests in the engine, where the engine does not tell.
const QUARANTINE: Duration = Duration::from_secs(120);

/// How often a document is looked at that may move.
const LOOKS_APART: Duration = Duration::from_millis(500);

/// How often a raise is tried that finds the document moved, by this run itself.
const ATTEMPTS: usize = 4;

/// Why an index is not this run's.
#[derive(Debug, thiserror::Error)]
pub(super) enum FenceError {
    #[error(
        "{doc} has written to index `{index}`, up to version {}; the next version of this one is {first}, so its changes would be taken for old ones. Let \
         one relay write to an index. If that one is gone for good, start this one once with `everrelay run --take-over`",
        doc.bound
    )]
    Above { doc: Doc, index: String, first: Version },
    #[error(
        "{doc} writes to index `{index}` at this moment: two relays on one index overwrite each other's documents. Stop it, or give this one tables or an index \
         of its own; `everrelay run --take-over` takes the index from it"
    )]
    AtWork { doc: Doc, index: String },
    #[error(
        "{doc} has taken index `{index}` from this one, which therefore sends nothing more. Let one of them write to it"
    )]
    Taken { doc: Doc, index: String },
    #[error(
        "this state folder is an older copy: {doc} has written to index `{index}` with the same folder, up to version {}, and this run's own versions begin at \
         {first}, below: its changes would be taken for old ones. The clock of this machine must be behind. Set it, then start again",
        doc.bound
    )]
    Outranked { doc: Doc, index: String, first: Version },
    #[error("the index `{index}` was taken from by others at each of {ATTEMPTS} attempts to raise its fence")]
    Contended { index: String },
    #[error(
        "{doc} may still write to index `{index}`; it has {seconds} s to show that it does, nothing is sent before"
    )]
    Watched { doc: Doc, index: String, seconds: u64 },
    #[error(
        "taking index `{index}` over from {doc}: nothing is sent for {seconds} s, until that one can send nothing more"
    )]
    TakingOver { doc: Doc, index: String, seconds: u64 },
    #[error("{doc} was at work on index `{index}`: {why}; nothing is sent before")]
    LeftBehind { doc: Doc, index: String, why: String },
    #[error(
        "the fence of index `{index}` was not raised for longer than its lease; nothing is sent before it is"
    )]
    Lapsed { index: String },
}

impl From<FenceError> for SinkError {
    fn from(error: FenceError) -> SinkError {
        match error {
            FenceError::Above { .. }
            | FenceError::AtWork { .. }
            | FenceError::Taken { .. }
            | FenceError::Outranked { .. } => SinkError::Definite(Box::new(error)),
            FenceError::Contended { .. }
            | FenceError::Watched { .. }
            | FenceError::TakingOver { .. }
            | FenceError::LeftBehind { .. }
            | FenceError::Lapsed { .. } => SinkError::Transient(Box::new(error)),
        }
    }
}

/// The indices that this run writes to.
#[derive(Debug)]
pub(super) struct Fence<T> {
    claimant: Claimant,
    clock: T,
    request_timeout: Duration,
    /// By the index's UUID.
    held: Mutex<HashMap<String, Hold>>,
    others: Mutex<HashMap<String, Other>>,
    /// One at a time: meeting, or raising.
    turn: tokio::sync::Mutex<()>,
}

/// An index that is this run's, or may be claimed.
#[derive(Clone, Debug)]
struct Hold {
    target: Arc<Target>,
    spot: Option<Spot>,
    bound: Version,
    /// When the last raise that succeeded was begun.
    raised: Option<Duration>,
    /// When a bulk for it was last let through.
    used: Duration,
}

/// A document of another run that may be at work.
#[derive(Clone, Debug)]
struct Other {
    doc: Doc,
    spot: Spot,
    since: Duration,
    /// Since when this run is known to have overwritten it.
    seized: Option<Duration>,
}

/// Whose a document is.
enum Whose {
    /// This run's, or of one that has ended and left nothing but what is asked after at the start.
    Ours,
    /// Of one that may have left something, or may be at work.
    Other,
}

impl<T: Clock> Fence<T> {
    pub(super) fn new(claimant: Claimant, clock: T, request_timeout: Duration) -> Fence<T> {
        let (held, others, turn) = Default::default();
        Fence { claimant, clock, request_timeout, held, others, turn }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Hold>> {
        // Whole after every statement, whoever panicked.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, HashMap<String, Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An index will be written to.
    ///
    /// # Errors
    /// Transient: another run may be at work on it, or the engine does not say. Definite: another run is.
    pub(super) async fn meet(&self, client: &Client, target: &Arc<Target>) -> Result<(), SinkError> {
        if self.held().contains_key(&target.uuid) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let spot = loop {
            let (doc, spot) = match document::read(client, &target.uuid).await? {
                Found::Document(doc, spot) => (doc, spot),
                Found::NoIndex => {
                    document::prepare(client).await?;
                    continue;
                }
                Found::Nothing => break None,
            };
            let whose = self.judge(&doc, target)?;
            let now = self.clock.since_boot();
            let known = self.others().get(&target.uuid).cloned();
            let (until, other) = match (whose, known) {
                (Whose::Ours, None) => break Some(spot),
                // It has ended meanwhile, and well.
                (Whose::Ours, Some(_)) if !self.is_own(&doc) => break Some(spot),
                (Whose::Ours, Some(mut other)) => {
                    // Where the answer to the overwriting was lost, from now on.
                    let seized = *other.seized.get_or_insert(now);
                    self.others().insert(target.uuid.clone(), other.clone());
                    (seized + self.claimant.lease + self.request_timeout, other)
                }
                (Whose::Other, None) => {
                    tracing::warn!(index = target.index, other = %doc, "another run has written to this index");
                    // All that it has claimed is watched or taken at once: each by itself would wait for as long again.
                    let mut claims = document::of_run(client, &doc).await?;
                    claims.retain(|claim| claim.uuid != target.uuid);
                    claims.push(self.claim(target, Some(spot), doc.bound, false).by(&doc));
                    return Err(self.begin(client, target, &doc, claims).await?.into());
                }
                (Whose::Other, Some(_)) if self.claimant.take_over => {
                    let claim = self.claim(target, Some(spot), doc.bound, false).by(&doc);
                    return Err(self.begin(client, target, &doc, vec![claim]).await?.into());
                }
                (Whose::Other, Some(other)) if other.spot != spot => {
                    return Err(FenceError::AtWork { doc, index: target.index.clone() }.into());
                }
                (Whose::Other, Some(other)) => {
                    let lease =
                        if doc.place == self.claimant.place { Duration::ZERO } else { self.claimant.lease };
                    (other.since + lease, other)
                }
            };
            if until <= now {
                self.left_nothing(client, target, &other).await?;
                break Some(spot);
            }
            tokio::time::sleep((until - now).min(LOOKS_APART)).await;
        };
        self.hold(target, spot);
        Ok(())
    }

    fn hold(&self, target: &Arc<Target>, spot: Option<Spot>) {
        let target = Arc::clone(target);
        self.others().remove(&target.uuid);
        let hold =
            Hold { target: Arc::clone(&target), spot, bound: Version(0), raised: None, used: Duration::ZERO };
        self.held().insert(target.uuid.clone(), hold);
    }

    fn is_own(&self, doc: &Doc) -> bool {
        doc.folder == self.claimant.folder_id && doc.run == self.claimant.run_id
    }

    /// # Errors
    /// Its versions are above this run's.
    fn judge(&self, doc: &Doc, target: &Target) -> Result<Whose, SinkError> {
        if self.is_own(doc) {
            return Ok(Whose::Ours);
        }
        let same_folder = doc.folder == self.claimant.folder_id;
        let first = self.claimant.first_version;
        if doc.bound >= first {
            let (doc, index) = (doc.clone(), target.index.clone());
            return Err(SinkError::from(if same_folder {
                FenceError::Outranked { doc, index, first }
            } else {
                FenceError::Above { doc, index, first }
            }));
        }
        // Who holds a lock file's lock is the only one of those who ever did.
        Ok(if doc.released || (same_folder && doc.place == self.claimant.place) {
            Whose::Ours
        } else {
            Whose::Other
        })
    }

    /// These documents of another run are watched from now on, or overwritten. Returns what is told of it.
    async fn begin(
        &self,
        client: &Client,
        target: &Target,
        doc: &Doc,
        mut claims: Vec<Claim>,
    ) -> Result<FenceError, SinkError> {
        let since = self.clock.since_boot();
        for claim in &claims {
            let Some(spot) = claim.spot else { continue };
            let other = Other { doc: claim.doc.clone(), spot, since, seized: None };
            self.others().entry(claim.uuid.clone()).or_insert(other);
        }
        let (doc, index) = (doc.clone(), target.index.clone());
        if !self.claimant.take_over {
            return Ok(FenceError::Watched { doc, index, seconds: self.claimant.lease.as_secs() });
        }
        for claim in &mut claims {
            let bound = self.claimant.first_version.max(claim.doc.bound);
            claim.doc = self.doc(bound, false);
        }
        let written = document::write(client, &claims).await?;
        let now = self.clock.since_boot();
        let mut others = self.others();
        for (claim, written) in claims.iter().zip(written) {
            if let (Written::At(_), Some(other)) = (written, others.get_mut(&claim.uuid)) {
                other.seized = Some(now);
            }
        }
        let seconds = (self.claimant.lease + self.request_timeout).as_secs();
        Ok(FenceError::TakingOver { doc, index, seconds })
    }

    /// # Errors
    /// The engine is at work on something that the other run sent, or does not say.
    async fn left_nothing(&self, client: &Client, target: &Target, other: &Other) -> Result<(), SinkError> {
        let Other { doc, since, .. } = other;
        let prefix = Claimant::opaque_prefix(doc.folder, doc.run);
        let why = match tasks::of(client, |id| id.starts_with(&prefix)).await? {
            UnderWay::Nothing => return Ok(()),
            UnderWay::Tasks(tasks) => format!("the engine has {tasks} tasks of it"),
            UnderWay::Untold(why) => {
                let left = (*since + QUARANTINE).saturating_sub(self.clock.since_boot());
                if left.is_zero() {
                    return Ok(());
                }
                format!(
                    "the engine does not tell what is left of it ({why}), and has {} s in all",
                    QUARANTINE.as_secs()
                )
            }
        };
        Err(FenceError::LeftBehind { doc: doc.clone(), index: target.index.clone(), why }.into())
    }

    fn doc(&self, bound: Version, released: bool) -> Doc {
        let Claimant { folder_id: folder, run_id: run, host, place, .. } = self.claimant.clone();
        Doc { folder, run, host, place, bound, released, raised_micros: self.clock.wall_micros() }
    }

    fn claim(&self, target: &Target, spot: Option<Spot>, bound: Version, released: bool) -> Claim {
        let (uuid, alias, index) = (target.uuid.clone(), target.alias.clone(), target.index.clone());
        Claim { uuid, spot, alias, index, doc: self.doc(bound, released) }
    }

    /// Lets a bulk of these items through, raising what has to be raised.
    ///
    /// # Errors
    /// Transient: the fence cannot be raised now, and no lease goes on. Definite: another run has taken an index.
    pub(super) async fn admit(
        &self,
        client: &Client,
        targets: &[Arc<Target>],
        items: &[Item],
    ) -> Result<(), BulkError> {
        let mut highest = vec![Version(0); targets.len()];
        for item in items {
            if let Some(highest) = highest.get_mut(item.index.0 as usize) {
                *highest = item.version.max(*highest);
            }
        }
        let highest = targets.iter().cloned().zip(highest).filter(|(_, highest)| *highest > Version(0));
        let highest: Vec<(Arc<Target>, Version)> = highest.collect();
        self.admit_up_to(client, &highest).await.map_err(|error| match error {
            SinkError::Transient(error) => {
                BulkError::Transient { reason: error.to_string(), retry_after: None }
            }
            SinkError::Definite(error) => BulkError::Definite { reason: error.to_string() },
        })
    }

    async fn admit_up_to(
        &self,
        client: &Client,
        highest: &[(Arc<Target>, Version)],
    ) -> Result<(), SinkError> {
        if self.is_fresh(highest, self.claimant.lease / 3) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if self.is_fresh(highest, self.claimant.lease / 3) {
            return Ok(());
        }
        let raised = self.raise(client, highest).await;
        match raised {
            // A lease that goes on is enough, for as long as it does.
            Ok(()) | Err(SinkError::Transient(_)) if self.is_fresh(highest, self.claimant.lease) => Ok(()),
            Ok(()) => {
                let index = highest.first().map(|(target, _)| target.index.clone()).unwrap_or_default();
                Err(FenceError::Lapsed { index }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether all of these are below their bounds, and raised within this time; notes that they are in use.
    fn is_fresh(&self, highest: &[(Arc<Target>, Version)], within: Duration) -> bool {
        let now = self.clock.since_boot();
        let mut held = self.held();
        highest.iter().all(|(target, version)| {
            let Some(hold) = held.get_mut(&target.uuid) else { return false };
            hold.used = now;
            let raised = hold.raised.is_some_and(|raised| now.saturating_sub(raised) < within);
            raised && *version <= hold.bound
        })
    }

    /// Raises the fence of these indices, and of those that were written to within a lease.
    async fn raise(&self, client: &Client, highest: &[(Arc<Target>, Version)]) -> Result<(), SinkError> {
        for (target, _) in highest {
            debug_assert!(self.held().contains_key(&target.uuid), "an index is met before it is written to");
        }
        for _ in 0..ATTEMPTS {
            let begun = self.clock.since_boot();
            let claims = self.due(highest, begun);
            let written = document::write(client, &claims).await?;
            let mut moved = None;
            for (claim, written) in claims.iter().zip(written) {
                match written {
                    Written::At(spot) => {
                        if let Some(hold) = self.held().get_mut(&claim.uuid) {
                            (hold.spot, hold.bound, hold.raised) = (Some(spot), claim.doc.bound, Some(begun));
                        }
                    }
                    Written::Moved => {
                        self.read_again(client, claim).await?;
                        moved = Some(claim.index.clone());
                    }
                }
            }
            let Some(index) = moved else { return Ok(()) };
            tracing::debug!(index, "its fence had moved, by this run");
        }
        let index = highest.first().map(|(target, _)| target.index.clone()).unwrap_or_default();
        Err(FenceError::Contended { index }.into())
    }

    /// What is to be written now.
    fn due(&self, highest: &[(Arc<Target>, Version)], now: Duration) -> Vec<Claim> {
        let held = self.held();
        let asked = |uuid: &str| highest.iter().find(|(target, _)| target.uuid == uuid);
        let due = held.values().filter_map(|hold| {
            let asked = asked(&hold.target.uuid);
            let in_use = hold.raised.is_some() && now.saturating_sub(hold.used) < self.claimant.lease;
            if asked.is_none() && !in_use {
                return None;
            }
            let ahead =
                asked.map_or(Version(0), |(_, version)| Version(version.0.saturating_add(VERSIONS_AHEAD)));
            Some(self.claim(&hold.target, hold.spot, ahead.max(hold.bound), false))
        });
        due.collect()
    }

    /// A document is not where it was: an earlier raise of this run's came late, or another run has taken the index.
    async fn read_again(&self, client: &Client, claim: &Claim) -> Result<(), SinkError> {
        let spot = match document::read(client, &claim.uuid).await? {
            Found::Document(doc, spot) => {
                let hold = self.held().get(&claim.uuid).cloned();
                let claimed = hold.is_some_and(|hold| hold.raised.is_some());
                let index = claim.index.clone();
                let same = doc.folder == self.claimant.folder_id && doc.place == self.claimant.place;
                match (self.is_own(&doc) || same, claimed) {
                    (true, _) => Some(spot),
                    (false, true) => return Err(FenceError::Taken { doc, index }.into()),
                    (false, false) => return Err(FenceError::AtWork { doc, index }.into()),
                }
            }
            Found::Nothing => None,
            Found::NoIndex => {
                document::prepare(client).await?;
                None
            }
        };
        if let Some(hold) = self.held().get_mut(&claim.uuid) {
            hold.spot = spot;
        }
        Ok(())
    }

    /// Says of every index that was written to that this run has ended, and left nothing in the engine.
    pub(super) async fn release(&self, client: &Client) -> Result<(), SinkError> {
        let _turn = self.turn.lock().await;
        let claims: Vec<Claim> = {
            let held = self.held();
            let written = held.values().filter(|hold| hold.raised.is_some());
            written.map(|hold| self.claim(&hold.target, hold.spot, hold.bound, true)).collect()
        };
        if !claims.is_empty() {
            document::write(client, &claims).await?;
        }
        Ok(())
    }
}
