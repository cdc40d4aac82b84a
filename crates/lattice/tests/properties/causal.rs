//! Property 5: a causal put kills exactly its context, the seen L and the LWW values that lose to it.

use bytes::Bytes;
use kula_lattice::{Cell, CellView, Context, Join, NewSibling, OpId, Seen, SortedMap};
use kula_testkit::{lattice, property};
use kula_types::{Actor, Dot, Timestamp};
use proptest::prelude::*;

/// Above every generated dot of its actor.
fn fresh() -> (Dot, u64) {
    (Dot::new(Actor(2), 0, 1000).expect("a dot"), 999)
}

fn live(cell: &Cell) -> Vec<Dot> {
    cell.dots.iter().flat_map(|dots| dots.live.keys().copied()).collect()
}

/// A cell that coordinators could have made: chained dots, whose intervals hold no other dot.
fn cell() -> impl Strategy<Value = Cell> {
    lattice::cell().prop_map(|mut cell| {
        if let Some(dots) = &mut cell.dots {
            dots.live.retain(|dot, _| *dot < fresh().0 || dot.actor() != fresh().0.actor());
            dots.seen = Seen::new();
            let mut below: Option<Dot> = None;
            for (dot, live) in dots.live.iter_mut() {
                let floor = below.filter(|below| below.actor() == dot.actor()).map_or(0, Dot::seq);
                live.prev = live.prev.max(floor);
                dots.seen.insert(*dot, live.prev);
                below = Some(*dot);
            }
        }
        cell
    })
}

fn names(context: &Context, dot: Dot) -> bool {
    context.dots.iter().any(|(named, _)| *named == dot)
}

fn value(hlc: Timestamp) -> NewSibling {
    NewSibling { hlc, op_id: None, exp: None, body: Bytes::from_static(b"new") }
}

proptest! {
    #![proptest_config(property())]

    // Promise: P2
    #[test]
    fn a_causal_put_kills_exactly_what_its_context_names(
        before in cell(), now in lattice::timestamp(), shown in 0usize..4, hlc in lattice::timestamp(),
        saw_value in any::<bool>(), other in lattice::key(),
    ) {
        let view = before.view(now, None);
        let mut context = view.context(shown);
        context.lww = context.lww.filter(|_| saw_value);
        let (dot, prev) = fresh();
        let mut after = before.clone();
        after.join(Cell::causal_put(&context, dot, prev, value(hlc)));

        let mut expected: Vec<Dot> = live(&before).into_iter().filter(|dot| !names(&context, *dot)).collect();
        expected.push(dot);
        expected.sort_unstable();
        prop_assert_eq!(live(&after), expected);
        // The register's value stays as a fact; the floor at the seen key hides it and all that lose to it.
        prop_assert_eq!(&after.lww, &before.lww);
        prop_assert_eq!(after.floor, before.floor.max(context.lww));
        prop_assert_eq!(after.view(now, None).lww.is_some(), view.lww.is_some() && context.lww.is_none());
        // Whatever other value arrives later lives iff it beats what was seen.
        let mut later = Cell { lww: None, ..after.clone() };
        later.join(Cell::put(other, None, Bytes::new()));
        prop_assert_eq!(later.view(now, None).lww.is_some(), Some(other) > before.floor.max(context.lww));
        let CellView { siblings, .. } = after.view(now, None);
        prop_assert!(siblings.iter().any(|sibling| sibling.dot == dot));
    }

    #[test]
    fn a_causal_delete_is_a_put_without_its_sibling(
        before in cell(), now in lattice::timestamp(), shown in 0usize..4,
    ) {
        let context = before.view(now, None).context(shown);
        let (dot, prev) = fresh();
        let (mut put, mut deleted) = (before.clone(), before);
        put.join(Cell::causal_put(&context, dot, prev, value(Timestamp::MAX)));
        deleted.join(Cell::causal_delete(&context, dot, prev));
        let survivors: Vec<Dot> = live(&put).into_iter().filter(|survivor| *survivor != dot).collect();
        prop_assert_eq!(live(&deleted), survivors);
        let seen = |cell: &Cell| cell.dots.as_ref().map(|dots| dots.seen.clone());
        prop_assert_eq!(seen(&deleted), seen(&put));
        // Delivered after its own delete, a put stays dead.
        let mut late = deleted.clone();
        late.join(Cell::causal_put(&context, dot, prev, value(Timestamp::MAX)));
        prop_assert_eq!(live(&late), live(&deleted));
    }

    /// The context of an answer covers what the answer stands for, and nothing a reader was not shown.
    #[test]
    fn a_context_covers_the_shown_their_twins_and_stubs(cell in cell(), now in lattice::timestamp()) {
        let view = cell.view(now, None);
        let whole: SortedMap<Dot, u64> = view.context(usize::MAX).dots.into_iter().collect();
        let expected: SortedMap<Dot, u64> = view.covers.iter().chain(&view.stubs).copied().collect();
        prop_assert_eq!(&whole, &expected);
        prop_assert_eq!(whole.len(), view.covers.len() + view.stubs.len());
        // No floor covers these siblings, so each live dot is either shown (or a twin) or expired.
        prop_assert_eq!(whole.keys().copied().collect::<Vec<_>>(), live(&cell));
        prop_assert!(view.siblings.is_sorted_by(|left, right| left.dot < right.dot));
        prop_assert!(view.siblings.iter().all(|one| one.twins.iter().all(|(twin, _)| *twin < one.dot)));
    }
}

// Promise: R35
#[test]
fn one_operation_retried_through_two_coordinators_is_one_sibling() {
    let dot = |actor| Dot::new(Actor(actor), 0, 1).expect("a dot");
    let put = |actor, op_id| {
        let value = NewSibling { op_id, ..value(Timestamp::MIN) };
        Cell::causal_put(&Context::default(), dot(actor), 0, value)
    };
    let mut cell = put(1, Some(OpId([7; 16])));
    for (actor, op_id) in [(2, None), (3, Some(OpId([7; 16]))), (4, None)] {
        cell.join(put(actor, op_id));
    }
    let view = cell.view(Timestamp::MIN, None);
    assert_eq!(view.siblings.iter().map(|sibling| sibling.dot).collect::<Vec<_>>(), [dot(2), dot(3), dot(4)]);
    assert_eq!(view.siblings[1].twins, [(dot(1), 0)]);
    assert_eq!(view.covers.len(), 4);
    // An answer that shows only the first two stands for three dots.
    assert_eq!(view.context(2).dots, [(dot(2), 0), (dot(3), 0), (dot(1), 0)]);
}
