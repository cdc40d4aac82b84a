//! What a hop costs: a tell and an ask, on one arbiter and across two, alone and in bursts.
//!
//! `cargo run --release -p kula-actor --example hop`. Times are of the wall; on one thread that is its CPU too. The meter
//! is on. As an example it is built with the test features of tokio, whose clock is slower: the true cost is a little less.

#![allow(clippy::expect_used, reason = "a measurement stops at what it does not expect")]

use actix::prelude::*;
use futures::future::join_all;
use kula_actor::{
    Backoff, Door, Intensity, KulaContext, MailboxConfig, OnPanic, Place, Registry, Strategy, Supervisor, child,
    supervised,
};
use std::time::Duration;
use tokio::time::Instant;

struct Sum(u64);

impl Actor for Sum {
    type Context = KulaContext<Self>;
}

supervised!(Sum);

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

impl Handler<Add> for Sum {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        self.0 += add.0;
        self.0
    }
}

/// The same without door and meter, for comparison.
struct Bare(u64);

impl Actor for Bare {
    type Context = Context<Self>;
}

impl Handler<Add> for Bare {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        self.0 += add.0;
        self.0
    }
}

const MESSAGES: usize = 1_000_000;
const SERIAL: usize = 100_000;

fn main() {
    System::new().block_on(async {
        let registry = Registry::new();
        let arbiter = Arbiter::new();
        let cap = MailboxConfig { cap: 2_048 };
        let (near, near_spec) = child(&registry, "near", cap, OnPanic::Restart, Place::Local, || Sum(0));
        let place = Place::Arbiter(arbiter.handle());
        let (far, far_spec) = child(&registry, "far", cap, OnPanic::Restart, place, || Sum(0));
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let mut root = Supervisor::new("root", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        root.add(near_spec);
        root.add(far_spec);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let tree = actix_rt::spawn(root.run(stopped));
        near.ask(Add(1)).await.expect("it is up");
        far.ask(Add(1)).await.expect("it is up");

        for (name, door) in [("same arbiter", &near), ("across", &far)] {
            for burst in [16, 64, 1_024] {
                let polls = door.stats().polls();
                let spent = tell(door, burst).await;
                let wakes = door.stats().polls() - polls;
                println!("{name:<12} tell, bursts of {burst:>5}: {spent:>6} ns, {wakes:>7} wakes");
            }
            println!("{name:<12} ask, one at a time:   {:>6} ns", ask_alone(door).await);
            println!("{name:<12} ask, 64 in flight:    {:>6} ns", ask_many(door).await);
        }
        println!("bare, same   do_send, bursts of 64: {:>4} ns", bare(Bare(0).start(), 64).await);
        let far = Bare::start_in_arbiter(&arbiter.handle(), |_| Bare(0));
        println!("bare, across do_send, bursts of 64: {:>4} ns", bare(far, 64).await);
        stop.send(()).expect("it runs");
        tree.await.expect("no panic").expect("no escalation");
        arbiter.stop();
    });
}

fn each(spent: Duration, messages: usize) -> u128 {
    spent.as_nanos() / messages as u128
}

/// Bursts of tell, each awaited to its end by an ask.
async fn tell(door: &Door<Sum>, burst: usize) -> u128 {
    let began = Instant::now();
    for _ in 0..MESSAGES / burst {
        for _ in 1..burst {
            door.tell(Add(1)).expect("the mailbox holds two bursts");
        }
        door.ask(Add(1)).await.expect("it runs");
    }
    each(began.elapsed(), MESSAGES / burst * burst)
}

async fn ask_alone(door: &Door<Sum>) -> u128 {
    let began = Instant::now();
    for _ in 0..SERIAL {
        door.ask(Add(1)).await.expect("it runs");
    }
    each(began.elapsed(), SERIAL)
}

async fn ask_many(door: &Door<Sum>) -> u128 {
    let began = Instant::now();
    let asker = || async {
        for _ in 0..MESSAGES / 64 {
            door.ask(Add(1)).await.expect("it runs");
        }
    };
    join_all((0..64).map(|_| asker())).await;
    each(began.elapsed(), MESSAGES)
}

/// Bursts of do_send, each awaited to its end by a send.
async fn bare(address: Addr<Bare>, burst: usize) -> u128 {
    let began = Instant::now();
    for _ in 0..MESSAGES / burst {
        for _ in 1..burst {
            address.do_send(Add(1));
        }
        address.send(Add(1)).await.expect("it runs");
    }
    each(began.elapsed(), MESSAGES / burst * burst)
}
