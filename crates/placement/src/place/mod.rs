//! Placement: from nodes, weights, racks and the old ring to owners (`design.md` §3), for one data centre.
//!
//! A pure function in integers: equal inputs give equal owners on every machine, whatever the order the nodes come in.
//! It keeps loads near their targets, never puts two replicas into one rack while there is another, moves little more
//! than what must move, and gives every node with weight a token. What it reaches is measured in
//! `docs/mechanism/placement.md`. The old ring is an input: two nodes agree only if they have the same one.
//!
//! Past the cap on evaluations it stops where it is: still a valid ring, less even.

mod search;
mod seed;
mod state;
mod target;
#[cfg(test)]
mod tests;

use crate::{
    Partitions, RingNode,
    walk::{Circle, VACANT},
};
use kula_types::NodeId;
use search::Search;
use state::State;
use std::collections::{BTreeMap, BTreeSet};
use target::Member;

/// A placement in force: what movement is measured against.
#[derive(Clone, Copy, Debug)]
pub struct OldPlacement<'a> {
    /// The nodes then, with the weights and racks they had then.
    pub nodes: &'a [RingNode],
    /// The owner of each partition, an index into `nodes`.
    pub owners: &'a [u16],
    /// The replication factor it was balanced for.
    pub rf: u32,
}

/// Why there is no placement. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("{nodes} nodes with weight cannot each own one of {partitions} partitions; double the partitions first")]
    TooFewPartitions { nodes: usize, partitions: u32 },
}

/// The owner of each partition, an index into `nodes`; empty if no node has weight. `rf` is the replication factor whose
/// loads are balanced. An old placement of another number of partitions is not compared with.
pub fn place(
    nodes: &[RingNode],
    partitions: Partitions,
    rf: u32,
    old: Option<OldPlacement<'_>>,
) -> Result<Vec<u16>, PlacementError> {
    let mut weighted: Vec<usize> = (0..nodes.len()).filter(|&index| nodes[index].weight > 0).collect();
    weighted.sort_by_key(|&index| nodes[index].id);
    let count = partitions.count() as usize;
    if weighted.is_empty() {
        return Ok(Vec::new());
    }
    if weighted.len() > count || weighted.len() >= usize::from(VACANT) {
        return Err(PlacementError::TooFewPartitions { nodes: weighted.len(), partitions: partitions.count() });
    }
    let sorted: Vec<&RingNode> = weighted.iter().map(|&index| &nodes[index]).collect();
    let (owners, _) = place_sorted(&sorted, count, rf as usize, old.filter(|old| old.owners.len() == count));
    let index_of = |owner: u16| u16::try_from(weighted[usize::from(owner)]).unwrap_or(VACANT);
    Ok(owners.into_iter().map(index_of).collect())
}

/// Owners as indexes into `nodes`, which are sorted by id and all have weight; and how many changes were tried.
fn place_sorted(nodes: &[&RingNode], partitions: usize, rf: usize, old: Option<OldPlacement<'_>>) -> (Vec<u16>, u64) {
    let names: BTreeSet<&str> = nodes.iter().map(|node| node.rack.as_str()).collect();
    let numbers: BTreeMap<&str, u16> = names.into_iter().zip(0..).collect();
    let members: Vec<Member> =
        nodes.iter().map(|node| Member { weight: node.weight, rack: numbers[node.rack.as_str()] }).collect();
    let targets = target::targets(&members, numbers.len(), rf, partitions);
    // With no more nodes than copies everybody holds everything and owners are free: begin anew.
    let old = old.filter(|_| nodes.len() > rf);
    let (mut owners, held) = match old {
        None => (vec![VACANT; partitions], Vec::new()),
        Some(old) => carry_over(nodes, old),
    };
    seed::seed(&mut owners, &members, numbers.len(), &targets, old.is_none());
    let state = State::new(owners, &members, numbers.len(), rf.min(nodes.len()), &targets, held);
    Search::new(state, old.is_none()).run()
}

/// What the old placement leaves to the new nodes: the owners that are still there, and who held each partition. A new
/// node of the same rack and weight takes the tokens of one that has gone.
fn carry_over(nodes: &[&RingNode], old: OldPlacement<'_>) -> (Vec<u16>, Vec<Vec<u16>>) {
    let index_of =
        |id: NodeId| nodes.binary_search_by_key(&id, |node| node.id).ok().and_then(|index| u16::try_from(index).ok());
    let mut heirs: Vec<u16> = old.nodes.iter().map(|node| index_of(node.id).unwrap_or(VACANT)).collect();
    let known: BTreeSet<NodeId> = old.nodes.iter().map(|node| node.id).collect();
    let mut new: Vec<&&RingNode> = nodes.iter().filter(|node| !known.contains(&node.id)).collect();
    let mut gone: Vec<usize> = (0..heirs.len()).filter(|&index| heirs[index] == VACANT).collect();
    gone.sort_by_key(|&index| old.nodes[index].id);
    for index in gone {
        let left = &old.nodes[index];
        if let Some(at) = new.iter().position(|node| node.rack == left.rack && node.weight == left.weight) {
            heirs[index] = index_of(new.remove(at).id).unwrap_or(VACANT);
        }
    }
    let owners = old.owners.iter().map(|&owner| heirs[usize::from(owner)]).collect();
    let racks: Vec<&str> = old.nodes.iter().map(|node| node.rack.as_str()).collect();
    let circle = Circle::new(old.owners.to_vec(), &racks);
    let still_here = |node: u16| index_of(old.nodes[usize::from(node)].id);
    let held = |partition| circle.walk(partition, old.rf as usize).into_iter().filter_map(still_here).collect();
    (owners, (0..old.owners.len()).map(held).collect())
}
