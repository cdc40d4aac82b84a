//! A page of a range of tokens, asked of the shards that hold part of it and merged in token order.
//!
//! A slot of the token space lies in one shard, so two shards never answer the same place, and the merge is a sort. A page
//! begins with one slot and takes in twice as many each round until it is full: in a large table one shard answers it and
//! nothing is read in vain; in a small one nine rounds have seen every slot. Bounded: one round is under way at a time,
//! one question a shard, and each answers at most what the page still has room for.

use crate::{ReplicaError, messages::Outcome};
use kula_actor::{Lost, Reply};
use kula_storage::{
    RangePage, ReadRange, StorageDoors, StorageError,
    engine::Sharding,
    limits::{RANGE_BYTES_MAX, RANGE_PARTITIONS_MAX},
};
use kula_types::{PartitionKey, TableId, Token};
use std::sync::{Arc, Mutex, PoisonError};

/// Between two partitions: right behind this one. An empty key stands before all keys of its token.
type Place = (Token, PartitionKey);
type Answered = Reply<Result<Outcome, ReplicaError>>;

/// A request for a page that passed the replica's checks.
pub struct RangeOp {
    pub(crate) range: Range,
    pub(crate) reply: Answered,
}

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub table: TableId,
    pub after: Place,
    /// The last token.
    pub through: Token,
    pub partitions_max: usize,
    pub bytes_max: usize,
}

/// What the shards of one round are asked, each the same.
#[derive(Debug)]
struct Round {
    shards: Vec<u16>,
    range: Range,
}

#[derive(Debug)]
enum Step {
    Wait,
    Ask(Round),
    Done(RangePage),
}

/// The page so far, pure.
#[derive(Debug)]
struct Gather {
    sharding: Sharding,
    /// What is still to be read. Invariant: all before `after` stands in `rows`.
    range: Range,
    rows: Vec<(Token, PartitionKey, kula_lattice::Partition)>,
    /// Of the round under way: its slots, its last token, the answers it lacks, those it has.
    slots: u64,
    through: Token,
    waiting: usize,
    pages: Vec<RangePage>,
}

impl Gather {
    fn new(sharding: Sharding, range: Range) -> Self {
        let (partitions_max, bytes_max) =
            (range.partitions_max.clamp(1, RANGE_PARTITIONS_MAX), range.bytes_max.min(RANGE_BYTES_MAX));
        let through = range.after.0;
        let range = Range { partitions_max, bytes_max, ..range };
        Gather { sharding, range, rows: Vec::new(), slots: 1, through, waiting: 0, pages: Vec::new() }
    }

    fn next_round(&mut self) -> Step {
        let Range { after: (from, _), through, .. } = self.range;
        self.through = self.sharding.end_of(from, self.slots).min(through);
        self.slots = self.slots.saturating_mul(2);
        let shards = self.sharding.shards_of(from, self.through);
        if shards.is_empty() {
            // A range that ends before it begins.
            return Step::Done(RangePage::default());
        }
        self.waiting = shards.len();
        Step::Ask(Round { shards, range: Range { through: self.through, ..self.range.clone() } })
    }

    fn take(&mut self, page: RangePage) -> Step {
        assert!(self.waiting > 0, "an answer for each question");
        self.waiting -= 1;
        self.pages.push(page);
        if self.waiting > 0 {
            return Step::Wait;
        }
        let pages = std::mem::take(&mut self.pages);
        let RangePage { rows, resume } = merge(pages);
        for (token, key, partition) in rows {
            let bytes = key.as_bytes().len() + partition.heap_bytes();
            // Together the shards may have more than a page takes; its first partition always has room.
            if self.range.partitions_max == 0 || (bytes > self.range.bytes_max && !self.rows.is_empty()) {
                return Step::Done(self.so_far());
            }
            self.range.partitions_max -= 1;
            self.range.bytes_max = self.range.bytes_max.saturating_sub(bytes);
            self.range.after = (token, key.clone());
            self.rows.push((token, key, partition));
        }
        if resume.is_some() {
            return Step::Done(self.page(resume));
        }
        match self.through.0.checked_add(1) {
            Some(next) if self.through < self.range.through => {
                self.range.after = (Token(next), PartitionKey::copy_from(&[]));
                let full = self.range.partitions_max == 0 || self.range.bytes_max == 0;
                if full { Step::Done(self.so_far()) } else { self.next_round() }
            }
            _ => Step::Done(self.page(None)),
        }
    }

    /// What was found before `after`.
    fn so_far(&mut self) -> RangePage {
        let reached = self.range.after.clone();
        self.page(Some(reached))
    }

    fn page(&mut self, resume: Option<Place>) -> RangePage {
        RangePage { rows: std::mem::take(&mut self.rows), resume }
    }

    fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }
}

/// The pages of shards as one: good up to the least place that any shard stopped at.
fn merge(pages: Vec<RangePage>) -> RangePage {
    let resume = pages.iter().filter_map(|page| page.resume.clone()).min();
    let is_good = |token: Token, key: &PartitionKey| resume.as_ref().is_none_or(|(to, of)| (token, key) <= (*to, of));
    let rows = pages.into_iter().flat_map(|page| page.rows);
    let mut rows: Vec<_> = rows.filter(|(token, key, _)| is_good(*token, key)).collect();
    rows.sort_unstable_by(|(token, key, _), (other_token, other_key, _)| (token, key).cmp(&(other_token, other_key)));
    RangePage { rows, resume }
}

/// A page under way. Whoever brings the last answer of a round goes on with the next.
struct Gathering {
    shards: Shards,
    /// None once it is answered.
    state: Mutex<Option<(Gather, Answered)>>,
}

/// How a shard is asked; it refuses by the question's reply.
pub type Shards = Arc<dyn Fn(u16, ReadRange) + Send + Sync>;

/// Answers the request once all shards that matter have.
pub(crate) fn begin(storage: &StorageDoors, op: RangeOp) {
    let (sharding, storage) = (storage.sharding(), storage.clone());
    let ask = move |shard: u16, question: ReadRange| {
        if let Err(back) = storage.shards[usize::from(shard)].try_tell(question) {
            back.message.reply.send(Err(crate::actor::refusal(&back.error)));
        }
    };
    begin_over(sharding, Arc::new(ask), op);
}

/// As the replica's actor does, over shards that are asked in any way.
pub fn begin_over(sharding: Sharding, shards: Shards, RangeOp { range, reply }: RangeOp) {
    let mut gather = Gather::new(sharding, range);
    match gather.next_round() {
        Step::Ask(round) => {
            let state = Mutex::new(Some((gather, reply)));
            ask(&Arc::new(Gathering { shards, state }), &round);
        }
        Step::Done(page) => reply.send(Ok(Outcome::Range(page))),
        Step::Wait => unreachable!("nothing was asked yet"),
    }
}

fn ask(gathering: &Arc<Gathering>, Round { shards, range }: &Round) {
    for shard in shards {
        let own = Arc::clone(gathering);
        let reply = Reply::new(move |answer| answered(&own, answer));
        let Range { table, after, through, partitions_max, bytes_max } = range.clone();
        let question = ReadRange { table, after, through, partitions_max, bytes_max, reply };
        (gathering.shards)(*shard, question);
    }
}

fn answered(gathering: &Arc<Gathering>, answer: Result<Result<RangePage, StorageError>, Lost>) {
    let mut state = gathering.state.lock().unwrap_or_else(PoisonError::into_inner);
    // A round whose first refusal was answered has more answers to come.
    let Some((mut gather, reply)) = state.take() else { return };
    let step = match answer {
        Ok(Ok(page)) => gather.take(page),
        // What earlier rounds found is good; the next page begins with the refusal.
        Ok(Err(_)) if gather.has_rows() => Step::Done(gather.so_far()),
        Ok(Err(error)) => {
            drop(state);
            return reply.send(Err(error.into()));
        }
        // The reply goes with it: unknown.
        Err(Lost) => return,
    };
    match step {
        Step::Done(page) => {
            drop(state);
            reply.send(Ok(Outcome::Range(page)));
        }
        Step::Wait => *state = Some((gather, reply)),
        Step::Ask(round) => {
            *state = Some((gather, reply));
            drop(state);
            ask(gathering, &round);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_lattice::{Cell, CellId, Partition};
    use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, Timestamp};
    use std::collections::BTreeMap;

    /// A partition worth telling apart, of so many bytes.
    fn partition(number: u64, bytes: usize) -> Partition {
        let (at, dot) = (Timestamp::from_micros(1).unwrap(), Dot::new(Actor(number), 0, 1).unwrap());
        let cell = Cell::put(Key::of(at, dot), None, vec![7; bytes].into());
        Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell)
    }

    type Table = BTreeMap<Place, Partition>;

    /// What a shard answers: its own part of the range, as storage pages it.
    fn shard(table: &Table, sharding: Sharding, shard: u16, range: &Range) -> RangePage {
        let behind = (std::ops::Bound::Excluded(range.after.clone()), std::ops::Bound::Unbounded);
        let (mut page, mut bytes) = (RangePage::default(), 0);
        for ((token, key), partition) in table.range(behind) {
            if *token > range.through {
                break;
            }
            if sharding.shard_of(*token) != shard {
                continue;
            }
            bytes += key.as_bytes().len() + partition.heap_bytes();
            if page.rows.len() == range.partitions_max || (bytes > range.bytes_max && !page.rows.is_empty()) {
                page.resume = page.rows.last().map(|(token, key, _)| (*token, key.clone()));
                break;
            }
            page.rows.push((*token, key.clone(), partition.clone()));
        }
        page
    }

    /// One page, with the answers of each round in the order that `pick` chooses.
    fn page(table: &Table, sharding: Sharding, range: Range, pick: &mut impl FnMut(usize) -> usize) -> RangePage {
        let mut gather = Gather::new(sharding, range);
        let mut step = gather.next_round();
        let mut rounds = 0;
        loop {
            match step {
                Step::Done(page) => return page,
                Step::Wait => unreachable!("all answers were given"),
                Step::Ask(Round { mut shards, range }) => {
                    rounds += 1;
                    assert!(rounds <= 9, "rounds double");
                    step = Step::Wait;
                    while !shards.is_empty() {
                        let index = shards.swap_remove(pick(shards.len()));
                        assert!(matches!(step, Step::Wait), "only the last answer ends a round");
                        step = gather.take(shard(table, sharding, index, &range));
                    }
                }
            }
        }
    }

    fn small_table(keys: impl IntoIterator<Item = u64>) -> Table {
        let of = |key: u64| {
            // Some share a token; some lie at its ends.
            let token = match key % 7 {
                0 => Token::MAX,
                1 => Token(i64::MIN + 1),
                _ => Token((key / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15).cast_signed()),
            };
            ((token, PartitionKey::copy_from(&key.to_be_bytes())), partition(key, 10))
        };
        keys.into_iter().map(of).collect()
    }

    /// All pages of a range, one behind the other.
    fn walk(table: &Table, sharding: Sharding, whole: &Range, seed: u64) -> Vec<(Place, Partition)> {
        let mut state = seed;
        let mut pick = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let (mut after, mut found) = (whole.after.clone(), Vec::new());
        for _ in 0..10_000 {
            let page = page(table, sharding, Range { after: after.clone(), ..whole.clone() }, &mut pick);
            assert!(page.rows.len() <= whole.partitions_max);
            let bytes: usize = page.rows.iter().map(|(_, key, of)| key.as_bytes().len() + of.heap_bytes()).sum();
            assert!(bytes <= whole.bytes_max || page.rows.len() == 1, "{bytes} bytes");
            found.extend(page.rows.into_iter().map(|(token, key, partition)| ((token, key), partition)));
            let Some(resume) = page.resume else { return found };
            assert!(resume > after, "a page goes on");
            assert!(found.last().is_none_or(|(place, _)| *place <= resume));
            after = resume;
        }
        panic!("the pages come to no end");
    }

    #[test]
    fn any_split_over_shards_and_any_page_gives_the_same_rows() {
        let table = small_table(0..200);
        for (shards, bits) in [(1, 0), (1, 8), (3, 8), (8, 8), (64, 8)] {
            let sharding = Sharding::new(shards, bits).unwrap();
            for (partitions_max, bytes_max) in [(1, 1 << 20), (7, 1 << 20), (1_000, 1 << 20), (1_000, 1), (5, 900)] {
                let places = [
                    (Token::MIN, Token::MAX),
                    (Token(-5), Token(i64::MAX / 3)),
                    (Token(5), Token(4)),
                    (Token::MAX, Token::MAX),
                ];
                for (from, through) in places {
                    let after = (from, PartitionKey::copy_from(&[]));
                    let range =
                        Range { table: TableId([1; 16]), after: after.clone(), through, partitions_max, bytes_max };
                    let found = walk(&table, sharding, &range, u64::from(shards) + 1);
                    let is_wanted = |(place, _): &(&Place, &Partition)| **place > after && place.0 <= through;
                    let wanted: Vec<_> =
                        table.iter().filter(is_wanted).map(|(place, of)| (place.clone(), of.clone())).collect();
                    assert_eq!(found, wanted, "{shards} shards, {partitions_max} partitions, {bytes_max} bytes");
                }
            }
        }
    }

    #[test]
    fn a_full_page_of_a_large_table_asks_one_shard_once() {
        let sharding = Sharding::new(8, 8).unwrap();
        let table = small_table(2..20_000);
        let after = (Token::MIN, PartitionKey::copy_from(&[]));
        let range =
            Range { table: TableId([1; 16]), after, through: Token::MAX, partitions_max: 10, bytes_max: 1 << 20 };
        let mut gather = Gather::new(sharding, range);
        let Step::Ask(Round { shards, range }) = gather.next_round() else { panic!() };
        assert_eq!(shards.len(), 1);
        let Step::Done(page) = gather.take(shard(&table, sharding, shards[0], &range)) else { panic!() };
        assert_eq!((page.rows.len(), page.resume.is_some()), (10, true));
    }
}
