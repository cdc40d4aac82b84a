//! To whom a link leads, and which links a change of who belongs ends. Pure.

use crate::admission::Admission;
use kula_types::{Map, NodeId};
use std::collections::BTreeMap;

/// Where the link of an address leads, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    pub node: Option<NodeId>,
    /// Kept because the node belongs; else somebody dialled it.
    pub member: bool,
}

/// What a new admission asks for.
pub struct Rearranged<'a> {
    /// Addresses whose links go: of a member that left or moved; one that now belongs to somebody else, or is a member's
    /// other name.
    pub gone: Vec<String>,
    /// By address: who is there, and its name. All but this node itself.
    pub wanted: BTreeMap<&'a str, (NodeId, &'a str)>,
}

impl Lead {
    /// To a member, or to whoever answers.
    pub fn to(node: Option<NodeId>) -> Lead {
        Lead { node, member: node.is_some() }
    }
}

impl Admission {
    /// Given the links that `me` keeps, by address.
    pub fn rearranges<'l>(&self, me: NodeId, links: impl Iterator<Item = (&'l String, Lead)>) -> Rearranged<'_> {
        let others = self.members.iter().filter(|(node, _)| **node != me);
        let wanted: BTreeMap<&str, (NodeId, &str)> =
            others.map(|(node, member)| (member.address.as_str(), (*node, member.name.as_str()))).collect();
        let at: Map<NodeId, &str> = wanted.iter().map(|(address, (node, _))| (*node, *address)).collect();
        let is_gone = |(address, lead): &(&String, Lead)| {
            let owner = wanted.get(address.as_str()).map(|(node, _)| *node);
            let other = owner.is_some() && lead.node.is_some() && owner != lead.node;
            let alias = lead.node.and_then(|node| at.get(&node)).is_some_and(|known| known != address);
            other || alias || (lead.member && owner.is_none())
        };
        let gone = links.filter(is_gone).map(|(address, _)| address.clone()).collect();
        Rearranged { gone, wanted }
    }
}

/// Whether `address`, where `node` was found, is another name of a member that has a link of its own.
pub fn is_another_name<'l>(address: &str, node: NodeId, mut links: impl Iterator<Item = (&'l String, Lead)>) -> bool {
    links.any(|(other, lead)| other != address && lead == Lead::to(Some(node)))
}
