//! What ends an import or an export, and what a person does next.

use crate::{
    exit::Verdict,
    records::{Fault, Format, Unfit},
};
use kula_operator::codes::{self, Code};
use serde_json::Value;
use std::{io, time::Duration};

/// Why an import or export did not do all that was asked. Each says what stands now.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Nothing was done.
    #[error("what {file} holds cannot be told from its name")]
    Format { file: String },
    #[error("cannot {what}: {source}")]
    File { what: String, source: io::Error },
    /// The records before it are stored.
    #[error("{file}, {fault}")]
    Record { file: String, fault: Fault, skipped: u64 },
    /// The records before it are stored.
    #[error("{file}, line {line}: the cluster refuses this record: {}", .problem["title"].as_str().unwrap_or("?"))]
    Refused { file: String, line: u64, problem: Value },
    #[error("interrupted after {records} records")]
    Interrupted { records: u64, can_resume: bool },
    #[error("no progress for {} s, {records} records are stored: {why}", .waited.as_secs())]
    GaveUp { records: u64, waited: Duration, why: String, can_resume: bool },
    /// Everything is stored as far as the cluster said.
    #[error("read back through {node}: {missing} of {keys} records are missing, {different} are different")]
    Differs { node: String, keys: u64, missing: u64, different: u64 },
    /// Everything is stored.
    #[error("not read back through {}: {why}", .nodes.join(", "))]
    Unread { nodes: Vec<String>, why: String },
    /// No file was written.
    #[error("the key {key:?} cannot be written as {format}: {unfit}")]
    Unfit { key: String, format: Format, unfit: Unfit },
    /// No file was written.
    #[error("the key {key:?} has siblings: concurrent writes that nobody has merged")]
    Siblings { key: String, table: String },
}

impl TransferError {
    /// A file that could not be used.
    pub fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| TransferError::File { what, source }
    }

    fn page(&self) -> Option<&'static Code> {
        Some(match self {
            TransferError::Format { .. } => &codes::FILE_FORMAT,
            TransferError::File { .. } => &codes::FILE_UNUSABLE,
            TransferError::Record { fault, .. } => match fault {
                Fault::Io(_) => &codes::FILE_UNUSABLE,
                Fault::Header { .. } | Fault::Malformed { .. } => &codes::RECORD_MALFORMED,
                Fault::NoKey { .. } | Fault::NoKeyColumn { .. } => &codes::RECORD_WITHOUT_KEY,
                Fault::TooLarge { .. } => &codes::RECORD_TOO_LARGE,
            },
            TransferError::Refused { problem, .. } => return codes::find(problem["code"].as_str()?),
            TransferError::Interrupted { .. } => &codes::IMPORT_INTERRUPTED,
            TransferError::GaveUp { .. } => &codes::IMPORT_GAVE_UP,
            TransferError::Differs { .. } => &codes::READ_BACK_DIFFERS,
            TransferError::Unread { .. } => &codes::READ_BACK_INCOMPLETE,
            TransferError::Unfit { .. } => &codes::RECORD_UNFIT,
            TransferError::Siblings { .. } => &codes::EXPORT_SIBLINGS,
        })
    }

    pub fn code(&self) -> Option<&'static str> {
        self.page().map(|code| code.code)
    }

    pub fn why(&self) -> Option<String> {
        match self {
            TransferError::Refused { problem, .. } => problem["detail"].as_str().map(str::to_string),
            TransferError::Record { skipped: 1.., .. } => {
                Some("more records cannot be read than --skip-bad allows".into())
            }
            _ => None,
        }
    }

    /// The next command.
    pub fn next(&self) -> String {
        let resumed = |can_resume: bool| {
            if can_resume {
                "the same command again goes on where it was"
            } else {
                "give the same command and the same input again: what is stored is only put once more"
            }
        };
        match self {
            TransferError::Format { .. } => "say it: --format jsonl, csv or deb822".into(),
            TransferError::File { .. } => "check the path, its permissions, and df -h".into(),
            TransferError::Record { fault, .. } => match fault {
                Fault::Io(_) => {
                    "check the disk or pipe it comes from; the same command again goes on where it was".into()
                }
                Fault::Header { .. } => "look at the beginning of the file; --format says what it holds".into(),
                Fault::NoKey { .. } | Fault::NoKeyColumn { .. } => {
                    "name the field that every record has: --key FIELD".into()
                }
                Fault::Malformed { .. } | Fault::TooLarge { .. } => {
                    "mend that line and give the same command again, or leave such records out: --skip-bad 10".into()
                }
            },
            TransferError::Refused { problem, .. } => problem["hint"].as_str().unwrap_or("kula status").to_string(),
            TransferError::Interrupted { can_resume, .. } => resumed(*can_resume).into(),
            TransferError::GaveUp { can_resume, .. } => {
                format!("kula status says what is amiss; then {}", resumed(*can_resume))
            }
            TransferError::Differs { .. } => {
                "was the table written to meanwhile? if not, import again: it puts every record once more".into()
            }
            TransferError::Unread { .. } => {
                "when it is back (kula status), import once more with --verify: it changes nothing".into()
            }
            TransferError::Unfit { unfit, .. } if unfit.fits_jsonl() => {
                "jsonl without --key takes any table: kula export FILE.jsonl".into()
            }
            TransferError::Unfit { .. } => "leave --key out: the key is written in a field of its own".into(),
            TransferError::Siblings { key, table } => {
                format!("look at them with kula get {key:?} -t {table}; or export the newest of each with --newest")
            }
        }
    }

    pub fn verdict(&self) -> Verdict {
        match self {
            TransferError::Format { .. } => Verdict::Usage,
            TransferError::GaveUp { .. } => Verdict::Unavailable,
            TransferError::Unread { .. } => Verdict::Degraded,
            TransferError::File { .. }
            | TransferError::Record { .. }
            | TransferError::Refused { .. }
            | TransferError::Interrupted { .. }
            | TransferError::Differs { .. }
            | TransferError::Unfit { .. }
            | TransferError::Siblings { .. } => Verdict::Error,
        }
    }
}
