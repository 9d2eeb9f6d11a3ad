//! One file's bytes: what is seen, what is durable, and what lies between.

use rand::Rng;
use rand::rngs::StdRng;

use super::Fate;

/// What reaches a disk or does not, as one, bytes.
pub const SECTOR: usize = 512;

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// What whoever reads the file sees.
    view: Vec<u8>,
    /// What is there after a crash that keeps nothing else.
    durable: Vec<u8>,
    /// What was changed since, in order.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    /// A sector as it was after a write or a truncation; shorter than [`SECTOR`] where the file ended in it.
    Sector { at: usize, bytes: Vec<u8> },
    /// The file's length after a write or a truncation.
    Length(usize),
}

/// What those who read see of pages that a failed sync has dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// They stay as they were written, and pass for clean: ext4 and XFS, until memory is short.
    Stays,
    /// They read as on the disk: Btrfs, or memory was short.
    Reverts,
}

impl Content {
    /// A file that is durable as it is.
    pub fn durable(bytes: Vec<u8>) -> Content {
        Content { view: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    pub fn view(&self) -> &[u8] {
        &self.view
    }

    pub fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if end > self.view.len() {
            self.view.resize(end, 0);
            self.pending.push(Change::Length(end));
        }
        self.view[offset..end].copy_from_slice(bytes);
        for at in offset / SECTOR..=(end - 1) / SECTOR {
            self.note_sector(at);
        }
    }

    pub fn truncate(&mut self, length: usize) {
        let shorter = length < self.view.len();
        self.view.resize(length, 0);
        self.pending.push(Change::Length(length));
        if shorter && !length.is_multiple_of(SECTOR) {
            // What lay behind the new end reads as zeros when the file grows again.
            self.note_sector(length / SECTOR);
        }
    }

    fn note_sector(&mut self, at: usize) {
        let start = at * SECTOR;
        let bytes = self.view[start..self.view.len().min(start + SECTOR)].to_vec();
        self.pending.push(Change::Sector { at, bytes });
    }

    /// Everything pending becomes durable.
    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Length(length) => self.durable.resize(length, 0),
                Change::Sector { at, bytes } => {
                    let start = at * SECTOR;
                    let end = start + bytes.len();
                    self.durable.resize(self.durable.len().max(end), 0);
                    self.durable[start..end].copy_from_slice(&bytes);
                }
            }
        }
    }

    /// The bytes that are pending will never be durable; lengths, which file systems keep in a journal, stay pending.
    pub fn drop_pending(&mut self, cache: Cache) {
        self.pending.retain(|change| matches!(change, Change::Length(_)));
        if cache == Cache::Reverts {
            let length = self.view.len();
            self.view.clone_from(&self.durable);
            self.view.resize(length, 0);
        }
    }

    /// Turns a bit over wherever the file keeps it.
    pub fn flip(&mut self, bit: usize) {
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        let sectors = self.pending.iter_mut().filter_map(|change| match change {
            Change::Sector { at, bytes } => bytes.get_mut(byte.checked_sub(*at * SECTOR)?),
            Change::Length(_) => None,
        });
        let kept = [self.view.get_mut(byte), self.durable.get_mut(byte)];
        sectors.chain(kept.into_iter().flatten()).for_each(|byte| *byte ^= mask);
    }

    /// Whether a crash changes nothing.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.view == self.durable
    }

    /// The file as a crash may leave it.
    pub fn crash(&self, random: &mut StdRng) -> Content {
        let fate = Fate::draw(random);
        let kept: Vec<bool> =
            (0..self.pending.len()).map(|i| fate.keeps(i, self.pending.len(), random)).collect();
        let torn = fate.torn(self.pending.len());
        let length = self.pending.iter().zip(&kept).rev().find_map(|(change, kept)| match change {
            Change::Length(length) if *kept => Some(*length),
            _ => None,
        });
        let mut bytes = self.durable.clone();
        bytes.resize(length.unwrap_or(self.durable.len()), 0);
        // Sectors are put in by the order of their writes, so that of several versions the newest that was kept stands.
        for (i, change) in self.pending.iter().enumerate() {
            let Change::Sector { at, bytes: written } = change else { continue };
            let start = at * SECTOR;
            let Some(place) = bytes.get_mut(start..).map(|rest| rest.len().min(SECTOR)) else { continue };
            let place = &mut bytes[start..start + place];
            let mut whole = [0; SECTOR];
            whole[..written.len()].copy_from_slice(written);
            let whole = &whole[..place.len()];
            if torn == Some(i) && !place.is_empty() {
                let middle = random.random_range(0..place.len());
                if random.random() {
                    place[..middle].copy_from_slice(&whole[..middle]);
                } else {
                    place[middle..].copy_from_slice(&whole[middle..]);
                }
            } else if kept[i] {
                place.copy_from_slice(whole);
            } else if start >= self.durable.len() && is_first_of(&self.pending[..i], *at) {
                self.fill_lost(place, random);
            }
        }
        Content::durable(bytes)
    }

    /// What stands where the length grew and the data did not arrive: zeros, or what was on those blocks before.
    fn fill_lost(&self, place: &mut [u8], random: &mut StdRng) {
        match random.random_range(0..4) {
            0 => random.fill(place),
            1 => place.fill(0xFF),
            2 => {
                let older = &self.view[..self.view.len().min(SECTOR)];
                place.iter_mut().zip(older).for_each(|(place, older)| *place = *older);
            }
            _ => {}
        }
    }
}

fn is_first_of(earlier: &[Change], sector: usize) -> bool {
    !earlier.iter().any(|change| matches!(change, Change::Sector { at, .. } if *at == sector))
}
