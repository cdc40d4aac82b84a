//! Names of keyspaces, tables and columns.

use crate::limits::NAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A name that users give: `[a-z0-9_]{1,48}`. Checked once, here; it never becomes a file path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a name was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name has 1 to 48 characters, this one has {len}")]
    Length { len: usize },
    #[error("a name is made of a-z, 0-9 and _, this one has {found:?}")]
    Character { found: char },
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(NameError::Length { len: text.chars().count() });
        }
        match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_')) {
            Some(found) => Err(NameError::Character { found }),
            None => Ok(Name(text.into())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Promise: P22
    #[test]
    fn a_name_is_short_lower_case_and_plain() {
        for good in ["kv", "default", "a", "0", "_", &"x".repeat(48)] {
            assert_eq!(good.parse::<Name>().map(String::from), Ok(good.to_string()));
        }
        for bad in ["", "../etc", "CON", "naïve", "a b", "a\0", "a.b", &"x".repeat(49)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
