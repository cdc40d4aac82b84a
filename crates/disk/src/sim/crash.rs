//! Every power loss a recorded run could have met, as disks to boot from (ALICE, Pillai et al., OSDI 2014).
//!
//! After each operation some changes are issued and not yet durable. The images of that moment are: none of them, all,
//! every in-order prefix, all but one, only one, every subset if there are at most `SUBSETS_ALL_MAX` (else
//! `SUBSETS_SEEDED` by seed), every write torn at sector and page edges, and lengths without their bytes. A moment that
//! differs from the one before only by one more change, and not by its mark, yields only images with that change in them:
//! the others came before. Images are made one at a time and share their pages, so a run of millions needs little memory.

use super::{
    Journal, SimDisk,
    image::mix,
    journal::Step,
    state::State,
    tree::{Change, Tree},
};
use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

/// Up to this many unsynced changes every subset is made: 2^10 images a moment at most.
const SUBSETS_ALL_MAX: usize = 10;
/// Subsets made by seed where there are more changes.
const SUBSETS_SEEDED: usize = 64;
const SECTOR_BYTES: u64 = 512;
const PAGE_BYTES: u64 = 4096;

/// The crash images of a journal, lazily, in order of time.
pub struct CrashImages {
    steps: Arc<[Step]>,
    marks: Vec<(usize, u64)>,
    seed: u64,
    salts_drawn: u64,
    salt_seed: u64,
    per_moment_max: usize,
    /// Operations done at the present moment.
    operations: usize,
    durable: Tree,
    pending: Vec<(u64, Arc<Change>)>,
    /// Images of the present moment still to be made, of `moment`'s changes.
    choices: VecDeque<Choice>,
    moment: Arc<[(u64, Arc<Change>)]>,
    is_started: bool,
}

#[derive(Clone, Debug)]
enum Choice {
    None,
    All,
    Prefix(usize),
    AllBut(usize),
    Only(usize),
    /// Bit i of word i / 64.
    Subset(Vec<u64>),
    /// One write is torn; the others survive up to it, or all.
    Torn {
        index: usize,
        others: Others,
        tear: Tear,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Before,
    All,
}

#[derive(Clone, Copy, Debug)]
enum Tear {
    /// The first `at` bytes are written, of the others `rest`.
    Cut { at: usize, rest: Rest },
    /// The file has its new length, the bytes are zero.
    SizeOnly,
}

#[derive(Clone, Copy, Debug)]
enum Rest {
    Old,
    Zero,
    Garbage,
    /// The other way round: the bytes after the cut are written, those before it are old.
    Swapped,
}

impl Rest {
    const ALL: [Rest; 4] = [Rest::Old, Rest::Zero, Rest::Garbage, Rest::Swapped];
}

impl CrashImages {
    pub fn of(journal: &Journal, seed: u64) -> CrashImages {
        CrashImages {
            steps: journal.steps.clone().into(),
            marks: journal.marks.clone(),
            seed,
            salts_drawn: journal.salts_drawn,
            salt_seed: journal.seed,
            per_moment_max: usize::MAX,
            operations: 0,
            durable: journal.base.clone(),
            pending: Vec::new(),
            choices: VecDeque::new(),
            moment: Arc::new([]),
            is_started: false,
        }
    }

    /// At most this many images after each operation, picked by seed; none and all of the changes are among them.
    pub fn per_moment(self, images_max: usize) -> CrashImages {
        CrashImages { per_moment_max: images_max, ..self }
    }

    /// Leaves out images that were met before with the same bytes and the same mark.
    pub fn distinct(self) -> impl Iterator<Item = CrashImage> {
        let mut met = BTreeSet::new();
        self.filter(move |image| met.insert(image.key()))
    }

    /// The next moment; false after the last.
    fn advance(&mut self) -> bool {
        let is_fresh = if std::mem::replace(&mut self.is_started, true) {
            let Some(step) = self.steps.get(self.operations).cloned() else { return false };
            let mark_before = self.mark();
            self.operations += 1;
            let is_more_of_the_same = self.take(step);
            !is_more_of_the_same || self.mark() != mark_before
        } else {
            true
        };
        self.moment = self.pending.as_slice().into();
        let mut choices = self.choices_of_moment(is_fresh);
        self.thin_out(&mut choices);
        self.choices = choices.into();
        true
    }

    /// Applies a step; true if it only added a change.
    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Issued { number, change } => {
                self.pending.push((number, change));
                return true;
            }
            Step::Committed(numbers) => {
                for (number, change) in &self.pending {
                    if numbers.binary_search(number).is_ok() {
                        self.durable.apply(change);
                    }
                }
                self.pending.retain(|(number, _)| numbers.binary_search(number).is_err());
            }
            Step::Forgotten(numbers) => {
                self.pending.retain(|(number, _)| numbers.binary_search(number).is_err());
            }
            Step::Rotted(change) => self.durable.apply(&change),
        }
        false
    }

    fn mark(&self) -> u64 {
        let marks_upto = self.marks.partition_point(|(operations, _)| *operations <= self.operations);
        marks_upto.checked_sub(1).map_or(0, |last| self.marks[last].1)
    }

    /// `is_fresh`: all choices; else only those in which the newest change has a part.
    fn choices_of_moment(&self, is_fresh: bool) -> Vec<Choice> {
        let count = self.pending.len();
        let mut choices = Vec::new();
        if is_fresh {
            choices.push(Choice::None);
        }
        let Some(newest) = count.checked_sub(1) else { return choices };
        choices.push(Choice::All);
        if is_fresh {
            choices.extend((1..count).map(Choice::Prefix));
            choices.extend((0..newest).map(Choice::Only));
        }
        choices.push(Choice::Only(newest));
        choices.extend((0..newest).map(Choice::AllBut));
        let has_newest = |bits: &[u64]| bits[newest / 64] >> (newest % 64) & 1 == 1;
        choices.extend(self.subsets(count).filter(|bits| is_fresh || has_newest(bits)).map(Choice::Subset));
        for index in 0..count {
            self.tears(index, newest, is_fresh, &mut choices);
        }
        choices
    }

    fn subsets(&self, count: usize) -> impl Iterator<Item = Vec<u64>> {
        let is_all = count <= SUBSETS_ALL_MAX;
        let subsets = if is_all { 1 << count } else { SUBSETS_SEEDED };
        let seed = self.seed ^ mix(self.operations as u64);
        (0..subsets as u64).map(move |number| {
            let word = |word: u64| if is_all { number } else { mix(seed ^ mix(number << 32 | word)) };
            (0..count.div_ceil(64) as u64).map(word).collect()
        })
    }

    fn tears(&self, index: usize, newest: usize, is_fresh: bool, choices: &mut Vec<Choice>) {
        let Change::Write { offset, bytes, .. } = &*self.pending[index].1 else { return };
        let seed = mix(self.seed ^ mix(self.operations as u64) ^ mix(index as u64 + 1));
        let cuts = cuts_of(*offset, bytes.len(), seed);
        let seeded_rest = |at: usize| Rest::ALL[pick(mix(seed ^ at as u64), Rest::ALL.len())];
        if index == newest {
            let each = cuts.iter().flat_map(|at| Rest::ALL.map(|rest| Tear::Cut { at: *at, rest }));
            let each = each.chain([Tear::SizeOnly]);
            choices.extend(each.map(|tear| Choice::Torn { index, others: Others::Before, tear }));
            return;
        }
        let each = cuts.iter().map(|at| Tear::Cut { at: *at, rest: seeded_rest(*at) }).chain([Tear::SizeOnly]);
        choices.extend(each.map(|tear| Choice::Torn { index, others: Others::All, tear }));
        if let Some(at) = cuts.get(pick(seed, cuts.len())).filter(|_| is_fresh) {
            let tear = Tear::Cut { at: *at, rest: seeded_rest(*at) };
            choices.push(Choice::Torn { index, others: Others::Before, tear });
        }
    }

    /// Keeps the first two, which are none and all, and a seeded pick of the others.
    fn thin_out(&self, choices: &mut Vec<Choice>) {
        let (count, kept) = (choices.len(), self.per_moment_max.max(2));
        if count <= kept {
            return;
        }
        for index in 2..kept {
            choices
                .swap(index, index + pick(mix(self.seed ^ mix(self.operations as u64) ^ index as u64), count - index));
        }
        choices.truncate(kept);
    }

    fn image(&self, choice: Choice) -> CrashImage {
        let mut tree = self.durable.clone();
        let survives = |index: usize| match &choice {
            Choice::None => false,
            Choice::All => true,
            Choice::Prefix(count) => index < *count,
            Choice::AllBut(other) => index != *other,
            Choice::Only(one) => index == *one,
            Choice::Subset(bits) => bits[index / 64] >> (index % 64) & 1 == 1,
            Choice::Torn { index: torn, others, .. } => index < *torn || *others == Others::All,
        };
        for (index, (_, change)) in self.moment.iter().enumerate() {
            match &choice {
                Choice::Torn { index: torn, tear, .. } if index == *torn => apply_torn(&mut tree, change, *tear),
                _ if survives(index) => tree.apply(change),
                _ => {}
            }
        }
        CrashImage {
            hash: tree.hash(),
            tree,
            operations: self.operations,
            mark: self.mark(),
            choice,
            moment: self.moment.clone(),
            salt_seed: self.salt_seed,
            salts_drawn: self.salts_drawn,
        }
    }
}

impl Iterator for CrashImages {
    type Item = CrashImage;

    fn next(&mut self) -> Option<CrashImage> {
        loop {
            if let Some(choice) = self.choices.pop_front() {
                return Some(self.image(choice));
            }
            if !self.advance() {
                return None;
            }
        }
    }
}

/// A seeded number below `count`.
fn pick(seed: u64, count: usize) -> usize {
    usize::try_from(seed % count.max(1) as u64).unwrap_or(0)
}

/// Where a write may tear: after its first, middle and last sector and page edge, and at one seeded byte.
fn cuts_of(offset: u64, bytes: usize, seed: u64) -> Vec<usize> {
    let end = offset + bytes as u64;
    let mut cuts = BTreeSet::new();
    for unit in [SECTOR_BYTES, PAGE_BYTES] {
        let (first, last) = (offset / unit + 1, (end - 1) / unit);
        if first <= last {
            cuts.extend([first, (first + last) / 2, last].map(|edge| edge * unit - offset));
        }
    }
    if bytes > 1 {
        cuts.insert(1 + seed % (bytes as u64 - 1));
    }
    cuts.into_iter().filter_map(|cut| usize::try_from(cut).ok()).collect()
}

fn apply_torn(tree: &mut Tree, change: &Change, tear: Tear) {
    let Change::Write { inode, offset, bytes } = change else { unreachable!("only writes tear") };
    let image = tree.file_mut(*inode);
    let end = offset + bytes.len() as u64;
    match tear {
        Tear::SizeOnly => image.grow(end),
        Tear::Cut { at, rest: Rest::Swapped } => image.write(&bytes[at..], offset + at as u64),
        Tear::Cut { at, rest } => {
            let (head, lost) = bytes.split_at(at);
            image.write(head, *offset);
            let noise = |index: usize| mix(end ^ mix(index as u64)).to_le_bytes()[0];
            match rest {
                Rest::Old | Rest::Swapped => {}
                Rest::Zero => image.write(&vec![0; lost.len()], offset + at as u64),
                Rest::Garbage => {
                    let garbage: Vec<u8> = (0..lost.len()).map(noise).collect();
                    image.write(&garbage, offset + at as u64);
                }
            }
        }
    }
}

/// Applies a change; if it is a write, only a part of it, by a die.
pub(super) fn apply_torn_somewhere(tree: &mut Tree, change: &Change, die: u64) {
    let Change::Write { offset, bytes, .. } = change else { return tree.apply(change) };
    let cuts = cuts_of(*offset, bytes.len(), mix(die));
    match cuts.get(pick(die, cuts.len())) {
        Some(at) => {
            let rest = Rest::ALL[pick(mix(die), Rest::ALL.len())];
            apply_torn(tree, change, Tear::Cut { at: *at, rest });
        }
        // One byte is whole or not there.
        None => tree.apply(change),
    }
}

/// What one power loss leaves.
#[derive(Clone)]
pub struct CrashImage {
    tree: Tree,
    hash: u64,
    operations: usize,
    mark: u64,
    choice: Choice,
    moment: Arc<[(u64, Arc<Change>)]>,
    salt_seed: u64,
    salts_drawn: u64,
}

impl CrashImage {
    /// A disk that holds it, without faults or locks. It records, so that recovery from it can be crashed in turn.
    pub fn disk(&self) -> SimDisk {
        SimDisk::with(State::new(self.tree.clone(), self.salt_seed, self.salts_drawn, true))
    }

    /// Of names, lengths and bytes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Of the hash and the mark: two images with the same bytes differ if more was acknowledged before one of them.
    pub fn key(&self) -> u64 {
        mix(self.hash ^ mix(self.mark))
    }

    /// How many operations of the journal had been issued when the power went.
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// The last mark set before the power went, 0 if none.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// The moment and what survived, in words.
    pub fn describe(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsynced = self.moment.len();
        write!(f, "after operation {} (mark {}), of {unsynced} unsynced changes ", self.operations, self.mark)?;
        let change = |index: usize| &self.moment[index].1;
        match &self.choice {
            Choice::None => write!(f, "none"),
            Choice::All => write!(f, "all"),
            Choice::Prefix(count) => write!(f, "the first {count}"),
            Choice::AllBut(index) => write!(f, "all but {index} ({})", change(*index)),
            Choice::Only(index) => write!(f, "only {index} ({})", change(*index)),
            Choice::Subset(bits) => write!(f, "subset {bits:x?}"),
            Choice::Torn { index, others, tear } => {
                write!(f, "{others:?} others and {index} ({}) torn: {tear:?}", change(*index))
            }
        }
    }
}

impl fmt::Debug for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashImage({self})")
    }
}
