//! A scenario: the topology, workload and faults that a person asks for, made a plan.
//!
//! The generator (`plan`) draws everything from its seed, to find what nobody thought of. A scenario holds still what was
//! asked and draws only the moments and the victims, so that two runs which differ in one flag can be compared. It plans
//! nothing that the oracle cannot judge: at most one machine loses its disk, and only where a quorum is left without it.

use crate::{
    Plan,
    mailroom::Scheduling,
    plan::{Fault, FaultKind, Operation, Wish},
    process::Host,
    time::{MILLISECOND, Micros, SECOND},
};
use clap::ValueEnum;
use kula_clock::Random;
use kula_disk::sim::{Fault as DiskFault, SyncFault, Target};
use kula_handoff::{HandoffConfig, Sizes, machine::Window};
use kula_placement::ReadRepair;
use kula_storage::{Compression, StorageConfig, SyncMode};
use kula_types::Consistency;

/// The oracle tries every choice of R owners: 2 to the power of the replication factor.
pub const NODES_MAX: usize = 9;
/// Copies of a key.
pub const RF_MAX: u32 = 5;
/// Virtual time under load.
pub const LASTS_MAX: Micros = 24 * 3_600 * SECOND;
/// A plan's operations are made before it runs.
pub const OPERATIONS_MAX: u64 = 200_000;
/// Keys of the registers, and of the bucket.
pub const KEYS_MAX: usize = 1_000;
/// A request's deadline, as at a node.
const WITHIN_MAX: Micros = 60 * SECOND;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Puts, gets and some deletes of few keys of a last-writer-wins table
    Register,
    /// Puts of ever new keys, and gets of the latest: nothing is ever replaced
    Set,
    /// Puts, gets and some deletes of few keys of a bucket; three puts of four carry the context of the client's last read
    Bucket,
    /// Pages of both tables
    List,
}

/// What goes wrong, by the words of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Trouble {
    /// Nothing
    None,
    /// Everything below but lost-disk
    All,
    /// A process ends at once, as by kill -9, and starts again
    Kill,
    /// A machine loses its power; of what was not synced some is gone
    PowerLoss,
    /// A process stands still, then goes on
    Pause,
    /// A node is cut off, or one of two cannot reach the other
    Partition,
    /// Slow ways between nodes, connections that break
    SlowNet,
    /// Bits flip on their way between nodes
    BitFlips,
    /// A wall clock jumps up to 3 s (at times 70 s), drifts or stands still
    Clock,
    /// A disk is full for a while
    DiskFull,
    /// A disk stands still for a while
    DiskStall,
    /// A disk fails a call, a sync fails, power goes inside a call
    DiskError,
    /// Once: everything a machine had is gone
    LostDisk,
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub nodes: usize,
    pub rf: u32,
    pub lasts: Micros,
    pub clients: usize,
    /// Operations a second of all clients together.
    pub rate: u64,
    pub keys: usize,
    pub workloads: Vec<Workload>,
    /// Each read takes one of these.
    pub read: Vec<Consistency>,
    pub write: Vec<Consistency>,
    pub read_repair: ReadRepair,
    /// `None`: each batch is synced before it is acknowledged.
    pub synced_every: Option<Micros>,
    pub troubles: Vec<Trouble>,
    /// From one fault to the next, on average.
    pub fault_every: Micros,
    pub within: Micros,
    pub seed: u64,
}

/// Why there is no such cluster. Nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    #[error("a simulated cluster has 1 to {most} nodes, not {asked}", most = NODES_MAX)]
    Nodes { asked: usize },
    #[error("a key has 1 to {most} copies here, not {asked}", most = RF_MAX)]
    Copies { asked: u32 },
    #[error("the level {level} is not there yet")]
    LevelNotThereYet { level: Consistency },
    #[error("{asked} replicas were asked for, and a key has {copies} here")]
    LevelTooHigh { asked: u32, copies: u32 },
    #[error("a run lasts more than nothing and at most {} h of virtual time", LASTS_MAX / SECOND / 3_600)]
    Lasts,
    #[error("a run has 1 to {most} operations, not {asked}", most = OPERATIONS_MAX)]
    Operations { asked: u64 },
    #[error("there are 1 to {most} keys, not {asked}", most = KEYS_MAX)]
    Keys { asked: usize },
    #[error("there is at least one client")]
    NoClient,
    #[error("a deadline is more than nothing and at most {} s", WITHIN_MAX / SECOND)]
    Deadline,
    #[error("a log synced by periods is synced every 1 ms to 10 s")]
    Period,
    #[error("faults come at most every 100 ms")]
    FaultsTooOften,
    #[error("none and other faults contradict each other")]
    NoneAndOthers,
    /// Without a quorum of the rest the end of the run could not be judged.
    #[error("a disk can be lost only where a key has 3 copies or more, here it has {copies}")]
    LostDisk { copies: u32 },
}

impl Scenario {
    /// Copies of a key that there can be.
    pub fn copies(&self) -> u32 {
        self.rf.min(u32::try_from(self.nodes).unwrap_or(u32::MAX))
    }

    pub fn plan(&self) -> Result<Plan, ScenarioError> {
        self.check()?;
        let mut random = Random::new(self.seed ^ 0x7363_656e_6172_696f);
        Ok(Plan {
            seed: self.seed,
            hosts: self.hosts(),
            read_repair: self.read_repair,
            rf: self.rf,
            lasts: self.lasts,
            clients: self.clients,
            operations: self.operations(&mut random),
            faults: self.faults(&mut random),
            is_canary: false,
            mutant: None,
            mailbox_max: None,
            scheduling: Scheduling::Even,
        })
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let refuse = |is_wrong: bool, error: ScenarioError| if is_wrong { Err(error) } else { Ok(()) };
        refuse(!(1..=NODES_MAX).contains(&self.nodes), ScenarioError::Nodes { asked: self.nodes })?;
        refuse(!(1..=RF_MAX).contains(&self.rf), ScenarioError::Copies { asked: self.rf })?;
        let copies = self.copies();
        for &level in self.read.iter().chain(&self.write) {
            let Some(asked) = level.required(copies) else { return Err(ScenarioError::LevelNotThereYet { level }) };
            refuse(asked > copies, ScenarioError::LevelTooHigh { asked, copies })?;
        }
        refuse(!(1..=LASTS_MAX).contains(&self.lasts), ScenarioError::Lasts)?;
        let asked = self.rate.saturating_mul(self.lasts) / SECOND;
        refuse(!(1..=OPERATIONS_MAX).contains(&asked), ScenarioError::Operations { asked })?;
        refuse(!(1..=KEYS_MAX).contains(&self.keys), ScenarioError::Keys { asked: self.keys })?;
        refuse(self.clients == 0, ScenarioError::NoClient)?;
        refuse(!(1..=WITHIN_MAX).contains(&self.within), ScenarioError::Deadline)?;
        let is_period = |every: Micros| (MILLISECOND..=10 * SECOND).contains(&every);
        refuse(!self.synced_every.is_none_or(is_period), ScenarioError::Period)?;
        refuse(self.fault_every < SECOND / 10, ScenarioError::FaultsTooOften)?;
        refuse(self.has(Trouble::None) && self.troubles.len() > 1, ScenarioError::NoneAndOthers)?;
        refuse(self.has(Trouble::LostDisk) && copies < 3, ScenarioError::LostDisk { copies })
    }

    fn has(&self, trouble: Trouble) -> bool {
        self.troubles.contains(&trouble)
    }

    /// As nodes are by default, but for logs and memtables, which are small enough that a short run sees them turn over.
    fn hosts(&self) -> Vec<Host> {
        let address = |index: usize| format!("n{}:7000", index + 1);
        let segment = 256 << 10;
        let sync = match self.synced_every {
            None => SyncMode::Group {},
            Some(every) => SyncMode::Periodic { ms: every / MILLISECOND },
        };
        let storage = StorageConfig {
            shards: Some(1),
            memtable_heap: 1 << 20,
            memtable_cleanup_threshold: 0.15,
            commitlog_total: segment * 16,
            commitlog_segment: segment,
            sync,
            compression: Compression::Lz4,
        };
        let nodes = self.nodes;
        (0..nodes)
            .map(|index| Host {
                name: format!("n{}", index + 1),
                address: address(index),
                rack: format!("r{}", index % 3),
                seeds: if nodes == 1 { Vec::new() } else { (0..nodes.min(3)).map(address).collect() },
                expect: u32::try_from(nodes).unwrap_or(1),
                storage: storage.clone(),
                coordinators: 1,
                sizes: Sizes::of(&HandoffConfig::default()),
                window: Window::default(),
            })
            .collect()
    }

    fn operations(&self, random: &mut Random) -> Vec<Operation> {
        let mean = (SECOND / self.rate).max(1);
        let mut all = Vec::new();
        let mut at = 0;
        loop {
            at += 1 + random.next() % (2 * mean);
            if at >= self.lasts || self.workloads.is_empty() {
                return all;
            }
            let workload = self.workloads[random.below(self.workloads.len())];
            let key = random.below(self.keys);
            let die = random.below(100);
            let (wish, is_write) = match (workload, die) {
                (Workload::Register, 0..45) => (Wish::Put { key, timestamp: None, ttl: None }, true),
                (Workload::Register, 45..50) => (Wish::Delete { key }, true),
                (Workload::Register, _) => (Wish::Get { key }, false),
                (Workload::Set, 0..50) => (Wish::Add { causal: false }, true),
                // Odd: the table that `Add` above writes.
                (Workload::Set, _) => (Wish::ReadAdded { back: 2 * random.below(20) + 1 }, false),
                (Workload::Bucket, 0..45) => {
                    let with_context = random.percent(75);
                    (Wish::CausalPut { key, with_context, ttl: None, retries: false }, true)
                }
                (Workload::Bucket, 45..50) => (Wish::CausalDelete { key, with_context: true }, true),
                (Workload::Bucket, _) => (Wish::CausalGet { key }, false),
                (Workload::List, _) => (Wish::Scan { causal: die < 50, limit: 20 }, false),
            };
            let levels = if is_write { &self.write } else { &self.read };
            let level = levels.get(random.below(levels.len().max(1))).copied().unwrap_or(Consistency::Quorum);
            all.push(Operation {
                at,
                client: random.below(self.clients),
                machine: random.below(self.nodes),
                wish,
                level,
                within: self.within,
                bytes: 20 + random.below(200),
            });
        }
    }

    fn faults(&self, random: &mut Random) -> Vec<Fault> {
        let mut all = Vec::new();
        let mut at = 0;
        loop {
            at += self.fault_every / 2 + random.next() % self.fault_every;
            if at >= self.lasts {
                break;
            }
            let lasts = 2 * SECOND + random.next() % (10 * SECOND);
            let choices = self.choices(random);
            if choices.is_empty() {
                break;
            }
            // A trouble first, then one of its kinds: what has many kinds is not met more often.
            let kinds = &choices[random.below(choices.len())];
            let kind = kinds[random.below(kinds.len())].clone();
            // A log has a spare segment: it takes a while to notice.
            let lasts = if matches!(kind, FaultKind::DiskFull { .. }) { 5 * lasts } else { lasts };
            all.push(Fault { at, lasts, kind });
        }
        if self.has(Trouble::LostDisk) {
            let at = self.lasts / 4 + random.next() % (self.lasts / 2).max(1);
            let kind = FaultKind::Wipe { machine: random.below(self.nodes) };
            all.push(Fault { at, lasts: 5 * SECOND, kind });
        }
        all
    }

    /// By trouble: what could begin now.
    fn choices(&self, random: &mut Random) -> Vec<Vec<FaultKind>> {
        let wanted = Trouble::value_variants().iter().filter(|trouble| {
            self.has(**trouble) || self.has(Trouble::All) && !matches!(trouble, Trouble::None | Trouble::All)
        });
        wanted.map(|trouble| self.kinds(*trouble, random)).filter(|kinds| !kinds.is_empty()).collect()
    }

    fn kinds(&self, trouble: Trouble, random: &mut Random) -> Vec<FaultKind> {
        let machine = random.below(self.nodes);
        let other = (machine + 1 + random.below(self.nodes.max(2) - 1)) % self.nodes;
        let survivors = random.next();
        let is_alone = self.nodes == 1;
        match trouble {
            Trouble::Kill => vec![FaultKind::Kill { machine }],
            Trouble::PowerLoss => {
                vec![FaultKind::PowerLoss { machine, survivors }, FaultKind::PowerLossAtAck { machine, survivors }]
            }
            Trouble::Pause => vec![FaultKind::Pause { machine }],
            Trouble::Partition if !is_alone => {
                vec![FaultKind::Isolate { machine }, FaultKind::Cut { from: machine, to: other }]
            }
            Trouble::SlowNet if !is_alone => {
                let by = 10 * MILLISECOND + random.next() % (2 * SECOND);
                vec![FaultKind::Slow { from: machine, to: other, by }, FaultKind::Reset { one: machine, other }]
            }
            Trouble::BitFlips if !is_alone => {
                vec![FaultKind::Flips { from: machine, to: other, per_mille: 1 + random.next() % 50 }]
            }
            Trouble::Partition | Trouble::SlowNet | Trouble::BitFlips => Vec::new(),
            Trouble::Clock => {
                let sign = if random.percent(50) { 1 } else { -1 };
                let span = if random.percent(20) { 70_000_000 } else { 3_000_000 };
                let by = sign * (1 + i64::try_from(random.next() % span).unwrap_or(0));
                let ppm = i64::try_from(random.next() % 1_000).unwrap_or(0) - 500;
                vec![
                    FaultKind::ClockJump { machine, by },
                    FaultKind::ClockDrift { machine, ppm },
                    FaultKind::ClockFreeze { machine },
                ]
            }
            Trouble::DiskFull => vec![FaultKind::DiskFull { machine, bytes_left: random.next() % (16 << 10) }],
            Trouble::DiskStall => vec![FaultKind::DiskStall { machine }],
            Trouble::DiskError => {
                let calls_before = random.next() % 60;
                let error = |target, fault| FaultKind::DiskError { machine, target, calls_before, fault };
                vec![
                    error(Target::Write, DiskFault::Io),
                    error(Target::Sync, DiskFault::Sync(SyncFault::Reverted)),
                    FaultKind::CrashInside { machine, calls_before },
                ]
            }
            // Planned apart, once.
            Trouble::None | Trouble::All | Trouble::LostDisk => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        Scenario {
            nodes: 3,
            rf: 3,
            lasts: 60 * SECOND,
            clients: 4,
            rate: 20,
            keys: 8,
            workloads: vec![Workload::Register, Workload::Set, Workload::Bucket],
            read: vec![Consistency::Quorum],
            write: vec![Consistency::Quorum],
            read_repair: ReadRepair::Blocking,
            synced_every: None,
            troubles: vec![Trouble::All, Trouble::LostDisk],
            fault_every: SECOND,
            within: 5 * SECOND,
            seed: 7,
        }
    }

    #[test]
    fn one_disk_is_lost_however_many_faults_there_are() {
        let plan = scenario().plan().unwrap();
        let wipes = plan.faults.iter().filter(|fault| matches!(fault.kind, FaultKind::Wipe { .. })).count();
        assert_eq!(wipes, 1);
        assert!(plan.faults.len() > 40, "{}", plan.faults.len());
        assert!((1_000..1_400).contains(&plan.operations.len()), "{}", plan.operations.len());
    }

    #[test]
    fn only_what_was_asked_for_is_planned() {
        let plan = Scenario { troubles: vec![Trouble::Kill], workloads: vec![Workload::Set], ..scenario() }.plan();
        let plan = plan.unwrap();
        assert!(!plan.faults.is_empty() && plan.faults.iter().all(|fault| fault.kind.name() == "kill"));
        let is_of_set = |operation: &Operation| {
            matches!(operation.wish, Wish::Add { causal: false })
                || matches!(operation.wish, Wish::ReadAdded { back } if back % 2 == 1)
        };
        assert!(plan.operations.iter().all(is_of_set));
        assert!(Scenario { troubles: vec![Trouble::None], ..scenario() }.plan().unwrap().faults.is_empty());
    }

    #[test]
    fn what_cannot_be_judged_is_not_planned() {
        let refused = |scenario: Scenario| scenario.plan().unwrap_err();
        assert_eq!(refused(Scenario { nodes: 0, ..scenario() }), ScenarioError::Nodes { asked: 0 });
        assert_eq!(refused(Scenario { rf: 2, ..scenario() }), ScenarioError::LostDisk { copies: 2 });
        let many = Scenario { rate: 1_000_000, ..scenario() };
        assert_eq!(refused(many), ScenarioError::Operations { asked: 60_000_000 });
        let level = |level| Scenario { write: vec![level], ..scenario() };
        assert_eq!(refused(level(Consistency::Any)), ScenarioError::LevelNotThereYet { level: Consistency::Any });
        let two_of_one = Scenario { nodes: 1, troubles: Vec::new(), ..level(Consistency::Two) };
        assert_eq!(refused(two_of_one), ScenarioError::LevelTooHigh { asked: 2, copies: 1 });
        let both = Scenario { troubles: vec![Trouble::None, Trouble::Kill], ..scenario() };
        assert_eq!(refused(both), ScenarioError::NoneAndOthers);
    }
}
