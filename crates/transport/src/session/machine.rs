//! One session: what one connected peer asks of us, and what we answer. Pure.
//!
//! A peer is a stranger until its hello was judged: until then it may say nothing else, and not for long. Each request is
//! answered exactly once, with its answer or with a fault; more than `limits::SERVING_MAX` at a time, or more than
//! `limits::SERVING_BYTES_MAX` of them, are refused.

use crate::{error::Cut, lanes::Lanes, limits};
use bytes::Bytes;
use kula_fault::{Site, buggify};
use kula_types::{Map, Mono};
use kula_wire::{
    Frame, Kind, Lane, Room, Verb, encode,
    verbs::link::{Fault, Hello, Ping},
};

/// What the shell has to do about a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The body of a hello: to be judged, then `answer_hello`.
    Hello { request: u64, body: Bytes },
    /// The body of a ping; it was answered.
    Pinged { body: Bytes },
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

/// A request that a room has.
struct Serving {
    lane: Lane,
    verb: u16,
    bytes: usize,
}

pub struct Machine {
    state: State,
    heard: Mono,
    lanes: Lanes<Frame>,
    serving: Map<u64, Serving>,
    serving_bytes: usize,
    path: String,
}

impl Machine {
    pub fn new(path: &str, now: Mono) -> Self {
        let state = State::Shaking { until: now.after(limits::HANDSHAKE_WITHIN) };
        let (lanes, serving, path) = (Lanes::new(), Map::default(), path.to_owned());
        Machine { state, heard: now, lanes, serving, serving_bytes: 0, path }
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
                let body = frame.body.clone();
                self.push(Frame { kind: Kind::Response, body: Bytes::new(), ..frame });
                Ok(Heard::Pinged { body })
            }
            (Kind::Request, Some(room)) if room != Room::Link => {
                if let Some((depth, cap)) = self.is_full() {
                    let (path, depth, cap) = (self.path.clone(), count(depth), count(cap));
                    self.push_fault(request, lane, verb, &Fault::Overloaded { path, depth, cap });
                    return Ok(Heard::Done);
                }
                let bytes = frame.body.len();
                self.serving_bytes += bytes;
                if request == 0 || self.serving.insert(request, Serving { lane, verb, bytes }).is_some() {
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
        let Some(Serving { lane, verb, bytes }) = self.serving.remove(&request) else { return };
        self.serving_bytes -= bytes;
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
        self.lanes.len() < limits::SERVING_MAX && self.lanes.bytes() < limits::ANSWERS_BYTES_MAX
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
            State::Up if !self.reads() => {
                // It is not silent, we do not listen; whether it takes its answers is watched elsewhere.
                self.heard = now;
                Ok(())
            }
            State::Up if now.since(self.heard) >= limits::SILENCE_MAX => Err(Cut::Silent),
            State::Shaking { .. } | State::Parting { .. } | State::Up => Ok(()),
        }
    }

    /// What is full, if the rooms have enough of this peer in hand.
    fn is_full(&self) -> Option<(usize, usize)> {
        let requests = (self.serving.len(), limits::SERVING_MAX);
        let bytes = (self.serving_bytes, limits::SERVING_BYTES_MAX);
        if buggify(Site::SessionFull) {
            return Some(requests);
        }
        [requests, bytes].into_iter().find(|(depth, cap)| depth >= cap)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, verb: u16, request: u64) -> Frame {
        Frame { kind, lane: Lane::Request, verb, request, deadline_ms: 0, trace: 0, body: Bytes::new() }
    }

    fn up() -> Machine {
        let mut machine = Machine::new("session", Mono::default());
        let hello = machine.hear(Mono::default(), frame(Kind::Request, Hello::CODE, 1)).unwrap();
        assert!(matches!(hello, Heard::Hello { request: 1, .. }));
        machine.answer_hello(Mono::default(), 1, Bytes::new(), true);
        assert_eq!(machine.next_frame().map(|frame| frame.verb), Some(Hello::CODE));
        machine
    }

    fn ask(machine: &mut Machine, request: u64) -> Heard {
        machine.hear(Mono::default(), frame(Kind::Request, 0x0501, request)).unwrap()
    }

    // Promise: P9
    #[test]
    fn requests_in_service_are_bounded() {
        let mut machine = up();
        let cap = count(limits::SERVING_MAX);
        (2..cap + 2).for_each(|request| assert!(matches!(ask(&mut machine, request), Heard::Inbound { .. })));
        assert_eq!(ask(&mut machine, cap + 2), Heard::Done);
        let fault = machine.next_frame().unwrap();
        assert_eq!((fault.kind, fault.request), (Kind::Fault, cap + 2));
        let path = "session".to_owned();
        assert_eq!(kula_wire::decode(&fault.body), Ok(Fault::Overloaded { path, depth: cap, cap }));
        machine.respond(2, Ok(Bytes::new()));
        assert!(matches!(ask(&mut machine, cap + 3), Heard::Inbound { .. }));
    }

    // Promise: P9
    #[test]
    fn bytes_in_service_are_bounded() {
        let mut machine = up();
        let body = Bytes::from(vec![0; 1 << 20]);
        let mut ask = |request: u64| {
            let asked = Frame { body: body.clone(), ..frame(Kind::Request, 0x0501, request) };
            machine.hear(Mono::default(), asked).unwrap()
        };
        let taken = (2..).take_while(|request| matches!(ask(*request), Heard::Inbound { .. })).count();
        assert_eq!(taken << 20, limits::SERVING_BYTES_MAX);
        machine.respond(2, Ok(Bytes::new()));
        let asked = frame(Kind::Request, 0x0501, 1_000);
        assert!(matches!(machine.hear(Mono::default(), asked), Ok(Heard::Inbound { .. })), "room again");
    }

    #[test]
    fn a_peer_that_takes_no_answers_is_read_no_more_and_what_waits_for_it_is_bounded() {
        let mut machine = up();
        let answer = Bytes::from(vec![0; 1 << 20]);
        (2..500).for_each(|request| assert!(matches!(ask(&mut machine, request), Heard::Inbound { .. })));
        for request in 2..500 {
            machine.respond(request, Ok(answer.clone()));
            assert_eq!(machine.reads(), machine.lanes.bytes() < limits::ANSWERS_BYTES_MAX);
        }
        // Everything in service is answered, past the bytes of a lane with a small fault.
        let faults = 498 * 64;
        assert!(machine.lanes.bytes() <= limits::LANE_BYTES_MAX[1] + faults, "{} bytes wait", machine.lanes.bytes());
        assert_eq!((machine.lanes.len(), machine.serving.len()), (498, 0));
        let late = Mono::default().after(limits::SILENCE_MAX);
        assert_eq!(machine.tick(late), Ok(()), "it is not silent: we do not listen");
        while machine.next_frame().is_some() {}
        assert!(machine.reads());
        assert_eq!(machine.tick(late.after(limits::SILENCE_MAX)), Err(Cut::Silent));
    }

    #[test]
    fn a_ping_is_answered_and_what_it_says_is_handed_on() {
        let mut machine = up();
        let body = Bytes::from_static(b"leased");
        let ping = Frame { body: body.clone(), ..frame(Kind::Request, Ping::CODE, 2) };
        assert_eq!(machine.hear(Mono::default(), ping), Ok(Heard::Pinged { body }));
        let answer = machine.next_frame().unwrap();
        assert_eq!((answer.kind, answer.request, answer.body.len()), (Kind::Response, 2, 0));
    }

    #[test]
    fn a_stranger_says_hello_in_time_and_nothing_else() {
        for kind in [Kind::Request, Kind::OneWay, Kind::Response, Kind::Fault] {
            let mut machine = Machine::new("session", Mono::default());
            assert!(matches!(machine.hear(Mono::default(), frame(kind, 0x0501, 1)), Err(Cut::Garbage(_))), "{kind:?}");
        }
        let mut machine = Machine::new("session", Mono::default());
        assert_eq!(machine.tick(Mono::default().after(limits::HANDSHAKE_WITHIN)), Err(Cut::HandshakeLate));
    }
}
