//! Puts opened batches back into the order in which their jobs were given out, connection by connection.

use std::collections::{HashMap, VecDeque};

use delta_core::sync::session::ConnId;

/// One place in a connection's order: a job still at work, or what came of it.
#[derive(Debug)]
enum Place<T> {
    Working,
    Done(T),
}

/// A connection's places, oldest first. `first` is the number of the oldest.
#[derive(Debug)]
struct Lane<T> {
    first: u64,
    places: VecDeque<Place<T>>,
}

/// The lanes of all connections.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: HashMap<ConnId, Lane<T>>,
}

/// The name of a job's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    conn: ConnId,
    number: u64,
}

impl<T> Lanes<T> {
    pub(crate) fn new() -> Self {
        Self { lanes: HashMap::new() }
    }

    /// Whether nothing is at work.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Takes the next place of `conn` for a job that starts now.
    pub(crate) fn start(&mut self, conn: ConnId) -> Ticket {
        let lane = self.lanes.entry(conn).or_insert_with(|| Lane { first: 0, places: VecDeque::new() });
        lane.places.push_back(Place::Working);
        Ticket { conn, number: lane.first + lane.places.len() as u64 - 1 }
    }

    /// Puts a result into its place and moves what is now in order to the end of `ready`.
    pub(crate) fn finish(&mut self, ticket: Ticket, result: T, ready: &mut VecDeque<T>) {
        let Some(lane) = self.lanes.get_mut(&ticket.conn) else { return };
        let index = ticket.number.checked_sub(lane.first).and_then(|index| usize::try_from(index).ok());
        let Some(place) = index.and_then(|index| lane.places.get_mut(index)) else { return };
        *place = Place::Done(result);
        while let Some(Place::Done(_)) = lane.places.front() {
            if let Some(Place::Done(result)) = lane.places.pop_front() {
                ready.push_back(result);
            }
            lane.first += 1;
        }
        // Nothing is at work, so no ticket of this lane is out: its numbers may start anew.
        if lane.places.is_empty() {
            self.lanes.remove(&ticket.conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_out_in_the_order_of_their_start_per_connection() {
        let mut lanes = Lanes::new();
        let mut ready = VecDeque::new();
        let (a, b) = (ConnId(1), ConnId(2));
        let [a1, a2, a3] = [(); 3].map(|()| lanes.start(a));
        let b1 = lanes.start(b);
        lanes.finish(a3, "a3", &mut ready);
        lanes.finish(b1, "b1", &mut ready);
        assert_eq!(ready, ["b1"]);
        lanes.finish(a1, "a1", &mut ready);
        assert_eq!(ready, ["b1", "a1"]);
        lanes.finish(a2, "a2", &mut ready);
        assert_eq!(ready, ["b1", "a1", "a2", "a3"]);
        assert!(lanes.lanes.is_empty());
        let again = lanes.start(a);
        lanes.finish(again, "a4", &mut ready);
        assert_eq!(ready.back(), Some(&"a4"));
    }
}
