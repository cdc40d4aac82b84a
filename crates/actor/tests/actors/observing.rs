//! What operators see: reports, the mailbox log end to end, metrics.

use crate::house::*;
use kula_actor::{
    Backoff, ChildSpec, Intensity, MailboxState, Observer, ObserverConfig, OnPanic, Place, Registry, Strategy,
    Supervisor,
};
use slog::{Drain, Logger, o};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    /// As JSON lines, as a node would write them.
    fn log(&self) -> Logger {
        let text = o!("level" => slog::FnValue(|record: &slog::Record| record.level().as_str()),
            "msg" => slog::PushFnValue(|record: &slog::Record, to: slog::PushFnValueSerializer| to.emit(record.msg())));
        let json = slog_json::Json::new(self.clone()).add_key_value(text).build();
        Logger::root(Mutex::new(json).map(slog::Fuse), o!("node" => "n1"))
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

#[test]
fn the_observer_writes_a_line_for_a_busy_actor_and_none_for_an_idle_one() {
    paused(async {
        let (page, story) = (Page::default(), Story::default());
        let registry = Registry::new();
        let config = ObserverConfig { mailbox_every: Duration::from_secs(10) };
        let (observer, observer_spec) = Observer::child(&registry, config, page.log());
        let (busy, busy_spec) = worker(&registry, "coordinator/0", &story);
        let (_idle, idle_spec) = worker(&registry, "ring", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(observer_spec);
        root.add(busy_spec);
        root.add(idle_spec);
        let tree = Tree::run(root);
        tokio::time::sleep(Duration::from_secs(5)).await;
        (0..710).for_each(|_| busy.tell(Add(1)).unwrap());
        (0..290).for_each(|_| busy.tell(Say("hello")).unwrap());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let first = page.take();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(page.take(), "", "silent when idle");
        // Waits and the busy part are real time even on a paused clock of messages handled at once: zero.
        insta::assert_snapshot!(first);
        assert_eq!(observer.stats().restarts(), 0);
        tree.stop().await.unwrap();
    });
}

#[test]
fn the_lines_of_a_supervisor_are_a_contract() {
    paused(async {
        let (page, story) = (Page::default(), Story::default());
        let registry = Registry::new();
        let (session, session_spec) = worker(&registry, "coordinator/0", &story);
        let (shard, shard_spec) = worker_at(&registry, "storage/shard/0", &story, OnPanic::Fence, Place::Local);
        let intensity = Intensity { max: 1, within: Duration::from_secs(30) };
        let run = |specs: Vec<ChildSpec>| {
            let mut root = Supervisor::new("node", Strategy::OneForOne, intensity, Backoff::default(), page.log());
            specs.into_iter().for_each(|spec| root.add(spec));
            Tree::run(root)
        };
        let tree = run(vec![session_spec.drain(std::future::pending)]);
        session.tell(Poison).unwrap();
        session.ask(Add(1)).await.unwrap();
        session.tell(Quit).unwrap();
        tree.ended().await.unwrap_err();
        let tree = run(vec![shard_spec]);
        shard.tell(Poison).unwrap();
        tree.ended().await.unwrap_err();
        let (idle, idle_spec) = worker(&registry, "ring", &story);
        let tree = run(vec![idle_spec.drain(std::future::pending)]);
        idle.ask(Add(1)).await.unwrap();
        tree.stop().await.unwrap();
        insta::assert_snapshot!(page.take());
    });
}

#[test]
fn readers_share_a_window_and_reset_nothing() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        (0..400).for_each(|_| door.tell(Add(1)).unwrap());
        tokio::time::sleep(Duration::from_millis(3_800)).await;
        let rate = |registry: &Registry| registry.snapshot().into_iter().map(|actor| actor.out_s).collect::<Vec<_>>();
        assert_eq!([rate(&registry), rate(&registry)], [vec![100], vec![100]]);
        assert_eq!(registry.mark()[0].out_s, 100);
        assert_eq!(rate(&registry), [100], "right after a mark the window before it is shown");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(rate(&registry), [0]);
        tree.stop().await.unwrap();
        registry.mark();
        assert_eq!(registry.snapshot(), [], "an actor that ended for good is no longer listed");
    });
}

#[test]
fn an_actor_that_takes_nothing_is_stuck_and_one_that_is_down_too() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        door.tell(Add(1)).unwrap();
        registry.mark();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(registry.snapshot()[0].state, MailboxState::Stuck);
        drop(spec);
    });
}

#[test]
fn metrics_render_as_openmetrics_in_a_fixed_order() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "storage/shard/0", &story);
        (0..1_002).for_each(|_| drop(door.tell(Add(1))));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        door.tell(Poison).unwrap();
        settle().await;
        registry.counter("kula_flushes", "Memtables flushed", &[("shard", "1")]).inc_by(3);
        registry.counter("kula_flushes", "Memtables flushed", &[("shard", "0")]).inc();
        registry.counter("kula_flushes", "Memtables flushed", &[("shard", "0")]).inc();
        registry.gauge("kula_memtable_bytes", "Bytes held", &[]).set(42);
        registry.histogram("kula_fsync_seconds", "Time of an fdatasync", &[], &[0.001, 0.01]).observe(0.002);
        insta::assert_snapshot!(registry.render_metrics());
        tree.stop().await.unwrap();
    });
}
