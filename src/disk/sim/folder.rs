//! One folder's entries: what is seen, what is durable, and what lies between.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use super::{Fate, Id};

/// A folder's entries.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    view: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Create { name: String, id: Id },
    Remove { name: String },
    Rename { from: String, to: String, id: Id },
}

impl Folder {
    pub fn get(&self, name: &str) -> Option<Id> {
        self.view.get(name).copied()
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.view.keys()
    }

    pub fn create(&mut self, name: &str, id: Id) {
        self.change(Change::Create { name: name.to_owned(), id });
    }

    pub fn remove(&mut self, name: &str) {
        self.change(Change::Remove { name: name.to_owned() });
    }

    /// `id`: what `from` names.
    pub fn rename(&mut self, from: &str, to: &str, id: Id) {
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), id });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.view);
        self.pending.push(change);
    }

    /// Everything pending becomes durable. Says whether names were taken away.
    pub fn sync(&mut self) -> bool {
        let mut taken = false;
        for change in self.pending.drain(..) {
            taken |= !matches!(change, Change::Create { .. });
            change.apply(&mut self.durable);
        }
        taken
    }

    /// Everything that the folder names, or would name after some crash.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Create { id, .. } | Change::Rename { id, .. } => Some(*id),
            Change::Remove { .. } => None,
        });
        self.view.values().chain(self.durable.values()).copied().chain(pending)
    }

    /// Whether a crash changes nothing.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// The folder as a crash may leave it.
    pub fn crash(&self, random: &mut StdRng) -> Folder {
        let mut entries = self.durable.clone();
        let fate = Fate::draw(random);
        let count = self.pending.len();
        let mut kept: Vec<bool> = (0..count).map(|i| fate.keeps(i, count, random)).collect();
        for i in (0..count).rev() {
            // Where the old name has been given again, the renaming has happened: else what it named had no name left.
            if let Change::Rename { from, .. } = &self.pending[i] {
                let mut later = self.pending[i + 1..].iter().zip(&kept[i + 1..]);
                kept[i] |= later.any(|(change, kept)| *kept && change.gives() == Some(from));
            }
        }
        for (i, change) in self.pending.iter().enumerate() {
            let torn = fate.torn(count) == Some(i) || (kept[i] && random.random_range(0..8) == 0);
            match change {
                // Caught between the new name and the old one's end.
                Change::Rename { from, to, id } if torn => {
                    entries.insert(from.clone(), *id);
                    entries.insert(to.clone(), *id);
                }
                change if kept[i] => change.apply(&mut entries),
                _ => {}
            }
        }
        Folder { view: entries.clone(), durable: entries, pending: Vec::new() }
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, Id>) {
        match self {
            Change::Create { name, id } => {
                entries.insert(name.clone(), *id);
            }
            Change::Remove { name } => {
                entries.remove(name);
            }
            Change::Rename { from, to, id } => {
                entries.remove(from);
                entries.insert(to.clone(), *id);
            }
        }
    }

    /// The name that it gives to something.
    fn gives(&self) -> Option<&String> {
        match self {
            Change::Create { name, .. } => Some(name),
            Change::Rename { to, .. } => Some(to),
            Change::Remove { .. } => None,
        }
    }
}
