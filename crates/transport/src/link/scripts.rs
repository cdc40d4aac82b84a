//! Stories of one link, told by hand: a machine with tags for replies, every effect printed.

use super::machine::{Effect, Event, Machine, Parcel};
use crate::{Cut, limits};
use bytes::Bytes;
use kula_actor::Backoff;
use kula_types::Mono;
use kula_wire::{Frame, Kind, Lane, Verb, verbs::link::Hello};

struct Story {
    machine: Machine<&'static str>,
    now: u64,
}

impl Story {
    fn new() -> Self {
        let backoff = Backoff::new(limits::RECONNECT_FIRST, limits::RECONNECT_MAX);
        Story { machine: Machine::new("link".into(), "n2".into(), backoff, Mono::from_millis(0)), now: 0 }
    }

    fn up() -> Self {
        let mut story = Story::new();
        assert_eq!(story.step(Event::Tick), ["connect"]);
        assert!(story.step(Event::Connected { hello: Bytes::new() }).is_empty());
        assert_eq!(story.frames(), ["Request 0x0101 #1 0ms"]);
        assert_eq!(story.step(heard(Kind::Response, Hello::CODE, 1)), ["judge"]);
        assert!(story.step(Event::Welcomed).is_empty());
        story
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self
    }

    fn step(&mut self, event: Event<&'static str>) -> Vec<String> {
        let mut effects = Vec::new();
        let now = Mono::from_millis(self.now);
        self.machine.step(now, event, &mut effects);
        if effects.iter().any(|effect| matches!(effect, Effect::Ping)) {
            effects.retain(|effect| !matches!(effect, Effect::Ping));
            self.machine.step(now, Event::Pinging { ping: Bytes::new() }, &mut effects);
        }
        effects.into_iter().map(line).collect()
    }

    fn frames(&mut self) -> Vec<String> {
        let (mut lines, mut effects) = (Vec::new(), Vec::new());
        while let Some(frame) = self.machine.next_frame(Mono::from_millis(self.now), &mut effects) {
            let Frame { kind, verb, request, deadline_ms, .. } = frame;
            lines.push(format!("{kind:?} {verb:#06x} #{request} {deadline_ms}ms"));
        }
        lines.extend(effects.into_iter().map(line));
        lines
    }
}

fn line(effect: Effect<&'static str>) -> String {
    match effect {
        Effect::Connect => "connect".into(),
        Effect::Judge(_) => "judge".into(),
        Effect::Ping => "ping".into(),
        Effect::Cut { why, was_up, again } => format!("cut: {why}; up {was_up}; again in {again:?}"),
        Effect::Answer(tag, answer) => format!("{tag}: {answer:?}"),
    }
}

fn heard(kind: Kind, verb: u16, request: u64) -> Event<&'static str> {
    let body = Bytes::new();
    Event::Heard(Frame { kind, lane: Lane::Urgent, verb, request, deadline_ms: 0, trace: 0, body })
}

fn ask(tag: &'static str, lane: Lane, deadline: u64) -> Event<&'static str> {
    let deadline = Some(Mono::from_millis(deadline));
    Event::Send(Parcel { lane, verb: 0x0501, body: Bytes::new(), deadline, trace: 0, way_back: Some(tag) })
}

#[test]
fn nothing_is_sent_before_the_link_is_up() {
    let mut story = Story::new();
    assert_eq!(story.step(ask("early", Lane::Request, 100)), ["early: Err(NotConnected)"]);
    assert_eq!(story.step(Event::Tick), ["connect"]);
    assert_eq!(story.step(ask("early", Lane::Request, 100)), ["early: Err(NotConnected)"]);
    assert!(story.frames().is_empty());
}

#[test]
fn a_cut_tells_what_was_sent_from_what_was_not() {
    let mut story = Story::up();
    assert!(story.step(ask("sent", Lane::Request, 900)).is_empty());
    assert_eq!(story.at(100).frames(), ["Request 0x0501 #2 800ms"]);
    assert!(story.step(ask("waits", Lane::Request, 900)).is_empty());
    let told = story.step(Event::Broken(Cut::Closed));
    let cut = "cut: the peer closed the connection; up true; again in 50ms";
    assert_eq!(told, ["sent: Err(Lost)", "waits: Err(NotConnected)", cut]);
    assert!(story.step(Event::Broken(Cut::Stalled)).is_empty(), "an echo of the cut");
}

#[test]
fn deadlines_pass_before_and_after_sending() {
    let mut story = Story::up();
    story.step(ask("late", Lane::Bulk, 50));
    story.step(ask("slow", Lane::Request, 200));
    assert_eq!(story.at(100).frames(), ["Request 0x0501 #2 100ms", "late: Err(Expired)"]);
    assert!(story.at(199).step(Event::Tick).is_empty());
    assert_eq!(story.at(230).step(Event::Tick), ["slow: Err(TimedOut)"]);
    assert!(story.step(heard(Kind::Response, 0x0501, 2)).is_empty(), "an answer nobody waits for");
}

#[test]
fn a_silent_peer_is_pinged_each_second_and_cut_within_five() {
    let mut story = Story::up();
    let mut told = Vec::new();
    for now in (0..=5_000).step_by(100) {
        told.extend(story.at(now).step(Event::Tick).into_iter().map(|line| format!("{now}: {line}")));
        told.extend(story.frames().into_iter().map(|line| format!("{now}: {line}")));
    }
    let pings = told.iter().filter(|line| line.contains("0x0102")).count();
    assert_eq!(pings, 5);
    assert_eq!(told[5], "4500: cut: nothing was heard for 4500 ms; up true; again in 50ms");
    assert_eq!(told[6], "4600: connect");
}

#[test]
fn waits_between_attempts_double_to_their_cap() {
    let mut story = Story::new();
    let waits: Vec<String> = (0..8)
        .map(|turn| {
            story.at(turn * 10_000).step(Event::Tick);
            let cut = story.step(Event::Broken(Cut::Connect("refused".into()))).remove(0);
            cut.rsplit(' ').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(waits, ["50ms", "100ms", "200ms", "400ms", "800ms", "1.6s", "2s", "2s"]);
}

#[test]
fn what_nobody_asked_for_ends_the_connection() {
    for (kind, verb) in [(Kind::Request, 0x0501), (Kind::OneWay, 0x0201)] {
        let told = Story::up().step(heard(kind, verb, 9));
        assert!(told[0].starts_with("cut: it does not speak the protocol"), "{told:?}");
    }
}

#[test]
fn requests_that_wait_to_be_sent_or_answered_are_bounded() {
    let mut story = Story::up();
    let half = limits::REQUESTS_MAX / 2;
    (0..half).for_each(|_| assert!(story.step(ask("one", Lane::Request, 900)).is_empty()));
    assert_eq!(story.frames().len(), half);
    (0..half).for_each(|_| assert!(story.step(ask("one", Lane::Request, 900)).is_empty()));
    let more = story.step(ask("more", Lane::Urgent, 900));
    assert_eq!(more, [r#"more: Err(Overloaded { path: "link", depth: 8192, cap: 8192 })"#]);
    assert_eq!(story.step(heard(Kind::Response, 0x0501, 2)), ["one: Ok(b\"\")"]);
    assert!(story.step(ask("again", Lane::Request, 900)).is_empty());
}

#[test]
fn a_peer_that_connects_to_us_is_tried_at_once() {
    let mut story = Story::new();
    for turn in 0..8 {
        story.at(turn * 10_000).step(Event::Tick);
        story.step(Event::Broken(Cut::Connect("refused".into())));
    }
    assert!(story.at(70_100).step(Event::Tick).is_empty(), "it waits two seconds");
    assert!(story.step(Event::Knocked).is_empty());
    assert_eq!(story.step(Event::Tick), ["connect"]);
    assert!(story.step(Event::Knocked).is_empty(), "it is on its way");
    assert!(story.step(Event::Tick).is_empty());
}
