//! The handshake: who may speak. Pure; both sides judge by the same rules, and each refusal has a name.
//!
//! The order of the rules matters to people: a node of another cluster is told that, not that its address is taken.

use crate::{
    admission::{Admission, Myself},
    roster::Roster,
};
use kula_types::NodeId;
use kula_wire::{
    PROTOCOL_MAX, PROTOCOL_MIN,
    verbs::link::{Hello, Introduction, Refusal, Welcome},
};

/// What a node judges by.
pub(crate) struct World<'a> {
    pub me: &'a Myself,
    pub admission: &'a Admission,
    pub roster: &'a mut Roster,
}

/// The first words of the side that connected.
pub(crate) fn hello(me: &Myself, admission: &Admission) -> Hello {
    Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, introduction: me.introduction(admission) }
}

/// Judges the side that connected. On `Ok` its seat on the roster is taken.
pub(crate) fn judge_hello(world: &mut World, hello: &Hello) -> Result<Welcome, Refusal> {
    if hello.protocol_min > hello.protocol_max || hello.protocol_min == 0 {
        return Err(Refusal::Malformed);
    }
    if hello.protocol_max < PROTOCOL_MIN {
        return Err(Refusal::ProtocolTooOld { ours: PROTOCOL_MIN, theirs: hello.protocol_max });
    }
    if hello.protocol_min > PROTOCOL_MAX {
        return Err(Refusal::ProtocolTooNew { ours: PROTOCOL_MAX, theirs: hello.protocol_min });
    }
    judge(world, &hello.introduction)?;
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    Ok(Welcome { protocol, introduction: world.me.introduction(world.admission) })
}

/// Judges the side that was reached at `address`, where `expected` should be if it is said. On `Ok` its seat is taken.
pub(crate) fn judge_welcome(
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
        _ => judge(world, &welcome.introduction),
    }
}

fn judge(world: &mut World, they: &Introduction) -> Result<(), Refusal> {
    let World { me, admission, roster } = world;
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
    match admission.members.get(&node) {
        Some(member) if member.life.is_some_and(|life| life != they.life) => return Err(Refusal::LifeChanged { node }),
        Some(_) => {}
        None => {
            let owner = admission.members.iter().find(|(_, member)| member.address == they.address);
            if let Some((_, member)) = owner {
                let (address, member) = (they.address.clone(), member.name.clone());
                return Err(Refusal::StrangerAtMembersAddress { address, member });
            }
        }
    }
    let entered = roster.enter(node, they.boot, &they.address);
    entered.map_err(|taken| Refusal::SameNodeIdOtherBoot { node, address: taken.address })
}
