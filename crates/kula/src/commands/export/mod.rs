//! `kula export`: every record of a table to a file, which appears when it is whole.
//!
//! Pages come in the ring's order through one node, and through another if that fails. A csv begins with its columns, which
//! are known only when everything was seen: the records wait in a file without a name in between, so that the table is read
//! once and what is written is what was seen.

mod out;

use super::import::{
    TransferError, format_of, is_standard,
    ledger::nameless,
    limits::FILE_BUFFER_BYTES,
    members::Members,
    progress::{Look, Progress, many},
    scan::{Entry, Pages, Shown, Wanted},
    summary::micros,
    trouble::Trouble,
};
use crate::{
    cli::{Export, Global, Output},
    client::{Client, Failure},
    exit::Verdict,
    print,
    records::{Digest, Format, Reader, Stored, Unfit, Writer, record_hash, shortened},
    stopwatch::now,
};
use out::Out;
use serde_json::json;
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Seek, Write},
    time::Duration,
};

pub fn run(wanted: &Export, global: &Global) -> Result<Verdict, Failure> {
    let format = format_of(&wanted.file, wanted.format, Some(Format::Jsonl))?;
    let level = wanted.consistency.parse::<kula_types::Consistency>();
    level.map_err(|error| Failure::Usage(error.to_string()))?;
    let members = Members::ask(&Client::new(global)?)?;
    let clients = members.clients(global)?;
    let exporting = Exporting { wanted, format, members: &members, clients: &clients };
    let mut out = Out::create(&wanted.file)?;
    let began = now();
    let written = exporting.write(&mut out);
    let bytes = out.bytes;
    let finished = match written {
        Ok(written) => out.finish().map(|()| written).map_err(Failure::from),
        Err(failure) => {
            out.abandon();
            Err(failure)
        }
    };
    match finished {
        Err(Failure::Transfer(error)) if is_a_closed_pipe(&error) => Ok(Verdict::Ok),
        Err(failure) => Err(failure),
        Ok(written) => {
            exporting.said(&written, bytes, began.elapsed(), global);
            Ok(Verdict::Ok)
        }
    }
}

/// Whoever read our output has enough of it.
fn is_a_closed_pipe(error: &TransferError) -> bool {
    matches!(error, TransferError::File { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

struct Exporting<'a> {
    wanted: &'a Export,
    format: Format,
    members: &'a Members,
    clients: &'a [Client],
}

/// What was written.
#[derive(Default)]
struct Written {
    digest: Digest,
    /// Values that end some day, which no format says.
    expiring: u64,
    /// Fields that were no text and come back as text.
    turned_to_text: u64,
}

impl Exporting<'_> {
    fn write(&self, out: &mut Out) -> Result<Written, Failure> {
        let mut writer = Writer::new(self.format, self.wanted.key.as_deref());
        let mut written = if self.format == Format::Csv {
            let (spool, written) = self.spool(&mut writer)?;
            let mut buffer = Vec::new();
            writer.head(&mut buffer);
            out.write(&buffer)?;
            let mut spool = Reader::new(BufReader::with_capacity(FILE_BUFFER_BYTES, spool), Format::Jsonl, None);
            let broken =
                |fault| TransferError::File { what: "read a temporary file".into(), source: io::Error::other(fault) };
            while let Some(record) = spool.next().map_err(broken)? {
                buffer.clear();
                let stored = Stored { key: &record.key, value: &record.value, content_type: &record.content_type };
                writer.write(stored, &mut buffer).map_err(|unfit| self.unfit(stored.key, unfit))?;
                out.write(&buffer)?;
            }
            written
        } else {
            let mut buffer = Vec::new();
            self.each(|stored| {
                buffer.clear();
                writer.write(stored, &mut buffer).map_err(|unfit| self.unfit(stored.key, unfit))?;
                out.write(&buffer)
            })?
        };
        written.turned_to_text = writer.turned_to_text;
        Ok(written)
    }

    /// Everything of the table, as jsonl, in a file without a name; the writer has seen all of it then.
    fn spool(&self, writer: &mut Writer) -> Result<(File, Written), Failure> {
        let failed = || TransferError::file("write a temporary file");
        let mut spool = BufWriter::with_capacity(FILE_BUFFER_BYTES, nameless().map_err(failed())?);
        let (mut plain, mut buffer) = (Writer::new(Format::Jsonl, None), Vec::new());
        let written = self.each(|stored| {
            buffer.clear();
            let taken = writer.look_at(stored).and_then(|()| plain.write(stored, &mut buffer));
            taken.map_err(|unfit| self.unfit(stored.key, unfit))?;
            spool.write_all(&buffer).map_err(failed())
        })?;
        let mut file = spool.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.rewind().map_err(failed())?;
        Ok((file, written))
    }

    /// Every record of the table once.
    fn each(&self, mut take: impl FnMut(Stored<'_>) -> Result<(), TransferError>) -> Result<Written, Failure> {
        let Export { table, consistency, newest, .. } = self.wanted;
        let (trouble, mut written) = (Trouble::default(), Written::default());
        let mut progress = Progress::new("export");
        let mut bytes = 0;
        let wanted = Wanted { table, consistency, newest: *newest };
        let mut pages = Pages::new(&wanted, self.members, self.clients, &trouble)?;
        let ended = loop {
            let page = match pages.next() {
                Ok(Some(page)) => page,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            let taken: Result<(), TransferError> = page.iter().try_for_each(|entry| {
                let (stored, expires) = self.stored(entry)?;
                take(stored)?;
                bytes += u64::try_from(stored.value.len()).unwrap_or(u64::MAX);
                written.digest.add(record_hash(stored.key, stored.content_type, stored.value));
                written.expiring += u64::from(expires);
                Ok(())
            });
            if let Err(error) = taken {
                break Err(Failure::from(error));
            }
            let (records, failures) = (written.digest.records, trouble.count());
            progress.show(&Look { records, bytes, failures, trouble: trouble.last(), ..Look::default() });
        };
        progress.clear();
        ended.map(|()| written)
    }

    fn stored<'e>(&self, entry: &'e Entry) -> Result<(Stored<'e>, bool), TransferError> {
        match &entry.shown {
            Shown::One { value, content_type, expires } => {
                Ok((Stored { key: &entry.key, value, content_type }, *expires))
            }
            Shown::Siblings => {
                Err(TransferError::Siblings { key: shown(&entry.key), table: self.wanted.table.clone() })
            }
        }
    }

    fn unfit(&self, key: &[u8], unfit: Unfit) -> TransferError {
        TransferError::Unfit { key: shown(key), format: self.format, unfit }
    }

    /// Beside the records if those go to standard output.
    fn said(&self, written: &Written, bytes: u64, took: Duration, global: &Global) {
        let Written { digest, expiring, turned_to_text } = written;
        let text = match global.output {
            Output::Json => json!({
                "table": self.wanted.table, "records": digest.records, "bytes": bytes, "digest": digest.to_string(),
                "format": self.format.name(), "turned_to_text": turned_to_text, "expiring": expiring,
                "seconds": took.as_secs_f64(),
            })
            .to_string(),
            Output::Human => {
                let table = &self.wanted.table;
                let (records, size, took) =
                    (many(digest.records, "record"), print::bytes(bytes), print::micros(micros(took)));
                let mut text =
                    format!("exported {records} of {table}, {size} of {}, in {took}\ndigest {digest}", self.format);
                if *turned_to_text > 0 {
                    let fields = many(*turned_to_text, "field");
                    text.push_str(&format!(
                        "\nnote: {fields} held no text and would come back as text; jsonl keeps them"
                    ));
                }
                if *expiring > 0 {
                    let records = many(*expiring, "record");
                    text.push_str(&format!("\nnote: {records} will expire in the table; the file does not say so"));
                }
                text
            }
        };
        if is_standard(&self.wanted.file) { eprintln!("{text}") } else { println!("{text}") }
    }
}

fn shown(key: &[u8]) -> String {
    shortened(&String::from_utf8_lossy(key))
}
