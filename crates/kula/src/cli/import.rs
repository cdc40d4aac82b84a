//! The words of `kula import` and `kula export`.

use crate::records::Format;
use clap::Args;
use std::path::PathBuf;

/// Put every record of a file (jsonl, csv, Debian's package index) into a table
///
/// A record becomes one JSON object, stored as application/json under its key, so that `kula get` shows it and any
/// format may be exported as any other. Records go to all nodes of the cluster in batches, each at QUORUM; if a node
/// dies, the others take its share. Memory is bounded however large the file is.
///
/// An import that is interrupted, by Ctrl-C, kill -9 or a lost cluster, goes on where it was when the same command is
/// given again: FILE.kula-import says how far everything is stored, until the import is complete.
#[derive(Args, Debug)]
#[command(after_help = "Formats:\n  \
    jsonl    one JSON object a line; the line is the value, character for character\n  \
    csv      a line of column names, then a line a record; an empty cell is no field\n  \
    deb822   Debian's package index: stanzas of `Field: value` lines\n\n\
    Examples:\n  \
    kula import packages.deb822 --key Package --verify     into demo.packages, made if it is not there\n  \
    apt-cache dumpavail | kula import - --format deb822 --key Package\n  \
    kula import orders.csv --key order_id -t shop.orders   (kula table create shop.orders)\n  \
    kula import backup.jsonl -t shop.orders                what kula export wrote needs no --key\n\n\
    Two records with the same key: the later one stays. More: docs/import.md")]
pub struct Import {
    /// The file; - reads standard input, which cannot be resumed
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Keyspace and table [default: demo.packages, which is made if it is not there]
    #[arg(short, long, value_name = "KEYSPACE.TABLE")]
    pub table: Option<String>,
    /// How the file holds its records [default: what its name ends in]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The field that holds the key [default: a field _key that comes first, as kula export writes it]
    #[arg(long, value_name = "FIELD")]
    pub key: Option<String>,
    /// Consistency of every put, and of the read-back
    #[arg(short, long, value_name = "LEVEL", default_value = "quorum")]
    pub consistency: String,
    /// Then read every record back through every node, and compare
    #[arg(long)]
    pub verify: bool,
    /// Begin at the beginning, whatever an earlier import left
    #[arg(long)]
    pub restart: bool,
    /// Leave out up to N records that cannot be read, and say which
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_bad: u64,
    /// In a bucket: do not read first; every record becomes one more sibling
    #[arg(long)]
    pub blind: bool,
}

/// Write every record of a table to a file (jsonl, csv, deb822)
///
/// Records come in the ring's order. The file appears when it is whole, or not at all. What is written reads back the same: an import of it changes
/// nothing. Without --key the key stands first, in a field of its own called _key, which an import takes out again; so
/// any table can be written as jsonl, whatever its values are. With --key FIELD nothing is added, and every record must
/// hold its key in that field.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    kula export packages.jsonl                                     the table demo.packages\n  \
    kula export packages.deb822 --key Package                      stanzas as they came\n  \
    kula export - -t shop.orders --format csv --key order_id | head\n\n\
    csv and deb822 hold text only: numbers would come back as text, and the summary says how many. More: docs/import.md")]
pub struct Export {
    /// The file; - writes to standard output
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Keyspace and table
    #[arg(short, long, value_name = "KEYSPACE.TABLE", default_value = "demo.packages")]
    pub table: String,
    /// How the file holds the records [default: what its name ends in, else jsonl]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The field that holds the key already; without it a field _key is written first
    #[arg(long, value_name = "FIELD")]
    pub key: Option<String>,
    /// Consistency of every read
    #[arg(short, long, value_name = "LEVEL", default_value = "quorum")]
    pub consistency: String,
    /// Of several siblings the newest; without it a key with siblings ends the export
    #[arg(long)]
    pub newest: bool,
}
