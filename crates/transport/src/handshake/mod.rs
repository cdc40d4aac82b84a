//! The handshake: who may speak. Pure; both sides judge by the same rules, and each refusal has a name.
//!
//! The order of the rules matters to people: a node of another cluster is told that, not that its address is taken.

#[cfg(test)]
mod judgements;

use crate::{
    admission::{Admission, Myself},
    roster::{Roster, Taken},
};
use kula_clock::Told;
use kula_types::{NodeId, Timestamp};
use kula_wire::{
    PROTOCOL_MAX, PROTOCOL_MIN,
    verbs::link::{Hello, Introduction, Refusal, Welcome},
};

/// What a node judges by.
pub struct World<'a> {
    pub me: &'a Myself,
    pub admission: &'a Admission,
    pub roster: &'a mut Roster,
    /// What members think of our own directory.
    pub told: &'a Told,
}

impl World<'_> {
    /// A peer refuses us.
    pub fn heard_refusal(&mut self, refusal: &Refusal) {
        if matches!(refusal, Refusal::WentBack { node, .. } if *node == self.me.node) {
            self.told.refused();
        }
    }

    /// A peer pinged.
    pub fn heard_lease(&mut self, node: NodeId, leased: Timestamp) {
        if self.admission.members.contains_key(&node) {
            self.roster.heard_lease(node, leased);
        }
    }
}

/// The first words of the side that connected.
pub fn hello(me: &Myself, admission: &Admission) -> Hello {
    Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, introduction: me.introduction(admission) }
}

/// Judges the side that connected. On `Ok` its seat on the roster is taken.
pub fn judge_hello(world: &mut World, hello: &Hello) -> Result<Welcome, Refusal> {
    let protocol = settle((PROTOCOL_MIN, PROTOCOL_MAX), (hello.protocol_min, hello.protocol_max))?;
    judge(world, &hello.introduction)?;
    Ok(Welcome { protocol, introduction: world.me.introduction(world.admission) })
}

/// The highest version that both ranges have.
fn settle(ours: (u8, u8), theirs: (u8, u8)) -> Result<u8, Refusal> {
    match theirs {
        (0, _) => Err(Refusal::Malformed),
        (min, max) if min > max => Err(Refusal::Malformed),
        (_, max) if max < ours.0 => Err(Refusal::ProtocolTooOld { ours: ours.0, theirs: max }),
        (min, _) if min > ours.1 => Err(Refusal::ProtocolTooNew { ours: ours.1, theirs: min }),
        (_, max) => Ok(max.min(ours.1)),
    }
}

/// It welcomed us. Judges the side that was reached at `address`, where `expected` should be if it is said. On `Ok` its seat is taken.
pub fn judge_welcome(
    world: &mut World,
    address: &str,
    expected: Option<NodeId>,
    welcome: &Welcome,
) -> Result<(), Refusal> {
    if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&welcome.protocol) {
        return Err(Refusal::Malformed);
    }
    let found = welcome.introduction.node;
    match expected {
        Some(expected) if expected != found => {
            Err(Refusal::AnotherNode { address: address.to_owned(), expected, found })
        }
        _ => {
            judge(world, &welcome.introduction)?;
            if world.admission.members.contains_key(&found) {
                world.told.welcomed();
            }
            Ok(())
        }
    }
}

fn judge(world: &mut World, they: &Introduction) -> Result<(), Refusal> {
    let World { me, admission, roster, .. } = world;
    if !they.is_sound() {
        return Err(Refusal::Malformed);
    }
    if they.cluster_name != me.cluster_name {
        return Err(Refusal::OtherCluster { ours: me.cluster_name.clone(), theirs: they.cluster_name.clone() });
    }
    if let (Some(ours), Some(theirs)) = (admission.cluster, they.cluster)
        && ours != theirs
    {
        return Err(Refusal::OtherClusterId { name: me.cluster_name.clone(), ours, theirs });
    }
    let node = they.node;
    if node == me.node {
        let itself = they.boot == me.boot;
        let copy = Refusal::SameNodeIdOtherBoot { node, address: me.address.clone() };
        return Err(if itself { Refusal::Yourself } else { copy });
    }
    let member = admission.members.get(&node);
    if member.and_then(|member| member.life).is_some_and(|life| life != they.life) {
        return Err(Refusal::LifeChanged { node });
    }
    if member.is_none()
        && let Some(owner) = admission.members.values().find(|member| member.address == they.address)
    {
        let (address, member) = (they.address.clone(), owner.name.clone());
        return Err(Refusal::StrangerAtMembersAddress { address, member });
    }
    roster.has_room(node, they.boot).map_err(|Taken { address }| Refusal::SameNodeIdOtherBoot { node, address })?;
    // Behind the seat: the last words of a process that is gone found less than what the one that sits there has said.
    if member.is_some()
        && let Some(behind) = roster.went_back(node, they.boot, they.lease_found)
    {
        let known = they.lease_found.filter(|found| *found != Timestamp::MIN);
        let behind_ms = known.map(|_| u64::try_from(behind.as_millis()).unwrap_or(u64::MAX).max(1));
        return Err(Refusal::WentBack { node, behind_ms });
    }
    roster.enter(node, they.boot, &they.address);
    Ok(())
}
