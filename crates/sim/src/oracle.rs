//! The oracle: what may, must and must not be read, from what really happened (`promises.md`, "Oracle").
//!
//! Its ground truth is a *ledger* a machine and key: the join of every delta that the machine's replica answered as durable.
//! What a ledger holds must be found again after every crash (`recovered`); a client's ack needs ledgers of W owners; a
//! read of R owners must show at least what some R ledgers held when it began, and nothing that nobody sent. Values name
//! their operation, so one read proves where it comes from. What a fault destroyed is taken out of the ledger.

use crate::time::Micros;
use bytes::Bytes;
use kula_coordinator::{Found, ScanAnswer, present};
use kula_fault::inside;
use kula_lattice::{CellId, Join, Live, Mutation, Partition, Seal, Seen};
use kula_placement::Partitioner;
use kula_ring::Acceptor;
use kula_schema::{Table, TableKind};
use kula_types::{ClusteringKey, Dot, Key, Name, PartitionKey, TableId, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub type KeyId = (TableId, PartitionKey);

/// How far a clock that was never wrong may stamp ahead of itself: a microsecond for each of many stamps at one time.
const STAMP_AHEAD_MAX: i64 = 1_000;

/// What the oracle knows of one key.
#[derive(Default)]
pub struct KeyState {
    /// By machine: what its replica said is durable there.
    pub ledgers: BTreeMap<usize, Partition>,
    /// As the ledgers, with what a fault destroyed since.
    ever: BTreeMap<usize, Partition>,
    /// What blocking reads of a quorum have shown: no later one may show less.
    promised: Partition,
    /// Everything that coordinators sent for clients' writes, joined, and one by one.
    pub sent: Partition,
    pub mutations: Vec<SentMutation>,
}

pub struct SentMutation {
    pub operation: usize,
    pub mid: Dot,
    pub delta: Partition,
}

/// What one machine had said is durable there, at some moment.
pub struct Ledger(BTreeMap<KeyId, Partition>);

/// A read under way: what the owners' ledgers held when it began.
pub struct Expectation {
    pub key: KeyId,
    /// Of each owner.
    pub ledgers: Vec<(usize, Partition)>,
    promised: Partition,
    pub began: Micros,
    pub wall: i64,
    /// An owner lost data while the read ran: nothing can be said.
    pub is_void: bool,
}

/// A delta that was acknowledged lately, and may be lost with a power failure where the log is synced by periods.
struct Recent {
    machine: usize,
    key: KeyId,
    delta: Partition,
}

/// A table whose making was answered.
pub struct Made {
    pub table: TableId,
    pub name: Name,
    /// Who answered.
    pub machine: usize,
}

#[derive(Default)]
pub struct Oracle {
    pub keys: BTreeMap<KeyId, KeyState>,
    pub tables: BTreeMap<TableId, Arc<Table>>,
    /// Tables that are somewhere for certain.
    pub made: Vec<Made>,
    /// Keys that a machine acknowledged something for since it was last checked.
    dirty: BTreeMap<usize, Vec<KeyId>>,
    /// Where the log is synced by periods: what is young enough to be lost.
    recent: Vec<Recent>,
    /// Hints that were said to be kept: by whom, for whom, of which key, what.
    hints: Vec<(usize, usize, KeyId, Partition)>,
    /// By machine: the last stamp that its clock gave a sibling.
    stamps: BTreeMap<usize, Timestamp>,
    /// By machine: the latest clock of another that it heard of.
    heard: BTreeMap<usize, Timestamp>,
    /// By machine: what it last promised and accepted for its next ring.
    promised: BTreeMap<usize, Acceptor>,
    /// By causal write: what its client was shown.
    shown: BTreeMap<usize, Vec<usize>>,
    /// Of a register: the highest key that was acknowledged among those whose date the cluster gave, and its operation.
    latest: BTreeMap<KeyId, (Key, usize)>,
    pub violations: Vec<String>,
    pub checks: u64,
}

impl Oracle {
    pub fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// `dated`: the machine whose clock dated it just now, and what that clock shows, if it was never wrong.
    pub fn mutation_sent(&mut self, dated: Option<(usize, Option<i64>)>, operation: usize, mutation: &Mutation) {
        let state = self.keys.entry((mutation.table, mutation.key.clone())).or_default();
        if state.mutations.iter().any(|sent| sent.mid == mutation.mid) {
            // The same mutation to another owner, or again.
            return;
        }
        let mut whys = Vec::new();
        if let (Some(stamp), Some((machine, wall))) = (sibling_of(mutation).map(|live| live.hlc), dated) {
            let before = self.stamps.insert(machine, stamp);
            if before.is_some_and(|before| before >= stamp) {
                whys.push(format!("n{} stamped {stamp:?} after {before:?}", machine + 1));
            }
            let heard = self.heard.get(&machine);
            if heard.is_some_and(|heard| *heard >= stamp) {
                whys.push(format!("n{} stamped {stamp:?}, and had heard of {heard:?}", machine + 1));
            }
            if wall.is_some_and(|wall| stamp.micros() > wall + STAMP_AHEAD_MAX) {
                whys.push(format!("n{} stamped {stamp:?}, which lies ahead of its clock", machine + 1));
            }
        }
        if let Some(shown) = self.shown.get(&operation) {
            whys.extend(judge_context(mutation, operation, shown, &state.mutations));
        }
        state.sent.join(mutation.delta.clone());
        state.mutations.push(SentMutation { operation, mid: mutation.mid, delta: mutation.delta.clone() });
        self.violations.append(&mut whys);
    }

    /// A machine heard from another one that it is so late, within what it believes and what its lease covers.
    pub fn heard(&mut self, machine: usize, clock: Timestamp) {
        let known = self.heard.entry(machine).or_insert(clock);
        *known = clock.max(*known);
    }

    /// What a machine promised is durable, it says.
    pub fn promised(&mut self, machine: usize, acceptor: Acceptor) {
        self.promised.insert(machine, acceptor);
    }

    /// What it finds of that after a start with this ring: of a version that is decided nobody is promised anything.
    pub fn recalled(&mut self, machine: usize, ring_version: u64, found: &Acceptor) {
        let known = self.promised.get(&machine).filter(|known| known.version > ring_version);
        if let Some(known) = known.filter(|known| !covers(found, known)) {
            let what = format!("n{} promised {known:?}, and recalls {found:?}", machine + 1);
            self.violated(what);
        }
    }

    /// A causal write begins whose context stands for the values of these operations, and for nothing else.
    pub fn covers(&mut self, operation: usize, shown: Vec<usize>) {
        self.shown.insert(operation, shown);
    }

    /// A machine says that it holds this durably; where the log is synced by periods, only after the next sync.
    pub fn applied(&mut self, machine: usize, bytes: &Bytes, is_periodic: bool) {
        let Ok(Mutation { table, key, delta, .. }) = Mutation::decode(bytes) else {
            return self.violated(format!("n{} applied what is no mutation", machine + 1));
        };
        let id = (table, key);
        let state = self.keys.entry(id.clone()).or_default();
        let mut known = state.sent.clone();
        known.join(delta.clone());
        if normal(&known) != normal(&state.sent) {
            let what = format!("n{} applied to {} what no client's write brought: {delta:?}", machine + 1, shown(&id));
            return self.violated(what);
        }
        state.ever.entry(machine).or_default().join(delta.clone());
        if is_periodic {
            self.recent.push(Recent { machine, key: id.clone(), delta });
        } else {
            state.ledgers.entry(machine).or_default().join(delta);
        }
        self.dirty.entry(machine).or_default().push(id);
    }

    /// What a machine's disk was found to hold durably, however it came there.
    pub fn held_durably(&mut self, machine: usize, key: &KeyId, partition: &Partition) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.ever.entry(machine).or_default().join(partition.clone());
        state.ledgers.entry(machine).or_default().join(partition.clone());
    }

    /// A power failure where the log is synced by periods: the young is gone, perhaps.
    pub fn lost_power(&mut self, machine: usize) {
        self.recent.retain(|recent| recent.machine != machine);
    }

    /// A machine's log was synced: what was young is as durable as the rest.
    pub fn synced(&mut self, machine: usize) {
        let (its, others): (Vec<Recent>, Vec<Recent>) =
            std::mem::take(&mut self.recent).into_iter().partition(|recent| recent.machine == machine);
        self.recent = others;
        for Recent { key, delta, .. } in its {
            self.keys.entry(key).or_default().ledgers.entry(machine).or_default().join(delta);
        }
    }

    /// An owner may have lost what a read showed.
    pub fn void_promises(&mut self) {
        self.keys.values_mut().for_each(|state| state.promised = Partition::default());
    }

    /// A blocking read of a quorum showed this: it stays.
    pub fn promise(&mut self, key: &KeyId, found: &Found, operations: &dyn Fn(&Bytes) -> Option<usize>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        for operation in values_of(found).into_iter().filter_map(operations) {
            let mut twins = state.mutations.iter().filter(|sent| sent.operation == operation);
            // Which of several twins it showed is not known.
            if let (Some(sent), None) = (twins.next(), twins.next()) {
                state.promised.join(sent.delta.clone());
            }
        }
    }

    /// This is kept for an owner, durably.
    pub fn hinted(&mut self, keeper: usize, target: usize, bytes: &Bytes) {
        if let Ok(Mutation { table, key, delta, .. }) = Mutation::decode(bytes) {
            self.hints.push((keeper, target, (table, key), delta));
        }
    }

    /// The keeper's disk lost hints, and it said so.
    pub fn hints_lost(&mut self, keeper: usize) {
        self.hints.retain(|(by, ..)| *by != keeper);
    }

    /// What was delivered to this machine may be lost again.
    pub fn hints_unproved(&mut self, target: usize) {
        self.hints.retain(|(_, for_whom, ..)| *for_whom != target);
    }

    /// No hint is owed any more: each is where it belongs.
    pub fn hints_are_there(&mut self, target: usize, read: impl Fn(&KeyId) -> Result<Partition, String>) {
        let mut lacks = Vec::new();
        for (keeper, _, key, delta) in self.hints.iter().filter(|(_, for_whom, ..)| *for_whom == target) {
            let Ok(found) = read(key) else { continue };
            let mut both = found.clone();
            both.join(delta.clone());
            if normal(&both) != normal(&found) {
                lacks.push(format!(
                    "n{} kept a hint of {} for n{}, which does not have it though none is owed",
                    keeper + 1,
                    shown(key),
                    target + 1
                ));
            }
        }
        self.violations.append(&mut lacks);
    }

    /// All that a machine held is gone.
    pub fn destroyed(&mut self, machine: usize) {
        self.recent.retain(|recent| recent.machine != machine);
        self.dirty.remove(&machine);
        self.stamps.remove(&machine);
        self.heard.remove(&machine);
        self.promised.remove(&machine);
        self.hints_lost(machine);
        self.hints_unproved(machine);
        self.keys.values_mut().for_each(|state| drop(state.ledgers.remove(&machine)));
    }

    /// What a machine said is durable there, as an image of its disk taken now must hold it.
    pub fn ledger_of(&self, machine: usize) -> Ledger {
        let its = |(key, state): (&KeyId, &KeyState)| Some((key.clone(), state.ledgers.get(&machine)?.clone()));
        Ledger(self.keys.iter().filter_map(its).collect())
    }

    /// A machine starts from an older image of its disk: it holds what it held then, and has to prove that.
    pub fn rolled_back(&mut self, machine: usize, Ledger(past): Ledger) {
        self.destroyed(machine);
        self.dirty.insert(machine, past.keys().cloned().collect());
        for (key, ledger) in past {
            self.keys.entry(key).or_default().ledgers.insert(machine, ledger);
        }
    }

    /// Two machines have each other's disks now.
    pub fn swapped(&mut self, one: usize, other: usize) {
        let turned = |machine: usize| match machine {
            machine if machine == one => other,
            machine if machine == other => one,
            machine => machine,
        };
        // Other nodes run there now.
        self.heard.retain(|machine, _| ![one, other].contains(machine));
        for state in self.keys.values_mut() {
            for ledgers in [&mut state.ledgers, &mut state.ever] {
                *ledgers = std::mem::take(ledgers).into_iter().map(|(machine, held)| (turned(machine), held)).collect();
            }
        }
        self.dirty =
            std::mem::take(&mut self.dirty).into_iter().map(|(machine, keys)| (turned(machine), keys)).collect();
        self.recent.iter_mut().for_each(|recent| recent.machine = turned(recent.machine));
        self.hints.iter_mut().for_each(|(by, target, ..)| (*by, *target) = (turned(*by), turned(*target)));
    }

    /// What a machine held of a key cannot be read any more.
    pub fn damaged(&mut self, machine: usize, key: &KeyId) {
        if let Some(state) = self.keys.get_mut(key) {
            state.ledgers.remove(&machine);
        }
    }

    /// What a machine found after its start must hold all that it said is durable. `all`: every key, not only those that
    /// changed since the last look.
    pub fn recovered(&mut self, machine: usize, all: bool, read: impl Fn(&KeyId) -> Result<Partition, String>) {
        let mut keys = self.dirty.remove(&machine).unwrap_or_default();
        if all {
            keys = self.keys.keys().cloned().collect();
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let Some(ledger) = self.keys.get(&key).and_then(|state| state.ledgers.get(&machine)) else { continue };
            self.checks += 1;
            // A disk that fails a read now is looked at again at the next start, and in the end.
            let Ok(found) = read(&key) else { continue };
            let mut both = found.clone();
            both.join(ledger.clone());
            if normal(&both) != normal(&found) {
                let what = format!(
                    "n{} said that it holds what it does not, of {}:\n  said  {:?}\n  holds {:?}",
                    machine + 1,
                    shown(&key),
                    normal(ledger),
                    normal(&found)
                );
                self.violations.push(what);
            }
        }
    }

    /// Where the log is synced by periods: what a machine had acknowledged and not yet synced is there after a kill. After a
    /// failure of its disk it may be gone, and is then expected nowhere. Answers whether anything is.
    pub fn young_recovered(
        &mut self,
        machine: usize,
        is_disk_at_fault: bool,
        read: impl Fn(&KeyId) -> Result<Partition, String>,
    ) -> bool {
        let mut lacks = Vec::new();
        let young = self.recent.len();
        self.recent.retain(|recent| {
            let is_kept = recent.machine != machine
                || read(&recent.key).map_or(true, |found| {
                    let mut both = found.clone();
                    both.join(recent.delta.clone());
                    normal(&both) == normal(&found)
                });
            if !is_kept && !is_disk_at_fault {
                lacks.push(format!(
                    "n{} lost of {} to a kill what it had acknowledged: {:?}",
                    machine + 1,
                    shown(&recent.key),
                    recent.delta
                ));
            }
            is_kept
        });
        self.violations.append(&mut lacks);
        self.recent.len() < young
    }

    /// A client was told that W owners have its write.
    pub fn acked(&mut self, operation: usize, key: &KeyId, owners: &[usize], need: usize) {
        self.checks += 1;
        let Some(state) = self.keys.get(key) else { return };
        // Tried twice it has two ids; either will do.
        let twins = state.mutations.iter().filter(|sent| sent.operation == operation);
        let held = twins.map(|sent| {
            let holders = owners.iter().copied().filter(|owner| self.said(*owner, key, &sent.delta));
            holders.collect::<Vec<usize>>()
        });
        // A delete that found nothing writes nothing.
        let Some(holders) = held.max_by_key(Vec::len) else { return };
        if holders.len() < need {
            let what = format!(
                "operation {operation} was acknowledged at {need} owners, and only {holders:?} of {owners:?} ever had it durably"
            );
            self.violated(what);
        }
    }

    /// What a machine said is durable there of a key.
    pub fn ledger(&self, machine: usize, key: &KeyId) -> Partition {
        self.keys.get(key).and_then(|state| state.ledgers.get(&machine)).cloned().unwrap_or_default()
    }

    /// Where a register's write stands among others: the key of its value, or of its floor.
    pub fn register_key(&self, operation: usize, key: &KeyId) -> Option<Key> {
        let table = self.tables.get(&key.0).filter(|table| table.kind == TableKind::Lww)?;
        let sent = self.keys.get(key)?.mutations.iter().find(|sent| sent.operation == operation)?;
        let value = sent.delta.cell(&ClusteringKey::default(), &CellId::simple(table.value_column()));
        value.and_then(|cell| cell.lww.as_ref()).map(|lww| lww.key).or(sent.delta.floor)
    }

    /// Whether the machine's replica ever said so.
    pub fn said(&self, machine: usize, key: &KeyId, delta: &Partition) -> bool {
        let ever = self.keys.get(key).and_then(|state| state.ever.get(&machine)).cloned().unwrap_or_default();
        let mut both = ever.clone();
        both.join(delta.clone());
        both == ever
    }

    /// What a register's write that begins now must come after.
    pub fn latest(&self, key: &KeyId) -> Option<(Key, usize)> {
        self.latest.get(key).copied()
    }

    /// A register's write was acknowledged that the cluster dated; `before` is what it had to come after. Answers what lies
    /// above it nevertheless, and by how many microseconds.
    pub fn dated(&mut self, operation: usize, key: &KeyId, before: Option<(Key, usize)>) -> Option<(usize, i64)> {
        let mine = self.register_key(operation, key)?;
        let latest = self.latest.entry(key.clone()).or_insert((mine, operation));
        *latest = (*latest).max((mine, operation));
        let (earlier, above) = before.filter(|(earlier, _)| *earlier > mine)?;
        Some((above, earlier.ts().micros() - mine.ts().micros()))
    }

    /// A page behind `after` that R owners of each key were asked for: in order, and of each key that is expected within it
    /// what a read may show. Answers what is wrong with it.
    pub fn page(
        &mut self,
        after: Option<&PartitionKey>,
        listed: &[Expectation],
        need: usize,
        page: &ScanAnswer,
        walls: (i64, i64),
        operations: &dyn Fn(&Bytes) -> Option<usize>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let place = |key: &PartitionKey| (Partitioner::Murmur3.token(key), key.clone());
        let places: Vec<_> = page.entries.iter().map(|entry| (entry.token, entry.key.clone())).collect();
        let (after, next) = (after.map(place), page.next.as_ref().map(place));
        let goes_back = places.iter().any(|at| after.as_ref().is_some_and(|after| at <= after));
        if goes_back || !places.is_sorted_by(|one, other| one < other) {
            wrong.push("it is out of order or goes back".into());
        }
        for expectation in listed {
            let at = place(&expectation.key.1);
            let is_within =
                after.as_ref().is_none_or(|after| at > *after) && next.as_ref().is_none_or(|next| at <= *next);
            // What is not listed is not there.
            let found = places.binary_search(&at).map_or(&Found::Nothing, |place| &page.entries[place].found);
            if is_within && let Err(why) = self.read(expectation, need, found, walls, operations) {
                wrong.push(format!("{}: {why}", shown(&expectation.key)));
            }
        }
        wrong
    }

    pub fn expect(&self, now: Micros, wall: i64, key: KeyId, owners: &[usize]) -> Expectation {
        let state = self.keys.get(&key);
        let ledger =
            |owner: &usize| (*owner, state.and_then(|state| state.ledgers.get(owner)).cloned().unwrap_or_default());
        let promised = state.map(|state| state.promised.clone()).unwrap_or_default();
        Expectation { ledgers: owners.iter().map(ledger).collect(), promised, key, began: now, wall, is_void: false }
    }

    /// Whether a read of R owners may show this. `walls`: what the coordinator's clock showed, at its least and its most.
    pub fn read(
        &mut self,
        expectation: &Expectation,
        need: usize,
        found: &Found,
        walls: (i64, i64),
        operations: &dyn Fn(&Bytes) -> Option<usize>,
    ) -> Result<(), String> {
        self.checks += 1;
        if expectation.is_void {
            return Ok(());
        }
        let Some(table) = self.tables.get(&expectation.key.0) else { return Ok(()) };
        let none = KeyState::default();
        let state = self.keys.get(&expectation.key).unwrap_or(&none);
        let mut shown_mutations = Vec::new();
        for value in values_of(found) {
            let Some(operation) = operations(value) else {
                return Err(format!("it shows bytes that nobody wrote: {value:?}"));
            };
            let Some(sent) = state.mutations.iter().find(|sent| sent.operation == operation) else {
                return Err(format!("it shows the value of operation {operation}, which was not sent for this key"));
            };
            if shown_mutations.iter().any(|shown: &&SentMutation| shown.operation == operation) {
                return Err(format!("it shows operation {operation} twice"));
            }
            shown_mutations.push(sent);
        }
        let mut why = Vec::new();
        for subset in subsets(expectation.ledgers.len(), need) {
            let mut least = Partition::default();
            subset.iter().for_each(|index| least.join(expectation.ledgers[*index].1.clone()));
            if 2 * need > expectation.ledgers.len() {
                least.join(expectation.promised.clone());
            }
            let judged = match table.kind {
                TableKind::Lww => judge_register(table, &least, state, found, &shown_mutations, walls),
                TableKind::Causal => judge_siblings(table, &least, state, (&shown_mutations, unshown_of(found)), walls),
            };
            match judged {
                Ok(()) => return Ok(()),
                Err(because) => {
                    let who: Vec<String> =
                        subset.iter().map(|index| format!("n{}", expectation.ledgers[*index].0 + 1)).collect();
                    why.push(format!("  not by {}: {because}", who.join(" and ")));
                }
            }
        }
        Err(format!("no {need} owners may have answered so:\n{}", why.join("\n")))
    }

    /// A blocking read was answered: R owners hold what it showed, or newer. `held`: what the owners that run hold now.
    pub fn read_is_held(
        &self,
        key: &KeyId,
        (held, away): (&[Partition], usize),
        need: usize,
        found: &Found,
        operations: &dyn Fn(&Bytes) -> Option<usize>,
    ) -> Result<(), String> {
        let Some(state) = self.keys.get(key) else { return Ok(()) };
        for operation in values_of(found).into_iter().filter_map(operations) {
            let twins: Vec<&SentMutation> = state.mutations.iter().filter(|sent| sent.operation == operation).collect();
            let knows = |held: &&Partition| {
                let knows_one = |sent: &&SentMutation| {
                    let mut both = (*held).clone();
                    both.join(sent.delta.clone());
                    normal(&both) == normal(held)
                };
                twins.iter().any(knows_one)
            };
            let holders = held.iter().filter(knows).count();
            if holders + away < need {
                return Err(format!(
                    "{holders} owners hold operation {operation}, which a blocking read of {need} showed"
                ));
            }
        }
        Ok(())
    }

    /// In the end: what an owner holds is all that was ever durable somewhere and nothing that was not sent.
    pub fn end(&mut self, key: &KeyId, held: &[(usize, Partition)]) {
        self.checks += 1;
        let Some(state) = self.keys.get(key) else { return };
        let mut violations = Vec::new();
        let mut sent = state.sent.clone();
        for (machine, partition) in held {
            let mut must = partition.clone();
            state.ledgers.values().for_each(|ledger| must.join(ledger.clone()));
            if normal(&must) != normal(partition) {
                violations.push(format!(
                    "in the end n{} lacks of {} what was durable: it has {:?}, and should have {:?}",
                    machine + 1,
                    shown(key),
                    normal(partition),
                    normal(&must)
                ));
            }
            sent.join(partition.clone());
        }
        if normal(&sent) != normal(&state.sent) {
            violations.push(format!("in the end {} holds what nobody sent", shown(key)));
        }
        if let Some(((first, one), rest)) = held.split_first().map(|(first, rest)| ((first.0, &first.1), rest)) {
            for (machine, other) in rest {
                // As the replicas themselves digest what they hold.
                let digest = |partition: &Partition| inside(|| partition.digest(None, Seal::NONE));
                if normal(one) != normal(other) || digest(one) != digest(other) {
                    violations.push(format!(
                        "in the end n{} and n{} differ on {}:\n  {:?}\n  {:?}",
                        first + 1,
                        machine + 1,
                        shown(key),
                        normal(one),
                        normal(other)
                    ));
                }
            }
        }
        self.violations.append(&mut violations);
    }
}

/// A register: joined with what was shown, some owners' state shows just that.
fn judge_register(
    table: &Table,
    least: &Partition,
    state: &KeyState,
    found: &Found,
    mutations: &[&SentMutation],
    walls: (i64, i64),
) -> Result<(), String> {
    let mut possible = least.clone();
    match mutations {
        // Any delete that was sent may have been seen, and any value that has expired since: it hides what is older.
        [] => {
            let hides = |sent: &&SentMutation| sent.delta.floor.is_some() || has_expired(table, &sent.delta, walls.1);
            state.mutations.iter().filter(hides).for_each(|sent| possible.join(sent.delta.clone()));
        }
        mutations => mutations.iter().for_each(|sent| possible.join(sent.delta.clone())),
    }
    let mut instead = String::new();
    for wall in [walls.0, walls.1] {
        match present(&possible, table, stamp(wall), false) {
            Ok(presented) if presented.found == *found => return Ok(()),
            Ok(presented) => instead = format!("{:?}", presented.found),
            Err(error) => instead = error.to_string(),
        }
    }
    // What expires may be replaced by nothing else: a read that shows an older value after the newer expired does not exist,
    // because the newer one hides it.
    Err(format!("at least {instead} was there, and it shows {found:?}"))
}

/// A bucket: no sibling is missing that no sent context covered, none is shown that these owners knew to be replaced.
fn judge_siblings(
    table: &Table,
    least: &Partition,
    state: &KeyState,
    (shown, more): (&[&SentMutation], Option<(usize, Dot)>),
    walls: (i64, i64),
) -> Result<(), String> {
    let cell = CellId::simple(table.value_column());
    let row = ClusteringKey::default();
    for sent in shown {
        let may_be_shown = |twin: &SentMutation| {
            let mut both = least.clone();
            both.join(twin.delta.clone());
            let lives = |wall| dots_of(&both, &row, &cell, wall).contains(&twin.mid);
            lives(walls.0) || lives(walls.1)
        };
        if !state.mutations.iter().filter(|twin| twin.operation == sent.operation).any(may_be_shown) {
            return Err(format!("operation {} was replaced, or had expired", sent.operation));
        }
    }
    let late = dots_of(least, &row, &cell, walls.1);
    let mut unshown = BTreeSet::new();
    for dot in dots_of(least, &row, &cell, walls.0).into_iter().filter(|dot| late.contains(dot)) {
        let operation = state.mutations.iter().find(|sent| sent.mid == dot).map(|sent| sent.operation);
        if shown.iter().any(|sent| Some(sent.operation) == operation) {
            continue;
        }
        let covers = |sent: &SentMutation| {
            let seen = sent.delta.cell(&row, &cell).and_then(|cell| cell.dots.as_ref());
            sent.mid != dot && seen.is_some_and(|dots| dots.seen.contains(dot))
        };
        // An answer has a bound: the siblings behind the last one shown are only counted. A twin's place is the highest's.
        if let Some((more, last)) = more
            && state.mutations.iter().any(|sent| Some(sent.operation) == operation && sent.mid > last)
        {
            unshown.insert(operation);
            if unshown.len() <= more {
                continue;
            }
        }
        if !state.mutations.iter().any(covers) {
            return Err(format!("the sibling of operation {operation:?} is missing, and no context covered it"));
        }
    }
    Ok(())
}

/// The sibling that a mutation itself brings.
fn sibling_of(mutation: &Mutation) -> Option<&Live> {
    let cells = mutation.delta.rows.iter().flat_map(|(_, row)| row.cells.values());
    cells.filter_map(|cell| cell.dots.as_ref()).find_map(|dots| dots.live.get(&mutation.mid))
}

/// A causal write kills exactly what its client was shown. What expires may be covered without being shown, and of several
/// twins which one was shown is not known.
fn judge_context(mutation: &Mutation, operation: usize, shown: &[usize], known: &[SentMutation]) -> Vec<String> {
    let cells = mutation.delta.rows.iter().flat_map(|(_, row)| row.cells.values());
    let seen: Vec<&Seen> = cells.filter_map(|cell| cell.dots.as_ref()).map(|dots| &dots.seen).collect();
    let covers = |sent: &&SentMutation| seen.iter().any(|seen| seen.contains(sent.mid));
    let is_lasting = |sent: &&SentMutation| {
        let cells = sent.delta.rows.iter().flat_map(|(_, row)| row.cells.values());
        let live = cells.filter_map(|cell| cell.dots.as_ref()).find_map(|dots| dots.live.get(&sent.mid));
        live.is_some_and(|live| live.exp.is_none())
    };
    let unseen = known.iter().filter(covers).filter(is_lasting).map(|sent| sent.operation);
    let unseen = unseen.filter(|covered| *covered != operation && !shown.contains(covered));
    let mut whys: Vec<String> =
        unseen.map(|covered| format!("write {operation} covers {covered}, which its client was not shown")).collect();
    let is_covered = |shown: &&usize| known.iter().filter(|sent| sent.operation == **shown).any(|sent| covers(&sent));
    whys.extend(
        shown
            .iter()
            .filter(|shown| !is_covered(shown))
            .map(|shown| format!("write {operation} does not cover {shown}, which its client was shown")),
    );
    whys
}

/// Every live dot that has not expired, twins too.
fn dots_of(partition: &Partition, row: &ClusteringKey, cell: &CellId, wall: i64) -> Vec<Dot> {
    let dots = partition.cell(row, cell).and_then(|cell| cell.dots.as_ref());
    let lives = dots.into_iter().flat_map(|dots| dots.live.iter());
    lives.filter(|(_, live)| live.exp.is_none_or(|ends| ends > stamp(wall))).map(|(dot, _)| *dot).collect()
}

fn has_expired(table: &Table, delta: &Partition, wall: i64) -> bool {
    let value = delta.cell(&ClusteringKey::default(), &CellId::simple(table.value_column()));
    let ends = value.and_then(|cell| cell.lww.as_ref()).and_then(|lww| lww.exp);
    ends.is_some_and(|ends| ends <= stamp(wall))
}

/// Siblings that an answer only counts, and the dot of the last one shown, behind which they lie.
fn unshown_of(found: &Found) -> Option<(usize, Dot)> {
    match found {
        Found::Nothing | Found::One(_) | Found::Siblings { more: 0, .. } => None,
        Found::Siblings { siblings, more } => {
            Some((usize::try_from(*more).unwrap_or(usize::MAX), siblings.last()?.dot))
        }
    }
}

fn values_of(found: &Found) -> Vec<&Bytes> {
    match found {
        Found::Nothing => Vec::new(),
        Found::One(value) => vec![&value.value],
        Found::Siblings { siblings, .. } => siblings.iter().map(|sibling| &sibling.value.value).collect(),
    }
}

pub fn normal(partition: &Partition) -> Partition {
    partition.clone().normal(None, Seal::NONE)
}

fn shown((_, key): &KeyId) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}

fn stamp(wall: i64) -> Timestamp {
    crate::time::stamp(wall)
}

/// All choices of `size` of so many.
pub fn subsets(count: usize, size: usize) -> Vec<Vec<usize>> {
    (0u32..1 << count)
        .filter(|mask| mask.count_ones() as usize == size)
        .map(|mask| (0..count).filter(|index| mask >> index & 1 == 1).collect())
        .collect()
}

/// Whether an acceptor that was recalled keeps every word of one that was told. More than that is lawful: what failed inside a
/// call of the disk was told to nobody, and may stand there.
fn covers(found: &Acceptor, told: &Acceptor) -> bool {
    let keeps_vote = match (&told.vote, &found.vote) {
        (None, _) => true,
        (Some(told), Some(found)) => found == told || found.ballot > told.ballot,
        (Some(_), None) => false,
    };
    found.version == told.version && found.promised >= told.promised && keeps_vote
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_wire::{
        Blob,
        verbs::ring::{Ballot, Vote},
    };

    /// Seed 91 of a day: a machine died inside the call that stored a promise, and came back with it.
    #[test]
    fn a_recalled_acceptor_may_know_more_than_was_told_and_nothing_less() {
        let ballot = |round: u64| Ballot { round, node: kula_types::NodeId(uuid::Uuid::nil()) };
        let vote =
            |round: u64, ring: &'static [u8]| Vote { ballot: ballot(round), ring: Blob(Bytes::from_static(ring)) };
        let acceptor =
            |promised: u64, vote: Option<Vote>| Acceptor { version: 4, promised: Some(ballot(promised)), vote };
        let told = acceptor(23, Some(vote(20, b"a")));
        for lawful in [told.clone(), acceptor(25, Some(vote(20, b"a"))), acceptor(25, Some(vote(25, b"b")))] {
            assert!(covers(&lawful, &told), "{lawful:?}");
        }
        for less in [
            acceptor(22, Some(vote(20, b"a"))),
            acceptor(25, None),
            acceptor(25, Some(vote(20, b"b"))),
            acceptor(25, Some(vote(19, b"b"))),
            Acceptor { version: 3, ..told.clone() },
            Acceptor::of(4),
        ] {
            assert!(!covers(&less, &told), "{less:?}");
        }
    }
}
