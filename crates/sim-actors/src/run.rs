//! One seed, one history, as at level 1: the cluster forms, clients work while the nemesis does, everything heals, and the
//! replicas must come to the same state within bounds.

use crate::{
    clients::{Clients, Outcome},
    cluster::{Cluster, Happening},
    host::{Doors, Request},
    plan::Plan,
    story::Story,
};
use futures::future::LocalBoxFuture;
use kula_operator::{KeyspaceSettingsWish, KeyspaceWish, OperatorError, TableWish};
use kula_placement::ReadRepair;
use kula_sim::{
    oracle::KeyId,
    run::{BUCKET, KEYSPACE, REGISTERS},
    suite::Ran,
    time::{Micros, SECOND, mono},
};
use kula_types::{Consistency, PartitionKey};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    thread,
    time::Duration,
};

/// What one seed came to.
pub struct Report {
    pub seed: u64,
    pub violations: Vec<String>,
    pub hash: u64,
    /// Virtual time from the first operation to the heal, and in all.
    pub loaded: Micros,
    pub virtual_time: Micros,
    pub counts: BTreeMap<&'static str, u64>,
    /// Sites at which production code was unkind.
    pub fired: BTreeMap<&'static str, u64>,
    pub story: Story,
}

impl From<Report> for Ran {
    fn from(report: Report) -> Ran {
        let Report { seed, violations, hash, loaded, virtual_time, counts, fired, .. } = report;
        Ran { seed, violations, history: (hash, virtual_time), loaded, virtual_time, counts, fired }
    }
}

const FORMS_WITHIN: Micros = 60 * SECOND;
const DRAINS_WITHIN: Micros = 90 * SECOND;
/// How long an answer of the operator may take in a sound cluster.
const ANSWERS_WITHIN: Micros = 30 * SECOND;
/// How often a key is read in the end before its read counts as stuck, and how long it is let be in between: unkind
/// moments do not end.
const SWEEP_TRIES: Micros = 16;
const LET_BE: Micros = SECOND / 5;

/// Runs a plan; a panic that no supervisor took is a violation. On a thread of its own: the meters of doors sample by
/// counters of their thread, which another run would have moved on.
pub fn run(plan: Plan, keeps_lines: bool) -> Report {
    let seed = plan.seed;
    let ran = thread::scope(|scope| scope.spawn(|| run_here(plan, keeps_lines)).join());
    ran.unwrap_or_else(|_| unreachable!("seed {seed}: what panics is caught"))
}

fn run_here(plan: Plan, keeps_lines: bool) -> Report {
    let seed = plan.seed;
    let armed = kula_fault::arm(plan.mutant, Some(seed));
    let mut stage = Stage { cluster: Cluster::new(plan, keeps_lines), clients: Clients::default(), loaded: 0 };
    let ran = catch_unwind(AssertUnwindSafe(|| stage.run()));
    let mut violations = std::mem::take(&mut stage.cluster.oracle.violations);
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        violations.push(format!("a panic that nobody took: {}", text.unwrap_or("?")));
    }
    let cluster = &stage.cluster;
    cluster.story.mix(&cluster.now().to_le_bytes());
    Report {
        seed,
        violations,
        hash: cluster.story.hash(),
        loaded: stage.loaded,
        virtual_time: cluster.now(),
        counts: cluster.counts.clone(),
        fired: armed.fired().filter(|(_, times)| *times > 0).map(|(site, times)| (site.name(), times)).collect(),
        story: cluster.story.clone(),
    }
}

struct Stage {
    cluster: Cluster,
    clients: Clients,
    loaded: Micros,
}

impl Stage {
    fn run(&mut self) {
        if !self.form() {
            return;
        }
        for index in 0..self.cluster.plan.operations.len() {
            let at = self.cluster.plan.operations[index].at;
            self.cluster.schedule(at, Happening::Operation { index });
        }
        for index in 0..self.cluster.plan.faults.len() {
            let at = self.cluster.plan.faults[index].at;
            self.cluster.schedule(at, Happening::Fault { index, begins: true });
        }
        let began = self.cluster.now();
        self.until(began + self.cluster.plan.lasts);
        self.loaded = self.cluster.now() - began;
        self.cluster.heal();
        // Operations under way come to their end.
        self.until(self.cluster.now() + 10 * SECOND);
        self.cluster.heal();
        if !self.is_violated() && self.drain() {
            self.sweep();
            self.compare();
        }
    }

    fn is_violated(&self) -> bool {
        !self.cluster.oracle.violations.is_empty()
    }

    fn until(&mut self, end: Micros) {
        while self.cluster.now() < end && !self.is_violated() {
            while let Some(happening) = self.cluster.due() {
                match happening {
                    Happening::Operation { index } => self.clients.begin(&mut self.cluster, index),
                    Happening::Fault { index, begins } => self.cluster.fault(index, begins),
                    Happening::Start { machine } => self.cluster.start(machine),
                }
                self.clients.losses(&mut self.cluster);
                self.clients.end(&mut self.cluster);
            }
            self.cluster.step();
            self.clients.losses(&mut self.cluster);
            self.clients.end(&mut self.cluster);
        }
    }

    fn until_so(&mut self, within: Micros, mut so: impl FnMut(&Cluster) -> bool) -> bool {
        let end = self.cluster.now() + within;
        while self.cluster.now() < end && !self.is_violated() {
            if so(&self.cluster) {
                return true;
            }
            self.until(self.cluster.now() + SECOND / 20);
        }
        so(&self.cluster)
    }

    /// Asks a node, in its own time, and waits for the answer. `None`: it has gone, or says nothing.
    fn ask<T: 'static>(
        &mut self,
        machine: usize,
        question: impl FnOnce(Doors) -> LocalBoxFuture<'static, T> + 'static,
    ) -> Option<T> {
        let answered: Rc<RefCell<Option<T>>> = Rc::default();
        let place = Rc::clone(&answered);
        let request: Request = Box::new(move |doors: Doors| {
            Box::pin(async move {
                let answer = question(doors).await;
                place.replace(Some(answer));
            })
        });
        if !self.cluster.machines[machine].ask(request) {
            return None;
        }
        let end = self.cluster.now() + ANSWERS_WITHIN;
        while self.cluster.now() < end && !self.is_violated() && answered.borrow().is_none() {
            self.until(self.cluster.now() + 5_000);
        }
        answered.take()
    }

    /// All nodes find each other, form a ring, and agree on the tables of the clients.
    fn form(&mut self) -> bool {
        let nodes = self.cluster.machines.len();
        if !self.until_so(FORMS_WITHIN, |cluster| cluster.ready().count() == nodes) {
            self.cluster.oracle.violated("the cluster does not form".into());
            return false;
        }
        let (rf, read_repair) = (self.cluster.plan.rf, self.cluster.plan.read_repair);
        let made = self.ask(0, move |doors| Box::pin(async move { make(&doors, rf, read_repair).await }));
        if !matches!(made, Some(Ok(()))) {
            self.cluster.oracle.violated(format!("a sound cluster does not make tables: {made:?}"));
            return false;
        }
        let life = self.cluster.machines[0].life.borrow();
        let schema = life.as_ref().map(|life| life.doors.schema.load());
        let tables = schema.iter().flat_map(|schema| {
            [REGISTERS, BUCKET].into_iter().filter_map(|table| schema.resolve(KEYSPACE, table).ok())
        });
        self.cluster.oracle.tables.extend(tables.map(|table| (table.id, table)));
        true
    }

    /// Everybody serves, and owes nobody a hint.
    fn drain(&mut self) -> bool {
        let well = self.cluster.conditions.iter().filter(|condition| !condition.is_outcast).count();
        let outcast: Vec<String> = self
            .cluster
            .machines
            .iter()
            .filter(|machine| self.cluster.conditions[machine.index].is_outcast)
            .map(|machine| machine.name.clone())
            .collect();
        let owed = move |cluster: &Cluster, machine: usize| -> u64 {
            let life = cluster.machines[machine].life.borrow();
            let hints = life.as_ref().map(|life| life.doors.operator.hints());
            let owed = hints.iter().flat_map(|hints| &hints.hints).filter(|hints| !outcast.contains(&hints.target));
            owed.map(|hints| hints.count).sum()
        };
        let drained = self.until_so(DRAINS_WITHIN, |cluster| {
            cluster.ready().count() == well && cluster.ready().all(|machine| owed(cluster, machine) == 0)
        });
        if !drained && !self.is_violated() {
            let left: Vec<String> = self
                .cluster
                .ready()
                .map(|machine| format!("n{} owes {}", machine + 1, owed(&self.cluster, machine)))
                .collect();
            let what =
                format!("hints do not drain though all is well: {} of {well} serve; {}", left.len(), left.join(", "));
            self.cluster.oracle.violated(what);
        }
        drained && !self.is_violated()
    }

    /// Reads every key at all owners there are, with blocking repair.
    fn sweep(&mut self) {
        let Some(machine) = self.cluster.ready().next() else { return };
        let altered = self.ask(machine, |doors| {
            Box::pin(async move {
                let wish =
                    KeyspaceSettingsWish { read_repair: Some("blocking".into()), ..KeyspaceSettingsWish::default() };
                doors.operator.alter_keyspace(KEYSPACE, wish, Duration::from_secs(20)).await
            })
        });
        if !matches!(altered, Some(Ok(_))) && !self.has_outcast() {
            return self.cluster.oracle.violated(format!("a healed cluster does not alter its keyspace: {altered:?}"));
        }
        let keys: Vec<KeyId> = self.cluster.oracle.keys.keys().cloned().collect();
        for key in keys {
            for attempt in 0..SWEEP_TRIES {
                let owners = self.cluster.owners(machine, key.0, &key.1);
                let is_whole = owners.iter().all(|owner| !self.cluster.conditions[*owner].is_outcast);
                let level = if is_whole { Consistency::All } else { Consistency::Quorum };
                let operation = self.clients.sweep(&mut self.cluster, machine, &key, level);
                let end = self.cluster.now() + 6 * SECOND;
                while self.cluster.now() < end && !self.is_violated() && self.clients.outcome(operation).is_none() {
                    self.until(self.cluster.now() + 1_000);
                }
                if self.clients.outcome(operation) == Some(Outcome::Good) || self.is_violated() {
                    break;
                }
                self.until(self.cluster.now() + (attempt + 1) * LET_BE);
                if attempt + 1 == SWEEP_TRIES {
                    let key = String::from_utf8_lossy(key.1.as_bytes()).into_owned();
                    return self
                        .cluster
                        .oracle
                        .violated(format!("a healed cluster does not answer a read of {key} at all its owners"));
                }
            }
        }
        // Background repairs of clients' own reads come to their end too.
        self.until(self.cluster.now() + SECOND);
    }

    fn has_outcast(&self) -> bool {
        self.cluster.conditions.iter().any(|condition| condition.is_outcast)
    }

    fn compare(&mut self) {
        if self.is_violated() {
            return;
        }
        let durable = self.cluster.disks.durable();
        self.cluster.look(&durable);
        let mut images = BTreeMap::new();
        let belonging: Vec<usize> = self.cluster.ready().collect();
        for machine in &belonging {
            if let Some(image) = self.cluster.check_image(*machine, &durable[*machine].disk, true) {
                images.insert(*machine, image);
            }
        }
        let Some(first) = belonging.first().copied() else { return };
        let keys: Vec<KeyId> = self.cluster.oracle.keys.keys().cloned().collect();
        for key in keys {
            let owners: Vec<usize> = self
                .cluster
                .owners(first, key.0, &key.1)
                .into_iter()
                .filter(|owner| !self.cluster.conditions[*owner].is_outcast)
                .collect();
            let held = self.cluster.held(&owners, &key, &images);
            self.cluster.oracle.end(&key, &held);
            self.compare_cells(&owners, &key);
            if self.is_violated() {
                return;
            }
        }
        self.compare_views(&belonging);
    }

    /// Cell by cell, through the code of `/v1/replica`.
    fn compare_cells(&mut self, owners: &[usize], (table, key): &KeyId) {
        let Some(table) = self.cluster.oracle.tables.get(table).map(|table| table.name.to_string()) else { return };
        let mut shown = Vec::new();
        for owner in owners {
            let mut cell = None;
            for _ in 0..SWEEP_TRIES {
                let (table, key): (String, PartitionKey) = (table.clone(), key.clone());
                cell = self.ask(*owner, move |doors| {
                    Box::pin(async move {
                        let deadline = mono(kula_sim::time::micros(doors.operator.clock().mono().0) + 5 * SECOND);
                        doors.operator.replica_cell(KEYSPACE, &table, key, false, deadline).await
                    })
                });
                if matches!(cell, Some(Ok(_))) || self.is_violated() {
                    break;
                }
                self.until(self.cluster.now() + LET_BE);
            }
            match cell {
                Some(Ok(cell)) => shown.push((cell.digest, cell.found)),
                other => {
                    return self
                        .cluster
                        .oracle
                        .violated(format!("n{} does not show its own cell: {other:?}", owner + 1));
                }
            }
        }
        if shown.windows(2).any(|two| two[0] != two[1]) {
            let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
            self.cluster.oracle.violated(format!("in the end {owners:?} show different cells of {key}: {shown:?}"));
        }
    }

    /// One ring, one schema.
    fn compare_views(&mut self, belonging: &[usize]) {
        let mut views = Vec::new();
        for machine in belonging {
            if let Some(life) = &*self.cluster.machines[*machine].life.borrow() {
                views.push((life.doors.ring.load(), life.doors.schema.load().digest()));
            }
        }
        if views.windows(2).any(|two| two[0] != two[1]) && !self.has_outcast() {
            self.cluster.oracle.violated("in the end the rings or the schemas differ".into());
        }
    }
}

async fn make(doors: &Doors, rf: u32, read_repair: ReadRepair) -> Result<(), OperatorError> {
    let patience = Duration::from_secs(20);
    let keyspace = KeyspaceWish {
        name: KEYSPACE.into(),
        rf: Some(rf.into()),
        mode: None,
        read_repair: Some(read_repair.to_string()),
        hinted_handoff: None,
        anti_entropy: None,
    };
    doors.operator.create_keyspace(keyspace, patience).await?;
    for (name, kind) in [(REGISTERS, "lww"), (BUCKET, "causal")] {
        let wish = TableWish { name: name.into(), kind: Some(kind.into()), options: None };
        doors.operator.create_table(KEYSPACE, wish, patience).await?;
    }
    Ok(())
}
