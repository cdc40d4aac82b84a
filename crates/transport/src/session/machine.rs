//! One session: what one connected peer asks of us, and what we answer. Pure.
//!
//! A peer is a stranger until its hello was judged: until then it may say nothing else, and not for long. Each request is
//! answered exactly once, with its answer or with a fault; more than `limits::SERVING_MAX` at a time are refused.

use crate::{error::Cut, lanes::Lanes, limits};
use bytes::Bytes;
use kula_types::{Map, Mono};
use kula_wire::{
    Frame, Kind, Lane, Room, Verb, encode,
    verbs::link::{Fault, Hello, Ping},
};

/// What the shell has to do about a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The body of a hello: to be judged, then `answer_hello`.
    Hello { request: u64, body: Bytes },
    /// For this room.
    Inbound { room: Room, frame: Frame },
    /// It has been answered, or wants nothing.
    Done,
}

enum State {
    Shaking {
        until: Mono,
    },
    /// The refusal goes out, then the connection ends.
    Parting {
        until: Mono,
    },
    Up,
}

pub(crate) struct Machine {
    state: State,
    heard: Mono,
    lanes: Lanes<Frame>,
    serving: Map<u64, (Lane, u16)>,
    path: String,
}

impl Machine {
    pub fn new(path: &str, now: Mono) -> Self {
        let state = State::Shaking { until: now.after(limits::HANDSHAKE_WITHIN) };
        Machine { state, heard: now, lanes: Lanes::new(), serving: Map::default(), path: path.to_owned() }
    }

    pub fn hear(&mut self, now: Mono, frame: Frame) -> Result<Heard, Cut> {
        self.heard = now;
        match self.state {
            State::Shaking { .. } if frame.kind == Kind::Request && frame.verb == Hello::CODE => {
                Ok(Heard::Hello { request: frame.request, body: frame.body })
            }
            State::Shaking { .. } => Err(Cut::Garbage("it did not begin with a hello".to_owned())),
            State::Parting { .. } => Ok(Heard::Done),
            State::Up => self.hear_peer(frame),
        }
    }

    /// The hello was judged.
    pub fn answer_hello(&mut self, now: Mono, request: u64, body: Bytes, welcome: bool) {
        self.state = if welcome { State::Up } else { State::Parting { until: now.after(limits::HANDSHAKE_WITHIN) } };
        self.push(Frame {
            kind: Kind::Response,
            lane: Lane::Urgent,
            verb: Hello::CODE,
            request,
            deadline_ms: 0,
            trace: 0,
            body,
        });
    }

    fn hear_peer(&mut self, frame: Frame) -> Result<Heard, Cut> {
        let Frame { lane, verb, request, .. } = frame;
        match (frame.kind, Room::of(verb)) {
            (Kind::Request, _) if verb == Ping::CODE => {
                self.push(Frame { kind: Kind::Response, body: Bytes::new(), ..frame });
                Ok(Heard::Done)
            }
            (Kind::Request, Some(room)) if room != Room::Link => {
                if self.serving.len() >= limits::SERVING_MAX {
                    let (depth, cap) = (count(self.serving.len()), count(limits::SERVING_MAX));
                    self.push_fault(request, lane, verb, &Fault::Overloaded { path: self.path.clone(), depth, cap });
                    return Ok(Heard::Done);
                }
                if request == 0 || self.serving.insert(request, (lane, verb)).is_some() {
                    return Err(Cut::Garbage(format!("request id {request} is 0 or already in use")));
                }
                Ok(Heard::Inbound { room, frame })
            }
            (Kind::Request, _) => {
                self.push_fault(request, lane, verb, &Fault::UnknownVerb { verb });
                Ok(Heard::Done)
            }
            (Kind::OneWay, Some(room)) if room != Room::Link => Ok(Heard::Inbound { room, frame }),
            // Of a later version; it wants no answer.
            (Kind::OneWay, _) => Ok(Heard::Done),
            (Kind::Response | Kind::Fault, _) => Err(Cut::Garbage("it answers what nobody asked".to_owned())),
        }
    }

    /// Answers a request that is being served; one that was answered already is left alone.
    pub fn respond(&mut self, request: u64, answer: Result<Bytes, Fault>) {
        let Some((lane, verb)) = self.serving.remove(&request) else { return };
        match answer {
            Ok(body) if body.len() <= kula_wire::limits::BODY_BYTES_MAX => {
                let frame = Frame { kind: Kind::Response, lane, verb, request, deadline_ms: 0, trace: 0, body };
                if self.lanes.push(lane, frame.body.len(), frame).is_err() {
                    // The peer reads more slowly than it asks. The work is done; only the answer has no room.
                    self.push_fault(request, lane, verb, &Fault::Lost);
                }
            }
            Ok(_) => self.push_fault(request, lane, verb, &Fault::Lost),
            Err(fault) => self.push_fault(request, lane, verb, &fault),
        }
    }

    /// For the socket.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.lanes.pop()
    }

    /// Whether more may be read: a peer that does not take its answers gets no more served.
    pub fn reads(&self) -> bool {
        self.lanes.len() < limits::SERVING_MAX
    }

    /// The connection is over, in good order.
    pub fn has_parted(&self, output: bool) -> bool {
        matches!(self.state, State::Parting { .. }) && self.lanes.is_empty() && !output
    }

    pub fn due(&self) -> Mono {
        match self.state {
            State::Shaking { until } | State::Parting { until } => until,
            State::Up => self.heard.after(limits::SILENCE_MAX),
        }
    }

    pub fn tick(&mut self, now: Mono) -> Result<(), Cut> {
        match self.state {
            State::Shaking { until } | State::Parting { until } if until <= now => Err(Cut::HandshakeLate),
            State::Up if now.since(self.heard) >= limits::SILENCE_MAX => Err(Cut::Silent),
            State::Shaking { .. } | State::Parting { .. } | State::Up => Ok(()),
        }
    }

    fn push_fault(&mut self, request: u64, lane: Lane, verb: u16, fault: &Fault) {
        // A fault is a few plain fields; an empty body is understood as *unknown*.
        let body = encode(fault).unwrap_or_default();
        self.push(Frame { kind: Kind::Fault, lane, verb, request, deadline_ms: 0, trace: 0, body });
    }

    /// Small frames, one for each frame heard, and `reads` stops the hearing.
    fn push(&mut self, frame: Frame) {
        self.lanes.push_forced(frame.lane, frame.body.len(), frame);
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
