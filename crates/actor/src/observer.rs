//! `Observer`: the actor that watches the others. Every `mailbox_every` it ends a window of the registry and writes the
//! lines that `mailbox_log.rs` decides.
//!
//! It only reads, so a panic in it costs a window and nothing else. Its timer is a chain, not an interval: after a stall
//! there is one line, not one for each tick that was missed.

use crate::{
    child::{ChildSpec, OnPanic, child},
    config::MailboxConfig,
    context::KulaContext,
    door::Door,
    limits,
    mailbox_log::{Line, LineKind, MailboxLog},
    place::Place,
    registry::Registry,
    supervised,
};
use actix::prelude::{Actor, AsyncContext};
use serde::Serialize;
use slog::{KV, Logger, Record, Serializer, Value};
use std::{fmt, time::Duration};

/// How often it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserverConfig {
    pub mailbox_every: Duration,
}

impl Default for ObserverConfig {
    fn default() -> Self {
        ObserverConfig { mailbox_every: limits::MAILBOX_EVERY }
    }
}

/// Watches all actors of a registry.
pub struct Observer {
    registry: Registry,
    every: Duration,
    log: Logger,
    machine: MailboxLog,
}

impl Observer {
    /// The observer of `registry` as a child at `observer`.
    pub fn child(registry: &Registry, config: ObserverConfig, log: Logger) -> (Door<Observer>, ChildSpec) {
        let watched = registry.clone();
        let every = config.mailbox_every.max(Duration::from_millis(1));
        let mailbox = MailboxConfig::default();
        child(registry, "observer", mailbox, OnPanic::Restart, Place::Local, move || Observer {
            registry: watched.clone(),
            every,
            log: log.clone(),
            machine: MailboxLog::default(),
        })
    }

    fn look(&mut self) {
        for line in self.machine.step(self.registry.mark()) {
            write(&self.log, &line);
        }
    }

    fn look_later(&self, ctx: &mut KulaContext<Observer>) {
        ctx.run_later(self.every, |observer, ctx| {
            observer.look();
            observer.look_later(ctx);
        });
    }
}

impl Actor for Observer {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look_later(ctx);
    }
}

supervised!(Observer);

/// Writes a line: the text is for people, the pairs are for machines.
pub(crate) fn write(log: &Logger, line: &Line) {
    match line.kind {
        LineKind::Busy | LineKind::Cleared => slog::info!(log, "{}", line; Pairs(line)),
        LineKind::Warning => slog::warn!(log, "{}", line; Pairs(line)),
    }
}

struct Pairs<'a>(&'a Line);

impl KV for Pairs<'_> {
    fn serialize(&self, record: &Record<'_>, to: &mut dyn Serializer) -> slog::Result {
        let report = &self.0.report;
        to.emit_str("actor", &report.path)?;
        to.emit_str("event", "mailbox")?;
        to.emit_usize("depth", report.depth)?;
        to.emit_usize("cap", report.cap)?;
        to.emit_u64("in_s", report.in_s)?;
        to.emit_u64("out_s", report.out_s)?;
        let wait = report.wait_us;
        let text = format_args!("p50 {} p99 {} max {}", wait.p50, wait.p99, wait.max);
        emit_object(record, to, "wait_us", wait, text)?;
        to.emit_f64("busy", report.busy)?;
        emit_object(record, to, "by_msg", report.by_msg.clone(), format_args!("{:?}", report.by_msg))?;
        to.emit_str("state", report.state.name())?;
        to.emit_u64("restarts", report.restarts)?;
        if self.0.kind == LineKind::Cleared { to.emit_bool("cleared", true) } else { Ok(()) }
    }
}

/// An object where the drain knows objects (`nested-values`), else one text.
fn emit_object<T: Serialize + Clone + Send + 'static>(
    record: &Record<'_>,
    to: &mut dyn Serializer,
    key: &'static str,
    object: T,
    text: fmt::Arguments<'_>,
) -> slog::Result {
    Value::serialize(&slog::Serde(object), record, key, to).or_else(|_| to.emit_arguments(key, &text))
}
