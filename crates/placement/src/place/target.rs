//! What each node should hold: shares in proportion to weights, as far as the racks allow.
//!
//! A node holds a key at most once, so at most Q. With RF copies over R racks the walk takes one node of each rack first:
//! with RF = R each rack is a full copy, with RF < R a rack holds at most Q, with RF > R between Q and (RF − R + 1)·Q.
//! Inside these bounds the level rises like water: every node holds level × weight until it, or its rack, is full.
//! Integers only, so that every node of the cluster computes the same.

/// A node as placement sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) weight: u32,
    pub(super) rack: u16,
}

/// Targets and deviations are partitions in units of 2^-16.
pub(super) const FRACTION: u32 = 16;
/// One partition.
pub(super) const ONE: i64 = 1 << FRACTION;
/// The level is finer, for it is multiplied by weights of up to 2^16.
const LEVEL_FRACTION: u32 = 40;

/// The partitions each member should hold, in units of `ONE`; at least one, for whoever has weight owns something.
pub(super) fn targets(members: &[Member], racks: usize, rf: usize, partitions: usize) -> Vec<i64> {
    let full = (partitions as u128) << LEVEL_FRACTION;
    let of = |rack: usize| members.iter().filter(move |member| usize::from(member.rack) == rack);
    let share = |member: &Member, level: u128| (level * u128::from(member.weight)).min(full);
    let wanted = |rack: usize, level: u128| of(rack).map(|member| share(member, level)).sum::<u128>();
    let least = if rf >= racks { full } else { 0 };
    let most = full * (rf.max(racks) - racks + 1) as u128;
    let allowed =
        |rack: usize, level: u128| wanted(rack, level).clamp(least, most.min(full * of(rack).count() as u128));
    let total = full * rf.min(members.len()) as u128;
    let level = lowest(full, |level| (0..racks).map(|rack| allowed(rack, level)).sum::<u128>() >= total);
    let rack_levels: Vec<u128> =
        (0..racks).map(|rack| lowest(full, |l| wanted(rack, l) >= allowed(rack, level))).collect();
    let target = |member: &Member| {
        let exact = share(member, rack_levels[usize::from(member.rack)]) >> (LEVEL_FRACTION - FRACTION);
        i64::try_from(exact).unwrap_or(i64::MAX).max(ONE)
    };
    members.iter().map(target).collect()
}

/// The lowest level, up to `max`, that is enough.
fn lowest(max: u128, is_enough: impl Fn(u128) -> bool) -> u128 {
    let (mut low, mut high) = (0, max);
    while low < high {
        let middle = (low + high) / 2;
        if is_enough(middle) { high = middle } else { low = middle + 1 }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(members: &[(u32, u16)], racks: usize, rf: usize) -> Vec<i64> {
        let members: Vec<Member> = members.iter().map(|&(weight, rack)| Member { weight, rack }).collect();
        targets(&members, racks, rf, 256).iter().map(|target| (target + ONE / 2) / ONE).collect()
    }

    #[test]
    fn shares_follow_weights_inside_what_racks_allow() {
        // One rack: by weight, but nobody holds a key twice.
        assert_eq!(whole(&[(1, 0), (1, 0), (2, 0)], 1, 1), [64, 64, 128]);
        assert_eq!(whole(&[(1, 0), (1, 0), (8, 0)], 1, 2), [128, 128, 256]);
        // As many racks as copies: each rack is a full copy, a rack of one node holds all.
        assert_eq!(whole(&[(1, 0), (1, 1), (1, 2), (1, 2)], 3, 3), [256, 256, 128, 128]);
        // More racks than copies: a rack holds at most one copy.
        assert_eq!(whole(&[(1, 0), (1, 1), (9, 2)], 3, 2), [128, 128, 256]);
        // More copies than racks: one of each rack, the rest where there is room.
        assert_eq!(whole(&[(1, 0), (1, 1), (1, 1), (1, 1)], 2, 3), [256, 171, 171, 171]);
        // Fewer nodes than copies: everybody holds everything.
        assert_eq!(whole(&[(1, 0), (7, 1)], 2, 3), [256, 256]);
    }
}
