//! Property 7: delta join = full-state join; clipped slices join to the whole.

use kula_lattice::{Join, Partition, Seal, Slice};
use kula_testkit::{
    Random,
    lattice::{clustering, history, partition, slice, timestamp},
    property,
};
use proptest::prelude::*;
use std::ops::Bound;

proptest! {
    #![proptest_config(property())]

    /// One replica is sent only deltas, the other the full state after each; with a third that misses half of both.
    #[test]
    fn deltas_carry_as_much_as_full_states(history in history(12), seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let (mut origin, mut by_delta, mut by_state) =
            (Partition::default(), Partition::default(), Partition::default());
        let mut missed = Vec::new();
        for delta in history.deltas() {
            origin.join(delta.clone());
            if random.percent(50) {
                by_delta.join(delta.clone());
                by_state.join(origin.clone());
            } else {
                missed.push(delta.clone());
            }
        }
        for delta in missed {
            by_delta.join(delta.clone());
            by_state.join(delta);
        }
        prop_assert_eq!(&by_delta, &origin);
        prop_assert_eq!(&by_state, &origin);
    }

    #[test]
    fn slices_that_cover_a_partition_join_to_it(partition in partition(), cuts in prop::collection::vec(clustering(), 0..3)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut joined = Partition::default();
        let mut from = Bound::Unbounded;
        for cut in cuts {
            joined.join(partition.clone().clip(&Slice { from, to: Bound::Excluded(cut.clone()) }));
            from = Bound::Included(cut);
        }
        joined.join(partition.clone().clip(&Slice { from, to: Bound::Unbounded }));
        prop_assert_eq!(joined, partition);
    }

    #[test]
    fn a_clip_is_part_of_the_whole_and_answers_for_its_slice(
        partition in partition(), slice in slice(), now in timestamp(), at in clustering(),
    ) {
        let clip = partition.clone().clip(&slice);
        let mut joined = partition.clone();
        joined.join(clip.clone());
        prop_assert_eq!(&joined, &partition);
        let mut expected = partition.view(now, None);
        expected.rows.retain(|(clustering, _)| slice.contains(clustering));
        prop_assert_eq!(clip.view(now, None), expected);
        let floor = partition.ranges.at(&at).filter(|_| slice.contains(&at));
        prop_assert_eq!(clip.ranges.at(&at), floor);
        prop_assert_eq!(clip.clone().clip(&slice), clip);
    }

    /// Reads of a slice compare digests: two replicas whose slices hold the same agree.
    #[test]
    fn clipping_twice_or_after_a_join_is_the_same(left in partition(), right in partition(), slice in slice()) {
        let mut joined_then_clipped = left.clone();
        joined_then_clipped.join(right.clone());
        let joined_then_clipped = joined_then_clipped.clip(&slice);
        let mut clipped_then_joined = left.clip(&slice);
        clipped_then_joined.join(right.clip(&slice));
        prop_assert_eq!(clipped_then_joined.digest(None, Seal::NONE), joined_then_clipped.digest(None, Seal::NONE));
        prop_assert_eq!(clipped_then_joined, joined_then_clipped);
    }
}
