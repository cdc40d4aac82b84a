//! The ring value: everything nodes must agree on to route a key, under one version number.
//!
//! `RingFacts` is what is agreed on and stored; `Ring` is facts that were checked, with what lookups need derived from
//! them. A ring is never changed in place: a change makes the next version.

use crate::{
    KeyspaceSettings, OldPlacement, Partitioner, Partitions, PartitionsError, PlacementError, Secret, SettingsError,
    limits, partitions::TokenRange, place, walk::Circle,
};
use kula_types::{ClusterId, Name, NodeId, PartitionKey, Timestamp, Token};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

/// A member of the ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingNode {
    pub id: NodeId,
    /// What people call it; unique in its ring.
    pub name: String,
    /// Where peers reach it: host and port.
    pub address: String,
    pub dc: String,
    pub rack: String,
    /// Its share of partitions relative to the others of its data centre; 0 = a member that owns nothing.
    pub weight: u32,
}

/// A data centre and who owns its partitions. Its place in the list is its ordinal, for life: it shifts tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datacentre {
    pub name: String,
    /// Owner of each of the Q partitions, an index into `RingFacts::nodes`. Empty: nobody here owns anything.
    pub owners: Vec<u16>,
}

/// A key that seals contexts. Drawn with ring 1, kept in the ring value, never shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingContextKey {
    pub id: u32,
    pub secret: Secret,
    /// When it was replaced; contexts it sealed stay good for 24 hours from then.
    pub retired: Option<Timestamp>,
}

/// What the members agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingFacts {
    /// 1 for the first ring; each committed change adds one.
    pub version: u64,
    pub cluster: ClusterId,
    /// The cluster's name as configured; a node configured for another cluster is refused by it.
    pub name: String,
    pub partitioner: Partitioner,
    /// Q: partitions of each data centre.
    pub partitions: u32,
    /// The replication factor that placement balances loads for.
    pub rf_balanced: u32,
    /// Sorted by id.
    pub nodes: Vec<RingNode>,
    pub datacentres: Vec<Datacentre>,
    pub keyspaces: BTreeMap<Name, KeyspaceSettings>,
    pub context_keys: Vec<RingContextKey>,
}

/// Why facts make no ring. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingValueError {
    #[error("ring versions begin with 1")]
    VersionZero,
    #[error(transparent)]
    Partitions(#[from] PartitionsError),
    #[error("keyspace {keyspace}: {source}")]
    Settings { keyspace: Name, source: SettingsError },
    #[error("the balanced {0}")]
    Balanced(SettingsError),
    #[error("{what} has 1 to {max} of something, this one has {found}", max = max)]
    Count { what: &'static str, found: usize, max: usize },
    #[error("a node's weight is at most {max}, {node}'s is {weight}", max = limits::WEIGHT_MAX)]
    Weight { node: NodeId, weight: u32 },
    #[error("nodes are sorted by id, each once; {node} is not")]
    NodeOrder { node: NodeId },
    #[error("two nodes are called {name:?}")]
    NodeName { name: String },
    #[error("node {node} stands in data centre {dc:?}, which the ring does not have")]
    UnknownDatacentre { node: NodeId, dc: String },
    #[error("data centre {dc:?} is there twice")]
    DatacentreTwice { dc: String },
    #[error("data centre {dc:?} has {found} owners for {partitions} partitions")]
    Owners { dc: String, found: usize, partitions: u32 },
    #[error("partition {partition} of data centre {dc:?} belongs to nobody who could own it there")]
    Owner { dc: String, partition: usize },
    #[error("node {node} has weight and owns nothing: drivers would not see its rack")]
    OwnsNothing { node: NodeId },
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("the ring has no key to seal contexts with, or two of one number")]
    ContextKeys,
}

/// Who holds a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreferenceList {
    /// The replicas, effective RF long, the most preferred first; one data centre after the other.
    pub owners: Vec<NodeId>,
    /// Who stands in for an owner that cannot be reached, the most preferred first; likewise.
    pub fallbacks: Vec<NodeId>,
}

/// A checked ring. Reads like its facts.
#[derive(Clone, Debug)]
pub struct Ring {
    facts: RingFacts,
    partitions: Partitions,
    circles: Vec<Circle>,
}

impl Deref for Ring {
    type Target = RingFacts;

    fn deref(&self) -> &RingFacts {
        &self.facts
    }
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl Ring {
    /// Checks facts and makes them fit to answer.
    pub fn new(facts: RingFacts) -> Result<Ring, RingValueError> {
        let partitions = Partitions::new(facts.partitions)?;
        check_settings(&facts)?;
        check_nodes(&facts)?;
        check_owners(&facts)?;
        let racks: Vec<&str> = facts.nodes.iter().map(|node| node.rack.as_str()).collect();
        let circles = facts.datacentres.iter().map(|dc| Circle::new(dc.owners.clone(), &racks)).collect();
        Ok(Ring { facts, partitions, circles })
    }

    /// Ring 0: the bottom of ring versions, which a node has that waits for a ring. No members, no keyspace, no key that
    /// seals contexts; nobody owns anything. It is never stored nor sent.
    pub fn none(name: String, partitioner: Partitioner) -> Ring {
        let facts = RingFacts {
            version: 0,
            cluster: ClusterId(Default::default()),
            name,
            partitioner,
            partitions: limits::PARTITIONS_DEFAULT,
            rf_balanced: limits::RF_BALANCED_DEFAULT,
            nodes: Vec::new(),
            datacentres: Vec::new(),
            keyspaces: BTreeMap::new(),
            context_keys: Vec::new(),
        };
        Ring { facts, partitions: Partitions::DEFAULT, circles: Vec::new() }
    }

    /// Whether this is ring 0.
    pub fn is_none(&self) -> bool {
        self.version == 0
    }

    /// Ring 1 of a cluster: these nodes own everything.
    pub fn first(
        cluster: ClusterId,
        name: String,
        partitioner: Partitioner,
        partitions: u32,
        nodes: Vec<RingNode>,
        key: RingContextKey,
    ) -> Result<Ring, RingValueError> {
        let mut none = Ring::none(name, partitioner);
        none.facts = RingFacts { cluster, partitions, context_keys: vec![key], ..none.facts };
        none.partitions = Partitions::new(partitions)?;
        none.with_nodes(nodes)
    }

    /// Ring 1 of a cluster of one: `me` owns everything.
    pub fn alone(
        cluster: ClusterId,
        name: String,
        partitioner: Partitioner,
        partitions: u32,
        me: RingNode,
        key: RingContextKey,
    ) -> Result<Ring, RingValueError> {
        Ring::first(cluster, name, partitioner, partitions, vec![me], key)
    }

    /// The next version, with these members in place of the present ones. A data centre whose nodes, racks and weights are
    /// as they were keeps its owners; another is placed anew, moving little. One that nobody stands in any more keeps its
    /// place in the list and owns nothing.
    pub fn with_nodes(&self, mut nodes: Vec<RingNode>) -> Result<Ring, RingValueError> {
        nodes.sort_by_key(|node| node.id);
        let mut facts = RingFacts { version: self.version + 1, nodes, ..self.facts.clone() };
        let mut names: Vec<&str> = self.datacentres.iter().map(|dc| dc.name.as_str()).collect();
        let new: BTreeSet<&str> = facts.nodes.iter().map(|node| node.dc.as_str()).collect();
        names.extend(new.into_iter().filter(|name| self.datacentres.iter().all(|dc| dc.name != *name)));
        let place = |name: &&str| Ok(Datacentre { name: (*name).into(), owners: self.owners_of(name, &facts.nodes)? });
        facts.datacentres = names.iter().map(place).collect::<Result<_, PlacementError>>()?;
        Ring::new(facts)
    }

    /// The owners of a data centre when these are the nodes of the ring.
    fn owners_of(&self, name: &str, nodes: &[RingNode]) -> Result<Vec<u16>, PlacementError> {
        let here = |nodes: &[RingNode]| -> Vec<(u16, RingNode)> {
            (0u16..).zip(nodes).filter(|(_, node)| node.dc == name).map(|(index, node)| (index, node.clone())).collect()
        };
        let (before, after) = (here(&self.nodes), here(nodes));
        let owners = self.datacentres.iter().find(|dc| dc.name == name).map_or(&[][..], |dc| &dc.owners);
        // Indexes into the ring's nodes become indexes into those of the data centre, and back.
        let local = |owner: &u16| before.iter().position(|(index, _)| index == owner);
        let old_owners: Vec<u16> = owners.iter().filter_map(local).filter_map(|at| u16::try_from(at).ok()).collect();
        let old_nodes: Vec<RingNode> = before.into_iter().map(|(_, node)| node).collect();
        let (indexes, new_nodes): (Vec<u16>, Vec<RingNode>) = after.into_iter().unzip();
        let matters = |node: &RingNode| (node.id, node.rack.clone(), node.weight);
        let placed = if old_nodes.iter().map(matters).eq(new_nodes.iter().map(matters)) {
            old_owners
        } else {
            let old = OldPlacement { nodes: &old_nodes, owners: &old_owners, rf: self.rf_balanced };
            place(&new_nodes, self.partitions, self.rf_balanced, Some(old))?
        };
        Ok(placed.into_iter().map(|at| indexes[usize::from(at)]).collect())
    }

    /// The facts, to make the next version from.
    pub fn facts(&self) -> &RingFacts {
        &self.facts
    }

    pub fn token(&self, key: &PartitionKey) -> Token {
        self.partitioner.token(key)
    }

    /// The ring partition of a token, 0 to Q − 1, as the first data centre divides the circle. It names a key's
    /// partition wherever one number is wanted (epochs, chains); ownership in another data centre may differ by a sliver
    /// as wide as its ordinal.
    pub fn partition(&self, token: Token) -> u32 {
        self.partitions.of(token, 0)
    }

    /// The partition of a token as the data centre with this ordinal divides the circle.
    pub fn partition_in(&self, ordinal: usize, token: Token) -> u32 {
        self.partitions.of(token, ordinal as u64)
    }

    /// The tokens of a partition of the data centre with this ordinal.
    pub fn range_in(&self, ordinal: usize, partition: u32) -> TokenRange {
        self.partitions.range(partition, ordinal as u64)
    }

    /// Who holds keys of this token, and who stands in.
    pub fn preference_list(&self, settings: &KeyspaceSettings, token: Token) -> PreferenceList {
        let mut list = PreferenceList { owners: Vec::new(), fallbacks: Vec::new() };
        for (ordinal, circle) in self.circles.iter().enumerate() {
            let partition = self.partition_in(ordinal, token) as usize;
            let order = circle.walk(partition, usize::MAX);
            let (owners, fallbacks) = order.split_at(order.len().min(settings.rf as usize));
            list.owners.extend(owners.iter().map(|&node| self.id_of(node)));
            list.fallbacks.extend(fallbacks.iter().map(|&node| self.id_of(node)));
        }
        list
    }

    pub fn settings(&self, keyspace: &Name) -> Option<&KeyspaceSettings> {
        self.keyspaces.get(keyspace)
    }

    /// How many owners a key of such a keyspace has: per data centre no more than nodes that own tokens there.
    pub fn rf_effective(&self, settings: &KeyspaceSettings) -> u32 {
        let of = |circle: &Circle| settings.rf.min(u32::try_from(circle.nodes()).unwrap_or(u32::MAX));
        self.circles.iter().map(of).sum()
    }

    pub fn node(&self, id: NodeId) -> Option<&RingNode> {
        self.index_of(id).map(|index| &self.nodes[index])
    }

    /// The share of its data centre's partitions that a node owns first, 0.0 to 1.0.
    pub fn load(&self, id: NodeId) -> f64 {
        let Some(index) = self.index_of(id) else { return 0.0 };
        let owned = |circle: &Circle| circle.owners().iter().filter(|&&owner| usize::from(owner) == index).count();
        // At most 2^16 partitions: both numbers are exact in 32 bits.
        let owned = u32::try_from(self.circles.iter().map(owned).sum::<usize>()).unwrap_or(u32::MAX);
        f64::from(owned) / f64::from(self.partitions.count())
    }

    /// The key that seals new contexts. Ring 0 has none, and no data whose context could be sealed: its answer opens
    /// nothing.
    pub fn context_key(&self) -> &RingContextKey {
        static NO_KEY: RingContextKey = RingContextKey { id: 0, secret: Secret::new([0; 32]), retired: None };
        // `new` refuses facts without a key in force.
        self.context_keys.iter().rev().find(|key| key.retired.is_none()).unwrap_or(&NO_KEY)
    }

    fn id_of(&self, node: u16) -> NodeId {
        self.nodes[usize::from(node)].id
    }

    fn index_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&id, |node| node.id).ok()
    }
}

fn check_settings(facts: &RingFacts) -> Result<(), RingValueError> {
    if facts.version == 0 {
        return Err(RingValueError::VersionZero);
    }
    KeyspaceSettings { rf: facts.rf_balanced, ..KeyspaceSettings::default() }
        .check()
        .map_err(RingValueError::Balanced)?;
    if facts.keyspaces.len() > limits::KEYSPACES_MAX {
        let found = facts.keyspaces.len();
        return Err(RingValueError::Count { what: "a ring's keyspaces", found, max: limits::KEYSPACES_MAX });
    }
    for (keyspace, settings) in &facts.keyspaces {
        settings.check().map_err(|source| RingValueError::Settings { keyspace: keyspace.clone(), source })?;
    }
    let ids: BTreeSet<u32> = facts.context_keys.iter().map(|key| key.id).collect();
    let in_force = facts.context_keys.iter().any(|key| key.retired.is_none());
    if !in_force || ids.len() != facts.context_keys.len() || ids.len() > limits::CONTEXT_KEYS_MAX {
        return Err(RingValueError::ContextKeys);
    }
    check_text("the cluster's name", &facts.name)
}

fn check_text(what: &'static str, text: &str) -> Result<(), RingValueError> {
    match text.len() {
        1..=limits::TEXT_BYTES_MAX => Ok(()),
        found => Err(RingValueError::Count { what, found, max: limits::TEXT_BYTES_MAX }),
    }
}

fn check_nodes(facts: &RingFacts) -> Result<(), RingValueError> {
    if facts.nodes.is_empty() || facts.nodes.len() > limits::NODES_MAX {
        let found = facts.nodes.len();
        return Err(RingValueError::Count { what: "a ring", found, max: limits::NODES_MAX });
    }
    let mut names = BTreeSet::new();
    let mut last = None;
    for node in &facts.nodes {
        let texts = [
            ("a node's name", &node.name),
            ("an address", &node.address),
            ("a data centre's name", &node.dc),
            ("a rack", &node.rack),
        ];
        texts.into_iter().try_for_each(|(what, text)| check_text(what, text))?;
        if node.weight > limits::WEIGHT_MAX {
            return Err(RingValueError::Weight { node: node.id, weight: node.weight });
        }
        if last.replace(node.id).is_some_and(|last| last >= node.id) {
            return Err(RingValueError::NodeOrder { node: node.id });
        }
        if !names.insert(node.name.as_str()) {
            return Err(RingValueError::NodeName { name: node.name.clone() });
        }
        if !facts.datacentres.iter().any(|dc| dc.name == node.dc) {
            return Err(RingValueError::UnknownDatacentre { node: node.id, dc: node.dc.clone() });
        }
    }
    Ok(())
}

fn check_owners(facts: &RingFacts) -> Result<(), RingValueError> {
    if facts.datacentres.len() > limits::DATACENTRES_MAX {
        let found = facts.datacentres.len();
        return Err(RingValueError::Count { what: "a ring's data centres", found, max: limits::DATACENTRES_MAX });
    }
    let (mut names, mut owning) = (BTreeSet::new(), BTreeSet::new());
    for dc in &facts.datacentres {
        check_text("a data centre's name", &dc.name)?;
        if !names.insert(dc.name.as_str()) {
            return Err(RingValueError::DatacentreTwice { dc: dc.name.clone() });
        }
        if !dc.owners.is_empty() && dc.owners.len() != facts.partitions as usize {
            let (found, partitions) = (dc.owners.len(), facts.partitions);
            return Err(RingValueError::Owners { dc: dc.name.clone(), found, partitions });
        }
        for (partition, &owner) in dc.owners.iter().enumerate() {
            let fit = facts.nodes.get(usize::from(owner)).is_some_and(|node| node.dc == dc.name && node.weight > 0);
            if !fit {
                return Err(RingValueError::Owner { dc: dc.name.clone(), partition });
            }
            owning.insert(usize::from(owner));
        }
    }
    match facts.nodes.iter().enumerate().find(|(index, node)| node.weight > 0 && !owning.contains(index)) {
        Some((_, node)) => Err(RingValueError::OwnsNothing { node: node.id }),
        None => Ok(()),
    }
}
