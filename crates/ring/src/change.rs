//! What members may agree to change, and the ring that a change makes. Pure.
//!
//! A change is applied to the ring in force whenever it is about to be proposed, never to an older one: so it is valid
//! on top of whatever others committed first. What would move data is refused by name.

use crate::RingError;
use kula_placement::{KeyspaceSettings, Ring, RingFacts, RingNode};
use kula_types::{Name, NodeId};

/// A change of what the members agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingChange {
    /// Gives a new keyspace its settings. `instead_of`: what the ring held under this name when it was decided that there
    /// is no such keyspace, left over from one that was dropped; whoever finds something else there was too late.
    CreateKeyspace { name: Name, settings: KeyspaceSettings, instead_of: Option<KeyspaceSettings> },
    /// Sets how a keyspace is replicated, whether or not it had settings before.
    SetKeyspace { name: Name, settings: KeyspaceSettings },
    /// Forgets a keyspace's settings, if there are any.
    DropKeyspace { name: Name },
    /// A member's name and address, as it says itself.
    MyFacts { node: NodeId, name: String, address: String },
}

impl RingChange {
    /// The next ring; `None` if it is so already.
    pub(crate) fn apply(&self, ring: &Ring) -> Result<Option<Ring>, RingError> {
        let mut keyspaces = ring.keyspaces.clone();
        match self {
            RingChange::CreateKeyspace { name, settings, instead_of } => {
                let found = keyspaces.insert(name.clone(), settings.clone());
                if found != *instead_of && found.as_ref() != Some(settings) {
                    return Err(RingError::KeyspaceDiffers { keyspace: name.clone() });
                }
            }
            RingChange::SetKeyspace { name, settings } => {
                if let Some(present) = keyspaces.insert(name.clone(), settings.clone()) {
                    check_alteration(ring, name, &present, settings)?;
                }
            }
            RingChange::DropKeyspace { name } => keyspaces.retain(|known, _| known != name),
            RingChange::MyFacts { node, name, address } => return with_facts(ring, *node, name, address),
        }
        if keyspaces == ring.keyspaces {
            return Ok(None);
        }
        Ok(Some(Ring::new(RingFacts { version: ring.version + 1, keyspaces, ..ring.facts().clone() })?))
    }
}

/// More copies, or copies that count otherwise, would have to be made first.
fn check_alteration(
    ring: &Ring,
    name: &Name,
    present: &KeyspaceSettings,
    settings: &KeyspaceSettings,
) -> Result<(), RingError> {
    let (before, after) = (ring.rf_effective(present), ring.rf_effective(settings));
    // What is no factor at all is refused as such.
    if settings.check().is_ok() && before != after {
        let what = format!("another number of copies for keyspace {name} ({after} instead of {before})");
        return Err(RingError::MovesData { what });
    }
    if present.mode != settings.mode {
        let what = format!("mode {} instead of {} for keyspace {name}", settings.mode, present.mode);
        return Err(RingError::MovesData { what });
    }
    Ok(())
}

fn with_facts(ring: &Ring, node: NodeId, name: &str, address: &str) -> Result<Option<Ring>, RingError> {
    let mut nodes = ring.nodes.clone();
    let Some(member) = nodes.iter_mut().find(|member| member.id == node) else {
        return Err(RingError::MovesData { what: format!("adding node {name}") });
    };
    if member.name == name && member.address == address {
        return Ok(None);
    }
    (member.name, member.address) = (name.to_owned(), address.to_owned());
    Ok(Some(ring.with_nodes(nodes)?))
}

/// What of a member's configuration its ring cannot follow: its place and its weight decide where data lies.
pub(crate) fn moving_difference(ring: &Ring, me: &RingNode) -> Option<RingError> {
    let member = ring.node(me.id)?;
    let texts = [("data centre", &member.dc, &me.dc), ("rack", &member.rack, &me.rack)];
    let text = texts.into_iter().find(|(_, known, configured)| known != configured);
    let what = match text {
        Some((what, known, configured)) => format!("{what} {configured:?} instead of {known:?} for node {}", me.name),
        None if member.weight != me.weight => {
            format!("weight {} instead of {} for node {}", me.weight, member.weight, me.name)
        }
        None => return None,
    };
    Some(RingError::MovesData { what })
}
