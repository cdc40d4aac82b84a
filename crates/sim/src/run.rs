//! One seed, one history: the cluster forms, clients work while the nemesis does, everything heals, and then the replicas
//! must come to the same state within bounds. What the oracle saw on the way is the verdict.

use crate::{
    account::Told,
    client::{Answer, Clients},
    oracle::KeyId,
    plan::Plan,
    process::Message,
    time::{MILLISECOND, Micros, SECOND},
    trace::Trace,
    world::{FORMS_WITHIN, Happening, World, found},
};
use kula_actor::Reply;
use kula_catalog::{CatalogError, Change, Changed};
use kula_lattice::Partition;
use kula_placement::{KeyspaceSettings, ReadRepair};
use kula_schema::{TableDefinition, TableKind, TableOptions};
use kula_storage::StorageError;
use kula_types::{Consistency, Name};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

/// What one seed came to.
pub struct Report {
    pub seed: u64,
    pub violations: Vec<String>,
    pub hash: u64,
    pub events: u64,
    /// Virtual time from the first operation to the heal.
    pub loaded: Micros,
    pub virtual_time: Micros,
    pub trace: Trace,
    pub operations: usize,
    /// Sites that were unkind, and how often.
    pub fired: Vec<(&'static str, u64)>,
}

/// How long the hints may take to drain once everything is well.
const DRAINS_WITHIN: Micros = 90 * SECOND;
/// How often a key is read in the end before its read counts as stuck, and the rest between: sites go on being unkind, so
/// one in three may fail, and an idle link be away.
const SWEEP_TRIES: Micros = 24;
const SWEEP_REST: Micros = 100 * MILLISECOND;
/// A disk that lied tells so when the file is next synced, which may be as late as the sweep, and each lie is told once.
const SWEEPS: usize = 10;
/// The keyspace of the simulated clients.
pub const KEYSPACE: &str = "app";
pub const REGISTERS: &str = "registers";
pub const BUCKET: &str = "bucket";
pub const ROWS: &str = "rows";

/// Runs a plan; a panic of any machine is a violation.
pub fn run(plan: &Plan, keeps_lines: bool) -> Report {
    run_told(plan, keeps_lines).0
}

/// The same, and what is needed to tell what it was like.
pub fn run_told(plan: &Plan, keeps_lines: bool) -> (Report, Told) {
    let armed = kula_fault::arm(plan.mutant, plan.unkind_seed());
    let mut simulation = Simulation::new(plan.clone(), keeps_lines);
    let ran = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    let mut violations = std::mem::take(&mut simulation.world.oracle.violations);
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        violations.push(format!("a machine panicked: {}", text.unwrap_or("?")));
    }
    let world = simulation.world;
    let fired = armed.fired().filter(|(_, times)| *times > 0).map(|(site, times)| (site.name(), times));
    let report = Report {
        seed: plan.seed,
        violations,
        fired: fired.collect(),
        hash: world.trace.hash(),
        events: world.trace.events(),
        loaded: simulation.loaded,
        virtual_time: world.now,
        operations: plan.operations.len(),
        trace: world.trace,
    };
    (report, Told { history: simulation.clients.history, oracle: world.oracle, base: simulation.base })
}

/// `None`: the catalogue is gone, or says nothing.
type SchemaAnswer = Result<Changed, Option<CatalogError>>;

struct Simulation {
    world: World,
    clients: Clients,
    loaded: Micros,
    base: Micros,
}

impl Simulation {
    fn new(plan: Plan, keeps_lines: bool) -> Simulation {
        let clients = Clients::new(&plan);
        Simulation { world: World::new(plan, keeps_lines), clients, loaded: 0, base: 0 }
    }

    fn run(&mut self) {
        if !self.form() {
            return;
        }
        let base = self.world.now;
        self.base = base;
        (self.world.mailbox_max, self.world.scheduling) = (self.world.plan.mailbox_max, self.world.plan.scheduling);
        for index in 0..self.world.plan.operations.len() {
            let at = self.world.plan.operations[index].at;
            self.world.schedule(at, Happening::Operation { index });
        }
        for index in 0..self.world.plan.faults.len() {
            let at = self.world.plan.faults[index].at;
            self.world.schedule(at, Happening::Fault { index, begins: true });
        }
        self.until(base + self.world.plan.lasts);
        self.loaded = self.world.now - base;
        self.world.heal();
        // Operations under way come to their end.
        self.until(self.world.now + 35 * SECOND);
        self.world.heal();
        if !self.is_violated() && self.drain() {
            self.sweep();
            self.compare();
        }
    }

    fn is_violated(&self) -> bool {
        !self.world.oracle.violations.is_empty()
    }

    fn until(&mut self, end: Micros) {
        while let Some(happening) = self.world.next(end) {
            match happening {
                Happening::Message { process, message } => self.world.message(process, message, false),
                Happening::Mail { process, message } => self.world.message(process, message, true),
                Happening::Net(event) => self.world.net_event(event),
                Happening::Fault { index, begins } => {
                    self.world.fault(index, begins);
                }
                Happening::Operation { index } => self.clients.begin(&mut self.world, index),
                Happening::Start { machine } => self.world.start(machine),
                Happening::PowerOff { machine, survivors } => self.world.power_off(machine, survivors),
            }
            self.clients.losses(&mut self.world);
            self.clients.end(&mut self.world);
            if self.is_violated() {
                return;
            }
        }
    }

    fn until_so(&mut self, within: Micros, mut so: impl FnMut(&World) -> bool) -> bool {
        let end = self.world.now + within;
        while self.world.now < end && !self.is_violated() {
            if so(&self.world) {
                return true;
            }
            self.until(self.world.now + 50 * MILLISECOND);
        }
        so(&self.world)
    }

    /// All nodes find each other, form a ring, and agree on the tables of the clients.
    fn form(&mut self) -> bool {
        let nodes = self.world.machines.len();
        if !self.until_so(FORMS_WITHIN, |world| {
            world.running().filter(|(_, process)| process.ring.version > 0).count() == nodes
        }) {
            self.world.oracle.violated("the cluster does not form".into());
            return false;
        }
        let settings = KeyspaceSettings {
            rf: self.world.plan.rf,
            read_repair: self.world.plan.read_repair,
            ..KeyspaceSettings::default()
        };
        let table = |name: &str, kind| Change::CreateTable {
            keyspace: name_of(KEYSPACE),
            definition: TableDefinition { name: name_of(name), kind, options: TableOptions::default() },
        };
        let changes = [
            Change::CreateKeyspace { name: name_of(KEYSPACE), settings },
            table(REGISTERS, TableKind::Lww),
            table(BUCKET, TableKind::Causal),
            table(ROWS, TableKind::Lww),
        ];
        for change in changes {
            if let Err(error) = self.change(0, change) {
                self.world.oracle.violated(format!("a sound cluster does not change its schema: {error:?}"));
                return false;
            }
        }
        for table in [REGISTERS, BUCKET, ROWS] {
            let known = self.world.running().find_map(|(_, process)| process.schema.resolve(KEYSPACE, table).ok());
            if let Some(known) = known {
                self.world.oracle.tables.insert(known.id, known);
            }
        }
        let agree = |world: &World| {
            let known = |table| world.running().all(|(_, process)| process.schema.resolve(KEYSPACE, table).is_ok());
            known(REGISTERS) && known(BUCKET) && known(ROWS)
        };
        let agreed = self.until_so(10 * SECOND, agree);
        if !agreed {
            self.world.oracle.violated("the schema does not spread in a sound cluster".into());
        }
        agreed
    }

    /// Asks a machine's catalogue, and waits.
    fn change(&mut self, machine: usize, change: Change) -> SchemaAnswer {
        let answered: Arc<Mutex<Option<SchemaAnswer>>> = Arc::default();
        let place = Arc::clone(&answered);
        let reply = Reply::new(move |answer: Result<Result<Changed, CatalogError>, kula_actor::Lost>| {
            let answer = answer.map_or(Err(None), |answer| answer.map_err(Some));
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        });
        self.world.step(machine, |process, step| process.handle(Message::CatalogAsk { change, reply }, step));
        let take = |answered: &Mutex<Option<_>>| answered.lock().unwrap_or_else(PoisonError::into_inner).take();
        let end = self.world.now + 30 * SECOND;
        while self.world.now < end && !self.is_violated() {
            if let Some(answer) = take(&answered) {
                return answer;
            }
            self.until(self.world.now + 20 * MILLISECOND);
        }
        take(&answered).unwrap_or(Err(None))
    }

    /// Everybody runs and has had its hints.
    fn drain(&mut self) -> bool {
        let well = self.world.machines.iter().filter(|machine| !machine.is_outcast).count();
        let has_outcast = self.world.machines.iter().any(|machine| machine.is_outcast);
        let drained = |world: &World| {
            let runs = world.running().filter(|(machine, _)| world.serves(*machine)).count() == well;
            let is_for_outcast = |node: &kula_types::NodeId| {
                world.by_machine.get(node).is_some_and(|machine| world.machines[*machine].is_outcast)
            };
            let owed = |process: &crate::process::Process| {
                process
                    .handoff
                    .courier
                    .owed()
                    .filter(|(target, _)| !has_outcast || !is_for_outcast(target))
                    .map(|(_, owed)| owed.count)
                    .sum::<u64>()
            };
            runs && world.running().all(|(_, process)| owed(process) == 0)
        };
        let done = self.until_so(DRAINS_WITHIN, drained);
        if !done && !self.is_violated() {
            let left: Vec<String> = self
                .world
                .running()
                .map(|(machine, process)| format!("n{} owes {}", machine + 1, process.handoff.owed()))
                .collect();
            self.world.oracle.violated(format!(
                "hints do not drain though all is well: {} of {well} run; {}",
                left.len(),
                left.join(", ")
            ));
        }
        if done {
            for (machine, process) in self
                .world
                .machines
                .iter()
                .enumerate()
                .filter(|(_, machine)| !machine.is_outcast)
                .filter_map(|(index, machine)| Some((index, machine.process.as_ref()?)))
            {
                self.world.oracle.hints_are_there(machine, |key| found(process, key));
            }
        }
        done && !self.is_violated()
    }

    /// Reads every key at all owners there are, with blocking repair: anew if a machine lost something meanwhile, for the
    /// keys that were read before that are not whole again.
    fn sweep(&mut self) {
        let Some(machine) = self.world.running().map(|(machine, _)| machine).next() else { return };
        let settings = KeyspaceSettings {
            rf: self.world.plan.rf,
            read_repair: ReadRepair::Blocking,
            ..KeyspaceSettings::default()
        };
        let mut altered = Err(None);
        for _ in 0..5 {
            altered =
                self.change(machine, Change::AlterKeyspace { name: name_of(KEYSPACE), settings: settings.clone() });
            if altered.is_ok() || self.is_violated() {
                break;
            }
        }
        if let Err(error) = altered {
            return self.world.oracle.violated(format!("a healed cluster does not alter its keyspace: {error:?}"));
        }
        for _ in 0..SWEEPS {
            let losses = self.world.losses;
            self.read_all_keys(machine);
            // Background repairs of clients' own reads come to their end too.
            self.until(self.world.now + SECOND);
            if self.world.losses == losses || self.is_violated() {
                return;
            }
            self.world.trace.count("sweeps begun anew");
        }
        self.world.oracle.violated("the machines of a healed cluster go on losing what they hold".into());
    }

    fn read_all_keys(&mut self, machine: usize) {
        let keys = self.keys_in_the_end();
        for chunk in keys.chunks(16) {
            let mut left: Vec<KeyId> = chunk.to_vec();
            for tries in 1..=SWEEP_TRIES {
                let asked: Vec<(KeyId, usize)> =
                    left.iter().map(|key| (key.clone(), self.sweep_one(machine, key))).collect();
                let end = self.world.now + 6 * SECOND;
                while self.world.now < end
                    && !self.is_violated()
                    && asked.iter().any(|(_, operation)| self.clients.answer(*operation).is_none())
                {
                    self.until(self.world.now + 5 * MILLISECOND);
                }
                let failed = |(_, operation): &(KeyId, usize)| {
                    !matches!(self.clients.answer(*operation), Some(Answer::Read(Ok(_))))
                };
                left = asked.iter().filter(|one| failed(one)).map(|(key, _)| key.clone()).collect();
                if left.is_empty() || self.is_violated() {
                    break;
                }
                self.until(self.world.now + tries * SWEEP_REST);
            }
            if let Some((_, key)) = left.first().filter(|_| !self.is_violated()) {
                let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
                return self
                    .world
                    .oracle
                    .violated(format!("a healed cluster does not answer a read of {key} at all its owners"));
            }
        }
    }

    /// Of tables that were not dropped.
    fn keys_in_the_end(&self) -> Vec<KeyId> {
        let Some(schema) = self.world.running().map(|(_, process)| &process.schema).next() else { return Vec::new() };
        self.world.oracle.keys.keys().filter(|(table, _)| schema.table(*table).is_some()).cloned().collect()
    }

    /// At all owners; where one is lost for good, or cannot read what it has, at those that are left.
    fn sweep_one(&mut self, machine: usize, key: &KeyId) -> usize {
        let owners = self.world.owners(machine, key.0, &key.1);
        let reads = |owner: &usize| {
            let of = &self.world.machines[*owner];
            !of.is_outcast
                && (!of.wear.is_rotten
                    || of.process.as_ref().is_some_and(|process| process.holds(key.0, &key.1).is_ok()))
        };
        let is_whole = owners.iter().all(reads);
        let level = if is_whole { Consistency::All } else { Consistency::Quorum };
        self.clients.sweep(&mut self.world, machine, key, level)
    }

    fn compare(&mut self) {
        if self.is_violated() {
            return;
        }
        (0..self.world.machines.len()).for_each(|machine| self.world.oracle.synced(machine));
        let keys = self.keys_in_the_end();
        let Some(first) = self.world.running().map(|(machine, _)| machine).next() else { return };
        for key in keys {
            let owners = self.world.owners(first, key.0, &key.1);
            let mut held: Vec<(usize, Partition)> = Vec::new();
            for owner in owners.into_iter().filter(|owner| !self.world.machines[*owner].is_outcast) {
                let Some(process) = &self.world.machines[owner].process else { continue };
                match process.holds(key.0, &key.1) {
                    Ok(partition) => held.push((owner, partition)),
                    // Unknown there, and never "not found": its peers have what was promised.
                    Err(StorageError::Damaged { .. }) if self.world.machines[owner].wear.is_rotten => {
                        self.world.trace.count("keys unknown in the end");
                        self.world.oracle.damaged(owner, &key);
                    }
                    Err(error) => self.world.oracle.violated(format!("n{} cannot read in the end: {error}", owner + 1)),
                }
            }
            held.iter().for_each(|(_, partition)| self.clients.history.holds(&key, partition));
            self.world.oracle.end(&key, &held);
        }
        let digests: Vec<_> = self.world.running().map(|(_, process)| process.schema.digest()).collect();
        if digests.windows(2).any(|two| two[0] != two[1]) {
            self.world.oracle.violated("in the end the schemas differ".into());
        }
        let rings: Vec<_> = self.world.running().map(|(_, process)| Arc::clone(&process.ring)).collect();
        if rings.windows(2).any(|two| two[0] != two[1]) {
            self.world.oracle.violated("in the end the rings differ".into());
        }
        self.clients.finish(&mut self.world);
    }
}

pub fn name_of(text: &str) -> Name {
    match text.parse() {
        Ok(name) => name,
        Err(error) => panic!("{text}: {error}"),
    }
}
