//! The laws of what nodes say: one writer's news join in any order, and nobody else's bytes harm.

use super::{
    AskId, Event, Machine, Opening,
    said::{Learned, Said, check},
    world::{about, id, introduction},
};
use crate::{GossipConfig, limits};
use kula_types::{Mono, NodeId};
use kula_wire::{
    decode, encode,
    verbs::gossip::{Ack, Delta, Digest, Push, Saying, Suspicion, Syn},
};
use proptest::prelude::*;

fn sayings() -> impl Strategy<Value = Saying> {
    let fact = (0..4u16, prop::collection::vec(any::<u8>(), 0..8));
    let suspicion = (1..4usize, 0..3u64).prop_map(|(target, refutation)| {
        let (target, generation, missed) = (id(target), 1, 2);
        Suspicion { target, generation, refutation, missed }
    });
    prop_oneof![
        (1..9u64).prop_map(Saying::Heartbeat),
        (1..9u64).prop_map(Saying::Refutation),
        Just(Saying::Leaving),
        fact.prop_map(|(key, value)| Saying::Fact { key, value: bytes::Bytes::from(value).into() }),
        prop::collection::vec(suspicion, 0..3).prop_map(Saying::Suspicions),
    ]
}

/// A process's life: everything it was from its first words on.
fn life(generation: u64, sayings: Vec<Saying>) -> Vec<Said> {
    let mut said = Said::new(generation, introduction(1, generation), about());
    let mut states = vec![said.clone()];
    for saying in sayings {
        said.say(saying);
        states.push(said.clone());
    }
    states
}

fn joined(said: &Said, deltas: &[Delta]) -> Said {
    let mut said = said.clone();
    deltas.iter().for_each(|delta| drop(said.join(delta.clone()).unwrap()));
    said
}

proptest! {
    /// Whoever has heard the first words and then any deltas, in any order and any number of times, and at last the newest,
    /// has what the writer has.
    #[test]
    fn news_join_in_any_order(said in prop::collection::vec(sayings(), 1..12), heard in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12)) {
        let states = life(1, said);
        let delta = |(at, base): &(prop::sample::Index, prop::sample::Index)| {
            let state = &states[at.index(states.len())];
            state.since(2 + base.index(states.len()) as u64)
        };
        let mut deltas: Vec<Delta> = heard.iter().map(delta).filter(|delta| delta.base <= delta.version).collect();
        let last = states.last().unwrap();
        deltas.push(last.since(2));
        prop_assert_eq!(&joined(&states[0], &deltas), last);
        let twice: Vec<Delta> = deltas.iter().chain(&deltas).cloned().collect();
        prop_assert_eq!(&joined(&states[0], &twice), last);
    }

    /// Two deltas that both follow what is known commute.
    #[test]
    fn two_deltas_commute(said in prop::collection::vec(sayings(), 1..12), one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
        let states = life(1, said);
        let (one, other) = (states[one.index(states.len())].since(2), states[other.index(states.len())].since(0));
        let known = &states[0];
        prop_assert_eq!(joined(known, &[one.clone(), other.clone()]), joined(known, &[other, one]));
    }

    #[test]
    fn what_a_writer_says_is_sound_and_comes_back_whole(said in prop::collection::vec(sayings(), 0..12), base in 0..20u64) {
        let last = life(1, said).pop().unwrap();
        let delta = last.since(base.min(last.version));
        prop_assert_eq!(check(&delta, "test"), Ok(()));
        prop_assert_eq!(decode::<Delta>(&encode(&delta).unwrap()).unwrap(), delta);
        prop_assert_eq!(Said::first(last.since(0)).unwrap(), last);
    }

    /// Any messages at all: no panic, and nothing beyond the bounds.
    #[test]
    fn any_news_of_a_peer_do_no_harm(news in prop::collection::vec(deltas(), 0..12), digests in prop::collection::vec(digests(), 0..12)) {
        let opening = Opening { me: introduction(1, 1), about: about(), generation: 5, seeds: Vec::new(), config: GossipConfig::default() };
        let (mut machine, mut effects) = (Machine::new(Mono::default(), opening), Vec::new());
        let events = [
            Event::Linked { node: id(2) },
            Event::Push { from: id(2), deltas: news.clone() },
            Event::Syn { from: id(3), ask: AskId(1), digests: digests.clone() },
            Event::Acked { to: id(2), ack: Some(Ack { deltas: news, wants: digests }) },
            Event::Tick,
            Event::Leave,
        ];
        for (at, event) in events.into_iter().enumerate() {
            machine.step(Mono::from_millis(at as u64 * 700), &mut || 0.5, event, &mut effects);
        }
    }

    // Promise: P19
    #[test]
    fn any_bytes_are_no_message_or_a_harmless_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode::<Syn>(&bytes));
        drop(decode::<Ack>(&bytes));
        drop(decode::<Push>(&bytes));
    }
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..4u64, Just(5), Just(limits::GENERATION_MAX), Just(u64::MAX)]
}

fn nodes() -> impl Strategy<Value = NodeId> {
    (1..5usize).prop_map(id)
}

fn digests() -> impl Strategy<Value = Digest> {
    (nodes(), numbers(), numbers()).prop_map(|(node, generation, version)| Digest { node, generation, version })
}

fn deltas() -> impl Strategy<Value = Delta> {
    let wild = prop_oneof![
        (1..5usize).prop_map(|number| Saying::Introduction(introduction(number, 1))),
        Just(Saying::About(about())),
        numbers().prop_map(Saying::Heartbeat),
        numbers().prop_map(Saying::Refutation),
        numbers().prop_map(|refutation| {
            Saying::Suspicions(vec![Suspicion { target: id(1), generation: 5, refutation, missed: u32::MAX }])
        }),
        sayings(),
    ];
    let said = prop::collection::vec((numbers(), wild), 0..6);
    let fair = (nodes(), numbers()).prop_map(|(node, generation)| {
        let number = usize::try_from(node.0.as_u128()).unwrap();
        Said::new(generation, introduction(number, 1), about()).since(0)
    });
    let unfair = (nodes(), numbers(), numbers(), numbers(), said)
        .prop_map(|(node, generation, base, version, news)| Delta { node, generation, base, version, news });
    prop_oneof![fair, unfair]
}

#[test]
fn a_later_process_replaces_all_that_an_earlier_one_said() {
    let earlier =
        life(1, vec![Saying::Fact { key: 1, value: bytes::Bytes::from_static(b"x").into() }; 9]).pop().unwrap();
    let later = Said::new(2, introduction(1, 2), about());
    let mut book = super::book::Book::new(Said::new(1, introduction(2, 1), about()));
    let now = Mono::default();
    assert!(book.join(earlier.since(0), now).unwrap().process);
    assert!(book.join(later.since(0), now).unwrap().process);
    assert_eq!(book.join(earlier.since(0), now).unwrap(), Learned::default());
    assert_eq!(book.get(id(1)), Some(&later));
}
