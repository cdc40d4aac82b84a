//! Ring and catalogue of real nodes over loopback: a first ring, agreement, a minority, a restart.

#[cfg(test)]
mod house;

#[cfg(test)]
mod tests {
    use super::house::{Node, run, until};
    use kula_catalog::CatalogError;
    use kula_disk::SimDisk;
    use kula_ring::RingChange;
    use std::time::Duration;

    async fn three(house: u8) -> [Node; 3] {
        let node = |number: u8| Node::start(house, number, 1, SimDisk::new(number.into()));
        let nodes = [node(1).await, node(2).await, node(3).await];
        let took = until("a ring of three", || nodes.iter().all(|node| node.ring.load().nodes.len() == 3)).await;
        println!("the first ring after {took:?}");
        nodes
    }

    #[test]
    fn three_nodes_form_a_ring_and_agree_on_what_is_made() {
        run(async {
            let nodes = three(1).await;
            assert!(nodes.iter().all(|node| node.ring.load().version == 1 && node.join.load().sentence.is_empty()));

            let began = tokio::time::Instant::now();
            nodes[1].create_keyspace("shop", 2).await.unwrap();
            println!("a keyspace everywhere after {:?}", began.elapsed());
            assert!(nodes.iter().all(|node| node.knows("shop")), "answered, so it is everywhere");

            let began = tokio::time::Instant::now();
            let table = nodes[2].create_table("shop", "carts").await.unwrap();
            println!("a table everywhere after {:?}", began.elapsed());
            assert!(nodes.iter().all(|node| node.schema.load().resolve("shop", "carts").unwrap().id == table.id));

            // At once, on all three.
            let created = nodes.each_ref().map(|node| node.create_keyspace("club", 3));
            for answer in created {
                match answer.await {
                    Ok(_) | Err(CatalogError::KeyspaceExists { .. }) => (),
                    Err(error) => panic!("{error}"),
                }
            }
            let created = nodes.each_ref().map(|node| node.create_table("club", "members"));
            let mut ids = Vec::new();
            for answer in created {
                ids.push(match answer.await {
                    Ok(table) | Err(CatalogError::TableExists { existing: table }) => table.id,
                    Err(error) => panic!("{error}"),
                });
            }
            assert!(ids.iter().all(|id| *id == ids[0]));
            let digests = nodes.each_ref().map(|node| node.schema.load().digest());
            assert!(digests.iter().all(|digest| *digest == digests[0]));
            let rings = nodes.each_ref().map(|node| node.ring.load());
            until("one ring", || nodes.iter().all(|node| *node.ring.load() == *nodes[0].ring.load())).await;
            assert!(rings.iter().all(|ring| ring.version >= 3));
            for node in nodes {
                node.stop().await;
            }
        });
    }

    #[test]
    fn two_of_three_commit_one_waits_for_another_and_a_restarted_one_catches_up() {
        run(async {
            let [first, second, third] = three(2).await;
            let left = third.stop().await;
            let set =
                |name: &str| RingChange::SetKeyspace { name: name.parse().unwrap(), settings: Default::default() };
            let version = first.commit(set("two")).await.unwrap();
            second.create_keyspace("four", 2).await.unwrap();

            let third = Node::start(2, 3, 2, left).await;
            until("the third has caught up", || third.knows("four") && third.ring.load().version > version).await;

            let disks = (first.stop().await, second.stop().await);
            let alone = third.commit(set("six"));
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!third.knows("six") && third.ring.load().settings(&"six".parse().unwrap()).is_none());

            // Everybody back, from what their disks have: the change that waited is made.
            let first = Node::start(2, 1, 3, disks.0).await;
            let second = Node::start(2, 2, 3, disks.1).await;
            assert!(first.knows("four") && second.knows("four"));
            assert!(alone.await.is_ok());
            let back = || async { first.commit(set("eight")).await.is_ok() && third.commit(set("nine")).await.is_ok() };
            assert!(back().await);
            until("one ring", || *first.ring.load() == *third.ring.load() && *second.ring.load() == *third.ring.load())
                .await;
            for node in [first, second, third] {
                node.stop().await;
            }
        });
    }
}
