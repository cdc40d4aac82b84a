//! The three laws that everything else rests on.

use kula_types::Key;

/// A join-semilattice: states that can be merged in any order, any number of times (Shapiro et al., "Conflict-free
/// Replicated Data Types", 2011).
///
/// - commutative: `a ∨ b = b ∨ a`
/// - associative: `a ∨ (b ∨ c) = (a ∨ b) ∨ c`
/// - idempotent: `a ∨ a = a`
///
/// They hold for every pair of values of the type, also for values that no correct node would make (one key or one dot
/// bearing two bodies), provided the type's own invariant holds (`Dots`: live ⊆ seen). No join looks at a schema, a
/// clock or anything local. `Default`, where there is one, is the bottom: `a ∨ ⊥ = a`.
pub trait Join {
    fn join(&mut self, other: Self);
}

/// ⊥ is `None`.
impl<T: Join> Join for Option<T> {
    fn join(&mut self, other: Self) {
        match (self.as_mut(), other) {
            (_, None) => {}
            (Some(mine), Some(theirs)) => mine.join(theirs),
            (None, theirs) => *self = theirs,
        }
    }
}

impl<T: Join> Join for Box<T> {
    fn join(&mut self, other: Self) {
        (**self).join(*other);
    }
}

/// A floor (F): the higher wins.
impl Join for Key {
    fn join(&mut self, other: Self) {
        if other > *self {
            *self = other;
        }
    }
}
