//! The clients: they hand a plan's operations to coordinators, remember what they were told, and have the oracle judge it.

use crate::{
    history::History,
    oracle::{Expectation, KeyId, Made},
    plan::{Operation, Plan, TABLE_NAMES, Wish},
    process::{Message, Queue},
    refused,
    rows::{self, Question, RowWish},
    run::{BUCKET, KEYSPACE, REGISTERS, ROWS, name_of},
    time::{self, Micros},
    world::{Answers, World},
};
use bytes::Bytes;
use kula_actor::{Lost, Reply};
use kula_catalog::{CatalogError, Change as SchemaChange, Changed};
use kula_clock::Random;
use kula_coordinator::{
    Applied, Change, CoordinatorError, Found, Read, ReadAnswer, Scan, ScanAnswer, Target, Write, WriteAnswer,
    machine::Event,
};
use kula_placement::{KeyspaceSettings, ReadRepair};
use kula_schema::{TableDefinition, TableKind, TableOptions};
use kula_types::{Consistency, Key, Name, PartitionKey, TableId};
use std::{collections::BTreeMap, time::Duration};

/// How often a write with an idempotency key is tried again.
const TRIES: usize = 2;
/// Keys that many write of which a scan is judged too: as many as a plan has.
const REGISTERS_LISTED: usize = 8;

/// What came back. `None` inside: the process is gone, whether it was done is unknown.
pub enum Answer {
    Write(Result<WriteAnswer, Option<CoordinatorError>>),
    Read(Result<ReadAnswer, Option<CoordinatorError>>),
    Scan(Result<ScanAnswer, Option<CoordinatorError>>),
    Schema(Result<Changed, Option<CatalogError>>),
    Rows(rows::Served),
}

/// An operation under way or over.
struct Going {
    machine: usize,
    client: usize,
    key: Option<KeyId>,
    level: Consistency,
    wall: i64,
    expectation: Option<Expectation>,
    /// Keys that a scan must show.
    listed: Vec<Expectation>,
    after: Option<PartitionKey>,
    /// It was answered that nothing was applied.
    is_denied: bool,
    answer: Option<Answer>,
    read_repair: ReadRepair,
    need: usize,
    /// What is tried again if its fate is unknown, and how often still.
    again: Option<(Again, usize)>,
    /// Of a register's write without a date of the client's: what was acknowledged before it began.
    before: Option<(Key, usize)>,
}

/// A write that can be repeated.
#[derive(Clone)]
struct Again {
    operation: Operation,
    table: &'static str,
    key: PartitionKey,
    id: TableId,
    change: Change,
    context: Option<String>,
    ttl: Option<Duration>,
}

pub struct Clients {
    answers: Answers<Answer>,
    going: BTreeMap<usize, Going>,
    /// By client and key: the context of its last read.
    contexts: BTreeMap<(usize, KeyId), String>,
    /// By context: the operations whose values its answer showed.
    shown: BTreeMap<String, Vec<usize>>,
    /// Keys that were added, in order, by table.
    added: BTreeMap<TableId, Vec<PartitionKey>>,
    scans: BTreeMap<(usize, bool), PartitionKey>,
    next: usize,
    /// Tables that somebody asked to drop.
    dropped: Vec<Name>,
    canary: bool,
    losses: u64,
    row_seq: u64,
    questions: BTreeMap<usize, Question>,
    pub history: History,
}

impl Clients {
    pub fn new(plan: &Plan) -> Clients {
        Clients {
            answers: Answers::default(),
            going: BTreeMap::new(),
            contexts: BTreeMap::new(),
            shown: BTreeMap::new(),
            added: BTreeMap::new(),
            scans: BTreeMap::new(),
            next: plan.operations.len(),
            dropped: Vec::new(),
            canary: plan.is_canary,
            losses: 0,
            row_seq: 0,
            questions: BTreeMap::new(),
            history: History::default(),
        }
    }

    pub fn answer(&self, operation: usize) -> Option<&Answer> {
        self.going.get(&operation)?.answer.as_ref()
    }

    /// If data was lost that somebody had been told of, nothing can be said of reads that are under way.
    pub fn losses(&mut self, world: &mut World) {
        if std::mem::replace(&mut self.losses, world.losses) != world.losses {
            world.oracle.void_promises();
            self.questions.clear();
            for going in self.going.values_mut().filter(|going| going.answer.is_none()) {
                going
                    .expectation
                    .iter_mut()
                    .chain(&mut going.listed)
                    .for_each(|expectation| expectation.is_void = true);
            }
        }
    }

    pub fn begin(&mut self, world: &mut World, index: usize) {
        let Some(operation) = world.plan.operations.get(index).cloned() else { return };
        let machine = operation.machine;
        if !world.serves(machine) {
            self.history.nobody_there(world, index);
            return world.trace.count("operations: nobody there");
        }
        world.trace.count("operations");
        let Operation { client, level, within, .. } = operation;
        let (table, causal) = match operation.wish {
            Wish::Add { causal } => (if causal { BUCKET } else { REGISTERS }, causal),
            Wish::ReadAdded { back } => (if back % 2 == 0 { BUCKET } else { REGISTERS }, back % 2 == 0),
            Wish::Put { .. } | Wish::Delete { .. } | Wish::Get { .. } => (REGISTERS, false),
            Wish::CausalPut { .. } | Wish::CausalDelete { .. } | Wish::CausalGet { .. } => (BUCKET, true),
            Wish::DropTable | Wish::Alter { .. } | Wish::Made { .. } => (BUCKET, true),
            Wish::Rows { .. } => (ROWS, false),
            Wish::Scan { causal, .. } | Wish::CreateTable { causal } => {
                (if causal { BUCKET } else { REGISTERS }, causal)
            }
        };
        let Some(id) = world.oracle.tables.values().find(|known| known.name.as_str() == table).map(|known| known.id)
        else {
            return;
        };
        let register = |key: usize| register(causal, key);
        let value = || Bytes::from(format!("op{index:06}:{}", "x".repeat(operation.bytes)));
        let ttl = |ttl: Option<Micros>| ttl.map(Duration::from_micros);
        match operation.wish.clone() {
            Wish::Add { .. } => {
                let key = PartitionKey::copy_from(format!("s{index:06}").as_bytes());
                self.added.entry(id).or_default().push(key.clone());
                let put = Change::Put { value: value(), content_type: None };
                self.write(world, index, &operation, (table, id, key), put, None, None, None);
            }
            Wish::ReadAdded { back } => {
                let added = self.added.get(&id).map(Vec::as_slice).unwrap_or_default();
                let Some(key) = added.len().checked_sub(1 + back).and_then(|at| added.get(at)).cloned() else { return };
                self.read(world, index, (machine, client, level, within), (table, id, key));
            }
            Wish::Put { key, timestamp, ttl: lives } => {
                let put = Change::Put { value: value(), content_type: None };
                let timestamp =
                    timestamp.map(|off| time::stamp(time::WALL_START + i64::try_from(world.now).unwrap_or(0) + off));
                self.write(world, index, &operation, (table, id, register(key)), put, None, timestamp, ttl(lives));
            }
            Wish::Delete { key } => {
                self.write(world, index, &operation, (table, id, register(key)), Change::Delete, None, None, None)
            }
            Wish::Get { key } | Wish::CausalGet { key } => {
                self.read(world, index, (machine, client, level, within), (table, id, register(key)));
            }
            Wish::CausalPut { key, with_context, ttl: lives, retries } => {
                let key = register(key);
                let context = self.context(client, id, &key, with_context);
                let change = Change::Put { value: value(), content_type: None };
                let again = Again { operation, table, key, id, change, context, ttl: ttl(lives) };
                if retries {
                    self.try_again(world, index, again, TRIES);
                } else {
                    let Again { operation, key, change, context, ttl, .. } = again;
                    self.write(world, index, &operation, (table, id, key), change, context, None, ttl);
                }
            }
            Wish::CausalDelete { key, with_context } => {
                let key = register(key);
                let context = self.context(client, id, &key, with_context);
                self.write(world, index, &operation, (table, id, key), Change::Delete, context, None, None);
            }
            Wish::Scan { limit, .. } => self.scan(world, index, &operation, (table, id), causal, limit),
            Wish::CreateTable { causal } => self.create_table(world, index, machine, causal),
            Wish::Rows { wish, die } => self.rows(world, index, machine, (id, wish), die),
            Wish::Made { name, puts } => {
                let (name, key) = (format!("t{name}"), PartitionKey::copy_from(b"m"));
                let process = world.machines[machine].process.as_ref();
                let known = process.and_then(|process| process.schema.resolve(KEYSPACE, &name).ok());
                // A name that nobody knows there is asked for all the same.
                let id = known.as_ref().map_or(id, |known| known.id);
                if let Some(known) = known {
                    world.oracle.tables.insert(id, known);
                }
                if puts {
                    let put = Change::Put { value: value(), content_type: None };
                    self.write(world, index, &operation, (&name, id, key), put, None, None, None);
                } else {
                    self.read(world, index, (machine, client, level, within), (&name, id, key));
                }
            }
            Wish::DropTable => {
                let name = name_of(&format!("t{}", index % TABLE_NAMES));
                self.dropped.push(name.clone());
                let change = SchemaChange::DropTable { keyspace: name_of(KEYSPACE), name };
                self.change_schema(world, index, machine, change);
            }
            Wish::Alter { read_repair } => {
                let read_repair =
                    [ReadRepair::Blocking, ReadRepair::Background, ReadRepair::Off][usize::from(read_repair)];
                let settings = KeyspaceSettings { rf: world.plan.rf, read_repair, ..KeyspaceSettings::default() };
                let change = SchemaChange::AlterKeyspace { name: name_of(KEYSPACE), settings };
                self.change_schema(world, index, machine, change);
            }
        }
    }

    fn context(&self, client: usize, table: TableId, key: &PartitionKey, wanted: bool) -> Option<String> {
        self.contexts.get(&(client, (table, key.clone()))).filter(|_| wanted).cloned()
    }

    fn going(
        &mut self,
        world: &World,
        index: usize,
        machine: usize,
        client: usize,
        level: Consistency,
        key: Option<KeyId>,
    ) {
        self.history.asked(world, index, machine, client, level, key.clone());
        let wall = world.machines[machine].wall.at(world.now);
        let process = world.machines[machine].process.as_ref();
        let settings = process.and_then(|process| process.ring.settings(&name_of(KEYSPACE)).cloned());
        let rf = process.zip(settings.as_ref()).map_or(1, |(process, settings)| process.ring.rf_effective(settings));
        let need = level.required(rf).map_or(1, |need| usize::try_from(need).unwrap_or(1));
        let read_repair = settings.map_or(ReadRepair::Off, |settings| settings.read_repair);
        let going = Going {
            machine,
            client,
            key,
            level,
            wall,
            expectation: None,
            listed: Vec::new(),
            after: None,
            is_denied: false,
            answer: None,
            read_repair,
            need,
            again: None,
            before: None,
        };
        self.going.insert(index, going);
    }

    #[allow(clippy::too_many_arguments, reason = "a write's parts")]
    fn write(
        &mut self,
        world: &mut World,
        index: usize,
        operation: &Operation,
        (table, id, key): (&str, TableId, PartitionKey),
        change: Change,
        context: Option<String>,
        timestamp: Option<kula_types::Timestamp>,
        ttl: Option<Duration>,
    ) {
        let machine = operation.machine;
        self.going(world, index, machine, operation.client, operation.level, Some((id, key.clone())));
        let what = if matches!(change, Change::Delete) { "delete" } else { "put" };
        let (name, level) = (String::from_utf8_lossy(key.as_bytes()).into_owned(), operation.level);
        let seen = context.is_some();
        let is_put = matches!(change, Change::Put { .. });
        // A delete without context covers what it reads itself.
        if table == BUCKET && (is_put || seen) {
            let shown = context.as_ref().and_then(|context| self.shown.get(context)).cloned().unwrap_or_default();
            world.oracle.covers(index, shown);
        }
        world.trace.line(world.now, || {
            format!(
                "op {index} client {}: {what} {name} at n{}, {level:?}{}",
                operation.client,
                machine + 1,
                if seen { ", with context" } else { "" }
            )
        });
        let answers = self.answers.clone();
        let reply = Reply::new(move |answer: Result<Result<WriteAnswer, CoordinatorError>, Lost>| {
            answers.put(index, Answer::Write(answer.map_or(Err(None), |answer| answer.map_err(Some))));
        });
        let idempotency_key = match operation.wish {
            Wish::CausalPut { retries: true, .. } => Some(Bytes::from(format!("operation {index}"))),
            _ => None,
        };
        if table == REGISTERS && timestamp.is_none() {
            let before = world.oracle.latest(&(id, key.clone()));
            if let Some(going) = self.going.get_mut(&index) {
                going.before = before;
            }
        }
        let target = Target { keyspace: KEYSPACE.into(), table: table.into(), key: key.clone() };
        let (level, within) = (operation.level, operation.within);
        self.hand_over(world, index, machine, Some(&key), move |now, submitted| {
            let deadline = now.after(Duration::from_micros(within));
            let write =
                Write { target, change, context, timestamp, ttl, idempotency_key, consistency: level, deadline, reply };
            Event::Write { write, submitted }
        });
    }

    fn read(
        &mut self,
        world: &mut World,
        index: usize,
        (machine, client, level, within): (usize, usize, Consistency, Micros),
        (table, id, key): (&str, TableId, PartitionKey),
    ) {
        let of: KeyId = (id, key.clone());
        self.going(world, index, machine, client, level, Some(of.clone()));
        let owners = world.owners(machine, id, &key);
        let wall = world.machines[machine].wall.at(world.now);
        let expectation = world.oracle.expect(world.now, wall, of, &owners);
        if let Some(going) = self.going.get_mut(&index) {
            going.expectation = Some(expectation);
        }
        let name = String::from_utf8_lossy(key.as_bytes()).into_owned();
        world.trace.line(world.now, || {
            format!(
                "op {index} {}: get {name} at n{}, {level:?}",
                if client == usize::MAX { "the checker".into() } else { format!("client {client}") },
                machine + 1
            )
        });
        let answers = self.answers.clone();
        let reply = Reply::new(move |answer: Result<Result<ReadAnswer, CoordinatorError>, Lost>| {
            answers.put(index, Answer::Read(answer.map_or(Err(None), |answer| answer.map_err(Some))));
        });
        let target = Target { keyspace: KEYSPACE.into(), table: table.into(), key: key.clone() };
        self.hand_over(world, index, machine, Some(&key), move |now, submitted| {
            let deadline = now.after(Duration::from_micros(within));
            Event::Read { read: Read { target, resolve_lww: false, consistency: level, deadline, reply }, submitted }
        });
    }

    fn scan(
        &mut self,
        world: &mut World,
        index: usize,
        operation: &Operation,
        (table, id): (&str, TableId),
        causal: bool,
        limit: u32,
    ) {
        let Operation { machine, client, level, within, .. } = operation.clone();
        self.going(world, index, machine, client, level, None);
        let added = self.added.get(&id).map(Vec::as_slice).unwrap_or_default();
        let wall = world.machines[machine].wall.at(world.now);
        let registers = (0..REGISTERS_LISTED).map(|key| register(causal, key));
        let listed = added.iter().rev().take(40).cloned().chain(registers).map(|key| {
            let owners = world.owners(machine, id, &key);
            world.oracle.expect(world.now, wall, (id, key), &owners)
        });
        let listed = listed.collect();
        let after = self.scans.remove(&(client, causal));
        let from = after.as_ref().map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        world.trace.line(world.now, || {
            format!(
                "op {index} client {client}: list {limit} of {table} behind {from:?} at n{}, {level:?}",
                machine + 1
            )
        });
        if let Some(going) = self.going.get_mut(&index) {
            (going.listed, going.after, going.key) = (listed, after.clone(), Some((id, PartitionKey::copy_from(b""))));
        }
        let answers = self.answers.clone();
        let reply = Reply::new(move |answer: Result<Result<ScanAnswer, CoordinatorError>, Lost>| {
            answers.put(index, Answer::Scan(answer.map_or(Err(None), |answer| answer.map_err(Some))));
        });
        let table = table.to_owned();
        let place = after.clone();
        self.hand_over(world, index, machine, place.as_ref(), move |now, submitted| {
            let deadline = now.after(Duration::from_micros(within));
            let scan = Scan {
                keyspace: KEYSPACE.into(),
                table,
                after,
                limit,
                resolve_lww: false,
                consistency: level,
                deadline,
                reply,
            };
            Event::Scan { scan, submitted }
        });
    }

    fn create_table(&mut self, world: &mut World, index: usize, machine: usize, causal: bool) {
        let kind = if causal { TableKind::Causal } else { TableKind::Lww };
        // Few names, so that two nodes make the same one.
        let name = name_of(&format!("t{}", index % TABLE_NAMES));
        let definition = TableDefinition { name, kind, options: TableOptions::default() };
        self.change_schema(
            world,
            index,
            machine,
            SchemaChange::CreateTable { keyspace: name_of(KEYSPACE), definition },
        );
    }

    fn change_schema(&mut self, world: &mut World, index: usize, machine: usize, change: SchemaChange) {
        self.going(world, index, machine, 0, Consistency::One, None);
        world.trace.line(world.now, || format!("op {index}: {change:?} at n{}", machine + 1));
        let answers = self.answers.clone();
        let reply = Reply::new(move |answer: Result<Result<Changed, _>, Lost>| {
            answers.put(index, Answer::Schema(answer.map_or(Err(None), |answer| answer.map_err(Some))));
        });
        world.step(machine, |process, step| process.handle(Message::CatalogAsk { change, reply }, step));
    }

    /// A write with an idempotency key, at the operation's node or, later, at the next one that runs.
    fn try_again(&mut self, world: &mut World, index: usize, again: Again, left: usize) {
        let Again { operation, table, key, id, change, context, ttl } = again.clone();
        self.write(world, index, &operation, (table, id, key), change, context, None, ttl);
        if let Some(going) = self.going.get_mut(&index) {
            going.again = Some((again, left));
        }
    }

    fn rows(&mut self, world: &mut World, index: usize, machine: usize, (id, wish): (TableId, RowWish), die: u64) {
        let mut random = Random::new(die);
        let answers = self.answers.clone();
        let reply = move |served| answers.put(index, Answer::Rows(served));
        let question = match wish {
            RowWish::Write => {
                self.row_seq += 1;
                if let Some(mutation) = rows::mint(id, index, self.row_seq, &mut random) {
                    rows::write(world, machine, &mutation, index, &mut random);
                }
                None
            }
            RowWish::Read => rows::read(world, machine, id, &mut random, reply),
            RowWish::Pages => {
                let Some(table) = world.oracle.tables.get(&id).cloned() else { return };
                rows::page(world, machine, &table, &mut random, reply)
            }
        };
        if let Some(question) = question {
            self.questions.insert(index, question);
        }
    }

    /// A read that the checker asks for itself. Answers its number.
    pub fn sweep(&mut self, world: &mut World, machine: usize, (table, key): &KeyId, level: Consistency) -> usize {
        let index = self.next;
        self.next += 1;
        let schema = world.machines[machine].process.as_ref().map(|process| &process.schema);
        // A twin that lost its name is there under another.
        let shown = schema.and_then(|schema| schema.tables_of(KEYSPACE).find(|(_, known)| known.id == *table));
        let Some(name) = shown.map(|(name, _)| name.to_owned()) else { return index };
        self.read(world, index, (machine, usize::MAX, level, 5 * time::SECOND), (&name, *table, key.clone()));
        index
    }

    fn hand_over(
        &mut self,
        world: &mut World,
        index: usize,
        machine: usize,
        key: Option<&PartitionKey>,
        event: impl FnOnce(kula_types::Mono, kula_types::Mono) -> Event,
    ) {
        world.handing_over = Some(index);
        let (cap, machine_of) = (world.mailbox_max, &world.machines[machine]);
        let coordinator = key.zip(machine_of.process.as_ref()).map_or(0, |(key, process)| process.coordinator_of(key));
        let depth = machine_of.mailroom.waiting(Queue::Coordinator(coordinator));
        world.step(machine, |process, step| {
            let now = process.now();
            let event = event(now, now);
            if cap.is_some_and(|cap| depth >= cap) {
                return refuse(event, depth);
            }
            let event = Box::new(event);
            process.handle(Message::Coordinator { index: coordinator, event }, step);
        });
        world.handing_over = None;
    }

    /// Judges what came back.
    pub fn end(&mut self, world: &mut World) {
        for (index, answer) in self.answers.take() {
            if let (Some(question), Answer::Rows(Ok(Ok(outcome)))) = (self.questions.remove(&index), &answer)
                && let Some(why) = rows::judge(world, &question, outcome)
            {
                let machine = question.machine + 1;
                world.oracle.violated(format!("rows {index} at n{machine}: {why}"));
            }
            self.judge(world, index, &answer);
            if self.is_tried_again(world, index, &answer) {
                continue;
            }
            self.history.answered(world.now, index, &answer);
            if let Some(going) = self.going.get_mut(&index) {
                going.answer = Some(answer);
                going.listed = Vec::new();
                going.expectation = None;
            }
        }
    }

    /// A client that does not know what became of its write asks another node.
    fn is_tried_again(&mut self, world: &mut World, index: usize, answer: &Answer) -> bool {
        let is_unknown = match answer {
            Answer::Write(Err(error)) => error.as_ref().is_none_or(|error| error.applied() == Applied::Unknown),
            Answer::Write(Ok(_)) | Answer::Read(_) | Answer::Scan(_) | Answer::Schema(_) | Answer::Rows(_) => false,
        };
        let Some((again, left)) = self.going.get(&index).and_then(|going| going.again.clone()) else { return false };
        let listens = |machine: &&usize| world.serves(**machine);
        let running: Vec<usize> = world.running().map(|(machine, _)| machine).collect();
        let next = running.iter().filter(listens).copied().find(|machine| *machine != again.operation.machine);
        let Some(machine) = next.filter(|_| is_unknown && left > 0) else { return false };
        world.trace.count("writes tried again");
        let operation = Operation { machine, ..again.operation.clone() };
        self.try_again(world, index, Again { operation, ..again }, left - 1);
        true
    }

    fn judge(&mut self, world: &mut World, index: usize, answer: &Answer) {
        let Some(going) = self.going.get(&index) else { return };
        let (machine, need) = (going.machine, going.need);
        let walls = {
            let now = world.machines[machine].wall.at(world.now);
            (now.min(going.wall), now.max(going.wall))
        };
        match answer {
            Answer::Write(Ok(told)) => {
                world.trace.count("writes acknowledged");
                world.trace.line(world.now, || {
                    format!("op {index}: ok, {} of {} owners, {} hints", told.acked, told.rf, told.hinted)
                });
                let Some(key) = going.key.clone() else { return };
                Clients::judge_date(world, index, &key);
                let owners = world.owners(machine, key.0, &key.1);
                let need = if self.canary { owners.len() + 1 } else { need };
                world.oracle.acked(index, &key, &owners, need);
                let before = going.before;
                self.judge_order(world, index, &key, before);
                let Some(going) = self.going.get(&index) else { return };
                if let Some(context) = &told.context {
                    // What the client knows now is its own write on top of what it had read.
                    self.contexts.entry((going.client, key)).or_insert_with(|| context.clone());
                    self.shown.insert(context.clone(), vec![index]);
                }
            }
            Answer::Write(Err(error)) => {
                let is_denied = error.as_ref().is_some_and(|error| error.applied() == Applied::No);
                world.trace.count(if is_denied { "writes refused" } else { "writes unknown" });
                error.iter().for_each(|error| world.met(refused::coordinator(error)));
                world.trace.line(world.now, || format!("op {index}: {}", error_text(error.as_ref())));
                if let Some(going) = self.going.get_mut(&index) {
                    // An earlier try may have been applied.
                    going.is_denied = is_denied && going.again.as_ref().is_none_or(|(_, left)| *left == TRIES);
                }
            }
            Answer::Read(Ok(told)) => {
                world.trace.count("reads answered");
                world.trace.line(world.now, || format!("op {index}: {}", shown(&told.found)));
                let Some(key) = going.key.clone() else { return };
                if let (Some(expectation), false) = (&going.expectation, going.level == Consistency::Any) {
                    let judged = world.oracle.read(expectation, need, &told.found, walls, &operation_of);
                    let running: Vec<_> = expectation
                        .ledgers
                        .iter()
                        .filter_map(|(owner, _)| world.machines[*owner].process.as_ref())
                        .collect();
                    let held: Vec<_> = running.iter().filter_map(|process| process.holds(key.0, &key.1).ok()).collect();
                    let away = expectation.ledgers.len() - held.len();
                    let settings = world.machines[machine].process.as_ref();
                    let settings = settings.and_then(|process| process.ring.settings(&name_of(KEYSPACE)));
                    // A read that met another ring was planned anew.
                    let is_blocking = settings.is_some_and(|settings| settings.read_repair == ReadRepair::Blocking)
                        && going.read_repair == ReadRepair::Blocking;
                    let read_repair = if is_blocking { ReadRepair::Blocking } else { ReadRepair::Off };
                    let held = match read_repair {
                        ReadRepair::Blocking if !expectation.is_void => {
                            world.oracle.read_is_held(&key, (&held, away), need, &told.found, &operation_of)
                        }
                        ReadRepair::Blocking | ReadRepair::Background | ReadRepair::Off => Ok(()),
                    };
                    if is_blocking && !expectation.is_void && 2 * need > expectation.ledgers.len() {
                        world.oracle.promise(&key, &told.found, &operation_of);
                    }
                    if let Err(why) = judged.and(held) {
                        world.oracle.violated(format!(
                            "read {index} of {} at n{}: {why}",
                            String::from_utf8_lossy(key.1.as_bytes()),
                            machine + 1
                        ));
                    }
                }
                self.denied_shown(world, index, &told.found);
                if let Some(client) = self.going.get(&index).map(|going| going.client) {
                    match &told.context {
                        Some(context) => {
                            self.shown.insert(context.clone(), operations_of(&told.found));
                            self.contexts.insert((client, key), context.clone());
                        }
                        None => {
                            self.contexts.remove(&(client, key));
                        }
                    }
                }
            }
            Answer::Read(Err(error)) => {
                world.trace.count("reads failed");
                error.iter().for_each(|error| world.met(refused::coordinator(error)));
                world.trace.line(world.now, || format!("op {index}: {}", error_text(error.as_ref())));
            }
            Answer::Scan(Ok(page)) => self.judge_page(world, index, page),
            Answer::Scan(Err(error)) => {
                world.trace.count("scans failed");
                error.iter().for_each(|error| world.met(refused::coordinator(error)));
            }
            Answer::Schema(Ok(Changed::Table(table))) => {
                world.trace.count("tables made");
                let (table, name) = (table.id, table.name.clone());
                world.oracle.made.push(Made { table, name, machine });
            }
            Answer::Schema(Ok(Changed::Dropped)) => world.trace.count("tables dropped"),
            Answer::Schema(Ok(Changed::Keyspace(_))) => world.trace.count("keyspaces altered"),
            Answer::Rows(_) => {}
            Answer::Schema(Err(error)) => {
                world.trace.count("schema not changed");
                error.iter().for_each(|error| world.met(refused::catalog(error)));
            }
        }
    }

    /// Where clocks are good, no owner takes a write that lies further ahead than owners allow.
    fn judge_date(world: &mut World, index: usize, key: &KeyId) {
        let Some(dated) = world.oracle.register_key(index, key).filter(|_| !world.plan.has_clock_faults()) else {
            return;
        };
        let wall = time::WALL_START + i64::try_from(world.now).unwrap_or(i64::MAX / 4);
        let ahead = Duration::from_micros(dated.ts().micros().saturating_sub(wall).max(0).unsigned_abs());
        // An owner that has just started is itself ahead by the lease of its last life.
        if ahead > kula_clock::limits::CLIENT_AHEAD_MAX + kula_clock::limits::LEASE {
            world.oracle.violated(format!("write {index} was acknowledged though it lies {ahead:?} ahead"));
        }
    }

    /// Where clocks are good, a write that begins after another was acknowledged comes after it.
    fn judge_order(&mut self, world: &mut World, index: usize, key: &KeyId, before: Option<(Key, usize)>) {
        let is_dated = |wish: &Wish| matches!(wish, Wish::Put { timestamp: Some(_), .. });
        if world.plan.operations.get(index).is_some_and(|operation| is_dated(&operation.wish)) {
            return;
        }
        if let Some((operation, ahead)) = world.oracle.dated(index, key, before) {
            if world.plan.has_clock_faults() {
                return world.trace.count("later writes lost to bad clocks");
            }
            world.oracle.violated(format!(
                "write {index} began after {operation} was acknowledged, and lies below it by {ahead} us"
            ));
        }
    }

    /// What was answered "not applied" must never be seen.
    fn denied_shown(&mut self, world: &mut World, index: usize, found: &Found) {
        for operation in operations_of(found) {
            if self.going.get(&operation).is_some_and(|going| going.is_denied) {
                world
                    .oracle
                    .violated(format!("read {index} shows operation {operation}, which was answered as not applied"));
            }
        }
    }

    fn judge_page(&mut self, world: &mut World, index: usize, page: &ScanAnswer) {
        world.trace.count("pages");
        let keys = |page: &ScanAnswer| {
            page.entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry.key.as_bytes()).into_owned())
                .collect::<Vec<_>>()
        };
        world.trace.line(world.now, || format!("op {index}: {:?}, and on behind {:?}", keys(page), page.next));
        let Some(going) = self.going.get(&index) else { return };
        let wall = world.machines[going.machine].wall.at(world.now);
        let walls = (wall.min(going.wall), wall.max(going.wall));
        let wrong = world.oracle.page(going.after.as_ref(), &going.listed, going.need, page, walls, &operation_of);
        for why in wrong {
            world.oracle.violated(format!("scan {index} at n{}: {why}", going.machine + 1));
        }
        let (client, causal) = (
            going.client,
            going.key.as_ref().is_some_and(|(table, _)| {
                world.oracle.tables.get(table).is_some_and(|table| table.kind == TableKind::Causal)
            }),
        );
        if let Some(next) = &page.next {
            self.scans.insert((client, causal), next.clone());
        }
        for entry in &page.entries {
            self.denied_shown(world, index, &entry.found);
        }
    }

    /// In the end: what was answered as made is everywhere.
    pub fn finish(&self, world: &mut World) {
        let stays = world.oracle.made.iter().filter(|made| !self.dropped.contains(&made.name));
        let lacks = |made: &Made| -> Vec<usize> {
            let lacks = world.running().filter(|(_, process)| process.schema.table(made.table).is_none());
            lacks.map(|(machine, _)| machine + 1).collect()
        };
        let wrong = stays.map(|made| (made, lacks(made))).filter(|(_, lacks)| !lacks.is_empty());
        let wrong: Vec<String> = wrong
            .map(|(Made { name, machine, .. }, lacks)| {
                format!("in the end {lacks:?} lack table {name}, whose making n{} answered", machine + 1)
            })
            .collect();
        wrong.into_iter().for_each(|why| world.oracle.violated(why));
    }
}

/// What a coordinator's door answers that is full (`Coordinators::write`, `read`, `scan`).
fn refuse(event: Event, depth: usize) {
    let full = || CoordinatorError::Overloaded { path: "coordinator".into(), depth, cap: depth, applied: Applied::No };
    match event {
        Event::Write { write, .. } => write.reply.send(Err(full())),
        Event::Read { read, .. } => read.reply.send(Err(full())),
        Event::Scan { scan, .. } => scan.reply.send(Err(full())),
        _ => unreachable!("a client asks nothing else"),
    }
}

/// A key that many write.
fn register(causal: bool, key: usize) -> PartitionKey {
    PartitionKey::copy_from(format!("{}{key}", if causal { "b" } else { "r" }).as_bytes())
}

/// Values name their operation.
pub fn operation_of(value: &Bytes) -> Option<usize> {
    let text = std::str::from_utf8(value).ok()?;
    text.strip_prefix("op")?.split(':').next()?.parse().ok()
}

/// The operations whose values are shown.
pub fn operations_of(found: &Found) -> Vec<usize> {
    let values: Vec<&Bytes> = match found {
        Found::Nothing => Vec::new(),
        Found::One(value) => vec![&value.value],
        Found::Siblings { siblings, .. } => siblings.iter().map(|sibling| &sibling.value.value).collect(),
    };
    values.into_iter().filter_map(operation_of).collect()
}

fn shown(found: &Found) -> String {
    let one = |value: &Bytes| operation_of(value).map_or_else(|| "?".into(), |operation| format!("op {operation}"));
    match found {
        Found::Nothing => "nothing".into(),
        Found::One(value) => one(&value.value),
        Found::Siblings { siblings, more } => {
            let all: Vec<String> = siblings.iter().map(|sibling| one(&sibling.value.value)).collect();
            format!("{} and {more} more", all.join(", "))
        }
    }
}

pub fn error_text(error: Option<&CoordinatorError>) -> String {
    error.map_or_else(
        || "its process is gone: unknown".into(),
        |error| format!("{error}; applied: {}", error.applied().as_str()),
    )
}
