//! What the files of an SSTable are called: a random id and the component, never a clock or a user's name.

use std::fmt;

/// A table's 128-bit random id: it names the files and seeds every checksum in them, so that a block of another file
/// never passes for one of this. Drawn by the caller, never from a clock, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 16]);

/// One file of an SSTable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Component {
    Data,
    Index,
    Filter,
    Statistics,
}

impl Component {
    pub const ALL: [Component; 4] = [Component::Data, Component::Index, Component::Filter, Component::Statistics];

    /// The component's number in file headers and checksum seeds.
    pub(super) const fn number(self) -> u8 {
        match self {
            Component::Data => 1,
            Component::Index => 2,
            Component::Filter => 3,
            Component::Statistics => 4,
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Component::Data => "-Data.db",
            Component::Index => "-Index.db",
            Component::Filter => "-Filter.db",
            Component::Statistics => "-Statistics.db",
        }
    }

    /// The file's name under the directory `prefix` (`""` is the disk's root).
    pub fn file_name(self, prefix: &str, file: FileId) -> String {
        match prefix {
            "" => format!("{file}{}", self.suffix()),
            prefix => format!("{prefix}/{file}{}", self.suffix()),
        }
    }

    /// The inverse of `file_name` for a name without its directory: what an orphan sweep asks of each entry.
    pub fn parse_file_name(name: &str) -> Option<(FileId, Component)> {
        Component::ALL.into_iter().find_map(|component| {
            let id = name.strip_suffix(component.suffix())?;
            Some((FileId::parse(id)?, component))
        })
    }
}

impl FileId {
    /// Thirty-two lower-case hexadecimal digits, exactly.
    pub fn parse(text: &str) -> Option<FileId> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let mut nibbles = pair.iter().map(|digit| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            });
            *byte = nibbles.next()?? << 4 | nibbles.next()??;
        }
        Some(FileId(id))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suffix().trim_start_matches('-'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Promise: P22
    #[test]
    fn names_parse_back_and_nothing_else_does() {
        let file = FileId([0, 1, 2, 0xab, 0xff, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        for component in Component::ALL {
            let name = component.file_name("", file);
            assert_eq!(Component::parse_file_name(&name), Some((file, component)));
            assert_eq!(component.file_name("shard/1", file), format!("shard/1/{name}"));
        }
        for bad in ["", "-Data.db", "MANIFEST", "00-Data.db", "000102ABff05060708090a0b0c0d0e0f-Data.db"] {
            assert_eq!(Component::parse_file_name(bad), None, "{bad}");
        }
    }
}
