//! How many replicas must answer.

use std::{fmt, str::FromStr};

/// A request's consistency level (Cassandra's words), or an exact number of replicas (Dynamo's W and R).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Consistency {
    Any,
    One,
    Two,
    Three,
    Quorum,
    All,
    LocalOne,
    LocalQuorum,
    EachQuorum,
    Exactly(u8),
}

/// Why a text is not a consistency level. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a consistency level; levels are any, one, two, three, quorum, all, local_one, local_quorum, each_quorum or a number of replicas"
)]
pub struct ConsistencyError {
    pub text: String,
}

impl Consistency {
    /// Replicas that must answer out of `rf_effective`; `None` for the levels that need more than one number (ANY
    /// counts hints, the data-centre levels count apart).
    pub const fn required(self, rf_effective: u32) -> Option<u32> {
        match self {
            Consistency::One => Some(1),
            Consistency::Two => Some(2),
            Consistency::Three => Some(3),
            Consistency::Quorum => Some(rf_effective / 2 + 1),
            Consistency::All => Some(rf_effective),
            Consistency::Exactly(n) => Some(n as u32),
            Consistency::Any | Consistency::LocalOne | Consistency::LocalQuorum | Consistency::EachQuorum => None,
        }
    }
}

impl FromStr for Consistency {
    type Err = ConsistencyError;

    fn from_str(text: &str) -> Result<Self, ConsistencyError> {
        let refuse = || ConsistencyError { text: text.chars().take(32).collect() };
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "any" => Consistency::Any,
            "one" => Consistency::One,
            "two" => Consistency::Two,
            "three" => Consistency::Three,
            "quorum" => Consistency::Quorum,
            "all" => Consistency::All,
            "local_one" => Consistency::LocalOne,
            "local_quorum" => Consistency::LocalQuorum,
            "each_quorum" => Consistency::EachQuorum,
            number => match number.parse::<u8>() {
                Ok(n) if n > 0 && number.bytes().all(|b| b.is_ascii_digit()) => Consistency::Exactly(n),
                _ => return Err(refuse()),
            },
        })
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Consistency::Any => "any",
            Consistency::One => "one",
            Consistency::Two => "two",
            Consistency::Three => "three",
            Consistency::Quorum => "quorum",
            Consistency::All => "all",
            Consistency::LocalOne => "local_one",
            Consistency::LocalQuorum => "local_quorum",
            Consistency::EachQuorum => "each_quorum",
            Consistency::Exactly(n) => return write!(f, "{n}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_as_they_print_and_count_what_they_say() {
        for text in ["any", "one", "two", "three", "quorum", "all", "local_one", "local_quorum", "each_quorum", "2"] {
            assert_eq!(text.parse::<Consistency>().map(|level| level.to_string()), Ok(text.to_string()));
        }
        for bad in ["", "0", "-1", "256", "quorums", "1.5", "+1"] {
            assert!(bad.parse::<Consistency>().is_err(), "{bad:?}");
        }
        let quorum = |rf| Consistency::Quorum.required(rf);
        assert_eq!([1, 2, 3, 4, 5].map(quorum), [1, 2, 2, 3, 3].map(Some));
    }
}
