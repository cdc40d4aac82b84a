//! The walk that makes a preference list, as Cassandra's NetworkTopologyStrategy does it, so that token-aware drivers
//! route right: clockwise from the key's partition over distinct nodes; a node of a rack already met waits, in order,
//! until every rack was met.
//!
//! The order does not depend on how many replicas are wanted: RF owners are its first RF nodes, and the fallbacks are
//! the rest. Racks count if a node of theirs owns a token (as drivers see them).

use std::collections::BTreeMap;

/// A data centre's owners with their racks numbered, ready to be walked.
#[derive(Clone, Debug)]
pub(crate) struct Circle {
    /// Owner of each partition, an index into the ring's nodes. Empty: the data centre owns nothing.
    owners: Vec<u16>,
    /// Rack number of each node of the ring; `NO_RACK` for those that own no token here.
    rack_of: Vec<u16>,
    racks: usize,
    nodes: usize,
}

const NO_RACK: u16 = u16::MAX;

impl Circle {
    /// `rack_names[i]` is the rack of node i; every owner is an index into it.
    pub(crate) fn new<R: Ord>(owners: Vec<u16>, rack_names: &[R]) -> Self {
        let mut rack_of = vec![NO_RACK; rack_names.len()];
        let mut numbers: BTreeMap<&R, u16> = BTreeMap::new();
        let mut nodes = 0;
        for &owner in &owners {
            let owner = usize::from(owner);
            if rack_of[owner] == NO_RACK {
                let next = u16::try_from(numbers.len()).unwrap_or(NO_RACK);
                rack_of[owner] = *numbers.entry(&rack_names[owner]).or_insert(next);
                nodes += 1;
            }
        }
        let racks = numbers.len();
        Circle { owners, rack_of, racks, nodes }
    }

    /// Nodes that own a token here.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// The first `want` nodes (or all there are) for keys of `partition`, the most preferred first.
    pub(crate) fn walk(&self, partition: usize, want: usize) -> Vec<u16> {
        let mut walker = Walker::default();
        walker.walk(&self.owners, &self.rack_of, self.racks, partition, want.min(self.nodes));
        walker.found
    }
}

/// One walk after the other without allocating.
#[derive(Default)]
pub(crate) struct Walker {
    /// Where the last walk found its nodes, in order.
    pub(crate) found: Vec<u16>,
    waiting: Vec<u16>,
    /// The last walk that met each rack.
    met: Vec<u64>,
    walks: u64,
}

/// A partition that belongs to nobody; a walk passes over it.
pub(crate) const VACANT: u16 = u16::MAX;

impl Walker {
    /// Leaves the first `want` nodes in `found`; answers how many partitions it looked at. `racks` is the number of racks
    /// whose nodes own something.
    pub(crate) fn walk(
        &mut self,
        owners: &[u16],
        rack_of: &[u16],
        racks: usize,
        partition: usize,
        want: usize,
    ) -> usize {
        self.found.clear();
        self.waiting.clear();
        self.met.resize(racks, 0);
        self.walks += 1;
        // Each rack gives one node first, so of those that wait no more than this many are ever taken.
        let waiting_max = want.saturating_sub(racks);
        let mut unmet = racks;
        let (before, from) = owners.split_at(partition.min(owners.len()));
        for (step, &node) in from.iter().chain(before).enumerate() {
            if self.found.len() >= want {
                return step;
            }
            if node == VACANT || self.found.contains(&node) {
                continue;
            }
            let rack = usize::from(rack_of[usize::from(node)]);
            let is_met = self.met[rack] == self.walks;
            if is_met && unmet > 0 {
                if self.waiting.len() < waiting_max && !self.waiting.contains(&node) {
                    self.waiting.push(node);
                }
                continue;
            }
            self.found.push(node);
            if !is_met {
                self.met[rack] = self.walks;
                unmet -= 1;
                if unmet == 0 {
                    self.found.append(&mut self.waiting);
                }
            }
        }
        owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cassandra's definition for a given RF, written down as its Java reads: an ordered set of replicas, an ordered set
    /// of skipped ones for the data centre, a set of racks seen.
    fn reference(owners: &[u16], racks: &[u8], partition: usize, rf: usize) -> Vec<u16> {
        let distinct = |of: &mut dyn Iterator<Item = u16>| {
            let mut seen: Vec<u16> = Vec::new();
            of.for_each(|x| {
                if !seen.contains(&x) {
                    seen.push(x)
                }
            });
            seen
        };
        let nodes = distinct(&mut owners.iter().copied());
        let all_racks = distinct(&mut nodes.iter().map(|&n| u16::from(racks[usize::from(n)])));
        let (mut replicas, mut skipped, mut seen): (Vec<u16>, Vec<u16>, Vec<u16>) = (vec![], vec![], vec![]);
        for step in 0..owners.len() {
            let node = owners[(partition + step) % owners.len()];
            if replicas.len() == rf.min(nodes.len()) {
                break;
            }
            let rack = u16::from(racks[usize::from(node)]);
            if replicas.contains(&node) {
                continue;
            }
            if seen.len() == all_racks.len() {
                replicas.push(node);
            } else if seen.contains(&rack) {
                if !skipped.contains(&node) {
                    skipped.push(node);
                }
            } else {
                replicas.push(node);
                seen.push(rack);
                if seen.len() == all_racks.len() {
                    for &late in &skipped {
                        if replicas.len() < rf.min(nodes.len()) {
                            replicas.push(late);
                        }
                    }
                }
            }
        }
        replicas
    }

    fn circles() -> impl Strategy<Value = (Vec<u16>, Vec<u8>)> {
        (1usize..=12, 0u32..=6).prop_flat_map(|(nodes, log2)| {
            let owners = prop::collection::vec(0..u16::try_from(nodes).unwrap(), 1 << log2);
            (owners, prop::collection::vec(0u8..5, nodes))
        })
    }

    proptest! {
        #[test]
        fn the_walk_is_cassandras_for_every_replication_factor((owners, racks) in circles(), rf in 1usize..=8) {
            let circle = Circle::new(owners.clone(), &racks);
            for partition in 0..owners.len() {
                prop_assert_eq!(circle.walk(partition, rf), reference(&owners, &racks, partition, rf));
            }
        }

        #[test]
        fn owners_are_the_first_of_one_order_that_names_every_node_once((owners, racks) in circles()) {
            let circle = Circle::new(owners.clone(), &racks);
            for partition in 0..owners.len() {
                let all = circle.walk(partition, usize::MAX);
                for rf in 1..=all.len() {
                    prop_assert_eq!(&circle.walk(partition, rf), &all[..rf]);
                }
                let mut sorted = all.clone();
                sorted.sort_unstable();
                let mut distinct = owners.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(sorted, distinct);
            }
        }

        #[test]
        fn the_first_nodes_stand_in_different_racks_while_there_are_any((owners, racks) in circles(), rf in 1usize..=8) {
            let circle = Circle::new(owners.clone(), &racks);
            for partition in 0..owners.len() {
                let walked = circle.walk(partition, rf);
                let mut met: Vec<u8> = walked.iter().map(|&n| racks[usize::from(n)]).collect();
                met.sort_unstable();
                met.dedup();
                prop_assert_eq!(met.len(), walked.len().min(circle.racks));
            }
        }
    }
}
