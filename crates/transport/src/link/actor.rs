//! The link's shell: mailbox, socket and timer → machine → effects. Nothing to decide.
//!
//! The socket is polled after the mailbox, in the same poll: what many senders queued leaves in one write.

use super::machine::{Effect, Event, Machine, Parcel};
use crate::{
    directory::Found,
    error::{Cut, TransportError},
    handshake::{hello, judge_welcome},
    limits,
    messages::{LinkEvent, LinkState},
    pump::Pump,
    shared::{Presence, Shared},
    timer::{Timer, Watch},
};
use actix::prelude::{Actor, ActorFuture, AsyncContext, Handler, Message};
use bytes::Bytes;
use futures::future::BoxFuture;
use kula_actor::{ChildSpec, Door, KulaContext, MailboxConfig, OnPanic, Place, Reply, child, supervised};
use kula_fault::{Site, buggify};
use kula_net::Socket;
use kula_types::NodeId;
use kula_wire::{
    decode, encode,
    verbs::link::{Ping, Refusal, Welcome},
};
use slog::{debug, info, warn};
use std::{
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

pub(crate) type WayBack = Reply<Result<Bytes, TransportError>>;

/// Sends to the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Send(pub Parcel<WayBack>);

/// The peer has just connected to us: a link that waits for its next attempt need not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Knock;

pub struct LinkActor {
    machine: Machine<WayBack>,
    address: String,
    expected: Option<NodeId>,
    shared: Arc<Shared>,
    connecting: Option<BoxFuture<'static, io::Result<Socket>>>,
    pump: Option<Pump>,
    presence: Option<Presence>,
    timer: Timer,
    watch: Watch,
    effects: Vec<Effect<WayBack>>,
    /// Why it was last cut: the same reason again is not news.
    last_cut: Option<Cut>,
}

/// The link to `address`, at `transport/link/<label>`.
pub(crate) fn spec(
    shared: &Arc<Shared>,
    label: &str,
    address: &str,
    expected: Option<NodeId>,
    place: Place,
) -> (Door<LinkActor>, ChildSpec) {
    let path = format!("transport/link/{label}");
    let (name, peer): (Arc<str>, Arc<str>) = (path.as_str().into(), label.into());
    let (address, own) = (address.to_owned(), Arc::clone(shared));
    let mailbox = MailboxConfig { cap: limits::MAILBOX_LINK };
    child(&shared.registry, &path, mailbox, OnPanic::Restart, place, move || LinkActor {
        machine: Machine::new(Arc::clone(&name), Arc::clone(&peer), own.backoff.clone(), own.clock.mono()),
        address: address.clone(),
        expected,
        shared: Arc::clone(&own),
        connecting: None,
        pump: None,
        presence: None,
        timer: Timer::default(),
        watch: Watch::default(),
        effects: Vec::new(),
        last_cut: None,
    })
}

struct Drive;

impl ActorFuture<LinkActor> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        link: &mut LinkActor,
        _: &mut KulaContext<LinkActor>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        link.drive(cx);
        Poll::Pending
    }
}

impl LinkActor {
    fn drive(&mut self, cx: &mut Context<'_>) {
        let now = self.shared.clock.mono();
        self.poll_connect(cx);
        if self.machine.due() <= now {
            self.step(Event::Tick);
        }
        // A connect that a tick began must be polled once, or nothing wakes us.
        self.poll_connect(cx);
        self.read(cx);
        self.write(cx);
        let (has_output, written) = self.pump.as_ref().map_or((false, 0), |pump| (pump.has_output(), pump.written));
        let stall_at = self.watch.look(now, has_output, written);
        if stall_at.is_some_and(|at| at <= now) {
            self.step(Event::Broken(Cut::Stalled));
        }
        let due = stall_at.map_or(self.machine.due(), |at| at.min(self.machine.due()));
        if self.timer.poll(now, due, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_connect(&mut self, cx: &mut Context<'_>) {
        if let Some(connecting) = &mut self.connecting
            && let Poll::Ready(connected) = connecting.as_mut().poll(cx)
        {
            self.connecting = None;
            self.connected(connected);
        }
    }

    fn connected(&mut self, connected: io::Result<Socket>) {
        match connected {
            Ok(socket) => {
                self.pump = Some(Pump::new(socket));
                let hello = encode(&hello(&self.shared.me, &self.shared.admission.load()));
                // Plain fields; a hello that could not be encoded is cut by the peer.
                self.step(Event::Connected { hello: hello.unwrap_or_default() });
            }
            Err(error) => self.step(Event::Broken(Cut::Connect(error.to_string()))),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        for turn in 1.. {
            let Some(pump) = &mut self.pump else { return };
            match pump.poll_read(cx) {
                Poll::Pending => return,
                Poll::Ready(Err(cut)) => return self.step(Event::Broken(cut)),
                Poll::Ready(Ok(())) => self.take_frames(),
            }
            if turn == limits::READS_PER_POLL {
                return cx.waker().wake_by_ref();
            }
        }
    }

    fn take_frames(&mut self) {
        while let Some(pump) = &mut self.pump {
            match pump.next_frame() {
                Ok(Some((frame, clock))) => {
                    if self.presence.is_some() {
                        self.shared.observe(clock);
                    }
                    self.step(Event::Heard(frame));
                }
                Ok(None) => return,
                Err(cut) => return self.step(Event::Broken(cut)),
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        // All that leaves in this turn waits in the lanes already.
        let (now, clock) = (self.shared.clock.mono(), self.shared.reading());
        while let Some(pump) = &mut self.pump {
            while pump.wants()
                && let Some(frame) = self.machine.next_frame(now, &mut self.effects)
            {
                pump.push(&frame, clock);
            }
            if !pump.has_output() {
                break;
            }
            match pump.poll_write(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(cut)) => self.step(Event::Broken(cut)),
            }
        }
        self.run_effects();
    }

    fn step(&mut self, event: Event<WayBack>) {
        assert!(!buggify(Site::LinkPanics), "a planted panic");
        self.machine.step(self.shared.clock.mono(), event, &mut self.effects);
        self.run_effects();
    }

    fn run_effects(&mut self) {
        for effect in mem::take(&mut self.effects) {
            match effect {
                Effect::Connect => self.connecting = Some(self.shared.net.connect(&self.address)),
                Effect::Judge(body) => self.judge(&body),
                Effect::Ping => {
                    let ping = Ping { leased: self.shared.told.upto() };
                    // One plain field; a ping that could not be encoded is cut by the peer.
                    self.step(Event::Pinging { ping: encode(&ping).unwrap_or_default() });
                }
                Effect::Answer(reply, answer) => reply.send(answer),
                Effect::Cut { why, was_up, again } => self.cut(why, was_up, again),
            }
        }
    }

    fn judge(&mut self, body: &[u8]) {
        let welcome = match decode::<Result<Welcome, Refusal>>(body) {
            Ok(Ok(welcome)) => welcome,
            Ok(Err(refusal)) => {
                self.shared.judge(|world| world.heard_refusal(&refusal));
                return self.step(Event::Broken(Cut::Refused(refusal)));
            }
            Err(error) => return self.step(Event::Broken(Cut::Garbage(error.to_string()))),
        };
        let judged = self.shared.judge(|world| judge_welcome(world, &self.address, self.expected, &welcome));
        if let Err(refusal) = judged {
            return self.step(Event::Broken(Cut::Refusing(refusal)));
        }
        let peer = welcome.introduction;
        self.presence = Some(Presence::taken(peer.node, &self.shared));
        if let Some(pump) = &mut self.pump {
            pump.trust();
        }
        self.last_cut = None;
        info!(self.shared.log, "connected"; "event" => "link_up", "peer" => &peer.name, "address" => &self.address);
        if let Some(state) = self.shared.board().get_mut(&self.address) {
            (state.node, state.name) = (Some(peer.node), peer.name.clone());
            state.link = LinkState::Up { since: self.shared.clock.mono() };
        }
        self.tell(Found::Node(peer.node));
        self.step(Event::Welcomed);
        self.shared.publish(&LinkEvent::Up { peer });
    }

    fn cut(&mut self, why: Cut, was_up: bool, again: Duration) {
        (self.pump, self.connecting) = (None, None);
        self.watch = Watch::default();
        self.shared.count_cut("out", &why);
        let link = match &why {
            Cut::Refused(refusal) | Cut::Refusing(refusal) => LinkState::Refused(refusal.clone()),
            _ => LinkState::Down { why: why.to_string() },
        };
        self.shared.show(&self.address, link);
        let again_ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
        if self.last_cut.as_ref() == Some(&why) {
            debug!(self.shared.log, "no connection"; "event" => "link_down", "address" => &self.address, "why" => %why,
                "again_ms" => again_ms);
        } else {
            warn!(self.shared.log, "no connection"; "event" => "link_down", "address" => &self.address, "why" => %why,
                "again_ms" => again_ms);
        }
        if let Some(presence) = self.presence.take().filter(|_| was_up) {
            self.shared.publish(&LinkEvent::Lost { node: presence.node });
        }
        if matches!(why, Cut::Refused(Refusal::Yourself)) {
            self.tell(Found::Ourselves);
        }
        self.last_cut = Some(why);
    }

    fn tell(&self, found: Found) {
        if let Some(directory) = self.shared.directory.get() {
            // Only a node that is stopping has none.
            drop(directory.tell_forced(found.at(&self.address)));
        }
    }
}

impl Actor for LinkActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Drive);
    }
}

supervised!(LinkActor);

impl Handler<Send> for LinkActor {
    type Result = ();

    fn handle(&mut self, send: Send, _: &mut Self::Context) {
        self.step(Event::Send(send.0));
    }
}

impl Handler<Knock> for LinkActor {
    type Result = ();

    fn handle(&mut self, _: Knock, _: &mut Self::Context) {
        self.step(Event::Knocked);
    }
}
