//! Property 1: the join laws, for every lattice, also with one key or dot bearing two bodies.

use kula_lattice::{Extent, Join};
use kula_testkit::{lattice, property};
use proptest::prelude::*;
use std::fmt::Debug;

fn join<T: Join + Clone>(left: &T, right: &T) -> T {
    let mut joined = left.clone();
    joined.join(right.clone());
    joined
}

fn obeys<T: Join + Clone + PartialEq + Debug>(a: &T, b: &T, c: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(join(a, b), join(b, a), "commutative");
    prop_assert_eq!(join(a, &join(b, c)), join(&join(a, b), c), "associative");
    prop_assert_eq!(&join(a, a), a, "idempotent");
    let both = join(a, b);
    prop_assert_eq!(&join(&both, a), &both, "absorbs what is in it");
    Ok(())
}

fn three<S: Strategy>(values: impl Fn() -> S) -> (S, S, S) {
    (values(), values(), values())
}

proptest! {
    #![proptest_config(property())]

    // Promise: P5
    #[test]
    fn registers_join((a, b, c) in three(lattice::lww)) {
        obeys(&a, &b, &c)?;
    }

    #[test]
    fn siblings_of_one_dot_join((a, b, c) in lattice::dot().prop_flat_map(|dot| three(move || lattice::live(dot, 2)))) {
        obeys(&a, &b, &c)?;
    }

    #[test]
    fn seen_sets_join((a, b, c) in three(lattice::seen)) {
        obeys(&a, &b, &c)?;
    }

    #[test]
    fn dots_join((a, b, c) in three(lattice::dots)) {
        obeys(&a, &b, &c)?;
        prop_assert_eq!(join(&a, &b).unseen(), None);
    }

    #[test]
    fn range_floors_join((a, b, c) in three(lattice::ranges)) {
        obeys(&a, &b, &c)?;
    }

    #[test]
    fn range_floors_join_pointwise((a, b, at) in (lattice::ranges(), lattice::ranges(), lattice::clustering())) {
        prop_assert_eq!(join(&a, &b).at(&at), a.at(&at).max(b.at(&at)));
    }

    // Promise: P5
    #[test]
    fn cells_join((a, b, c) in three(lattice::cell)) {
        obeys(&a, &b, &c)?;
    }

    // Promise: P5
    #[test]
    fn rows_join((a, b, c) in three(lattice::row)) {
        obeys(&a, &b, &c)?;
    }

    // Promise: P5
    #[test]
    fn partitions_join((a, b, c) in three(lattice::partition)) {
        obeys(&a, &b, &c)?;
    }

    #[test]
    fn extents_join((a, b, c) in three(lattice::partition)) {
        let [a, b, c]: [Extent; 3] = [&a, &b, &c].map(|partition| partition.extent());
        obeys(&a, &b, &c)?;
    }

    /// The extent of a join may be smaller than the join of extents (values lose), never larger.
    #[test]
    fn an_extent_covers_what_was_joined((a, b) in (lattice::partition(), lattice::partition())) {
        let (whole, parts) = (join(&a, &b).extent(), join(&a.extent(), &b.extent()));
        prop_assert_eq!(join(&whole, &parts), parts);
    }

    // Promise: P5
    /// Three replicas, each with some of the deltas of one history, in any order.
    #[test]
    fn deltas_join_in_any_order(history in lattice::history(12), order in any::<u64>()) {
        let mut random = kula_testkit::Random::new(order);
        let mut deltas: Vec<_> = history.deltas().cloned().collect();
        for at in (1..deltas.len()).rev() {
            deltas.swap(at, random.below(at + 1));
        }
        let mut joined = kula_lattice::Partition::default();
        for delta in deltas {
            joined.join(delta.clone());
            joined.join(delta);
        }
        prop_assert_eq!(joined, history.whole());
    }
}
