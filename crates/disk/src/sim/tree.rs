//! A directory tree as a value, and the operations that change it.
//!
//! A simulated disk is two trees: what a reader sees and what a power loss would leave. Each operation is an assignment
//! (these bytes here, this name to that file), so any subset of operations, applied in order, is a possible tree.

use super::image::{Image, mix};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The number of a file or directory, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub u64);

pub(super) const ROOT: Inode = Inode(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(Inode),
    Directory(Inode),
}

impl Entry {
    pub(super) fn inode(self) -> Inode {
        match self {
            Entry::File(inode) | Entry::Directory(inode) => inode,
        }
    }
}

/// One name of one directory given to a file, or to nobody.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    pub directory: Inode,
    pub name: Arc<str>,
    pub entry: Option<Entry>,
}

/// One change. Renaming is two namings in one operation: a journalling file system does both or neither.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { inode: Inode, offset: u64, bytes: Arc<[u8]> },
    SetLength { inode: Inode, bytes: u64 },
    Allocate { inode: Inode, bytes: u64 },
    Name(Vec<Naming>),
}

impl Change {
    /// The file whose bytes or length it changes.
    pub(super) fn file(&self) -> Option<Inode> {
        match self {
            Change::Write { inode, .. } | Change::SetLength { inode, .. } | Change::Allocate { inode, .. } => {
                Some(*inode)
            }
            Change::Name(_) => None,
        }
    }

    pub(super) fn namings(&self) -> &[Naming] {
        match self {
            Change::Name(namings) => namings,
            Change::Write { .. } | Change::SetLength { .. } | Change::Allocate { .. } => &[],
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Write { inode, offset, bytes } => write!(f, "write file {} at {offset}+{}", inode.0, bytes.len()),
            Change::SetLength { inode, bytes } => write!(f, "set the length of file {} to {bytes}", inode.0),
            Change::Allocate { inode, bytes } => write!(f, "allocate {bytes} for file {}", inode.0),
            Change::Name(namings) => {
                for (index, Naming { directory, name, entry }) in namings.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    match entry {
                        Some(entry) => write!(f, "{separator}name {}/{name} = {}", directory.0, entry.inode().0)?,
                        None => write!(f, "{separator}unname {}/{name}", directory.0)?,
                    }
                }
                Ok(())
            }
        }
    }
}

type Directory = BTreeMap<Arc<str>, Entry>;

#[derive(Clone, Default)]
pub(super) struct Tree {
    pub files: BTreeMap<Inode, Arc<Image>>,
    pub directories: BTreeMap<Inode, Arc<Directory>>,
}

impl Tree {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { inode, offset, bytes } => self.file_mut(*inode).write(bytes, *offset),
            Change::SetLength { inode, bytes } => self.file_mut(*inode).set_len(*bytes),
            Change::Allocate { inode, bytes } => self.file_mut(*inode).grow(*bytes),
            Change::Name(namings) => namings.iter().for_each(|naming| self.name(naming)),
        }
    }

    fn name(&mut self, Naming { directory, name, entry }: &Naming) {
        let directory = Arc::make_mut(self.directories.entry(*directory).or_default());
        match entry {
            Some(entry) => directory.insert(name.clone(), *entry),
            None => directory.remove(name),
        };
        match entry {
            // A name may be durable before its file is: then the file is empty.
            Some(Entry::File(inode)) => drop(self.files.entry(*inode).or_default()),
            Some(Entry::Directory(inode)) => drop(self.directories.entry(*inode).or_default()),
            None => {}
        }
    }

    pub(super) fn file_mut(&mut self, inode: Inode) -> &mut Image {
        Arc::make_mut(self.files.entry(inode).or_default())
    }

    pub(super) fn file(&self, inode: Inode) -> Option<&Image> {
        self.files.get(&inode).map(|image| &**image)
    }

    pub(super) fn directory(&self, inode: Inode) -> Option<&Directory> {
        self.directories.get(&inode).map(|directory| &**directory)
    }

    /// The entry at a path; the root for `""`.
    pub(super) fn lookup(&self, path: &str) -> Option<Entry> {
        let mut entry = Entry::Directory(ROOT);
        if path.is_empty() {
            return Some(entry);
        }
        for part in path.split('/') {
            let Entry::Directory(inode) = entry else { return None };
            entry = *self.directory(inode)?.get(part)?;
        }
        Some(entry)
    }

    /// The files below a directory, by their paths, with their lengths.
    pub(super) fn files_below(&self, path: &str) -> Vec<(String, u64)> {
        let Some(Entry::Directory(inode)) = self.lookup(path) else { return Vec::new() };
        let mut files = Vec::new();
        for (name, entry) in self.directory(inode).into_iter().flatten() {
            let path = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
            match entry {
                Entry::Directory(_) => files.extend(self.files_below(&path)),
                Entry::File(inode) => files.push((path, self.file(*inode).map_or(0, Image::len))),
            }
        }
        files
    }

    /// Of all that can be reached from the root: names, lengths, bytes. Which numbers the files have does not matter.
    pub(super) fn hash(&self) -> u64 {
        self.hash_below(ROOT, 1)
    }

    fn hash_below(&self, directory: Inode, path_hash: u64) -> u64 {
        let mut hash = mix(path_hash);
        let Some(entries) = self.directory(directory) else { return hash };
        for (name, entry) in entries {
            let path_hash = name.bytes().fold(mix(path_hash), |hash, byte| mix(hash ^ u64::from(byte)));
            hash = hash.wrapping_add(match entry {
                Entry::Directory(inode) => self.hash_below(*inode, path_hash),
                Entry::File(inode) => mix(path_hash ^ mix(self.file(*inode).map_or(0, Image::hash))),
            });
        }
        hash
    }
}
