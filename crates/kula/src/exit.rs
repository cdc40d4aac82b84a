//! What a command's exit code says.

use std::process::ExitCode;

/// 0 ok, 1 error or not found, 2 usage, 3 degraded, 4 unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Error,
    Usage,
    Degraded,
    Unavailable,
}

impl Verdict {
    pub const fn number(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Error => 1,
            Verdict::Usage => 2,
            Verdict::Degraded => 3,
            Verdict::Unavailable => 4,
        }
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        ExitCode::from(verdict.number())
    }
}
