//! Which actions are not settled yet, and so how far the cursor may go.
//!
//! Every document action gets a [`Ticket`] when its change is read from the log. A ticket is settled when the engine has
//! answered for it, or when a newer action of the same document, which took it along ([`Outstanding::take_along`]), is
//! settled. The cursor may stand just below the oldest unsettled ticket's change and never above it, so what a crash makes us read
//! again always includes everything unsettled: the settled prefix has no gaps.
//!
//! Cost: 24 bytes per action between the oldest unsettled one and the newest, and no map.

use std::collections::VecDeque;

use crate::event::Seq;

/// Number of an action in reading order, dense from 0 within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// Of an action that is no change being read, but a parked one, sent again: the cursor does not wait for it, and settling it settles nothing.
    pub const PARKED: Ticket = Ticket(u64::MAX);

    /// Of an action that a replay sends again: as little.
    pub const REPLAYED: Ticket = Ticket(u64::MAX - 1);
}

#[derive(Debug)]
struct Slot {
    seq: Seq,
    /// The ticket's number that this one settles too; `u64::MAX` for none.
    took_along: u64,
    settled: bool,
}

const NONE: u64 = u64::MAX;

/// The window of actions from the oldest unsettled one on.
#[derive(Debug)]
pub struct Outstanding {
    slots: VecDeque<Slot>,
    /// Ticket number of `slots[0]`.
    first: u64,
    /// The last frame read; everything below the first unsettled action is settled up to here.
    read: Seq,
}

impl Outstanding {
    /// Nothing outstanding; everything up to `settled` is settled.
    #[must_use]
    pub fn new(settled: Seq) -> Outstanding {
        Outstanding { slots: VecDeque::new(), first: 0, read: settled }
    }

    /// A frame with nothing (more) to send was read.
    pub fn read(&mut self, seq: Seq) {
        debug_assert!(seq >= self.read, "frames are read in order");
        self.read = seq;
    }

    /// An action of the change at `seq`, which is the frame being read.
    pub fn open(&mut self, seq: Seq) -> Ticket {
        let ticket = Ticket(self.first + self.slots.len() as u64);
        self.slots.push_back(Slot { seq, took_along: NONE, settled: false });
        ticket
    }

    /// `newer` replaces `older` of the same document: settling it settles both.
    pub fn take_along(&mut self, newer: Ticket, older: Ticket) {
        if older >= Ticket::REPLAYED {
            return;
        }
        debug_assert!(older < newer, "a newer action takes an older one along");
        if let Some(slot) = self.slot(newer.0) {
            debug_assert_eq!(slot.took_along, NONE, "one action takes along one other");
            slot.took_along = older.0;
        }
    }

    /// The engine has answered for `ticket`: it and all that it took along are settled.
    pub fn settle(&mut self, ticket: Ticket) {
        let mut number = ticket.0;
        while let Some(slot) = self.slot(number) {
            slot.settled = true;
            number = std::mem::replace(&mut slot.took_along, NONE);
        }
        while self.slots.front().is_some_and(|slot| slot.settled) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// The change that `ticket` was opened for; of a settled one the newest settled.
    #[must_use]
    pub fn seq(&self, ticket: Ticket) -> Seq {
        let index = ticket.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.slots.get(index)).map_or_else(|| self.settled(), |slot| slot.seq)
    }

    /// Everything up to here is settled.
    #[must_use]
    pub fn settled(&self) -> Seq {
        self.slots.front().map_or(self.read, |slot| slot.seq.previous())
    }

    /// Everything read is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Actions between the oldest unsettled one and the newest.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_waits_for_the_oldest_unsettled_change() {
        let mut out = Outstanding::new(Seq(10));
        let a = out.open(Seq(11));
        let b = out.open(Seq(12));
        out.read(Seq(13));
        assert_eq!(out.settled(), Seq(10));
        out.settle(b);
        assert_eq!(out.settled(), Seq(10));
        out.settle(a);
        assert_eq!(out.settled(), Seq(13));
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn a_change_with_two_documents_is_settled_when_both_are() {
        let mut out = Outstanding::new(Seq(0));
        let delete = out.open(Seq(1));
        let index = out.open(Seq(1));
        out.read(Seq(2));
        out.settle(index);
        assert_eq!(out.settled(), Seq(0));
        out.settle(delete);
        assert_eq!(out.settled(), Seq(2));
    }

    #[test]
    fn an_action_taken_along_is_settled_with_the_newer_one_only() {
        let mut out = Outstanding::new(Seq(0));
        let tickets: Vec<Ticket> = (1..=3).map(|seq| out.open(Seq(seq))).collect();
        out.read(Seq(3));
        out.take_along(tickets[1], tickets[0]);
        out.take_along(tickets[2], tickets[1]);
        assert_eq!(out.settled(), Seq(0));
        out.settle(tickets[2]);
        assert_eq!(out.settled(), Seq(3));
    }
}
