//! The scheduler of one machine: when each room takes its next message, and how many wait.
//!
//! A room's mailbox keeps its order; between rooms anything may come first. How far apart they may drift is drawn for a
//! whole seed: hardly, widely, or with priorities as in PCT (Burckhardt et al., ASPLOS 2010): some rooms are starved for
//! seconds while the others go on, and then it is others' turn.

use crate::{
    process::Queue,
    time::{MILLISECOND, Micros, SECOND},
};
use kula_clock::Random;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// Every room takes what it has within 32 us.
    Even,
    /// Within 2 us to 16 ms, drawn anew for each message.
    Uneven,
    /// Some rooms are let wait, each message for up to half a second.
    Starving,
}

#[derive(Default)]
struct Mailbox {
    /// When the last message is taken: later ones do not overtake it.
    last: Micros,
    waiting: usize,
    /// What each message waits at most besides a hop, and when that is drawn anew.
    starved: Micros,
    drawn_until: Micros,
}

#[derive(Default)]
pub struct Mailroom {
    boxes: BTreeMap<Queue, Mailbox>,
}

impl Mailroom {
    pub fn clear(&mut self) {
        self.boxes.clear();
    }

    /// How many wait there.
    pub fn waiting(&self, queue: Queue) -> usize {
        self.boxes.get(&queue).map_or(0, |mailbox| mailbox.waiting)
    }

    /// A message comes; answers when it is taken.
    pub fn put(&mut self, queue: Queue, now: Micros, scheduling: Scheduling, random: &mut Random) -> Micros {
        let mailbox = self.boxes.entry(queue).or_default();
        let hop = match scheduling {
            Scheduling::Even => 2 + random.next() % 30,
            Scheduling::Uneven => 2 + random.next() % (16 << (random.next() % 11)),
            Scheduling::Starving => {
                if mailbox.drawn_until <= now {
                    mailbox.drawn_until = now + SECOND / 2 + random.next() % (4 * SECOND);
                    mailbox.starved = match random.next() % 40 {
                        0 => SECOND / 2,
                        1..6 => 20 * MILLISECOND,
                        _ => 0,
                    };
                }
                let starved = if mailbox.starved > 0 { random.next() % mailbox.starved } else { 0 };
                2 + random.next() % 30 + starved
            }
        };
        mailbox.waiting += 1;
        mailbox.last = (mailbox.last + 1).max(now + hop);
        mailbox.last
    }

    pub fn taken(&mut self, queue: Queue) {
        if let Some(mailbox) = self.boxes.get_mut(&queue) {
            mailbox.waiting = mailbox.waiting.saturating_sub(1);
        }
    }
}
