//! Which keys keep a quorum while these nodes serve: over all partitions, worst case.
//!
//! Pure. The ring says who owns a key, the caller says who serves; nothing here asks whether a disk has room.

use kula_placement::{KeyspaceSettings, Ring};
use kula_types::{Consistency, NodeId, Token};
use std::collections::BTreeMap;

/// What the nodes that serve can do at QUORUM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// How many more nodes may fail, whichever they are, before some key lacks a quorum; 0 if one lacks it already.
    pub spare: u32,
    /// Keyspaces of which some keys lack a quorum, the worst first.
    pub lacking: Vec<Lacking>,
    /// Whether no key of any keyspace has one.
    pub is_nothing_left: bool,
}

/// A keyspace of which some keys can be neither read nor written at QUORUM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub keyspace: String,
    /// The share of its keys, rounded to 1 to 100; 100 only if it is all of them.
    pub percent: u32,
}

/// Partitions of one replication factor.
struct Counted {
    lacking: u32,
    spare: u32,
}

impl Availability {
    /// Of all keyspaces of the ring. Without keyspaces there is nothing to lose.
    pub fn of(ring: &Ring, serves: impl Fn(NodeId) -> bool) -> Availability {
        let mut by_rf: BTreeMap<u32, Counted> = BTreeMap::new();
        let mut lacking = Vec::new();
        let mut spare = None;
        for (keyspace, settings) in &ring.keyspaces {
            // Keyspaces differ in what they do with owners, not in who those are, but for the replication factor.
            let counted = by_rf.entry(settings.rf).or_insert_with(|| count(ring, settings, &serves));
            spare = Some(spare.map_or(counted.spare, |least: u32| least.min(counted.spare)));
            if counted.lacking > 0 {
                let percent = share(counted.lacking, ring.partitions);
                lacking.push(Lacking { keyspace: keyspace.to_string(), percent });
            }
        }
        lacking.sort_by(|one, other| other.percent.cmp(&one.percent).then_with(|| one.keyspace.cmp(&other.keyspace)));
        let is_nothing_left = !lacking.is_empty()
            && lacking.len() == ring.keyspaces.len()
            && lacking.iter().all(|keyspace| keyspace.percent == 100);
        Availability { spare: spare.unwrap_or(0), lacking, is_nothing_left }
    }

    pub fn is_whole(&self) -> bool {
        self.lacking.is_empty()
    }
}

fn count(ring: &Ring, settings: &KeyspaceSettings, serves: &impl Fn(NodeId) -> bool) -> Counted {
    let mut counted = Counted { lacking: 0, spare: u32::MAX };
    for partition in 0..ring.partitions {
        // The first token of a partition lies in the partition of that number in every data centre; its last does not.
        let first = Token(ring.range_in(0, partition).after.0.wrapping_add(1));
        let owners = ring.preference_list(settings, first).owners;
        let alive = whole(owners.iter().filter(|&&owner| serves(owner)).count());
        // A data centre whose nodes have no weight owns nothing; nobody owns then, and nobody can answer.
        let need = Consistency::Quorum.required(whole(owners.len())).unwrap_or(1);
        counted.lacking += u32::from(alive < need);
        counted.spare = counted.spare.min(alive.saturating_sub(need));
    }
    counted
}

fn whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn share(part: u32, of: u32) -> u32 {
    let percent = (u64::from(part) * 100 + u64::from(of) / 2) / u64::from(of.max(1));
    match u32::try_from(percent) {
        Ok(percent) if part < of => percent.clamp(1, 99),
        _ => 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{id, ring, with_keyspace};

    fn without(ring: &Ring, gone: &[u128]) -> Availability {
        Availability::of(ring, |node| !gone.iter().any(|&number| id(number) == node))
    }

    #[test]
    fn three_copies_on_three_nodes_outlive_one() {
        let ring = ring(3);
        assert_eq!(without(&ring, &[]), Availability { spare: 1, lacking: vec![], is_nothing_left: false });
        assert_eq!(without(&ring, &[2]), Availability { spare: 0, lacking: vec![], is_nothing_left: false });
        let lost = without(&ring, &[2, 3]);
        assert_eq!(lost.lacking, [Lacking { keyspace: "kv".into(), percent: 100 }]);
        assert!(lost.is_nothing_left && !lost.is_whole());
    }

    #[test]
    fn of_five_nodes_two_take_some_keys_with_them_and_the_worst_keyspace_comes_first() {
        let ring = with_keyspace(&ring(5), "single", 1);
        let lost = without(&ring, &[1, 2]);
        let shares: Vec<u32> = lost.lacking.iter().map(|lacking| lacking.percent).collect();
        assert!(shares.len() == 2 && shares.is_sorted_by(|one, other| one >= other), "{:?}", lost.lacking);
        assert!(shares.iter().all(|share| (20..=50).contains(share)), "{:?}", lost.lacking);
        assert!(!lost.is_nothing_left);
    }

    /// Counted by hand from the preference lists, for every set of lost nodes.
    #[test]
    fn spare_nodes_are_the_most_that_any_loss_leaves_a_quorum_to() {
        let ring = ring(5);
        let whole = |gone: &[u128]| without(&ring, gone).is_whole();
        assert_eq!(without(&ring, &[]).spare, 1);
        assert!((1..=5).all(|one| whole(&[one])));
        assert!((1..=5).any(|one| (one + 1..=5).any(|two| !whole(&[one, two]))));
        let with_one_copy = with_keyspace(&ring, "single", 1);
        assert_eq!(without(&with_one_copy, &[]).spare, 0);
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing_nor_to_everything() {
        assert_eq!([share(1, 1000), share(999, 1000), share(256, 256), share(31, 256)], [1, 99, 100, 12]);
    }
}
