//! `kula import`: the records of a file into a table, through every node, resumable; and if asked, all of them back.
//!
//! ```text
//!  file ─▶ reader ─▶ window ─▶ lane of the key ─▶ batch ─▶ a node (another, if it fails) ─▶ acknowledged
//!            │          └─ lower edge: where a resumed import goes on ─▶ FILE.kula-import
//!            └─▶ ledger: distinct keys, digest ──────────────────────▶ compared with what each node shows
//! ```
//!
//! Memory is bounded by `limits`: the window's records, one part of the ledger, a few requests.

mod error;
mod interrupt;
mod keeper;
pub mod ledger;
pub mod limits;
pub mod members;
pub mod progress;
pub mod scan;
mod send;
mod stamp;
mod state;
pub mod summary;
mod table;
pub mod trouble;
mod verify;
mod window;

pub use error::TransferError;
pub use state::beside;

use crate::{
    cli::{Global, Import, Output},
    client::{Client, Failure},
    commands::admin::split,
    exit::Verdict,
    records::{Format, Reader, Record, key_hash, record_hash},
    stopwatch::now,
};
use interrupt::Interrupt;
use keeper::Keeper;
use ledger::Ledger;
use limits::{FILE_BUFFER_BYTES, LANE_RECORDS_MAX, LANES_MAX, LANES_PER_NODE, SKIPPED_SHOWN_MAX, STATE_EVERY};
use members::Members;
use progress::{Look, Progress, many};
use scan::Wanted;
use send::{Piece, Sending};
use state::{Left, State, Subject};
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};
use summary::Summary;
use table::Target;
use trouble::{Kinds, Trouble};
use verify::ReadBack;
use window::{Edge, Window};

type Records = Reader<Box<dyn BufRead>>;

pub fn run(wanted: &Import, global: &Global) -> Result<Verdict, Failure> {
    let format = format_of(&wanted.file, wanted.format, None)?;
    let level = wanted.consistency.parse::<kula_types::Consistency>();
    level.map_err(|error| Failure::Usage(error.to_string()))?;
    let source = Source::of(&wanted.file)?;
    let client = Client::new(global)?;
    let members = Members::ask(&client)?;
    if members.by_one_door && global.output == Output::Human {
        eprintln!("note: no member answers at its own address; everything goes through {}", client.at);
    }
    let target = Target::find_or_make(&client, wanted.table.as_deref(), global)?;
    let key = wanted.key.as_deref();
    let subject = Subject::new(&members.cluster, &target.name, &target.id, format, key);
    let (begun_at, skipped) = (stamp::now(members.date.as_deref()), AtomicU64::new(0));
    let import = Importing { wanted, global, source, format, members, target, subject, begun_at, skipped };
    import.run()
}

/// What a file holds, by what was said or by its name.
pub fn format_of(file: &Path, said: Option<Format>, otherwise: Option<Format>) -> Result<Format, Failure> {
    let found = said.or_else(|| Format::of(file)).or(otherwise);
    found.ok_or_else(|| {
        let file = if is_standard(file) { "standard input".to_string() } else { file.display().to_string() };
        TransferError::Format { file }.into()
    })
}

/// Whether this stands for standard input or output.
pub fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Where records come from.
struct Source {
    /// For people.
    name: String,
    /// `None`: standard input.
    path: Option<PathBuf>,
    /// Bytes, where they are known.
    length: Option<u64>,
}

impl Source {
    fn of(file: &Path) -> Result<Self, TransferError> {
        if is_standard(file) {
            return Ok(Source { name: "standard input".into(), path: None, length: None });
        }
        let name = file.display().to_string();
        let metadata = open(file)?.metadata().map_err(TransferError::file(format!("read {name}")))?;
        if metadata.is_dir() {
            let source = io::ErrorKind::IsADirectory.into();
            return Err(TransferError::File { what: format!("read {name}"), source });
        }
        // A pipe has a name and no length, and cannot be read twice.
        let is_file = metadata.is_file();
        let path = Some(file.to_path_buf());
        Ok(Source { name, path, length: is_file.then_some(metadata.len()) })
    }

    fn read(&self) -> Result<Box<dyn BufRead>, TransferError> {
        Ok(match &self.path {
            None => Box::new(io::stdin().lock()),
            Some(path) => Box::new(BufReader::with_capacity(FILE_BUFFER_BYTES, open(path)?)),
        })
    }

    /// A pipe cannot.
    fn can_be_read_again(&self) -> bool {
        self.length.is_some()
    }

    /// Where its state stands, if there is to be one.
    fn state(&self) -> Option<PathBuf> {
        self.path.as_deref().filter(|_| self.can_be_read_again()).map(state::path_of)
    }
}

fn open(path: &Path) -> Result<File, TransferError> {
    File::options().read(true).open(path).map_err(TransferError::file(format!("read {}", path.display())))
}

/// One import.
struct Importing<'a> {
    wanted: &'a Import,
    global: &'a Global,
    source: Source,
    format: Format,
    members: Members,
    target: Target,
    subject: Subject,
    /// Where the timestamps of this run begin.
    begun_at: i64,
    /// Records that could not be read and were left out.
    skipped: AtomicU64,
}

/// A file from its beginning, or from where an earlier import came to.
struct Begun {
    records: Records,
    ledger: Ledger,
    edge: Edge,
    /// Where the timestamps of what is put now begin: never before those of what an earlier run has put.
    begun_at: i64,
}

impl Importing<'_> {
    fn run(&self) -> Result<Verdict, Failure> {
        let state = self.source.state();
        let begun = self.begin(state.as_deref())?;
        let resumed = begun.edge.digest.records;
        if resumed > 0 && self.global.output == Output::Human {
            eprintln!("resuming: {} of {} are stored already", many(resumed, "record"), self.source.name);
        }
        let window = Window::new(begun.edge);
        let keeper = Keeper::new(state, &self.subject, begun.begun_at);
        let interrupt = Interrupt::default();
        std::thread::scope(|scope| {
            if self.source.can_be_read_again() {
                scope.spawn(|| interrupt.watch(&window));
            }
            let _watched = interrupt.until_over();
            self.put_and_read_back(begun, &window, &keeper, &interrupt)
        })
    }

    fn put_and_read_back(
        &self,
        begun: Begun,
        window: &Window,
        keeper: &Keeper<'_>,
        interrupt: &Interrupt,
    ) -> Result<Verdict, Failure> {
        let (began, resumed) = (now(), begun.edge.digest.records);
        let put = self.put_all(begun, window, keeper);
        keeper.keep(&window.edge());
        if interrupt.is_met() {
            let (records, can_resume) = (window.done().records, keeper.works());
            return Err(TransferError::Interrupted { records, can_resume }.into());
        }
        interrupt.ends_at_once();
        let (ledger, failures) = put?;
        keeper.forget();
        let done = window.done();
        let digest = ledger.digest().map_err(TransferError::file("read a temporary file"))?;
        let (records, bytes, left_out) = (done.records, done.bytes, self.skipped.load(Ordering::Relaxed));
        let summary = Summary {
            table: &self.target.name,
            nodes: self.members.names(),
            consistency: &self.wanted.consistency,
            records,
            digest,
            bytes,
            resumed,
            left_out,
            failures,
            took: began.elapsed(),
        };
        if self.global.output == Output::Human {
            println!("{}", summary.page());
        }
        let read_back = if self.wanted.verify { self.read_back(&ledger, digest.records)? } else { Vec::new() };
        match self.global.output {
            Output::Human => read_back.iter().for_each(|read| println!("{}", read.line())),
            Output::Json => println!("{}", summary.json(&read_back)),
        }
        verify::judge(&read_back, digest.records)?;
        Ok(Verdict::Ok)
    }

    /// Opens the file, and passes over what an earlier import has put if its state is of this one.
    fn begin(&self, state: Option<&Path>) -> Result<Begun, Failure> {
        let left = match state {
            Some(path) if !self.wanted.restart => {
                state::load(path, &self.subject).map_err(TransferError::file(format!("read {}", path.display())))?
            }
            _ => Left::Nothing,
        };
        let why = match left {
            Left::Nothing => None,
            Left::Other(what) => Some(format!("what an earlier import left is of {what}")),
            Left::State(state) => match self.resume(&state)? {
                Some(begun) => return Ok(begun),
                None => Some("the file is not the one of which an earlier import has put a part".to_string()),
            },
        };
        if let Some(why) = why
            && self.global.output == Output::Human
        {
            eprintln!("beginning at the beginning: {why}");
        }
        self.skipped.store(0, Ordering::Relaxed);
        self.beginning()
    }

    fn beginning(&self) -> Result<Begun, Failure> {
        let records = Reader::new(self.source.read()?, self.format, self.wanted.key.as_deref());
        Ok(Begun { records, ledger: Ledger::new(), edge: Edge::default(), begun_at: self.begun_at })
    }

    /// Reads what is stored already. `None`: the file does not hold it any more.
    fn resume(&self, state: &State) -> Result<Option<Begun>, Failure> {
        let mut begun = self.beginning()?;
        begun.begun_at = begun.begun_at.max(state.begun_at);
        while begun.edge.digest.records < state.records {
            let Ok(Some(record)) = self.next(&mut begun.records, false) else { return Ok(None) };
            let hash = record_hash(&record.key, &record.content_type, &record.value);
            note(&mut begun.ledger, &record.key, hash)?;
            begun.edge.digest.add(hash);
        }
        begun.edge.offset = if state.records == 0 { 0 } else { begun.records.offset() };
        Ok(state.is_at(&begun.edge).then_some(begun))
    }

    /// The next record that can be read; those that cannot are left out, as many as are allowed.
    fn next(&self, records: &mut Records, says: bool) -> Result<Option<Record>, TransferError> {
        loop {
            let fault = match records.next() {
                Ok(record) => return Ok(record),
                Err(fault) => fault,
            };
            let skipped = self.skipped.load(Ordering::Relaxed);
            if !fault.is_of_one_record() || skipped >= self.wanted.skip_bad {
                return Err(TransferError::Record { file: self.source.name.clone(), fault, skipped });
            }
            self.skipped.store(skipped + 1, Ordering::Relaxed);
            if says && skipped < SKIPPED_SHOWN_MAX {
                eprintln!("left out: {}, {fault}", self.source.name);
            }
        }
    }

    /// Puts every record that is not stored yet. The ledger holds all of them then.
    fn put_all(&self, begun: Begun, window: &Window, keeper: &Keeper) -> Result<(Ledger, Kinds), Failure> {
        let lanes = (LANES_PER_NODE * self.members.all.len()).min(LANES_MAX);
        let (trouble, is_over) = (Trouble::default(), AtomicBool::new(false));
        let (keyspace, table) = split(&self.target.name)?;
        let sending = Sending {
            members: &self.members,
            window,
            trouble: &trouble,
            path: format!("/kv/{keyspace}/{table}:batch"),
            consistency: &self.wanted.consistency,
            reads_first: self.target.is_causal && !self.wanted.blind,
            begun_at: (!self.target.is_causal).then_some(begun.begun_at),
            run: format!("{:016x}", rand::random::<u64>()),
            file: &self.source.name,
            can_resume: keeper.works(),
            failed: Mutex::new(None),
        };
        let clients: Vec<Vec<Client>> = (0..lanes).map(|_| self.members.batch_clients(self.global)).collect();
        let read = std::thread::scope(|scope| {
            let (doors, ends): (Vec<_>, Vec<_>) = (0..lanes).map(|_| sync_channel::<Piece>(LANE_RECORDS_MAX)).unzip();
            let (sending, is_over, trouble) = (&sending, &is_over, &trouble);
            let mut sent = Vec::new();
            for (home, (pieces, clients)) in ends.into_iter().zip(&clients).enumerate() {
                sent.push(scope.spawn(move || sending.lane(home, clients, &pieces)));
            }
            let watch = scope.spawn(move || self.watch(window, trouble, keeper, is_over));
            let read = self.read_all(begun, window, doors);
            // No more comes: what was read is put, also after a record that cannot be read.
            for lane in sent {
                lane.join().ok();
            }
            is_over.store(true, Ordering::Relaxed);
            watch.join().ok();
            read
        });
        if let Some(failure) = sending.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure);
        }
        let ledger = read?;
        if !window.is_empty() && !window.is_stopped() {
            // A lane that panicked has said so itself.
            return Err(anyhow::anyhow!("a part of the import failed; the same command again goes on").into());
        }
        Ok((ledger, trouble.kinds()))
    }

    /// Reads to the end and gives each record to the lane of its key; ends early if the import is stopped.
    fn read_all(&self, begun: Begun, window: &Window, doors: Vec<SyncSender<Piece>>) -> Result<Ledger, TransferError> {
        let Begun { mut records, mut ledger, edge, .. } = begun;
        let lanes = u128::try_from(doors.len()).unwrap_or(1);
        let mut before = edge.offset;
        while let Some(record) = self.next(&mut records, true)? {
            let hash = record_hash(&record.key, &record.content_type, &record.value);
            let key_hash = note(&mut ledger, &record.key, hash)?;
            let end = records.offset();
            let Some(number) = window.enter(end, end - before, record.value.len(), hash) else { break };
            before = end;
            let lane = usize::try_from(key_hash % lanes).unwrap_or(0);
            let Record { line, key, value, content_type } = record;
            if doors[lane].send(Piece { number, line, key, value, content_type }).is_err() {
                break;
            }
        }
        Ok(ledger)
    }

    /// Shows how far it is and writes it down.
    fn watch(&self, window: &Window, trouble: &Trouble, keeper: &Keeper, is_over: &AtomicBool) {
        let mut progress = Progress::new("import");
        let mut kept = None;
        while !is_over.load(Ordering::Relaxed) {
            let done = window.done();
            progress.show(&Look {
                records: done.records,
                bytes: done.bytes,
                bytes_total: self.source.length,
                records_total: None,
                failures: trouble.count(),
                left_out: self.skipped.load(Ordering::Relaxed),
                trouble: trouble.last(),
            });
            if kept.is_none_or(|kept| now() - kept >= STATE_EVERY) && keeper.keep(&window.edge()) {
                kept = Some(now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        progress.clear();
    }

    fn read_back(&self, ledger: &Ledger, keys: u64) -> Result<Vec<ReadBack>, Failure> {
        let wanted = Wanted { table: &self.target.name, consistency: &self.wanted.consistency, newest: false };
        verify::read_back(&wanted, ledger, keys, &self.members, self.global)
    }
}

fn note(ledger: &mut Ledger, key: &[u8], record_hash: u128) -> Result<u128, TransferError> {
    let key_hash = key_hash(key);
    ledger.add(key_hash, record_hash).map_err(TransferError::file("write a temporary file"))?;
    Ok(key_hash)
}
