//! The world: machines with their disks and clocks, the network between them, and one queue of what happens next.
//!
//! One thread, one seed, no clock: the queue is ordered by virtual time and by the order of scheduling, every delay is drawn
//! from the seed, so a plan always makes the same history.

use crate::{
    disk_faults::DiskFaults,
    mailroom::{Mailroom, Scheduling},
    net::{Later, Moment, Net, NetEvent, Piece, ProcessId},
    oracle::{KeyId, Ledger, Oracle},
    plan::Plan,
    process::{Host, Message, Out, Posted, Process, Seen, StartFailure, Step, start},
    refused::{self, Met},
    time::{MILLISECOND, Micros, SECOND, SimClock, WallClock, mono},
    trace::Trace,
};
use kula_clock::Random;
use kula_disk::{
    SimDisk, Survivors,
    log::Loss,
    sim::{Fault as DiskFault, SyncFault},
};
use kula_fault::{Mutant, inside, planted};
use kula_lattice::{Mutation, Partition};
use kula_storage::{StorageError, SyncMode};
use kula_types::{Map, NodeId, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// One thing that is going to happen.
pub enum Happening {
    Message {
        process: ProcessId,
        message: Message,
    },
    /// The same, out of a mailbox.
    Mail {
        process: ProcessId,
        message: Message,
    },
    Net(NetEvent),
    /// The fault with this number begins, or ends.
    Fault {
        index: usize,
        begins: bool,
    },
    Operation {
        index: usize,
    },
    Start {
        machine: usize,
    },
    PowerOff {
        machine: usize,
        survivors: u64,
    },
}

/// A machine: what outlives its processes.
pub struct Machine {
    pub host: Host,
    pub disk: SimDisk,
    pub wall: WallClock,
    /// Boxed: each step takes it out and puts it back.
    pub process: Option<Box<Process>>,
    /// Stopped by a signal: what comes waits here.
    pub parked: Option<Vec<Message>>,
    /// Lost its power: nobody answers, not even its system.
    pub is_off: bool,
    pub faults: DiskFaults,
    pub wear: Wear,
    /// Its disk has little room left.
    pub is_filled: bool,
    /// The next failure of its disk is a power loss.
    pub crashes_inside: bool,
    /// With its next acknowledgement its power goes.
    pub dies_at_ack: Option<u64>,
    /// Its data is gone, or is a copy: the others refuse it.
    pub is_outcast: bool,
    /// An older image of its disk, and what it had said is durable then.
    pub past: Option<(SimDisk, Ledger)>,
    /// A bit of a file that it needs to start is flipped: the file, the byte, the bit.
    pub flipped: Option<(String, u64, u8)>,
    mono_base: Micros,
    started: Micros,
    pub mailroom: Mailroom,
    pub node: Option<NodeId>,
}

/// What a disk went through: it goes where the disk goes.
#[derive(Default)]
pub struct Wear {
    /// It is an older image of one that had told its peers so much, and has not told as much again.
    pub is_older: Option<Option<Timestamp>>,
    /// Bytes of it were damaged: who runs from it may have lost hints, and may answer that it cannot read.
    pub is_rotten: bool,
    /// It said of a write or a sync that it was done, and it was not.
    pub lied: bool,
    /// Of the damaged bytes, some of the commit log.
    pub is_log_rotten: bool,
    /// Its log was found damaged, or it went back, and its operator goes on without what is lost.
    pub accepts_loss: bool,
}

/// An answer of a coordinator or of a catalogue, on its way to a client.
pub struct Answers<T>(Arc<Mutex<Vec<(usize, T)>>>);

impl<T> Clone for Answers<T> {
    fn clone(&self) -> Self {
        Answers(Arc::clone(&self.0))
    }
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Answers(Arc::default())
    }
}

impl<T> Answers<T> {
    pub fn put(&self, operation: usize, answer: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((operation, answer));
    }

    pub fn take(&self) -> Vec<(usize, T)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct World {
    pub now: Micros,
    pub plan: Plan,
    pub machines: Vec<Machine>,
    pub net: Net,
    pub oracle: Oracle,
    pub trace: Trace,
    pub random: Random,
    queue: BTreeMap<(Micros, u64), Happening>,
    scheduled: u64,
    boots: u64,
    /// Which operation a coordinator's request serves.
    requests: Map<(u64, usize, u64), usize>,
    /// The operation that is being handed over now.
    pub handing_over: Option<usize>,
    /// Which client's write a mutation is.
    pub by_machine: Map<NodeId, usize>,
    /// By process and peer: which of the peer's processes said how far its clock is leased.
    told: Map<(u64, NodeId), (u64, Timestamp)>,
    pub started: u64,
    /// How often data was lost that somebody had been told of.
    pub losses: u64,
    /// Until everything heals: what mailboxes hold, and how rooms take turns.
    pub mailbox_max: Option<usize>,
    pub scheduling: Scheduling,
    /// Two machines that have each other's disks.
    pub swapped: Option<(usize, usize)>,
}

impl World {
    pub fn new(plan: Plan, keeps_lines: bool) -> World {
        let mut random = Random::new(plan.seed);
        let machines = plan.hosts.iter().map(|host| Machine::new(host.clone(), SimDisk::new(random.next()))).collect();
        let mut world = World {
            now: 0,
            machines,
            net: Net::default(),
            oracle: Oracle::default(),
            trace: Trace::new(keeps_lines),
            random,
            queue: BTreeMap::new(),
            scheduled: 0,
            boots: 0,
            requests: Map::default(),
            handing_over: None,
            by_machine: Map::default(),
            told: Map::default(),
            started: 0,
            losses: 0,
            // A cluster forms in peace.
            mailbox_max: None,
            scheduling: Scheduling::Even,
            swapped: None,
            plan,
        };
        for machine in 0..world.machines.len() {
            let at = world.random.next() % SECOND;
            world.schedule(at, Happening::Start { machine });
        }
        world
    }

    pub fn schedule(&mut self, after: Micros, what: Happening) {
        self.scheduled += 1;
        self.queue.insert((self.now + after, self.scheduled), what);
    }

    /// The next thing up to `until`, if there is one; the time is then its.
    pub fn next(&mut self, until: Micros) -> Option<Happening> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= until);
        match first {
            Some(first) => {
                let ((at, _), what) = first.remove_entry();
                self.now = at;
                Some(what)
            }
            None => {
                self.now = until;
                None
            }
        }
    }

    pub fn message(&mut self, process: ProcessId, message: Message, is_mail: bool) {
        let machine = &mut self.machines[process.machine];
        if machine.process.as_ref().is_none_or(|running| running.id != process) {
            return;
        }
        if is_mail {
            machine.mailroom.taken(message.queue());
        }
        if let Some(parked) = &mut machine.parked {
            return parked.push(message);
        }
        self.trace.mix(self.now ^ (process.machine as u64) << 56);
        self.step(process.machine, |process, step| process.handle(message, step));
    }

    /// Lets a process act, and does what it wants of the world.
    pub fn step(&mut self, machine: usize, act: impl FnOnce(&mut Process, &mut Step)) {
        let now = self.now;
        let of = &mut self.machines[machine];
        let Some(mut process) = of.process.take() else { return };
        process.clock.set(of.mono_base + now - of.started, of.wall.at(now));
        let (mut outs, mut later) = (Vec::new(), Vec::new());
        inside(|| act(&mut process, &mut Step { random: &mut self.random, outs: &mut outs, later: &mut later }));
        let posted = process.post.take();
        let id = process.id;
        self.machines[machine].process = Some(process);
        self.count_met(machine);
        // The oracle hears first what was durable, and then who was told.
        for out in outs {
            self.out(id, out);
        }
        for (after, message) in later {
            self.queue_message(id, after, message);
        }
        self.take_post(id, posted);
        // What full mailboxes refused was answered on the spot.
        while let Some(posted) = self.machines[machine].process.as_ref().map(|process| process.post.take())
            && !posted.is_empty()
        {
            self.take_post(id, posted);
        }
    }

    fn take_post(&mut self, id: ProcessId, posted: Vec<Posted>) {
        for posted in posted {
            match posted {
                Posted::Message(message) => self.queue_message(id, 0, message),
                Posted::Seen(seen) => self.seen(id, seen),
            }
        }
    }

    /// A room said no.
    pub fn met(&mut self, what: Met) {
        match what {
            Met::Sometimes(name) => self.trace.count(name),
            Met::Never(why) => self.oracle.violated(format!("a refusal came that cannot come: {why}")),
        }
    }

    /// Faults of a disk count when a call has met them.
    fn count_met(&mut self, machine: usize) {
        if self.machines[machine].faults.are_under_way() {
            self.count_all_met(machine);
        }
    }

    /// Whether there was one.
    fn count_all_met(&mut self, machine: usize) -> bool {
        let of = &mut self.machines[machine];
        let met = of.disk.take_met();
        let is_met = !met.is_empty();
        for fault in met {
            let name = match fault {
                DiskFault::Io if of.crashes_inside => "crash inside a call",
                DiskFault::Io => "disk EIO",
                DiskFault::Full if of.is_filled => "full disk",
                DiskFault::Full => "disk ENOSPC once",
                DiskFault::TooManyFiles => "disk EMFILE",
                DiskFault::LostWrite => "lost write",
                DiskFault::Sync(SyncFault::Late) => "late sync",
                DiskFault::Sync(_) => "failed sync",
            };
            of.wear.lied |= matches!(fault, DiskFault::LostWrite | DiskFault::Sync(SyncFault::Late));
            self.trace.count(name);
        }
        is_met
    }

    /// A message without delay waits its turn in its room's mailbox.
    fn queue_message(&mut self, process: ProcessId, after: Micros, message: Message) {
        let Some(machine) = self.machines.get_mut(process.machine) else { return };
        if after > 0 {
            return self.schedule(after, Happening::Message { process, message });
        }
        let queue = message.queue();
        let depth = machine.mailroom.waiting(queue);
        let message = match (self.mailbox_max, &mut machine.process) {
            (Some(cap), Some(running)) if depth >= cap && running.id == process => {
                let Some(forced) = running.refuse(message, depth, cap) else {
                    return self.trace.count("full mailboxes");
                };
                forced
            }
            _ => message,
        };
        let at = machine.mailroom.put(queue, self.now, self.scheduling, &mut self.random);
        self.schedule(at - self.now, Happening::Mail { process, message });
    }

    fn out(&mut self, process: ProcessId, out: Out) {
        let mut later = Later::new();
        let mut moment = Moment { now: self.now, random: &mut self.random, later: &mut later };
        match out {
            Out::Connect { attempt, address } => {
                let to = self.machines.iter().position(|machine| machine.host.address == address);
                if let Some(to) = to {
                    self.net.connect(process, attempt, to, &mut moment);
                }
            }
            Out::Send { connection, bytes } => {
                self.trace.mix(bytes.len() as u64);
                self.net.send(connection, process, Piece::Bytes(bytes), &mut moment);
            }
            Out::Close { connection } => self.net.close(connection, process, &mut moment),
            Out::Fence { cause } => self.fenced(process.machine, &cause),
            Out::Seen(seen) => self.seen(process, seen),
        }
        self.net_later(later);
    }

    pub fn net_later(&mut self, later: Later) {
        for (at, event) in later {
            self.schedule(at.saturating_sub(self.now), Happening::Net(event));
        }
    }

    /// Whose directory is older than what its node said when it was here before is not welcome.
    fn linked(&mut self, by: ProcessId, node: NodeId, boot: u64, lease_found: Option<Timestamp>) {
        let Some((told_by, told)) = self.told.get(&(by.boot, node)).copied() else { return };
        if told_by != boot && lease_found.is_some_and(|found| found < told) {
            let (by, older) = (by.machine + 1, self.by_machine.get(&node).map_or(0, |machine| machine + 1));
            self.oracle
                .violated(format!("n{by} speaks with n{older}, whose directory is older than what it told n{by}"));
        }
    }

    /// A node is refused for its directory. Its operator has no newer one, accepts the loss, and starts it again.
    fn went_back(&mut self, heard_by: usize, node: NodeId) {
        let Some(machine) = self.by_machine.get(&node).copied() else { return };
        // A copy hears it of itself.
        if self.machines[heard_by].is_outcast || self.machines[machine].process.is_none() {
            return;
        }
        let of = &mut self.machines[machine];
        if of.wear.is_older.is_none() && !of.wear.lied {
            return self.oracle.violated(format!("n{} is refused as older, and its disk is what it was", machine + 1));
        }
        self.trace.count("older disks refused");
        of.wear.accepts_loss = true;
        self.end_process(machine, true);
        let after = SECOND + self.random.next() % (5 * SECOND);
        self.schedule(after, Happening::Start { machine });
    }

    fn seen(&mut self, process: ProcessId, seen: Seen) {
        let name = process.machine + 1;
        match seen {
            Seen::Applied { mutation } => {
                self.trace.mix_bytes(&mutation[..mutation.len().min(16)]);
                let is_periodic = matches!(self.machines[process.machine].host.storage.sync, SyncMode::Periodic { .. });
                self.trace.line(self.now, || format!("n{name} holds {}", brief(&mutation)));
                self.oracle.applied(process.machine, &mutation, is_periodic);
                if let Some(survivors) = self.machines[process.machine].dies_at_ack.take() {
                    // The answer may be on its way, or not yet.
                    let after = self.random.next() % 400;
                    self.schedule(after, Happening::PowerOff { machine: process.machine, survivors });
                }
            }
            Seen::Sent { coordinator, request, mutation } => {
                let key = (process.boot, coordinator, request);
                if let Some(operation) = self.handing_over {
                    self.requests.entry(key).or_insert(operation);
                }
                if let Some(bytes) = mutation
                    && let Some(operation) = self.requests.get(&key).copied()
                    && let Ok(mutation) = Mutation::decode(&bytes)
                {
                    let wall = self.machines[process.machine].wall.at(self.now);
                    let dated = (process.machine, (!self.plan.has_clock_faults()).then_some(wall));
                    self.oracle.mutation_sent(Some(dated), operation, &mutation);
                }
            }
            Seen::LogSynced => self.oracle.synced(process.machine),
            Seen::Promised { acceptor } => self.oracle.promised(process.machine, acceptor),
            Seen::AppliedStale { planned, have } => {
                self.oracle.violated(format!("n{name} with ring {have} applied what was planned under ring {planned}"))
            }
            Seen::Repaired { mutation } => {
                self.trace.count("repairs sent");
                self.trace.line(self.now, || format!("n{name} repairs {}", brief(&mutation)));
            }
            Seen::HintKept { target, mutation } => {
                self.trace.count("hints kept");
                if let Some(target) = self.by_machine.get(&target).copied() {
                    self.trace
                        .line(self.now, || format!("n{name} keeps a hint for n{}: {}", target + 1, brief(&mutation)));
                    // A log with damaged bytes may lose what is put behind them too.
                    if !self.machines[process.machine].wear.is_rotten {
                        self.oracle.hinted(process.machine, target, &mutation);
                    }
                }
            }
            Seen::HintDelivered { count } => self.trace.add("hints delivered", count),
            Seen::HintGivenUp { why } => self.oracle.violated(format!("n{name} gave a hint up: {why}")),
            // One read that the disk refuses is enough.
            Seen::HintLost { .. } | Seen::HintsDamaged { .. }
                if self.machines[process.machine].faults.may_fence()
                    || self.machines[process.machine].wear.is_rotten =>
            {
                self.oracle.hints_lost(process.machine);
                self.trace.count("hints lost to the disk")
            }
            Seen::HintsDamaged { what } => {
                self.oracle.violated(format!("n{name} finds its hints damaged though its disk is sound: {what}"))
            }
            Seen::HintLost { count } => {
                self.oracle.violated(format!("n{name} lost {count} hints though its disk is sound"))
            }
            Seen::RingChanged { version } => self.trace.line(self.now, || format!("n{name} has ring {version}")),
            Seen::Down { node } => {
                self.trace.count("declared down");
                let node = self.by_machine.get(&node).map_or(0, |machine| machine + 1);
                self.trace.line(self.now, || format!("n{name} says that n{node} is down"));
            }
            Seen::Hedged => self.trace.count("hedges"),
            Seen::Refused { what } => self.met(what),
            Seen::Link { what } => {
                self.trace.count("links changed");
                self.trace.line(self.now, || format!("n{name} {what}"));
            }
            Seen::Linked { .. } if self.machines[process.machine].is_outcast => {
                self.oracle.violated(format!("n{name} is welcome somewhere, and is a copy, or lost its disk"))
            }
            Seen::Linked { node, boot, lease_found } => self.linked(process, node, boot, lease_found),
            Seen::ToldLease { node, boot, leased } => {
                self.told.insert((process.boot, node), (boot, leased));
            }
            Seen::Clock { clock } => self.oracle.heard(process.machine, clock),
            Seen::WentBack { node } => self.went_back(process.machine, node),
            Seen::Flushed { bytes } => {
                self.trace.count("flushes");
                self.trace.mix(bytes);
            }
        }
    }

    pub fn net_event(&mut self, event: NetEvent) {
        let mut later = Later::new();
        match event {
            NetEvent::Knock { connection } => {
                let to = self.net.target(connection);
                let Some(machine) = to.map(|to| &self.machines[to]) else { return };
                let (process, is_on) = (machine.process.as_ref().map(|process| process.id), !machine.is_off);
                let taken = self.net.knocked(
                    connection,
                    process,
                    is_on,
                    &mut Moment { now: self.now, random: &mut self.random, later: &mut later },
                );
                if let Some(process) = taken {
                    self.queue_message(process, 0, Message::Accepted { connection });
                }
            }
            NetEvent::Answered { connection, accepted } => {
                if let Some((process, attempt)) = self.net.answered(connection, accepted) {
                    self.queue_message(process, 0, Message::Connected { attempt, accepted, connection });
                }
            }
            NetEvent::Arrive { connection, end, piece } => {
                let machines = &self.machines;
                let is_alive = |process: ProcessId| {
                    machines[process.machine].process.as_ref().is_some_and(|running| running.id == process)
                };
                let to = self.net.arrived(
                    connection,
                    end,
                    &piece,
                    is_alive,
                    &mut Moment { now: self.now, random: &mut self.random, later: &mut later },
                );
                if let Some(process) = to {
                    self.queue_message(process, 0, Message::Arrived { connection, piece });
                }
            }
        }
        self.net_later(later);
    }

    /// A process starts on a machine; the oracle looks at what it found.
    pub fn start(&mut self, machine: usize) {
        if self.machines[machine].process.is_some() {
            return;
        }
        self.boots += 1;
        let id = ProcessId { machine, boot: self.boots << 8 | machine as u64 };
        let (now, base) = (self.now, self.random.next() % (3_600 * SECOND));
        let of = &mut self.machines[machine];
        (of.is_off, of.started, of.mono_base) = (false, now, base);
        of.mailroom.clear();
        let clock = Arc::new(SimClock::new(base, of.wall.at(now)));
        // What is met from here on is met by the start; a lie that was met before must be known now.
        self.count_all_met(machine);
        let of = &mut self.machines[machine];
        if of.wear.lied {
            // What was answered as durable may be missing now, and some files may be of no use.
            (of.wear.is_rotten, of.wear.is_log_rotten) = (true, true);
            self.oracle.destroyed(machine);
            self.forget_tables();
            self.losses += 1;
        }
        let of = &mut self.machines[machine];
        let loss = if of.wear.accepts_loss { Loss::Accept } else { Loss::Refuse };
        let started = inside(|| start(&of.host, id, &of.disk, &clock, &mut self.random, loss));
        let is_met = self.count_all_met(machine);
        if self.machines[machine].flipped.is_some() {
            self.flipped_is_refused(machine, started.is_err());
        }
        match started {
            Ok(process) => {
                self.started += 1;
                self.trace.line(now, || format!("n{} starts with ring {}", machine + 1, process.ring.version));
                let node = process.node;
                let of = &mut self.machines[machine];
                of.wear.accepts_loss = false;
                let were_faults = of.faults.started();
                if of.wear.is_older.is_some_and(|then| then <= process.peers.told.upto()) {
                    of.wear.is_older = None;
                }
                if !of.is_outcast {
                    self.by_machine.insert(node, machine);
                    self.oracle.recalled(machine, process.ring.version, &process.recalled);
                    self.oracle.recovered(machine, false, |key| found(&process, key));
                    let of = &self.machines[machine];
                    let is_disk_at_fault = were_faults || of.wear.lied || of.wear.is_rotten;
                    if self.oracle.young_recovered(machine, is_disk_at_fault, |key| found(&process, key)) {
                        self.losses += 1;
                        self.oracle.hints_unproved(machine);
                    }
                }
                let of = &mut self.machines[machine];
                if of.wear.lied {
                    of.faults.met();
                }
                if of.faults.may_fence() {
                    // A log of hints that the disk does not give at a start is put aside.
                    self.oracle.hints_lost(machine);
                }
                let of = &mut self.machines[machine];
                of.node = Some(node);
                of.process = Some(Box::new(process));
                self.step(machine, |process, step| process.started(step));
            }
            Err(failure) => self.not_started(machine, &failure, is_met),
        }
    }

    /// `is_met`: a fault of its disk was met on the way.
    fn not_started(&mut self, machine: usize, failure: &StartFailure, is_met: bool) {
        let of = &mut self.machines[machine];
        of.disk.kill();
        self.trace.count("starts refused");
        let met = match failure {
            StartFailure::Storage(error) => refused::storage_start(error),
            StartFailure::Ring(_) => Met::Sometimes("start: ring"),
            StartFailure::Catalog(_) => Met::Sometimes("start: catalog"),
            StartFailure::Handoff(_) => Met::Sometimes("start: hand-off"),
        };
        self.met(met);
        let of = &mut self.machines[machine];
        if std::mem::take(&mut of.crashes_inside) {
            let survivors = Survivors::Torn(self.random.next());
            self.lose_power(machine, survivors);
        }
        let of = &mut self.machines[machine];
        self.trace.line(self.now, || format!("n{} does not start: {failure:?}", machine + 1));
        if of.wear.is_log_rotten
            && matches!(failure, StartFailure::Storage(StorageError::LogDamaged(_) | StorageError::LogMissing))
        {
            self.trace.count("damaged logs refused");
            of.wear.accepts_loss = true;
            self.oracle.destroyed(machine);
            self.losses += 1;
            self.schedule(SECOND, Happening::Start { machine });
        } else if is_met || of.faults.may_refuse_a_start() {
            // Somebody looks after the disk, and starts it again.
            of.faults.refused_a_start();
            of.disk.clear_faults();
            of.disk.set_space(None);
            self.schedule(SECOND, Happening::Start { machine });
        } else if of.wear.lied && !of.is_outcast {
            // Named, and of no use any more: its operator puts an empty one in its place.
            of.wear.lied = false;
            self.trace.count("disks given up");
            self.wipe(machine);
        } else if !of.is_outcast {
            self.oracle.violated(format!("n{} does not start though its disk is sound: {failure:?}", machine + 1));
        }
    }

    /// The process ends at once. `said`: its system lives, and closes its connections.
    pub fn end_process(&mut self, machine: usize, said: bool) {
        let of = &mut self.machines[machine];
        of.parked = None;
        let Some(process) = of.process.take() else { return };
        let id = process.id;
        drop(process);
        of.disk.kill();
        let mut later = Later::new();
        self.net.process_gone(id, said, &mut Moment { now: self.now, random: &mut self.random, later: &mut later });
        self.net_later(later);
    }

    /// The disk failed under it, and it stopped by itself, as it must.
    fn fenced(&mut self, machine: usize, cause: &str) {
        if self.machines[machine].process.is_none() {
            return;
        }
        self.trace.count("fenced");
        self.trace.line(self.now, || format!("n{} is fenced: {cause}", machine + 1));
        if inside(|| planted(Mutant::FenceIgnored)) {
            return;
        }
        if !self.machines[machine].faults.may_fence() {
            self.oracle.violated(format!("n{} fenced itself though its disk is sound: {cause}", machine + 1));
        }
        self.end_process(machine, true);
        // A restart trusts only what the disk holds: half of the time the machine is started anew too.
        let crashes_inside = std::mem::take(&mut self.machines[machine].crashes_inside);
        if crashes_inside || self.random.percent(50) {
            let survivors = Survivors::Torn(self.random.next());
            self.lose_power(machine, survivors);
        }
        let after = SECOND + self.random.next() % (5 * SECOND);
        self.schedule(after, Happening::Start { machine });
    }

    /// What was not synced is gone, or not.
    pub fn lose_power(&mut self, machine: usize, survivors: Survivors) {
        let of = &mut self.machines[machine];
        of.disk = of.disk.crash(survivors);
        self.oracle.lost_power(machine);
        if matches!(self.machines[machine].host.storage.sync, SyncMode::Periodic { .. }) {
            self.losses += 1;
            self.oracle.hints_unproved(machine);
        }
    }

    /// Where a request for this key goes when it is handed to this machine.
    pub fn owners(&self, machine: usize, table: kula_types::TableId, key: &kula_types::PartitionKey) -> Vec<usize> {
        let Some(process) = &self.machines[machine].process else { return Vec::new() };
        // It may have been dropped since it was asked for.
        let known = process.schema.table(table).or_else(|| self.oracle.tables.get(&table));
        let Some(settings) = known.and_then(|table| process.ring.settings(&table.keyspace)) else { return Vec::new() };
        let owners = process.ring.preference_list(settings, process.ring.token(key)).owners;
        owners.iter().filter_map(|owner| self.by_machine.get(owner).copied()).collect()
    }

    /// Whether a client is served there: its process runs, goes on, and is past the stamps of its last life.
    pub fn serves(&self, machine: usize) -> bool {
        let of = &self.machines[machine];
        let is_settled = |process: &Process| process.settled_at <= mono(of.mono(self.now));
        of.parked.is_none() && !of.is_outcast && of.process.as_deref().is_some_and(is_settled)
    }

    /// Machines that run, are not stopped, and belong.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.machines
            .iter()
            .enumerate()
            .filter(|(_, machine)| !machine.is_outcast)
            .filter_map(|(index, machine)| Some((index, machine.process.as_deref()?)))
    }
}

impl Machine {
    pub fn new(host: Host, disk: SimDisk) -> Machine {
        Machine {
            host,
            disk,
            wall: WallClock::default(),
            process: None,
            parked: None,
            is_off: false,
            faults: DiskFaults::default(),
            wear: Wear::default(),
            is_filled: false,
            crashes_inside: false,
            dies_at_ack: None,
            is_outcast: false,
            past: None,
            flipped: None,
            mono_base: 0,
            started: 0,
            mailroom: Mailroom::default(),
            node: None,
        }
    }

    /// Its process's monotonic clock, now.
    pub fn mono(&self, now: Micros) -> Micros {
        self.mono_base + now - self.started
    }
}

/// What a process holds of a key; nothing is said of tables that were dropped.
pub fn found(process: &Process, (table, key): &KeyId) -> Result<Partition, String> {
    if process.schema.is_dropped(*table) {
        return Err("its table was dropped".into());
    }
    process.holds(*table, key).map_err(|error| error.to_string())
}

/// A mutation in a line of the trace.
fn brief(bytes: &[u8]) -> String {
    match Mutation::decode(&bytes::Bytes::copy_from_slice(bytes)) {
        Ok(Mutation { key, mid, .. }) => format!("{} by {mid:?}", String::from_utf8_lossy(key.as_bytes())),
        Err(error) => error.to_string(),
    }
}

/// How long a cluster may take to form.
pub const FORMS_WITHIN: Micros = 60 * SECOND;
/// How long a moment of the nemesis's clean-up takes.
pub const HEAL_STEP: Micros = 10 * MILLISECOND;
