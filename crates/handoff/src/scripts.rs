//! Runs `testdata/*.txt` on one delivery: events in, every effect out, blessed snapshots beside.
//!
//! A line is `at MS`, `kept N`, `reach`, `unreach`, `begun OFFSET COUNT`, `begun none`, `chunk end|more OFFSET:BYTES ..`,
//! `chunk none`, `ok TICKET`, `notnow TICKET`, `notthis TICKET`, `never TICKET`, `requeued TICKET yes|no` or `wake`.

use crate::{
    machine::{Delivery, Window},
    record::{HEADER_BYTES, Hint},
    step::{Effect, Event, Outcome, Ticket},
    target_log::{Chunk, after},
};
use bytes::Bytes;
use kula_disk::log::Position;
use kula_types::{Mono, Timestamp, Token};
use std::fmt::Write;

const WINDOW: Window = Window { read_records: 4, read_bytes: 1_000, in_flight: 3, in_flight_bytes: 600 };
/// Bytes a second.
const RATE: u64 = 8_000;

fn place(offset: &str) -> Position {
    Position { segment: 1, offset: offset.parse().unwrap() }
}

fn hint(word: &str) -> (Position, Hint) {
    let (offset, bytes) = word.split_once(':').unwrap();
    let position = place(offset);
    let stored = Timestamp::from_micros(i64::from(position.offset)).unwrap();
    let mutation = Bytes::from(vec![0; bytes.parse::<usize>().unwrap() - HEADER_BYTES]);
    (position, Hint { token: Token(0), stored, mutation })
}

fn chunk(words: &[&str], is_end: bool) -> Chunk {
    let hints: Vec<(Position, Hint)> = words.iter().map(|word| hint(word)).collect();
    let next = hints.last().map_or(Position::START, |(position, _)| after(*position));
    Chunk { hints, next, is_end }
}

fn event(words: &[&str]) -> Event {
    let ticket = |word: &str| Ticket(word.parse().unwrap());
    let answered = |word: &str, outcome| Event::Answered { ticket: ticket(word), outcome };
    match words {
        ["kept", count] => Event::Kept { count: count.parse().unwrap() },
        ["reach"] => Event::Reachable(true),
        ["unreach"] => Event::Reachable(false),
        ["begun", "none"] => Event::Begun(None),
        ["begun", offset, count] => Event::Begun(Some((place(offset), count.parse().unwrap()))),
        ["chunk", "none"] => Event::Read(None),
        ["chunk", "end", hints @ ..] => Event::Read(Some(chunk(hints, true))),
        ["chunk", "more", hints @ ..] => Event::Read(Some(chunk(hints, false))),
        ["ok", number] => answered(number, Outcome::Applied),
        ["notnow", number] => answered(number, Outcome::NotNow("it is overloaded")),
        ["notthis", number] => answered(number, Outcome::NotThis("it does not know the table")),
        ["never", number] => answered(number, Outcome::Never("not a mutation")),
        ["requeued", number, is_kept] => Event::Requeued { ticket: ticket(number), is_kept: *is_kept == "yes" },
        ["wake"] => Event::Wake,
        _ => panic!("no such line: {words:?}"),
    }
}

fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Begin => "begin a round".into(),
        Effect::Read { from, count_max, bytes_max } => {
            format!("read {count_max} or {bytes_max} bytes from {}", from.offset)
        }
        Effect::Send { ticket, hint } => format!("send {} ({} bytes)", ticket.0, hint.bytes()),
        Effect::Requeue { ticket, .. } => format!("requeue {}", ticket.0),
        Effect::GiveUp { why, .. } => format!("give up: {why}"),
        Effect::Passed { before, count, bytes, .. } => {
            format!("passed {count} ({bytes} bytes), all before {}", before.offset)
        }
        Effect::Finish => "finish the round".into(),
        Effect::Pause { before } => format!("pause at {}", before.offset),
        Effect::Say(saying) => format!("say {saying:?}"),
    }
}

fn run(script: &str) -> String {
    let mut now = Mono::default();
    let mut delivery = Delivery::new(WINDOW, RATE, now);
    let mut out = String::new();
    for line in script.lines() {
        writeln!(out, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] | ["#", ..] => continue,
            ["at", millis] => {
                now = Mono::from_millis(millis.parse().unwrap());
                continue;
            }
            _ => {}
        }
        let mut effects = Vec::new();
        delivery.step(now, event(&words), &mut effects);
        effects.iter().for_each(|effect| writeln!(out, "    {}", shown(effect)).unwrap());
        if let Some(at) = delivery.wake_at(now) {
            writeln!(out, "    wake in {} ms", at.since(now).as_millis()).unwrap();
        }
    }
    out
}

macro_rules! scripts {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), run(include_str!(concat!("../testdata/", stringify!($name), ".txt"))));
        }
    )*};
}

scripts!(
    a_target_returns,
    a_target_is_lost_midway,
    a_refusing_target_is_backed_off_from,
    what_cannot_be_applied_does_not_stop_the_rest,
    the_rate_and_the_window_hold,
    a_full_disk_and_a_lack_of_files_pass
);
