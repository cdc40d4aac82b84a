//! Where a search begins: tokens dealt out in turn, racks first and then the nodes of a rack, in proportion to what they
//! should own (smooth weighted round robin, as nginx balances upstreams).
//!
//! From scratch every partition is dealt. Otherwise only a rack with less than an eighth of its tokens takes its evenly
//! spread ones at once (a new rack); everything else keeps its owner and is left to the search.

use super::target::{FRACTION, Member};
use crate::walk::VACANT;

pub(super) fn seed(owners: &mut [u16], members: &[Member], racks: usize, targets: &[i64], fresh: bool) {
    let rack_of = |node: usize| usize::from(members[node].rack);
    // Every node's tokens bring in RF holders, so tokens are shared out as targets are.
    let mut rack_share = vec![0i64; racks];
    for (node, target) in targets.iter().enumerate() {
        rack_share[rack_of(node)] += target;
    }
    let total: i64 = rack_share.iter().sum();
    let mut owned = vec![0i64; racks];
    for &owner in owners.iter().filter(|owner| **owner != VACANT) {
        owned[rack_of(usize::from(owner))] += 1;
    }
    // owned < tokens / 8, where tokens = partitions × share / total.
    let is_low = |rack: usize| {
        let fair = rack_share[rack] as i128 * owners.len() as i128;
        (owned[rack] as i128 * 8) * (total as i128) < fair
    };
    let is_dealt: Vec<bool> = (0..racks).map(|rack| fresh || is_low(rack)).collect();
    if !is_dealt.contains(&true) {
        return;
    }
    let (mut rack_turn, mut node_turn) = (vec![0i64; racks], vec![0i64; members.len()]);
    for owner in owners.iter_mut() {
        let rack = next(&mut rack_turn, &rack_share, total, |_| true);
        if is_dealt[rack] {
            let node = next(&mut node_turn, targets, rack_share[rack], |node| rack_of(node) == rack);
            *owner = u16::try_from(node).unwrap_or(VACANT);
        }
    }
}

/// Whose turn it is: each gains its share, the one with the most (then the first) is taken and gives back the total.
fn next(turns: &mut [i64], shares: &[i64], total: i64, takes_part: impl Fn(usize) -> bool) -> usize {
    let mut first = None;
    for index in 0..turns.len() {
        if takes_part(index) {
            turns[index] += shares[index];
            if first.is_none_or(|first: usize| turns[index] > turns[first]) {
                first = Some(index);
            }
        }
    }
    let Some(first) = first else { panic!("a rack has nodes, and a ring has racks") };
    turns[first] -= total;
    first
}

const _: () = assert!(FRACTION < 32, "a sum of 1,024 targets of 2^16 partitions fits 63 bits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_dealt_in_proportion_and_spread_evenly() {
        let members = [(1, 0), (2, 0), (1, 1)].map(|(weight, rack)| Member { weight, rack });
        let mut owners = [VACANT; 16];
        seed(&mut owners, &members, 2, &[1 << 16, 2 << 16, 1 << 16], true);
        let count = |node| owners.iter().filter(|owner| **owner == node).count();
        assert_eq!([count(0), count(1), count(2)], [4, 8, 4]);
        // One period of the round robin, four times.
        assert!(owners.chunks(4).all(|period| period == &owners[..4]), "{owners:?}");
    }

    #[test]
    fn only_a_rack_without_its_tokens_takes_some_from_an_old_ring() {
        let members = [(1, 0), (1, 1)].map(|(weight, rack)| Member { weight, rack });
        let mut owners = [0u16; 16];
        seed(&mut owners, &members, 2, &[1 << 16, 1 << 16], false);
        assert_eq!(owners.iter().filter(|owner| **owner == 1).count(), 8);
        let settled = owners;
        seed(&mut owners, &members, 2, &[1 << 16, 1 << 16], false);
        assert_eq!(owners, settled);
    }
}
