//! Runs `testdata/*.txt`: stories of a few nodes, and every line that people would read and every event that rooms would
//! hear, in snapshots beside.
//!
//! A line is `nodes N` (just started, n1 is everybody's seed), `start NODE GENERATION`, `run MILLIS`, `kill NODE`,
//! `freeze NODE`, `thaw NODE`, `leave NODE`, `cut FROM TO` (one way), `heal`, `announce NODE KEY VALUE`,
//! `electorate NODES..`, `trace on|off` (messages as well), or `show` (who sees whom how).

use super::world::{World, id, number_of};
use std::fmt::Write;

fn number(word: &str) -> usize {
    word.trim_start_matches('n').parse().unwrap()
}

fn obey(world: &mut World, out: &mut String, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["nodes", count] => *world = World::of(1, number(count)),
        ["start", node, generation] => world.start(number(node), generation.parse().unwrap()),
        ["run", millis] => world.run(millis.parse().unwrap()),
        ["kill", node] => world.kill(number(node)),
        ["freeze", node] => world.freeze(number(node), true),
        ["thaw", node] => world.freeze(number(node), false),
        ["leave", node] => world.leave(number(node)),
        ["cut", from, to] => world.cut(number(from), number(to)),
        ["heal"] => world.heal(),
        ["announce", node, key, value] => world.announce(number(node), key.parse().unwrap(), value.as_bytes()),
        ["electorate", ref members @ ..] => {
            world.electorate(&members.iter().map(|member| number(member)).collect::<Vec<_>>());
        }
        ["trace", on] => world.trace = on == "on",
        ["show"] => show(world, out),
        _ => panic!("no such line: {line}"),
    }
    world.lines.drain(..).for_each(|line| writeln!(out, "    {line}").unwrap());
}

fn show(world: &World, out: &mut String) {
    for at in world.numbers() {
        let membership = world.shown(at);
        let others = membership.nodes.iter().filter(|(node, _)| **node != id(at)).map(|(node, view)| {
            let sources: Vec<String> = view.seen_by.iter().map(|source| format!("n{}", number_of(*source))).collect();
            let sources = if sources.is_empty() { String::new() } else { format!(" by {}", sources.join("+")) };
            format!("n{} {}{sources}", number_of(*node), view.state.name())
        });
        let cut_off = if membership.cut_off { ", cut off" } else { "" };
        writeln!(out, "    n{at}: {}{cut_off}", others.collect::<Vec<_>>().join(", ")).unwrap();
    }
}

fn run(script: &str) -> String {
    let (mut world, mut out) = (World::new(1), String::new());
    for line in script.lines() {
        writeln!(out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            obey(&mut world, &mut out, line);
        }
    }
    out
}

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            let script = include_str!(concat!("../../testdata/", stringify!($name), ".txt"));
            insta::with_settings!({ snapshot_path => "../../testdata", prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(stringify!($name), run(script));
            });
        }
    )+};
}

scripts! {
    two_members_meet,
    a_member_of_three_dies,
    one_of_two_dies,
    a_frozen_member_thaws,
    a_one_way_cut,
    a_minority_is_cut_off,
    a_restart_with_a_clock_gone_back,
    a_clean_stop,
}
