//! The clients: they ask nodes as the handlers of HTTP do, and have the oracle judge what comes back, by what was durable
//! at the very moment of the answer.

use crate::{
    cluster::Cluster,
    host::{Doors, Placed, Request},
};
use bytes::Bytes;
use kula_actor::{Lost, Reply};
use kula_coordinator::{
    Applied, Change, CoordinatorError, Found, Read, ReadAnswer, Scan, ScanAnswer, Target, Write, WriteAnswer,
};
use kula_operator::{OperatorError, TableWish, views::TableView};
use kula_placement::ReadRepair;
use kula_schema::TableKind;
use kula_sim::{
    client::{error_text, operation_of, operations_of},
    oracle::{Expectation, KeyId},
    plan::{Operation, Wish},
    run::{BUCKET, KEYSPACE, REGISTERS, name_of},
    time::{self, Micros},
    world::Answers,
};
use kula_types::{Consistency, Key, Mono, PartitionKey, TableId, Timestamp};
use std::{collections::BTreeMap, time::Duration};

/// What came back. `None` inside: the process is gone, whether it was done is unknown.
pub enum Answer {
    Write(Result<WriteAnswer, Option<CoordinatorError>>),
    Read(Result<ReadAnswer, Option<CoordinatorError>>),
    Scan(Result<ScanAnswer, Option<CoordinatorError>>),
    Table(Result<TableView, Option<OperatorError>>),
}

/// An answer with what was durable on every machine when it was given.
type Told = (Answer, Vec<Placed>);

/// An operation under way or over.
struct Going {
    machine: usize,
    client: usize,
    key: Option<KeyId>,
    need: usize,
    wall: i64,
    expectation: Option<Expectation>,
    /// Keys that a scan must show.
    listed: Vec<Expectation>,
    after: Option<PartitionKey>,
    read_repair: ReadRepair,
    /// It was answered that nothing was applied.
    is_denied: bool,
    /// Of a register's write: what was acknowledged before it began.
    before: Option<(Key, usize)>,
    answer: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Failed,
}

#[derive(Default)]
pub struct Clients {
    answers: Answers<Told>,
    going: BTreeMap<usize, Going>,
    contexts: BTreeMap<(usize, KeyId), String>,
    added: BTreeMap<TableId, Vec<PartitionKey>>,
    scans: BTreeMap<(usize, bool), PartitionKey>,
    /// Numbers of what the checker asks.
    asked: usize,
    losses: u64,
}

impl Clients {
    pub fn outcome(&self, operation: usize) -> Option<Outcome> {
        self.going.get(&operation)?.answer
    }

    /// If data was lost that somebody had been told of, nothing can be said of reads that are under way.
    pub fn losses(&mut self, cluster: &mut Cluster) {
        if std::mem::replace(&mut self.losses, cluster.losses) != cluster.losses {
            cluster.oracle.void_promises();
            for going in self.going.values_mut().filter(|going| going.answer.is_none()) {
                let expected = going.expectation.iter_mut().chain(&mut going.listed);
                expected.for_each(|expectation| expectation.is_void = true);
            }
        }
    }

    pub fn begin(&mut self, cluster: &mut Cluster, index: usize) {
        let operation = cluster.plan.operations[index].clone();
        if !cluster.serves(operation.machine) {
            return cluster.count("operations: nobody there");
        }
        cluster.count("operations");
        let (name, id, causal) = match operation.wish {
            Wish::Add { causal } | Wish::Scan { causal, .. } | Wish::CreateTable { causal } => named(cluster, causal),
            Wish::ReadAdded { back } => named(cluster, back % 2 == 0),
            Wish::CausalPut { .. } | Wish::CausalDelete { .. } | Wish::CausalGet { .. } => named(cluster, true),
            _ => named(cluster, false),
        };
        let Some(id) = id else { return };
        let key_of =
            |key: usize| PartitionKey::copy_from(format!("{}{key}", if causal { "b" } else { "r" }).as_bytes());
        let value = Change::Put {
            value: Bytes::from(format!("op{index:06}:{}", "x".repeat(operation.bytes))),
            content_type: None,
        };
        let lives = |ttl: Option<Micros>| ttl.map(Duration::from_micros);
        let table = (name, id);
        match operation.wish {
            Wish::Add { .. } => {
                let key = PartitionKey::copy_from(format!("s{index:06}").as_bytes());
                self.added.entry(id).or_default().push(key.clone());
                self.write(cluster, index, &operation, (table, key), Intent::of(value));
            }
            Wish::ReadAdded { back } => {
                let added = self.added.get(&id).map(Vec::as_slice).unwrap_or_default();
                let Some(key) = added.len().checked_sub(1 + back).and_then(|at| added.get(at)).cloned() else { return };
                self.read(cluster, index, &operation, (table, key));
            }
            Wish::Put { key, timestamp, ttl } => {
                let dated = |off: i64| time::stamp(time::WALL_START + i64::try_from(cluster.now()).unwrap_or(0) + off);
                let intent = Intent { timestamp: timestamp.map(dated), ttl: lives(ttl), ..Intent::of(value) };
                self.write(cluster, index, &operation, (table, key_of(key)), intent);
            }
            Wish::Delete { key } => {
                self.write(cluster, index, &operation, (table, key_of(key)), Intent::of(Change::Delete))
            }
            Wish::CausalPut { key, with_context, ttl, .. } => {
                let context = self.context(operation.client, id, &key_of(key), with_context);
                let intent = Intent { context, ttl: lives(ttl), ..Intent::of(value) };
                self.write(cluster, index, &operation, (table, key_of(key)), intent);
            }
            Wish::CausalDelete { key, with_context } => {
                let context = self.context(operation.client, id, &key_of(key), with_context);
                let intent = Intent { context, ..Intent::of(Change::Delete) };
                self.write(cluster, index, &operation, (table, key_of(key)), intent);
            }
            Wish::Get { key } | Wish::CausalGet { key } => self.read(cluster, index, &operation, (table, key_of(key))),
            Wish::Scan { limit, .. } => self.scan(cluster, index, &operation, table, causal, limit),
            Wish::CreateTable { causal } => self.create_table(cluster, index, &operation, causal),
            _ => unreachable!("the plan leaves {:?} to level 1", operation.wish),
        }
    }

    fn context(&self, client: usize, table: TableId, key: &PartitionKey, wanted: bool) -> Option<String> {
        self.contexts.get(&(client, (table, key.clone()))).filter(|_| wanted).cloned()
    }

    fn going(&mut self, cluster: &Cluster, index: usize, operation: &Operation, key: Option<KeyId>) -> &mut Going {
        let machine = operation.machine;
        let life = cluster.machines[machine].life.borrow();
        let settings = life.as_ref().and_then(|life| {
            let ring = life.doors.ring.peek();
            ring.settings(&name_of(KEYSPACE)).map(|settings| (ring.rf_effective(settings), settings.read_repair))
        });
        let (rf, read_repair) = settings.unwrap_or((1, ReadRepair::Off));
        let need = operation.level.required(rf).map_or(1, |need| usize::try_from(need).unwrap_or(1));
        let going = Going {
            machine,
            client: operation.client,
            key,
            need,
            wall: cluster.wall(machine),
            expectation: None,
            listed: Vec::new(),
            after: None,
            read_repair,
            is_denied: false,
            before: None,
            answer: None,
        };
        self.going.entry(index).insert_entry(going).into_mut()
    }

    /// Where an answer goes, together with the state of all disks at its moment.
    fn reply<T: Send + 'static, E: Send + 'static>(
        &self,
        cluster: &Cluster,
        index: usize,
        wrap: impl FnOnce(Result<T, Option<E>>) -> Answer + Send + 'static,
    ) -> Reply<Result<T, E>> {
        let (answers, disks) = (self.answers.clone(), cluster.disks.clone());
        Reply::new(move |answer: Result<Result<T, E>, Lost>| {
            let answer = answer.map_or(Err(None), |answer| answer.map_err(Some));
            answers.put(index, (wrap(answer), disks.durable()));
        })
    }

    fn write(
        &mut self,
        cluster: &mut Cluster,
        index: usize,
        operation: &Operation,
        ((name, id), key): ((&'static str, TableId), PartitionKey),
        intent: Intent,
    ) {
        let of: KeyId = (id, key.clone());
        let before = (name == REGISTERS && intent.timestamp.is_none()).then(|| cluster.oracle.latest(&of)).flatten();
        self.going(cluster, index, operation, Some(of.clone())).before = before;
        if intent.change == Change::Delete {
            cluster.ledger.deleting.entry(of).or_default().push(index);
        }
        let what = if intent.change == Change::Delete { "delete" } else { "put" };
        cluster.line(|| said(index, operation, what, &key));
        let reply = self.reply(cluster, index, Answer::Write);
        let Intent { change, context, timestamp, ttl } = intent;
        let target = Target { keyspace: KEYSPACE.into(), table: name.into(), key };
        let consistency = operation.level;
        ask(cluster, operation, move |doors, deadline| {
            let idempotency_key = None;
            doors.coordinators.write(Write {
                target,
                change,
                context,
                timestamp,
                ttl,
                idempotency_key,
                consistency,
                deadline,
                reply,
            });
        });
    }

    fn read(
        &mut self,
        cluster: &mut Cluster,
        index: usize,
        operation: &Operation,
        ((name, id), key): ((&'static str, TableId), PartitionKey),
    ) {
        let of: KeyId = (id, key.clone());
        let durable = cluster.disks.durable();
        cluster.look(&durable);
        let owners = cluster.owners(operation.machine, id, &key);
        let expectation = cluster.oracle.expect(cluster.now(), cluster.wall(operation.machine), of.clone(), &owners);
        self.going(cluster, index, operation, Some(of)).expectation = Some(expectation);
        cluster.line(|| said(index, operation, "get", &key));
        let reply = self.reply(cluster, index, Answer::Read);
        let target = Target { keyspace: KEYSPACE.into(), table: name.into(), key };
        let consistency = operation.level;
        ask(cluster, operation, move |doors, deadline| {
            doors.coordinators.read(Read { target, resolve_lww: false, consistency, deadline, reply });
        });
    }

    fn scan(
        &mut self,
        cluster: &mut Cluster,
        index: usize,
        operation: &Operation,
        (name, id): (&'static str, TableId),
        causal: bool,
        limit: u32,
    ) {
        let durable = cluster.disks.durable();
        cluster.look(&durable);
        let (now, wall) = (cluster.now(), cluster.wall(operation.machine));
        let keys: Vec<KeyId> = cluster.oracle.keys.keys().filter(|(table, _)| *table == id).cloned().collect();
        let listed = keys
            .into_iter()
            .map(|key| {
                let owners = cluster.owners(operation.machine, id, &key.1);
                cluster.oracle.expect(now, wall, key, &owners)
            })
            .collect();
        let after = self.scans.remove(&(operation.client, causal));
        let going = self.going(cluster, index, operation, Some((id, PartitionKey::copy_from(b"-"))));
        (going.listed, going.after) = (listed, after.clone());
        cluster.line(|| said(index, operation, "scan", &PartitionKey::copy_from(name.as_bytes())));
        let reply = self.reply(cluster, index, Answer::Scan);
        let consistency = operation.level;
        ask(cluster, operation, move |doors, deadline| {
            let (keyspace, table) = (KEYSPACE.into(), name.into());
            doors.coordinators.scan(Scan {
                keyspace,
                table,
                after,
                limit,
                resolve_lww: false,
                consistency,
                deadline,
                reply,
            });
        });
    }

    fn create_table(&mut self, cluster: &mut Cluster, index: usize, operation: &Operation, causal: bool) {
        self.going(cluster, index, operation, None);
        let kind = Some(if causal { "causal" } else { "lww" }.to_owned());
        // Few names, so that two nodes make the same one.
        let wish = TableWish { name: format!("t{}", index % 7), kind, options: None };
        cluster.line(|| said(index, operation, "create", &PartitionKey::copy_from(wish.name.as_bytes())));
        let reply = self.reply(cluster, index, Answer::Table);
        let patience = Duration::from_micros(operation.within);
        let request: Request = Box::new(move |doors: Doors| {
            Box::pin(async move { reply.send(doors.operator.create_table(KEYSPACE, wish, patience).await) })
        });
        cluster.machines[operation.machine].ask(request);
    }

    /// A read that the checker asks for itself. Answers its number.
    pub fn sweep(&mut self, cluster: &mut Cluster, machine: usize, key: &KeyId, level: Consistency) -> usize {
        let index = SWEEP + self.asked;
        self.asked += 1;
        let Some(table) = cluster.oracle.tables.get(&key.0) else { return index };
        let name = if table.kind == TableKind::Causal { BUCKET } else { REGISTERS };
        let wish = Wish::Get { key: 0 };
        let operation =
            Operation { at: 0, client: usize::MAX, machine, wish, level, within: 5 * time::SECOND, bytes: 0 };
        self.read(cluster, index, &operation, ((name, key.0), key.1.clone()));
        index
    }

    /// Judges what came back.
    pub fn end(&mut self, cluster: &mut Cluster) {
        for (index, (answer, durable)) in self.answers.take() {
            cluster.look(&durable);
            cluster.story.mix(&index.to_le_bytes());
            self.judge(cluster, index, &answer);
            cluster.ledger.deleting.values_mut().for_each(|deleting| deleting.retain(|delete| *delete != index));
            if let Some(going) = self.going.get_mut(&index) {
                let is_good = matches!(
                    answer,
                    Answer::Write(Ok(_)) | Answer::Read(Ok(_)) | Answer::Scan(Ok(_)) | Answer::Table(Ok(_))
                );
                going.answer = Some(if is_good { Outcome::Good } else { Outcome::Failed });
                (going.listed, going.expectation) = (Vec::new(), None);
            }
        }
    }

    fn judge(&mut self, cluster: &mut Cluster, index: usize, answer: &Answer) {
        let Some(going) = self.going.get(&index) else { return };
        let (machine, need) = (going.machine, going.need);
        match answer {
            Answer::Write(Ok(told)) => {
                cluster.count("writes acknowledged");
                cluster.line(|| format!("op {index}: ok, {} of {} owners, {} hints", told.acked, told.rf, told.hinted));
                let (Some(key), client, before) = (going.key.clone(), going.client, going.before) else { return };
                let owners = cluster.owners(machine, key.0, &key.1);
                let need = if cluster.plan.is_canary { owners.len() + 1 } else { need };
                // A node that has just gone has no ring to ask.
                if !owners.is_empty() {
                    cluster.oracle.acked(index, &key, &owners, need);
                }
                self.judge_order(cluster, index, &key, before);
                if let Some(context) = &told.context {
                    self.contexts.entry((client, key)).or_insert_with(|| context.clone());
                }
            }
            Answer::Write(Err(error)) => {
                let is_denied = error.as_ref().is_some_and(|error| error.applied() == Applied::No);
                cluster.count(if is_denied { "writes refused" } else { "writes unknown" });
                cluster.line(|| format!("op {index}: {}", error_text(error.as_ref())));
                if let Some(going) = self.going.get_mut(&index) {
                    going.is_denied = is_denied;
                }
            }
            Answer::Read(Ok(told)) => self.judge_read(cluster, index, told),
            Answer::Read(Err(error)) => {
                cluster.count("reads failed");
                cluster.line(|| format!("op {index}: {}", error_text(error.as_ref())));
            }
            Answer::Scan(Ok(page)) => self.judge_page(cluster, index, page),
            Answer::Scan(Err(_)) => cluster.count("scans failed"),
            Answer::Table(Ok(_)) => cluster.count("tables made"),
            Answer::Table(Err(error)) => {
                cluster.count("schema not changed");
                cluster.line(|| format!("op {index}: {error:?}"));
            }
        }
    }

    fn judge_read(&mut self, cluster: &mut Cluster, index: usize, told: &ReadAnswer) {
        cluster.count("reads answered");
        cluster.line(|| format!("op {index}: {:?}", operations_of(&told.found)));
        let Some(going) = self.going.get(&index) else { return };
        let (Some(key), machine, need, client) = (going.key.clone(), going.machine, going.need, going.client) else {
            return;
        };
        if let Some(expectation) = &going.expectation {
            let wall = cluster.wall(machine);
            let walls = (wall.min(going.wall), wall.max(going.wall));
            let judged = cluster.oracle.read(expectation, need, &told.found, walls, &operation_of);
            let is_quorum = 2 * need > expectation.ledgers.len();
            let held = if going.read_repair == ReadRepair::Blocking && !expectation.is_void {
                // What is durable there now is all that the owners hold.
                let owners = expectation.ledgers.iter().map(|(owner, _)| cluster.oracle.ledger(*owner, &key));
                let held: Vec<_> = owners.collect();
                if is_quorum {
                    cluster.oracle.promise(&key, &told.found, &operation_of);
                }
                cluster.oracle.read_is_held(&key, (&held, 0), need, &told.found, &operation_of)
            } else {
                Ok(())
            };
            if let Err(why) = judged.and(held) {
                let name = String::from_utf8_lossy(key.1.as_bytes()).into_owned();
                cluster.oracle.violated(format!("read {index} of {name} at n{}: {why}", machine + 1));
            }
        }
        self.denied_shown(cluster, index, &told.found);
        match &told.context {
            Some(context) => drop(self.contexts.insert((client, key), context.clone())),
            None => drop(self.contexts.remove(&(client, key))),
        }
    }

    /// Where clocks are good, a write that begins after another was acknowledged comes after it.
    fn judge_order(&mut self, cluster: &mut Cluster, index: usize, key: &KeyId, before: Option<(Key, usize)>) {
        let is_dated = |wish: &Wish| matches!(wish, Wish::Put { timestamp: Some(_), .. });
        if cluster.plan.operations.get(index).is_some_and(|operation| is_dated(&operation.wish)) {
            return;
        }
        let Some((operation, ahead)) = cluster.oracle.dated(index, key, before) else { return };
        if cluster.plan.has_clock_faults() {
            return cluster.count("later writes lost to bad clocks");
        }
        cluster.oracle.violated(format!(
            "write {index} began after {operation} was acknowledged, and lies below it by {ahead} us"
        ));
    }

    /// What was answered "not applied" must never be seen.
    fn denied_shown(&mut self, cluster: &mut Cluster, index: usize, found: &Found) {
        for operation in operations_of(found) {
            if self.going.get(&operation).is_some_and(|going| going.is_denied) {
                let what = format!("read {index} shows operation {operation}, which was answered as not applied");
                cluster.oracle.violated(what);
            }
        }
    }

    fn judge_page(&mut self, cluster: &mut Cluster, index: usize, page: &ScanAnswer) {
        cluster.count("pages");
        cluster.line(|| format!("op {index}: {} keys, and on behind {:?}", page.entries.len(), page.next));
        let Some(going) = self.going.get(&index) else { return };
        let wall = cluster.wall(going.machine);
        let walls = (wall.min(going.wall), wall.max(going.wall));
        let wrong = cluster.oracle.page(going.after.as_ref(), &going.listed, going.need, page, walls, &operation_of);
        for why in wrong {
            cluster.oracle.violated(format!("scan {index} at n{}: {why}", going.machine + 1));
        }
        let table = going.key.as_ref().and_then(|(table, _)| cluster.oracle.tables.get(table));
        let causal = table.is_some_and(|table| table.kind == TableKind::Causal);
        if let Some(next) = &page.next {
            self.scans.insert((going.client, causal), next.clone());
        }
        page.entries.iter().for_each(|entry| self.denied_shown(cluster, index, &entry.found));
    }
}

/// Operations of the checker have numbers from here on.
const SWEEP: usize = 1 << 30;

/// What a write is to do.
struct Intent {
    change: Change,
    context: Option<String>,
    timestamp: Option<Timestamp>,
    ttl: Option<Duration>,
}

impl Intent {
    fn of(change: Change) -> Intent {
        Intent { change, context: None, timestamp: None, ttl: None }
    }
}

fn named(cluster: &Cluster, causal: bool) -> (&'static str, Option<TableId>, bool) {
    let name = if causal { BUCKET } else { REGISTERS };
    let table = cluster.oracle.tables.values().find(|table| table.name.as_str() == name);
    (name, table.map(|table| table.id), causal)
}

/// Runs `handing_over` in the node, with the operation's deadline by the node's clock.
fn ask(cluster: &Cluster, operation: &Operation, handing_over: impl FnOnce(&Doors, Mono) + 'static) {
    let within = Duration::from_micros(operation.within);
    let request: Request = Box::new(move |doors: Doors| {
        Box::pin(async move {
            let deadline = doors.operator.clock().mono().after(within);
            handing_over(&doors, deadline);
        })
    });
    cluster.machines[operation.machine].ask(request);
}

fn said(index: usize, operation: &Operation, what: &str, key: &PartitionKey) -> String {
    let key = String::from_utf8_lossy(key.as_bytes());
    format!("op {index}: {what} {key} at n{}, {:?}", operation.machine + 1, operation.level)
}
