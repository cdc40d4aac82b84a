//! Disks that are not what their machine left: an older image of it, another machine's, one with damaged bytes.
//!
//! What the oracle is told of each stands here. An image gone back holds what its machine had said when it was taken. Of
//! a swapped disk the node goes where the disk goes. A damaged log may have lost anything; damage elsewhere loses nothing
//! that is answered: it is *unknown* there, and its other owners have it (the fault atlas: one machine a seed).

use crate::{
    disk_faults::DiskFaults,
    plan::{Rot, RotOf},
    time::SECOND,
    world::{Happening, World},
};
use kula_clock::Random;
use kula_disk::{SimDisk, Survivors};
use kula_storage::IdentityFile;
use kula_types::TableId;
use std::{collections::BTreeSet, sync::Arc};

/// Bytes that a torn or lost page has.
const PAGE_BYTES: u64 = 4096;
/// Places that are looked at to find one that was written.
const PLACES_TRIED: usize = 200;
/// Where the blocks of a table's file begin: a damaged header refuses the start.
const TABLE_HEADER_BYTES: u64 = 48;

impl World {
    /// An image of the disk as a power loss now would leave it.
    pub fn take_image(&mut self, machine: usize) -> bool {
        let seed = self.random.next();
        let of = &mut self.machines[machine];
        if of.process.is_none() || of.is_outcast || of.past.is_some() {
            return false;
        }
        let image = of.disk.crash(Survivors::Seeded(seed));
        image.reseed(seed);
        of.past = Some((image, self.oracle.ledger_of(machine)));
        true
    }

    /// The machine starts again from the image that was taken.
    pub fn roll_back(&mut self, machine: usize) {
        let Some((image, ledger)) = self.machines[machine].past.take() else { return };
        self.end_process(machine, false);
        let of = &mut self.machines[machine];
        let now = IdentityFile::open_or_create(Arc::new(of.disk.crash(Survivors::All)), None);
        let told = now.ok().and_then(|file| file.identity().told);
        of.wear.is_older = of.wear.is_older.max(Some(told));
        of.disk = image;
        (of.faults, of.crashes_inside) = (DiskFaults::default(), false);
        self.oracle.rolled_back(machine, ledger);
        self.forget_tables();
        self.losses += 1;
        self.trace.count("disks gone back");
        // To put a disk back takes longer than the clock's lease.
        self.schedule(6 * SECOND, Happening::Start { machine });
    }

    /// A disk lost what it held. Tables that no other one has are gone with it, though their making was answered.
    pub fn forget_tables(&mut self) {
        let belong = self.machines.iter().filter(|of| !of.is_outcast);
        let schemas = belong.filter_map(|of| kula_catalog::open(&of.disk.crash(Survivors::All), None).ok());
        let held: BTreeSet<TableId> =
            schemas.flat_map(|schema| schema.tables().map(|table| table.id).collect::<Vec<_>>()).collect();
        let before = self.oracle.made.len();
        self.oracle.made.retain(|made| held.contains(&made.table));
        let lost = (before - self.oracle.made.len()) as u64;
        if lost > 0 {
            self.trace.add("tables lost with their disks", lost);
        }
    }

    pub fn swap(&mut self, one: usize, other: usize, survivors: u64) -> bool {
        let is_fit = |machine: usize| {
            let of = &self.machines[machine];
            !of.is_outcast && of.flipped.is_none()
        };
        if one == other || self.swapped.is_some() || !is_fit(one) || !is_fit(other) {
            return false;
        }
        self.swapped = Some((one, other));
        self.change_disks(one, other, survivors);
        true
    }

    /// Each machine gets its own disk again, if it has another's.
    pub fn swap_back(&mut self, one: usize, other: usize, survivors: u64) {
        if self.swapped == Some((one, other)) {
            self.swapped = None;
            self.change_disks(one, other, survivors);
        }
    }

    fn change_disks(&mut self, one: usize, other: usize, survivors: u64) {
        for machine in [one, other] {
            self.power_off(machine, survivors);
            let of = &mut self.machines[machine];
            (of.past, of.faults, of.crashes_inside) = (None, DiskFaults::default(), false);
        }
        let (low, high) = (one.min(other), one.max(other));
        let (left, right) = self.machines.split_at_mut(high);
        let (low, high) = (&mut left[low], &mut right[0]);
        std::mem::swap(&mut low.disk, &mut high.disk);
        std::mem::swap(&mut low.node, &mut high.node);
        std::mem::swap(&mut low.wear, &mut high.wear);
        for machine in [one, other] {
            if let Some(node) = self.machines[machine].node {
                self.by_machine.insert(node, machine);
            }
            self.schedule(SECOND, Happening::Start { machine });
        }
        self.oracle.swapped(one, other);
        self.losses += 1;
    }

    /// Damages bytes at rest; false if there are none of the kind.
    pub fn rot(&mut self, machine: usize, of: RotOf, how: Rot, die: u64) -> bool {
        let mut random = Random::new(die);
        if self.machines[machine].is_outcast || self.machines[machine].flipped.is_some() || self.swapped.is_some() {
            return false;
        }
        if matches!(of, RotOf::CommitLog | RotOf::StartFile) {
            self.power_off(machine, die);
        }
        let disk = self.machines[machine].disk.clone();
        let of_table = random.percent(25);
        let is_of = |name: &str| match of {
            RotOf::Table => name.ends_with("-Data.db") || name.ends_with("-Filter.db"),
            RotOf::CommitLog => name.starts_with("commitlog/"),
            RotOf::Hints => name.starts_with("hints/"),
            RotOf::StartFile => {
                let is_state = ["identity", "ring.state", "ring.ballots", "schema.state"].contains(&name);
                if of_table { name.ends_with("-Statistics.db") } else { is_state || name.ends_with("/manifest") }
            }
        };
        let header = if of == RotOf::Table { TABLE_HEADER_BYTES } else { 0 };
        let files: Vec<(String, u64)> =
            disk.files().into_iter().filter(|(name, bytes)| is_of(name) && *bytes > header).collect();
        if files.is_empty() {
            return false;
        }
        // Somewhere in what was written: much of a log is room that nobody has used yet.
        let mut place = || {
            let (name, bytes) = files[random.below(files.len())].clone();
            let at = header + random.next() % (bytes - header);
            (name, bytes, at)
        };
        let is_written = |(name, _, at): &(String, u64, u64)| disk.peek(name, *at, 1).is_ok_and(|byte| byte != [0]);
        let first = place();
        let tried = std::iter::once(first.clone()).chain(std::iter::repeat_with(place).take(PLACES_TRIED));
        let (name, bytes, at) = tried.into_iter().find(is_written).unwrap_or(first);
        self.trace.line(self.now, || format!("n{} has {how:?} in {name} at {at} of {bytes}", machine + 1));
        if of == RotOf::StartFile {
            let bit = random.next().to_le_bytes()[0] % 8;
            damage(&disk, &name, at, bit);
            self.machines[machine].flipped = Some((name, at, bit));
            return true;
        }
        let length = 1 + random.next() % PAGE_BYTES.min(bytes - at);
        let length = usize::try_from(length).unwrap_or(1);
        let done = match how {
            Rot::Flip => disk.flip_bit(&name, at, random.next().to_le_bytes()[0]),
            Rot::Zeroes => disk.overwrite(&name, at, &vec![0; length]),
            Rot::Misdirected => {
                let (other, there) = files[random.below(files.len())].clone();
                let from = header + random.next() % (there - header);
                let found = disk.peek(&other, from, length);
                found.and_then(|found| disk.overwrite(&name, at, &found))
            }
        };
        if let Err(error) = done {
            self.oracle.violated(format!("the simulator cannot damage {name}: {error}"));
        }
        self.machines[machine].wear.is_rotten = true;
        match of {
            RotOf::CommitLog => {
                self.machines[machine].wear.is_log_rotten = true;
                self.oracle.destroyed(machine);
                self.losses += 1;
            }
            RotOf::Hints => self.oracle.hints_lost(machine),
            RotOf::Table | RotOf::StartFile => {}
        }
        true
    }

    /// A start while a bit of a file that it needs was flipped must be refused; then the file is put back.
    pub fn flipped_is_refused(&mut self, machine: usize, is_refused: bool) {
        let of = &mut self.machines[machine];
        let Some((name, at, bit)) = of.flipped.take() else { return };
        damage(&of.disk, &name, at, bit);
        // Somebody looks after it and starts it again, as after a fault of the disk.
        if is_refused {
            of.faults.met();
            self.trace.count("damaged start files refused");
        } else {
            self.oracle.violated(format!("n{} starts though bit {bit} of byte {at} of {name} is wrong", machine + 1));
        }
    }
}

fn damage(disk: &SimDisk, name: &str, at: u64, bit: u8) {
    drop(disk.flip_bit(name, at, bit));
}
