//! The nemesis: begins and ends the faults of a plan, and heals all of them in the end.

use crate::{
    mailroom::Scheduling,
    net::{Later, Moment},
    plan::FaultKind,
    process::Host,
    time::{Micros, SECOND, SimClock},
    world::{Happening, Machine, World},
};
use kula_disk::{
    SimDisk, Survivors,
    log::Loss,
    sim::{Fault as DiskFault, Target},
};
use std::sync::Arc;

impl World {
    pub fn fault(&mut self, index: usize, begins: bool) {
        let Some(fault) = self.plan.faults.get(index).cloned() else { return };
        let name = fault.kind.name();
        let word = if begins { "begins" } else { "ends" };
        self.trace.line(self.now, || format!("nemesis: {:?} {word}", fault.kind));
        if begins {
            self.schedule(fault.lasts, Happening::Fault { index, begins: false });
            if self.begin(index, &fault.kind, fault.lasts) {
                self.trace.count(name);
            }
        } else {
            self.end(index, &fault.kind);
        }
    }

    /// Whether it is met now; a disk's faults are when a call meets them.
    fn begin(&mut self, index: usize, kind: &FaultKind, lasts: Micros) -> bool {
        let now = self.now;
        match *kind {
            FaultKind::Kill { machine } => {
                self.end_process(machine, true);
            }
            FaultKind::PowerLoss { machine, survivors } => self.power_off(machine, survivors),
            FaultKind::PowerLossAtAck { machine, survivors } => self.machines[machine].dies_at_ack = Some(survivors),
            FaultKind::Pause { machine } => {
                let of = &mut self.machines[machine];
                if of.process.is_some() && of.parked.is_none() {
                    of.parked = Some(Vec::new());
                }
            }
            FaultKind::Cut { from, to } => self.net.way(from, to).cut = true,
            FaultKind::Isolate { machine } => {
                for other in (0..self.machines.len()).filter(|other| *other != machine) {
                    self.net.way(machine, other).cut = true;
                    self.net.way(other, machine).cut = true;
                }
            }
            FaultKind::Slow { from, to, by } => self.net.way(from, to).slow = by,
            FaultKind::Flips { from, to, per_mille } => self.net.way(from, to).flips = per_mille,
            FaultKind::Reset { one, other } => {
                let mut later = Later::new();
                let broken = self.net.reset(
                    one,
                    other,
                    &mut Moment { now: self.now, random: &mut self.random, later: &mut later },
                );
                self.trace.add("connections reset", broken as u64);
                self.net_later(later);
            }
            FaultKind::ClockJump { machine, by } => self.machines[machine].wall.offset += by,
            FaultKind::ClockDrift { machine, ppm } => self.machines[machine].wall.drift_ppm = ppm,
            FaultKind::ClockFreeze { machine } => self.machines[machine].wall.freeze(now),
            FaultKind::DiskFull { machine, bytes_left } => {
                let of = &mut self.machines[machine];
                of.faults.begin(index, DiskFault::Full);
                of.is_filled = true;
                of.fill(bytes_left);
                return false;
            }
            FaultKind::DiskStall { machine } => {
                let of = &mut self.machines[machine];
                let until = of.mono(now) + lasts;
                if let Some(process) = &mut of.process {
                    process.storage.stalled_until = until;
                }
            }
            FaultKind::DiskError { machine, target, calls_before, fault } => {
                let of = &mut self.machines[machine];
                of.faults.begin(index, fault);
                of.disk.inject(target, calls_before, fault);
                return false;
            }
            FaultKind::ErrorAtStart { machine, is_late, calls } => {
                self.end_process(machine, true);
                let of = &mut self.machines[machine];
                let calls_before = if is_late { of.reads_of_a_start(now).saturating_sub(1 + calls) } else { calls };
                of.faults.begin(index, DiskFault::Io);
                of.disk.inject(Target::Read, calls_before, DiskFault::Io);
                self.schedule(SECOND / 4, Happening::Start { machine });
            }
            FaultKind::CrashInside { machine, calls_before } => {
                let of = &mut self.machines[machine];
                of.faults.begin(index, DiskFault::Io);
                of.crashes_inside = true;
                of.disk.inject(Target::Any, calls_before, DiskFault::Io);
                return false;
            }
            FaultKind::Wipe { machine } => self.wipe(machine),
            FaultKind::Clone { machine } => return self.clone_machine(machine),
            FaultKind::RollBack { machine } => return self.take_image(machine),
            FaultKind::Swap { one, other, survivors } => return self.swap(one, other, survivors),
            FaultKind::Rot { machine, of, how, die } => return self.rot(machine, of, how, die),
        }
        true
    }

    fn end(&mut self, index: usize, kind: &FaultKind) {
        let now = self.now;
        match *kind {
            FaultKind::Kill { machine }
            | FaultKind::PowerLoss { machine, .. }
            | FaultKind::PowerLossAtAck { machine, .. }
            | FaultKind::Wipe { machine }
            | FaultKind::Rot { machine, .. } => {
                self.machines[machine].dies_at_ack = None;
                self.schedule(0, Happening::Start { machine });
            }
            FaultKind::Pause { machine } => self.resume(machine),
            FaultKind::Cut { from, to } => self.open(from, to),
            FaultKind::Isolate { machine } => {
                for other in (0..self.machines.len()).filter(|other| *other != machine) {
                    self.open(machine, other);
                    self.open(other, machine);
                }
            }
            FaultKind::Slow { from, to, .. } => self.net.way(from, to).slow = 0,
            FaultKind::Flips { from, to, .. } => self.net.way(from, to).flips = 0,
            FaultKind::ClockFreeze { machine } => self.machines[machine].wall.thaw(now),
            FaultKind::DiskFull { machine, .. } => {
                let of = &mut self.machines[machine];
                of.faults.end(index);
                of.is_filled = false;
                of.disk.set_space(None);
            }
            FaultKind::DiskStall { machine } => {
                if let Some(process) = &mut self.machines[machine].process {
                    process.storage.stalled_until = 0;
                }
            }
            FaultKind::DiskError { machine, .. }
            | FaultKind::ErrorAtStart { machine, .. }
            | FaultKind::CrashInside { machine, .. } => {
                let of = &mut self.machines[machine];
                of.faults.end(index);
                of.disk.clear_faults();
            }
            FaultKind::RollBack { machine } => self.roll_back(machine),
            FaultKind::Swap { one, other, survivors } => self.swap_back(one, other, survivors.rotate_left(1)),
            FaultKind::Reset { .. } | FaultKind::ClockJump { .. } | FaultKind::ClockDrift { .. } => {}
            FaultKind::Clone { machine } => {
                let name = format!("n{}b", machine + 1);
                if let Some(copy) = self.machines.iter().position(|of| of.host.name == name) {
                    self.end_process(copy, true);
                }
            }
        }
    }

    /// Nobody says so to its peers, and some of what was not synced is gone.
    pub fn power_off(&mut self, machine: usize, survivors: u64) {
        self.end_process(machine, false);
        self.machines[machine].is_off = true;
        let survivors = match survivors % 5 {
            0 | 1 => Survivors::None,
            2 => Survivors::All,
            3 => Survivors::Torn(survivors),
            _ => Survivors::Seeded(survivors),
        };
        self.lose_power(machine, survivors);
    }

    fn resume(&mut self, machine: usize) {
        let of = &mut self.machines[machine];
        let Some(parked) = of.parked.take() else { return };
        let Some(process) = of.process.as_ref().map(|process| process.id) else { return };
        for (after, message) in (1..).zip(parked) {
            // In the order in which it would have taken them.
            self.schedule(after, Happening::Message { process, message });
        }
    }

    fn open(&mut self, from: usize, to: usize) {
        let mut later = Later::new();
        self.net.open(from, to, &mut Moment { now: self.now, random: &mut self.random, later: &mut later });
        self.net_later(later);
    }

    /// Everything the machine had is gone. Its peers refuse the stranger at its address: to replace it is a command.
    pub fn wipe(&mut self, machine: usize) {
        self.end_process(machine, false);
        let seed = self.random.next();
        let of = &mut self.machines[machine];
        of.disk = SimDisk::new(seed);
        of.is_outcast = true;
        self.oracle.destroyed(machine);
        self.forget_tables();
        self.losses += 1;
    }

    /// A copy of the directory, taken as it is on the disk, runs elsewhere.
    fn clone_machine(&mut self, machine: usize) -> bool {
        let of = &self.machines[machine];
        let copy = format!("{}b", of.host.name);
        // One copy of a machine at a time.
        if of.process.is_none() || of.is_outcast || self.machines.iter().any(|other| other.host.name == copy) {
            return false;
        }
        let host = Host { name: copy, address: format!("{}b:7000", of.host.name), ..of.host.clone() };
        let mut copy = Machine::new(host, of.disk.crash(Survivors::All));
        copy.is_outcast = true;
        self.machines.push(copy);
        let machine = self.machines.len() - 1;
        self.schedule(0, Happening::Start { machine });
        true
    }

    /// Ends every fault: ways open, disks sound, clocks right again, everybody runs.
    pub fn heal(&mut self) {
        self.trace.line(self.now, || "nemesis: everything heals".into());
        let ways: Vec<(usize, usize)> = self.net.ways().map(|(way, _)| way).collect();
        for (from, to) in ways {
            let way = self.net.way(from, to);
            (way.slow, way.flips) = (0, 0);
            self.open(from, to);
        }
        (self.mailbox_max, self.scheduling) = (None, Scheduling::Even);
        if let Some((one, other)) = self.swapped {
            self.swap_back(one, other, 0);
        }
        for machine in 0..self.machines.len() {
            self.resume(machine);
            self.machines[machine].past = None;
            let now = self.now;
            let of = &mut self.machines[machine];
            of.faults.end_all();
            (of.is_filled, of.dies_at_ack) = (false, None);
            of.disk.clear_faults();
            of.disk.set_space(None);
            of.wall.thaw(now);
            (of.wall.offset, of.wall.drift_ppm) = (0, 0);
            if let Some(process) = &mut of.process {
                process.storage.stalled_until = 0;
            }
            let is_copy = of.host.name.ends_with('b');
            if of.process.is_none() && !is_copy {
                self.schedule(SECOND, Happening::Start { machine });
            } else if is_copy {
                self.end_process(machine, true);
            }
        }
    }
}

impl Machine {
    /// What opening its storage reads now: at last the log.
    fn reads_of_a_start(&self, now: Micros) -> u64 {
        let copy = self.disk.crash(Survivors::All);
        let clock = SimClock::new(0, self.wall.at(now));
        drop(kula_storage::open(Arc::new(copy.clone()), &self.host.storage, &clock, Loss::Refuse));
        copy.calls(Target::Read)
    }

    /// Leaves so many bytes on its disk.
    fn fill(&mut self, bytes_left: u64) {
        const PLENTY: u64 = 1 << 40;
        self.disk.set_space(Some(PLENTY));
        let used = PLENTY - kula_disk::Disk::free_bytes(&self.disk).unwrap_or(PLENTY);
        self.disk.set_space(Some(used + bytes_left));
    }
}
