//! The cluster as the world sees it: hosts in turmoil, what is going to happen to them, and what became of them.

use crate::{
    clock::{Offset, wall_at},
    host::{Disks, Ended, Machine, Placed},
    ledger::{Image, Ledger},
    plan::{Plan, What},
    story::Story,
};
use kula_actor::Escalation;
use kula_clock::Random;
use kula_disk::{
    Disk, SimDisk, Survivors,
    sim::{Fault as DiskFault, Target},
};
use kula_fault::inside;
use kula_node::{StartError, config::Config};
use kula_sim::{
    disk_faults::DiskFaults,
    oracle::{KeyId, Oracle},
    plan::FaultKind,
    time::{MILLISECOND, Micros, SECOND, micros},
};
use kula_types::{NodeId, PartitionKey, TableId};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::IpAddr,
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, UNIX_EPOCH},
};

/// One step of turmoil.
const TICK: Duration = Duration::from_millis(1);
const PEER_PORT: u16 = 7000;
/// What an actor says that was made to panic.
const PLANTED: &str = "a planted panic";
/// A plan is bounded by its own phases; this only keeps turmoil quiet.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

pub enum Happening {
    Operation { index: usize },
    Fault { index: usize, begins: bool },
    Start { machine: usize },
}

/// What the world knows of a machine, beside the machine's own.
#[derive(Default)]
pub struct Condition {
    faults: DiskFaults,
    /// The next failure of its disk is a power loss.
    crashes_inside: bool,
    /// Its data is gone: the others refuse it.
    pub is_outcast: bool,
}

pub struct Cluster {
    sim: turmoil::Sim<'static>,
    pub machines: Vec<Rc<Machine>>,
    pub conditions: Vec<Condition>,
    pub disks: Disks,
    pub plan: Plan,
    pub oracle: Oracle,
    pub ledger: Ledger,
    pub story: Story,
    pub counts: BTreeMap<&'static str, u64>,
    pub random: Random,
    queue: BTreeMap<(Micros, u64), Happening>,
    scheduled: u64,
    /// By direction: how many faults cut it now.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Who is who.
    pub by_node: BTreeMap<NodeId, usize>,
    /// How often data was lost that somebody had been told of.
    pub losses: u64,
}

impl Cluster {
    pub fn new(plan: Plan, keeps_lines: bool) -> Cluster {
        let mut random = Random::new(plan.seed ^ 0x006c_6576_656c_3200);
        let mut sim = turmoil::Builder::new()
            .rng_seed(random.next())
            .epoch(UNIX_EPOCH)
            .simulation_duration(LONGEST)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(Duration::from_micros(plan.latency_max))
            .tcp_capacity(1 << 14)
            .enable_random_order()
            .build();
        let story = Story::new(keeps_lines);
        let disks = Disks::default();
        let addresses: Vec<IpAddr> = plan.hosts.iter().map(|host| sim.lookup(host.name.as_str())).collect();
        let mut machines = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            disks.push(SimDisk::new(random.next()));
            let machine = Rc::new(Machine {
                index,
                name: plan.hosts[index].name.clone(),
                config: config(&plan, index, *address, &addresses),
                seed: random.next(),
                offset: Offset::default(),
                disks: disks.clone(),
                story: story.clone(),
                boots: Cell::new(0),
                life: RefCell::new(None),
                ended: RefCell::new(None),
            });
            let first_after = Duration::from_micros(random.next() % SECOND);
            let of = Rc::clone(&machine);
            sim.host(machine.name.as_str(), move || {
                let machine = Rc::clone(&of);
                async move {
                    if machine.boots.get() == 0 {
                        tokio::time::sleep(first_after).await;
                    }
                    machine.live().await;
                    // Its sockets close when the world takes the process away.
                    std::future::pending::<()>().await;
                    Ok(())
                }
            });
            machines.push(machine);
        }
        Cluster {
            sim,
            conditions: machines.iter().map(|_| Condition::default()).collect(),
            ledger: Ledger::new(machines.len()),
            machines,
            disks,
            plan,
            oracle: Oracle::default(),
            story,
            counts: BTreeMap::new(),
            random,
            queue: BTreeMap::new(),
            scheduled: 0,
            cuts: BTreeMap::new(),
            by_node: BTreeMap::new(),
            losses: 0,
        }
    }

    pub fn now(&self) -> Micros {
        micros(self.sim.elapsed())
    }

    pub fn wall(&self, machine: usize) -> i64 {
        wall_at(self.now(), &self.machines[machine].offset)
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn line(&self, line: impl FnOnce() -> String) {
        self.story.line(self.sim.elapsed(), line);
    }

    pub fn schedule(&mut self, after: Micros, what: Happening) {
        self.scheduled += 1;
        self.queue.insert((self.now() + after, self.scheduled), what);
    }

    /// The next thing that is due by now.
    pub fn due(&mut self) -> Option<Happening> {
        let now = self.now();
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// A millisecond passes for everybody.
    pub fn step(&mut self) {
        if let Err(error) = inside(|| self.sim.step()) {
            return self.oracle.violated(format!("a host ended: {error}"));
        }
        for machine in 0..self.machines.len() {
            let ended = self.machines[machine].ended.take();
            if let Some(ended) = ended {
                self.ended(machine, ended);
            }
        }
    }

    /// What is durable now, told to the oracle.
    pub fn look(&mut self, durable: &[Placed]) {
        for machine in &self.machines {
            // Whoever runs has told who it is.
            if let Some(life) = &*machine.life.borrow() {
                let ring = life.doors.ring.peek();
                let mine = ring.nodes.iter().find(|node| node.name == machine.name);
                if let (Some(mine), false) = (mine, self.conditions[machine.index].is_outcast) {
                    self.by_node.insert(mine.id, machine.index);
                }
            }
        }
        self.ledger.look(&self.machines, durable, &mut self.oracle);
    }

    pub fn owners(&self, machine: usize, table: TableId, key: &PartitionKey) -> Vec<usize> {
        let Some(table) = self.oracle.tables.get(&table) else { return Vec::new() };
        let life = self.machines[machine].life.borrow();
        let Some(life) = &*life else { return Vec::new() };
        let ring = life.doors.ring.peek();
        let Some(settings) = ring.settings(&table.keyspace) else { return Vec::new() };
        let owners = ring.preference_list(settings, ring.token(key)).owners;
        owners.iter().filter_map(|owner| self.by_node.get(owner).copied()).collect()
    }

    /// Machines that belong and whose node takes requests.
    pub fn ready(&self) -> impl Iterator<Item = usize> {
        (0..self.machines.len()).filter(|machine| self.serves(*machine))
    }

    pub fn serves(&self, machine: usize) -> bool {
        !self.conditions[machine].is_outcast && self.machines[machine].is_ready()
    }

    fn ended(&mut self, machine: usize, ended: Ended) {
        let name = self.machines[machine].name.clone();
        match ended {
            Ended::Stopped => {
                self.count("stopped in order");
                self.line(|| format!("{name} has stopped"));
                self.end(machine, true);
            }
            Ended::NotStarted(error) => {
                self.count("starts refused");
                self.line(|| format!("{name} does not start: {error}"));
                self.end(machine, true);
                if self.conditions[machine].faults.may_refuse_a_start() {
                    self.power_after_failure(machine);
                    let condition = &mut self.conditions[machine];
                    condition.faults.refused_a_start();
                    let disk = self.disks.get(machine);
                    disk.clear_faults();
                    disk.set_space(None);
                    self.schedule(SECOND, Happening::Start { machine });
                } else if !self.conditions[machine].is_outcast {
                    self.oracle.violated(format!("{name} does not start though its disk is sound: {error}"));
                }
            }
            Ended::Failed(StartError::Ended(Escalation::Intensity { cause, .. })) if cause.contains(PLANTED) => {
                self.count("gave up");
                self.line(|| format!("{name} gave up: {cause}"));
                self.end(machine, true);
                self.schedule(SECOND, Happening::Start { machine });
            }
            Ended::Failed(error) => {
                self.count("fenced");
                self.line(|| format!("{name} ended itself: {error}"));
                self.end(machine, true);
                if !self.conditions[machine].faults.may_fence() {
                    self.oracle.violated(format!("{name} ended itself though its disk is sound: {error}"));
                }
                self.power_after_failure(machine);
                let after = SECOND + self.random.next() % (5 * SECOND);
                self.schedule(after, Happening::Start { machine });
            }
        }
    }

    /// After a failure of the disk half of the machines lose their power too.
    fn power_after_failure(&mut self, machine: usize) {
        if std::mem::take(&mut self.conditions[machine].crashes_inside) || self.random.percent(50) {
            let survivors = Survivors::Seeded(self.random.next());
            self.lose_unsynced(machine, survivors);
        }
    }

    /// The process is gone. `said`: its system lives, and closes its connections.
    fn end(&mut self, machine: usize, said: bool) {
        let others: Vec<usize> = (0..self.machines.len()).filter(|other| *other != machine).collect();
        if !said {
            others.iter().for_each(|other| self.sim.partition_oneway(self.ip(machine), self.ip(*other)));
        }
        self.machines[machine].life.replace(None);
        self.sim.crash(self.ip(machine));
        self.machines[machine].life.replace(None);
        self.machines[machine].ended.replace(None);
        self.disks.get(machine).kill();
        if !said {
            let cut = |other: &&usize| self.cuts.get(&(machine, **other)).is_none_or(|cuts| *cuts == 0);
            others.iter().filter(cut).for_each(|other| self.sim.repair_oneway(self.ip(machine), self.ip(*other)));
        }
    }

    fn lose_unsynced(&mut self, machine: usize, survivors: Survivors) {
        self.disks.set(machine, self.disks.get(machine).crash(survivors));
    }

    pub fn start(&mut self, machine: usize) {
        if self.machines[machine].life.borrow().is_some() {
            return;
        }
        let of = Rc::clone(&self.machines[machine]);
        if !self.conditions[machine].is_outcast {
            // What the engine finds must be what the log says was durable.
            let durable = self.disks.durable();
            self.look(&durable);
            self.check_image(machine, &durable[machine].disk, false);
        }
        self.conditions[machine].faults.started();
        self.line(|| format!("{} is started", of.name));
        self.count("starts");
        self.sim.bounce(self.ip(machine));
    }

    /// Whether the engine reads from a durable image all that is durable. Answers the image, if it can be opened.
    pub fn check_image(&mut self, machine: usize, durable: &SimDisk, all: bool) -> Option<Image> {
        match Image::of(&self.machines[machine], durable) {
            Ok(image) => {
                self.oracle.recovered(machine, all, |key| image.holds(key).map_err(|error| error.to_string()));
                Some(image)
            }
            Err(error) => {
                let name = &self.machines[machine].name;
                self.oracle.violated(format!("{name}'s durable image cannot be opened: {error}"));
                None
            }
        }
    }

    pub fn fault(&mut self, index: usize, begins: bool) {
        let (what, lasts) = (self.plan.faults[index].what.clone(), self.plan.faults[index].lasts);
        self.line(|| format!("nemesis: {what:?} {}", if begins { "begins" } else { "ends" }));
        if begins {
            self.schedule(lasts, Happening::Fault { index, begins: false });
            self.count(what.name());
        }
        match what {
            What::Stop { machine } if begins => {
                if let Some(life) = &*self.machines[machine].life.borrow() {
                    life.stop.notify_one();
                }
            }
            What::Stop { machine } => self.start(machine),
            What::Level1(kind) if begins => self.begin(index, &kind),
            What::Level1(kind) => self.finish(index, &kind),
        }
    }

    fn begin(&mut self, index: usize, kind: &FaultKind) {
        match *kind {
            FaultKind::Kill { machine } => self.end(machine, true),
            FaultKind::PowerLoss { machine, survivors } => {
                self.end(machine, false);
                let survivors = if survivors % 2 == 0 { Survivors::None } else { Survivors::Seeded(survivors) };
                self.lose_unsynced(machine, survivors);
            }
            FaultKind::Cut { from, to } => self.cut(from, to),
            FaultKind::Isolate { machine } => {
                for other in (0..self.machines.len()).filter(|other| *other != machine) {
                    self.cut(machine, other);
                    self.cut(other, machine);
                }
            }
            FaultKind::Slow { from, to, by } => self.latency(from, to, by),
            FaultKind::ClockJump { machine, by } => {
                self.machines[machine].offset.fetch_add(by, Ordering::Relaxed);
            }
            FaultKind::DiskFull { machine, bytes_left } => {
                self.conditions[machine].faults.begin(index, DiskFault::Full);
                fill(&self.disks.get(machine), bytes_left);
            }
            FaultKind::DiskError { machine, target, calls_before, fault } => {
                self.conditions[machine].faults.begin(index, fault);
                self.disks.get(machine).inject(target, calls_before, fault);
            }
            FaultKind::CrashInside { machine, calls_before } => {
                let condition = &mut self.conditions[machine];
                condition.faults.begin(index, DiskFault::Io);
                condition.crashes_inside = true;
                self.disks.get(machine).inject(Target::Any, calls_before, DiskFault::Io);
            }
            FaultKind::Wipe { machine } => {
                self.end(machine, false);
                self.disks.replace(machine, SimDisk::new(self.random.next()));
                self.conditions[machine].is_outcast = true;
                self.oracle.destroyed(machine);
                self.ledger.forget(machine);
                self.losses += 1;
            }
            _ => unreachable!("the plan leaves {kind:?} to level 1"),
        }
    }

    fn finish(&mut self, index: usize, kind: &FaultKind) {
        match *kind {
            FaultKind::Kill { machine } | FaultKind::PowerLoss { machine, .. } | FaultKind::Wipe { machine } => {
                self.start(machine);
            }
            FaultKind::Cut { from, to } => self.open(from, to),
            FaultKind::Isolate { machine } => {
                for other in (0..self.machines.len()).filter(|other| *other != machine) {
                    self.open(machine, other);
                    self.open(other, machine);
                }
            }
            FaultKind::Slow { from, to, .. } => self.latency(from, to, self.plan.latency_max),
            FaultKind::DiskFull { machine, .. } => {
                self.conditions[machine].faults.end(index);
                self.disks.get(machine).set_space(None);
            }
            FaultKind::DiskError { machine, .. } | FaultKind::CrashInside { machine, .. } => {
                self.conditions[machine].faults.end(index);
                self.disks.get(machine).clear_faults();
            }
            _ => {}
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        *self.cuts.entry((from, to)).or_default() += 1;
        self.sim.partition_oneway(self.ip(from), self.ip(to));
    }

    fn open(&mut self, from: usize, to: usize) {
        let cuts = self.cuts.entry((from, to)).or_default();
        *cuts = cuts.saturating_sub(1);
        if *cuts == 0 {
            self.sim.repair_oneway(self.ip(from), self.ip(to));
        }
    }

    fn latency(&self, from: usize, to: usize, most: Micros) {
        let most = Duration::from_micros(most.max(MILLISECOND));
        self.sim.set_link_max_message_latency(self.ip(from), self.ip(to), most);
    }

    fn ip(&self, machine: usize) -> IpAddr {
        self.machines[machine].config.listen.address
    }

    /// Ends every fault: ways open, disks sound, clocks right, everybody runs.
    pub fn heal(&mut self) {
        self.line(|| "nemesis: everything heals".into());
        self.queue.retain(|_, happening| !matches!(happening, Happening::Fault { .. }));
        let cut: Vec<(usize, usize)> = self.cuts.keys().copied().collect();
        for (from, to) in cut {
            self.cuts.remove(&(from, to));
            self.sim.repair_oneway(self.ip(from), self.ip(to));
        }
        for machine in 0..self.machines.len() {
            (machine + 1..self.machines.len()).for_each(|other| self.latency(machine, other, self.plan.latency_max));
            self.conditions[machine].faults.end_all();
            let disk = self.disks.get(machine);
            disk.clear_faults();
            disk.set_space(None);
            self.machines[machine].offset.store(0, Ordering::Relaxed);
            if self.machines[machine].life.borrow().is_none() {
                self.schedule(SECOND, Happening::Start { machine });
            }
        }
    }

    /// What a machine that runs holds of a key, from its durable image.
    pub fn held(
        &mut self,
        machines: &[usize],
        key: &KeyId,
        images: &BTreeMap<usize, Image>,
    ) -> Vec<(usize, kula_lattice::Partition)> {
        let mut held = Vec::new();
        for machine in machines {
            match images.get(machine).map(|image| image.holds(key)) {
                Some(Ok(partition)) => held.push((*machine, partition)),
                Some(Err(error)) => self.oracle.violated(format!("n{} cannot read in the end: {error}", machine + 1)),
                None => {}
            }
        }
        held
    }
}

fn config(plan: &Plan, index: usize, address: IpAddr, all: &[IpAddr]) -> Config {
    let host = &plan.hosts[index];
    let mut config = Config { cluster: "simulated".into(), storage: host.storage.clone(), ..Config::default() };
    config.node.name = kula_sim::run::name_of(&host.name);
    config.node.rack.clone_from(&host.rack);
    config.listen.address = address;
    config.listen.peer = PEER_PORT;
    config.join.expect = host.expect;
    config.join.seeds = match all {
        [_] => Vec::new(),
        all => all.iter().take(3).map(|address| format!("{address}:{PEER_PORT}")).collect(),
    };
    config.actors.coordinator.instances = Some(host.coordinators);
    config.actors.coordinator.mailbox.cap = plan.mailbox;
    // The ground truth is what is synced.
    config.storage.sync = kula_storage::SyncMode::Group {};
    config
}

/// Leaves so many bytes on a disk.
fn fill(disk: &SimDisk, bytes_left: u64) {
    const PLENTY: u64 = 1 << 40;
    disk.set_space(Some(PLENTY));
    let used = PLENTY - disk.free_bytes().unwrap_or(PLENTY);
    disk.set_space(Some(used + bytes_left));
}
