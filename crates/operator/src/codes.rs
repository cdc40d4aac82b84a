//! The catalogue of error codes: what `kula explain CODE` prints and what every problem answer names.
//!
//! One table, one page a code under `docs/codes/`. Codes are for ever: a number that was once shown to a user never gets
//! another meaning, and a condition that goes away leaves its page. The first two digits say which family it is.

/// One condition that users may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `K0301`: shown in answers, logs and exit messages.
    pub code: &'static str,
    /// The HTTP status that carries it; `None` for conditions that no request can answer with.
    pub status: Option<u16>,
    /// The last part of the RFC 9457 type `urn:kula:problem:<slug>`.
    pub slug: &'static str,
    /// One short clause without numbers.
    pub title: &'static str,
    /// Markdown: what happened, why, what state things are in, what to do next.
    pub page: &'static str,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $status:expr, $slug:literal, $title:literal;)*) => {
        $(
            #[doc = concat!($code, ": ", $title)]
            pub const $name: Code = Code {
                code: $code,
                status: $status,
                slug: $slug,
                title: $title,
                page: include_str!(concat!("../../../docs/codes/", $code, ".md")),
            };
        )*
        /// Every code, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    // The request itself.
    KEY_ENCODING = "K0101", Some(400), "key-encoding", "The key cannot be decoded";
    KEY_TOO_LONG = "K0102", Some(400), "key-too-long", "The key is too long";
    VALUE_TOO_LARGE = "K0103", Some(413), "value-too-large", "The value is too large";
    CONSISTENCY_LEVEL = "K0104", Some(400), "consistency-level", "No such consistency level";
    HEADER = "K0105", Some(400), "header", "A header cannot be read";
    CONTEXT_MALFORMED = "K0106", Some(400), "context-malformed", "The context cannot be read";
    CONTEXT_FORGED = "K0107", Some(400), "context-forged", "The context is forged";
    CONTEXT_MISPLACED = "K0108", Some(400), "context-misplaced", "The context belongs to another key";
    CONTEXT_UNKNOWN_KEY = "K0109", Some(400), "context-unknown-key", "The context was sealed with an unknown key";
    TIMESTAMP_NOT_ALLOWED = "K0110", Some(400), "timestamp-not-allowed", "A timestamp is not allowed here";
    CLOCK_AHEAD = "K0111", Some(400), "clock-ahead", "The timestamp is too far ahead";
    JSON = "K0112", Some(400), "json", "The body is not the JSON that is needed";
    NO_SUCH_ROUTE = "K0113", Some(404), "no-such-route", "No such route";
    METHOD_NOT_ALLOWED = "K0114", Some(405), "method-not-allowed", "This method does not apply here";
    HEAD_TOO_LARGE = "K0115", Some(431), "head-too-large", "The head of the request is too large";
    BODY_TOO_SLOW = "K0116", Some(408), "body-too-slow", "The body came too slowly";
    BATCH_TOO_LARGE = "K0117", Some(413), "batch-too-large", "The batch is too large";
    PARAMETER = "K0118", Some(400), "parameter", "A query parameter cannot be read";
    NAME = "K0119", Some(400), "name", "Not a name for a keyspace or table";
    SETTING = "K0120", Some(400), "setting", "A setting has no such value";
    BODY_INCOMPLETE = "K0121", Some(400), "body-incomplete", "The body is incomplete";
    BODY_ENCODED = "K0122", Some(415), "body-encoded", "The body is encoded";
    // Health.
    NOT_READY = "K0201", Some(503), "not-ready", "The node is not ready";
    ACTOR_STUCK = "K0202", None, "actor-stuck", "A part of the node does not answer";
    NODE_CLOCK_AHEAD = "K0203", None, "node-clock-ahead", "The node's clock is ahead of the machine's";
    WAITING_FOR_RING = "K0204", Some(503), "waiting-for-ring", "Waiting for a ring";
    PEER_REFUSED = "K0205", None, "peer-refused", "Two nodes do not speak with each other";
    CUT_OFF = "K0206", None, "cut-off", "A node is cut off";
    NODE_DOWN = "K0207", None, "node-down", "A node is down";
    VIEWS_DIFFER = "K0208", None, "views-differ", "Nodes see things differently";
    HINTS_WAIT = "K0209", None, "hints-wait", "Hints wait for a node that is up";
    HINTS_NOT_KEPT = "K0210", None, "hints-not-kept", "Hints could not be kept";
    NODE_SILENT = "K0211", None, "node-silent", "A node did not tell its view";
    QUORUM_LOST = "K0212", None, "quorum-lost", "Some keys lack a quorum";
    CLOCK_SKEW = "K0213", None, "clock-skew", "Clocks are apart";
    // Availability.
    UNAVAILABLE = "K0301", Some(503), "unavailable", "Too few replicas";
    TIMEOUT = "K0302", Some(504), "timeout", "The deadline passed";
    OVERLOADED = "K0303", Some(429), "overloaded", "Too much at once";
    TOO_MANY_SIBLINGS = "K0304", Some(409), "too-many-siblings", "Too many siblings";
    DISK_FULL = "K0305", Some(503), "disk-full", "The disk is full";
    CLOCK_LEASE = "K0306", Some(503), "clock-lease", "The clock's lease has run out";
    SHUTTING_DOWN = "K0307", Some(503), "shutting-down", "The node is shutting down";
    ANSWER_LOST = "K0308", Some(504), "answer-lost", "The answer was lost";
    NO_RING_MAJORITY = "K0309", Some(503), "no-ring-majority", "The ring has no majority";
    RING_CONTESTED = "K0310", Some(503), "ring-contested", "Another change of the ring was first";
    // Names and keys.
    NO_SUCH_KEYSPACE = "K0401", Some(404), "no-such-keyspace", "No such keyspace";
    NO_SUCH_TABLE = "K0402", Some(404), "no-such-table", "No such table";
    KEYSPACE_EXISTS = "K0403", Some(409), "keyspace-exists", "The keyspace exists already";
    NO_SUCH_KEY = "K0404", Some(404), "no-such-key", "No such key";
    TABLE_EXISTS = "K0405", Some(409), "table-exists", "The table exists already";
    SCHEMA_CONFLICT = "K0406", Some(409), "schema-conflict", "The schema change does not fit";
    NOT_EVERYWHERE = "K0407", Some(504), "not-everywhere", "Done here, not yet everywhere";
    NOT_AN_OWNER = "K0408", Some(404), "not-an-owner", "The node does not own this key";
    // What a later version brings.
    NOT_THERE_YET = "K0501", Some(501), "not-there-yet", "Not there yet";
    CONDITIONAL_WRITE = "K0502", Some(501), "conditional-write", "Conditional writes are not there yet";
    LEVEL_NOT_THERE_YET = "K0503", Some(501), "level-not-there-yet", "This consistency level is not there yet";
    MODE_NOT_THERE_YET = "K0504", Some(501), "mode-not-there-yet", "This mode is not there yet";
    MOVES_DATA = "K0505", Some(501), "moves-data", "The change would move data";
    // Start-up, configuration, and the end of a node.
    CONFIG_UNKNOWN_KEY = "K0601", None, "config-unknown-key", "Unknown configuration key";
    CONFIG_BAD_VALUE = "K0602", None, "config-bad-value", "Bad configuration value";
    PORT_IN_USE = "K0603", None, "port-in-use", "The port is in use";
    DIRECTORY_LOCKED = "K0604", None, "directory-locked", "The data directory is in use";
    DIRECTORY_OF_ANOTHER_CLUSTER = "K0605", None, "directory-of-another-cluster", "The data directory belongs to another cluster";
    DIRECTORY_TOO_NEW = "K0606", None, "directory-too-new", "The data directory was written by a newer version";
    IDENTITY_DAMAGED = "K0607", None, "identity-damaged", "The node's identity is damaged";
    COMMIT_LOG_DAMAGED = "K0608", None, "commit-log-damaged", "The commit log is damaged";
    INSECURE_ADDRESS = "K0609", None, "insecure-address", "Refused to listen beyond this machine";
    DIRECTORY_UNUSABLE = "K0610", None, "directory-unusable", "The data directory cannot be used";
    CONFIG_UNREADABLE = "K0611", None, "config-unreadable", "The configuration file cannot be read";
    ADDRESS_UNUSABLE = "K0612", None, "address-unusable", "The address cannot be used";
    STATE_FILE_DAMAGED = "K0613", None, "state-file-damaged", "A state file is damaged";
    DISK_FAILED = "K0614", None, "disk-failed", "The disk failed while the node ran";
    PART_FAILED = "K0615", None, "part-failed", "A part of the node failed for good";
    // Damage.
    RANGE_UNKNOWN = "K0701", Some(503), "range-unknown", "This range of data cannot be read";
    // Faults of ours.
    INTERNAL = "K0801", Some(500), "internal", "Internal error";
    // Files of import and export.
    RECORD_MALFORMED = "K0901", None, "record-malformed", "A record cannot be read";
    RECORD_WITHOUT_KEY = "K0902", None, "record-without-key", "A record has no key";
    RECORD_TOO_LARGE = "K0903", None, "record-too-large", "A record is too large";
    IMPORT_INTERRUPTED = "K0904", None, "import-interrupted", "The import was interrupted";
    IMPORT_GAVE_UP = "K0905", None, "import-gave-up", "The import gave up";
    READ_BACK_DIFFERS = "K0906", None, "read-back-differs", "What was read back is not what was imported";
    READ_BACK_INCOMPLETE = "K0907", None, "read-back-incomplete", "Not every node could be read back through";
    RECORD_UNFIT = "K0908", None, "record-unfit", "A record has no form in this format";
    EXPORT_SIBLINGS = "K0909", None, "export-siblings", "A key has siblings";
    FILE_UNUSABLE = "K0910", None, "file-unusable", "A file cannot be read or written";
    FILE_FORMAT = "K0911", None, "file-format", "What the file holds cannot be told";
    // The simulator.
    SCENARIO = "K0912", None, "scenario", "This cluster cannot be simulated";
}

/// The code of that name; upper or lower case, with or without the `K`.
pub fn find(name: &str) -> Option<&'static Code> {
    let digits = name.trim().trim_start_matches(['K', 'k']);
    ALL.iter().find(|code| code.code.strip_prefix('K') == Some(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: [&str; 4] =
        ["\n## What happened\n", "\n## Why\n", "\n## What state things are in\n", "\n## What to do next\n"];

    #[test]
    fn every_code_has_a_full_page_that_says_the_same() {
        for code in ALL {
            let mut lines = code.page.lines();
            assert_eq!(lines.next(), Some(format!("# {}: {}", code.code, code.title).as_str()));
            if let Some(status) = code.status {
                let second = format!("HTTP {status}, type `urn:kula:problem:{}`.", code.slug);
                assert_eq!(lines.nth(1), Some(second.as_str()), "{}", code.code);
            }
            let places: Vec<_> = HEADINGS.iter().map(|heading| code.page.find(heading)).collect();
            assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}: {places:?}", code.code);
            let count = code.page.lines().count();
            assert!((15..=30).contains(&count), "{} has {count} lines", code.code);
            assert!(code.page.lines().all(|line| line.chars().count() <= 120), "{}", code.code);
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test compares the table with the folder")]
    fn every_page_has_a_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/codes");
        let mut pages: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".md"))
            .collect();
        pages.sort();
        assert_eq!(pages, ALL.iter().map(|code| format!("{}.md", code.code)).collect::<Vec<_>>());
    }

    #[test]
    fn codes_and_slugs_are_unique_and_ordered() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        let mut slugs: Vec<_> = ALL.iter().map(|code| code.slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ALL.len());
    }

    #[test]
    fn a_code_is_found_however_it_is_typed() {
        for text in ["K0301", "k0301", " 0301 "] {
            assert_eq!(find(text), Some(&UNAVAILABLE));
        }
        for text in ["", "K", "K9999", "301", "K03010", "ключ"] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
