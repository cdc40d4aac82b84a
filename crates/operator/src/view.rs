//! This node's own view of itself and of everybody else, as another node's operator asks for it.
//!
//! Gathered from what rooms publish; only the shards are asked, with a deadline.

use crate::{OperatorParts, readiness::Stage};
use futures::future::join_all;
use kula_actor::{ActorReport, MailboxState, Reply};
use kula_gossip::{Membership, PeerView, State};
use kula_storage::{ShardStatistics, Statistics};
use kula_transport::LinkState;
use kula_types::{Mono, NodeId};
use kula_wire::verbs::status::{self, Health, HintsFor, NodeView, RefusedPeer, Sight, SlowestMailbox};
use std::time::Duration;

/// What goes in a view has an end; texts that others chose are cut.
const TEXT_BYTES_MAX: usize = 256;

impl OperatorParts {
    pub(crate) async fn view(&self, patience: Duration) -> NodeView {
        let shards = self.shard_statistics(patience).await;
        let bytes = |shard: &ShardStatistics| shard.memtable_bytes + shard.frozen_bytes + shard.sstable_bytes;
        let actors = self.registry.snapshot();
        let stuck = actors.iter().filter(|actor| actor.state == MailboxState::Stuck);
        let membership = self.gossip.membership().load();
        let wall = self.clock.wall();
        NodeView {
            node: self.me,
            name: cut(&self.name),
            stage: match self.readiness.stage() {
                Stage::Starting => status::Stage::Starting,
                Stage::Ready => status::Stage::Ready,
                Stage::Stopping => status::Stage::Stopping,
            },
            load_bytes: shards.iter().map(|shard| shard.as_ref().map(bytes)).sum(),
            shards_silent: whole(shards.iter().filter(|shard| shard.is_none()).count()),
            hints: self.hints_for(),
            schema: self.schema.load().digest().0,
            ring_version: self.ring.load().version,
            clock: wall,
            stamps_ahead_ms: millis(self.hlc.ahead_of(wall)),
            lease_lost: self.hlc.stamp(wall).is_err(),
            free_bytes: self.disk.free_bytes().ok(),
            slowest: slowest(&actors),
            stuck: stuck.map(|actor| cut(&actor.path)).take(status::NAMED_MAX).collect(),
            cut_off: membership.cut_off,
            sees: sights(&membership, self.clock.mono()),
            refused: self.refused(),
        }
    }

    /// Each shard's numbers; `None` for one that did not answer in time.
    async fn shard_statistics(&self, patience: Duration) -> Vec<Option<ShardStatistics>> {
        let asked = self.storage.shards.iter().map(|shard| {
            let (reply, answer) = Reply::pair();
            // Past the bound: a full mailbox is just when an operator wants to know.
            let sent = shard.tell_forced(Statistics { reply });
            async move {
                sent.ok()?;
                tokio::time::timeout(patience, answer).await.ok()?.ok()
            }
        });
        join_all(asked).await
    }

    fn hints_for(&self) -> Vec<HintsFor> {
        let counts = self.handoff.counts().load();
        let each = counts.targets.iter().take(status::MEMBERS_MAX).map(|target| HintsFor {
            target: target.target,
            count: target.count,
            bytes: target.bytes,
            not_kept: target.not_kept,
        });
        each.collect()
    }

    /// Links that one side refuses, and who was refused at our door.
    fn refused(&self) -> Vec<RefusedPeer> {
        let links = self.peers.known().into_iter().filter_map(|peer| match peer.link {
            LinkState::Refused(why) => Some((peer.name, peer.address, why)),
            LinkState::Connecting | LinkState::Up { .. } | LinkState::Down { .. } => None,
        });
        let callers = self.peers.refused().into_iter().map(|peer| {
            let address = if peer.address.is_empty() { peer.from } else { peer.address };
            (peer.name, address, peer.why)
        });
        let mut refused: Vec<RefusedPeer> = Vec::new();
        for (name, address, why) in links.chain(callers) {
            let peer = if name.is_empty() || name == address { address } else { format!("{name} ({address})") };
            let told = RefusedPeer { peer: cut(&peer), why: cut(&why.to_string()) };
            if !refused.contains(&told) && refused.len() < status::NAMED_MAX {
                refused.push(told);
            }
        }
        refused
    }
}

/// Everybody but this node.
fn sights(membership: &Membership, now: Mono) -> Vec<Sight> {
    let others = membership.nodes.iter().filter(|(id, _)| **id != membership.me);
    let sight = |(id, view): (&NodeId, &PeerView)| Sight {
        node: *id,
        name: cut(&view.introduction.name),
        health: health(view),
        since_ms: millis(now.since(view.since)),
    };
    others.take(status::MEMBERS_MAX).map(sight).collect()
}

/// What this node finds by itself comes before what it was told.
pub(crate) fn health(view: &PeerView) -> Health {
    match view.state {
        State::Up | State::Slow if view.suspected_here => Health::Suspect,
        State::Up => Health::Up,
        State::Slow => Health::Slow,
        State::Suspect => Health::Suspect,
        State::Down => Health::Down,
    }
}

fn slowest(actors: &[ActorReport]) -> Option<SlowestMailbox> {
    let worst = actors.iter().max_by_key(|actor| actor.wait_us.p99).filter(|actor| actor.wait_us.p99 > 0)?;
    Some(SlowestMailbox { path: cut(&worst.path), p99_us: worst.wait_us.p99 })
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_string()
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
