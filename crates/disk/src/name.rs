//! Which names a disk accepts: none that could leave its root.

use crate::{DiskError, limits};

/// Accepts `a`, `a/b.c`; refuses empty parts, `.`, `..`, anything but `[A-Za-z0-9._-]`, and names that are too long.
pub(crate) fn check_name(name: &str) -> Result<(), DiskError> {
    let part_is_good = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if name.len() <= limits::NAME_BYTES_MAX && name.split('/').all(part_is_good) {
        return Ok(());
    }
    Err(DiskError::InvalidName { name: name.chars().take(limits::NAME_BYTES_MAX).collect() })
}

/// As `check_name`, and `""` is the root.
pub(crate) fn check_dir(name: &str) -> Result<(), DiskError> {
    if name.is_empty() { Ok(()) } else { check_name(name) }
}

/// The directory that holds a name; `""` is the root.
pub(crate) fn parent_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last part of a name.
pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

/// `name` inside `dir`, which may be the root.
pub(crate) fn inside(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Promise: P22
    #[test]
    fn a_name_that_could_leave_the_root_is_refused() {
        for name in ["", "/", "/etc/passwd", "..", "a/..", "../a", "a//b", "a/", ".", "./a", "a\0b", "ä", "a b", "a\\b"]
        {
            assert!(matches!(check_name(name), Err(DiskError::InvalidName { .. })), "{name:?}");
        }
        for name in ["a", "a/b", "Data.db", "log/00000000000000000001.log", "..a", "a.."] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
        assert!(check_name(&"a".repeat(limits::NAME_BYTES_MAX + 1)).is_err());
        assert_eq!(check_dir(""), Ok(()));
    }

    proptest! {
        #[test]
        fn an_accepted_name_has_only_plain_parts(name in "[a-c./\\PC]{0,12}") {
            if check_name(&name).is_ok() {
                let parts: Vec<_> = std::path::Path::new(&name).components().collect();
                prop_assert!(parts.iter().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(parts.len(), name.split('/').count());
            }
        }
    }
}
