//! One link: our connection to one peer, its lanes, its requests, its deadlines. Pure: time, dice and the peer's bytes
//! are arguments.
//!
//! A request is refused at once while there is no connection: nobody waits for a peer that may be dead. What was handed
//! to the socket when a connection ends is *lost*, what still waited in a lane was not sent. `W` is the way back.

use crate::{
    error::{Cut, TransportError},
    lanes::Lanes,
    limits,
};
use bytes::Bytes;
use kula_actor::Backoff;
use kula_fault::{Site, buggify};
use kula_types::{Map, Mono};
use kula_wire::{
    Frame, Kind, Lane, Verb, decode,
    verbs::link::{Fault, Hello, Ping},
};
use std::{sync::Arc, time::Duration};

/// What is to be sent. Without a way back it is told, not asked.
#[derive(Debug)]
pub struct Parcel<W> {
    pub lane: Lane,
    pub verb: u16,
    pub body: Bytes,
    pub deadline: Option<Mono>,
    pub trace: u64,
    pub way_back: Option<W>,
}

#[derive(Debug)]
pub enum Event<W> {
    Tick,
    Connected {
        /// The body of a `Hello`.
        hello: Bytes,
    },
    /// The peer's answer to the hello was judged and is fine.
    Welcomed,
    Broken(Cut),
    /// The peer has just connected to us: it is there.
    Knocked,
    /// The answer to `Effect::Ping`.
    Pinging {
        /// The body of a `Ping`.
        ping: Bytes,
    },
    Send(Parcel<W>),
    Heard(Frame),
}

#[derive(Debug)]
pub enum Effect<W> {
    Connect,
    /// To be judged; then `Welcomed`, or `Broken`.
    Judge(Bytes),
    /// It is time to ask for a sign of life: `Pinging`.
    Ping,
    /// The connection, if there is one, is to be closed. The link waits until `again`.
    Cut {
        why: Cut,
        was_up: bool,
        again: Duration,
    },
    Answer(W, Result<Bytes, TransportError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Mono },
    Connecting { until: Mono },
    Shaking { until: Mono },
    Up { since: Mono },
}

pub struct Machine<W> {
    /// For refusals.
    path: Arc<str>,
    /// What the peer is called in paths of its own.
    peer: Arc<str>,
    backoff: Backoff,
    state: State,
    failures: usize,
    heard: Mono,
    ping_at: Mono,
    sweep_at: Mono,
    lanes: Lanes<Parcel<W>>,
    next_request: u64,
    /// Sent, by request id.
    asked: Map<u64, (Mono, W)>,
}

/// A deadline for those who gave none: a request without an end would hold its place for ever.
const DEADLINE_DEFAULT: Duration = Duration::from_millis(kula_types::limits::DEADLINE_MS_MAX);

impl<W> Machine<W> {
    /// A link that connects at its first tick.
    pub fn new(path: Arc<str>, peer: Arc<str>, backoff: Backoff, now: Mono) -> Self {
        Machine {
            path,
            peer,
            backoff,
            state: State::Waiting { until: now },
            failures: 0,
            heard: now,
            ping_at: now,
            sweep_at: now,
            lanes: Lanes::new(),
            next_request: 1,
            asked: Map::default(),
        }
    }

    pub fn step(&mut self, now: Mono, event: Event<W>, effects: &mut Vec<Effect<W>>) {
        match event {
            Event::Tick => self.tick(now, effects),
            Event::Connected { hello } => self.connected(now, hello),
            Event::Welcomed => {
                self.state = State::Up { since: now };
                (self.ping_at, self.sweep_at) = (now, now);
            }
            Event::Broken(why) => self.cut(now, why, effects),
            Event::Knocked => {
                if let State::Waiting { until } = &mut self.state {
                    *until = now;
                }
            }
            Event::Pinging { ping } => self.own(Ping::CODE, ping),
            Event::Send(parcel) => self.send(parcel, effects),
            Event::Heard(frame) => self.hear(now, frame, effects),
        }
    }

    /// When the next `Tick` is due.
    pub fn due(&self) -> Mono {
        match self.state {
            State::Waiting { until } | State::Connecting { until } | State::Shaking { until } => until,
            State::Up { .. } => {
                let alive = self.ping_at.min(self.heard.after(limits::SILENCE_MAX));
                if self.asked.is_empty() { alive } else { alive.min(self.sweep_at) }
            }
        }
    }

    /// The next frame for the socket. From here on it counts as sent.
    pub fn next_frame(&mut self, now: Mono, effects: &mut Vec<Effect<W>>) -> Option<Frame> {
        if matches!(self.state, State::Up { .. }) && !self.lanes.is_empty() && buggify(Site::SocketFull) {
            return None;
        }
        loop {
            let Parcel { lane, verb, body, deadline, trace, way_back } = self.lanes.pop()?;
            let left = deadline.map(|deadline| deadline.since(now));
            if left.is_some_and(|left| left.is_zero()) {
                effects.extend(way_back.map(|way_back| Effect::Answer(way_back, Err(TransportError::Expired))));
                continue;
            }
            let deadline_ms = left.map_or(0, |left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1));
            let (kind, request) = match way_back {
                None if verb != Hello::CODE && verb != Ping::CODE => (Kind::OneWay, 0),
                way_back => {
                    let request = self.next_request;
                    self.next_request += 1;
                    if let Some(way_back) = way_back {
                        let deadline = deadline.unwrap_or(now.after(DEADLINE_DEFAULT));
                        self.asked.insert(request, (deadline, way_back));
                    }
                    (Kind::Request, request)
                }
            };
            return Some(Frame { kind, lane, verb, request, deadline_ms, trace, body });
        }
    }

    fn tick(&mut self, now: Mono, effects: &mut Vec<Effect<W>>) {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Connecting { until: now.after(limits::CONNECT_WITHIN) };
                effects.push(Effect::Connect);
            }
            State::Connecting { until } if until <= now => self.cut(now, Cut::ConnectLate, effects),
            State::Shaking { until } if until <= now => self.cut(now, Cut::HandshakeLate, effects),
            State::Up { .. } if now.since(self.heard) >= limits::SILENCE_MAX => self.cut(now, Cut::Silent, effects),
            State::Up { .. } if self.asked.is_empty() && self.lanes.is_empty() && buggify(Site::IdleLinkCut) => {
                self.cut(now, Cut::Closed, effects);
            }
            State::Up { .. } => {
                if self.ping_at <= now {
                    self.ping_at = now.after(limits::HEARTBEAT_EVERY);
                    effects.push(Effect::Ping);
                }
                if self.sweep_at <= now {
                    self.sweep_at = now.after(limits::SWEEP_EVERY);
                    let late = self.asked.extract_if(|_, (deadline, _)| *deadline <= now);
                    effects.extend(late.map(|(_, (_, late))| Effect::Answer(late, Err(TransportError::TimedOut))));
                }
            }
            State::Waiting { .. } | State::Connecting { .. } | State::Shaking { .. } => {}
        }
    }

    fn connected(&mut self, now: Mono, hello: Bytes) {
        self.state = State::Shaking { until: now.after(limits::HANDSHAKE_WITHIN) };
        self.heard = now;
        self.own(Hello::CODE, hello);
    }

    /// A frame of our own: there is one hello, and one ping a second that finds its lane empty or the peer dead.
    fn own(&mut self, verb: u16, body: Bytes) {
        let parcel = Parcel { lane: Lane::Urgent, verb, body, deadline: None, trace: 0, way_back: None };
        self.lanes.push_forced(Lane::Urgent, 0, parcel);
    }

    fn send(&mut self, parcel: Parcel<W>, effects: &mut Vec<Effect<W>>) {
        let refused = if !matches!(self.state, State::Up { .. }) {
            (parcel.way_back, TransportError::NotConnected)
        } else if self.asked.len() + self.lanes.len() >= limits::REQUESTS_MAX {
            let (depth, cap) = (self.asked.len() + self.lanes.len(), limits::REQUESTS_MAX);
            (parcel.way_back, TransportError::Overloaded { path: Arc::clone(&self.path), depth, cap })
        } else {
            match self.lanes.push(parcel.lane, parcel.body.len(), parcel) {
                Ok(()) => return,
                Err(full) => {
                    let (depth, cap) = (full.depth, full.cap);
                    (full.item.way_back, TransportError::Overloaded { path: Arc::clone(&self.path), depth, cap })
                }
            }
        };
        let (way_back, error) = refused;
        effects.extend(way_back.map(|way_back| Effect::Answer(way_back, Err(error))));
    }

    fn hear(&mut self, now: Mono, frame: Frame, effects: &mut Vec<Effect<W>>) {
        self.heard = now;
        match (frame.kind, self.state) {
            (Kind::Response, State::Shaking { .. }) if frame.verb == Hello::CODE => {
                effects.push(Effect::Judge(frame.body));
            }
            (Kind::Response, State::Up { .. }) => {
                // Of a ping, or of a request that is past its deadline: nobody waits.
                if let Some((_, way_back)) = self.asked.remove(&frame.request) {
                    effects.push(Effect::Answer(way_back, Ok(frame.body)));
                }
            }
            (Kind::Fault, State::Up { .. }) => {
                if let Some((_, way_back)) = self.asked.remove(&frame.request) {
                    effects.push(Effect::Answer(way_back, Err(self.meaning(&frame.body))));
                }
            }
            (kind, _) => {
                let why = Cut::Garbage(format!("{kind:?} of verb {:#06x} out of place", frame.verb));
                self.cut(now, why, effects);
            }
        }
    }

    fn meaning(&self, fault: &[u8]) -> TransportError {
        match decode(fault) {
            Ok(Fault::Overloaded { path, depth, cap }) => TransportError::Overloaded {
                path: format!("{}:{path}", self.peer).into(),
                depth: usize::try_from(depth).unwrap_or(usize::MAX),
                cap: usize::try_from(cap).unwrap_or(usize::MAX),
            },
            Ok(Fault::UnknownVerb { verb }) => TransportError::UnknownVerb { verb },
            Ok(Fault::Expired) => TransportError::Expired,
            Ok(Fault::Lost) => TransportError::Lost,
            Err(_) => TransportError::Malformed,
        }
    }

    fn cut(&mut self, now: Mono, why: Cut, effects: &mut Vec<Effect<W>>) {
        let up_since = match self.state {
            // Already cut; this is the echo of it.
            State::Waiting { .. } => return,
            State::Connecting { .. } | State::Shaking { .. } => None,
            State::Up { since } => Some(since),
        };
        let lasted = up_since.is_some_and(|since| now.since(since) > limits::SILENCE_MAX);
        self.failures = if lasted { 1 } else { self.failures.saturating_add(1) };
        let again = self.backoff.delay(self.failures);
        self.state = State::Waiting { until: now.after(again) };
        let mut lost: Vec<_> = self.asked.drain().collect();
        lost.sort_unstable_by_key(|(request, _)| *request);
        effects.extend(lost.into_iter().map(|(_, (_, lost))| Effect::Answer(lost, Err(TransportError::Lost))));
        let unsent = self.lanes.drain().filter_map(|parcel| parcel.way_back);
        effects.extend(unsent.map(|unsent| Effect::Answer(unsent, Err(TransportError::NotConnected))));
        effects.push(Effect::Cut { why, was_up: up_since.is_some(), again });
    }
}
