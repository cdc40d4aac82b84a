//! The generator: from a seed, a cluster, what its clients want and when, and what goes wrong when.
//!
//! A plan is plain data made before the run, so that a failing one can be shrunk: leave out operations and faults, and see
//! whether it still fails.

use crate::{
    mailroom::Scheduling,
    process::Host,
    rows::RowWish,
    time::{MILLISECOND, Micros, SECOND},
};
use kula_clock::Random;
use kula_disk::sim::{Fault as DiskFault, SyncFault, Target};
use kula_fault::Mutant;
use kula_handoff::{HandoffConfig, Sizes, machine::Window};
use kula_placement::ReadRepair;
use kula_storage::{Compression, StorageConfig, SyncMode};
use kula_types::Consistency;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A put of a key that nobody else writes.
    Add {
        causal: bool,
    },
    /// A read of one of the latest keys that were added.
    ReadAdded {
        back: usize,
    },
    Put {
        key: usize,
        timestamp: Option<i64>,
        ttl: Option<Micros>,
    },
    Delete {
        key: usize,
    },
    Get {
        key: usize,
    },
    /// With the context of the client's last read of the key, or without.
    /// `retries`: with an idempotency key, again through another node if its fate is unknown.
    CausalPut {
        key: usize,
        with_context: bool,
        ttl: Option<Micros>,
        retries: bool,
    },
    CausalDelete {
        key: usize,
        with_context: bool,
    },
    CausalGet {
        key: usize,
    },
    Scan {
        causal: bool,
        limit: u32,
    },
    CreateTable {
        causal: bool,
    },
    /// Rows and ranges at the replicas' own interface.
    Rows {
        wish: RowWish,
        die: u64,
    },
    /// A put or a get of one key in a table of this name, if there is one.
    Made {
        name: usize,
        puts: bool,
    },
    DropTable,
    /// Another way of read repair for the clients' keyspace: a new version of the ring.
    Alter {
        read_repair: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub at: Micros,
    pub client: usize,
    pub machine: usize,
    pub wish: Wish,
    pub level: Consistency,
    pub within: Micros,
    pub bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// As `kill -9`.
    Kill {
        machine: usize,
    },
    /// Some of what was not synced is gone.
    PowerLoss {
        machine: usize,
        survivors: u64,
    },
    /// The same, just as it acknowledges something.
    PowerLossAtAck {
        machine: usize,
        survivors: u64,
    },
    /// As SIGSTOP and SIGCONT.
    Pause {
        machine: usize,
    },
    /// No byte goes from one to the other.
    Cut {
        from: usize,
        to: usize,
    },
    Isolate {
        machine: usize,
    },
    Slow {
        from: usize,
        to: usize,
        by: Micros,
    },
    Reset {
        one: usize,
        other: usize,
    },
    Flips {
        from: usize,
        to: usize,
        per_mille: u64,
    },
    ClockJump {
        machine: usize,
        by: i64,
    },
    ClockDrift {
        machine: usize,
        ppm: i64,
    },
    ClockFreeze {
        machine: usize,
    },
    DiskFull {
        machine: usize,
        bytes_left: u64,
    },
    DiskStall {
        machine: usize,
    },
    /// One call fails; what becomes of the process is its own decision.
    DiskError {
        machine: usize,
        target: Target,
        calls_before: u64,
        fault: DiskFault,
    },
    /// The process dies and comes back at once, to a disk that fails one of the reads of its start.
    ErrorAtStart {
        machine: usize,
        /// So many reads before the end of what opening storage reads, else behind its beginning.
        is_late: bool,
        calls: u64,
    },
    /// Power is lost inside an operation on the disk, this one of those to come.
    CrashInside {
        machine: usize,
        calls_before: u64,
    },
    /// The directory is gone; an empty one is in its place.
    Wipe {
        machine: usize,
    },
    /// A copy of the directory runs at another address.
    Clone {
        machine: usize,
    },
    /// An image of the directory is taken; when the fault ends the machine starts again from it.
    RollBack {
        machine: usize,
    },
    /// Two machines lose power and start with each other's disk; when the fault ends they are changed back.
    Swap {
        one: usize,
        other: usize,
        survivors: u64,
    },
    /// Bytes at rest are damaged.
    Rot {
        machine: usize,
        of: RotOf,
        how: Rot,
        die: u64,
    },
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotOf {
    /// A table's data or its filter, while the process runs.
    Table,
    /// The commit log, while the machine is off: its operator accepts the loss.
    CommitLog,
    /// A log of hints, while the process runs.
    Hints,
    /// One bit of a file that a start needs, while the machine is off: it is refused until the bit is back.
    StartFile,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    Flip,
    /// Zeroes, up to a page of them.
    Zeroes,
    /// Bytes of another place of the same file, or of another file of the kind.
    Misdirected,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: Micros,
    pub lasts: Micros,
    pub kind: FaultKind,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub hosts: Vec<Host>,
    pub read_repair: ReadRepair,
    pub rf: u32,
    /// How long clients and nemesis are at work, from the forming of the cluster on.
    pub lasts: Micros,
    pub clients: usize,
    pub operations: Vec<Operation>,
    pub faults: Vec<Fault>,
    /// What a room's mailbox holds; `None`: as in production, which no simulated client fills.
    pub mailbox_max: Option<usize>,
    pub scheduling: Scheduling,
    /// A violation is planted: the suite must find it.
    pub is_canary: bool,
    /// A mistake that all nodes make.
    pub mutant: Option<Mutant>,
}

/// Tables that clients make have one of so many names: two nodes make the same one.
pub const TABLE_NAMES: usize = 7;

impl FaultKind {
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Kill { .. } => "kill",
            FaultKind::PowerLoss { .. } => "power loss",
            FaultKind::PowerLossAtAck { .. } => "power loss at ack",
            FaultKind::Pause { .. } => "pause",
            FaultKind::Cut { .. } => "one-way cut",
            FaultKind::Isolate { .. } => "isolation",
            FaultKind::Slow { .. } => "slow way",
            FaultKind::Reset { .. } => "reset",
            FaultKind::Flips { .. } => "bit flips",
            FaultKind::ClockJump { .. } => "clock jump",
            FaultKind::ClockDrift { .. } => "clock drift",
            FaultKind::ClockFreeze { .. } => "clock freeze",
            FaultKind::DiskFull { .. } => "full disk",
            FaultKind::DiskStall { .. } => "disk stall",
            FaultKind::DiskError { fault: DiskFault::Io, .. } => "disk EIO",
            FaultKind::DiskError { fault: DiskFault::Full, .. } => "disk ENOSPC once",
            FaultKind::DiskError { fault: DiskFault::TooManyFiles, .. } => "disk EMFILE",
            FaultKind::DiskError { fault: DiskFault::LostWrite, .. } => "lost write",
            FaultKind::DiskError { fault: DiskFault::Sync(SyncFault::Late), .. } => "late sync",
            FaultKind::DiskError { fault: DiskFault::Sync(_), .. } => "failed sync",
            FaultKind::ErrorAtStart { .. } => "disk EIO at start",
            FaultKind::CrashInside { .. } => "crash inside a call",
            FaultKind::Wipe { .. } => "lost disk",
            FaultKind::Clone { .. } => "cloned disk",
            FaultKind::RollBack { .. } => "rolled-back disk",
            FaultKind::Swap { .. } => "swapped disks",
            FaultKind::Rot { of: RotOf::Table, .. } => "rotten table",
            FaultKind::Rot { of: RotOf::CommitLog, .. } => "rotten log",
            FaultKind::Rot { of: RotOf::Hints, .. } => "rotten hints",
            FaultKind::Rot { of: RotOf::StartFile, .. } => "rotten start file",
        }
    }

    /// Every kind that a run of many seeds must have met.
    pub const NAMES: [&'static str; 30] = [
        "kill",
        "power loss",
        "power loss at ack",
        "pause",
        "one-way cut",
        "isolation",
        "slow way",
        "reset",
        "bit flips",
        "clock jump",
        "clock drift",
        "clock freeze",
        "full disk",
        "disk stall",
        "disk EIO",
        "disk ENOSPC once",
        "disk EMFILE",
        "failed sync",
        "lost write",
        "late sync",
        "disk EIO at start",
        "crash inside a call",
        "lost disk",
        "cloned disk",
        "rolled-back disk",
        "swapped disks",
        "rotten table",
        "rotten log",
        "rotten hints",
        "rotten start file",
    ];
}

/// What a seed's limits and clients are like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Common,
    /// Small values, and a log whose segments hold few of them.
    Tiny,
    /// Nobody says what he has read: siblings pile up in memory, to where they are refused.
    Blind,
}

/// What goes wrong in a seed: all kinds in few of them, so that each is met alone too.
#[derive(Clone, Copy)]
struct Mix {
    process: bool,
    net: bool,
    clock: bool,
    disk: bool,
    /// A disk is lost for good.
    loss: bool,
    /// A copy of a directory runs. Only where everybody is there: a copy of a node that is away is taken for it.
    copies: bool,
    /// A machine starts from an older image of its disk, or from another's disk.
    images: bool,
    /// Bytes at rest are damaged.
    rot: bool,
}

impl Plan {
    pub fn of(seed: u64) -> Plan {
        let mut random = Random::new(seed ^ 0x6b75_6c61_5f73_696d);
        let nodes = match random.below(20) {
            0 => 1,
            1..4 => 5,
            _ => 3,
        };
        let lasts = (60 + random.next() % 300) * SECOND;
        let shape = match random.below(12) {
            0 | 1 => Shape::Tiny,
            2 => Shape::Blind,
            _ => Shape::Common,
        };
        let hosts = hosts(nodes, shape, &mut random);
        let none = Mix {
            process: false,
            net: false,
            clock: false,
            disk: false,
            loss: false,
            copies: false,
            images: false,
            rot: false,
        };
        let mix = match random.below(20) {
            0 => none,
            1 => Mix { copies: true, ..none },
            2 | 3 => Mix { process: true, ..none },
            4 | 5 => Mix { net: true, ..none },
            6 | 7 => Mix { process: true, net: true, ..none },
            8 | 9 => Mix { process: true, disk: true, ..none },
            10 | 11 => Mix { process: true, clock: true, loss: true, ..none },
            12 => Mix { images: true, ..none },
            13 => Mix { images: true, process: true, net: true, ..none },
            14 => Mix { rot: true, ..none },
            15 => Mix { rot: true, process: true, net: true, disk: true, ..none },
            _ => Mix { process: true, net: true, clock: true, disk: true, loss: true, ..none },
        };
        let read_repair = match random.below(4) {
            0 => ReadRepair::Off,
            1 => ReadRepair::Background,
            _ => ReadRepair::Blocking,
        };
        let clients = 2 + random.below(4);
        let mut operations = operations((nodes, clients, lasts), shape, &mut random);
        if mix.images {
            // An acceptor that forgets its vote may help to decide twice: a ring changes only where no disk goes back.
            operations.retain(|operation| !matches!(operation.wish, Wish::Alter { .. }));
        }
        Plan {
            seed,
            read_repair,
            rf: 3,
            lasts,
            clients,
            operations,
            mailbox_max: random.percent(20).then(|| 1 + random.below(3)),
            scheduling: [Scheduling::Even, Scheduling::Even, Scheduling::Uneven, Scheduling::Starving][random.below(4)],
            faults: faults(nodes, mix, lasts, &mut random),
            hosts,
            is_canary: false,
            mutant: None,
        }
    }

    /// Without the operations and faults for which `keeps` says no (operations first, then faults).
    pub fn without(&self, keeps: impl Fn(usize) -> bool) -> Plan {
        let operations = self.operations.len();
        let mut plan = self.clone();
        plan.operations = kept(&self.operations, &keeps);
        plan.faults = kept(&self.faults, |index| keeps(operations + index));
        plan
    }

    pub fn has_clock_faults(&self) -> bool {
        let is_of_clock = |fault: &Fault| {
            matches!(
                fault.kind,
                FaultKind::ClockJump { .. } | FaultKind::ClockDrift { .. } | FaultKind::ClockFreeze { .. }
            )
        };
        self.faults.iter().any(is_of_clock)
    }

    /// What decides where production code is unkind. Beside copies it is kind: one gets in while the node itself is away,
    /// and a link that is cut for no reason lets it.
    pub fn unkind_seed(&self) -> Option<u64> {
        let has_copies = self.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Clone { .. }));
        (!has_copies).then_some(self.seed)
    }

    pub fn size(&self) -> usize {
        self.operations.len() + self.faults.len()
    }
}

fn kept<T: Clone>(all: &[T], keeps: impl Fn(usize) -> bool) -> Vec<T> {
    all.iter().enumerate().filter(|(index, _)| keeps(*index)).map(|(_, one)| one.clone()).collect()
}

fn hosts(nodes: usize, shape: Shape, random: &mut Random) -> Vec<Host> {
    let address = |index: usize| format!("n{}:7000", index + 1);
    // A key's join must fit a record, or its owners can never be brought together: a segment holds some of the largest.
    let segment = match shape {
        Shape::Tiny => 20 << 10,
        // Hundreds of siblings in one bucket.
        Shape::Blind => 1 << 20,
        _ => 48 << 10 << random.below(3),
    };
    let sync = match random.below(6) {
        0 => SyncMode::Periodic { ms: 10 + random.next() % 190 },
        _ => SyncMode::Group {},
    };
    let shards = u16::try_from(1 + random.below(3)).unwrap_or(1);
    let coordinators = 1 + random.below(2);
    let storage = StorageConfig {
        shards: Some(shards),
        memtable_heap: (if shape == Shape::Blind { 1 << 20 } else { 64 << 10 }) * u64::from(shards),
        // Tests take a memtable of a few KiB: many small tables.
        memtable_cleanup_threshold: [0.02, 0.08, 0.125, 0.4][random.below(4)],
        commitlog_total: segment * (6 + random.next() % 20),
        commitlog_segment: segment,
        sync,
        compression: if random.percent(70) { Compression::Lz4 } else { Compression::None },
    };
    // Logs of hints that take many segments and rounds.
    let small = Sizes {
        owed_max: [1 << 20, 1 << 20, 6 << 10][random.below(3)],
        segment: 16 << 10,
        segment_record: 4 << 10,
        large_segment: 64 << 10,
        large_record: 24 << 10,
    };
    let sizes = match random.below(20) {
        // A start reads such a log whole: a few seeds of it are enough.
        0 => Sizes::of(&HandoffConfig::default()),
        1..6 => Sizes {
            segment: 4 * small.segment,
            segment_record: 4 * small.segment_record,
            large_segment: 4 * small.large_segment,
            large_record: 4 * small.large_record,
            ..small
        },
        _ => small,
    };
    let window = match random.below(4) {
        0 => Window { read_records: 7, read_bytes: 2_000, in_flight: 3, in_flight_bytes: 3_000 },
        1 => Window { read_records: 1, read_bytes: 200, in_flight: 1, in_flight_bytes: 200 },
        _ => Window::default(),
    };
    let expect = u32::try_from(nodes).unwrap_or(1);
    (0..nodes)
        .map(|index| Host {
            name: format!("n{}", index + 1),
            address: address(index),
            rack: format!("r{}", index % 3),
            seeds: if nodes == 1 { Vec::new() } else { (0..nodes.min(3)).map(address).collect() },
            expect,
            storage: storage.clone(),
            coordinators,
            sizes,
            window,
        })
        .collect()
}

fn operations((nodes, clients, lasts): (usize, usize, Micros), shape: Shape, random: &mut Random) -> Vec<Operation> {
    let mut all = Vec::new();
    let mean = (SECOND / 12) + random.next() % (SECOND / 3);
    let is_blind = shape == Shape::Blind;
    let keys = if is_blind { 1 } else { 2 + random.below(6) };
    let has_ttl = random.percent(40);
    let has_timestamps = random.percent(20);
    let mixed_levels = random.percent(35);
    let mut at = 0;
    while at < lasts {
        at += 1 + random.next() % (2 * mean);
        if at >= lasts {
            break;
        }
        let ttl = (has_ttl && random.percent(25)).then(|| SECOND + random.next() % (30 * SECOND));
        let key = random.below(keys);
        let with_context = !is_blind && random.percent(75);
        let wish = match random.below(100) {
            0..16 => Wish::Add { causal: random.percent(50) },
            16..24 => Wish::Rows {
                wish: [RowWish::Write, RowWish::Write, RowWish::Read, RowWish::Pages][random.below(4)],
                die: random.next(),
            },
            24..34 => Wish::ReadAdded { back: random.below(60) },
            34..37 => Wish::Made { name: random.below(TABLE_NAMES), puts: random.percent(60) },
            37..44 => {
                // Some clients' clocks are wrong; none so far ahead that owners refuse it, but for one in eight.
                let ahead = if random.percent(12) { 90_000_000 } else { 20_000_000 };
                let timestamp = (has_timestamps && random.percent(50))
                    .then(|| i64::try_from(random.next() % 40_000_000).unwrap_or(0) + ahead - 40_000_000);
                Wish::Put { key, timestamp, ttl }
            }
            44..48 => Wish::Delete { key },
            48..62 => Wish::Get { key },
            62..76 => Wish::CausalPut { key, with_context, ttl, retries: random.percent(30) },
            // A delete without context reads, and covers what it finds.
            76..80 if is_blind => Wish::CausalGet { key },
            76..80 => Wish::CausalDelete { key, with_context },
            80..94 => Wish::CausalGet { key },
            94..98 => {
                Wish::Scan { causal: random.percent(50), limit: 1 + u32::try_from(random.below(40)).unwrap_or(0) }
            }
            _ => match random.below(8) {
                0 | 1 => Wish::DropTable,
                2..4 => Wish::Alter { read_repair: random.next().to_le_bytes()[0] % 3 },
                _ => Wish::CreateTable { causal: random.percent(50) },
            },
        };
        let level = if mixed_levels {
            match random.below(40) {
                // More than there are owners, and one that is not there yet: refused.
                0 => Consistency::Exactly(4),
                1 => Consistency::Any,
                2..5 => Consistency::Three,
                _ => {
                    let levels = [Consistency::One, Consistency::Quorum, Consistency::All, Consistency::Exactly(2)];
                    levels[random.below(4)]
                }
            }
        } else {
            Consistency::Quorum
        };
        let bytes = match random.below(40) {
            _ if shape != Shape::Common => random.below(40),
            0 => 500 + random.below(1_000),
            1..6 => 200 + random.below(300),
            _ => random.below(60),
        };
        let within = if random.percent(15) { 50 * MILLISECOND + random.next() % SECOND } else { 5 * SECOND };
        all.push(Operation {
            at,
            client: random.below(clients),
            machine: random.below(nodes),
            wish,
            level,
            within,
            bytes,
        });
    }
    all
}

fn faults(nodes: usize, mix: Mix, lasts: Micros, random: &mut Random) -> Vec<Fault> {
    let mut all = Vec::new();
    // Wide apart in some seeds, on top of each other in others.
    let mean = (2 + random.next() % 40) * SECOND;
    // The atlas: only this machine may lose what it had.
    let fragile = random.below(nodes);
    let mut wiped = false;
    let mut at = 0;
    while at < lasts {
        at += SECOND / 10 + random.next() % (2 * mean);
        if at >= lasts {
            break;
        }
        let machine = random.below(nodes);
        let other = (machine + 1 + random.below(nodes.max(2) - 1)) % nodes.max(2);
        let long = random.percent(20);
        let seconds = if long { 20 + random.next() % 60 } else { 1 + random.next() % 12 };
        let lasts_for = seconds * SECOND - random.next() % SECOND;
        let mut choices: Vec<FaultKind> = Vec::new();
        if mix.process {
            choices.push(FaultKind::Kill { machine });
            choices.push(FaultKind::PowerLoss { machine, survivors: random.next() });
            choices.push(FaultKind::PowerLossAtAck { machine, survivors: random.next() });
            choices.push(FaultKind::Pause { machine });
        }
        if mix.net && nodes > 1 {
            choices.push(FaultKind::Cut { from: machine, to: other });
            choices.push(FaultKind::Isolate { machine });
            choices.push(FaultKind::Slow {
                from: machine,
                to: other,
                by: 10 * MILLISECOND + random.next() % (2 * SECOND),
            });
            choices.push(FaultKind::Reset { one: machine, other });
            choices.push(FaultKind::Flips { from: machine, to: other, per_mille: 1 + random.next() % 50 });
        }
        if mix.clock {
            let sign = if random.percent(50) { 1 } else { -1 };
            let span = [2_000, 400_000, 3_000_000, 70_000_000, 4_000_000_000][random.below(5)];
            choices.push(FaultKind::ClockJump {
                machine,
                by: sign * (1 + i64::try_from(random.next() % span).unwrap_or(0)),
            });
            choices
                .push(FaultKind::ClockDrift { machine, ppm: i64::try_from(random.next() % 1_000).unwrap_or(0) - 500 });
            choices.push(FaultKind::ClockFreeze { machine });
        }
        if mix.disk {
            choices.push(FaultKind::DiskFull { machine, bytes_left: random.next() % (16 << 10) });
            choices.push(FaultKind::DiskStall { machine });
            choices.push(FaultKind::CrashInside { machine, calls_before: random.next() % 400 });
            let (is_late, calls) = (random.percent(60), random.next() % 20);
            choices.push(FaultKind::ErrorAtStart { machine, is_late, calls });
            let (target, fault) = match random.below(8) {
                0..4 => {
                    let targets =
                        [Target::Any, Target::Write, Target::Sync, Target::SyncDir, Target::Space, Target::Read];
                    (targets[random.below(6)], DiskFault::Io)
                }
                4 => ([Target::Space, Target::SyncDir][random.below(2)], DiskFault::Full),
                5 => (Target::Open, DiskFault::TooManyFiles),
                6 => (Target::Sync, DiskFault::Sync(SyncFault::Kept)),
                _ => (Target::Sync, DiskFault::Sync(SyncFault::Reverted)),
            };
            choices.push(FaultKind::DiskError { machine, target, calls_before: random.next() % 20, fault });
        }
        if mix.copies && nodes > 1 {
            choices.push(FaultKind::Clone { machine });
        }
        if mix.images && nodes >= 3 {
            choices.push(FaultKind::RollBack { machine: fragile });
            choices.push(FaultKind::Swap { one: machine, other, survivors: random.next() });
        }
        if mix.rot && nodes >= 3 {
            let of = [RotOf::Table, RotOf::Table, RotOf::CommitLog, RotOf::Hints, RotOf::StartFile][random.below(5)];
            let how = [Rot::Flip, Rot::Zeroes, Rot::Misdirected][random.below(3)];
            choices.push(FaultKind::Rot { machine: fragile, of, how, die: random.next() });
            let (target, fault) = match random.below(2) {
                0 => (Target::Write, DiskFault::LostWrite),
                _ => (Target::Sync, DiskFault::Sync(SyncFault::Late)),
            };
            choices.push(FaultKind::DiskError { machine: fragile, target, calls_before: random.next() % 20, fault });
        }
        if mix.loss && !wiped && nodes >= 3 && random.percent(3) {
            wiped = true;
            choices = vec![FaultKind::Wipe { machine: fragile }];
        }
        if choices.is_empty() {
            return all;
        }
        let kind = choices.swap_remove(random.below(choices.len()));
        // A log has a spare segment: it takes a while to notice.
        let lasts_for = match kind {
            FaultKind::DiskFull { .. } => 5 * lasts_for,
            // A supervisor is quicker than the lease of a clock.
            FaultKind::Kill { .. } if random.percent(30) => lasts_for % SECOND,
            _ => lasts_for,
        };
        all.push(Fault { at, lasts: lasts_for, kind });
    }
    all
}
