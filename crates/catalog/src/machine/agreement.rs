//! How nodes come to have the same schema, and how a change waits for that.
//!
//! Whoever changes its schema tells its digest to all; who has another one asks for the schema and joins it, which is a
//! change in turn. Joins only grow and do not mind order or repetition, so nodes that hear each other end with one schema.
//! A node whose digest equals this one's has everything that is done here, so waiting is comparing two numbers. A node
//! that is down or suspected is not waited for: it hears of the schema when it is back.

use super::{Changed, Effect, Machine, Notice, OperationId, Scene, Storing, check_size};
use crate::{CatalogError, limits};
use bytes::Bytes;
use kula_schema::{Schema, form};
use kula_types::{Mono, NodeId};
use kula_wire::verbs::catalog::SchemaIs;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A change that is done here.
pub(super) struct Agreement {
    id: OperationId,
    done: Changed,
    /// Where the settings of keyspaces stood then.
    ring_version: u64,
    lacking: BTreeSet<NodeId>,
    deadline: Mono,
}

/// What is known of the others' schemas.
#[derive(Default)]
pub(super) struct Known {
    /// As each said last. Members only.
    said: BTreeMap<NodeId, SchemaIs>,
    /// Whose schema was asked for; true: it changed since.
    pulling: BTreeMap<NodeId, bool>,
    /// When those that lack something are told again.
    tell_at: Option<Mono>,
}

impl Machine {
    /// Waits for every live node to have what was done; answers at once if they do.
    pub(super) fn agree(&mut self, scene: &Scene, id: OperationId, done: Changed, effects: &mut Vec<Effect>) {
        let lacking = scene.live.keys().copied().collect();
        let (ring_version, deadline) = (scene.ring.version, scene.now.after(limits::AGREE_WITHIN));
        self.agreeing.push(Agreement { id, done, ring_version, lacking, deadline });
        self.check_agreements(scene, effects);
        if !self.agreeing.is_empty() && self.known.tell_at.is_none() {
            self.wake(scene, effects);
        }
    }

    fn wake(&mut self, scene: &Scene, effects: &mut Vec<Effect>) {
        self.known.tell_at = Some(scene.now.after(limits::TELL_AGAIN));
        effects.push(Effect::Wake { after: limits::TELL_AGAIN });
    }

    /// Answers the changes that all live nodes have, and those that took too long.
    pub(super) fn check_agreements(&mut self, scene: &Scene, effects: &mut Vec<Effect>) {
        if self.agreeing.is_empty() {
            return;
        }
        let digest = self.digest.0;
        for mut agreement in std::mem::take(&mut self.agreeing) {
            let has_it = |node: &NodeId| {
                let said = self.known.said.get(node);
                said.is_some_and(|is| is.digest == digest && is.ring_version >= agreement.ring_version)
            };
            agreement.lacking.retain(|node| scene.live.contains_key(node) && !has_it(node));
            let answer = if agreement.lacking.is_empty() {
                self.still_so(agreement.done)
            } else if scene.now >= agreement.deadline {
                let name = |node: &NodeId| scene.live.get(node).map(|peer| peer.name.clone());
                Err(CatalogError::NotEverywhere { lacking: agreement.lacking.iter().filter_map(name).collect() })
            } else {
                self.agreeing.push(agreement);
                continue;
            };
            effects.push(Effect::Answer { id: agreement.id, answer });
        }
    }

    /// Of two tables made at once under one name the later one has it: who made the other is told.
    fn still_so(&self, done: Changed) -> Result<Changed, CatalogError> {
        let Changed::Table(table) = &done else { return Ok(done) };
        match self.schema.resolve(table.keyspace.as_str(), table.name.as_str()) {
            Ok(existing) if existing.id != table.id => Err(CatalogError::TableConflict { existing }),
            Ok(_) | Err(_) => Ok(done),
        }
    }

    fn mine(&self, scene: &Scene) -> SchemaIs {
        SchemaIs { digest: self.digest.0, ring_version: scene.ring.version }
    }

    pub(super) fn tell(&self, scene: &Scene, to: impl Iterator<Item = NodeId>, effects: &mut Vec<Effect>) {
        let is = self.mine(scene);
        effects.extend(to.map(|to| Effect::Tell { to, is }));
    }

    pub(super) fn tell_again(&mut self, scene: &Scene, effects: &mut Vec<Effect>) {
        if self.known.tell_at.is_none_or(|at| scene.now < at) {
            return;
        }
        self.known.tell_at = None;
        self.check_agreements(scene, effects);
        let lacking: BTreeSet<NodeId> =
            self.agreeing.iter().flat_map(|agreement| &agreement.lacking).copied().collect();
        if !self.agreeing.is_empty() {
            self.tell(scene, lacking.into_iter(), effects);
            self.wake(scene, effects);
        }
    }

    /// Compares what live nodes announce with what is in force here.
    pub(super) fn compare(&mut self, scene: &Scene, effects: &mut Vec<Effect>) {
        self.known.said.retain(|node, _| scene.ring.node(*node).is_some());
        let mine = self.digest;
        let others = scene.live.iter().filter(|(_, peer)| peer.digest.is_some_and(|digest| digest != mine));
        for (from, _) in others {
            self.pull(scene, *from, effects);
        }
    }

    pub(super) fn told(&mut self, scene: &Scene, from: NodeId, is: SchemaIs, asked: bool, effects: &mut Vec<Effect>) {
        if scene.ring.node(from).is_none() {
            return;
        }
        self.known.said.insert(from, is);
        if is.ring_version > scene.ring.version {
            effects.push(Effect::PullRing { from });
        }
        // What answers a change made here has only just heard of it; it speaks again when it has joined it.
        if !asked && is.digest != self.digest.0 {
            self.pull(scene, from, effects);
        }
    }

    /// Asks a node for its schema. Members only: what others have is not this cluster's.
    pub(super) fn pull(&mut self, scene: &Scene, from: NodeId, effects: &mut Vec<Effect>) {
        if let Some(again) = self.known.pulling.get_mut(&from) {
            *again = true;
        } else if scene.ring.node(from).is_some() && self.known.pulling.len() < limits::PULLS_MAX && !self.fenced {
            self.known.pulling.insert(from, false);
            effects.push(Effect::Pull { from, digest: self.digest });
        }
    }

    pub(super) fn pulled(&mut self, scene: &Scene, from: NodeId, schema: Option<Bytes>, effects: &mut Vec<Effect>) {
        let again = self.known.pulling.remove(&from).unwrap_or(false);
        if let Some(bytes) = schema {
            match self.join_of(&bytes) {
                Ok(None) => (),
                Ok(Some(schema)) => {
                    self.storing = Some(Storing::Joined { from, schema: schema.clone() });
                    effects.push(Effect::Store { schema });
                }
                Err(why) => effects.push(Effect::Notice { notice: Notice::NotJoined { from, why } }),
            }
        }
        if again {
            self.pull(scene, from, effects);
        }
    }

    /// The schema in force joined with this one, if that is more.
    fn join_of(&self, bytes: &[u8]) -> Result<Option<Arc<Schema>>, CatalogError> {
        let joined = self.joined(form::decode(bytes)?);
        if self.fenced || joined == *self.schema {
            return Ok(None);
        }
        check_size(&joined)?;
        // Two schemas within their bounds may be past them together: what could not be read back is not kept.
        form::decode(&form::encode(&joined)?)?;
        Ok(Some(Arc::new(joined)))
    }
}
