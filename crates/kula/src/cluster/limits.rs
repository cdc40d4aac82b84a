//! How many, how long and how often, each with its reason.

use std::time::Duration;

/// Processes on one machine: each is a whole node with its threads and files. More nodes than this are a test of the
/// machine.
pub const NODES_MAX: u32 = 64;
/// Nodes without a word: the smallest cluster that keeps a quorum when it loses one.
pub const NODES_DEFAULT: u32 = 3;
/// The longest that `up` waits. A start replays at most the commit log that the configuration allows.
pub const UP_MAX: Duration = Duration::from_secs(60);
/// The longest that `start` and `resume` wait.
pub const START_MAX: Duration = Duration::from_secs(30);
/// The longest that `down` waits: a node finishes requests under way for up to 10 s.
pub const DOWN_MAX: Duration = Duration::from_secs(30);
/// The longest that SIGKILL may take: a process that waits for a disk cannot die before the disk answers.
pub const KILL_MAX: Duration = Duration::from_secs(10);
/// Between two looks: a small part of what a start takes.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A node that takes longer than this to say how it is does not answer. It waits half a second for others itself.
pub const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// Bytes of a log that are looked at from its end.
pub const LOG_TAIL_BYTES: u64 = 4 << 20;
/// Characters of a log line in an error.
pub const LOG_LINE_CHARS: usize = 400;
/// How long a new process may take to show its command line: the kernel's work, not the node's.
pub const NAMED_MAX: Duration = Duration::from_secs(1);
/// Sentences in an error about what is missing: a person reads no more.
pub const MISSING_SHOWN_MAX: usize = 6;
