//! The read-back: every record through every node, compared with what was put.
//!
//! Each node is asked for the whole table, page by page at the import's consistency: a page joins what that many replicas of
//! each key say. What a node shows is entered in a ledger as the import's records were, and the two are compared key by key,
//! so that keys which the import did not bring change nothing.

pub use super::ledger::Comparison;
use super::{
    TransferError,
    ledger::Ledger,
    members::{Member, Members},
    progress::{Look, Progress},
    scan::{Pages, Shown, Wanted},
    trouble::Trouble,
};
use crate::{
    cli::Global,
    client::{Client, Failure},
    records::{key_hash, record_hash},
    stopwatch::now,
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Nodes that are read through at the same time: each takes a ledger's memory.
const AT_ONCE_MAX: usize = 8;

/// What one node showed.
pub struct ReadBack {
    pub node: String,
    pub took: Duration,
    /// Or why nothing was read through it.
    pub outcome: Result<Comparison, String>,
}

/// How far all of them are.
#[derive(Default)]
struct Count {
    records: AtomicU64,
    bytes: AtomicU64,
    ended: AtomicU64,
}

pub fn read_back(
    wanted: &Wanted<'_>,
    imported: &Ledger,
    keys: u64,
    members: &Members,
    global: &Global,
) -> Result<Vec<ReadBack>, Failure> {
    let clients = members.clients(global)?;
    let (count, trouble) = (Count::default(), Trouble::default());
    let total = keys.saturating_mul(u64::try_from(clients.len()).unwrap_or(u64::MAX));
    let each: Vec<(&Member, &Client)> = members.all.iter().zip(&clients).collect();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&count, &trouble, total, members.all.len()));
        for some in each.chunks(AT_ONCE_MAX) {
            let (count, trouble) = (&count, &trouble);
            let read = |&(member, client): &(_, _)| {
                scope.spawn(move || through(wanted, member, client, members, count, trouble))
            };
            let reading: Vec<_> = some.iter().map(read).collect();
            for read in reading {
                // A thread that panicked has said so itself.
                all.push(read.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the reader failed").into())));
                count.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        watch.join().ok();
    });
    let mut told = Vec::new();
    for (read, (member, _)) in all.into_iter().zip(each) {
        let (outcome, took) = match read? {
            (Ok(ledger), took) => {
                (Ok(imported.compare(&ledger).map_err(TransferError::file("read the ledger"))?), took)
            }
            (Err(why), took) => (Err(why), took),
        };
        told.push(ReadBack { node: member.name.clone(), took, outcome });
    }
    Ok(told)
}

type Read = (Result<Ledger, String>, Duration);

/// All of the table through one node.
fn through(
    wanted: &Wanted<'_>,
    member: &Member,
    client: &Client,
    members: &Members,
    count: &Count,
    trouble: &Trouble,
) -> Result<Read, Failure> {
    let began = now();
    if !member.says_hello() {
        return Ok((Err("it does not answer".into()), began.elapsed()));
    }
    let mut ledger = Ledger::new();
    let mut pages = Pages::new(wanted, members, std::slice::from_ref(client), trouble)?;
    loop {
        let page = match pages.next() {
            Ok(Some(page)) => page,
            Ok(None) => return Ok((Ok(ledger), began.elapsed())),
            Err(failure @ (Failure::Problem(_) | Failure::Unreachable { .. })) => {
                return Ok((Err(said(&failure)), began.elapsed()));
            }
            Err(failure) => return Err(failure),
        };
        for entry in page {
            let (bytes, hash) = match &entry.shown {
                Shown::One { value, content_type, .. } => (value.len(), record_hash(&entry.key, content_type, value)),
                // No record that was imported: nothing was put beside it.
                Shown::Siblings => (0, record_hash(&entry.key, "siblings", &[])),
            };
            ledger.add(key_hash(&entry.key), hash).map_err(TransferError::file("write a temporary file"))?;
            count.records.fetch_add(1, Ordering::Relaxed);
            count.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

fn said(failure: &Failure) -> String {
    match failure {
        Failure::Problem(problem) => {
            let text = |key: &str| problem[key].as_str().unwrap_or_default().to_string();
            format!("{} {}", text("code"), text("title"))
        }
        other => other.to_string(),
    }
}

fn watch(count: &Count, trouble: &Trouble, total: u64, nodes: usize) {
    let mut progress = Progress::new("verify");
    let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
    while count.ended.load(Ordering::Relaxed) < nodes {
        progress.show(&Look {
            records: count.records.load(Ordering::Relaxed),
            bytes: count.bytes.load(Ordering::Relaxed),
            records_total: Some(total),
            failures: trouble.count(),
            trouble: trouble.last(),
            ..Look::default()
        });
        std::thread::sleep(Duration::from_millis(20));
    }
    progress.clear();
}

impl ReadBack {
    pub fn json(&self) -> Value {
        let took = self.took.as_secs_f64();
        match &self.outcome {
            Ok(read) => json!({
                "node": self.node, "keys": read.digest.records, "digest": read.digest.to_string(),
                "missing": read.missing, "different": read.different, "others": read.others, "seconds": took,
            }),
            Err(why) => json!({ "node": self.node, "unread": why, "seconds": took }),
        }
    }
}

/// What is amiss in all of it.
pub fn judge(all: &[ReadBack], keys: u64) -> Result<(), TransferError> {
    for read in all {
        if let Ok(Comparison { missing, different, .. }) = read.outcome
            && missing + different > 0
        {
            return Err(TransferError::Differs { node: read.node.clone(), keys, missing, different });
        }
    }
    let unread: Vec<(&str, &str)> =
        all.iter().filter_map(|read| Some((read.node.as_str(), read.outcome.as_ref().err()?.as_str()))).collect();
    let Some((_, why)) = unread.first() else { return Ok(()) };
    let nodes = unread.iter().map(|(node, _)| node.to_string()).collect();
    Err(TransferError::Unread { nodes, why: why.to_string() })
}
