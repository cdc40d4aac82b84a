//! Small clusters in one thread: what holds whatever the seed.

use super::{
    AskId, Effect, Event, Machine, Opening,
    said::Said,
    world::{World, about, id, introduction},
};
use crate::{FactKey, GossipConfig, State, limits, news::News};
use kula_types::Mono;
use kula_wire::{
    encode,
    verbs::gossip::{Saying, Suspicion},
};

/// Everybody who lives knows everybody who lives, and they agree on what each announces under `key`.
fn agree(world: &World, key: u16) -> bool {
    let numbers = world.numbers();
    numbers.iter().all(|at| {
        let shown = world.shown(*at);
        numbers.iter().all(|of| {
            let fact = |view: usize| world.shown(view).fact(id(*of), FactKey(key));
            shown.get(id(*of)).is_some() && fact(*at) == fact(*of)
        })
    })
}

/// Many small clusters, and a few large ones, which take longer.
fn seeds_and_sizes(seeds: u64, sizes: &[usize], few: u64, large: usize) -> Vec<(u64, usize)> {
    let small = (0..seeds).flat_map(|seed| sizes.iter().map(move |size| (seed, *size)));
    small.chain((0..few).map(|seed| (seed, large))).collect()
}

#[test]
fn three_nodes_see_each_other_at_once() {
    for seed in 0..20 {
        let took = World::of(seed, 3).run_until(1_000, World::all_up);
        assert!(took <= 100, "seed {seed}: {took} ms");
    }
}

#[test]
fn everybody_agrees_within_a_few_rounds_though_a_fifth_is_lost() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.loss = 20;
        (1..=12).for_each(|number| world.start(number, 1));
        world.run_until(15_000, |world| agree(world, 1));
        for number in world.numbers() {
            world.announce(number, 1, format!("ring {number}").as_bytes());
        }
        world.run_until(8_000, |world| agree(world, 1));
    }
}

#[test]
fn a_fact_is_everywhere_at_once_in_a_small_cluster() {
    for seed in 0..20 {
        let mut world = World::of(seed, 5);
        world.run(3_000);
        world.announce(3, 2, b"digest");
        let took = world.run_until(500, |world| agree(world, 2));
        assert!(took <= 40, "seed {seed}: {took} ms");
    }
}

#[test]
fn a_killed_or_frozen_node_is_down_everywhere_within_five_seconds() {
    let mut longest = (0, 0);
    for (seed, nodes) in seeds_and_sizes(15, &[3, 5], 3, 20) {
        let mut world = World::of(seed, nodes);
        world.run_until(20_000, World::all_up);
        world.run(2_000 + 37 * seed);
        world.kill(2);
        longest.0 = longest.0.max(world.run_until(5_000, |world| world.all_see(2, State::Down)));
        if nodes == 3 {
            // Of the three only one is left to judge: it takes itself for cut off, and that is right.
            continue;
        }
        world.run(3_000);
        world.freeze(3, true);
        let seen = |world: &World| {
            world.numbers().into_iter().filter(|at| *at != 3).all(|at| world.state(at, 3) == Some(State::Down))
        };
        longest.1 = longest.1.max(world.run_until(5_000, seen));
    }
    println!("down everywhere after a kill: {} ms at most, after a freeze: {} ms at most", longest.0, longest.1);
}

#[test]
fn a_frozen_member_of_three_is_down_within_five_seconds_and_up_within_one() {
    for seed in 0..40 {
        let mut world = World::of(seed, 3);
        world.run(3_000 + 31 * seed);
        world.freeze(2, true);
        let down = |world: &World| [1, 3].iter().all(|at| world.state(*at, 2) == Some(State::Down));
        world.run_until(5_000, down);
        world.run(4_000);
        world.freeze(2, false);
        world.run_until(1_000, World::all_up);
    }
}

#[test]
fn who_loses_a_fifth_of_its_messages_is_not_down() {
    let (mut down, mut looks) = (0, 0);
    for (seed, nodes) in seeds_and_sizes(8, &[3, 5], 2, 12) {
        let mut world = World::of(seed, nodes);
        world.run_until(20_000, World::all_up);
        world.loss = 20;
        for _ in 0..120 {
            world.run(500);
            let numbers = world.numbers();
            for of in &numbers {
                let by = numbers.iter().filter(|at| world.state(**at, *of) == Some(State::Down)).count();
                (down, looks) = (down + by, looks + nodes - 1);
            }
        }
        world.loss = 0;
        world.run_until(5_000, |world| {
            let up = |at: usize, of: usize| world.state(at, of).is_some_and(State::is_up);
            world.numbers().iter().all(|at| world.numbers().iter().all(|of| up(*at, *of)))
        });
    }
    assert_eq!(down, 0, "of {looks} looks");
}

// Promise: P16
#[test]
fn any_one_way_partition_of_three_flips_no_more_than_three_times_a_minute() {
    let edges = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];
    for subset in 0..64u32 {
        let mut world = World::of(u64::from(subset), 3);
        world.run(2_000);
        for (bit, (from, to)) in edges.iter().enumerate() {
            if subset >> bit & 1 == 1 {
                world.cut(*from, *to);
            }
        }
        world.flips.clear();
        world.run(60_000);
        for at in 1..=3 {
            for of in 1..=3 {
                let flips = world.flips.iter().filter(|(_, by, whom, _)| (*by, *whom) == (at, of)).count();
                let lines = world.lines.join("\n");
                assert!(flips <= 3, "cut {subset:06b}: n{of} flipped {flips} times at n{at}\n{lines}");
            }
        }
        world.heal();
        world.run_until(5_000, |world| {
            let up = |at: usize, of: usize| world.state(at, of).is_some_and(State::is_up);
            (1..=3).all(|at| (1..=3).all(|of| up(at, of)))
        });
    }
}

// Promise: P16
#[test]
fn a_cut_off_minority_declares_nobody_down() {
    for seed in 0..10 {
        let mut world = World::of(seed, 5);
        world.run(3_000);
        for (one, other) in [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)] {
            world.cut(one, other);
            world.cut(other, one);
        }
        world.run(30_000);
        for at in [1, 2] {
            assert!(world.shown(at).cut_off);
            assert!((1..=5).all(|of| world.state(at, of) != Some(State::Down)));
        }
        for at in [3, 4, 5] {
            assert!(!world.shown(at).cut_off);
            assert!([1, 2].iter().all(|of| world.state(at, *of) == Some(State::Down)));
        }
        world.heal();
        world.run_until(6_000, |world| {
            let up = |at: usize, of: usize| world.state(at, of).is_some_and(State::is_up);
            (1..=5).all(|at| (1..=5).all(|of| up(at, of)))
        });
    }
}

#[test]
fn forty_nodes_meet_within_seconds() {
    let mut world = World::of(7, 40);
    let took = world.run_until(5_000, World::all_up);
    println!("40 nodes see each other up after {took} ms; their largest message: {} bytes", world.largest);
}

/// A node that knows so many others, each with all it may say.
fn knowing(others: usize) -> Machine {
    let mut machine = machine(1);
    let mut deltas = Vec::new();
    for number in 2..others + 2 {
        let mut said = Said::new(1, introduction(number, 1), about());
        for key in 0..u16::try_from(limits::FACTS_MAX).unwrap() {
            said.say(Saying::Fact { key, value: bytes::Bytes::from(vec![7; limits::FACT_BYTES_MAX]).into() });
        }
        let suspicion =
            |target| Suspicion { target: id(1_000 + target), generation: 1 << 60, refutation: 1 << 60, missed: 3 };
        said.say(Saying::Suspicions((0..limits::SUSPICIONS_MAX).map(suspicion).collect()));
        deltas.push(said.since(0));
    }
    step(&mut machine, Event::Push { from: id(2), deltas });
    machine
}

fn machine(number: usize) -> Machine {
    let config = GossipConfig::default();
    Machine::new(
        Mono::default(),
        Opening { me: introduction(number, 1), about: about(), generation: 1, seeds: Vec::new(), config },
    )
}

fn step(machine: &mut Machine, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    machine.step(Mono::default(), &mut || 0.5, event, &mut effects);
    effects
}

#[test]
fn a_newcomer_to_two_hundred_nodes_learns_all_in_messages_of_bounded_size() {
    let (mut old, mut new) = (knowing(200), machine(900));
    let mut exchanges = 0;
    while new.membership().nodes.len() < 202 {
        exchanges += 1;
        assert!(exchanges <= 100, "it learned {} nodes", new.membership().nodes.len());
        let syn = Event::Syn { from: id(900), ask: AskId(exchanges), digests: new.book.digests() };
        for effect in step(&mut old, syn) {
            if let Effect::Ack { ack, .. } = effect {
                let bytes = encode(&ack).unwrap().len();
                assert!(bytes <= limits::BODY_BYTES_MAX, "{bytes} bytes");
                assert!(ack.deltas.len() >= 2, "a message carries several nodes");
                step(&mut new, Event::Acked { to: id(1), ack: Some(ack) });
            }
        }
    }
    assert_eq!(new.membership().get(id(77)).unwrap().facts.len(), limits::FACTS_MAX);
    println!("200 nodes with all they may say: {exchanges} messages");
}

#[test]
fn a_clock_gone_back_is_told_from_a_twin() {
    let mut machine = machine(1);
    let mut said = |at: u64, generation: u64| {
        let digests = vec![Said::new(generation, introduction(1, 7), about()).digest()];
        let (mut effects, syn) = (Vec::new(), Event::Syn { from: id(2), ask: AskId(at), digests });
        machine.step(Mono::from_millis(at), &mut || 0.5, syn, &mut effects);
        let news = effects.into_iter().filter_map(|effect| match effect {
            Effect::Say(news @ (News::Raised { .. } | News::Twin { .. })) => Some(news),
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    assert_eq!(said(0, 50), [News::Raised { above: 50 }]);
    assert_eq!(said(10, 50), [], "what is known to be past is no news");
    assert_eq!(said(20, 60), [], "two processes do not chase each other faster than once a round");
    assert_eq!(said(1_500, 60), [News::Twin { above: 60 }]);
    assert_eq!(said(9_000, u64::MAX), [], "nobody counts that far");
}

#[test]
fn past_the_bound_nodes_are_refused_and_those_known_stay() {
    let mut machine = knowing(limits::NODES_MAX + 3);
    assert_eq!((machine.membership().nodes.len(), machine.refused()), (limits::NODES_MAX, 4));
    let digests = vec![Said::new(1, introduction(900, 1), about()).digest()];
    step(&mut machine, Event::Syn { from: id(2), ask: AskId(1), digests });
    assert_eq!(machine.refused(), 5);
}

#[test]
fn a_wiped_node_at_its_old_address_takes_the_place_of_the_one_before() {
    let mut world = World::of(3, 3);
    world.run(3_000);
    world.kill(3);
    let mut wiped = introduction(4, 50);
    wiped.address = "n3:7000".into();
    world.start_as(wiped, 50);
    world.run_until(5_000, |world| [1, 2, 4].iter().all(|at| world.state(*at, 3).is_none()) && world.all_up());
    world.run(20_000);
    assert!([1, 2, 4].iter().all(|at| world.state(*at, 3).is_none()), "it does not come back by rumour");
}

#[test]
fn a_member_that_is_down_is_never_forgotten_and_a_stranger_is() {
    let mut world = World::of(5, 4);
    world.run(3_000);
    world.electorate(&[1, 2, 3]);
    world.kill(3);
    world.kill(4);
    world.run(u64::try_from(limits::FORGET_AFTER.as_millis()).unwrap() + 10_000);
    for at in [1, 2] {
        assert_eq!((world.state(at, 3), world.state(at, 4)), (Some(State::Down), None));
    }
    world.start(4, 99);
    world.run_until(2_000, |world| world.all_see(4, State::Up));
}

#[test]
fn a_restart_at_any_clock_is_known_by_what_it_says_now() {
    for (seed, clock) in [(1, 0), (2, 1), (3, 2), (4, 1 << 60)] {
        let mut world = World::of(seed, 3);
        world.run(2_000);
        world.announce(2, 1, b"before");
        world.run(300);
        world.kill(2);
        world.run(700);
        world.start(2, clock);
        world.announce(2, 1, b"after");
        world.run_until(1_500, |world| {
            [1, 3].iter().all(|at| world.shown(*at).fact(id(2), FactKey(1)).is_some_and(|fact| fact == "after"))
        });
        assert_eq!(world.shown(1).get(id(2)).unwrap().about, about());
    }
}
