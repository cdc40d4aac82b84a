//! A stretch of a partition in clustering order, as reads and repairs ask for it.

use kula_types::ClusteringKey;
use std::ops::Bound;

/// Rows between two bounds. The static row and the partition's own floor always belong to a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    pub from: Bound<ClusteringKey>,
    pub to: Bound<ClusteringKey>,
}

impl Slice {
    /// The whole partition.
    pub const fn all() -> Self {
        Slice { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// One row.
    pub fn row(clustering: ClusteringKey) -> Self {
        Slice { from: Bound::Included(clustering.clone()), to: Bound::Included(clustering) }
    }

    pub fn is_all(&self) -> bool {
        matches!((&self.from, &self.to), (Bound::Unbounded, Bound::Unbounded))
    }

    pub fn contains(&self, clustering: &ClusteringKey) -> bool {
        let after_start = match &self.from {
            Bound::Unbounded => true,
            Bound::Included(from) => from <= clustering,
            Bound::Excluded(from) => from < clustering,
        };
        let before_end = match &self.to {
            Bound::Unbounded => true,
            Bound::Included(to) => clustering <= to,
            Bound::Excluded(to) => clustering < to,
        };
        after_start && before_end
    }
}
