//! The keeper of the identity file: extends the clock's lease before it ends, binds the cluster.

use crate::{BindCluster, ExtendLease, GetIdentity, Identity, IdentityFile, StorageError, limits, open::extend_lease};
use actix::{Actor, AsyncContext, Handler, Message};
use kula_actor::KulaContext;
use kula_clock::{Clock, Hlc, Told};
use slog::Logger;
use std::sync::Arc;

pub struct IdentityActor {
    file: IdentityFile,
    hlc: Arc<Hlc>,
    told: Arc<Told>,
    clock: Arc<dyn Clock>,
    log: Logger,
}

impl Message for ExtendLease {
    type Result = ();
}

impl Message for BindCluster {
    type Result = ();
}

impl Message for GetIdentity {
    type Result = ();
}

impl IdentityActor {
    pub(super) fn new(file: IdentityFile, hlc: Arc<Hlc>, told: Arc<Told>, clock: Arc<dyn Clock>, log: Logger) -> Self {
        IdentityActor { file, hlc, told, clock, log }
    }

    fn extend(&mut self, ctx: &mut KulaContext<Self>) -> Result<(), StorageError> {
        let extended = extend_lease(&mut self.file, &self.hlc, &self.told, &*self.clock);
        extended.inspect_err(|error| self.fence_unless_full(error, ctx))
    }

    /// A full disk passes, and so does a lack of file descriptors; any other failure leaves it open what the disk holds.
    fn fence_unless_full(&self, error: &StorageError, ctx: &mut KulaContext<Self>) {
        match error {
            StorageError::DiskFull { .. } => {
                slog::warn!(self.log, "the clock's lease was not extended: the disk is full"; "event" => "lease_not_extended");
            }
            StorageError::LeaseLost { cause } | StorageError::Disk(cause) if cause.is_temporary() => {
                slog::warn!(self.log, "the clock's lease was not extended"; "event" => "lease_not_extended", "cause" => %cause);
            }
            StorageError::OtherCluster { .. } => {}
            error => ctx.fence(format!("the identity could not be stored: {error}")),
        }
    }

    fn tick(&mut self, ctx: &mut KulaContext<Self>) {
        // A failure is logged, or fences; the next tick tries again.
        drop(self.extend(ctx));
        ctx.run_later(limits::LEASE_CHECK, Self::tick);
    }
}

impl Actor for IdentityActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

kula_actor::supervised!(IdentityActor);

impl Handler<ExtendLease> for IdentityActor {
    type Result = ();

    fn handle(&mut self, message: ExtendLease, ctx: &mut Self::Context) {
        message.reply.send(self.extend(ctx));
    }
}

impl Handler<BindCluster> for IdentityActor {
    type Result = ();

    fn handle(&mut self, BindCluster { cluster, reply }: BindCluster, ctx: &mut Self::Context) {
        let bound = self.file.bind_cluster(cluster).inspect_err(|error| self.fence_unless_full(error, ctx));
        reply.send(bound.map(|()| self.file.identity()));
    }
}

impl Handler<GetIdentity> for IdentityActor {
    type Result = ();

    fn handle(&mut self, message: GetIdentity, _ctx: &mut Self::Context) {
        let identity: Identity = self.file.identity();
        message.reply.send(identity);
    }
}
