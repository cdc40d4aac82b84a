//! Stories: what nodes said, and what an operator reads. The snapshots are the contract of the sentences.

use crate::{
    fixture::{heard, id, ring, sight, survey, view, with_keyspace},
    survey::{Heard, Survey},
    views::Status,
};
use kula_placement::{Partitioner, Ring};
use kula_types::Timestamp;
use kula_wire::verbs::status::{Health, HintsFor, NodeView, RefusedPeer, SlowestMailbox, Stage};

/// The verdict, who is there, and the disagreements.
fn told(name: &str, status: &Status) -> String {
    let code = status.code.unwrap_or("-");
    let mut lines = vec![format!("# {name}"), format!("{:?} {code}  {}", status.verdict, status.sentence)];
    let node = |node: &crate::views::NodeStatus| {
        let seen_by = node.seen_by.join(",");
        format!(
            "  {} {} {} ms seen by {seen_by}, ring {:?}, hints {:?}",
            node.name, node.state, node.since_ms, node.ring, node.hints
        )
    };
    lines.extend(status.nodes.iter().map(node));
    lines.extend(status.disagreements.iter().map(|sentence| format!("  ! {sentence}")));
    lines.join("\n")
}

fn stories(told: &[String]) -> String {
    told.join("\n\n")
}

/// n1's survey of `count` nodes, changed.
fn of(name: &str, ring: &Ring, change: impl FnOnce(&mut Survey<'_>)) -> String {
    let mut survey = survey(ring);
    change(&mut survey);
    told(name, &survey.status())
}

fn sees(view: &mut NodeView, number: u128, health: Health, since_ms: u64) {
    view.sees.retain(|seen| seen.node != id(number));
    view.sees.push(sight(number, health, since_ms));
}

/// n`number` is this to all others, and says nothing.
fn lose(survey: &mut Survey<'_>, number: u128, health: Health, since_ms: u64) {
    sees(&mut survey.mine, number, health, since_ms);
    survey.others.insert(id(number), Heard::Nothing);
    for heard in survey.others.values_mut() {
        if let Heard::View { view, .. } = heard {
            sees(view, number, health, since_ms + 300);
        }
    }
}

fn other<'a>(survey: &'a mut Survey<'_>, number: u128) -> &'a mut NodeView {
    match survey.others.get_mut(&id(number)) {
        Some(Heard::View { view, .. }) => view,
        other => panic!("n{number}: {other:?}"),
    }
}

#[test]
fn one_node() {
    let ring = ring(1);
    let told = stories(&[
        of("well", &ring, |_| ()),
        of("starting", &ring, |survey| survey.mine.stage = Stage::Starting),
        of("stopping", &ring, |survey| survey.mine.stage = Stage::Stopping),
        of("a silent shard", &ring, |survey| {
            survey.mine.shards_silent = 1;
            survey.mine.load_bytes = None;
            survey.mine.stuck = vec!["storage/shard/0".into()];
        }),
        of("no lease", &ring, |survey| survey.mine.lease_lost = true),
        of("a clock set back", &ring, |survey| survey.mine.stamps_ahead_ms = 3_600_000),
        of("disk full", &ring, |survey| survey.mine.free_bytes = Some(3 << 20)),
        of("no word from the disk", &ring, |survey| survey.mine.free_bytes = None),
        of("stuck", &ring, |survey| survey.mine.stuck = ["a", "b", "c", "d"].map(String::from).to_vec()),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn no_ring_yet() {
    let none = Ring::none("test".into(), Partitioner::Murmur3);
    let waiting = |survey: &mut Survey<'_>| {
        survey.mine = NodeView { stage: Stage::Starting, ring_version: 0, ..view(1, 2) };
        survey.others.insert(id(2), heard(NodeView { stage: Stage::Starting, ring_version: 0, ..view(2, 2) }));
        survey.places = [(id(1), ("dc1".into(), "a".into())), (id(2), ("dc1".into(), "b".into()))].into();
        survey.waits_for = Some("waiting for a ring: 2 of 3 expected nodes are visible: n1 and n2".into());
    };
    let told = of("two of three are visible", &none, waiting);
    insta::assert_snapshot!(told);
}

#[test]
fn three_nodes() {
    let ring = ring(3);
    let told = stories(&[
        of("all well", &ring, |_| ()),
        of("one suspect", &ring, |survey| lose(survey, 2, Health::Suspect, 900)),
        of("one down", &ring, |survey| lose(survey, 2, Health::Down, 14_000)),
        of("one down, hints for it are where they belong", &ring, |survey| {
            lose(survey, 2, Health::Down, 14_000);
            let hints = HintsFor { target: id(2), count: 1_200, bytes: 1 << 20, not_kept: 0 };
            survey.mine.hints.push(hints);
        }),
        of("two down", &ring, |survey| {
            lose(survey, 2, Health::Down, 14_000);
            lose(survey, 3, Health::Down, 3_700_000);
        }),
        of("slow is up", &ring, |survey| sees(&mut survey.mine, 3, Health::Slow, 5_000)),
        of("one starts", &ring, |survey| other(survey, 2).stage = Stage::Starting),
        of("never heard of since the start", &ring, |survey| {
            survey.mine.sees.retain(|sight| sight.node != id(3));
            survey.others.insert(id(3), Heard::Nothing);
            other(survey, 2).sees.retain(|sight| sight.node != id(3));
        }),
        of("cut off", &ring, |survey| {
            survey.mine.cut_off = true;
            for number in [2, 3] {
                sees(&mut survey.mine, number, Health::Suspect, 12_000);
                survey.others.insert(id(number), Heard::Nothing);
            }
        }),
        of("hints on their way", &ring, |survey| {
            survey.mine.hints.push(HintsFor { target: id(2), count: 1_200, bytes: 1 << 20, not_kept: 0 });
            other(survey, 3).hints.push(HintsFor { target: id(2), count: 1, bytes: 64, not_kept: 3 });
        }),
        of("one disk full", &ring, |survey| other(survey, 2).free_bytes = Some(3 << 20)),
        of("two disks full", &ring, |survey| {
            other(survey, 2).free_bytes = Some(3 << 20);
            survey.mine.free_bytes = Some(0);
        }),
        of("another node is stuck", &ring, |survey| other(survey, 3).stuck = vec!["storage/shard/0".into()]),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn five_nodes() {
    let plain = ring(5);
    let single = with_keyspace(&plain, "single", 1);
    let told = stories(&[
        of("all well", &plain, |_| ()),
        of("one down", &plain, |survey| lose(survey, 5, Health::Down, 14_000)),
        of("two down", &plain, |survey| {
            lose(survey, 4, Health::Down, 14_000);
            lose(survey, 5, Health::Down, 9_000);
        }),
        of("a keyspace of one copy, one down", &single, |survey| lose(survey, 5, Health::Down, 14_000)),
        of("two keyspaces lack keys", &single, |survey| {
            (2..=4).for_each(|number| lose(survey, number, Health::Down, 9_000));
        }),
        of("all others down", &plain, |survey| (2..=5).for_each(|number| lose(survey, number, Health::Down, 90_000))),
        of("everything at once", &plain, |survey| {
            lose(survey, 5, Health::Down, 14_000);
            survey.mine.lease_lost = true;
            survey.mine.stuck = vec!["handoff".into()];
            other(survey, 2).free_bytes = Some(0);
            other(survey, 3).schema = 7;
            other(survey, 4).ring_version = 0;
        }),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn views_that_differ() {
    let ring = ring(3);
    let away = |micros: i64| Timestamp::from_micros(1_000_000_000 + micros).unwrap();
    let told = stories(&[
        of("rings", &ring, |survey| {
            survey.mine.ring_version = 7;
            other(survey, 2).ring_version = 6;
            other(survey, 3).ring_version = 7;
        }),
        of("schemas", &ring, |survey| other(survey, 3).schema = 0x77aa_00bb << 96),
        of("a link that works one way", &ring, |survey| sees(other(survey, 3), 2, Health::Down, 20_000)),
        of("n1 alone misses n2", &ring, |survey| {
            sees(&mut survey.mine, 2, Health::Suspect, 20_000);
            survey.others.insert(id(2), Heard::Nothing);
        }),
        of("who is cut off is not believed", &ring, |survey| {
            other(survey, 3).cut_off = true;
            sees(other(survey, 3), 1, Health::Suspect, 20_000);
            sees(other(survey, 3), 2, Health::Suspect, 20_000);
        }),
        of("up and silent", &ring, |survey| drop(survey.others.insert(id(3), Heard::Nothing))),
        of("up and not connected", &ring, |survey| drop(survey.others.insert(id(3), Heard::NotAsked))),
        of("a clock ahead and one behind", &ring, |survey| {
            other(survey, 2).clock = away(1_202_000);
            other(survey, 3).clock = away(-700_000);
        }),
        of("a clock within what the way takes", &ring, |survey| {
            other(survey, 2).clock = away(502_000);
            other(survey, 3).clock = away(-502_000);
        }),
        of("two called n2, and a table that lost its name", &ring, |survey| {
            let mut second = sight(9, Health::Up, 5_000);
            second.name = "n2".into();
            survey.mine.sees.push(second);
            survey.twins.push("table shop.carts@1f2e lost its name to one made later".into());
        }),
        of("a stranger and a refused peer", &ring, |survey| {
            survey.mine.sees.push(sight(4, Health::Up, 5_000));
            let refused = RefusedPeer {
                peer: "n9 (127.0.0.9:7000)".into(),
                why: "it belongs to cluster \"b\", not to \"a\"".into(),
            };
            survey.mine.refused.push(refused.clone());
            other(survey, 3).refused.push(refused);
        }),
        of("only a table that lost its name", &ring, |survey| survey.twins.push("table a.b@1 lost its name".into())),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn the_json_of_a_status() {
    let ring = ring(3);
    let mut survey = survey(&ring);
    lose(&mut survey, 2, Health::Down, 14_000);
    survey.sources.insert(id(2), vec![id(1), id(3)]);
    survey.mine.slowest = Some(SlowestMailbox { path: "coordinator/0".into(), p99_us: 800 });
    survey.mine.hints.push(HintsFor { target: id(2), count: 1_200, bytes: 1 << 20, not_kept: 0 });
    let json = serde_json::to_string_pretty(&survey.status()).unwrap();
    insta::assert_snapshot!(json);
}

#[test]
fn a_crowd_of_differences_is_cut_short() {
    let ring = ring(1);
    let mut survey = survey(&ring);
    let refused = |number| RefusedPeer { peer: format!("p{number}"), why: "it is another".into() };
    survey.mine.refused = (0..100).map(refused).collect();
    let status = survey.status();
    assert_eq!(status.disagreements.len(), crate::limits::DIFFERENCES_MAX + 1);
    assert_eq!(status.disagreements.last().map(String::as_str), Some("and 36 more"));
    assert!(status.sentence.len() < 1_000, "{}", status.sentence);
}
