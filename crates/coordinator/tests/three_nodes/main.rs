//! Requests over three whole nodes of one process: what a client sees while nodes come, go and stand still.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests; the lint knows only functions marked so")]

mod house;
mod listing;

use house::{Cluster, id, in_system, linked, put, settings, until};
use kula_coordinator::{Applied, CoordinatorError, Found, ReplicaOutcome, ReplicaReport, Write};
use kula_gossip::State;
use kula_placement::{KeyspaceSettings, ReadRepair, Ring};
use kula_ring::{Commit, RingChange};
use kula_transport::TransportError;
use kula_types::Consistency;
use kula_wire::{
    Lane, Verb, decode,
    verbs::replica::{Answer, Apply, Read, Refused},
};
use std::{sync::Arc, time::Duration};

fn all(write: Write) -> Write {
    Write { consistency: Consistency::All, ..write }
}

fn outcomes(reports: &[ReplicaReport]) -> Vec<(&str, &'static str)> {
    let word = |outcome: &ReplicaOutcome| match outcome {
        ReplicaOutcome::Applied => "applied",
        ReplicaOutcome::Data => "data",
        ReplicaOutcome::Digest => "digest",
        ReplicaOutcome::Hinted => "hinted",
        ReplicaOutcome::Unreachable => "unreachable",
        ReplicaOutcome::NotAsked => "not asked",
        ReplicaOutcome::Waiting => "waiting",
        ReplicaOutcome::Refused(_) => "refused",
        ReplicaOutcome::Lost => "lost",
    };
    let mut outcomes: Vec<_> = reports.iter().map(|report| (report.name.as_str(), word(&report.outcome))).collect();
    outcomes.sort_unstable();
    outcomes
}

#[test]
fn a_write_through_any_node_is_read_through_any_other() {
    in_system(async {
        let nodes = Cluster::new(settings()).await.start_all().await;
        let answer = nodes[0].write(all(put("default", "cart", "milk"))).await.unwrap();
        assert_eq!((answer.acked, answer.rf, answer.hinted), (3, 3, 0));
        assert_eq!(outcomes(&answer.replicas), [("n1", "applied"), ("n2", "applied"), ("n3", "applied")]);
        nodes[1].write(all(put("default", "cart", "eggs"))).await.unwrap();
        let read = nodes[2].read("default", "cart", Consistency::All).await.unwrap();
        let Found::Siblings { siblings, more: 0 } = &read.found else { panic!("{:?}", read.found) };
        assert_eq!(siblings.len(), 2);
        assert_eq!(outcomes(&read.replicas), [("n1", "digest"), ("n2", "digest"), ("n3", "data")]);
        assert!(read.replicas.iter().all(|report| report.digest == read.replicas[0].digest && !report.repaired));

        // A context of one node is good at every other.
        let context = read.context;
        nodes[1].write(all(Write { context, ..put("default", "cart", "both") })).await.unwrap();
        for node in &nodes {
            let read = node.read("default", "cart", Consistency::One).await.unwrap();
            assert!(matches!(&read.found, Found::One(value) if &value.value[..] == b"both"), "{:?}", read.found);
        }
        // A large value crosses in one piece.
        let large = "x".repeat(300 << 10);
        nodes[0].write(all(put("lww", "large", &large))).await.unwrap();
        assert_eq!(nodes[2].value("large", Consistency::One).await, Some(large));
        assert!(nodes[0].metric("kula_remote_sends_total") >= 4);
    });
}

#[test]
fn what_a_node_missed_while_it_was_away_is_brought_to_it() {
    in_system(async {
        let cluster = Cluster::new(settings()).await;
        let [one, two, three] = cluster.start_all().await;
        one.write(all(put("lww", "before", "v"))).await.unwrap();
        three.stop().await;
        until(|| !one.is_linked(3)).await;
        let answer = one.write(put("lww", "while", "away")).await.unwrap();
        assert_eq!((answer.acked, answer.rf, answer.hinted), (2, 3, 1));
        assert_eq!(outcomes(&answer.replicas), [("n1", "applied"), ("n2", "applied"), ("n3", "hinted")]);
        let error = one.write(all(put("lww", "while", "all"))).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::Unavailable { need: 3, alive: 2, .. }), "{error:?}");
        assert_eq!(error.applied(), Applied::No);
        until(|| one.hints_for(3) == 1).await;

        let three = cluster.start(3).await;
        linked(&[&one, &two, &three]).await;
        assert_eq!(three.value("before", Consistency::One).await.as_deref(), Some("v"));
        until(|| one.hints_for(3) == 0).await;
        assert_eq!(three.value("while", Consistency::One).await.as_deref(), Some("away"));
        drop(two);
    });
}

// Promise: P15
#[test]
fn a_node_that_stands_still_delays_no_client_and_gets_hints() {
    in_system(async {
        let cluster = Cluster::new(settings()).await;
        let [one, _two, three] = cluster.start_all().await;
        one.way.stands_still(id(3));
        let writes: Vec<_> = (0..200).map(|n| one.begin(put("lww", &format!("k{n}"), "v"))).collect();
        for write in writes {
            let answer = write.await.unwrap();
            assert_eq!((answer.acked, answer.hinted), (2, 0));
        }
        assert_eq!(one.hints_for(3), 0, "nobody suspects it yet");
        for n in 0..100 {
            assert_eq!(one.value(&format!("k{n}"), Consistency::Quorum).await.as_deref(), Some("v"));
        }
        assert!(one.metric("kula_hedges_total") >= 1);

        // Its connection is cut: what it was sent is lost, and owed by hint.
        one.way.goes_on();
        until(|| one.metric("kula_hints_stored_total{outcome=\"kept\"}") == 200).await;
        until(|| one.hints_for(3) == 0).await;
        for n in 0..200 {
            assert_eq!(three.value(&format!("k{n}"), Consistency::One).await.as_deref(), Some("v"));
        }
    });
}

#[test]
fn whom_this_node_suspects_is_not_asked() {
    in_system(async {
        let nodes = Cluster::new(settings()).await.start_all().await;
        let mut membership = (*nodes[0].membership.load()).clone();
        membership.nodes.get_mut(&id(2)).unwrap().suspected_here = true;
        membership.nodes.get_mut(&id(3)).unwrap().state = State::Down;
        nodes[0].membership.store(Arc::new(membership));
        let error = nodes[0].write(put("lww", "k", "v")).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::Unavailable { need: 2, alive: 1, .. }), "{error:?}");
        // The others think otherwise.
        nodes[1].write(all(put("lww", "k", "v"))).await.unwrap();
    });
}

// Promise: P8
#[test]
fn a_read_repairs_what_an_owner_lacks() {
    in_system(async {
        let settings = KeyspaceSettings { hinted_handoff: false, ..settings() };
        let nodes = Cluster::new(settings).await.start_all().await;
        nodes[0].way.stands_still(id(3));
        nodes[0].write(put("lww", "k", "v")).await.unwrap();
        nodes[0].way.goes_on();
        assert_eq!(nodes[2].value("k", Consistency::One).await, None);
        let read = nodes[1].read("lww", "k", Consistency::All).await.unwrap();
        let repaired: Vec<&str> =
            read.replicas.iter().filter(|report| report.repaired).map(|report| &report.name[..]).collect();
        assert_eq!(repaired, ["n3"]);
        assert_eq!(nodes[2].value("k", Consistency::One).await.as_deref(), Some("v"));
    });
}

#[test]
fn a_change_of_the_ring_stops_no_write_and_no_read() {
    in_system(async {
        let nodes = Cluster::new(settings()).await.start_all().await;
        let (reply, answer) = kula_actor::Reply::pair();
        let name = "kv".parse().unwrap();
        let settings = KeyspaceSettings { read_repair: ReadRepair::Background, ..settings() };
        nodes[1].ring_door.tell(Commit { change: RingChange::SetKeyspace { name, settings }, reply }).unwrap();
        let changed = async {
            answer.await.unwrap().unwrap();
        };
        let requests = async {
            for n in 0..200 {
                let (key, node) = (format!("k{n}"), &nodes[n % 3]);
                node.write(all(put("lww", &key, "v"))).await.unwrap();
                assert_eq!(nodes[(n + 1) % 3].value(&key, Consistency::All).await.as_deref(), Some("v"));
            }
        };
        tokio::join!(changed, requests);
        until(|| nodes.iter().all(|node| node.ring.load().version == 2)).await;
    });
}

#[test]
fn a_node_that_missed_a_ring_learns_it_from_the_requests_it_gets_and_sends() {
    in_system(async {
        let nodes = Cluster::new(settings()).await.start_all().await;
        // The others' handles are ahead of their actors: whoever is asked for it has it, and only requests tell.
        let mut newer = nodes[0].ring.load().facts().clone();
        newer.version = 2;
        let newer = Arc::new(Ring::new(newer).unwrap());
        [&nodes[0], &nodes[1]].iter().for_each(|node| node.ring.store(newer.clone()));
        let writes: Vec<_> = (0..20).map(|n| nodes[2].begin(all(put("lww", &format!("k{n}"), "v")))).collect();
        tokio::time::sleep(Duration::from_millis(30)).await;
        nodes[2].ring.store(newer);
        for write in writes {
            assert_eq!(write.await.unwrap().acked, 3);
        }
        assert!(nodes[2].metric("kula_other_rings_total") >= 20);
    });
}

#[test]
fn what_cannot_be_read_is_refused_with_a_word_and_what_is_late_is_not_served() {
    in_system(async {
        let nodes = Cluster::new(settings()).await.start_all().await;
        for verb in [Apply::CODE, Read::CODE] {
            let (reply, answer) = kula_actor::Reply::pair();
            let garbage = bytes::Bytes::from_static(&[7; 40]);
            nodes[0].peers.request(id(2), Lane::Request, verb, garbage, nodes[0].after(2_000), reply);
            let body = answer.await.unwrap().unwrap();
            assert_eq!(decode::<Answer>(&body), Ok(Err(Refused::InvalidMutation)));
        }
        // A verb of a later version: what its answer looks like is unknown.
        let (reply, answer) = kula_actor::Reply::pair();
        nodes[0].peers.request(id(2), Lane::Request, 0x05FF, bytes::Bytes::new(), nodes[0].after(2_000), reply);
        assert_eq!(answer.await.unwrap(), Err(TransportError::Lost));
        assert_eq!(nodes[1].metric("kula_replica_unread_total{reason=\"malformed\"}"), 3);
    });
}
