//! Lanes: what waits for one connection. Urgent goes first; one bulk frame goes after `limits::BULK_ONE_IN` request frames.
//!
//! Pure. Bounded in frames and in bytes for each lane; an empty lane takes any one frame.

use crate::limits::{BULK_ONE_IN, LANE_BYTES_MAX, LANE_FRAMES_MAX};
use kula_wire::Lane;
use std::collections::VecDeque;

pub(crate) struct Lanes<T> {
    queues: [VecDeque<(usize, T)>; 3],
    bytes: [usize; 3],
    requests_since_bulk: u32,
}

/// A lane has no room. The item comes back.
#[derive(Debug)]
pub(crate) struct Full<T> {
    pub item: T,
    pub depth: usize,
    pub cap: usize,
}

const URGENT: usize = 0;
const REQUEST: usize = 1;
const BULK: usize = 2;

fn place(lane: Lane) -> usize {
    match lane {
        Lane::Urgent => URGENT,
        Lane::Request => REQUEST,
        Lane::Bulk => BULK,
    }
}

impl<T> Lanes<T> {
    pub fn new() -> Self {
        Lanes { queues: [VecDeque::new(), VecDeque::new(), VecDeque::new()], bytes: [0; 3], requests_since_bulk: 0 }
    }

    pub fn push(&mut self, lane: Lane, bytes: usize, item: T) -> Result<(), Full<T>> {
        let at = place(lane);
        let depth = self.queues[at].len();
        if depth >= LANE_FRAMES_MAX[at] {
            return Err(Full { item, depth, cap: LANE_FRAMES_MAX[at] });
        }
        if depth > 0 && self.bytes[at] + bytes > LANE_BYTES_MAX[at] {
            return Err(Full { item, depth: self.bytes[at], cap: LANE_BYTES_MAX[at] });
        }
        self.push_forced(lane, bytes, item);
        Ok(())
    }

    /// Past the bounds: for what is bounded elsewhere and small.
    pub fn push_forced(&mut self, lane: Lane, bytes: usize, item: T) {
        let at = place(lane);
        self.bytes[at] += bytes;
        self.queues[at].push_back((bytes, item));
    }

    pub fn pop(&mut self) -> Option<T> {
        let bulk_is_due = self.requests_since_bulk >= BULK_ONE_IN && !self.queues[BULK].is_empty();
        let order = if bulk_is_due { [URGENT, BULK, REQUEST] } else { [URGENT, REQUEST, BULK] };
        let at = order.into_iter().find(|at| !self.queues[*at].is_empty())?;
        match at {
            REQUEST => self.requests_since_bulk = self.requests_since_bulk.saturating_add(1),
            BULK => self.requests_since_bulk = 0,
            _ => {}
        }
        let (bytes, item) = self.queues[at].pop_front()?;
        self.bytes[at] -= bytes;
        Some(item)
    }

    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Bytes of all lanes.
    pub fn bytes(&self) -> usize {
        self.bytes.iter().sum()
    }

    pub fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Everything, in no meaningful order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        std::mem::replace(self, Lanes::new()).queues.into_iter().flatten().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_overtakes_a_bulk_flood_and_bulk_is_not_starved_by_requests() {
        let mut lanes = Lanes::new();
        (0..3).for_each(|_| lanes.push(Lane::Bulk, 1, 'b').unwrap());
        (0..20).for_each(|_| lanes.push(Lane::Request, 1, 'r').unwrap());
        lanes.push(Lane::Urgent, 1, 'u').unwrap();
        let order: String = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(order, "urrrrrrrrbrrrrrrrrbrrrrb");
    }

    // Promise: P9
    #[test]
    fn a_lane_is_bounded_in_frames_and_in_bytes_and_takes_any_one_frame() {
        let mut lanes = Lanes::new();
        let cap = LANE_FRAMES_MAX[BULK];
        (0..cap).for_each(|item| lanes.push(Lane::Bulk, 1, item).unwrap());
        let full = lanes.push(Lane::Bulk, 1, 7).unwrap_err();
        assert_eq!((full.item, full.depth, full.cap), (7, cap, cap));
        lanes.push(Lane::Urgent, LANE_BYTES_MAX[URGENT] + 1, 0).unwrap();
        assert_eq!(lanes.push(Lane::Urgent, 1, 9).unwrap_err().cap, LANE_BYTES_MAX[URGENT]);
        assert_eq!(lanes.drain().count(), cap + 1);
        lanes.push(Lane::Urgent, 1, 9).unwrap();
    }

    #[test]
    fn each_lane_holds_its_bounds_and_no_more() {
        for (at, lane) in Lane::ALL.into_iter().enumerate() {
            let mut lanes = Lanes::new();
            let taken = (0..).take_while(|_| lanes.push(lane, 1, ()).is_ok()).count();
            assert_eq!(taken, LANE_FRAMES_MAX[at], "frames of {lane:?}");
            let mut lanes = Lanes::new();
            let taken = (0..).take_while(|_| lanes.push(lane, 1 << 20, ()).is_ok()).count();
            assert_eq!((taken << 20, lanes.bytes()), (LANE_BYTES_MAX[at], LANE_BYTES_MAX[at]), "bytes of {lane:?}");
            assert!(lanes.pop().is_some());
            assert!(lanes.push(lane, 1 << 20, ()).is_ok(), "room again");
            drop(lanes.drain());
            assert_eq!((lanes.len(), lanes.bytes()), (0, 0));
        }
    }
}
