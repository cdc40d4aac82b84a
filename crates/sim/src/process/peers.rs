//! Transport's actors (`transport/src/{link,session,directory}`): the machines of links and sessions over the simulated
//! network. Sockets take all that is written; what waits, waits in the network.

use super::{Message, Out, Process, Seen, Step, Timer};
use crate::{
    net::{ConnectionId, Piece},
    refused,
};
use bytes::{Bytes, BytesMut};
use kula_actor::{Backoff, Reply};
use kula_clock::Told;
use kula_gossip::machine::Event as GossipEvent;
use kula_transport::{
    Admission, Cut, Inbound, LinkState, Myself, PeerState, TransportError,
    directory::{Lead, Rearranged, is_another_name},
    handshake::{World, hello, judge_hello, judge_welcome},
    limits,
    link::machine::{Effect, Event, Machine as Link, Parcel},
    roster::Roster,
    session::machine::{Heard, Machine as Session},
};
use kula_types::{Mono, NodeId, Timestamp};
use kula_wire::{
    Frame, FrameDecoder, Kind, Lane, Room, decode, encode,
    limits::{FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX},
    verbs::link::{Fault, Hello, Introduction, Ping, Refusal, Welcome},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::codec::Decoder;

pub type WayBack = Reply<Result<Bytes, TransportError>>;

pub struct Peers {
    pub me: Myself,
    pub told: Arc<Told>,
    admission: Admission,
    roster: Roster,
    links: BTreeMap<String, Kept>,
    /// Addresses that lead back here.
    mirrors: BTreeSet<String>,
    sessions: BTreeMap<ConnectionId, Visitor>,
    attempts: u64,
    backoff: Backoff,
}

/// A link as it is kept.
struct Kept {
    machine: Link<WayBack>,
    attempt: Option<u64>,
    connection: Option<ConnectionId>,
    input: Input,
    /// Whose seat on the roster it holds.
    seat: Option<NodeId>,
    /// Who must be there, as it was known when the link was made.
    expected: Option<NodeId>,
    lead: Lead,
    name: String,
    state: LinkState,
}

struct Visitor {
    machine: Session,
    input: Input,
    peer: Option<NodeId>,
    /// Of the peer's process.
    boot: u64,
}

struct Input {
    bytes: BytesMut,
    decoder: FrameDecoder,
}

impl Input {
    fn new() -> Input {
        Input { bytes: BytesMut::new(), decoder: FrameDecoder::new(HANDSHAKE_FRAME_BYTES_MAX) }
    }

    fn frame(&mut self) -> Result<Option<(Frame, Timestamp)>, Cut> {
        self.decoder.decode(&mut self.bytes).map_err(|error| Cut::Garbage(error.to_string()))
    }
}

impl Peers {
    pub fn new(me: Myself, told: Arc<Told>, backoff: Backoff) -> Peers {
        const _: () = assert!(HANDSHAKE_FRAME_BYTES_MAX <= FRAME_BYTES_MAX);
        Peers {
            me,
            told,
            admission: Admission::default(),
            roster: Roster::default(),
            links: BTreeMap::new(),
            mirrors: BTreeSet::new(),
            sessions: BTreeMap::new(),
            attempts: 0,
            backoff,
        }
    }

    /// The link to this node, if one is kept.
    pub fn link_state(&self, node: NodeId) -> Option<LinkState> {
        self.links.values().find(|link| link.lead.node == Some(node)).map(|link| link.state.clone())
    }

    fn leads(&self) -> impl Iterator<Item = (&String, Lead)> {
        self.links.iter().map(|(address, link)| (address, link.lead))
    }

    pub fn known(&self) -> Vec<PeerState> {
        let state = |(address, link): (&String, &Kept)| PeerState {
            address: address.clone(),
            node: link.lead.node,
            name: link.name.clone(),
            link: link.state.clone(),
        };
        self.links.iter().map(state).collect()
    }

    fn judge<T>(&mut self, judge: impl FnOnce(&mut World) -> T) -> T {
        let Peers { me, admission, roster, told, .. } = self;
        judge(&mut World { me, admission, roster, told })
    }

    /// A member's own link wins over one that was dialled.
    fn route(&self, to: NodeId) -> Option<String> {
        let mut links = self.links.iter().filter(|(_, link)| link.lead.node == Some(to));
        let first = links.next()?;
        let best = links.fold(first, |best, other| if other.1.lead.member { other } else { best });
        Some(best.0.clone())
    }
}

impl Process {
    #[allow(clippy::too_many_arguments, reason = "a parcel's parts")]
    pub(super) fn request(
        &mut self,
        to: NodeId,
        lane: Lane,
        verb: u16,
        body: Bytes,
        deadline: Option<Mono>,
        way_back: Option<WayBack>,
        step: &mut Step,
    ) {
        let Some(address) = self.peers.route(to) else {
            self.post.seen(Seen::Refused { what: refused::transport(&TransportError::NotConnected) });
            return way_back.map_or((), |reply| reply.send(Err(TransportError::NotConnected)));
        };
        self.link(&address, Event::Send(Parcel { lane, verb, body, deadline, trace: 0, way_back }), step);
    }

    // The directory.

    pub(super) fn dial(&mut self, address: &str, step: &mut Step) {
        if address != self.peers.me.address
            && !self.peers.links.contains_key(address)
            && !self.peers.mirrors.contains(address)
        {
            self.open_link(address, address, None, step);
        }
    }

    pub(super) fn admit(&mut self, admission: Admission, step: &mut Step) {
        self.peers.admission = admission.clone();
        let Rearranged { gone, wanted } = admission.rearranges(self.node, self.peers.leads());
        gone.iter().for_each(|address| self.close_link(address, step));
        for (address, (node, name)) in wanted {
            match self.peers.links.get_mut(address) {
                Some(link) => link.lead = Lead::to(Some(node)),
                None => self.open_link(address, name, Some(node), step),
            }
        }
    }

    fn open_link(&mut self, address: &str, name: &str, node: Option<NodeId>, step: &mut Step) {
        let path: Arc<str> = format!("transport/link/{name}").into();
        let machine = Link::new(path, name.into(), self.peers.backoff.clone(), self.now());
        let link = Kept {
            machine,
            attempt: None,
            connection: None,
            input: Input::new(),
            seat: None,
            expected: node,
            lead: Lead::to(node),
            name: name.to_owned(),
            state: LinkState::Connecting,
        };
        self.peers.links.insert(address.to_owned(), link);
        self.arm(Timer::Link(address.to_owned()), self.now(), step);
    }

    /// What waits on it is lost with it.
    fn close_link(&mut self, address: &str, step: &mut Step) {
        if let Some(link) = self.peers.links.remove(address) {
            step.outs.extend(link.connection.map(|connection| Out::Close { connection }));
            if let Some(seat) = link.seat {
                self.peers.roster.leave(seat);
            }
        }
    }

    fn found(&mut self, address: &str, node: NodeId, step: &mut Step) {
        if is_another_name(address, node, self.peers.leads()) {
            self.close_link(address, step);
        } else if let Some(link) = self.peers.links.get_mut(address) {
            link.lead.node = Some(node);
        }
    }

    // Links.

    pub(super) fn link_tick(&mut self, address: &str, step: &mut Step) {
        self.link(address, Event::Tick, step);
    }

    fn link(&mut self, address: &str, event: Event<WayBack>, step: &mut Step) {
        let now = self.now();
        let Some(link) = self.peers.links.get_mut(address) else { return };
        let mut effects = Vec::new();
        link.machine.step(now, event, &mut effects);
        self.write_link(address, &mut effects, step);
        for effect in effects {
            self.link_effect(address, effect, step);
        }
        if let Some(link) = self.peers.links.get(address) {
            let due = link.machine.due();
            self.arm(Timer::Link(address.to_owned()), due, step);
        }
    }

    fn write_link(&mut self, address: &str, effects: &mut Vec<Effect<WayBack>>, step: &mut Step) {
        let (now, clock) = (self.now(), self.hlc.reading(self.wall()));
        let Some(link) = self.peers.links.get_mut(address) else { return };
        let Some(connection) = link.connection else { return };
        while let Some(frame) = link.machine.next_frame(now, effects) {
            step.outs.push(Out::Send { connection, bytes: bytes_of(&frame, clock) });
        }
    }

    fn link_effect(&mut self, address: &str, effect: Effect<WayBack>, step: &mut Step) {
        match effect {
            Effect::Connect => {
                self.peers.attempts += 1;
                let attempt = self.peers.attempts;
                if let Some(link) = self.peers.links.get_mut(address) {
                    link.attempt = Some(attempt);
                }
                step.outs.push(Out::Connect { attempt, address: address.to_owned() });
            }
            Effect::Judge(body) => self.judge_welcome(address, &body, step),
            Effect::Ping => {
                let ping = encode(&Ping { leased: self.peers.told.upto() }).unwrap_or_default();
                self.link(address, Event::Pinging { ping }, step);
            }
            Effect::Answer(reply, answer) => {
                if let Err(error) = &answer {
                    self.post.seen(Seen::Refused { what: refused::transport(error) });
                }
                reply.send(answer);
            }
            Effect::Cut { why, was_up, again: _ } => self.cut_link(address, &why, was_up, step),
        }
    }

    pub(super) fn connected(&mut self, attempt: u64, accepted: bool, connection: ConnectionId, step: &mut Step) {
        let link = self.peers.links.iter_mut().find(|(_, link)| link.attempt == Some(attempt));
        let Some((address, link)) = link else {
            // It was given up meanwhile.
            return step.outs.push(Out::Close { connection });
        };
        let address = address.clone();
        link.attempt = None;
        if !accepted {
            return self.link(&address, Event::Broken(Cut::Connect("connection refused".into())), step);
        }
        link.connection = Some(connection);
        link.input = Input::new();
        let hello = encode(&hello(&self.peers.me, &self.peers.admission)).unwrap_or_default();
        self.link(&address, Event::Connected { hello }, step);
    }

    fn judge_welcome(&mut self, address: &str, body: &[u8], step: &mut Step) {
        let welcome = match decode::<Result<Welcome, Refusal>>(body) {
            Ok(Ok(welcome)) => welcome,
            Ok(Err(refusal)) => {
                self.peers.judge(|world| world.heard_refusal(&refusal));
                return self.link(address, Event::Broken(Cut::Refused(refusal)), step);
            }
            Err(error) => return self.link(address, Event::Broken(Cut::Garbage(error.to_string())), step),
        };
        let Some(link) = self.peers.links.get(address) else { return };
        let expected = link.expected;
        if let Err(refusal) = self.peers.judge(|world| judge_welcome(world, address, expected, &welcome)) {
            return self.link(address, Event::Broken(Cut::Refusing(refusal)), step);
        }
        let peer: Introduction = welcome.introduction;
        let since = self.now();
        if let Some(link) = self.peers.links.get_mut(address) {
            link.seat = Some(peer.node);
            link.input.decoder.trust();
            link.name.clone_from(&peer.name);
            link.state = LinkState::Up { since };
        }
        self.found(address, peer.node, step);
        self.link(address, Event::Welcomed, step);
        if self.peers.links.contains_key(address) {
            self.link_up(&peer);
        }
    }

    /// `LinkEvent::Up`, to whoever listens.
    fn link_up(&mut self, peer: &Introduction) {
        self.post.seen(Seen::Link { what: format!("link up to {}", peer.name) });
        self.post.seen(Seen::Linked { node: peer.node, boot: peer.boot, lease_found: peer.lease_found });
        self.post.message(Message::Gossip { event: Box::new(GossipEvent::Linked { node: peer.node }) });
        let event = kula_ring::Event::Seen { node: peer.node, version: Some(peer.ring_version) };
        self.post.message(Message::Ring { event: Box::new(event) });
        self.post.message(Message::HintsLook { target: peer.node });
    }

    fn cut_link(&mut self, address: &str, why: &Cut, was_up: bool, step: &mut Step) {
        self.post.seen(Seen::Refused { what: refused::cut(why) });
        let Some(link) = self.peers.links.get_mut(address) else { return };
        link.attempt = None;
        step.outs.extend(link.connection.take().map(|connection| Out::Close { connection }));
        link.input = Input::new();
        link.state = match why {
            Cut::Refused(refusal) | Cut::Refusing(refusal) => LinkState::Refused(refusal.clone()),
            _ => LinkState::Down { why: why.to_string() },
        };
        let (seat, name) = (link.seat.take(), link.name.clone());
        // Who judges may judge what a process wrote that is gone; who is refused looks into its log.
        if let Cut::Refused(Refusal::WentBack { node, .. }) = why {
            self.post.seen(Seen::WentBack { node: *node });
        }
        if let Some(node) = seat {
            self.peers.roster.leave(node);
            if was_up {
                self.post.message(Message::Gossip { event: Box::new(GossipEvent::Unlinked { node }) });
                self.post.message(Message::HintsLook { target: node });
            }
        }
        if was_up || matches!(why, Cut::Refused(_) | Cut::Refusing(_)) {
            self.post.seen(Seen::Link { what: format!("link to {name}: {why}") });
        }
        if matches!(why, Cut::Refused(Refusal::Yourself)) {
            self.peers.mirrors.insert(address.to_owned());
            self.close_link(address, step);
        }
    }

    // Sessions.

    pub(super) fn accepted(&mut self, connection: ConnectionId, step: &mut Step) {
        let machine = Session::new("transport/session", self.now());
        self.peers.sessions.insert(connection, Visitor { machine, input: Input::new(), peer: None, boot: 0 });
        self.after_session(connection, step);
    }

    pub(super) fn session_tick(&mut self, connection: ConnectionId, step: &mut Step) {
        let now = self.now();
        let Some(visitor) = self.peers.sessions.get_mut(&connection) else { return };
        match visitor.machine.tick(now) {
            Ok(()) => self.after_session(connection, step),
            Err(_) => self.end_session(connection, step),
        }
    }

    /// Writes what waits, ends it if it is over, asks for the next tick.
    fn after_session(&mut self, connection: ConnectionId, step: &mut Step) {
        let clock = self.hlc.reading(self.wall());
        let Some(visitor) = self.peers.sessions.get_mut(&connection) else { return };
        while let Some(frame) = visitor.machine.next_frame() {
            step.outs.push(Out::Send { connection, bytes: bytes_of(&frame, clock) });
        }
        if visitor.machine.has_parted(false) {
            return self.end_session(connection, step);
        }
        let due = visitor.machine.due();
        self.arm(Timer::Session(connection), due, step);
    }

    fn end_session(&mut self, connection: ConnectionId, step: &mut Step) {
        if let Some(visitor) = self.peers.sessions.remove(&connection) {
            step.outs.push(Out::Close { connection });
            if let Some(peer) = visitor.peer {
                self.peers.roster.leave(peer);
            }
        }
    }

    pub(super) fn respond(
        &mut self,
        connection: ConnectionId,
        request: u64,
        answer: Result<Bytes, Fault>,
        step: &mut Step,
    ) {
        if let Some(visitor) = self.peers.sessions.get_mut(&connection) {
            visitor.machine.respond(request, answer);
            self.after_session(connection, step);
        }
    }

    fn session_heard(&mut self, connection: ConnectionId, frame: Frame, step: &mut Step) -> Result<(), Cut> {
        let now = self.now();
        let Some(visitor) = self.peers.sessions.get_mut(&connection) else { return Ok(()) };
        match visitor.machine.hear(now, frame)? {
            Heard::Done => {}
            Heard::Hello { request, body } => self.judge_hello(connection, request, &body, step),
            Heard::Pinged { body } => self.pinged(connection, &body)?,
            Heard::Inbound { room, frame } => self.gather(connection, room, frame, step),
        }
        Ok(())
    }

    fn pinged(&mut self, connection: ConnectionId, body: &[u8]) -> Result<(), Cut> {
        let Ping { leased } = decode(body).map_err(|error| Cut::Garbage(error.to_string()))?;
        let Some(visitor) = self.peers.sessions.get(&connection) else { return Ok(()) };
        let boot = visitor.boot;
        if let (Some(node), Some(leased)) = (visitor.peer, leased) {
            self.peers.judge(|world| world.heard_lease(node, leased));
            self.post.seen(Seen::ToldLease { node, boot, leased });
        }
        Ok(())
    }

    fn judge_hello(&mut self, connection: ConnectionId, request: u64, body: &[u8], step: &mut Step) {
        let hello = decode::<Hello>(body).map_err(|_| Refusal::Malformed);
        let judged = match &hello {
            Ok(hello) => self.peers.judge(|world| judge_hello(world, hello)),
            Err(refusal) => Err(refusal.clone()),
        };
        if let Err(refusal) = &judged {
            self.post.seen(Seen::Link { what: format!("refused a node: {refusal}") });
        }
        let now = self.now();
        let Some(visitor) = self.peers.sessions.get_mut(&connection) else { return };
        let mut knocked = None;
        if let (Ok(_), Ok(hello)) = (&judged, &hello) {
            (visitor.peer, visitor.boot) = (Some(hello.introduction.node), hello.introduction.boot);
            visitor.input.decoder.trust();
            knocked = Some(hello.introduction.node);
        }
        let answer = encode(&judged).unwrap_or_default();
        visitor.machine.answer_hello(now, request, answer, judged.is_ok());
        if let Some(address) = knocked.and_then(|node| self.peers.route(node)) {
            self.link(&address, Event::Knocked, step);
        }
    }

    fn gather(&mut self, connection: ConnectionId, room: Room, frame: Frame, step: &mut Step) {
        let Frame { kind, verb, request, deadline_ms, trace, body, .. } = frame;
        let Some(from) = self.peers.sessions.get(&connection).and_then(|visitor| visitor.peer) else { return };
        let reply = match kind {
            Kind::Request => {
                let post = self.post.clone();
                Reply::new(move |answer: Result<Bytes, kula_actor::Lost>| {
                    let answer = answer.map_err(|_| Fault::Lost);
                    post.message(Message::Respond { connection, request, answer });
                })
            }
            Kind::OneWay | Kind::Response | Kind::Fault => Reply::ignored(),
        };
        let wait_ms = if deadline_ms == 0 { kula_types::limits::DEADLINE_MS_MAX } else { u64::from(deadline_ms) };
        let deadline = self.now().after(Duration::from_millis(wait_ms));
        step.later.push((0, Message::Inbound { room, inbound: Inbound { from, verb, body, deadline, trace, reply } }));
    }

    // What comes over the network.

    /// What strangers show moves nobody's clock.
    fn observe(&self, clock: Timestamp, is_known: bool) {
        if is_known {
            self.hlc.observe(clock, self.wall());
            let is_near = clock <= self.wall().saturating_add(kula_clock::limits::REMOTE_AHEAD_MAX);
            // Past its durable lease a clock is not moved.
            if is_near && Some(clock) <= self.identity.identity().lease {
                self.post.seen(Seen::Clock { clock });
            }
        }
    }

    pub(super) fn arrived(&mut self, connection: ConnectionId, piece: Piece, step: &mut Step) {
        if self.peers.sessions.contains_key(&connection) {
            let heard = match piece {
                Piece::Bytes(bytes) => self.session_bytes(connection, &bytes, step),
                Piece::End => Err(Cut::Closed),
            };
            match heard {
                Ok(()) => self.after_session(connection, step),
                Err(_) => self.end_session(connection, step),
            }
            return;
        }
        let link = self.peers.links.iter().find(|(_, link)| link.connection == Some(connection));
        let Some(address) = link.map(|(address, _)| address.clone()) else { return };
        match piece {
            Piece::Bytes(bytes) => self.link_bytes(&address, connection, &bytes, step),
            Piece::End => self.link(&address, Event::Broken(Cut::Closed), step),
        }
    }

    fn session_bytes(&mut self, connection: ConnectionId, bytes: &[u8], step: &mut Step) -> Result<(), Cut> {
        if let Some(visitor) = self.peers.sessions.get_mut(&connection) {
            visitor.input.bytes.extend_from_slice(bytes);
        }
        while let Some(visitor) = self.peers.sessions.get_mut(&connection) {
            match visitor.input.frame()? {
                Some((frame, clock)) => {
                    let is_known = visitor.peer.is_some();
                    self.observe(clock, is_known);
                    self.session_heard(connection, frame, step)?;
                }
                None => break,
            }
        }
        Ok(())
    }

    fn link_bytes(&mut self, address: &str, connection: ConnectionId, bytes: &[u8], step: &mut Step) {
        if let Some(link) = self.peers.links.get_mut(address) {
            link.input.bytes.extend_from_slice(bytes);
        }
        while let Some(link) = self.peers.links.get_mut(address).filter(|link| link.connection == Some(connection)) {
            match link.input.frame() {
                Ok(Some((frame, clock))) => {
                    let is_known = link.seat.is_some();
                    self.observe(clock, is_known);
                    self.link(address, Event::Heard(frame), step);
                }
                Ok(None) => return,
                Err(cut) => return self.link(address, Event::Broken(cut), step),
            }
        }
    }
}

fn bytes_of(frame: &Frame, clock: Timestamp) -> Bytes {
    let mut bytes = BytesMut::with_capacity(frame.wire_bytes());
    frame.write(clock, &mut bytes);
    bytes.freeze()
}

/// As the transport of a node makes it.
pub fn backoff(roll: impl Fn() -> f64 + Send + Sync + 'static) -> Backoff {
    Backoff::new(limits::RECONNECT_FIRST, limits::RECONNECT_MAX).with_jitter(0.5, roll)
}
