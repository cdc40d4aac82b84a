//! The operator's actor: answers other nodes that ask for this node's view. Nothing to decide.
//!
//! However many ask, one view is made at a time; all who asked meanwhile get it.

use crate::{Operator, limits};
use actix::prelude::{Actor, ActorFutureExt, AsyncContext, Handler, WrapFuture};
use kula_actor::{
    ChildSpec, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, Subscriber, child, supervised,
};
use kula_transport::{Inbound, InboundBatch};
use kula_wire::{
    Room,
    verbs::status::{AskView, NodeView},
};

pub struct OperatorActor {
    operator: Operator,
    askers: Vec<Reply<NodeView>>,
    is_making: bool,
}

impl Operator {
    /// The actor at path `operator`, to whom peers' questions go from now on. To be called before the tree runs.
    pub fn child(&self, registry: &Registry) -> ChildSpec {
        let operator = self.clone();
        let mailbox = MailboxConfig { cap: limits::MAILBOX };
        let factory = move || OperatorActor { operator: operator.clone(), askers: Vec::new(), is_making: false };
        let (door, spec) = child(registry, "operator", mailbox, OnPanic::Restart, Place::Local, factory);
        self.peers().register(Room::Status, Subscriber::from(&door));
        spec
    }
}

impl OperatorActor {
    fn asked(&mut self, inbound: Inbound) {
        // What is no question, or one too many, is dropped: whoever asked learns that there is no answer.
        if inbound.read::<AskView>().is_ok() && self.askers.len() < limits::ASKERS_MAX {
            self.askers.push(inbound.reply_of::<AskView>());
        }
    }

    fn make(&mut self, ctx: &mut KulaContext<Self>) {
        if self.is_making || self.askers.is_empty() {
            return;
        }
        self.is_making = true;
        let operator = self.operator.clone();
        let view = async move { operator.own_view(limits::PART_PATIENCE_OF_A_VIEW).await };
        let made = view.into_actor(self).map(|view, actor, _| {
            actor.is_making = false;
            actor.askers.drain(..).for_each(|asker| asker.send(view.clone()));
        });
        ctx.spawn(made);
    }
}

impl Actor for OperatorActor {
    type Context = KulaContext<Self>;
}

supervised!(OperatorActor);

impl Handler<InboundBatch> for OperatorActor {
    type Result = ();

    fn handle(&mut self, batch: InboundBatch, ctx: &mut Self::Context) {
        batch.frames.into_iter().for_each(|inbound| self.asked(inbound));
        self.make(ctx);
    }
}
