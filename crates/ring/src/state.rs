//! `ring.state` and how a node comes by its ring at the start: the one it has, ring 1 alone, or ring 0 to wait for one.
//!
//! Safe because the file is replaced whole and before anybody is told: after a crash there is the old ring or the new
//! one. A directory that already belongs to a cluster never gets a ring of its own making: a node that lost its ring must
//! not invent another one over its data.

use crate::{RingError, ballots};
use bytes::Bytes;
use kula_disk::{
    Disk,
    atomic::{self, Format},
};
use kula_fault::{Mutant, planted};
use kula_placement::{
    KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, Secret, form::RingForm, limits,
};
use kula_types::{ClusterId, Name};

pub(crate) const FILE: &str = "ring.state";
const FORMAT: Format = Format { magic: *b"KULARING", version: 1 };
/// The keyspace that every cluster has from the start.
const BUILT_IN: &str = "kv";

/// What a node knows of itself and of its cluster before it has a ring.
#[derive(Clone, Debug)]
pub struct Opening {
    pub me: RingNode,
    /// `cluster` of the configuration.
    pub cluster_name: String,
    pub partitioner: Partitioner,
    /// The cluster that this directory's identity is bound to; `None` in a new directory, and after a crash between
    /// the first ring and the binding.
    pub bound: Option<ClusterId>,
    /// Whether other nodes are named from which a ring may be heard. Without them a node forms ring 1 alone.
    pub seeds: bool,
    /// Used only if ring 1 is formed.
    pub drawn: Drawn,
}

/// The random numbers of a new cluster. Drawn by the caller (`ring::draw`), so that a simulation can choose them.
#[derive(Clone, Debug)]
pub struct Drawn {
    pub cluster: ClusterId,
    pub context_secret: Secret,
}

/// The ring in this directory; if there is none, ring 1 alone, or ring 0 where there are seeds. It is durable when this
/// returns (ring 0 is nothing to keep). When the schema is there too, the caller binds the directory's identity to
/// `Ring::cluster`, unless that is ring 0.
///
/// A sole member whose name, address, rack or weight was configured anew is its ring's majority: that makes the next
/// version at once. A member of several asks the others, later.
pub fn open(disk: &dyn Disk, opening: Opening) -> Result<Ring, RingError> {
    let Some(ring) = load(disk)? else {
        if let Some(cluster) = opening.bound {
            return Err(RingError::Missing { cluster });
        }
        let Opening { me, cluster_name, partitioner, drawn, seeds, .. } = opening;
        if seeds {
            return Ok(Ring::none(cluster_name, partitioner));
        }
        let ring = first(cluster_name, partitioner, drawn, vec![me])?;
        store(disk, &ring)?;
        return Ok(ring);
    };
    check(&ring, &opening)?;
    // Promises that cannot be read are an error of the start, not of the first vote.
    ballots::load(disk, ring.version)?;
    if ring.nodes.len() > 1 || ring.node(opening.me.id) == Some(&opening.me) {
        return Ok(ring);
    }
    let next = ring.with_nodes(vec![opening.me])?;
    store(disk, &next)?;
    Ok(next)
}

/// Ring 1 with these members and the keyspace that every cluster has from the start.
pub(crate) fn first(
    cluster_name: String,
    partitioner: Partitioner,
    drawn: Drawn,
    nodes: Vec<RingNode>,
) -> Result<Ring, RingError> {
    let key = RingContextKey { id: 1, secret: drawn.context_secret, retired: None };
    let ring = Ring::first(drawn.cluster, cluster_name, partitioner, limits::PARTITIONS_DEFAULT, nodes, key)?;
    let mut facts: RingFacts = ring.facts().clone();
    let built_in: Name = match BUILT_IN.parse() {
        Ok(name) => name,
        Err(error) => panic!("{BUILT_IN}: {error}"),
    };
    facts.keyspaces.insert(built_in, KeyspaceSettings::default());
    Ok(Ring::new(facts)?)
}

fn check(ring: &Ring, opening: &Opening) -> Result<(), RingError> {
    if ring.name != opening.cluster_name {
        return Err(RingError::OtherName { found: ring.name.clone(), configured: opening.cluster_name.clone() });
    }
    if let Some(bound) = opening.bound.filter(|bound| *bound != ring.cluster) {
        return Err(RingError::OtherCluster { found: ring.cluster, bound });
    }
    if ring.node(opening.me.id).is_none() {
        let members = ring.nodes.iter().map(|node| node.id).collect();
        return Err(RingError::NotAMember { me: opening.me.id, members });
    }
    if ring.partitioner != opening.partitioner {
        let (found, configured) = (ring.partitioner, opening.partitioner);
        return Err(RingError::OtherPartitioner { found, configured });
    }
    Ok(())
}

fn load(disk: &dyn Disk) -> Result<Option<Ring>, RingError> {
    let Some(bytes) = atomic::read_atomic(disk, FILE, FORMAT)? else { return Ok(None) };
    from_bytes(&bytes).map(Some)
}

/// Makes a ring durable. On an error the old ring or the new one is there, whole.
pub fn store(disk: &dyn Disk, ring: &Ring) -> Result<(), RingError> {
    assert!(!ring.is_none(), "ring 0 is the lack of a ring");
    if planted(Mutant::RingNotStored) {
        return Ok(());
    }
    Ok(atomic::write_atomic(disk, FILE, FORMAT, &to_bytes(ring)?)?)
}

/// The stored form, which is also what members vote on and send each other: one ring has one form.
pub(crate) fn to_bytes(ring: &Ring) -> Result<Bytes, RingError> {
    Ok(serde_json::to_vec(&RingForm::from(ring))?.into())
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Ring, RingError> {
    let form: RingForm = serde_json::from_slice(bytes)?;
    Ok(Ring::try_from(form)?)
}
