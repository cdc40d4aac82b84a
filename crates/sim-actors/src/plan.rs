//! What one seed does at this level: the same generator's cluster, operations and faults, as far as they can be done to
//! whole nodes, and shorter; besides that what only whole nodes have: orderly stops and small mailboxes.

use kula_clock::Random;
use kula_disk::sim::{Fault as DiskFault, SyncFault};
use kula_fault::Mutant;
use kula_placement::ReadRepair;
use kula_sim::{
    plan::{Fault, FaultKind, Operation, Plan as Machines, Wish},
    process::Host,
    time::{Micros, SECOND},
};

pub struct Plan {
    pub seed: u64,
    pub hosts: Vec<Host>,
    pub read_repair: ReadRepair,
    pub rf: u32,
    pub lasts: Micros,
    pub operations: Vec<Operation>,
    pub faults: Vec<Planned>,
    /// Messages a coordinator's mailbox holds.
    pub mailbox: usize,
    /// The longest that a segment of TCP is on its way.
    pub latency_max: Micros,
    /// A violation is planted: the suite must find it.
    pub is_canary: bool,
    /// A mistake that all nodes make.
    pub mutant: Option<Mutant>,
}

pub struct Planned {
    pub at: Micros,
    pub lasts: Micros,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Level1(FaultKind),
    /// As SIGTERM: it finishes what it has, and ends.
    Stop {
        machine: usize,
    },
}

impl What {
    pub fn name(&self) -> &'static str {
        match self {
            What::Level1(kind) => kind.name(),
            What::Stop { .. } => "orderly stop",
        }
    }

    /// What a run of many seeds must have met.
    pub const NAMES: [&'static str; 14] = [
        "kill",
        "power loss",
        "one-way cut",
        "isolation",
        "slow way",
        "clock jump",
        "full disk",
        "disk EIO",
        "disk ENOSPC once",
        "disk EMFILE",
        "failed sync",
        "crash inside a call",
        "lost disk",
        "orderly stop",
    ];
}

/// Whole nodes are slower to simulate.
const LASTS_MAX: Micros = 40 * SECOND;
/// Between two orderly stops, on average.
const STOP_EVERY: Micros = 16 * SECOND;

impl Plan {
    pub fn of(seed: u64) -> Plan {
        let plan = Machines::of(seed);
        let mut random = Random::new(seed ^ 0x6163_746f_7273);
        let lasts = plan.lasts.min(LASTS_MAX);
        let nodes = plan.hosts.len();
        let is_done =
            |wish: &Wish| !matches!(wish, Wish::Rows { .. } | Wish::Made { .. } | Wish::DropTable | Wish::Alter { .. });
        let operations =
            plan.operations.into_iter().filter(|operation| operation.at < lasts && is_done(&operation.wish)).collect();
        // Level 1's are spread over a longer time.
        let squeeze = (plan.lasts / lasts).max(1);
        let mut faults: Vec<Planned> = plan
            .faults
            .into_iter()
            .filter(|fault| is_possible(&fault.kind))
            .map(|Fault { at, lasts, kind }| Planned {
                at: at / squeeze,
                lasts: lasts.min(lasts / 2 + 4 * SECOND),
                what: What::Level1(kind),
            })
            .collect();
        let mut at = random.next() % STOP_EVERY;
        while at < lasts && !faults.is_empty() {
            faults.push(Planned {
                at,
                lasts: SECOND + random.next() % (6 * SECOND),
                what: What::Stop { machine: random.below(nodes) },
            });
            at += random.next() % (2 * STOP_EVERY);
        }
        faults.sort_by_key(|fault| fault.at);
        Plan {
            seed,
            hosts: plan.hosts,
            read_repair: plan.read_repair,
            rf: plan.rf,
            lasts,
            operations,
            faults,
            mailbox: if random.percent(25) { 2 } else { 1_024 },
            latency_max: [2_000, 10_000, 60_000][random.below(3)],
            is_canary: false,
            mutant: None,
        }
    }

    pub fn has_clock_faults(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.what, What::Level1(FaultKind::ClockJump { .. })))
    }
}

/// What the network, the disk and the clock under whole nodes can do.
fn is_possible(kind: &FaultKind) -> bool {
    // The ground truth is what the disk says, so it must not lie.
    let is_told = |fault: &DiskFault| !matches!(fault, DiskFault::LostWrite | DiskFault::Sync(SyncFault::Late));
    if let FaultKind::DiskError { fault, .. } = kind {
        return is_told(fault);
    }
    matches!(
        kind,
        FaultKind::Kill { .. }
            | FaultKind::PowerLoss { .. }
            | FaultKind::Cut { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::Slow { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::DiskFull { .. }
            | FaultKind::CrashInside { .. }
            | FaultKind::Wipe { .. }
    )
}
