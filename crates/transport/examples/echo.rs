//! What a request to a peer costs: process CPU and time, at three depths, over loopback, both nodes on one thread.
//!
//! `cargo run --release -p kula-transport --example echo`. Counts both halves: link, session, room and the asker.

#[path = "../tests/nodes/house.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "furniture of the tests")]
mod house;

use bytes::Bytes;
use futures::{StreamExt, stream};
use house::{ECHO, Fill, Node, in_system, introduce};
use kula_wire::Lane;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

const REQUESTS: usize = 200_000;

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn main() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.30.1:0").await, Node::start(2, 2, "127.88.30.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        assert!(a.echo(2).await.is_ok() && b.room.tell(Fill).is_ok() && !b.seen.is_poisoned());
        println!("{:>6} {:>6} {:>12} {:>12}", "bytes", "depth", "cpu µs/req", "wall µs/req");
        for bytes in [64, 1_024, 65_536] {
            let requests = if bytes > 4_096 { REQUESTS / 20 } else { REQUESTS };
            for depth in [1, 16, 64] {
                let body = Bytes::from(vec![7; bytes]);
                let (cpu_before, wall_before) = (cpu(), tokio::time::Instant::now());
                let asked = stream::iter(0..requests)
                    .map(|_| a.send(2, Lane::Request, ECHO, body.clone(), 5_000))
                    .buffer_unordered(depth);
                let failed = asked.filter(|outcome| std::future::ready(outcome.is_err())).count().await;
                assert_eq!(failed, 0);
                let micros = |span: Duration| span.as_secs_f64() * 1e6 / requests as f64;
                let (cpu, wall) = (micros(cpu() - cpu_before), micros(wall_before.elapsed()));
                println!("{bytes:>6} {depth:>6} {cpu:>12.2} {wall:>12.2}");
            }
        }
        a.stop().await;
        b.stop().await;
    });
}
