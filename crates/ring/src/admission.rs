//! Whom the ring in force admits: what transport must know of it. Pure.

use kula_gossip::PeerView;
use kula_placement::Ring;
use kula_transport::{Admission, Member};
use kula_types::{Map, NodeId};
use std::collections::BTreeMap;

/// The ring's members, with the lives that gossip knows; before a ring, everybody who was heard of.
pub fn admission(ring: &Ring, known: &BTreeMap<NodeId, PeerView>) -> Admission {
    if ring.version == 0 {
        let everybody = known.iter().map(|(id, view)| {
            let said = &view.introduction;
            (*id, Member { name: said.name.clone(), address: said.address.clone(), life: Some(said.life) })
        });
        return Admission { cluster: None, ring_version: 0, members: everybody.collect() };
    }
    let members: Map<NodeId, Member> = ring
        .nodes
        .iter()
        .map(|node| {
            let life = known.get(&node.id).map(|view| view.introduction.life);
            (node.id, Member { name: node.name.clone(), address: node.address.clone(), life })
        })
        .collect();
    Admission { cluster: Some(ring.cluster), ring_version: ring.version, members }
}
