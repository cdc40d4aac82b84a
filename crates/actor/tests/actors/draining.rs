//! The end of a batch and what becomes of it when the actor fails first.

use crate::house::*;
use kula_actor::{Registry, Strategy};

#[test]
fn an_end_of_batch_is_forgotten_with_the_generation_that_asked() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        (0..3).for_each(|_| door.tell(Batch).unwrap());
        door.tell(Poison).unwrap();
        (0..2).for_each(|_| door.tell(Batch).unwrap());
        settle().await;
        assert_eq!(door.ask(Batches).await, Ok(vec![2]), "the next generation asks for its own");
        tree.stop().await.unwrap();
    });
}
