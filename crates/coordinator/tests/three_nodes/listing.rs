//! A table's keys over three whole nodes: the pages of any node, while one stands still or is gone.

use crate::house::{Cluster, Node, id, in_system, put, settings};
use kula_actor::Reply;
use kula_coordinator::{CoordinatorError, Found, Scan, ScanAnswer, Write};
use kula_types::{Consistency, PartitionKey};
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    async fn page(&self, after: Option<PartitionKey>, limit: u32) -> Result<ScanAnswer, CoordinatorError> {
        let (reply, answer) = Reply::pair();
        self.coordinators.scan(Scan {
            keyspace: "kv".into(),
            table: "lww".into(),
            after,
            limit,
            resolve_lww: false,
            consistency: Consistency::Quorum,
            deadline: self.after(5_000),
            reply,
        });
        answer.await.unwrap()
    }

    /// All pages.
    async fn list(&self, limit: u32) -> Vec<(PartitionKey, String)> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(after, limit).await.unwrap();
            for entry in page.entries {
                let Found::One(value) = entry.found else { panic!("{:?}", entry.found) };
                found.push((entry.key, String::from_utf8(value.value.to_vec()).unwrap()));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return found,
            }
        }
    }
}

#[test]
fn any_node_lists_what_a_quorum_knows() {
    in_system(async {
        let cluster = Cluster::new(settings()).await;
        let [one, two, three] = cluster.start_all().await;
        let mut wanted = BTreeMap::new();
        for number in 0..120 {
            let (key, value) = (format!("k{number}"), format!("v{number}"));
            // Each at two or three nodes, through one or another.
            let node = [&one, &two, &three][number % 3];
            node.write(put("lww", &key, &value)).await.unwrap();
            wanted.insert(PartitionKey::copy_from(key.as_bytes()), value);
        }
        for number in (0..120).step_by(7) {
            let key = format!("k{number}");
            let delete = Write { change: kula_coordinator::Change::Delete, ..put("lww", &key, "") };
            two.write(delete).await.unwrap();
            wanted.remove(&PartitionKey::copy_from(key.as_bytes()));
        }
        let whole = one.list(1_000).await;
        assert_eq!(whole.iter().cloned().collect::<BTreeMap<_, _>>(), wanted);
        assert_eq!(whole.len(), wanted.len());
        assert_eq!(two.list(10).await, whole);

        // One stands still: the others answer, after a while.
        one.way.stands_still(id(2));
        assert_eq!(one.list(60).await, whole);
        one.way.goes_on();

        two.stop().await;
        assert_eq!(three.list(7).await, whole);
    });
}

#[test]
fn a_key_that_stands_still_is_listed_once_whatever_is_written_meanwhile() {
    in_system(async {
        let cluster = Cluster::new(settings()).await;
        let nodes = cluster.start_all().await;
        let still: BTreeSet<String> = (0..60).map(|number| format!("still{number}")).collect();
        for (number, key) in still.iter().enumerate() {
            nodes[number % 3].write(put("lww", key, "v")).await.unwrap();
        }
        let writing = async {
            for number in 0..900 {
                let mut write = put("lww", &format!("moving{}", number * 7 % 80), "v");
                if number % 3 == 2 {
                    write.change = kula_coordinator::Change::Delete;
                }
                nodes[number % 2].write(write).await.unwrap();
            }
        };
        let listing = async {
            for round in 0..8u32 {
                let found = nodes[usize::try_from(round % 3).unwrap()].list(1 + round * 9).await;
                let keys: BTreeSet<_> = found.iter().map(|(key, _)| key.clone()).collect();
                assert_eq!(keys.len(), found.len(), "round {round}: a key is listed twice");
                let is_there = |key: &&String| keys.contains(&PartitionKey::copy_from(key.as_bytes()));
                assert_eq!(still.iter().filter(is_there).count(), still.len(), "round {round}");
                if round == 4 {
                    // Writes and pages go on without its answers.
                    nodes[0].way.stands_still(id(3));
                    nodes[1].way.stands_still(id(3));
                }
            }
        };
        tokio::join!(writing, listing);
    });
}
