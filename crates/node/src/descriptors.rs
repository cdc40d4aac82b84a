//! File descriptors: the process takes all it may have, and sockets leave half of them to the disk.
//!
//! A client that opens connections must never be able to starve the commit log of a file: the front door's share is
//! fixed before it opens.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slog::Logger;

/// Raises the soft limit to the hard one and says what came of it. The connections that the front door may hold.
pub fn raise(log: &Logger) -> usize {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, wanted) {
            slog::warn!(log, "the limit of open files cannot be raised: {}", error; "event" => "descriptors");
        }
    }
    let limit = getrlimit(Resource::Nofile).current;
    let connections = connections(limit);
    let shown = limit.map_or("unlimited".to_string(), |limit| limit.to_string());
    if connections < kula_http::limits::CONNECTIONS_MAX {
        slog::warn!(log, "few files may be open at once: the node takes fewer connections, see ulimit -n or LimitNOFILE";
            "event" => "descriptors", "limit" => shown, "connections" => connections);
    } else {
        slog::info!(log, "open files"; "event" => "descriptors", "limit" => shown, "connections" => connections);
    }
    connections
}

/// Half of the descriptors at most; the other half is for logs, tables and what the runtime needs.
fn connections(limit: Option<u64>) -> usize {
    let half = limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX));
    half.clamp(1, kula_http::limits::CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_leave_half_of_the_descriptors_to_the_disk() {
        assert_eq!([Some(256), Some(1_024), Some(524_288), None].map(connections), [128, 512, 1_024, 1_024]);
        assert_eq!([Some(0), Some(u64::MAX)].map(connections), [1, 1_024]);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        raise(&Logger::root(slog::Discard, slog::o!()));
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
