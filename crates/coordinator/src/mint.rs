//! The minter: dots of one actor, and what the actor remembers of those it minted before (`cell.md`).
//!
//! A dot says that no other dot of its key by the same actor lies in the interval (prev, seq]. So a remembered `prev`
//! may be too high and never too low. That allows a table of fixed size without tags: a slot holds the last sequence
//! minted for *any* key that hashes there. It forgets nothing, costs no allocation, and a collision only makes an
//! interval shorter. 0 says that the actor minted none before, which it knows, having no other memory to lose.

use crate::limits::{REMEMBERED_KEYS, SEQUENCES_SPARE};
use kula_fault::{Mutant, Site, buggify, planted};
use kula_types::{Actor, Dot, TableId, Token};

pub(crate) struct Minter {
    actor: Actor,
    /// The last sequence given. Invariant: every remembered sequence is at most this.
    last: u64,
    /// By ring partition: the last sequence minted for it.
    partitions: Vec<u64>,
    /// By slot: the last sequence minted for any of its keys. Empty until the first mint: an idle node costs nothing.
    keys: Vec<u64>,
}

/// A fresh mutation id with its two chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Minted {
    pub mid: Dot,
    /// The last one before it in the same ring partition.
    pub previous: u64,
    /// The last one before it of the same key, or a later one of another key.
    pub key_previous: u64,
}

impl Minter {
    pub fn new(actor: Actor) -> Self {
        Minter { actor, last: 0, partitions: Vec::new(), keys: Vec::new() }
    }

    /// Whether it is time for another actor: sequences are 40 bits.
    pub fn is_spent(&self) -> bool {
        self.last >= Dot::SEQ_MAX - SEQUENCES_SPARE
    }

    /// A dot for a client's mutation. `partition` is the token's of `partitions` ring partitions.
    pub fn mint(&mut self, table: TableId, token: Token, partition: u32, partitions: u32) -> Minted {
        let before = self.last;
        let mid = self.next();
        if self.partitions.len() != partitions as usize {
            // Another division of the circle: every partition's last mutation is at most the last of all.
            self.partitions.clear();
            self.partitions.resize(partitions as usize, before);
        }
        if self.keys.is_empty() {
            self.keys.resize(REMEMBERED_KEYS, 0);
        }
        let previous = std::mem::replace(&mut self.partitions[partition as usize], mid.seq());
        let key_previous = match std::mem::replace(&mut self.keys[slot(table, token)], mid.seq()) {
            _ if planted(Mutant::PrevTooLow) => 0,
            _ if buggify(Site::MinterForgets) => mid.seq() - 1,
            remembered => remembered,
        };
        assert!(previous < mid.seq() && key_previous < mid.seq(), "chains point back");
        Minted { mid, previous, key_previous }
    }

    /// A dot for a repair: it names the record and is in no chain, because a repair goes to those replicas only that
    /// lack something, and brings nothing that was not in a chain already.
    pub fn mint_repair(&mut self) -> (Dot, u64) {
        let before = self.last;
        (self.next(), before)
    }

    fn next(&mut self) -> Dot {
        self.last += 1;
        // The shell replaces a spent minter long before the last sequence.
        Dot::new(self.actor, 0, self.last).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

/// Tokens are hashes of keys already; the table id is a hash too.
fn slot(table: TableId, token: Token) -> usize {
    let table = u128::from_le_bytes(table.0);
    let mixed = (u128::from(token.to_unsigned()) ^ (table >> 64)) % REMEMBERED_KEYS as u128;
    usize::try_from(mixed).unwrap_or_else(|_| unreachable!("below the number of slots"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TABLE: TableId = TableId([7; 16]);

    proptest! {
        /// Whatever is minted between, the interval of a dot holds no other dot of its key, nor of its partition.
        #[test]
        fn intervals_hold_no_other_dot(steps in prop::collection::vec((0i64..8, 0u8..8), 1..100)) {
            let mut minter = Minter::new(Actor(1));
            let (mut of_key, mut of_partition) = (BTreeMap::<i64, u64>::new(), BTreeMap::<u32, u64>::new());
            let mut partitions = 4u32;
            for (key, action) in steps {
                match action {
                    0 => drop(minter.mint_repair()),
                    1 => {
                        // Doubling Q renames the partitions.
                        partitions = if partitions == 4 { 8 } else { 4 };
                        of_partition.clear();
                    }
                    _ => {
                        // Keys 0 and 4 share a slot.
                        let token = Token::from_unsigned((key.unsigned_abs() % 4) + (key.unsigned_abs() / 4) * REMEMBERED_KEYS as u64);
                        let partition = u32::try_from(key.unsigned_abs()).unwrap() % partitions;
                        let minted = minter.mint(TABLE, token, partition, partitions);
                        let seq = minted.mid.seq();
                        prop_assert!(of_key.insert(key, seq).unwrap_or(0) <= minted.key_previous);
                        prop_assert!(of_partition.insert(partition, seq).unwrap_or(0) <= minted.previous);
                        prop_assert!(minted.key_previous < seq && minted.previous < seq);
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_written_alone_has_one_chain() {
        let mut minter = Minter::new(Actor(1));
        let mut mint = |token| minter.mint(TABLE, Token(token), 0, 1);
        assert_eq!(
            (mint(5).key_previous, mint(9).key_previous, mint(5).key_previous, mint(9).key_previous),
            (0, 0, 1, 2)
        );
    }
}
