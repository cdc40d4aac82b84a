//! What a run cost its users, counted from its history: what was lost, which siblings arose, how stale reads were, who was
//! served. The oracle says whether promises held; this says what it was like where they did.
//!
//! A write is *lost* if it was acknowledged and what the owners hold in the end does not contain it: joined with it, they
//! would change. What a later write replaced is contained. A write is *outranked* if it began after another was
//! acknowledged and lies below it: the clocks were apart, and no read that meets both shows it. A read is *stale* if it lacks a write
//! that was acknowledged before the read began; its age is how long ago the first such was. Lost and outranked writes make
//! no read stale.

use crate::{
    Plan, Report,
    history::{Action, Call, History, Outcome},
    oracle::{KeyId, KeyState, Oracle, SentMutation, normal},
    plan::FaultKind,
    run::{BUCKET, REGISTERS},
    time::{Micros, SECOND},
};
use kula_lattice::{CellId, Dots, Join, Partition};
use kula_schema::TableKind;
use kula_storage::SyncMode;
use kula_types::{ClusteringKey, Consistency, Key};
use std::collections::{BTreeMap, BTreeSet};

/// What a run leaves for its account.
pub struct Told {
    pub history: History,
    pub oracle: Oracle,
    /// When the load began; faults of a plan count from here.
    pub base: Micros,
}

/// Requests of one kind at one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub asked: u64,
    pub answered: u64,
    pub refused: u64,
    pub unknown: u64,
    pub nobody_there: u64,
    /// How long answers took, in the order of the history until `ordered`.
    pub latencies: Vec<Micros>,
    /// Of acknowledged writes.
    pub lost: u64,
    pub outranked: u64,
    /// Of answered reads: by how much each stale one was behind.
    pub ages: Vec<Micros>,
}

/// A write that was acknowledged and is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostWrite {
    pub seed: u64,
    pub operation: usize,
    pub table: &'static str,
    pub key: String,
    pub action: Action,
    pub level: Consistency,
    pub acked_at: Micros,
    /// Machines that had it durably, and what became of them.
    pub holders: Vec<(String, Option<(&'static str, Micros)>)>,
}

/// A write that was acknowledged and lies below one that had been acknowledged before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outranked {
    pub seed: u64,
    pub operation: usize,
    pub key: String,
    pub action: Action,
    pub acked_at: Micros,
    /// Of the other write: its operation, when it was acknowledged, and how far its stamp is ahead.
    pub by: usize,
    pub by_acked_at: Micros,
    pub ahead: Micros,
}

/// Concurrent values, as reads showed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    pub keys: u64,
    /// Keys that had more than one value at some time.
    pub keys_with: u64,
    pub most: u64,
    pub keys_with_in_the_end: u64,
}

/// One run, or several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub runs: u64,
    /// Virtual time under load, and in all.
    pub loaded: Micros,
    pub virtual_time: Micros,
    pub operations: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// By level as it is written.
    pub writes: BTreeMap<String, Served>,
    pub reads: BTreeMap<String, Served>,
    pub pages: BTreeMap<String, Served>,
    /// Seeds in which something was lost or outranked.
    pub seeds_with_losses: Vec<u64>,
    pub lost: Vec<LostWrite>,
    pub outranked: Vec<Outranked>,
    pub siblings: Siblings,
    /// By seed: promises that broke.
    pub violations: Vec<(u64, String)>,
}

/// Examples kept of each kind: a person reads few, and the counts are whole.
const EXAMPLES_MAX: usize = 20;

impl Account {
    pub fn of(plan: &Plan, report: &Report, told: &Told) -> Account {
        let view = View { plan, told, gone: BTreeSet::new() };
        view.account(report)
    }

    pub fn add(&mut self, other: Account) {
        self.runs += other.runs;
        self.loaded += other.loaded;
        self.virtual_time += other.virtual_time;
        self.operations += other.operations;
        other.faults.into_iter().for_each(|(name, times)| *self.faults.entry(name).or_default() += times);
        for (mine, its) in
            [(&mut self.writes, other.writes), (&mut self.reads, other.reads), (&mut self.pages, other.pages)]
        {
            its.into_iter().for_each(|(level, served)| mine.entry(level).or_default().add(served));
        }
        self.seeds_with_losses.extend(other.seeds_with_losses);
        self.lost.extend(other.lost);
        self.lost.truncate(EXAMPLES_MAX);
        self.outranked.extend(other.outranked);
        self.outranked.truncate(EXAMPLES_MAX);
        self.siblings.add(other.siblings);
        self.violations.extend(other.violations);
    }

    /// Acknowledged writes that are gone, and that are outranked.
    pub fn losses(&self) -> (u64, u64) {
        let sum = |of: fn(&Served) -> u64| self.writes.values().map(of).sum();
        (sum(|served| served.lost), sum(|served| served.outranked))
    }
}

impl Served {
    fn add(&mut self, other: Served) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.nobody_there += other.nobody_there;
        self.latencies.extend(other.latencies);
        self.lost += other.lost;
        self.outranked += other.outranked;
        self.ages.extend(other.ages);
    }

    fn count(&mut self, call: &Call) {
        self.asked += 1;
        match call.outcome {
            Outcome::Answered => {
                self.answered += 1;
                self.latencies.push(call.ended - call.began);
            }
            Outcome::Refused => self.refused += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::NobodyThere => self.nobody_there += 1,
        }
    }
}

impl Siblings {
    fn add(&mut self, other: Siblings) {
        self.keys += other.keys;
        self.keys_with += other.keys_with;
        self.most = self.most.max(other.most);
        self.keys_with_in_the_end += other.keys_with_in_the_end;
    }
}

/// The value below which so many per mille of these lie; they need no order.
pub fn per_mille(of: &[Micros], per_mille: usize) -> Option<Micros> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * per_mille).div_ceil(1_000).saturating_sub(1);
    sorted.get(at).copied()
}

/// One run, looked at.
struct View<'a> {
    plan: &'a Plan,
    told: &'a Told,
    /// Operations that are lost or outranked.
    gone: BTreeSet<usize>,
}

/// An acknowledged write.
#[derive(Clone, Copy)]
struct Write<'a> {
    operation: usize,
    call: &'a Call,
    sent: &'a SentMutation,
}

impl View<'_> {
    fn account(mut self, report: &Report) -> Account {
        let named = |name: &&'static str| Some((*name, *report.trace.counts().get(*name)?));
        let mut account = Account {
            runs: 1,
            loaded: report.loaded,
            virtual_time: report.virtual_time,
            faults: FaultKind::NAMES.iter().filter_map(named).collect(),
            violations: report.violations.iter().map(|what| (report.seed, what.clone())).collect(),
            ..Account::default()
        };
        for call in self.told.history.calls.values().filter(|call| call.client.is_some()) {
            account.operations += 1;
            let of = match call.action {
                Action::Put | Action::Delete => &mut account.writes,
                Action::Get => &mut account.reads,
                Action::List => &mut account.pages,
            };
            of.entry(call.level.to_string()).or_default().count(call);
        }
        for (key, state) in &self.told.oracle.keys {
            self.losses(key, state, &mut account);
        }
        if !(account.lost.is_empty() && account.outranked.is_empty()) {
            account.seeds_with_losses.push(report.seed);
        }
        account.lost.truncate(EXAMPLES_MAX);
        account.outranked.truncate(EXAMPLES_MAX);
        self.stale(&mut account);
        account.siblings = self.siblings();
        account
    }

    fn is_in(&self, key: &KeyId, table: &str) -> bool {
        self.told.oracle.tables.get(&key.0).is_some_and(|known| known.name.as_str() == table)
    }

    /// Writes of this key that were acknowledged. A delete that found nothing sent nothing, and is none.
    fn acked<'b>(&'b self, state: &'b KeyState) -> Vec<Write<'b>> {
        let write = |sent: &'b SentMutation| {
            let call = self.told.history.calls.get(&sent.operation)?;
            (call.outcome == Outcome::Answered).then_some(Write { operation: sent.operation, call, sent })
        };
        state.mutations.iter().filter_map(write).collect()
    }

    fn losses(&mut self, key: &KeyId, state: &KeyState, account: &mut Account) {
        let acked = self.acked(state);
        let mut gone = BTreeSet::new();
        for write in &acked {
            let level = write.call.level.to_string();
            let served = account.writes.entry(level).or_default();
            if let Some(outranked) = self.outranked(key, *write, &acked) {
                served.outranked += 1;
                gone.insert(write.operation);
                account.outranked.push(outranked);
            } else if self.is_lost(key, *write) {
                served.lost += 1;
                gone.insert(write.operation);
                account.lost.push(self.lost_write(key, *write));
            }
        }
        self.gone.extend(gone);
    }

    /// Only a run that came to its end can say so.
    fn is_lost(&self, key: &KeyId, write: Write) -> bool {
        let Some(held) = self.told.history.in_the_end.get(key) else { return false };
        let mut both = held.clone();
        both.join(write.sent.delta.clone());
        normal(&both) != normal(held)
    }

    fn outranked(&self, key: &KeyId, write: Write, acked: &[Write]) -> Option<Outranked> {
        let mine = self.told.oracle.register_key(write.operation, key)?;
        let others = acked.iter().filter(|other| other.call.ended < write.call.began);
        let keyed = others.filter_map(|other| Some((self.told.oracle.register_key(other.operation, key)?, other)));
        let (highest, by) = keyed.max_by_key(|(highest, _)| *highest).filter(|(highest, _)| *highest > mine)?;
        Some(Outranked {
            seed: self.plan.seed,
            operation: write.operation,
            key: text(key),
            action: write.call.action,
            acked_at: write.call.ended,
            by: by.operation,
            by_acked_at: by.call.ended,
            ahead: u64::try_from(highest.ts().micros() - mine.ts().micros()).unwrap_or(0),
        })
    }

    fn lost_write(&self, key: &KeyId, write: Write) -> LostWrite {
        let machines = 0..self.plan.hosts.len();
        let had = machines.filter(|machine| self.told.oracle.said(*machine, key, &write.sent.delta));
        let holders = had.map(|machine| {
            let name = self.plan.hosts[machine].name.clone();
            (name, self.what_took(machine, write.call.began))
        });
        LostWrite {
            seed: self.plan.seed,
            operation: write.operation,
            table: if self.is_in(key, BUCKET) { BUCKET } else { REGISTERS },
            key: text(key),
            action: write.call.action,
            level: write.call.level,
            acked_at: write.call.ended,
            holders: holders.collect(),
        }
    }

    /// The first fault after that moment which took durable data of this machine.
    fn what_took(&self, machine: usize, after: Micros) -> Option<(&'static str, Micros)> {
        let is_periodic = matches!(self.plan.hosts[machine].storage.sync, SyncMode::Periodic { .. });
        let takes = |kind: &FaultKind| match kind {
            FaultKind::Wipe { machine: its } => *its == machine,
            FaultKind::PowerLoss { machine: its, .. } | FaultKind::PowerLossAtAck { machine: its, .. } => {
                is_periodic && *its == machine
            }
            _ => false,
        };
        let late = self.plan.faults.iter().filter(|fault| takes(&fault.kind));
        let mut late: Vec<_> = late.map(|fault| (fault.kind.name(), self.told.base + fault.at)).collect();
        late.sort_by_key(|(_, at)| *at);
        late.into_iter().find(|(_, at)| *at >= after)
    }

    fn stale(&self, account: &mut Account) {
        let mut acked: BTreeMap<&KeyId, Vec<Write>> = BTreeMap::new();
        for (key, state) in &self.told.oracle.keys {
            let mut of_key = self.acked(state);
            of_key.retain(|write| !self.gone.contains(&write.operation));
            acked.insert(key, of_key);
        }
        for read in self.told.history.calls.values() {
            let is_of_client = read.client.is_some() && read.action == Action::Get;
            let Some(key) = read.key.as_ref().filter(|_| is_of_client && read.outcome == Outcome::Answered) else {
                continue;
            };
            let (Some(acked), Some(state)) = (acked.get(key), self.told.oracle.keys.get(key)) else { continue };
            let before = acked.iter().filter(|write| write.call.ended < read.began).copied();
            if let Some(since) = self.missing_since(key, state, read, before) {
                account.reads.entry(read.level.to_string()).or_default().ages.push(read.began - since);
            }
        }
    }

    /// When the first write that the read lacks was acknowledged.
    fn missing_since<'b>(
        &self,
        key: &KeyId,
        state: &KeyState,
        read: &Call,
        before: impl Iterator<Item = Write<'b>>,
    ) -> Option<Micros> {
        let oracle = &self.told.oracle;
        let kind = oracle.tables.get(&key.0)?.kind;
        let began_by = |sent: &&SentMutation| {
            self.told.history.calls.get(&sent.operation).is_some_and(|call| call.began < read.ended)
        };
        let missing: Vec<Write> = match kind {
            TableKind::Lww => {
                let shown: Option<Key> = match read.shown.first() {
                    Some(operation) => oracle.register_key(*operation, key),
                    // Any delete that was sent by then may be what it saw.
                    None => state.mutations.iter().filter(began_by).filter_map(|sent| sent.delta.floor).max(),
                };
                let is_newer = |write: &Write| oracle.register_key(write.operation, key) > shown;
                before.filter(is_newer).collect()
            }
            TableKind::Causal => {
                let by_then: Vec<&SentMutation> = state.mutations.iter().filter(began_by).collect();
                before.filter(|write| self.lacks_sibling(key, &by_then, read, write)).collect()
            }
        };
        missing.iter().map(|write| write.call.ended).min()
    }

    /// Whether a read of a bucket shows what this write replaced, or not what it put and nobody had replaced.
    fn lacks_sibling(&self, key: &KeyId, by_then: &[&SentMutation], read: &Call, write: &Write) -> bool {
        let covers = |delta: &Partition, dot| self.dots(key, delta).is_some_and(|dots| dots.seen.contains(dot));
        let is_shown = |sent: &&&SentMutation| read.shown.contains(&sent.operation);
        let replaced = by_then
            .iter()
            .filter(is_shown)
            .any(|sent| sent.operation != write.operation && covers(&write.sent.delta, sent.mid));
        let is_put = write.call.action == Action::Put && read.more == 0;
        let is_hidden = is_put
            && !read.shown.contains(&write.operation)
            && !by_then.iter().any(|sent| sent.operation != write.operation && covers(&sent.delta, write.sent.mid));
        replaced || is_hidden
    }

    fn dots<'b>(&self, key: &KeyId, delta: &'b Partition) -> Option<&'b Dots> {
        let column = self.told.oracle.tables.get(&key.0)?.value_column();
        delta.cell(&ClusteringKey::default(), &CellId::simple(column))?.dots.as_deref()
    }

    fn siblings(&self) -> Siblings {
        let mut by_key: BTreeMap<&KeyId, (u64, u64)> = BTreeMap::new();
        for call in self.told.history.calls.values().filter(|call| call.outcome == Outcome::Answered) {
            let Some(key) = call.key.as_ref().filter(|key| call.action == Action::Get && self.is_in(key, BUCKET))
            else {
                continue;
            };
            let shown = call.shown.len() as u64 + call.more;
            let (most, last) = by_key.entry(key).or_default();
            *most = shown.max(*most);
            // Calls are in the order of their numbers, and the checker's are the last.
            *last = if call.client.is_none() { shown } else { *last };
        }
        Siblings {
            keys: by_key.len() as u64,
            keys_with: by_key.values().filter(|(most, _)| *most > 1).count() as u64,
            most: by_key.values().map(|(most, _)| *most).max().unwrap_or(0),
            keys_with_in_the_end: by_key.values().filter(|(_, last)| *last > 1).count() as u64,
        }
    }
}

fn text((_, key): &KeyId) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}

/// Virtual seconds of a moment, as the trace writes them.
pub fn seconds(at: Micros) -> String {
    format!("{}.{:03} s", at / SECOND, at % SECOND / 1_000)
}
