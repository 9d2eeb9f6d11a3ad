//! A bulk in the making: actions encoded one after the other, the superseded ones cut out again before it is sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::outstanding::Ticket;
use crate::event::Version;
use crate::event::document::Verb;
use crate::sink::{Bulk, IndexNo, Item};

/// A bulk with the ticket of each of its items, in the same order.
#[derive(Debug)]
pub struct Flight {
    pub bulk: Bulk,
    pub tickets: Vec<Ticket>,
}

/// What an action counts for in a bulk's size at least, bytes: what is kept of it beside its body until it is answered for (its item and ticket, its document's
/// standing and id), and its part of the answer, take about as much. Rows of two integers would come to 25,000 in a bulk without it.
const LEAST_ACTION: usize = 300;

/// What an action counts for in a bulk's size.
fn weight(item: &Item) -> usize {
    item.bytes.len().max(LEAST_ACTION)
}

impl Flight {
    /// What its actions count for in a bulk's size together.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bulk.items.iter().map(weight).sum()
    }

    /// The items at `keep` (rising) alone, under a new opaque id.
    #[must_use]
    pub fn select(&self, keep: &[usize], opaque_id: String) -> Flight {
        let mut body = Vec::with_capacity(keep.iter().map(|&i| self.bulk.items[i].bytes.len()).sum());
        let mut items = Vec::with_capacity(keep.len());
        for &i in keep {
            let item = &self.bulk.items[i];
            let start = body.len();
            body.extend_from_slice(&self.bulk.body[item.bytes.clone()]);
            items.push(Item { bytes: start..body.len(), ..item.clone() });
        }
        let tickets = keep.iter().map(|&i| self.tickets[i]).collect();
        Flight { bulk: Bulk { opaque_id, body: Bytes::from(body), items }, tickets }
    }
}

/// Where an action was encoded: in which bulk of this run, and as the how manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    bulk: u32,
    at: u32,
}

/// The bulk that is being filled.
#[derive(Debug, Default)]
pub struct Building {
    /// Number of this bulk; it tells the places in it from those in bulks that were sent.
    number: u32,
    body: Vec<u8>,
    items: Vec<Item>,
    tickets: Vec<Ticket>,
    dead: Vec<bool>,
    dead_bytes: usize,
    /// Of what is not superseded.
    weight: usize,
    /// Emptied buffers of bulks that came back: new ones would be as large.
    spare: Vec<(Vec<u8>, Vec<Item>, Vec<Ticket>)>,
}

/// What the body has free before an action is added, bytes: more than most take.
const ROOM: usize = 16 << 10;

/// Most buffers that are kept for later.
const MOST_SPARE: usize = 2;

impl Building {
    /// The body to encode the next action into.
    pub fn body(&mut self) -> &mut Vec<u8> {
        // By an eighth, before a usual action would have it doubled.
        if self.body.capacity() - self.body.len() < ROOM {
            self.body.reserve_exact(ROOM + self.body.len() / 8);
        }
        &mut self.body
    }

    /// Records the action whose bytes were just appended to [`Building::body`], from `start` on.
    pub fn push(
        &mut self,
        start: usize,
        index: IndexNo,
        verb: Verb,
        id: Arc<str>,
        version: Version,
        ticket: Ticket,
    ) -> Place {
        let item = Item { index, verb, id, version, bytes: start..self.body.len() };
        self.weight += weight(&item);
        self.items.push(item);
        self.tickets.push(ticket);
        self.dead.push(false);
        // Both may wrap: a bulk of 2^32 actions does not fit into memory, and no document is in flight for 2^32 bulks.
        Place { bulk: self.number, at: (self.items.len() - 1) as u32 }
    }

    /// Whether the action at `place` is in the bulk being built, and not in one that was sent.
    #[must_use]
    pub fn holds(&self, place: Place) -> bool {
        place.bulk == self.number
    }

    /// The ticket of the action at `place`.
    #[must_use]
    pub fn ticket(&self, place: Place) -> Ticket {
        debug_assert!(self.holds(place), "a place in a bulk that was sent");
        self.tickets[place.at as usize]
    }

    /// Leaves the action at `place` out: a newer one of its document follows.
    pub fn supersede(&mut self, place: Place) {
        debug_assert!(self.holds(place), "a place in a bulk that was sent");
        let at = place.at as usize;
        if !std::mem::replace(&mut self.dead[at], true) {
            self.dead_bytes += self.items[at].bytes.len();
            self.weight -= weight(&self.items[at]);
        }
    }

    /// Bytes that would be sent.
    #[must_use]
    fn live_bytes(&self) -> usize {
        self.body.len() - self.dead_bytes
    }

    /// What counts as its size, bytes: as many as would be sent, or more where actions are small.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Bytes held, superseded actions included.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.body.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live_bytes() == 0
    }

    /// Takes the bulk out, without its superseded actions, and starts anew.
    pub fn take(&mut self, opaque_id: String) -> Flight {
        let (mut body, mut items, mut tickets) = self.spare.pop().unwrap_or_default();
        if self.dead_bytes > 0 {
            // What was superseded may be many times what is sent, which is held until it is answered for.
            self.move_live(&mut body, &mut items, &mut tickets);
        } else {
            make_room(&mut body, self.body.len());
            make_room(&mut items, self.items.len());
            make_room(&mut tickets, self.tickets.len());
            std::mem::swap(&mut self.body, &mut body);
            std::mem::swap(&mut self.items, &mut items);
            std::mem::swap(&mut self.tickets, &mut tickets);
        }
        self.dead.clear();
        self.dead_bytes = 0;
        self.weight = 0;
        self.number = self.number.wrapping_add(1);
        Flight { bulk: Bulk { opaque_id, body: Bytes::from(body), items }, tickets }
    }

    /// A bulk has come back, and is needed no more: its buffers may be.
    pub fn reuse(&mut self, flight: Flight) {
        let Flight { bulk: Bulk { body, mut items, .. }, mut tickets } = flight;
        // Not one that was made for more than is sent now: while many are under way each is small, and the room of all counts.
        let fits = |body: &BytesMut| body.capacity() / 2 <= body.len();
        if self.spare.len() < MOST_SPARE
            && let Some(body) = body.try_into_mut().ok().filter(fits)
        {
            let mut body = Vec::from(body);
            body.clear();
            items.clear();
            tickets.clear();
            self.spare.push((body, items, tickets));
        }
    }

    /// Moves what is not superseded into these buffers, which are empty.
    fn move_live(&mut self, body: &mut Vec<u8>, items: &mut Vec<Item>, tickets: &mut Vec<Ticket>) {
        let live = self.dead.iter().filter(|dead| !**dead).count();
        make_room(body, self.live_bytes());
        make_room(items, live);
        make_room(tickets, live);
        let actions = self.items.drain(..).zip(self.tickets.drain(..)).zip(&self.dead);
        for ((item, ticket), _) in actions.filter(|(_, dead)| !**dead) {
            let start = body.len();
            body.extend_from_slice(&self.body[item.bytes.clone()]);
            items.push(Item { bytes: start..body.len(), ..item });
            tickets.push(ticket);
        }
        self.body.clear();
    }
}

/// The next bulk is about as long as the last, a little more or less: one allocation instead of a doubling from nothing, or of this one, as
/// `reserve` would do.
fn make_room<T>(empty: &mut Vec<T>, last: usize) {
    if empty.capacity() < last {
        *empty = Vec::with_capacity(last + last / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Seq;
    use crate::relay::outstanding::Outstanding;

    #[test]
    fn superseded_actions_are_not_in_the_bulk() {
        let mut out = Outstanding::new(Seq(0));
        let mut building = Building::default();
        let mut places = Vec::new();
        for (i, text) in ["aa", "bbb", "c", "dd"].into_iter().enumerate() {
            let start = building.body().len();
            building.body().extend_from_slice(text.as_bytes());
            let ticket = out.open(Seq(i as u64 + 1));
            places.push(building.push(start, IndexNo(0), Verb::Index, text.into(), Version(1), ticket));
        }
        building.supersede(places[0]);
        building.supersede(places[2]);
        building.supersede(places[2]);
        assert_eq!(building.live_bytes(), 5);
        let kept = [building.ticket(places[1]), building.ticket(places[3])];
        assert!(building.holds(places[3]));
        let flight = building.take("x".into());
        assert!(!building.holds(places[3]));
        assert_eq!(&flight.bulk.body[..], b"bbbdd");
        assert_eq!(flight.tickets, kept);
        assert_eq!(flight.bulk.items[1].bytes, 3..5);
        assert!(building.is_empty());
        let second = flight.select(&[1], "y".into());
        assert_eq!((&second.bulk.body[..], second.bulk.items[0].bytes.clone()), (&b"dd"[..], 0..2));
        assert_eq!(second.tickets, kept[1..]);
    }

    #[test]
    fn small_actions_count_for_more_than_their_bytes() {
        let (mut building, mut out) = (Building::default(), Outstanding::new(Seq(0)));
        let mut places = Vec::new();
        for bytes in [10, LEAST_ACTION, 5_000, 20] {
            let start = building.body().len();
            building.body().resize(start + bytes, b'x');
            let (id, ticket) = (bytes.to_string().into(), out.open(Seq(1)));
            places.push(building.push(start, IndexNo(0), Verb::Index, id, Version(1), ticket));
        }
        assert_eq!(building.weight(), 3 * LEAST_ACTION + 5_000);
        building.supersede(places[0]);
        building.supersede(places[0]);
        assert_eq!(building.weight(), 2 * LEAST_ACTION + 5_000);
        assert_eq!(building.take("x".into()).weight(), 2 * LEAST_ACTION + 5_000);
        assert_eq!(building.weight(), 0);
    }

    #[test]
    fn a_body_has_little_more_room_than_it_needs() {
        let (mut building, mut out) = (Building::default(), Outstanding::new(Seq(0)));
        for bytes in [900_000, 1_000_000, 1_100_000, 1_300_000, 1_500_000] {
            let flights = [(); 3].map(|()| {
                while building.live_bytes() < bytes {
                    let start = building.body().len();
                    building.body().resize(start + 500, b'x');
                    let ticket = out.open(Seq(1));
                    building.push(start, IndexNo(0), Verb::Index, "a".into(), Version(1), ticket);
                }
                let room = building.body.capacity();
                assert!(room <= bytes * 2, "{room} for {bytes}");
                building.take("x".into())
            });
            for flight in flights {
                building.reuse(flight);
            }
            assert_eq!(building.spare.len(), MOST_SPARE);
        }
        let most = building.spare.iter().map(|(body, ..)| body.capacity()).max().unwrap();
        assert!(most <= 1_500_000 * 9 / 8 + 2 * ROOM, "{most}");
    }

    #[test]
    fn buffers_of_bulks_that_came_back_are_used_again() {
        let mut building = Building::default();
        let mut out = Outstanding::new(Seq(0));
        let mut bulk = |building: &mut Building, bytes: usize| {
            building.body().resize(bytes, b'x');
            let ticket = out.open(Seq(1));
            building.push(0, IndexNo(0), Verb::Index, "a".into(), Version(1), ticket);
            building.take("x".into())
        };
        let first = bulk(&mut building, 10_000);
        let place = first.bulk.body.as_ptr();
        let second = bulk(&mut building, 10_000);
        let held = second.bulk.body.clone();
        building.reuse(second);
        assert!(building.spare.is_empty(), "somebody has it still");
        assert_eq!(held.len(), 10_000);
        building.reuse(first);
        bulk(&mut building, 9_000);
        assert_eq!(building.body().as_ptr(), place);
        assert!(building.body().is_empty() && building.items.is_empty() && building.tickets.is_empty());
        // Far more than is sent now.
        let (large, small) = (bulk(&mut building, 10_000), bulk(&mut building, 100));
        building.reuse(small);
        assert_eq!(building.spare.len(), 0, "its buffer is a large one's");
        building.reuse(large);
        assert_eq!(building.spare.len(), 1);
    }
}
