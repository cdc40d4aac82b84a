//! `FILE.kula-import`: how far an import of that file came, so that the same command goes on there.
//!
//! It holds a digest of every record below its offset. A resumed import reads those records again (which costs a hundredth
//! of putting them) and goes on only if they are the same: neither a changed file nor another way of reading it can slip
//! through, whatever its length and date say. It also names the table by its id and the cluster by its own, because a table
//! that was dropped and made again has nothing of what was acknowledged.

use super::window::Edge;
use crate::records::Format;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What this version writes.
const VERSION: u32 = 1;
/// No state is longer.
const STATE_BYTES_MAX: u64 = 64 << 10;

/// What an import is of, and into what: a state of anything else is of no use to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub cluster: String,
    pub table: String,
    pub table_id: String,
    pub format: String,
    pub key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    #[serde(flatten)]
    pub subject: Subject,
    /// Everything in the file before it is stored.
    pub offset: u64,
    pub records: u64,
    /// Where the timestamps of its records began.
    pub begun_at: i64,
    digest: String,
}

/// What an earlier import left.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// It is of something else, and why.
    Other(&'static str),
    State(State),
}

impl State {
    pub fn new(subject: &Subject, begun_at: i64, edge: &Edge) -> Self {
        State {
            version: VERSION,
            subject: subject.clone(),
            offset: edge.offset,
            records: edge.digest.records,
            begun_at,
            digest: edge.digest.to_string(),
        }
    }

    /// Whether these are the records it speaks of.
    pub fn is_at(&self, edge: &Edge) -> bool {
        *self == State::new(&self.subject, self.begun_at, edge)
    }
}

impl Subject {
    pub fn new(cluster: &str, table: &str, table_id: &str, format: Format, key: Option<&str>) -> Self {
        Subject {
            cluster: cluster.to_string(),
            table: table.to_string(),
            table_id: table_id.to_string(),
            format: format.name().to_string(),
            key: key.map(str::to_string),
        }
    }

    fn differs(&self, other: &Subject) -> Option<&'static str> {
        if self.cluster != other.cluster {
            Some("another cluster")
        } else if self.table != other.table {
            Some("another table")
        } else if self.table_id != other.table_id {
            Some("a table of that name that is no more")
        } else if (&self.format, &self.key) != (&other.format, &other.key) {
            Some("another format or key")
        } else {
            None
        }
    }
}

/// Where the state of an import of this file stands.
pub fn path_of(file: &Path) -> PathBuf {
    beside(file, ".kula-import")
}

/// The file's path with more at its end.
pub fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_os_string();
    path.push(ending);
    path.into()
}

#[allow(clippy::disallowed_methods, reason = "the import's own file, not the database's")]
pub fn load(path: &Path, subject: &Subject) -> io::Result<Left> {
    let length = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Nothing),
        metadata => metadata?.len(),
    };
    let text = if length > STATE_BYTES_MAX { Vec::new() } else { std::fs::read(path)? };
    Ok(match serde_json::from_slice::<State>(&text) {
        Ok(state) if state.version == VERSION => match state.subject.differs(subject) {
            Some(what) => Left::Other(what),
            None => Left::State(state),
        },
        // Cut short by a crash, or of another version: what it said is only time saved.
        Ok(_) | Err(_) => Left::Other("an import it does not tell of"),
    })
}

/// Whole or not at all: written beside, then renamed.
#[allow(clippy::disallowed_methods, reason = "the import's own file, not the database's")]
pub fn save(path: &Path, state: &State) -> io::Result<()> {
    let temporary = beside(path, ".new");
    let mut file = std::fs::File::options().create(true).write(true).truncate(true).open(&temporary)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    drop(file);
    std::fs::rename(&temporary, path)
}

/// Forgets it; one that is not there is forgotten already.
#[allow(clippy::disallowed_methods, reason = "the import's own file, not the database's")]
pub fn forget(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Digest;

    #[test]
    fn a_state_is_used_only_for_what_it_is_of() {
        let subject = Subject::new("c1", "demo.packages", "t1", Format::Deb822, Some("Package"));
        let edge = Edge { offset: 1_000, digest: Digest { records: 7, sum: 9 } };
        let path = std::env::temp_dir().join(format!("kula-state-{}", std::process::id()));
        assert_eq!(load(&path, &subject).unwrap(), Left::Nothing);
        let state = State::new(&subject, 5, &edge);
        save(&path, &state).unwrap();
        assert_eq!(load(&path, &subject).unwrap(), Left::State(state.clone()));
        for other in [
            Subject { cluster: "c2".into(), ..subject.clone() },
            Subject { table: "demo.others".into(), ..subject.clone() },
            Subject { table_id: "t2".into(), ..subject.clone() },
            Subject { key: None, ..subject.clone() },
        ] {
            assert!(matches!(load(&path, &other).unwrap(), Left::Other(_)));
        }
        assert!(state.is_at(&edge));
        assert!(!state.is_at(&Edge { offset: 999, ..edge }));
        assert!(!state.is_at(&Edge { digest: Digest { records: 7, sum: 8 }, ..edge }));
        std::fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(matches!(load(&path, &subject).unwrap(), Left::Other(_)), "cut short");
        forget(&path).unwrap();
        forget(&path).unwrap();
        assert_eq!(load(&path, &subject).unwrap(), Left::Nothing);
    }
}
