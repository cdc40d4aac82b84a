//! `ring.state` and how a node comes by its ring at the start: the one it has, or ring 1 alone.
//!
//! Safe because the file is replaced whole and before anybody is told: after a crash there is the old ring or the new
//! one. Forming ring 1 is decided here, once, and never when the directory already belongs to a cluster: a node that
//! lost its ring must not invent another one over its data.

use crate::RingError;
use kula_disk::{
    Disk, DiskError, Operation,
    atomic::{self, Format},
};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingContextKey, RingNode, Secret, form::RingForm, limits};
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
    /// Used only if ring 1 is formed.
    pub drawn: Drawn,
}

/// The random numbers of a new cluster. Drawn by the caller (`ring::draw`), so that a simulation can choose them.
#[derive(Clone, Debug)]
pub struct Drawn {
    pub cluster: ClusterId,
    pub context_secret: Secret,
}

/// The ring in this directory, or ring 1 alone, durable when this returns. When the schema is there too, the caller
/// binds the directory's identity to `Ring::cluster`.
///
/// A sole member whose name, address, rack or weight was configured anew is its ring's majority: that makes the next
/// version at once.
pub fn open(disk: &dyn Disk, opening: Opening) -> Result<Ring, RingError> {
    let Some(ring) = load(disk)? else {
        if let Some(cluster) = opening.bound {
            return Err(RingError::Missing { cluster });
        }
        let ring = form_alone(opening)?;
        store(disk, &ring)?;
        return Ok(ring);
    };
    check(&ring, &opening)?;
    match with_my_facts(&ring, opening.me)? {
        None => Ok(ring),
        Some(next) => {
            store(disk, &next)?;
            Ok(next)
        }
    }
}

fn form_alone(opening: Opening) -> Result<Ring, RingError> {
    let Opening { me, cluster_name, partitioner, drawn, .. } = opening;
    let key = RingContextKey { id: 1, secret: drawn.context_secret, retired: None };
    let ring = Ring::alone(drawn.cluster, cluster_name, partitioner, limits::PARTITIONS_DEFAULT, me, key)?;
    let mut facts = ring.facts().clone();
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

/// The next version if this node's facts are not those of the ring.
fn with_my_facts(ring: &Ring, me: RingNode) -> Result<Option<Ring>, RingError> {
    if ring.node(me.id) == Some(&me) {
        return Ok(None);
    }
    if ring.nodes.len() > 1 {
        return Err(RingError::NotThereYet {
            what: "a changed name, address, rack or weight in a ring of several members",
        });
    }
    Ok(Some(ring.with_nodes(vec![me])?))
}

fn load(disk: &dyn Disk) -> Result<Option<Ring>, RingError> {
    let Some(bytes) = atomic::read_atomic(disk, FILE, FORMAT)? else { return Ok(None) };
    let form: RingForm = serde_json::from_slice(&bytes)?;
    Ok(Some(Ring::try_from(form)?))
}

/// Makes a ring durable. On an error the old ring or the new one is there, whole.
pub(crate) fn store(disk: &dyn Disk, ring: &Ring) -> Result<(), RingError> {
    let bytes = serde_json::to_vec(&RingForm::from(ring))?;
    atomic::write_atomic(disk, FILE, FORMAT, &bytes).map_err(refused)
}

/// A full disk changed nothing, unless it was the sync of the directory that failed: then the new file may be there.
fn refused(error: DiskError) -> RingError {
    match error {
        DiskError::Full { operation, .. } if operation != Operation::SyncDir => RingError::DiskFull,
        error => RingError::Disk(error),
    }
}
