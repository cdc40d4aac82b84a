//! What was acknowledged is there after the node is killed, stopped or started again.

use crate::harness::{Node, Place, SMALL_STORE, binary};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Writes from eight clients until told to stop; what was acknowledged, by key, newest value last.
fn write_until_killed(node: &Node, span: Duration) -> BTreeMap<String, Vec<String>> {
    let acknowledged = Mutex::new(BTreeMap::<String, Vec<String>>::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (acknowledged, over) = (&acknowledged, &over);
            scope.spawn(move || {
                for number in 0u32.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("c{client}-{}", number % 50);
                    let value = format!("v{client}-{number}");
                    // The node may die at any time: then the write is unknown, and says nothing.
                    if let Ok(answer) = node.try_ask("PUT", &format!("/kv/t/lww/{key}"), &[], value.as_bytes())
                        && answer.status == 204
                    {
                        acknowledged.lock().unwrap().entry(key).or_default().push(value);
                    }
                }
            });
        }
        std::thread::sleep(span);
        node.signal(rustix::process::Signal::KILL);
        over.store(true, Ordering::Relaxed);
    });
    acknowledged.into_inner().unwrap()
}

// Promise: P1
#[test]
fn acknowledged_writes_survive_kill_9_again_and_again() {
    let Some(_) = binary() else { return };
    let place = Place::new("kill_9");
    let node = Node::start(&place, SMALL_STORE);
    node.make_table("t", "lww", "lww");
    node.kill();
    for _ in 0..3 {
        let mut node = Node::start(&place, SMALL_STORE);
        let acknowledged = write_until_killed(&node, Duration::from_millis(1_200));
        node.wait();
        drop(node);
        assert!(acknowledged.values().map(Vec::len).sum::<usize>() > 100, "too few writes to mean anything");
        let node = Node::start(&place, SMALL_STORE);
        for (key, values) in &acknowledged {
            let answer = node.get(&format!("/kv/t/lww/{key}"));
            assert_eq!(answer.status, 200, "{key}");
            // The last acknowledged one, or one sent later whose answer was lost.
            let found = answer.text();
            let number = |value: &str| value.rsplit('-').next().unwrap().parse::<u32>().unwrap();
            assert!(number(&found) >= number(values.last().unwrap()), "{key}: {found} after {:?}", values.last());
        }
        node.kill();
    }
}

// Promise: P1
#[test]
fn an_ordered_stop_exits_0_and_loses_nothing() {
    let Some(_) = binary() else { return };
    let place = Place::new("ordered_stop");
    let node = Node::start(&place, &[]);
    for number in 0..100 {
        assert_eq!(node.put(&format!("/kv/kv/default/k{number}"), "v").status, 204);
    }
    assert!(node.stop().success());
    let node = Node::start(&place, &[]);
    for number in 0..100 {
        assert_eq!(node.get(&format!("/kv/kv/default/k{number}")).text(), "v");
    }
    assert!(!place.log().contains("panicked"), "{}", place.log());
}

#[test]
fn data_need_not_fit_memory_and_survives_flushes() {
    let Some(_) = binary() else { return };
    let place = Place::new("flushes");
    let small = [
        "--set",
        "storage.memtable_heap=4000000",
        "--set",
        "storage.commitlog_segment=1048576",
        "--set",
        "storage.commitlog_total=8388608",
    ];
    let node = Node::start(&place, &small);
    node.make_table("t", "lww", "lww");
    let value = |number: u32| format!("{number:06}").repeat(1_000);
    for number in 0..2_000 {
        assert_eq!(node.put(&format!("/kv/t/lww/k{number}"), &value(number)).status, 204, "{}", place.log());
    }
    let load = node.get("/v1/status").json()["nodes"][0]["load_bytes"].as_u64().unwrap();
    assert!(load > 0, "something was flushed");
    node.kill();
    let node = Node::start(&place, &small);
    for number in (0..2_000).step_by(37) {
        assert_eq!(node.get(&format!("/kv/t/lww/k{number}")).text(), value(number));
    }
}
