//! What a replica lacks of a join, and the mutation that brings it.
//!
//! Whole rows, with every floor above them: a reader of the repaired replica must never see a row that mixes a part
//! that was sent with a part that was not (promise P5). The delta is an ordinary one; joining it twice is harmless.

use crate::{mint::Minter, plan::Plan};
use bytes::Bytes;
use kula_fault::{Mutant, planted};
use kula_lattice::{Mutation, Partition, SortedMap};

/// The part of `joined` that is news to a replica that holds `theirs`; `None` if there is none. Both in normal form.
pub(super) fn lacking(joined: &Partition, theirs: &Partition) -> Option<Partition> {
    let mut rows = SortedMap::new();
    for (clustering, row) in joined.rows.iter().filter(|(clustering, row)| theirs.rows.get(clustering) != Some(row)) {
        let mut row = row.clone();
        if planted(Mutant::RepairOfOneColumn) {
            let first = row.cells.keys().next().map(|id| id.column);
            row.cells.retain(|id, _| Some(id.column) == first);
        }
        rows.insert(clustering.clone(), row);
    }
    let delta = Partition {
        floor: joined.floor.filter(|floor| Some(*floor) > theirs.floor),
        statics: joined.statics.clone().filter(|_| joined.statics != theirs.statics),
        ranges: if joined.ranges == theirs.ranges { Default::default() } else { joined.ranges.clone() },
        rows,
    };
    (!delta.is_empty()).then_some(delta)
}

/// The record's own id is fresh; what it brings keeps the keys and dots it was minted with.
pub(super) fn mutation(minter: &mut Minter, plan: &Plan, delta: Partition) -> Bytes {
    let (mid, previous) = minter.mint_repair();
    Mutation { table: plan.table.id, token: plan.token, key: plan.key.clone(), mid, previous, delta }.encode()
}
