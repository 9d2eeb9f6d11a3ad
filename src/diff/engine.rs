//! The documents of a table, behind one alias or behind as many as its rows say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::DiffError;
use super::rows::{At, Expected};
use crate::backoff::Backoff;
use crate::event::document::Behind;
use crate::sink::elastic::ElasticSink;
use crate::sink::elastic::documents::{Document, DocumentId};
use crate::sink::{Expect, IndexNo, Sink, SinkError};

/// Failures in a row after which the engine is given up.
const PATIENCE: u32 = 6;

/// The indices.
#[derive(Debug)]
pub struct Engine<'d> {
    sink: &'d ElasticSink,
    behind: Behind,
    /// By alias, those that were found.
    indices: Mutex<BTreeMap<Arc<str>, IndexNo>>,
    /// Aliases whose indices may have been deleted, and whose rows are left out then.
    left_out: BTreeSet<String>,
    pub existence_only: bool,
    /// The field that says by what a document became what it is: no row says the same.
    pub metadata: Option<String>,
}

impl<'d> Engine<'d> {
    #[must_use]
    pub fn new(
        sink: &'d ElasticSink,
        behind: Behind,
        existence_only: bool,
        metadata: Option<String>,
    ) -> Engine<'d> {
        let (indices, left_out) = (Mutex::default(), BTreeSet::new());
        Engine { sink, behind, indices, left_out, existence_only, metadata }
    }

    /// Rows behind these aliases are left out where their index is not there.
    pub fn leaves_out(&mut self, aliases: BTreeSet<String>) {
        self.left_out = aliases;
    }

    /// Looks for the indices that are there; how many they are.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn find(&self) -> Result<usize, SinkError> {
        match &self.behind {
            Behind::Alias(alias) => drop(self.index(&alias.as_str().into()).await?),
            Behind::ByRow(by_row) => {
                for alias in self.sink.aliases(by_row).await? {
                    self.index(&alias.into()).await?;
                }
            }
        }
        Ok(self.known().len())
    }

    fn known(&self) -> BTreeMap<Arc<str>, IndexNo> {
        self.indices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The index behind an alias: one that is not there yet may be made meanwhile.
    async fn index(&self, alias: &Arc<str>) -> Result<Option<IndexNo>, SinkError> {
        let known = self.indices.lock().unwrap_or_else(PoisonError::into_inner).get(alias).copied();
        if known.is_some() {
            return Ok(known);
        }
        let found = self.sink.find(alias, Expect::MaybeGone).await?.map(|index| index.no);
        if let Some(index) = found {
            let mut indices = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
            indices.insert(Arc::clone(alias), index);
        }
        Ok(found)
    }

    /// Takes out the rows whose index was deleted, where the table's rules leave them out; how many they are.
    pub(super) async fn leave_out(&self, rows: &mut Vec<Expected>) -> Result<u64, DiffError> {
        if self.left_out.is_empty() {
            return Ok(0);
        }
        let aliases: BTreeSet<Arc<str>> = rows.iter().map(|row| Arc::clone(&row.at.alias)).collect();
        let aliases = aliases.into_iter().filter(|alias| self.left_out.contains(&**alias));
        let before = rows.len();
        for alias in aliases {
            if self.index(&alias).await?.is_none() {
                rows.retain(|row| row.at.alias != alias);
            }
        }
        Ok((before - rows.len()) as u64)
    }

    /// Each document that is there, with the alias that it is behind, its routing and its version.
    ///
    /// # Errors
    /// The engine does not answer for all of them.
    pub(super) async fn scan(
        &self,
        mut visit: impl FnMut(&Arc<str>, &str, Option<&str>, crate::event::Version) + Send + Sync,
    ) -> Result<(), SinkError> {
        self.find().await?;
        for (alias, index) in self.known() {
            self.sink.scan(index, |id, routing, version| visit(&alias, id, routing, version)).await?;
        }
        Ok(())
    }

    /// What there is of these, in their order. Asks again for a while where the engine does not answer.
    ///
    /// # Errors
    /// It does not, or an index is not what it was.
    pub(super) async fn documents(&self, wanted: &[At]) -> Result<Vec<Option<Document>>, DiffError> {
        let mut by_alias = BTreeMap::<&Arc<str>, Vec<usize>>::new();
        for (i, at) in wanted.iter().enumerate() {
            by_alias.entry(&at.alias).or_default().push(i);
        }
        let mut documents = vec![None; wanted.len()];
        for (alias, places) in by_alias {
            let of_alias: Vec<DocumentId> = places.iter().map(|i| wanted[*i].document.clone()).collect();
            for (i, document) in places.into_iter().zip(self.of_alias(alias, &of_alias).await?) {
                documents[i] = document;
            }
        }
        Ok(documents)
    }

    async fn of_alias(
        &self,
        alias: &Arc<str>,
        wanted: &[DocumentId],
    ) -> Result<Vec<Option<Document>>, DiffError> {
        let mut backoff = Backoff::new();
        loop {
            let asked = async {
                match self.index(alias).await? {
                    Some(index) => self.sink.documents(index, wanted).await,
                    None => Ok(vec![None; wanted.len()]),
                }
            };
            match asked.await {
                Err(SinkError::Transient(_)) if backoff.failures() < PATIENCE => {
                    tokio::time::sleep(backoff.next_delay().min(Duration::from_secs(5))).await;
                }
                result => return Ok(result?),
            }
        }
    }
}
