//! A small cluster for tests: the machine of a coordinator over replicas that are plain joins of partitions.
//!
//! The replicas are test doubles of storage, as simple as `cell.md` allows: what is applied is joined, what is read is
//! the join. Nothing travels by itself: a test decides which send arrives, which answer comes back, and when.

use crate::{
    machine::{Answered, Effect, Event, Machine, Tag, View},
    messages::{Change, Read, Target, Write},
    scan::Scan,
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_clock::Hlc;
use kula_lattice::{Join, Mutation, Partition, Seal};
use kula_placement::{
    Datacentre, KeyspaceSettings, Partitioner, ReadRepair, Ring, RingContextKey, RingFacts, RingNode, Secret,
};
use kula_replica::{Answer, Fence, Op, Outcome, RangePage, ReplicaError};
use kula_schema::{Schema, TableDefinition, TableKind, TableOptions};
use kula_types::{Actor, ClusterId, Consistency, Mono, Name, NodeId, PartitionKey, TableId, Timestamp, Token};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub(crate) const WALL_START: i64 = 1_000_000;
/// Of a request that names none.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) fn node(index: usize) -> NodeId {
    NodeId(format!("00000000-0000-0000-0000-{index:012}").parse().unwrap())
}

/// `n2`, as scripts name nodes.
pub(crate) fn by_name(text: &str) -> NodeId {
    node(text.strip_prefix('n').unwrap().parse().unwrap())
}

/// The value of `name=value` among a script line's words.
pub(crate) fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// A refusal, as scripts name it.
pub(crate) fn refusal(word: &str) -> ReplicaError {
    match word {
        "full" => ReplicaError::DiskFull { wrote: false },
        "wrote" => ReplicaError::DiskFull { wrote: true },
        "cap" => ReplicaError::SiblingCap { siblings: 64, bytes: 640 },
        "overloaded" => ReplicaError::Overloaded { path: "replica/0".into(), depth: 8, cap: 8 },
        "ahead" => ReplicaError::ClockAhead { by: Duration::from_secs(61) },
        "closed" => ReplicaError::Closed,
        "damaged" => ReplicaError::Damaged,
        "dropped" => ReplicaError::UnknownTable { table: TableId([0; 16]) },
        "unknown" => ReplicaError::UnknownTable { table: schema().resolve("kv", "default").unwrap().id },
        "gone" => ReplicaError::Unreachable,
        _ => panic!("no such refusal: {word}"),
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// n1 to n`nodes` own eight partitions in turn.
pub(crate) fn ring(version: u64, nodes: usize, rf: u32, read_repair: ReadRepair) -> Ring {
    ring_of(version, nodes, KeyspaceSettings { rf, read_repair, ..KeyspaceSettings::default() })
}

pub(crate) fn ring_without_hints(version: u64, nodes: usize, rf: u32, read_repair: ReadRepair) -> Ring {
    ring_of(version, nodes, KeyspaceSettings { rf, read_repair, hinted_handoff: false, ..KeyspaceSettings::default() })
}

fn ring_of(version: u64, nodes: usize, settings: KeyspaceSettings) -> Ring {
    let member = |index: usize| RingNode {
        id: node(index),
        name: format!("n{index}"),
        address: format!("127.0.0.{index}:7000"),
        dc: "dc1".into(),
        rack: format!("r{index}"),
        weight: 1,
    };
    let owners = (0..8).map(|partition| u16::try_from(partition % nodes).unwrap()).collect();
    Ring::new(RingFacts {
        version,
        cluster: ClusterId("00000000-0000-0000-0000-00000000000c".parse().unwrap()),
        name: "test".into(),
        partitioner: Partitioner::Murmur3,
        partitions: 8,
        rf_balanced: 3,
        nodes: (1..=nodes).map(member).collect(),
        datacentres: vec![Datacentre { name: "dc1".into(), owners }],
        keyspaces: BTreeMap::from([(name("kv"), settings)]),
        context_keys: vec![RingContextKey { id: 1, secret: Secret::new([7; 32]), retired: None }],
    })
    .unwrap()
}

/// The built-in bucket `kv.default` and an LWW table `kv.lww`.
pub(crate) fn schema() -> Schema {
    let mut schema = Schema::first();
    let definition = TableDefinition { name: name("lww"), kind: TableKind::Lww, options: TableOptions::default() };
    let (delta, _) = schema.create_table(&name("kv"), &definition, Timestamp::from_micros(1).unwrap()).unwrap();
    schema.join(delta);
    schema
}

pub(crate) fn target(table: &str, key: &str) -> Target {
    Target { keyspace: "kv".into(), table: table.into(), key: PartitionKey::copy_from(key.as_bytes()) }
}

/// A plain put; tests change what they are about.
pub(crate) fn put(table: &str, key: &str, value: &str) -> Write {
    Write {
        target: target(table, key),
        change: Change::Put { value: Bytes::copy_from_slice(value.as_bytes()), content_type: None },
        context: None,
        timestamp: None,
        ttl: None,
        idempotency_key: None,
        consistency: Consistency::Quorum,
        deadline: Mono::default(),
        reply: Reply::ignored(),
    }
}

pub(crate) fn delete(table: &str, key: &str) -> Write {
    Write { change: Change::Delete, ..put(table, key, "") }
}

pub(crate) fn get(table: &str, key: &str) -> Read {
    Read {
        target: target(table, key),
        resolve_lww: false,
        consistency: Consistency::Quorum,
        deadline: Mono::default(),
        reply: Reply::ignored(),
    }
}

/// The first page of a table; tests change what they are about.
pub(crate) fn list(table: &str, limit: u32) -> Scan {
    Scan {
        keyspace: "kv".into(),
        table: table.into(),
        after: None,
        limit,
        resolve_lww: false,
        consistency: Consistency::Quorum,
        deadline: Mono::default(),
        reply: Reply::ignored(),
    }
}

/// A replica as simple as can be.
#[derive(Default)]
pub(crate) struct Double {
    pub partitions: BTreeMap<(TableId, PartitionKey), Partition>,
    /// Another ring version than the coordinator's, where a test says so.
    pub ring_version: Option<u64>,
    pub refuses: Option<ReplicaError>,
    /// Pages no longer than this, where a test says so.
    pub page_max: Option<usize>,
}

impl Double {
    pub fn serve(&mut self, fence: Fence, op: &Op) -> Result<Outcome, ReplicaError> {
        match self.ring_version {
            Some(have) if fence.ring_version < have => return Err(ReplicaError::StaleRing { have }),
            Some(have) if fence.ring_version > have => return Err(ReplicaError::Behind),
            _ => {}
        }
        match (op, &self.refuses) {
            (_, Some(error)) => Err(error.clone()),
            (Op::Apply { mutation, .. }, None) => {
                let Mutation { table, key, delta, .. } = Mutation::decode(mutation).unwrap();
                self.partitions.entry((table, key)).or_default().join(delta);
                Ok(Outcome::Applied)
            }
            (Op::ReadRange { table, after, through, partitions_max, .. }, None) => {
                Ok(Outcome::Range(self.page(*table, after, *through, *partitions_max)))
            }
            (Op::Read { table, key, answer, slice, .. }, None) => {
                let partition = self.partitions.get(&(*table, key.clone())).cloned().unwrap_or_default().clip(slice);
                Ok(match answer {
                    Answer::Data => Outcome::Data(partition),
                    Answer::Digest => Outcome::Digest { digest: partition.digest(None, Seal::NONE), seal: Seal::NONE },
                })
            }
        }
    }
}

impl Double {
    fn page(&self, table: TableId, after: &(Token, PartitionKey), through: Token, partitions_max: usize) -> RangePage {
        let here = self.partitions.iter().filter(|((of, _), _)| *of == table);
        let placed =
            here.map(|((_, key), partition)| (Partitioner::Murmur3.token(key), key.clone(), partition.clone()));
        let wanted = |(token, key, _): &(Token, PartitionKey, Partition)| {
            (after.0, &after.1) < (*token, key) && *token <= through
        };
        let mut rows: Vec<_> = placed.filter(wanted).collect();
        rows.sort_by(|(token, key, _), (other_token, other_key, _)| (token, key).cmp(&(other_token, other_key)));
        let length = partitions_max.min(self.page_max.unwrap_or(usize::MAX)).max(1);
        let is_cut = rows.len() > length;
        rows.truncate(length);
        let resume = rows.last().filter(|_| is_cut).map(|(token, key, _)| (*token, key.clone()));
        RangePage { rows, resume }
    }
}

/// Something a coordinator sent, on its way.
pub(crate) struct Sent {
    pub to: NodeId,
    pub tag: Tag,
    pub fence: Fence,
    pub op: Op,
}

/// One coordinator and its view of the world.
pub(crate) struct Coordinator {
    pub machine: Machine,
    pub ring: Ring,
    pub schema: Schema,
    pub now: Mono,
    pub wall: i64,
    pub unreachable: BTreeSet<NodeId>,
    me: NodeId,
    next_request: u64,
}

impl Coordinator {
    /// A life of the coordinator on `me`. Its requests are numbered from `first_request`.
    pub fn new(me: usize, actor: u64, first_request: u64, ring: Ring) -> Self {
        let hlc = Hlc::starting_above(None);
        hlc.extend(Timestamp::MAX);
        Coordinator {
            machine: Machine::new("coordinator/0".into(), Arc::new(hlc), Actor(actor), first_request),
            ring,
            schema: schema(),
            now: Mono::from_millis(1_000),
            wall: WALL_START,
            unreachable: BTreeSet::new(),
            me: node(me),
            next_request: first_request,
        }
    }

    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let reaches = |node| node == self.me || !self.unreachable.contains(&node);
        let view = View {
            now: self.now,
            wall: Timestamp::from_micros(self.wall).unwrap(),
            me: self.me,
            ring: &self.ring,
            schema: &self.schema,
            reaches: &reaches,
        };
        let mut effects = Vec::new();
        self.machine.step(&view, event, &mut effects);
        effects
    }

    /// The request's number, and what it caused. A deadline of zero stands for `DEADLINE` from now.
    pub fn write(&mut self, mut write: Write) -> (u64, Vec<Effect>) {
        write.deadline = self.deadline(write.deadline);
        self.begin(|now| Event::Write { write, submitted: now })
    }

    pub fn read(&mut self, mut read: Read) -> (u64, Vec<Effect>) {
        read.deadline = self.deadline(read.deadline);
        self.begin(|now| Event::Read { read, submitted: now })
    }

    pub fn scan(&mut self, mut scan: Scan) -> (u64, Vec<Effect>) {
        scan.deadline = self.deadline(scan.deadline);
        self.begin(|now| Event::Scan { scan, submitted: now })
    }

    pub fn advance(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.wall += i64::try_from(span.as_micros()).unwrap();
    }

    /// Wakes the machine if it asked for it.
    pub fn wake(&mut self) -> Vec<Effect> {
        match self.machine.wake_at() {
            Some(at) if at <= self.now => self.step(Event::Woken),
            _ => Vec::new(),
        }
    }

    fn deadline(&self, asked: Mono) -> Mono {
        if asked == Mono::default() { self.now.after(DEADLINE) } else { asked }
    }

    fn begin(&mut self, event: impl FnOnce(Mono) -> Event) -> (u64, Vec<Effect>) {
        let request = self.next_request;
        let effects = self.step(event(self.now));
        self.next_request += 1;
        (request, effects)
    }
}

pub(crate) fn answered(served: Result<Outcome, ReplicaError>) -> Answered {
    match served {
        Ok(outcome) => Answered::Served(outcome),
        Err(error) => Answered::Refused(error),
    }
}
