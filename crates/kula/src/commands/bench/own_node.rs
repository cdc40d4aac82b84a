//! A node of the bench's own: this binary as a child, on a free loopback port, in a directory that goes with it.

use crate::{
    cli::{Colour, Global, Launched, Output},
    client::Client,
    stopwatch::now,
};
use anyhow::{Context, bail};
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// How long a start may take before the bench gives up.
const START_MAX: Duration = Duration::from_secs(30);
/// Between two looks whether the node is ready.
const READY_EVERY: Duration = Duration::from_millis(1);

pub struct OwnNode {
    child: Child,
    directory: PathBuf,
    pub at: String,
    /// From `spawn` to the first answer of `/healthz/ready`.
    pub ready_after: Duration,
}

impl OwnNode {
    /// Starts a node and waits until it takes requests.
    pub fn start(directory: PathBuf) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("no free port")?.port();
        let at = format!("http://127.0.0.1:{port}");
        let program = std::env::current_exe().context("cannot find this program")?;
        let started = now();
        let child = Command::new(program)
            .args(["node", "--set", &format!("listen.http={port}"), "--set", "log.level=warning"])
            .args(["--launched", Launched::WithParent.word(), "--data"])
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("the node did not start")?;
        let mut node = OwnNode { child, directory, at, ready_after: Duration::ZERO };
        let client = node.client(Duration::from_secs(1))?;
        loop {
            if client.ask("GET", "/healthz/ready", &[], b"").is_ok_and(|answer| answer.status == 200) {
                node.ready_after = started.elapsed();
                return Ok(node);
            }
            if let Some(status) = node.child.try_wait()? {
                bail!("the node ended with {status} before it was ready");
            }
            if started.elapsed() > START_MAX {
                bail!("the node was not ready within {START_MAX:?}");
            }
            std::thread::sleep(READY_EVERY);
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self, timeout: Duration) -> anyhow::Result<Client> {
        let global = Global { at: self.at.clone(), output: Output::Json, color: Colour::Never, timeout, yes: true };
        Ok(Client::new(&global)?)
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        // The directory goes too, so nothing is owed to the node: SIGKILL. Both may fail only if they are gone already.
        self.child.kill().and_then(|()| self.child.wait()).ok();
        remove(&self.directory);
    }
}

/// A directory for one run, under the system's temporary one.
pub fn directory() -> PathBuf {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("kula-bench-{}-{run}", std::process::id()))
}

#[allow(clippy::disallowed_methods, reason = "the bench's own directory")]
pub fn remove(directory: &std::path::Path) {
    std::fs::remove_dir_all(directory).ok();
}
