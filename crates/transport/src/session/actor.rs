//! The session's shell: socket, answers and timer → machine → rooms. Nothing to decide.
//!
//! The frames of one socket read go to a room as one message.

use super::machine::{Heard, Machine};
use crate::{
    error::Cut,
    handshake::judge_hello,
    limits,
    messages::{Inbound, InboundBatch, RefusedPeer},
    pump::Pump,
    shared::{Presence, Shared, Slot},
    timer::{Timer, Watch},
};
use actix::prelude::{Actor, ActorContext, ActorFuture, AsyncContext, Handler, Message};
use bytes::Bytes;
use kula_actor::{ChildSpec, DoorError, KulaContext, MailboxConfig, Reply, child_passing, supervised};
use kula_fault::{Site, buggify};
use kula_net::Socket;
use kula_types::NodeId;
use kula_wire::{
    Frame, Kind, Room, decode, encode,
    verbs::link::{Fault, Hello, Introduction, Ping, Refusal},
};
use slog::{debug, info, warn};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A room's answer to a request.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Respond {
    request: u64,
    answer: Result<Bytes, Fault>,
}

struct SessionActor {
    machine: Machine,
    pump: Pump,
    shared: Arc<Shared>,
    slot: Slot,
    presence: Option<Presence>,
    from: String,
    timer: Timer,
    watch: Watch,
    /// What the present read has for each room.
    batches: Vec<(Room, Vec<(u64, Inbound)>)>,
}

/// The session over a socket that came from `from`, at `transport/session/<slot>`.
pub(crate) fn spec(shared: &Arc<Shared>, slot: Slot, socket: Socket, from: String) -> ChildSpec {
    let path = format!("transport/session/{}", slot.number);
    let place = shared.place(slot.number);
    let mailbox = MailboxConfig { cap: limits::MAILBOX_SESSION };
    let (own, name) = (Arc::clone(shared), path.clone());
    let (_, spec) = child_passing(&shared.registry, &path, mailbox, place, move || SessionActor {
        machine: Machine::new(&name, own.clock.mono()),
        pump: Pump::new(socket),
        shared: own,
        slot,
        presence: None,
        from,
        timer: Timer::default(),
        watch: Watch::default(),
        batches: Vec::new(),
    });
    spec
}

struct Drive;

impl ActorFuture<SessionActor> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        session: &mut SessionActor,
        ctx: &mut KulaContext<SessionActor>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match session.drive(ctx, cx) {
            Ok(()) => Poll::Pending,
            Err(cut) => {
                session.cut(&cut);
                ctx.stop();
                Poll::Ready(())
            }
        }
    }
}

impl SessionActor {
    fn drive(&mut self, ctx: &mut KulaContext<Self>, cx: &mut Context<'_>) -> Result<(), Cut> {
        if self.slot.poll_evicted(cx).is_ready() {
            return Err(Cut::Crowded);
        }
        self.read(ctx, cx)?;
        let deaf = !self.machine.reads();
        self.write(cx)?;
        if deaf && self.machine.reads() {
            // The socket took everything, so that neither a read nor a write wakes us.
            cx.waker().wake_by_ref();
        }
        if self.machine.has_parted(self.pump.has_output()) {
            return Err(Cut::Closed);
        }
        let now = self.shared.clock.mono();
        self.machine.tick(now)?;
        let stall_at = self.watch.look(now, self.pump.has_output(), self.pump.written);
        if stall_at.is_some_and(|at| at <= now) {
            return Err(Cut::Stalled);
        }
        let due = stall_at.map_or(self.machine.due(), |at| at.min(self.machine.due()));
        if self.timer.poll(now, due, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn read(&mut self, ctx: &mut KulaContext<Self>, cx: &mut Context<'_>) -> Result<(), Cut> {
        for turn in 1.. {
            // Not registered with the socket then: making room wakes us.
            if !self.machine.reads() {
                return Ok(());
            }
            match self.pump.poll_read(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            let heard = self.take_frames(ctx);
            self.hand_over();
            heard?;
            if turn == limits::READS_PER_POLL {
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
        Ok(())
    }

    fn take_frames(&mut self, ctx: &mut KulaContext<Self>) -> Result<(), Cut> {
        let now = self.shared.clock.mono();
        while let Some((frame, clock)) = self.pump.next_frame()? {
            if self.presence.is_some() {
                self.shared.observe(clock);
            }
            assert!(!buggify(Site::SessionPanics), "a planted panic");
            match self.machine.hear(now, frame)? {
                Heard::Done => {}
                Heard::Hello { request, body } => self.judge(request, &body),
                Heard::Pinged { body } => self.pinged(&body)?,
                Heard::Inbound { room, frame } => self.gather(room, frame, ctx),
            }
        }
        Ok(())
    }

    fn judge(&mut self, request: u64, body: &[u8]) {
        let hello = decode::<Hello>(body).map_err(|_| Refusal::Malformed);
        let judged = match &hello {
            Ok(hello) => self.shared.judge(|world| judge_hello(world, hello)),
            Err(refusal) => Err(refusal.clone()),
        };
        match (&judged, &hello) {
            (Ok(_), Ok(hello)) => {
                let peer = &hello.introduction;
                self.presence = Some(Presence::taken(peer.node, &self.shared));
                self.pump.trust();
                self.slot.introduced();
                self.shared.refusals().forget(peer.node);
                self.shared.knocked(peer.node);
                debug!(self.shared.log, "a peer connected"; "event" => "session_up", "peer" => &peer.name, "from" => &self.from);
            }
            (Err(refusal), hello) => self.refused(refusal, hello.as_ref().ok()),
            (Ok(_), Err(_)) => unreachable!("a hello that is none is not welcome"),
        }
        let welcome = judged.is_ok();
        let answer = encode(&judged).unwrap_or_default();
        self.machine.answer_hello(self.shared.clock.mono(), request, answer, welcome);
    }

    fn pinged(&self, body: &[u8]) -> Result<(), Cut> {
        let Ping { leased } = decode(body).map_err(|error| Cut::Garbage(error.to_string()))?;
        if let (Some(peer), Some(leased)) = (self.peer(), leased) {
            self.shared.judge(|world| world.heard_lease(peer, leased));
        }
        Ok(())
    }

    fn refused(&self, refusal: &Refusal, hello: Option<&Hello>) {
        self.shared.count_cut("in", &Cut::Refusing(refusal.clone()));
        // A port of its own each time; the host stays.
        let from = self.from.rsplit_once(':').map_or(self.from.as_str(), |(host, _)| host);
        let they = hello.map(|hello| &hello.introduction);
        let text = |text: fn(&Introduction) -> &String| they.filter(|they| they.is_sound()).map(text).cloned();
        let refused = RefusedPeer {
            node: they.map(|they| they.node),
            name: text(|they| &they.name).unwrap_or_default(),
            address: text(|they| &they.address).unwrap_or_default(),
            from: from.to_owned(),
            why: refusal.clone(),
            times: 1,
            last: self.shared.clock.mono(),
        };
        let (name, address) = (refused.name.clone(), refused.address.clone());
        if self.shared.note_refusal(refused) {
            warn!(self.shared.log, "refused a node"; "event" => "peer_refused", "from" => from, "peer" => name,
                "address" => address, "why" => %refusal);
        } else {
            debug!(self.shared.log, "refused a node again"; "event" => "peer_refused", "from" => from, "peer" => name,
                "address" => address, "why" => %refusal);
        }
    }

    fn gather(&mut self, room: Room, frame: Frame, ctx: &mut KulaContext<Self>) {
        let Frame { kind, verb, request, deadline_ms, trace, body, .. } = frame;
        let Some(from) = self.peer() else { return };
        let reply = match kind {
            Kind::Request => {
                let door = ctx.door().clone();
                Reply::new(move |answer: Result<Bytes, kula_actor::Lost>| {
                    // A session that is gone has no one to answer.
                    drop(door.tell_forced(Respond { request, answer: answer.map_err(|_| Fault::Lost) }));
                })
            }
            Kind::OneWay | Kind::Response | Kind::Fault => Reply::ignored(),
        };
        let wait_ms = if deadline_ms == 0 { kula_types::limits::DEADLINE_MS_MAX } else { u64::from(deadline_ms) };
        let deadline = self.shared.clock.mono().after(Duration::from_millis(wait_ms));
        let inbound = Inbound { from, verb, body, deadline, trace, reply };
        // A shed request must be answered by its id.
        match self.batches.iter_mut().find(|(known, _)| *known == room) {
            Some((_, frames)) => frames.push((request, inbound)),
            None => self.batches.push((room, vec![(request, inbound)])),
        }
    }

    fn peer(&self) -> Option<NodeId> {
        self.presence.as_ref().map(|presence| presence.node)
    }

    /// Gives each room what the read had for it. What a room does not take is answered here.
    fn hand_over(&mut self) {
        for (room, frames) in std::mem::take(&mut self.batches) {
            let (requests, frames): (Vec<_>, Vec<_>) =
                frames.into_iter().map(|(request, inbound)| ((request, inbound.verb), inbound)).unzip();
            let refused = match self.shared.room(room) {
                None => None,
                Some(subscriber) => match subscriber.try_publish(InboundBatch { frames }) {
                    Ok(()) => continue,
                    Err(refused) => Some(refused.error),
                },
            };
            // The replies in the batch were dropped; what they answered comes after this, and finds nothing to answer.
            for (request, verb) in requests {
                self.machine.respond(request, Err(fault(refused.as_ref(), verb)));
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        // All that leaves in this turn waits in the lanes already.
        let clock = self.shared.reading();
        loop {
            while self.pump.wants()
                && let Some(frame) = self.machine.next_frame()
            {
                self.pump.push(&frame, clock);
            }
            if !self.pump.has_output() {
                return Ok(());
            }
            match self.pump.poll_write(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => written?,
            }
        }
    }

    fn cut(&mut self, why: &Cut) {
        self.shared.count_cut("in", why);
        match why {
            Cut::Closed => {
                debug!(self.shared.log, "a connection ended"; "event" => "session_down", "from" => &self.from)
            }
            _ => info!(self.shared.log, "a connection was cut";
                "event" => "session_cut", "from" => &self.from, "why" => %why),
        }
    }
}

fn fault(refused: Option<&DoorError>, verb: u16) -> Fault {
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    match refused {
        None => Fault::UnknownVerb { verb },
        Some(DoorError::Overloaded { path, depth, cap }) => {
            Fault::Overloaded { path: path.to_string(), depth: wide(*depth), cap: wide(*cap) }
        }
        // The room takes nothing any more: the node is stopping.
        Some(DoorError::Closed { path }) => Fault::Overloaded { path: path.to_string(), depth: 0, cap: 0 },
    }
}

impl Actor for SessionActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Drive);
    }
}

supervised!(SessionActor);

impl Handler<Respond> for SessionActor {
    type Result = ();

    fn handle(&mut self, respond: Respond, _: &mut Self::Context) {
        self.machine.respond(respond.request, respond.answer);
    }
}
