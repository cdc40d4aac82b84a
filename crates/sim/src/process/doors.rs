//! Full mailboxes: what the sender's shell answers where a door does not take its message (`Door::tell`, `try_tell`).
//!
//! Replies, timers and what one room tells another by force (`tell_forced`) are always taken.

use super::{Message, Process};
use kula_handoff::HandoffError;
use kula_replica::ReplicaError;
use kula_storage::StorageError;
use std::sync::Arc;

impl Process {
    /// The mailbox has `depth` of `cap`. What is told by force comes back; everything else is answered.
    pub fn refuse(&mut self, message: Message, depth: usize, cap: usize) -> Option<Message> {
        let path: Arc<str> = format!("{:?}", message.queue()).into();
        let busy = || StorageError::Overloaded { path: Arc::clone(&path) };
        match message {
            // `Replicas::send_or_refuse`.
            Message::Replica { batch, .. } => {
                let refused = || ReplicaError::Overloaded { path: Arc::clone(&path), depth, cap };
                batch.requests.into_iter().for_each(|request| request.reply.send(Err(refused())));
            }
            // `ReplicaActor::flush`.
            Message::Apply { ops, .. } => ops.into_iter().for_each(|op| op.reply.send(Err(busy()))),
            Message::Read { ops, .. } => ops.into_iter().for_each(|op| op.reply.send(Err(busy()))),
            Message::ReadRange { question, .. } => question.reply.send(Err(busy())),
            // `ShardActor`: what it has just put down for the log is taken back.
            Message::Append { shard, .. } => self.append_refused(shard, &busy()),
            // `Handoff::store`.
            Message::StoreHints { hints } => {
                let refused = || HandoffError::Overloaded { path: Arc::clone(&path), depth, cap };
                hints.into_iter().for_each(|hint| hint.reply.send(Err(refused())));
            }
            // The next request that shows it asks again.
            Message::RingPull { .. } | Message::CatalogPull { .. } => {}
            forced => return Some(forced),
        }
        None
    }
}
