//! Which keys were seen, and with what: exact, and small in memory however many there are.
//!
//! Entries of two hashes go to parts by the key's hash; a part that is full goes to a file without a name, which is gone
//! with the process. At the end one part after the other is looked at: the last entry of a key is the one that counts.

use super::limits::{LEDGER_PART_ENTRIES, LEDGER_PARTS};
use crate::records::Digest;
use kula_types::Map;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU32, Ordering},
};

/// Two hashes of 16 bytes.
const ENTRY_BYTES: usize = 32;

pub struct Ledger {
    parts: Vec<Part>,
    spilled: Option<File>,
    /// Chunks in the file: each holds one full part.
    chunks: u64,
}

#[derive(Default)]
struct Part {
    /// Encoded entries.
    waiting: Vec<u8>,
    /// Places in the file, oldest first.
    chunks: Vec<u64>,
}

/// What a table holds of what was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Of the imported keys as they were read.
    pub digest: Digest,
    pub missing: u64,
    pub different: u64,
    /// Keys of the table that the import did not bring.
    pub others: u64,
}

impl Ledger {
    pub fn new() -> Self {
        Ledger { parts: (0..LEDGER_PARTS).map(|_| Part::default()).collect(), spilled: None, chunks: 0 }
    }

    pub fn add(&mut self, key_hash: u128, record_hash: u128) -> io::Result<()> {
        let part = &mut self.parts[part_of(key_hash)];
        part.waiting.extend_from_slice(&key_hash.to_le_bytes());
        part.waiting.extend_from_slice(&record_hash.to_le_bytes());
        if part.waiting.len() < LEDGER_PART_ENTRIES * ENTRY_BYTES {
            return Ok(());
        }
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(nameless()?),
        };
        file.write_all_at(&part.waiting, place_of(self.chunks))?;
        part.chunks.push(self.chunks);
        part.waiting.clear();
        self.chunks += 1;
        Ok(())
    }

    /// Different keys, and the digest of the last record of each.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut digest = Digest::default();
        for part in 0..LEDGER_PARTS {
            self.last_of_each(part)?.values().for_each(|&record_hash| digest.add(record_hash));
        }
        Ok(digest)
    }

    /// Looks for everything here in `read`.
    pub fn compare(&self, read: &Ledger) -> io::Result<Comparison> {
        let mut comparison = Comparison::default();
        for part in 0..LEDGER_PARTS {
            let (expected, mut found) = (self.last_of_each(part)?, read.last_of_each(part)?);
            for (key_hash, record_hash) in expected {
                match found.remove(&key_hash) {
                    None => comparison.missing += 1,
                    Some(read) => {
                        comparison.digest.add(read);
                        comparison.different += u64::from(read != record_hash);
                    }
                }
            }
            comparison.others += u64::try_from(found.len()).unwrap_or(u64::MAX);
        }
        Ok(comparison)
    }

    fn last_of_each(&self, part: usize) -> io::Result<Map<u128, u128>> {
        let part = &self.parts[part];
        let mut last = Map::default();
        let mut chunk = vec![0; if part.chunks.is_empty() { 0 } else { LEDGER_PART_ENTRIES * ENTRY_BYTES }];
        for &place in &part.chunks {
            if let Some(file) = &self.spilled {
                file.read_exact_at(&mut chunk, place_of(place))?;
            }
            last.extend(entries(&chunk));
        }
        last.extend(entries(&part.waiting));
        Ok(last)
    }
}

fn part_of(key_hash: u128) -> usize {
    usize::from(key_hash.to_le_bytes()[0]) % LEDGER_PARTS
}

fn place_of(chunk: u64) -> u64 {
    chunk * u64::try_from(LEDGER_PART_ENTRIES * ENTRY_BYTES).unwrap_or(u64::MAX)
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = (u128, u128)> + '_ {
    let hash = |half: &[u8]| half.try_into().map_or(0, u128::from_le_bytes);
    bytes.chunks_exact(ENTRY_BYTES).map(move |entry| (hash(&entry[..16]), hash(&entry[16..])))
}

/// A file in the system's temporary directory that has lost its name already.
#[allow(clippy::disallowed_methods, reason = "a file of the import's own, not the database's")]
pub fn nameless() -> io::Result<File> {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let name = format!("kula-ledger-{}-{}", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{key_hash, record_hash};

    fn ledger(records: impl Iterator<Item = (u64, u64)>) -> Ledger {
        let mut ledger = Ledger::new();
        for (key, value) in records {
            let (key, value) = (key.to_le_bytes(), value.to_le_bytes());
            ledger.add(key_hash(&key), record_hash(&key, "t", &value)).unwrap();
        }
        ledger
    }

    /// More than fits in memory, so that parts go through the file.
    const MANY: u64 = 400_000;

    #[test]
    fn the_last_record_of_each_key_counts() {
        let twice = ledger((0..MANY).map(|key| (key, 1)).chain((0..MANY / 2).map(|key| (key, 2))));
        assert!(twice.chunks > 0);
        let once = ledger((0..MANY).rev().map(|key| (key, if key < MANY / 2 { 2 } else { 1 })));
        assert_eq!(twice.digest().unwrap(), once.digest().unwrap());
        assert_eq!(twice.digest().unwrap().records, MANY);
        let same = twice.compare(&once).unwrap();
        assert_eq!(same, Comparison { digest: once.digest().unwrap(), ..Comparison::default() });
    }

    #[test]
    fn what_is_missing_different_or_somebody_elses_is_counted() {
        let imported = ledger((0..10).map(|key| (key, 1)));
        let read = ledger((2..15).map(|key| (key, if key == 5 { 7 } else { 1 })));
        let compared = imported.compare(&read).unwrap();
        assert_eq!((compared.missing, compared.different, compared.others), (2, 1, 5));
        assert_eq!(compared.digest.records, 8);
        assert_ne!(compared.digest, imported.digest().unwrap());
    }
}
